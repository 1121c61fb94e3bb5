"""What a test of faults did, and what came of it: counted, judged, and written down for `tests.faults.report`."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

ACKNOWLEDGED: Final = "operations acknowledged"
RIGHTLY_REFUSED: Final = "operations rightly refused"
UNAVAILABLE: Final = "operations refused with 503"
UNKNOWN: Final = "operations of unknown outcome"

LOST: Final = "acknowledged writes lost"
BROKEN: Final = "broken invariants"
IMPOSSIBLE: Final = "impossible states"
FALSE_REFUSAL: Final = "false refusals"
FALSE_SUCCESS: Final = "false successes"

VIOLATIONS: Final = (LOST, BROKEN, IMPOSSIBLE, FALSE_REFUSAL, FALSE_SUCCESS)
"""What must be 0, whatever fault there was."""

_SHOWN = 20


class Tally:
    """Counts, by name. `fault` and `engine` say of what; a tally without a fault is not written down.

    `may_lose` is for a configuration that loses what it acknowledged: to know when, and to prove that a loss would be seen.
    """

    def __init__(self) -> None:
        self.fault = ""
        self.engine = ""
        self.may_lose = False
        self.counts: Counter[str] = Counter()
        self.details: list[str] = []
        self.slowest = 0.0

    def count(self, what: str, times: int = 1) -> None:
        """Add to one of the counts."""
        self.counts[what] += times

    def violation(self, kind: str, detail: str) -> None:
        """Note what must not be, one of `VIOLATIONS`."""
        self.counts[kind] += 1
        self.details.append(f"{kind}: {detail}")

    def took(self, seconds: float) -> None:
        """Note how long a call took."""
        self.slowest = max(self.slowest, seconds)

    def violations(self) -> Mapping[str, int]:
        """Return how often there was what must not be."""
        return {kind: self.counts[kind] for kind in VIOLATIONS if self.counts[kind]}

    def assert_clean(self) -> None:
        """Fail where anything was not as it must be."""
        assert not self.violations(), "\n".join([str(dict(self.counts)), *self.details[:_SHOWN]])

    def write(self, report: Path) -> None:
        """Append this to a report, as one line: several processes may write to one at once."""
        content = {
            "fault": self.fault,
            "engine": self.engine,
            "may_lose": self.may_lose,
            "slowest": round(self.slowest, 3),
            "counts": dict(self.counts),
        }
        with report.open("a") as lines:
            lines.write(json.dumps(content) + "\n")


async def engine_of(client: Any) -> str:
    """Return what a server calls itself, with its version."""
    about = await client.info("server")
    if "valkey_version" in about:
        return f"Valkey {about['valkey_version']}"
    return f"Redis {about['redis_version']}"
