"""What becomes of a new password that is known from a breach, or of which that cannot be told."""

import pytest

from pickguard.adapters.memory import MemoryAccounts
from pickguard.domain.model.errors import InvalidFields
from pickguard.domain.model.events import BreachCheckSkipped
from pickguard.domain.services.screening import PasswordScreen
from pickguard.entrypoints.bootstrap import build_services
from pickguard.ports.breaches import BreachCheckUnavailable
from tests.support.fakes import GOOD_PASSWORD, FakeClock, RecordedEvents
from tests.support.strategies import USER_ID, InstantHasher

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
