"""The tallies, and the tables that are made of them."""

from pathlib import Path

import pytest

from tests.faults.report import tables
from tests.support.tally import ACKNOWLEDGED, LOST, VIOLATIONS, Tally


def test_tallies_of_one_fault_are_added_up_and_unsafe_settings_stand_apart(tmp_path: Path) -> None:
    report = tmp_path / "report"
    for kills, seconds in ((2, 0.5), (3, 1.25)):
        tally = Tally()
        tally.fault, tally.engine = "server killed", "Valkey 9.1.2"
        tally.count("kills", kills)
        tally.count(ACKNOWLEDGED, 1000)
        tally.count("accounts checked", 7)
        tally.took(seconds)
        tally.write(report)
    unsafe = Tally()
    unsafe.fault, unsafe.engine, unsafe.may_lose = "power cut", "Redis 7.0.15", True
    unsafe.violation(LOST, "the name of Ada")
    unsafe.write(report)
    heads = "Fault | How often | Acknowledged | Answered 503 | Outcome unknown | Slowest call"
    judged = "Acknowledged and lost | Half done | Answered falsely"
    rule = "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert tables(report.read_text().splitlines()).splitlines() == [
        f"| {heads} | {judged} |",
        rule,
        "| server killed | 5 kills | 2,000 | 0 | 0 | 1.25 s | 0 | 0 | 0 |",
        "| **all** | 14 accounts looked at, key by key | 2,000 | 0 | 0 | 1.25 s | 0 | 0 | 0 |",
        "",
        f"| {heads} | {judged} |",
        rule,
        "| power cut |  | 0 | 0 | 0 |  | 1 | 0 | 0 |",
        "",
        "Engines: Redis 7.0.15, Valkey 9.1.2.",
    ]


@pytest.mark.parametrize("kind", VIOLATIONS)
def test_what_must_not_be_is_in_the_table_and_in_the_sum(kind: str, tmp_path: Path) -> None:
    tally = Tally()
    tally.fault, tally.engine = "server killed", "Valkey 9.1.2"
    tally.violation(kind, "a token")
    tally.write(tmp_path / "report")
    _, _, row, total, *_ = tables([(tmp_path / "report").read_text()]).splitlines()
    for line in (row, total):
        assert sorted(cell.strip() for cell in line.split("|")[-4:-1]) == ["0", "0", "1"]
