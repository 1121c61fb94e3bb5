"""The claim protocol with up to four requests at once: the model of the unit tests, with some seconds' worth of states."""

import pytest

from tests.support.claim_model import PROTOCOL, Scenario, find_violation, programs

SCENARIOS = {
    "the same change three times": Scenario({"u3": "e"}, programs("change u3 f", "change u3 f", "change u3 f")),
    "four register one address": Scenario({}, programs("register u1 e", "register u2 e", "register u3 e", "register u4 e")),
    "the same change twice, one back, and a registration": Scenario(
        {"u3": "e"}, programs("change u3 f", "change u3 f", "change u3 e", "register u1 f")
    ),
    "the same change twice, a deletion and a registration": Scenario(
        {"u3": "e"}, programs("change u3 f", "change u3 f", "delete u3", "register u1 f")
    ),
    "two users change twice each to the other's address": Scenario(
        {"u1": "e", "u2": "f"}, programs("change u1 f", "change u1 f", "change u2 e", "change u2 e")
    ),
    "a change away and back, twice": Scenario(
        {"u3": "e"}, programs("change u3 f", "change u3 e", "change u3 f", "change u3 e")
    ),
    "two users change twice each to one address": Scenario(
        {"u1": "x", "u2": "y"}, programs("change u1 e", "change u1 e", "change u2 e", "change u2 e")
    ),
    "a deletion, a change and registrations of both addresses": Scenario(
        {"u3": "e"}, programs("delete u3", "change u3 f", "register u1 e", "register u2 f")
    ),
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_no_address_is_ever_shared_or_lost(scenario: Scenario) -> None:
    violation = find_violation(PROTOCOL, scenario)
    assert violation is None, str(violation)
