"""The limits on guesses and registrations, as a library's user meets them, on the store in memory."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs
import pytest

from pickguard.domain.model.activity import Activity
from pickguard.domain.model.errors import (
    AddressTaken,
    IdempotencyKeyReused,
    InvalidCredentials,
    RateLimited,
    StoreUnavailable,
    WrongPassword,
)
from pickguard.domain.model.events import LimitReached
from pickguard.domain.model.idempotency import key_digest
from pickguard.domain.model.limits import Attempt, Failures, Limit
from pickguard.domain.model.mail import ResetPassword
from pickguard.domain.model.sessions import Client
from pickguard.domain.model.tries import Standing, Tries
from pickguard.domain.model.users import EmailAddress
from pickguard.ports.accounts import Holder
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD
from tests.support.wiring import ADA, ATTACKER, LAPTOP, PHONE, Wired, wire

WRONG = "not the password"


@pytest.fixture
async def wired() -> Wired:
    return wire()


async def guess(wired: Wired, password: str = WRONG, *, email: str = ADA, client: Client = ATTACKER) -> str:
    """Try to log in, and return what comes of it."""
    try:
        await wired.log_in(email, password=password, client=client)
    except (InvalidCredentials, RateLimited, StoreUnavailable) as error:
        return type(error).__name__
    return "in"


def from_elsewhere(number: int) -> Client:
    return Client(ip=f"203.0.{number // 250}.{number % 250 + 1}", user_agent="bot")


@pytest.mark.parametrize("email", [ADA, "nobody@example.com", "no address"])
async def test_wrong_passwords_for_one_account_from_one_source_are_limited(wired: Wired, email: str) -> None:
    await wired.register()
    assert [await guess(wired, email=email) for _ in range(12)] == ["InvalidCredentials"] * 10 + ["RateLimited"] * 2
    wired.clock.advance(timedelta(minutes=15))
    assert await guess(wired, email=email) == "InvalidCredentials"


@pytest.mark.requirement(11)
@pytest.mark.would_have_caught("keycloak-cve-2024-4629")
async def test_guesses_side_by_side_pass_the_limit_no_more_often(wired: Wired) -> None:
    """As in Keycloak's CVE-2024-4629, where those that were verified at one time were counted too late."""
    await wired.register()
    barrier = asyncio.Barrier(64)
    verify = wired.hasher.verify

    async def at_once(*args: object, **more: object) -> bool:
        result = await verify(*args, **more)  # type: ignore[arg-type]
        await barrier.wait()  # all of them are verified before any is counted
        return result

    wired.hasher.verify = at_once  # type: ignore[method-assign]
    told = Counter(await asyncio.gather(*(guess(wired) for _ in range(64))))
    assert told == {"InvalidCredentials": 10, "RateLimited": 54}


async def test_a_right_password_beyond_the_limit_is_not_told_from_a_wrong_one(wired: Wired) -> None:
    await wired.register()
    for _ in range(10):
        await guess(wired)
    assert await guess(wired, GOOD_PASSWORD) == "RateLimited"
    assert await guess(wired, GOOD_PASSWORD, client=LAPTOP) == "in"


async def test_a_right_password_that_was_verified_too_late_is_not_told(wired: Wired) -> None:
    await wired.register()
    reached, go_on = asyncio.Event(), asyncio.Event()
    verify = wired.hasher.verify

    async def pausing(password_hash: str | None, password: str, **more: object) -> bool:
        result = await verify(password_hash, password, **more)  # type: ignore[arg-type]
        if password == GOOD_PASSWORD:
            reached.set()
            await go_on.wait()
        return result

    wired.hasher.verify = pausing  # type: ignore[method-assign]
    late = asyncio.create_task(guess(wired, GOOD_PASSWORD))
    await reached.wait()
    for _ in range(10):
        await guess(wired)
    go_on.set()
    assert await late == "RateLimited"


async def test_right_passwords_are_not_counted(wired: Wired) -> None:
    await wired.register()
    assert {await guess(wired, GOOD_PASSWORD) for _ in range(50)} == {"in"}
    assert set(await asyncio.gather(*(guess(wired, GOOD_PASSWORD) for _ in range(50)))) == {"in"}


@pytest.mark.requirement(13)
async def test_a_right_password_begins_the_count_anew(wired: Wired) -> None:
    await wired.register()
    for _ in range(3):
        assert {await guess(wired) for _ in range(9)} == {"InvalidCredentials"}
        assert await guess(wired, GOOD_PASSWORD) == "in"


async def test_one_source_is_limited_over_all_accounts_and_an_account_of_its_own_helps_it_not(wired: Wired) -> None:
    await wired.register("eve@example.com")
    told = []
    for number in range(110):
        told.append(await guess(wired, email=f"user{number}@example.com"))
        await guess(wired, GOOD_PASSWORD, email="eve@example.com")
    assert Counter(told) == {"InvalidCredentials": 100, "RateLimited": 10}


@pytest.mark.requirement(11)
async def test_after_a_hundred_failures_in_a_row_the_password_is_refused(wired: Wired) -> None:
    await wired.register()
    told = Counter([await guess(wired, client=from_elsewhere(number)) for number in range(150)])
    assert told == {"InvalidCredentials": 100, "RateLimited": 50}
    assert await guess(wired, GOOD_PASSWORD, client=PHONE) == "RateLimited"


@pytest.mark.requirement(12)
async def test_the_owner_gets_in_from_where_the_account_was_used_before(wired: Wired) -> None:
    await wired.register()
    for number in range(120):
        await guess(wired, client=from_elsewhere(number))
    assert await guess(wired, GOOD_PASSWORD, client=LAPTOP) == "in"  # it was registered from there
    assert await guess(wired, GOOD_PASSWORD, client=PHONE) == "in"  # the run is over


@pytest.mark.requirement(17)
async def test_what_an_account_has_lived_through_is_not_read_before_its_run_is_used_up(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the longer the more there is, and who has no account has none: the time would tell."""
    await wired.register(client=LAPTOP)
    read: list[str] = []
    find_holder = wired.accounts.find_holder

    async def watched(email: EmailAddress) -> Holder | None:
        holder = await find_holder(email)
        assert holder is not None

        def read_activity() -> Sequence[Activity]:
            read.append(email.key)
            return holder.read_activity()

        return attrs.evolve(holder, read_activity=read_activity)

    monkeypatch.setattr(wired.accounts, "find_holder", watched)
    assert [await guess(wired) for _ in range(11)][-2:] == ["InvalidCredentials", "RateLimited"]
    assert await guess(wired, GOOD_PASSWORD, client=PHONE) == "in"
    assert not read
    for number in range(100):
        await guess(wired, client=from_elsewhere(number))
    assert not read
    assert await guess(wired, GOOD_PASSWORD, client=LAPTOP) == "in"
    assert read


@pytest.mark.requirement(12)
async def test_a_reset_by_mail_ends_a_lock(wired: Wired) -> None:
    await wired.register()
    for number in range(120):
        await guess(wired, client=from_elsewhere(number))
    await wired.recovery.reset(await wired.reset_token(client=PHONE), password=OTHER_PASSWORD, client=PHONE)
    assert await guess(wired, OTHER_PASSWORD, client=Client(ip="192.0.2.200")) == "in"


@pytest.mark.requirement(12)
async def test_a_lock_is_not_for_good(wired: Wired) -> None:
    await wired.register()
    for number in range(100):
        await guess(wired, client=from_elsewhere(number))
    wired.clock.advance(timedelta(days=1))
    assert await guess(wired, GOOD_PASSWORD, client=PHONE) == "in"


@pytest.mark.requirement(11)
async def test_who_guesses_within_a_stolen_session_is_limited_as_well(wired: Wired) -> None:
    await wired.register()
    token = await wired.token()
    refused: Counter[str] = Counter()
    for number in range(12):
        try:
            if number % 2:
                await wired.services.authentication.reauthenticate(token, password=WRONG, client=ATTACKER)
            else:
                await wired.services.profiles.change(token, password=OTHER_PASSWORD, current_password=WRONG, client=ATTACKER)
        except (WrongPassword, RateLimited) as error:
            refused[type(error).__name__] += 1
    assert refused == {"WrongPassword": 10, "RateLimited": 2}
    assert await guess(wired, GOOD_PASSWORD) == "RateLimited"  # it is one count
    await wired.services.authentication.authenticate(token)  # and no session ends for it


async def test_registrations_from_one_source_are_limited_whatever_comes_of_them(wired: Wired) -> None:
    told: Counter[str] = Counter()
    for number in range(40):
        try:
            await wired.register(ADA if number % 2 else f"user{number}@example.com", client=ATTACKER)
            told["made"] += 1
        except (AddressTaken, RateLimited) as error:
            told[type(error).__name__] += 1
    assert told == {"made": 16, "AddressTaken": 14, "RateLimited": 10}
    await wired.register("other@example.com", client=LAPTOP)
    wired.clock.advance(timedelta(hours=1))
    await wired.register("another@example.com", client=ATTACKER)


async def test_a_repeat_of_a_registration_is_counted_once(wired: Wired) -> None:
    for _ in range(40):
        await wired.services.registration.register(
            name="Ada", email=ADA, password=GOOD_PASSWORD, idempotency_key="a key", client=ATTACKER
        )


async def test_the_name_of_a_registration_is_no_way_to_guess_its_password(wired: Wired) -> None:
    async def named(password: str) -> None:
        await wired.services.registration.register(
            name="Ada", email=ADA, password=password, idempotency_key="a key", client=ATTACKER
        )

    await wired.services.registration.register(
        name="Ada", email=ADA, password=GOOD_PASSWORD, idempotency_key="a key", client=LAPTOP
    )
    told: Counter[str] = Counter()
    for number in range(40):
        try:
            await named(f"guess number {number}")
        except (IdempotencyKeyReused, RateLimited) as error:
            told[type(error).__name__] += 1
    assert told == {"IdempotencyKeyReused": 30, "RateLimited": 10}


async def test_registrations_over_the_limit_leave_nothing_behind(wired: Wired) -> None:
    for number in range(40):
        with contextlib.suppress(RateLimited):
            await wired.services.registration.register(
                name="Ada",
                email=f"user{number}@example.com",
                password=GOOD_PASSWORD,
                idempotency_key=f"key {number}",
                client=ATTACKER,
            )
    assert len(wired.hasher.purposes) == 2 * 30  # the password, and what was asked
    receipts = wired.services.registration._receipts
    for number in range(40):
        held = await receipts.read(key_digest(f"key {number}"), wired.clock.now())
        assert (held is None) is (number >= 30)


async def test_who_has_a_session_is_known_where_it_was_opened(wired: Wired) -> None:
    await wired.register()
    token = await wired.token(client=PHONE)
    for _ in range(40):  # so that nothing else tells of the phone
        await wired.services.sessions.log_out(await wired.token(client=LAPTOP))
    assert PHONE not in {each.client for each in (await wired.present()).activity}
    for number in range(120):
        await guess(wired, client=from_elsewhere(number))
    await wired.services.authentication.reauthenticate(token, password=GOOD_PASSWORD, client=PHONE)


async def test_a_limit_is_told_with_the_time_to_wait_and_as_an_event(wired: Wired) -> None:
    await wired.register()
    for _ in range(10):
        await guess(wired)
        wired.clock.advance(timedelta(seconds=10))
    with pytest.raises(RateLimited) as refused:
        await wired.log_in(password=WRONG, client=ATTACKER)
    assert (refused.value.limit, refused.value.retry_after) == (Limit.GUESSES, timedelta(seconds=800))
    event = wired.events.events[-1]
    assert isinstance(event, LimitReached)
    assert (event.limit, event.client) == (Limit.GUESSES, ATTACKER)


class BrokenLimiter:
    """Knows nothing any more, from the step on that it is told."""

    def __init__(self, step: str) -> None:
        self.step = step

    def _break(self, step: str) -> None:
        if self.step == step:
            raise StoreUnavailable("the store is gone")

    async def check(self, attempt: Attempt, now: object) -> None:
        del attempt, now
        self._break("check")

    async def fail(self, attempt: Attempt, now: object) -> None:
        del attempt, now
        self._break("fail")

    async def succeed(self, attempt: Attempt, now: object) -> Failures:
        del attempt, now
        self._break("succeed")
        return Failures()

    async def forgive(self, address: str) -> Failures:
        del address
        self._break("forgive")
        return Failures()

    async def review(self, address: str, now: object) -> Standing:
        del address, now
        self._break("review")
        return Standing()

    async def count(self, limit: Limit, subject: str, now: object) -> None:
        del subject, now
        self._break(limit.value)

    async def read_tries(self, address: str) -> Tries:
        del address
        self._break("read_tries")
        return Tries()

    async def read_count(self, limit: Limit, subject: str) -> tuple[datetime, ...]:
        del subject
        self._break(f"read {limit.value}")
        return ()


@pytest.mark.requirement(79)
@pytest.mark.parametrize(
    ("step", "password"),
    [("check", GOOD_PASSWORD), ("check", WRONG), ("fail", WRONG), ("succeed", GOOD_PASSWORD)],
)
async def test_a_store_that_is_down_never_opens_the_gate(step: str, password: str) -> None:
    wired = wire(limiter=BrokenLimiter(step))
    await wired.register()
    assert await guess(wired, password) == "StoreUnavailable"
    assert not (await wired.present()).sessions


async def test_a_registration_that_cannot_be_counted_is_none() -> None:
    wired = wire(limiter=BrokenLimiter("registrations"))
    with pytest.raises(StoreUnavailable):
        await wired.register()
    assert await wired.account() is None


async def test_a_reset_that_cannot_end_a_lock_leaves_the_token() -> None:
    limiter = BrokenLimiter("forgive")
    wired = wire(limiter=limiter)
    await wired.register()
    token = await wired.reset_token()
    with pytest.raises(StoreUnavailable):
        await wired.recovery.reset(token, password=OTHER_PASSWORD)
    limiter.step = ""
    await wired.recovery.reset(token, password=OTHER_PASSWORD)


async def test_a_mail_that_cannot_be_counted_fails_no_registration() -> None:
    wired = wire(limiter=BrokenLimiter("mails"))
    await wired.register()
    assert wired.mail.mails == []
    with pytest.raises(StoreUnavailable):
        await wired.recovery.request(email=ADA)
    assert not wired.mail.of(ResetPassword)
