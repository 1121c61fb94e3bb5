"""From the runs of `make bench` to medians, verdicts, and what stands in the page."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import attrs
import pytest

from bench.performance import page, picture
from bench.performance.figures import Figure, Run, Step
from bench.performance.goals import Limit, Verdict, judge, verdicts
from bench.performance.peers.services import PEERS, TITLES
from bench.performance.results import Circumstances, Results
from bench.performance.steps import STEPS

CIRCUMSTANCES = Circumstances(
    began="2026-11-22T10:00:00+00:00",
    ended="2026-11-22T10:09:00+00:00",
    commit="abc1234",
    processor="Some CPU",
    cores=2,
    system="Linux 6.1",
    versions={"CPython": "3.11.7"},
)
READS = {"reads_failed": 0, "p50": 1.0, "p99": 10.0, "rps": 8000.0, "cpu_ms": 0.12, "redis_us": 5.0, "redis_commands": 1.004}
LOG_INS = {
    "log_in_rate": 33.0,
    "log_in_p99": 200.0,
    "refused": 9,
    "refused_rate": 3.0,
    "refused_p99": 40.0,
    "without_retry_after": 0,
}
MEMORY = {"rss": 60.0, "pss": 50.0, "seconds": 0.5}


def step(*rounds: Mapping[str, Run], wanted: int = 1) -> Step:
    quiet = [{variant: {"foreign": 0.0, **run} for variant, run in each.items()} for each in rounds]
    return Step(taken="2026-11-22T10:00:00+00:00", wanted=wanted, rounds=quiet)


def results(**changed: Step) -> Results:
    """Return results in which every goal is met, but for what is changed."""
    storms = {"calm": READS, "storm": READS | LOG_INS | MEMORY, "crowd": READS | LOG_INS | MEMORY}
    steps = {
        "read": step({"ceiling": READS | {"rps": 10_000.0, "cpu_ms": 0.1}, "pickguard": READS, "get": READS, "mget": READS}),
        "log-in": step({"raw": {"log_in_rate": 35.0, "cpu_ms": 28.0}, "pickguard": LOG_INS | {"cpu_ms": 30.0}}),
        "storm": step(storms | {"flood": READS | LOG_INS | MEMORY}),
        "storm-two": step(storms),
        "start": step({"ceiling": MEMORY, "pickguard": MEMORY, "embedded": MEMORY}),
        "tls": step({"plain": READS, "tls": READS | {"cpu_ms": 0.14, "resumes_1_2": 1.0, "resumes_1_3": 1.0}}),
        "workers": step({"1": READS, "2": READS}),
    }
    return Results(circumstances=CIRCUMSTANCES, steps={**steps, **changed})


SCALE: list[dict[str, object]] = [
    {"mix": "one session", "accounts": 1000, "total_bytes": 590.0},
    {"accounts": 10_000, "total_bytes": 580.0},
]


def verdict(found: Sequence[Verdict], what: str) -> Verdict:
    [only] = [each for each in found if what in each.what]
    return only


def test_a_figure_is_the_median_with_what_it_lies_between() -> None:
    assert Figure.of([3, 1, 2]) == Figure(median=2, low=1, high=3)
    assert Figure.of([0.1312, 0.128, 0.1399]).shown(3) == "0.131 (0.128–0.140)"
    assert Figure.of([12_345.0]).shown(0) == "12,345"
    assert Figure.of([0.2501, 0.2502]).shown(2) == "0.25"


def test_the_quietest_rounds_count() -> None:
    loud = {"a": {"value": 100.0, "foreign": 0.9}, "b": {"value": 1.0, "foreign": 0.0}}
    quiet = [{"a": {"value": float(value)}, "b": {"value": 2.0}} for value in (4, 6, 8)]
    taken = step(loud, *quiet, wanted=3)
    assert taken.figure("a", "value") == Figure(median=6, low=4, high=8)
    assert taken.ratio("value", "a", "b") == Figure(median=3, low=2, high=4)
    assert taken.foreign.high == 0


def test_every_goal_is_met_by_figures_that_are_good_enough() -> None:
    found = verdicts(results(), SCALE)
    assert [each for each in found if not each.met] == []
    assert {each.goal for each in found} == set(range(1, 8))


@pytest.mark.parametrize(
    ("name", "variant", "worse", "what"),
    [
        ("read", "pickguard", {"rps": 7900.0}, "reads/s"),
        ("read", "pickguard", {"cpu_ms": 0.13}, "processor time of a read, in ceilings"),
        ("read", "pickguard", {"redis_commands": 2.0}, "Redis commands"),
        ("log-in", "pickguard", {"log_in_rate": 32.0}, "of hashes/s alone"),
        ("log-in", "pickguard", {"cpu_ms": 30.6}, "besides the hash"),
        ("storm-two", "storm", {"p99": 30.5}, "of that in calm"),
        ("storm-two", "storm", {"p99": 30.5}, "of a read in a storm on two cores"),
        ("storm", "storm", {"p99": 61.0}, "p99 of a read in a storm on one core"),
        ("storm", "storm", {"reads_failed": 1}, "p99 of a read in a storm on one core"),
        ("storm", "storm", {"log_in_rate": 11.9}, "log-ins/s in a storm"),
        ("storm", "crowd", {"refused_p99": 101.0}, "refusals in a storm on one core"),
        ("storm-two", "crowd", {"without_retry_after": 1}, "refusals in a storm on two cores"),
        ("storm", "flood", {"log_in_rate": 0.0}, "under a flood"),
        ("start", "pickguard", {"rss": 71.0}, "idle worker"),
        ("storm-two", "crowd", {"rss": 111.0}, "after a storm"),
        ("start", "pickguard", {"seconds": 0.61}, "external store"),
        ("start", "embedded", {"seconds": 1.01}, "embedded store"),
        ("workers", "2", {"cpu_ms": 0.14}, "two workers"),
        ("tls", "tls", {"cpu_ms": 0.16}, "over TLS"),
        ("tls", "tls", {"resumes_1_3": 0.0}, "TLS 1.3"),
    ],
)
def test_one_figure_that_is_not_misses_its_goal(name: str, variant: str, worse: Mapping[str, float], what: str) -> None:
    [round_] = results().steps[name].rounds
    changed = {**round_, variant: {**round_[variant], **worse}}
    found = verdicts(results(**{name: step(changed)}), SCALE)
    assert verdict(found, what).shown == "**missed**"


def test_a_user_who_takes_more_bytes_among_more_users_misses_it() -> None:
    found = verdicts(results(), [*SCALE, {"mix": "one session", "accounts": 10**6, "total_bytes": 700.0}])
    assert verdict(found, "most of that to least").met is False
    assert verdict(found, "for a user with one session").figure == "590 (580–700) B"


def test_what_was_not_measured_has_no_verdict() -> None:
    found = verdicts(Results(circumstances=CIRCUMSTANCES, steps={}), [])
    assert {each.met for each in found} == {None}
    assert {each.shown for each in found} == {"not measured"}
    refused_nobody = step({"crowd": READS | LOG_INS | MEMORY | {"refused": 0, "refused_p99": 0.0}})
    assert verdict(verdicts(results(storm=refused_nobody), []), "refusals in a storm on one core").figure == "none was refused"


def test_a_limit_holds_for_the_median() -> None:
    figure = Figure(median=80, low=70, high=90)
    assert judge(1, "", figure, Limit(80, "%", least=True)).met is True
    assert judge(1, "", figure, Limit(79)).met is False
    assert str(Limit(0.6, "s", 2)) == "≤ 0.60 s"


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    results().write(path)
    assert Results.read(path) == results()
    assert Results.read(tmp_path / "other") is None
    later = Results(circumstances=CIRCUMSTANCES, steps={"read": step({"ceiling": READS})})
    assert later.over(results()).steps == {**results().steps, **later.steps}


def test_a_table_has_its_figures_at_the_right() -> None:
    assert page.table(("", "a"), [("first", "1"), ("x", "1,000")]) == (
        "|       |     a |\n| ----- | ----: |\n| first |     1 |\n| x     | 1,000 |\n"
    )


def test_a_part_goes_between_its_marks_and_nothing_else_changes() -> None:
    text = "before\n<!-- a: made by make bench -->\nold\n<!-- a: end -->\nafter <!-- b: made by make bench -->\n"
    once = page.fill(text, {"a": "| new |\n"})
    assert once == text.replace("old\n", "\n| new |\n\n")
    assert page.fill(once, {"a": "| new |\n"}) == once
    with pytest.raises(ValueError, match="no place for b"):
        page.fill(text, {"b": ""})


def test_the_page_has_a_place_for_each_part_and_the_heading_for_the_profile() -> None:
    made = page.parts(results(), None, TITLES, verdicts(results(), []))
    filled = page.fill(page.PAGE.read_text(), made)
    assert all(part in filled for part in made.values())
    assert "\n## Where the time goes\n" in filled


def peers(ended: str) -> Results:
    """Return what was measured of the others, and of this service beside them."""
    about = attrs.evolve(CIRCUMSTANCES, began="2026-11-22T09:00:00+00:00", ended=f"2026-11-22T{ended}:00+00:00")
    steps = {
        "read": step(dict.fromkeys([*page.OWN, *TITLES], READS | {"cpu_ms": 7.0})),
        "log-in": step({"raw": LOG_INS | {"log_in_rate": 36.0}, **dict.fromkeys(["pickguard", *TITLES], LOG_INS)}),
        "storm": step(dict.fromkeys(["pickguard", *TITLES], READS | {"p99": 900.0})),
    }
    return Results(circumstances=about, steps=steps)


def test_the_others_stand_in_the_table_of_this_service() -> None:
    compared = page.rows(results(), peers("10:30"), TITLES)
    text = page.comparison(compared)
    assert [line.split(" | ")[0].strip("| ") for line in text.splitlines()[2:]] == [*page.OWN.values(), *TITLES.values()]
    assert "36.0 hashes alone" in text
    drawn = ET.fromstring(picture.draw(compared, results()))
    shown = "".join(drawn.itertext())
    assert all(re.sub("[*`]", "", title) in shown for title in TITLES.values())


@pytest.mark.parametrize(
    ("ended", "cpu_ms", "p99", "said"),
    [("10:30", 7.0, 900.0, "All of one sitting"), ("09:30", 0.12, 10.0, "The first four rows")],
)
def test_the_table_is_of_one_sitting_unless_this_service_was_measured_later(
    ended: str, cpu_ms: float, p99: float, said: str
) -> None:
    own = {row.name: row for row in page.rows(results(), peers(ended), TITLES)}["pickguard"]
    assert own.figure("read", "cpu_ms") == Figure.of([cpu_ms])
    assert own.p99_in_storm == Figure.of([p99])
    assert said in page.parts(results(), peers(ended), TITLES, [])["table"]


def test_the_steps_have_verdicts_and_the_others_databases_of_their_own() -> None:
    assert set(results().steps) == set(STEPS)
    assert len({peer.database for peer in PEERS} | {0, 15}) == len(PEERS) + 2
