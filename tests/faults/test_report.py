"""The tallies, and the tables that are made of them."""

from pathlib import Path

from tests.faults.report import tables
from tests.support.tally import ACKNOWLEDGED, FALSE_REFUSAL, LOST, VIOLATIONS, Tally


def test_tallies_of_one_fault_are_added_up_and_unsafe_settings_stand_apart(tmp_path: Path) -> None:
    report = tmp_path / "report"
    for kills, seconds in ((2, 0.5), (3, 1.25)):
        tally = Tally()
        tally.fault, tally.engine = "server killed", "Valkey 9.1.2"
        tally.count("kills", kills)
        tally.count(ACKNOWLEDGED, 1000)
        tally.took(seconds)
        tally.write(report)
    unsafe = Tally()
    unsafe.fault, unsafe.engine, unsafe.may_lose = "power cut", "Redis 7.0.15", True
    unsafe.violation(LOST, "the name of Ada")
    unsafe.write(report)
    operations = "Acknowledged | Rightly refused | Refused with 503 | Of unknown outcome"
    headings = " | ".join(kind.capitalize() for kind in VIOLATIONS)
    assert tables(report.read_text().splitlines()).splitlines() == [
        f"| Fault | Engine | How often | {operations} | Slowest call |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
        "| power cut | Redis 7.0.15 |  | 0 | 0 | 0 | 0 | 0.00 s |",
        "| server killed | Valkey 9.1.2 | 5 kills | 2,000 | 0 | 0 | 0 | 1.25 s |",
        "",
        f"| Fault | Engine | {headings} |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        "| server killed | Valkey 9.1.2 | 0 | 0 | 0 | 0 | 0 |",
        "| **all** |  | **0** | **0** | **0** | **0** | **0** |",
        "",
        f"| Fault | Engine | {headings} |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        "| power cut | Redis 7.0.15 | 1 | 0 | 0 | 0 | 0 |",
    ]


def test_what_must_not_be_is_in_the_sum(tmp_path: Path) -> None:
    tally = Tally()
    tally.fault, tally.engine = "server killed", "Valkey 9.1.2"
    tally.violation(FALSE_REFUSAL, "a token")
    tally.write(tmp_path / "report")
    assert "| **all** |  | **0** | **0** | **0** | **1** | **0** |" in tables([(tmp_path / "report").read_text()])
