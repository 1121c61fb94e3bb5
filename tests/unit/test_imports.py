"""Accounts that come from another system, and what becomes of their hashes."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import attrs
import pytest

from pickguard.adapters.foreign_hashes import ForeignPasswordHashes
from pickguard.adapters.memory import MemoryAccounts
from pickguard.domain.model.credentials import Credential
from pickguard.domain.model.errors import AccountNotFound, AddressTaken, DeletionPending, InvalidCredentials, InvalidFields
from pickguard.domain.model.events import UserImported
from pickguard.domain.model.users import User
from pickguard.domain.services.imports import Candidate, Imported
from pickguard.entrypoints.bootstrap import Services, build_services
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, FakeClock, NoCommonPasswords, RecordedEvents, cheap_hasher

ADA = "ada@example.com"
BCRYPT = "$2b$04$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG"
"""Of GOOD_PASSWORD."""
REGISTERED = datetime(2019, 5, 6, 7, 8, 9, 123456, tzinfo=timezone(timedelta(hours=2)))


@pytest.fixture
async def services(clock: FakeClock, events: RecordedEvents) -> AsyncGenerator[Services]:
    async with cheap_hasher(foreign=ForeignPasswordHashes()) as hasher:
        yield build_services(
            accounts=MemoryAccounts(now=clock.now),
            hasher=hasher,
            clock=clock,
            events=events,
            common_passwords=NoCommonPasswords(),
        )


async def imported(services: Services, password_hash: str = BCRYPT) -> User:
    return await services.imports.add(name="Ada", email=ADA, password_hash=password_hash)


async def bring_over(services: Services, candidate: Candidate) -> Imported:
    return await services.imports.bring_over(services.imports.examine(candidate))


async def credential(services: Services, user: User) -> Credential:
    snapshot = await services.accounts.get(user.id)
    assert snapshot is not None
    return snapshot.account.credential


async def log_in(services: Services, password: str = GOOD_PASSWORD) -> str:
    return (await services.authentication.log_in(email=ADA, password=password)).token.reveal()


async def test_an_account_keeps_what_the_other_system_knew(
    services: Services, clock: FakeClock, events: RecordedEvents
) -> None:
    user = await services.imports.add(
        name=" Ada ", email="Ada@EXAMPLE.com", password_hash=BCRYPT, email_verified=True, created_at=REGISTERED
    )
    assert (user.name.value, user.email.value, user.email_verified) == ("Ada", "Ada@example.com", True)
    assert user.created_at == datetime(2019, 5, 6, 5, 8, 9, 123000, tzinfo=UTC)
    assert user.created_at.tzinfo is UTC
    assert user.updated_at == clock.now()
    assert int(user.id.hex[:12], 16) == user.created_at.timestamp() * 1000
    assert events.events == [UserImported(user_id=user.id, at=clock.now())]
    assert await credential(services, user) == Credential(password_hash=BCRYPT, epoch=1, changed_at=user.created_at)


async def test_without_more_an_account_is_new_and_its_address_not_verified(services: Services, clock: FakeClock) -> None:
    user = await imported(services)
    assert (user.created_at, user.updated_at, user.email_verified) == (clock.now(), clock.now(), False)


@pytest.mark.requirement(60)
async def test_the_first_right_log_in_renews_the_hash_and_nothing_else(services: Services, events: RecordedEvents) -> None:
    user = await imported(services)
    before = await credential(services, user)
    with pytest.raises(InvalidCredentials):
        await log_in(services, OTHER_PASSWORD)
    assert await credential(services, user) == before
    tokens = [await log_in(services), await log_in(services)]
    after = await credential(services, user)
    assert after.password_hash.startswith("$argon2id$")
    assert attrs.evolve(after, password_hash=BCRYPT) == before
    assert events.names() == [
        "UserImported",
        "LogInRefused",
        "FailuresNoted",
        "SessionOpened",
        "PasswordRehashed",
        "SessionOpened",
    ]
    for token in tokens:
        assert (await services.authentication.authenticate(token)).user == user
    with pytest.raises(InvalidCredentials):
        await log_in(services, OTHER_PASSWORD)


async def test_many_first_log_ins_at_once_renew_the_hash_once(services: Services, events: RecordedEvents) -> None:
    user = await imported(services)
    tokens = await asyncio.gather(*(log_in(services) for _ in range(8)))
    assert events.names().count("PasswordRehashed") == 1
    assert (await credential(services, user)).epoch == 1
    for token in tokens:
        await services.authentication.authenticate(token)


async def test_a_password_can_be_proved_and_changed_before_its_hash_was_renewed(services: Services) -> None:
    user = await imported(services)
    token = await log_in(services)
    snapshot = await services.accounts.get(user.id)
    assert snapshot is not None
    account = snapshot.account
    again = attrs.evolve(account, credential=attrs.evolve(account.credential, password_hash=BCRYPT))
    await services.accounts.save(snapshot, again, operation=b"8 bytes.")
    fresh = await services.authentication.reauthenticate(token, password=GOOD_PASSWORD)
    await services.profiles.change(fresh.token.reveal(), password=OTHER_PASSWORD, current_password=GOOD_PASSWORD)
    await log_in(services, OTHER_PASSWORD)
    with pytest.raises(InvalidCredentials):
        await log_in(services)


@pytest.mark.parametrize(
    "password_hash",
    [
        "",
        GOOD_PASSWORD,
        BCRYPT[:-1],
        BCRYPT.replace("$04$", "$31$"),
        "$argon2id$v=19$m=8,t=101,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b1EWg",
    ],
)
async def test_a_hash_that_could_never_match_is_refused(services: Services, password_hash: str, events: RecordedEvents) -> None:
    with pytest.raises(InvalidFields) as refused:
        await imported(services, password_hash)
    assert [(fault.field, fault.code) for fault in refused.value.faults] == [("password_hash", "invalid_password_hash")]
    assert not password_hash or password_hash not in str(refused.value)
    assert events.events == []


async def test_every_fault_is_named_at_once(services: Services, clock: FakeClock) -> None:
    for wrong in (clock.now() + timedelta(milliseconds=1), datetime(1969, 12, 31, tzinfo=UTC), datetime(2020, 1, 1)):  # noqa: DTZ001 (a time without a zone is what is tried)
        with pytest.raises(InvalidFields) as refused:
            await services.imports.add(name="", email="ada", password_hash="", created_at=wrong)
        assert sorted(fault.code for fault in refused.value.faults) == [
            "invalid_created_at",
            "invalid_email",
            "invalid_name",
            "invalid_password_hash",
        ]


KEPT = UUID("016a8b5f-0000-7000-8000-000000000001")


async def test_an_id_is_kept_and_so_is_being_disabled(services: Services) -> None:
    user = await services.imports.add(name="Ada", email=ADA, password_hash=BCRYPT, id=KEPT, disabled=True)
    assert (user.id, user.disabled) == (KEPT, True)
    with pytest.raises(InvalidCredentials):
        await log_in(services)
    await services.administration.enable(user.id)
    await log_in(services)


async def test_an_account_that_its_user_has_deleted_goes_when_it_would_have_gone(services: Services, clock: FakeClock) -> None:
    end = clock.now() + timedelta(days=3, microseconds=1)
    user = await services.imports.add(name="Ada", email=ADA, password_hash=BCRYPT, deletes_at=end)
    assert user.deletes_at == clock.now() + timedelta(days=3)
    with pytest.raises(DeletionPending):
        await log_in(services)
    clock.advance(timedelta(days=3))
    with pytest.raises(InvalidCredentials):
        await log_in(services)


@pytest.mark.parametrize("ahead", [timedelta(days=-1), timedelta(0), timedelta(seconds=59)])
async def test_an_account_whose_end_has_come_is_not_brought_back(
    services: Services, clock: FakeClock, ahead: timedelta
) -> None:
    candidate = Candidate(name="Ada", email=ADA, password_hash=BCRYPT, deletes_at=clock.now() + ahead)
    with pytest.raises(InvalidFields) as refused:
        services.imports.examine(candidate)
    assert [(fault.field, fault.code) for fault in refused.value.faults] == [("deletes_at", "invalid_deletes_at")]
    with pytest.raises(InvalidFields):
        services.imports.examine(attrs.evolve(candidate, deletes_at=(clock.now() + timedelta(days=1)).replace(tzinfo=None)))


async def test_what_was_brought_over_by_its_id_is_found_and_left_as_it_is(services: Services, events: RecordedEvents) -> None:
    candidate = Candidate(name="Ada", email=ADA, password_hash=BCRYPT, id=KEPT)
    first = await bring_over(services, candidate)
    token = await log_in(services)
    await services.profiles.change(token, name="Countess")
    events.events.clear()
    for again in (candidate, attrs.evolve(candidate, email="ADA@Example.com", name="Eve", disabled=True)):
        found = await bring_over(services, again)
        assert (found.is_new, found.user.id, found.user.name.value) == (False, first.user.id, "Countess")
    assert first.is_new
    assert events.events == []
    with pytest.raises(InvalidFields) as refused:
        await bring_over(services, attrs.evolve(candidate, email="else@example.com"))
    assert [(fault.field, fault.code) for fault in refused.value.faults] == [("id", "id_taken")]
    with pytest.raises(AddressTaken):
        await bring_over(services, attrs.evolve(candidate, id=UUID(int=KEPT.int + 1)))


async def test_of_one_candidate_at_once_many_times_one_is_new(services: Services) -> None:
    candidate = Candidate(name="Ada", email=ADA, password_hash=BCRYPT, id=KEPT)
    outcomes = await asyncio.gather(*(bring_over(services, candidate) for _ in range(8)))
    assert sorted(each.is_new for each in outcomes) == [False] * 7 + [True]


@pytest.mark.parametrize(
    "wrong",
    [
        uuid4(),
        UUID(int=0),
        UUID("016a8b5f-0000-7000-0000-000000000001"),
        UUID("016a8b5f-0000-7000-c000-000000000001"),
        UUID(int=2**128 - 1),
    ],
)
async def test_only_an_id_of_version_7_can_be_kept(services: Services, wrong: UUID) -> None:
    with pytest.raises(InvalidFields) as refused:
        services.imports.examine(Candidate(name="", email=ADA, password_hash=BCRYPT, id=wrong))
    assert [fault.code for fault in refused.value.faults] == ["invalid_name", "invalid_id"]


async def test_to_examine_is_to_change_nothing(services: Services) -> None:
    candidate = Candidate(name="Ada", email=ADA, password_hash=BCRYPT)
    services.imports.examine(candidate)
    assert BCRYPT not in repr(candidate)
    with pytest.raises(AccountNotFound):
        await services.administration.find(ADA)


async def test_an_address_that_has_an_account_keeps_it(services: Services) -> None:
    await services.registration.register(name="Ada", email=ADA, password=OTHER_PASSWORD)
    with pytest.raises(AddressTaken):
        await imported(services)
    await log_in(services, OTHER_PASSWORD)


async def test_of_an_import_and_a_registration_at_once_one_succeeds(services: Services) -> None:
    registration = services.registration.register(name="Ada", email=ADA, password=OTHER_PASSWORD)
    outcomes = await asyncio.gather(imported(services), imported(services), registration, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AddressTaken", "AddressTaken", "User"]
