"""What operators do to accounts, on the in-memory store."""

from datetime import timedelta

import pytest

from pickguard.adapters.memory import MemoryAccounts, NoDirectory
from pickguard.domain.model.activity import ActivityKind
from pickguard.domain.model.errors import (
    AccountNotFound,
    AddressTaken,
    InvalidCredentials,
    InvalidFields,
    InvalidToken,
    RateLimited,
    SessionNotFound,
    StoreUnavailable,
    TokenSpent,
)
from pickguard.domain.model.events import (
    AccountDisabled,
    AccountEnabled,
    FailuresNoted,
    PasswordChanged,
    SessionEnd,
    SessionEnded,
    UserDeleted,
    UserRegistered,
)
from pickguard.domain.model.identifiers import SessionId
from pickguard.domain.model.limits import LimitRules, Rate
from pickguard.domain.model.mail import PasswordChanged as PasswordChangedMail
from pickguard.domain.model.tries import Standing
from pickguard.domain.services.administration import Administration, Obstacle
from pickguard.domain.services.registration import RegistrationMode
from pickguard.testing.contracts.account_directory import listed
from tests.support.accounts import an_account
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD
from tests.support.fakes import wired as wired_services
from tests.support.strategies import InstantHasher
from tests.support.wiring import ADA, ATTACKER, LAPTOP, PHONE, Wired, wire

NOBODY = an_account().user.id
RULES = LimitRules(guesses=Rate(3, timedelta(minutes=15)), run=Rate(5, timedelta(days=1)))


@pytest.fixture
async def wired() -> Wired:
    return wire(limits=RULES)


def administration(wired: Wired) -> Administration:
    return wired.services.administration


async def fail(wired: Wired, times: int, **more: object) -> None:
    for _ in range(times):
        with pytest.raises(InvalidCredentials):
            await wired.log_in(password="a wrong password", **more)  # type: ignore[arg-type]


# Seeing.


async def test_accounts_are_listed_and_found_by_address(wired: Wired) -> None:
    ada, grace = await wired.register(), await wired.register("grace@example.com")
    assert {entry.user for entry in await listed(administration(wired))} == {ada, grace}
    assert await administration(wired).find("ADA@example.com") == ada
    page = await administration(wired).page(wanted=lambda user: "grace" in user.email.key)
    assert [entry.user for entry in page.entries] == [grace]
    with pytest.raises(AccountNotFound):
        await administration(wired).find("nobody@example.com")
    with pytest.raises(InvalidFields):
        await administration(wired).find("no address")


async def test_of_the_sessions_that_are_listed_those_that_live_are_told_apart(wired: Wired) -> None:
    await wired.register()
    await wired.log_in()
    wired.clock.advance(timedelta(days=10))
    live = await wired.log_in(client=PHONE)
    wired.clock.advance(timedelta(days=10))
    (entry,) = (await administration(wired).page()).entries
    assert len(entry.sessions) == 2
    assert administration(wired).live_sessions(entry.sessions) == (live.session,)


async def test_an_account_is_shown_with_sessions_activity_and_wrong_passwords(wired: Wired) -> None:
    user = await wired.register()
    session = (await wired.log_in()).session
    await fail(wired, 2, client=ATTACKER)
    view = await administration(wired).show(user.id)
    assert (view.user, view.sessions, view.obstacles) == (user, (session,), ())
    assert [each.kind for each in view.activity] == [ActivityKind.LOGGED_IN, ActivityKind.REGISTERED]
    assert (view.tries.run.count, view.tries.run.last_source, view.tries.sources) == (2, ATTACKER.ip, 1)
    assert view.password_changed_at == user.created_at
    assert "hash" not in repr(view)


async def test_it_is_told_why_a_log_in_fails(wired: Wired) -> None:
    user = await wired.register()
    await fail(wired, 3)
    with pytest.raises(RateLimited):
        await wired.log_in()
    assert (await administration(wired).show(user.id)).obstacles == (Obstacle.LIMITED,)
    await fail(wired, 2, client=ATTACKER)
    with pytest.raises(RateLimited):
        await wired.log_in(client=PHONE)
    view = await administration(wired).show(user.id)
    assert view.obstacles == (Obstacle.LOCKED, Obstacle.LIMITED)
    assert view.tries.locked_for == timedelta(days=1)
    wired.clock.advance(timedelta(minutes=20))
    await administration(wired).disable(user.id)
    assert (await administration(wired).show(user.id)).obstacles == (Obstacle.DISABLED, Obstacle.LOCKED)
    wired.clock.advance(timedelta(days=1))
    view = await administration(wired).show(user.id)
    assert (view.obstacles, view.tries) == ((Obstacle.DISABLED,), Standing())


@pytest.mark.parametrize("mode", RegistrationMode)
async def test_an_address_that_is_not_verified_stands_in_the_way_only_in_private(mode: RegistrationMode) -> None:
    wired = wire(mode=mode)
    user = await administration(wired).create(name="Ada", email=ADA, password=GOOD_PASSWORD)
    in_private = mode is RegistrationMode.PRIVATE
    assert (await administration(wired).show(user.id)).obstacles == ((Obstacle.UNVERIFIED,) if in_private else ())
    try:
        await wired.log_in()
    except InvalidCredentials:
        assert in_private
    else:
        assert not in_private


# Changing.


@pytest.mark.parametrize("email_verified", [False, True])
async def test_an_account_is_made_where_nobody_can_register(*, email_verified: bool) -> None:
    wired = wire(mode=RegistrationMode.CLOSED)
    user = await administration(wired).create(
        name=" Ada ", email="Ada@EXAMPLE.com", password=GOOD_PASSWORD, email_verified=email_verified
    )
    assert (user.name.value, user.email.value, user.email_verified) == ("Ada", "Ada@example.com", email_verified)
    assert wired.events.events == [UserRegistered(user_id=user.id, at=wired.clock.now(), by_operator=True)]
    assert [each.kind for each in (await administration(wired).show(user.id)).activity] == [ActivityKind.REGISTERED]
    assert wired.mail.mails == []
    await wired.log_in()
    with pytest.raises(AddressTaken):
        await administration(wired).create(name="Eve", email=ADA, password=OTHER_PASSWORD)


async def test_every_fault_of_a_new_account_is_named(wired: Wired) -> None:
    with pytest.raises(InvalidFields) as refused:
        await administration(wired).create(name="", email="ada", password="short")
    assert {fault.code for fault in refused.value.faults} == {"invalid_name", "invalid_email", "password_too_short"}
    assert wired.events.events == []


async def test_an_account_without_a_password_is_opened_by_a_reset(wired: Wired) -> None:
    await administration(wired).create(name="Ada", email=ADA, password=None)
    await administration(wired).create(name="Bob", email="bob@example.com", password=None)
    hashes = {(await wired.present(email)).credential.password_hash for email in (ADA, "bob@example.com")}
    assert len(hashes) == 2
    for password in ("", "None", "0" * 64):
        with pytest.raises(InvalidCredentials):
            await wired.log_in(password=password)
    await wired.recovery.reset(await wired.reset_token(), password=GOOD_PASSWORD)
    assert (await wired.log_in()).user.email_verified


async def test_a_password_that_is_set_ends_all_that_was_open(wired: Wired) -> None:
    user = await wired.register()
    token, reset = await wired.token(), await wired.reset_token()
    await fail(wired, 3, client=ATTACKER)
    await fail(wired, 2, client=PHONE)
    wired.events.events.clear()
    changed = await administration(wired).set_password(user.id, OTHER_PASSWORD)
    assert changed.updated_at > user.updated_at
    with pytest.raises(InvalidToken):
        await wired.services.authentication.authenticate(token)
    with pytest.raises(TokenSpent):
        await wired.recovery.reset(reset, password=GOOD_PASSWORD)
    assert (await administration(wired).show(user.id)).obstacles == ()
    assert (await wired.log_in(password=OTHER_PASSWORD, client=PHONE)).user == changed
    with pytest.raises(InvalidCredentials):
        await wired.log_in(client=PHONE)
    noted, told, ended, *_ = wired.events.events
    assert isinstance(noted, FailuresNoted)
    assert (noted.count, noted.by_operator) == (5, False)
    assert told == PasswordChanged(user_id=user.id, at=told.at, by_operator=True)
    assert isinstance(ended, SessionEnded)
    assert (ended.reason, ended.by_operator) == (SessionEnd.PASSWORD_CHANGED, True)
    mail = wired.mail.last(PasswordChangedMail)
    assert (mail.to, mail.by_operator, mail.client.ip) == (user.email, True, None)


@pytest.mark.parametrize("password", ["short", ADA, "x" * 300])
async def test_a_password_that_is_set_keeps_the_rules(wired: Wired, password: str) -> None:
    user = await wired.register()
    token = await wired.token()
    with pytest.raises(InvalidFields):
        await administration(wired).set_password(user.id, password)
    await wired.services.authentication.authenticate(token)


async def test_sessions_are_ended_one_by_one_and_all_at_once(wired: Wired) -> None:
    user = await wired.register()
    first, second, third = await wired.log_in(), await wired.log_in(client=PHONE), await wired.log_in(client=ATTACKER)
    wired.events.events.clear()
    await administration(wired).end_session(user.id, second.session.id)
    with pytest.raises(InvalidToken):
        await wired.services.authentication.authenticate(second.token.reveal())
    await wired.services.authentication.authenticate(first.token.reveal())
    with pytest.raises(SessionNotFound):
        await administration(wired).end_session(user.id, second.session.id)
    assert await administration(wired).revoke_sessions(user.id) == 2
    assert await administration(wired).revoke_sessions(user.id) == 0
    for each in (first, third):
        with pytest.raises(InvalidToken):
            await wired.services.authentication.authenticate(each.token.reveal())
    assert all(isinstance(each, SessionEnded) and each.by_operator for each in wired.events.events)
    assert len(wired.events.events) == 3


async def test_an_expired_session_is_not_shown(wired: Wired) -> None:
    user = await wired.register()
    await wired.log_in()
    wired.clock.advance(timedelta(days=100))
    assert (await administration(wired).show(user.id)).sessions == ()


async def test_an_expired_session_is_not_counted_among_those_that_were_ended(wired: Wired) -> None:
    user = await wired.register()
    await wired.log_in()
    wired.clock.advance(timedelta(days=15))
    assert await administration(wired).revoke_sessions(user.id) == 0


async def test_a_disabled_account_is_told_to_be_by_an_operator(wired: Wired) -> None:
    user = await wired.register()
    await wired.log_in(client=LAPTOP)
    wired.events.events.clear()
    await administration(wired).disable(user.id)
    await administration(wired).enable(user.id)
    disabled, ended, enabled = wired.events.events
    assert disabled == AccountDisabled(user_id=user.id, at=disabled.at, by_operator=True)
    assert (type(ended), ended.by_operator) == (SessionEnded, True)
    assert enabled == AccountEnabled(user_id=user.id, at=enabled.at, by_operator=True)


async def test_a_deleted_account_is_gone_and_its_address_free(wired: Wired) -> None:
    user = await wired.register()
    token = await wired.token()
    wired.events.events.clear()
    await administration(wired).delete(user.id)
    assert wired.events.events == [UserDeleted(user_id=user.id, at=wired.clock.now(), by_operator=True)]
    with pytest.raises(InvalidToken):
        await wired.services.authentication.authenticate(token)
    assert await listed(administration(wired)) == []
    await wired.register()


async def test_who_is_not_there_is_said_not_to_be(wired: Wired) -> None:
    calls = administration(wired)
    for call in (
        calls.show(NOBODY),
        calls.disable(NOBODY),
        calls.enable(NOBODY),
        calls.set_password(NOBODY, GOOD_PASSWORD),
        calls.end_session(NOBODY, SessionId(NOBODY)),
        calls.revoke_sessions(NOBODY),
        calls.delete(NOBODY),
    ):
        with pytest.raises(AccountNotFound):
            await call
    assert wired.events.events == []


async def test_a_repository_that_lists_nothing_serves_all_the_same() -> None:
    class Own:
        """Somebody's own repository, without a directory."""

        def __init__(self) -> None:
            self._accounts = MemoryAccounts()

        def __getattr__(self, name: str) -> object:
            if name == "page":
                raise AttributeError
            return getattr(self._accounts, name)

    services = wired_services(Own(), InstantHasher())  # type: ignore[arg-type]
    assert isinstance(services.directory, NoDirectory)
    user = await services.administration.create(name="Ada", email=ADA, password=GOOD_PASSWORD)
    assert (await services.administration.show(user.id)).user == user
    with pytest.raises(StoreUnavailable, match="directory"):
        await services.administration.page()
