"""docs/security.md says what the tests show, and no more."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pytest

from tests.support.security_table import (
    PAGE,
    Evidence,
    Fault,
    Requirement,
    complaints,
    fill,
    find_tests,
    made_page,
    requirements_table,
    timing_table,
    verdicts,
)

ROW = Requirement(row=1, ids="ASVS 1", text="It is so.")
FAULT = Fault(name="them-1", system="Theirs", reference="issue 1", text="It went wrong.")
SHOWN = """
@pytest.mark.requirement(1)
@pytest.mark.would_have_caught("them-1")
async def test_it_is_so(): ...
"""


def evidence(source: str = SHOWN, *, requirement: Requirement = ROW) -> Evidence:
    return Evidence(requirements=[requirement], faults=[FAULT], tests=find_tests({"tests/test_x.py": source}))


@pytest.fixture(scope="module")
def present() -> Evidence:
    """What this checkout has; reading all tests takes a while."""
    return Evidence.read()


def test_the_page_is_the_one_that_the_tests_make(present: Evidence) -> None:
    assert PAGE.read_text() == made_page(present), "python -m tests.support.security_table --write puts it right"


def test_every_row_has_a_test_or_an_honest_mark_and_every_mark_a_row(present: Evidence) -> None:
    assert complaints(present) == []


def test_what_is_in_order_has_no_complaint() -> None:
    assert complaints(evidence()) == []
    assert "| 1 | ASVS 1 | It is so. | **met** | [it is so](../tests/test_x.py) |" in requirements_table(evidence())


@pytest.mark.parametrize(
    ("source", "requirement", "complaint"),
    [
        (SHOWN.replace("requirement(1)", "requirement(2)"), ROW, "row 1 has neither a test nor an honest mark"),
        (
            SHOWN.replace("requirement(1)", "requirement(1, 2)"),
            ROW,
            "tests/test_x.py: test_it_is_so names 2, which there is not",
        ),
        (SHOWN.replace("them-1", "them-2"), ROW, "tests/test_x.py: test_it_is_so names 'them-2', which there is not"),
        (SHOWN.replace("them-1", "them-2"), ROW, "nothing would have caught them-1"),
        (SHOWN, attrs.evolve(ROW, verdict="not applicable"), "row 1 is called not applicable without a reason"),
        (SHOWN, attrs.evolve(ROW, verdict="met"), "row 1 has the verdict 'met'; that it is met is for tests to say"),
        (SHOWN, attrs.evolve(ROW, reason="because"), "row 1 has a reason and no verdict that it is for"),
        (SHOWN, attrs.evolve(ROW, row=2), "the rows are not counted from 1 on: [2]"),
        (
            SHOWN,
            attrs.evolve(ROW, verdict="not met", reason="because"),
            "row 1 is called not met, and test_it_is_so shows it: is it partly met?",
        ),
        (
            "",
            attrs.evolve(ROW, verdict="partly", reason="because"),
            "row 1 is called partly met, and no test shows a part",
        ),
        (f"@pytest.mark.skip{SHOWN}", ROW, "tests/test_x.py: test_it_is_so shows nothing: it is not run"),
        (
            f"pytestmark = [pytest.mark.xfail(reason='x')]{SHOWN}",
            ROW,
            "tests/test_x.py: test_it_is_so shows nothing: it is not run",
        ),
    ],
)
def test_what_is_not_in_order_is_said(source: str, requirement: Requirement, complaint: str) -> None:
    assert complaint in complaints(evidence(source, requirement=requirement))


CONTRACT = "class ThingContract:\n    @pytest.mark.requirement(7)\n    def test_a(self): ...\n"


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        ({"a/test_x.py": "def test_a(): ...\ndef helper(): ..."}, ["test_a"]),
        ({"a/helpers.py": "def test_a(): ..."}, []),
        ({"a/contract.py": CONTRACT}, []),
        ({"a/contract.py": CONTRACT, "b/test_x.py": "class TestX(ThingContract): ..."}, ["test_a"]),
        ({"a/contract.py": CONTRACT, "b/test_x.py": "class TestX(module.ThingContract): ..."}, ["test_a"]),
        (
            {
                "a/contract.py": CONTRACT,
                "b/more.py": "class More(ThingContract):\n    def test_b(self): ...",
                "b/test_x.py": "class TestX(More): ...\nclass TestY(More): ...",
            },
            ["test_a", "test_b"],
        ),
    ],
)
def test_a_test_counts_once_and_where_it_is_run(sources: Mapping[str, str], found: Sequence[str]) -> None:
    assert [test.name for test in find_tests(sources)] == found


@pytest.mark.parametrize(
    "source",
    [
        "@pytest.mark.requirement(7)\ndef test_a(): ...",
        "@pytest.mark.requirement(7)\n@pytest.mark.parametrize('x', [1])\ndef test_a(x): ...",
        "pytestmark = pytest.mark.requirement(7)\ndef test_a(): ...",
        "pytestmark = [pytest.mark.parametrize('x', [1]), pytest.mark.requirement(7)]\ndef test_a(x): ...",
        "@pytest.mark.requirement(7)\nclass TestA:\n    def test_a(self): ...",
        "import pytest as p\n@p.mark.requirement(7)\ndef test_a(): ...",
    ],
)
def test_a_mark_counts_wherever_it_stands(source: str) -> None:
    (test,) = find_tests({"test_x.py": source})
    assert test.claims("requirement") == [7]


def test_verdicts_are_counted_and_those_that_are_not_met_are_named() -> None:
    rows = [ROW, attrs.evolve(ROW, row=2, verdict="not applicable", reason="There is none."), attrs.evolve(ROW, row=3)]
    found = verdicts(attrs.evolve(evidence(), requirements=rows))
    assert found == "Of 3 rows: 1 met; 1 not met (3); 1 not applicable (2). 1 tests stand behind them.\n"


def test_a_page_without_a_place_for_a_part_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for verdicts"):
        fill("", {"verdicts": ""})


@pytest.mark.parametrize(("alike", "said"), [(True, "| alike |"), (False, "| **can be told apart** |")])
def test_what_can_be_told_apart_is_said(*, alike: bool, said: str) -> None:
    compared = {"difference_ms": 0.5, "low_ms": -1.0, "high_ms": 2.0, "p": 0.25, "alike": alike}
    known: dict[str, Any] = {"title": "known", "samples": 2000, "median_ms": 21.5}
    timing = {
        "circumstances": {"began": "2026-11-25T16:00:00+00:00", "commit": "abc", "cores": 2, "processor": "x"},
        "questions": [{"title": "log-in", "variants": [known, {**known, "title": "unknown", "compared": compared}]}],
    }
    found = timing_table(timing)
    assert "| log-in | known | 2,000 | 21.500 | – | – | – | the one to compare with |" in found
    assert "| log-in | unknown | 2,000 | 21.500 | +0.500 | -1.000 to +2.000 | 0.250 " + said in found
    assert "Not measured yet" in timing_table(None)
