"""The claim protocol holds in every state that it can come to, and each of its rules is needed for that."""

import attrs
import pytest

from tests.support.claim_model import PROTOCOL, Rules, Scenario, find_violation, programs

SCENARIOS = {
    "two register one address": Scenario({}, programs("register u1 e", "register u2 e")),
    "three register one address": Scenario({}, programs("register u1 e", "register u2 e", "register u3 e")),
    "a registration against a change": Scenario({"u3": "f"}, programs("register u1 e", "change u3 e")),
    "two change to one address": Scenario({"u1": "x", "u2": "y"}, programs("change u1 e", "change u2 e")),
    "two swap their addresses": Scenario({"u1": "e", "u2": "f"}, programs("change u1 f", "change u2 e")),
    "three pass their addresses on": Scenario({"u1": "e", "u2": "f"}, programs("change u1 g", "change u2 e", "register u3 f")),
    "a change away and back against a registration": Scenario(
        {"u3": "e"}, programs("change u3 f", "change u3 e", "register u1 e")
    ),
    "a deletion against two registrations": Scenario({"u3": "e"}, programs("delete u3", "register u1 e", "register u2 e")),
    "two deletions against a registration": Scenario({"u3": "e"}, programs("delete u3", "delete u3", "register u1 e")),
    "a deletion against a change": Scenario({"u3": "e"}, programs("delete u3", "change u3 f", "register u1 f")),
    "a change and a deletion against a registration of the old address": Scenario(
        {"u3": "e"}, programs("change u3 f", "delete u3", "register u1 e")
    ),
    # One user, twice the same: the second request meets a claim that is its own and yet not its.
    "the same change twice": Scenario({"u3": "e"}, programs("change u3 f", "change u3 f")),
    "the same change twice against a registration": Scenario(
        {"u3": "e"}, programs("change u3 f", "change u3 f", "register u1 f")
    ),
    "the same change twice and one back": Scenario({"u3": "e"}, programs("change u3 f", "change u3 f", "change u3 e")),
    "the same change twice and a deletion": Scenario({"u3": "e"}, programs("change u3 f", "change u3 f", "delete u3")),
    "an end against two registrations": Scenario({"u3": "e"}, programs("schedule u3", "register u1 e", "register u2 e")),
    "an end that is called off against a registration": Scenario(
        {"u3": "e"}, programs("schedule u3", "restore u3", "register u1 e")
    ),
    "an end against a change and a registration": Scenario(
        {"u3": "e"}, programs("schedule u3", "change u3 f", "register u1 f")
    ),
    "an end against a deletion and a registration": Scenario(
        {"u3": "e"}, programs("schedule u3", "delete u3", "register u1 e")
    ),
    "two changes to different addresses": Scenario({"u3": "e"}, programs("change u3 f", "change u3 g")),
}


@pytest.mark.requirement(45)
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_no_address_is_ever_shared_or_lost(scenario: Scenario) -> None:
    violation = find_violation(PROTOCOL, scenario)
    assert violation is None, str(violation)


# For each rule, the scenarios in which its lack must show: every one of them, so that the model cannot lose sight of it.
NEEDED = {
    "claim_first": ("two register one address", "a registration against a change", "two change to one address"),
    "deadline": ("two register one address", "a registration against a change", "the same change twice"),
    "lease": ("two register one address", "two change to one address", "the same change twice against a registration"),
    "check_account": ("two register one address", "two swap their addresses", "three pass their addresses on"),
    "renew_only_old": (
        "the same change twice",
        "the same change twice against a registration",
        "the same change twice and a deletion",
    ),
    "renew_only_unused": (
        "the same change twice",
        "the same change twice and one back",
        "the same change twice and a deletion",
    ),
    "full_compare": ("a change away and back against a registration", "the same change twice"),
    "compared_end": ("an end that is called off against a registration",),
    "read_first": ("a change away and back against a registration", "the same change twice and one back"),
}


@pytest.mark.parametrize(("rule", "scenario"), [(rule, name) for rule, names in NEEDED.items() for name in names])
def test_without_any_one_rule_an_address_is_shared_or_lost(rule: str, scenario: str) -> None:
    mutant = attrs.evolve(PROTOCOL, **{rule: False})
    assert find_violation(mutant, SCENARIOS[scenario]) is not None


def test_every_rule_of_the_model_has_a_scenario_that_needs_it() -> None:
    assert set(NEEDED) == {field.name for field in attrs.fields(Rules)}


def test_a_violation_is_told_with_the_steps_that_led_to_it() -> None:
    violation = find_violation(attrs.evolve(PROTOCOL, claim_first=False), SCENARIOS["two register one address"])
    assert violation is not None
    message, *history = str(violation).splitlines()
    assert message.startswith("two accounts have one address")
    assert {"0 (register u1 e): save", "1 (register u2 e): save"} <= set(history)
