"""What becomes of a new password that is known from a breach, or of which that cannot be told."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from pickguard.adapters.memory import MemoryAccounts
from pickguard.domain.model.errors import InvalidFields
from pickguard.domain.model.events import BreachCheckSkipped
from pickguard.domain.services.registration import RegistrationMode
from pickguard.domain.services.screening import PasswordScreen
from pickguard.entrypoints.bootstrap import build_services
from pickguard.ports.breaches import BreachCheckUnavailable
from tests.support.fakes import GOOD_PASSWORD, FakeClock, RecordedEvents
from tests.support.strategies import USER_ID, InstantHasher
from tests.support.wiring import ADA, Wired, wire

STOLEN = "a phrase that was stolen"


class Stolen:
    """Knows one password, as long as it can be asked."""

    def __init__(self) -> None:
        self.is_down = False

    async def count(self, password: str) -> int:
        if self.is_down:
            raise BreachCheckUnavailable("it is down")
        return 3 if password == STOLEN else 0


@pytest.fixture
def stolen() -> Stolen:
    return Stolen()


@pytest.fixture
def screen(stolen: Stolen, clock: FakeClock, events: RecordedEvents) -> PasswordScreen:
    services = build_services(accounts=MemoryAccounts(), hasher=InstantHasher(), clock=clock, events=events, breaches=stolen)
    return services.password_screen


@pytest.mark.requirement(6)
@pytest.mark.parametrize("field", ["password", "new_password"])
async def test_a_stolen_password_is_refused_and_the_reason_told(screen: PasswordScreen, field: str) -> None:
    with pytest.raises(InvalidFields) as refused:
        await screen.raise_if_breached(STOLEN, field=field)
    (fault,) = refused.value.faults
    assert (fault.field, fault.code) == (field, "password_too_common")
    assert "stolen" in fault.detail
    assert STOLEN not in str(refused.value)


async def test_a_password_that_nobody_stole_passes(screen: PasswordScreen, events: RecordedEvents) -> None:
    await screen.raise_if_breached(GOOD_PASSWORD)
    assert events.events == []


@pytest.mark.parametrize("user_id", [None, USER_ID])
async def test_while_nobody_can_tell_passwords_pass_and_an_event_says_so(
    screen: PasswordScreen, stolen: Stolen, clock: FakeClock, events: RecordedEvents, user_id: None
) -> None:
    stolen.is_down = True
    await screen.raise_if_breached(STOLEN, user_id=user_id)
    assert events.events == [BreachCheckSkipped(user_id=user_id, at=clock.now())]


async def test_without_a_service_to_ask_nothing_is_asked(events: RecordedEvents) -> None:
    services = build_services(accounts=MemoryAccounts(), hasher=InstantHasher(), events=events)
    await services.password_screen.raise_if_breached(STOLEN)
    assert events.events == []


# Every way to a new password.


class Slow(Stolen):
    """Takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.wired = wire(breaches=self)

    async def count(self, password: str) -> int:
        self.wired.clock.advance(timedelta(milliseconds=700))
        return await super().count(password)


async def change(wired: Wired, password: str) -> None:
    await wired.services.profiles.change(await wired.token(), password=password, current_password=GOOD_PASSWORD)


async def reset(wired: Wired, password: str) -> None:
    await wired.recovery.reset(await wired.reset_token(), password=password)


async def be_set(wired: Wired, password: str) -> None:
    await wired.services.administration.set_password((await wired.present()).user.id, password)


async def be_made(wired: Wired, password: str) -> None:
    await wired.services.administration.create(name="Eve", email="eve@example.com", password=password)


async def register(wired: Wired, password: str) -> None:
    await wired.register("eve@example.com", password=password)


Way = Callable[[Wired, str], Awaitable[None]]


@pytest.mark.requirement(6)
@pytest.mark.parametrize("way", [register, change, reset, be_set, be_made])
async def test_no_way_to_a_new_password_leads_past_it(way: Way, stolen: Stolen) -> None:
    wired = wire(breaches=stolen)
    await wired.register()
    with pytest.raises(InvalidFields) as refused:
        await way(wired, STOLEN)
    assert [fault.code for fault in refused.value.faults] == ["password_too_common"]
    assert await wired.account("eve@example.com") is None
    await wired.log_in(ADA)
    await way(wired, "a phrase that nobody stole")


@pytest.mark.requirement(6)
async def test_private_registration_does_not_lead_past_it(stolen: Stolen) -> None:
    wired = wire(breaches=stolen, mode=RegistrationMode.PRIVATE)
    with pytest.raises(InvalidFields):
        await wired.services.registration.register_privately(name="Ada", email=ADA, password=STOLEN)
    assert await wired.account() is None


@pytest.mark.parametrize("way", [change, reset, be_set])
async def test_the_hash_is_told_how_long_the_look_up_took(way: Way) -> None:
    slow = Slow()
    await slow.wired.register()
    await way(slow.wired, "a phrase that nobody stole")
    assert slow.wired.hasher.spent == timedelta(milliseconds=700)
