"""The use cases as a library's user calls them, on the in-memory store: what they change, refuse and tell."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from pickguard.adapters.memory import MemoryAccounts
from pickguard.domain.model.accounts import Account
from pickguard.domain.model.errors import (
    AccountsError,
    AddressTaken,
    Conflict,
    Contended,
    HashingOverloaded,
    InvalidCredentials,
    InvalidFields,
    InvalidToken,
    OutcomeUnknown,
    PreconditionFailed,
    ReauthenticationRequired,
    SessionNotFound,
    StoreUnavailable,
    WrongPassword,
)
from pickguard.domain.model.events import LogInRefused, PasswordRefused, SessionEnd, SessionEnded, SessionOpened
from pickguard.domain.model.identifiers import SessionId, UserId
from pickguard.domain.model.sessions import Client, SessionRules, Token
from pickguard.domain.model.users import User
from pickguard.domain.services.authentication import LoggedIn
from pickguard.domain.services.changes import ATTEMPTS
from pickguard.entrypoints.bootstrap import Services, build_services
from pickguard.ports.accounts import OPERATION_ID_BYTES, Snapshot
from pickguard.ports.hashing import Purpose
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, FakeClock, NoCommonPasswords, RecordedEvents
from tests.support.strategies import InstantHasher

ADA = "ada@example.com"
RULES = SessionRules()
CLIENT = Client(ip="192.0.2.1", user_agent="test")


class WatchedAccounts(MemoryAccounts):
    """Counts writes, notes the ids of operations, and fails as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: Iterator[AccountsError] = iter(())
        self.operations: list[bytes] = []

    async def add(self, account: Account, *, operation: bytes) -> None:
        self.operations.append(operation)
        await super().add(account, operation=operation)

    async def save(self, before: Snapshot, after: Account, *, operation: bytes) -> None:
        self.operations.append(operation)
        for failure in self.failures:
            raise failure
        await super().save(before, after, operation=operation)

    async def remove(self, before: Snapshot, *, operation: bytes) -> None:
        self.operations.append(operation)
        for failure in self.failures:
            raise failure
        await super().remove(before, operation=operation)


class PausingHasher(InstantHasher):
    """Stops before its answer, once asked to, until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: set[str] = set()
        self.reached = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def hash(self, password: str, *, purpose: Purpose, spent: timedelta = timedelta(0)) -> str:
        await self._pause("hash")
        return await super().hash(password, purpose=purpose, spent=spent)

    async def verify(
        self, password_hash: str | None, password: str, *, purpose: Purpose, spent: timedelta = timedelta(0)
    ) -> bool:
        matches = await super().verify(password_hash, password, purpose=purpose, spent=spent)
        await self._pause("verify")
        return matches

    async def _pause(self, where: str) -> None:
        if where in self.pauses:
            self.pauses.discard(where)
            self.reached.set()
            await self.may_go_on.wait()


@pytest.fixture
def accounts() -> WatchedAccounts:
    return WatchedAccounts()


@pytest.fixture
def hasher() -> PausingHasher:
    return PausingHasher()


@pytest.fixture
def wired(accounts: WatchedAccounts, hasher: PausingHasher, clock: FakeClock, events: RecordedEvents) -> Services:
    """The use cases on doubles that the test holds in its hand."""
    return build_services(accounts=accounts, hasher=hasher, clock=clock, events=events, common_passwords=NoCommonPasswords())


async def register(services: Services, email: str = ADA) -> User:
    return await services.registration.register(name="Ada", email=email, password=GOOD_PASSWORD)


async def log_in(services: Services, password: str = GOOD_PASSWORD, email: str = ADA) -> LoggedIn:
    return await services.authentication.log_in(email=email, password=password, client=CLIENT)


async def registered_token(services: Services) -> str:
    await register(services)
    return (await log_in(services)).token.reveal()


async def opens(services: Services, token: str) -> bool:
    try:
        await services.authentication.authenticate(token)
    except InvalidToken:
        return False
    return True


async def stored(services: Services, user: User) -> Account:
    snapshot = await services.accounts.get(user.id)
    assert snapshot is not None
    return snapshot.account


def codes(error: InvalidFields) -> set[tuple[str | None, str]]:
    return {(fault.field, fault.code) for fault in error.faults}


# Registering


async def test_a_registration_makes_a_user_who_can_log_in(services: Services, clock: FakeClock, events: RecordedEvents) -> None:
    user = await services.registration.register(name=" Ada ", email="Ada@EXAMPLE.com", password=GOOD_PASSWORD)
    assert (user.name.value, user.email.value, user.email_verified) == ("Ada", "Ada@example.com", False)
    assert user.created_at == user.updated_at == clock.now()
    assert events.names() == ["UserRegistered"]
    assert (await log_in(services)).user == user


async def test_a_registration_names_every_fault_at_once(services: Services, events: RecordedEvents) -> None:
    with pytest.raises(InvalidFields) as refused:
        await services.registration.register(name=" ", email="ada", password="short")
    assert codes(refused.value) == {("name", "invalid_name"), ("email", "invalid_email"), ("password", "password_too_short")}
    assert events.events == []


@pytest.mark.parametrize("password", ["ada.lovelace@example.com", "ADA.LOVELACE", "Ada Lovelace", "PickGuard"])
async def test_a_password_that_is_the_address_the_name_or_the_service_is_guessable(services: Services, password: str) -> None:
    with pytest.raises(InvalidFields) as refused:
        await services.registration.register(name="Ada Lovelace", email="ada.lovelace@example.com", password=password)
    assert codes(refused.value) == {("password", "password_guessable")}


@pytest.mark.parametrize("spelling", ["ADA@bücher.example", "ada@BÜCHER.example", "Ada@xn--bcher-kva.example"])
async def test_an_address_is_taken_in_every_spelling(services: Services, spelling: str, events: RecordedEvents) -> None:
    await register(services, "ada@bücher.example")
    with pytest.raises(AddressTaken):
        await register(services, spelling)
    assert events.names() == ["UserRegistered"]


async def test_of_many_who_register_one_address_at_once_one_succeeds(services: Services, events: RecordedEvents) -> None:
    outcomes = await asyncio.gather(*(register(services) for _ in range(20)), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AddressTaken"] * 19 + ["User"]
    assert events.names() == ["UserRegistered"]


# Logging in


async def test_a_log_in_opens_a_session_and_says_so(services: Services, clock: FakeClock, events: RecordedEvents) -> None:
    user = await register(services)
    logged_in = await log_in(services)
    opened = SessionOpened(user_id=user.id, at=clock.now(), session_id=logged_in.session.id, client=CLIENT)
    assert events.events[1:] == [opened]
    principal = await services.authentication.authenticate(logged_in.token.reveal())
    assert (principal.user, principal.session) == (user, logged_in.session)


@pytest.mark.requirement(17)
@pytest.mark.would_have_caught("gotrue-2223")
async def test_a_log_in_for_an_unknown_address_is_verified_against_the_decoy(
    wired: Services, hasher: PausingHasher, clock: FakeClock, events: RecordedEvents
) -> None:
    with pytest.raises(InvalidCredentials):
        await log_in(wired)
    assert hasher.verified == [None]
    assert events.events == [LogInRefused(user_id=None, at=clock.now(), client=CLIENT)]


@pytest.mark.parametrize("address", ["", "ada", "ada@@example.com", "\ud800@example.com", "ada@example.com\n", "a@b@c"])
async def test_a_log_in_for_what_is_no_address_is_refused_like_one_for_an_unknown_address(
    wired: Services, hasher: PausingHasher, events: RecordedEvents, address: str
) -> None:
    await register(wired)
    with pytest.raises(InvalidCredentials):
        await log_in(wired, email=address)
    assert hasher.verified == [None]
    assert events.names()[1:] == ["LogInRefused"]


async def test_a_log_in_with_a_wrong_password_is_refused(services: Services, clock: FakeClock, events: RecordedEvents) -> None:
    user = await register(services)
    with pytest.raises(InvalidCredentials):
        await log_in(services, OTHER_PASSWORD)
    assert events.events[1:] == [LogInRefused(user_id=user.id, at=clock.now(), client=CLIENT)]
    assert (await stored(services, user)).sessions == ()


async def test_a_log_in_with_what_is_too_long_costs_no_hash(wired: Services, hasher: PausingHasher) -> None:
    with pytest.raises(InvalidFields) as refused:
        await log_in(wired, "x" * 257, "x" * 255)
    assert codes(refused.value) == {("email", "invalid_email"), ("password", "password_too_long")}
    assert hasher.verified == []


async def test_a_password_is_the_same_in_every_normalisation_form(services: Services) -> None:
    await services.registration.register(name="Ada", email=ADA, password="Zu\u0308rich at night")
    await log_in(services, "Z\u00fcrich at night")


@pytest.mark.requirement(34, 45)
async def test_a_log_in_that_began_before_a_change_of_password_opens_no_session_after_it(
    wired: Services, hasher: PausingHasher
) -> None:
    token = await registered_token(wired)
    hasher.pauses = {"verify"}
    late = asyncio.create_task(log_in(wired))
    await hasher.reached.wait()
    user = await wired.profiles.change(token, password=OTHER_PASSWORD, current_password=GOOD_PASSWORD)
    hasher.may_go_on.set()
    with pytest.raises(InvalidCredentials):
        await late
    assert len((await stored(wired, user)).sessions) == 1


async def test_a_log_in_that_began_before_a_change_of_address_opens_no_session_after_it(
    wired: Services, hasher: PausingHasher
) -> None:
    token = await registered_token(wired)
    hasher.pauses = {"verify"}
    late = asyncio.create_task(log_in(wired))
    await hasher.reached.wait()
    await wired.profiles.change(token, email="grace@example.com", current_password=GOOD_PASSWORD)
    hasher.may_go_on.set()
    with pytest.raises(InvalidCredentials):
        await late


async def test_a_log_in_whose_account_is_deleted_meanwhile_is_refused_like_one_for_an_unknown_address(
    wired: Services, hasher: PausingHasher
) -> None:
    token = await registered_token(wired)
    hasher.pauses = {"verify"}
    late = asyncio.create_task(log_in(wired))
    await hasher.reached.wait()
    await wired.profiles.delete(token)
    hasher.may_go_on.set()
    with pytest.raises(InvalidCredentials):
        await late


@pytest.mark.requirement(60)
async def test_a_log_in_hashes_the_password_again_where_the_parameters_have_changed(
    wired: Services, hasher: PausingHasher, events: RecordedEvents
) -> None:
    user = await register(wired)
    before = await stored(wired, user)
    hasher.parameters = "2"
    first, second = await log_in(wired), await log_in(wired)
    assert events.names()[1:] == ["SessionOpened", "PasswordRehashed", "SessionOpened"]
    after = await stored(wired, user)
    assert not hasher.needs_rehash(after.credential.password_hash)
    assert after.credential.epoch == before.credential.epoch
    assert [await opens(wired, each.token.reveal()) for each in (first, second)] == [True, True]


async def test_a_rehash_never_overwrites_one_that_came_first(wired: Services, hasher: PausingHasher) -> None:
    user = await register(wired)
    hasher.parameters = "2"
    hasher.pauses = {"hash"}
    late = asyncio.create_task(log_in(wired))
    await hasher.reached.wait()
    await log_in(wired)
    rehashed = (await stored(wired, user)).credential
    hasher.may_go_on.set()
    await late
    assert (await stored(wired, user)).credential == rehashed
    assert len((await stored(wired, user)).sessions) == 2


async def test_a_rehash_never_brings_a_changed_password_back(wired: Services, hasher: PausingHasher) -> None:
    token = await registered_token(wired)
    hasher.parameters = "2"
    hasher.pauses = {"hash"}
    late = asyncio.create_task(log_in(wired))
    await hasher.reached.wait()
    await wired.profiles.change(token, password=OTHER_PASSWORD, current_password=GOOD_PASSWORD)
    hasher.may_go_on.set()
    with pytest.raises(InvalidCredentials):
        await late
    await log_in(wired, OTHER_PASSWORD)


async def test_a_log_in_is_not_refused_because_there_is_no_time_for_a_rehash(
    wired: Services, hasher: PausingHasher, events: RecordedEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def overloaded(password: str, *, purpose: Purpose, spent: timedelta) -> str:
        del password, purpose, spent
        raise HashingOverloaded("full")

    user = await register(wired)
    before = (await stored(wired, user)).credential
    hasher.parameters = "2"
    monkeypatch.setattr(hasher, "hash", overloaded)
    await log_in(wired)
    assert events.names()[1:] == ["SessionOpened"]
    assert (await stored(wired, user)).credential == before


async def test_sessions_beyond_the_maximum_end_and_their_tokens_with_them(
    accounts: WatchedAccounts, hasher: PausingHasher, clock: FakeClock, events: RecordedEvents
) -> None:
    services = build_services(
        accounts=accounts,
        hasher=hasher,
        clock=clock,
        events=events,
        common_passwords=NoCommonPasswords(),
        session_rules=SessionRules(maximum=2),
    )
    await register(services)
    tokens = []
    for _ in range(3):
        clock.advance(timedelta(seconds=1))
        tokens.append((await log_in(services)).token.reveal())
    assert [await opens(services, token) for token in tokens] == [False, True, True]
    assert [event.reason for event in events.events if isinstance(event, SessionEnded)] == [SessionEnd.TOO_MANY]


# Conflicts


async def test_a_change_that_meets_other_writes_is_decided_again(
    wired: Services, accounts: WatchedAccounts, events: RecordedEvents
) -> None:
    token = await registered_token(wired)
    accounts.failures = iter([Conflict()] * (ATTEMPTS - 1))
    assert (await wired.profiles.change(token, name="Grace")).name.value == "Grace"
    assert events.names()[2:] == ["UserRenamed"]


async def test_a_change_that_meets_too_many_other_writes_is_given_up(
    wired: Services, accounts: WatchedAccounts, events: RecordedEvents
) -> None:
    token = await registered_token(wired)
    accounts.failures = iter([Conflict()] * ATTEMPTS)
    with pytest.raises(Contended):
        await wired.profiles.change(token, name="Grace")
    accounts.failures = iter([Conflict()] * ATTEMPTS)
    with pytest.raises(Contended):
        await wired.profiles.delete(token)
    assert events.names()[2:] == []
    assert await opens(wired, token)


class SlowAccounts(WatchedAccounts):
    """Lets everybody else go on between a read and a write, so that all who begin together meet each other's writes."""

    async def get(self, user_id: UserId) -> Snapshot | None:
        found = await super().get(user_id)
        await asyncio.sleep(0)
        return found

    async def save(self, before: Snapshot, after: Account, *, operation: bytes) -> None:
        await asyncio.sleep(0)
        await super().save(before, after, operation=operation)


async def test_many_who_change_one_account_at_once_take_turns(clock: FakeClock, events: RecordedEvents) -> None:
    accounts = SlowAccounts()
    wired = build_services(
        accounts=accounts, hasher=InstantHasher(), clock=clock, events=events, common_passwords=NoCommonPasswords()
    )
    token = await registered_token(wired)
    before = len(accounts.operations)
    many = 3 * ATTEMPTS
    await asyncio.gather(*(wired.profiles.change(token, name=f"Ada {number}") for number in range(many)))
    assert events.names()[2:] == ["UserRenamed"] * many
    assert len(accounts.operations) - before <= 2 * many


async def test_a_deletion_that_meets_another_write_is_decided_again(
    wired: Services, accounts: WatchedAccounts, events: RecordedEvents
) -> None:
    token = await registered_token(wired)
    accounts.failures = iter([Conflict()] * 3)
    await wired.profiles.delete(token)
    assert events.names()[2:] == ["UserDeleted"]


async def test_no_two_writes_have_one_operation_id(wired: Services, accounts: WatchedAccounts) -> None:
    token = await registered_token(wired)
    accounts.failures = iter([Conflict()] * 5)
    await wired.profiles.change(token, name="Grace")
    await wired.profiles.delete(token)
    assert len(set(accounts.operations)) == len(accounts.operations) == 9
    assert {len(operation) for operation in accounts.operations} == {OPERATION_ID_BYTES}


@pytest.mark.parametrize("failure", [StoreUnavailable("gone"), OutcomeUnknown("lost")])
async def test_a_write_that_failed_is_not_sent_again_and_no_event(
    wired: Services, accounts: WatchedAccounts, events: RecordedEvents, failure: AccountsError
) -> None:
    token = await registered_token(wired)
    writes = len(accounts.operations)
    accounts.failures = iter([failure])
    with pytest.raises(type(failure)):
        await wired.profiles.change(token, name="Grace")
    assert len(accounts.operations) == writes + 1
    assert events.names()[2:] == []


async def test_an_address_that_was_taken_after_the_session_was_revoked_is_no_reason(
    wired: Services, accounts: WatchedAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A repository may look at the address before it compares versions. At no moment was the session good and the address taken.
    token = await registered_token(wired)
    save = accounts.save

    async def late(*_: object, **__: object) -> None:
        monkeypatch.setattr(accounts, "save", save)
        await wired.sessions.log_out(token)
        await wired.registration.register(name="Grace", email="grace@example.com", password=GOOD_PASSWORD)
        raise AddressTaken

    monkeypatch.setattr(accounts, "save", late)
    with pytest.raises(InvalidToken):
        await wired.profiles.change(token, email="grace@example.com", current_password=GOOD_PASSWORD)


async def test_an_address_that_is_taken_while_another_change_is_made_is_refused_all_the_same(
    wired: Services, accounts: WatchedAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await registered_token(wired)
    save = accounts.save

    async def late(*_: object, **__: object) -> None:
        monkeypatch.setattr(accounts, "save", save)
        await wired.profiles.change(token, name="Countess")
        await wired.registration.register(name="Grace", email="grace@example.com", password=GOOD_PASSWORD)
        raise AddressTaken

    monkeypatch.setattr(accounts, "save", late)
    with pytest.raises(AddressTaken):
        await wired.profiles.change(token, email="grace@example.com", current_password=GOOD_PASSWORD)
    assert (await wired.authentication.authenticate(token)).user.name.value == "Countess"


async def test_concurrent_changes_of_one_user_are_all_made(services: Services) -> None:
    token = await registered_token(services)
    await asyncio.gather(
        services.profiles.change(token, name="Grace"),
        services.profiles.change(token, email="grace@example.com", current_password=GOOD_PASSWORD),
        *(log_in(services) for _ in range(5)),
        return_exceptions=True,
    )
    user = (await services.authentication.authenticate(token)).user
    assert (user.name.value, user.email.value) == ("Grace", "grace@example.com")


# Using a session


async def test_the_use_of_a_session_is_written_at_most_once_a_minute(
    wired: Services, accounts: WatchedAccounts, clock: FakeClock
) -> None:
    token = await registered_token(wired)
    writes = len(accounts.operations)
    seen = []
    for _ in range(6):
        clock.advance(timedelta(seconds=20))
        seen.append((await wired.authentication.authenticate(token)).session.last_used_at)
    start = clock.now() - timedelta(seconds=120)
    assert [moment - start for moment in seen] == [timedelta(seconds=each) for each in (0, 0, 60, 60, 60, 120)]
    assert len(accounts.operations) == writes + 2


@pytest.mark.parametrize("failure", [Conflict(), StoreUnavailable("gone"), OutcomeUnknown("lost")])
async def test_a_use_of_a_session_that_cannot_be_written_is_answered_all_the_same(
    wired: Services, accounts: WatchedAccounts, clock: FakeClock, failure: AccountsError
) -> None:
    token = await registered_token(wired)
    writes = len(accounts.operations)
    clock.advance(RULES.touch_interval)
    accounts.failures = iter([failure])
    assert (await wired.authentication.authenticate(token)).session.last_used_at == clock.now() - RULES.touch_interval
    assert len(accounts.operations) == writes + 1


@pytest.mark.would_have_caught("better-auth-11073", "romm-4635")
async def test_a_session_that_ends_while_its_use_is_written_opens_nothing(
    wired: Services, accounts: WatchedAccounts, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await registered_token(wired)
    clock.advance(RULES.touch_interval)
    read = await accounts.read_session(Token.parse(token).user_id, Token.parse(token).digest)
    await wired.sessions.log_out(token)

    async def as_it_was(*_: object) -> object:
        return read

    monkeypatch.setattr(accounts, "read_session", as_it_was)
    assert not await opens(wired, token)


async def test_a_session_that_is_not_used_ends_after_its_idle_time(services: Services, clock: FakeClock) -> None:
    token = await registered_token(services)
    clock.advance(RULES.idle)
    assert not await opens(services, token)


async def test_a_session_that_is_used_ends_after_its_lifetime(services: Services, clock: FakeClock) -> None:
    token = await registered_token(services)
    for _ in range(3):
        clock.advance(RULES.lifetime / 3 - timedelta(milliseconds=1))
        assert await opens(services, token)
    clock.advance(timedelta(milliseconds=3))
    assert not await opens(services, token)


@pytest.mark.parametrize("use", ["list", "log out", "end all", "end", "change", "delete", "reauthenticate"])
async def test_no_use_case_takes_a_token_that_opens_nothing(services: Services, clock: FakeClock, use: str) -> None:
    token = await registered_token(services)
    session_id = (await services.authentication.authenticate(token)).session.id
    expired = (await log_in(services)).token.reveal()
    clock.advance(RULES.idle)
    gone = Token(user_id=Token.parse(token).user_id, secret=bytes(32)).reveal()
    unknown = Token(user_id=UserId(UUID(int=7)), secret=bytes(32)).reveal()
    uses: dict[str, Callable[[str], Awaitable[object]]] = {
        "list": services.sessions.list,
        "log out": services.sessions.log_out,
        "end all": services.sessions.end_all,
        "end": lambda refused: services.sessions.end(refused, session_id),
        "change": lambda refused: services.profiles.change(refused, name="Grace"),
        "delete": services.profiles.delete,
        "reauthenticate": lambda refused: services.authentication.reauthenticate(refused, password=GOOD_PASSWORD),
    }
    for refused in (expired, gone, unknown, "", "pg_", token[:-1], token + "0", "\ud800"):
        with pytest.raises(InvalidToken):
            await uses[use](refused)


# Proving the password again


async def test_reauthentication_gives_the_same_session_a_new_token(
    services: Services, clock: FakeClock, events: RecordedEvents
) -> None:
    token = await registered_token(services)
    clock.advance(timedelta(hours=1))
    fresh = await services.authentication.reauthenticate(token, password=GOOD_PASSWORD)
    assert (await opens(services, token), await opens(services, fresh.token.reveal())) == (False, True)
    assert fresh.session.authenticated_at == clock.now()
    assert [each.id for each in (await services.sessions.list(fresh.token.reveal())).sessions] == [fresh.session.id]
    assert events.names()[2:] == ["SessionReauthenticated"]


async def test_reauthentication_with_a_wrong_password_changes_nothing(
    services: Services, clock: FakeClock, events: RecordedEvents
) -> None:
    user = await register(services)
    logged_in = await log_in(services)
    with pytest.raises(WrongPassword):
        await services.authentication.reauthenticate(logged_in.token.reveal(), password=OTHER_PASSWORD)
    assert events.events[2:] == [PasswordRefused(user_id=user.id, at=clock.now(), session_id=logged_in.session.id)]
    assert await opens(services, logged_in.token.reveal())


async def test_of_two_reauthentications_of_one_session_at_once_one_gets_the_new_token(services: Services) -> None:
    token = await registered_token(services)
    outcomes = await asyncio.gather(
        *(services.authentication.reauthenticate(token, password=GOOD_PASSWORD) for _ in range(2)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["InvalidToken", "LoggedIn"]


async def test_a_reauthentication_that_began_before_a_change_of_password_is_refused_after_it(
    wired: Services, hasher: PausingHasher
) -> None:
    token = await registered_token(wired)
    hasher.pauses = {"verify"}
    late = asyncio.create_task(wired.authentication.reauthenticate(token, password=GOOD_PASSWORD))
    await hasher.reached.wait()
    await wired.profiles.change(token, password=OTHER_PASSWORD, current_password=GOOD_PASSWORD)
    hasher.may_go_on.set()
    with pytest.raises(WrongPassword):
        await late
    assert await opens(wired, token)


async def test_a_proof_that_is_too_long_costs_no_hash(wired: Services, hasher: PausingHasher) -> None:
    token = await registered_token(wired)
    hasher.verified.clear()
    with pytest.raises(InvalidFields) as refused:
        await wired.authentication.reauthenticate(token, password="x" * 257)
    assert codes(refused.value) == {("password", "password_too_long")}
    with pytest.raises(InvalidFields) as refused:
        await wired.profiles.change(token, email="grace@example.com", current_password="x" * 257)
    assert codes(refused.value) == {("current_password", "password_too_long")}
    assert hasher.verified == []


# Changing


async def test_a_change_of_everything_is_one_write(wired: Services, accounts: WatchedAccounts, events: RecordedEvents) -> None:
    token = await registered_token(wired)
    other = (await log_in(wired)).token.reveal()
    writes = len(accounts.operations)
    user = await wired.profiles.change(
        token, name="Grace", email="grace@example.com", password=OTHER_PASSWORD, current_password=GOOD_PASSWORD
    )
    assert (user.name.value, user.email.value) == ("Grace", "grace@example.com")
    assert len(accounts.operations) == writes + 1
    assert events.names()[3:] == ["UserRenamed", "PasswordChanged", "SessionEnded", "AddressChanged"]
    assert (await opens(wired, token), await opens(wired, other)) == (True, False)
    await log_in(wired, OTHER_PASSWORD, "grace@example.com")
    await register(wired)


async def test_a_change_to_what_is_there_already_writes_nothing(
    wired: Services, accounts: WatchedAccounts, events: RecordedEvents
) -> None:
    token = await registered_token(wired)
    before = (await wired.authentication.authenticate(token)).user
    writes = len(accounts.operations)
    assert await wired.profiles.change(token) == before
    same = await wired.profiles.change(token, name="Ada", email=ADA, password=GOOD_PASSWORD, current_password=GOOD_PASSWORD)
    assert same == before
    assert len(accounts.operations) == writes
    assert events.names()[2:] == []


@pytest.mark.parametrize("change", [{"email": "grace@example.com"}, {"password": OTHER_PASSWORD}])
async def test_a_change_of_address_or_password_needs_the_current_password(services: Services, change: dict[str, str]) -> None:
    token = await registered_token(services)
    with pytest.raises(InvalidFields) as refused:
        await services.profiles.change(token, **change)  # type: ignore[arg-type]
    assert codes(refused.value) == {("current_password", "required")}


async def test_a_change_with_a_wrong_current_password_changes_nothing(services: Services, events: RecordedEvents) -> None:
    token = await registered_token(services)
    before = (await services.authentication.authenticate(token)).user
    with pytest.raises(WrongPassword):
        await services.profiles.change(token, name="Grace", password="another good phrase", current_password=OTHER_PASSWORD)
    assert (await services.authentication.authenticate(token)).user == before
    assert events.names()[2:] == ["PasswordRefused"]


async def test_a_change_to_an_address_that_somebody_has_changes_nothing(services: Services, events: RecordedEvents) -> None:
    await register(services, "grace@example.com")
    token = await registered_token(services)
    before = (await services.authentication.authenticate(token)).user
    with pytest.raises(AddressTaken):
        await services.profiles.change(token, name="Grace", email="GRACE@example.com", current_password=GOOD_PASSWORD)
    assert (await services.authentication.authenticate(token)).user == before
    assert events.names()[3:] == []


async def test_a_password_that_is_the_new_or_the_old_name_is_guessable(services: Services) -> None:
    token = await registered_token(services)
    await services.profiles.change(token, name="Ada Lovelace")
    for password in ("ada lovelace", "grace hopper"):
        with pytest.raises(InvalidFields) as refused:
            await services.profiles.change(token, name="Grace Hopper", password=password, current_password=GOOD_PASSWORD)
        assert codes(refused.value) == {("password", "password_guessable")}


async def test_a_change_proved_with_a_password_that_is_changed_meanwhile_is_refused(
    wired: Services, hasher: PausingHasher
) -> None:
    token = await registered_token(wired)
    hasher.pauses = {"verify"}
    late = asyncio.create_task(wired.profiles.change(token, email="mallory@example.com", current_password=GOOD_PASSWORD))
    await hasher.reached.wait()
    await wired.profiles.change(token, password=OTHER_PASSWORD, current_password=GOOD_PASSWORD)
    hasher.may_go_on.set()
    with pytest.raises(WrongPassword):
        await late
    assert (await wired.authentication.authenticate(token)).user.email.value == ADA


async def test_a_change_within_a_session_that_ends_meanwhile_is_refused(wired: Services, hasher: PausingHasher) -> None:
    token = await registered_token(wired)
    hasher.pauses = {"verify"}
    late = asyncio.create_task(wired.profiles.change(token, email="grace@example.com", current_password=GOOD_PASSWORD))
    await hasher.reached.wait()
    await wired.sessions.log_out(token)
    hasher.may_go_on.set()
    with pytest.raises(InvalidToken):
        await late
    await log_in(wired)


async def test_a_precondition_is_held_against_the_state_that_the_change_replaces(
    wired: Services, hasher: PausingHasher
) -> None:
    token = await registered_token(wired)
    before = (await wired.authentication.authenticate(token)).user
    hasher.pauses = {"verify"}
    late = asyncio.create_task(
        wired.profiles.change(
            token, email="grace@example.com", current_password=GOOD_PASSWORD, precondition=lambda user: user == before
        )
    )
    await hasher.reached.wait()
    await wired.profiles.change(token, name="Grace")
    hasher.may_go_on.set()
    with pytest.raises(PreconditionFailed):
        await late
    after = (await wired.authentication.authenticate(token)).user
    assert (after.name.value, after.email.value) == ("Grace", ADA)


# Deleting


async def test_a_deletion_leaves_nothing_and_frees_the_address(services: Services, events: RecordedEvents) -> None:
    token = await registered_token(services)
    other = (await log_in(services)).token.reveal()
    await services.profiles.delete(token)
    assert events.names()[3:] == ["UserDeleted"]
    assert (await opens(services, token), await opens(services, other)) == (False, False)
    with pytest.raises(InvalidCredentials):
        await log_in(services)
    await register(services)


async def test_a_deletion_needs_a_password_proved_recently(services: Services, clock: FakeClock) -> None:
    token = await registered_token(services)
    clock.advance(RULES.reauthentication_window + timedelta(milliseconds=1))
    with pytest.raises(ReauthenticationRequired) as refused:
        await services.profiles.delete(token)
    assert refused.value.max_age == RULES.reauthentication_window
    fresh = await services.authentication.reauthenticate(token, password=GOOD_PASSWORD)
    clock.advance(RULES.reauthentication_window)
    await services.profiles.delete(fresh.token.reveal())


async def test_a_deletion_whose_precondition_does_not_hold_deletes_nothing(services: Services) -> None:
    token = await registered_token(services)
    with pytest.raises(PreconditionFailed):
        await services.profiles.delete(token, precondition=lambda _: False)
    assert await opens(services, token)


async def test_of_two_deletions_at_once_one_is_told_that_the_token_opens_nothing(
    services: Services, events: RecordedEvents
) -> None:
    token = await registered_token(services)
    outcomes = await asyncio.gather(*(services.profiles.delete(token) for _ in range(2)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), InvalidToken]
    assert events.names()[2:] == ["UserDeleted"]


# Sessions


async def test_sessions_are_listed_newest_first_with_the_one_that_asks(services: Services, clock: FakeClock) -> None:
    await register(services)
    opened = []
    for _ in range(3):
        clock.advance(timedelta(seconds=1))
        opened.append(await log_in(services))
    listed = await services.sessions.list(opened[1].token.reveal())
    assert [session.id for session in listed.sessions] == [each.session.id for each in reversed(opened)]
    assert listed.current == opened[1].session.id


async def test_ending_a_session_ends_that_one(services: Services, events: RecordedEvents) -> None:
    token = await registered_token(services)
    other = await log_in(services)
    await services.sessions.end(token, other.session.id)
    assert (await opens(services, token), await opens(services, other.token.reveal())) == (True, False)
    assert [event.reason for event in events.events if isinstance(event, SessionEnded)] == [SessionEnd.REVOKED]
    with pytest.raises(SessionNotFound):
        await services.sessions.end(token, other.session.id)


async def test_nobody_ends_a_session_of_another_user(services: Services) -> None:
    token = await registered_token(services)
    await register(services, "grace@example.com")
    hers = await log_in(services, email="grace@example.com")
    for session_id in (hers.session.id, SessionId(UUID(int=0))):
        with pytest.raises(SessionNotFound):
            await services.sessions.end(token, session_id)
    assert await opens(services, hers.token.reveal())


async def test_logging_out_ends_the_session_of_the_token(services: Services, events: RecordedEvents) -> None:
    token = await registered_token(services)
    other = (await log_in(services)).token.reveal()
    await services.sessions.log_out(token)
    assert (await opens(services, token), await opens(services, other)) == (False, True)
    assert [event.reason for event in events.events if isinstance(event, SessionEnded)] == [SessionEnd.LOGGED_OUT]


@pytest.mark.parametrize("keep_current", [False, True])
async def test_ending_all_sessions_keeps_the_current_one_where_asked_to(services: Services, keep_current: bool) -> None:  # noqa: FBT001
    token = await registered_token(services)
    others = [(await log_in(services)).token.reveal() for _ in range(2)]
    await services.sessions.end_all(token, keep_current=keep_current)
    assert await opens(services, token) == keep_current
    assert [await opens(services, other) for other in others] == [False, False]


async def test_a_log_out_is_heeded_by_a_change_that_is_under_way(services: Services) -> None:
    token = await registered_token(services)
    outcomes = await asyncio.gather(
        services.sessions.log_out(token),
        services.profiles.change(token, email="grace@example.com", current_password=GOOD_PASSWORD),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), InvalidToken]


async def test_no_event_and_no_repr_holds_a_secret(services: Services, events: RecordedEvents) -> None:
    user = await register(services)
    logged_in = await log_in(services)
    token = logged_in.token.reveal()
    principal = await services.authentication.authenticate(token)
    await services.profiles.change(token, password=OTHER_PASSWORD, current_password=GOOD_PASSWORD)
    account = await stored(services, user)
    snapshot = Snapshot(account=account, version=1)
    shown = repr([*events.events, user, logged_in, principal, account, snapshot, await services.sessions.list(token)])
    digest = Token.parse(token).digest
    for secret in (GOOD_PASSWORD, OTHER_PASSWORD, token, repr(digest)[2:-1], digest.hex(), account.credential.password_hash):
        assert secret not in shown


async def test_a_change_of_password_tells_its_second_turn_what_the_first_one_took(
    wired: Services, hasher: PausingHasher, clock: FakeClock
) -> None:
    await wired.registration.register(name="Ada", email="ada@example.com", password=GOOD_PASSWORD)
    token = (await wired.authentication.log_in(email="ada@example.com", password=GOOD_PASSWORD)).token.reveal()
    hasher.pauses.add("verify")
    change = asyncio.create_task(wired.profiles.change(token, password=OTHER_PASSWORD, current_password=GOOD_PASSWORD))
    await hasher.reached.wait()
    clock.advance(timedelta(milliseconds=1500))
    hasher.may_go_on.set()
    await change
    assert hasher.spent == timedelta(milliseconds=1500)


async def test_every_hash_says_what_it_is_for(wired: Services, hasher: PausingHasher) -> None:
    async def purposes(use_case: Awaitable[object]) -> list[Purpose]:
        hasher.purposes.clear()
        with contextlib.suppress(InvalidCredentials):
            await use_case
        return hasher.purposes

    person: dict[str, Any] = {"name": "Ada", "email": "ada@example.com", "password": GOOD_PASSWORD}
    for _ in range(2):  # the second time, the receipt is verified
        assert set(await purposes(wired.registration.register(**person, idempotency_key="a key"))) == {Purpose.REGISTRATION}
    other = wired.registration.register(name="Eve", email="eve@example.com", password=GOOD_PASSWORD)
    assert await purposes(other) == [Purpose.REGISTRATION]
    hasher.parameters = "2"
    logged_in = await log_in(wired)
    assert hasher.purposes[1:] == [Purpose.LOG_IN] * 2  # and rehashed
    nobody = wired.authentication.log_in(email="nobody@example.com", password=GOOD_PASSWORD)
    assert await purposes(nobody) == [Purpose.LOG_IN]
    token = logged_in.token.reveal()
    change = wired.profiles.change(token, password=OTHER_PASSWORD, current_password=GOOD_PASSWORD)
    assert await purposes(change) == [Purpose.PROOF] * 2
    assert await purposes(wired.authentication.reauthenticate(token, password=OTHER_PASSWORD)) == [Purpose.PROOF]
