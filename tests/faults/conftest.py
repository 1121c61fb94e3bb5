"""What the tests of faults share: how much they do, what they draw by lot, and the tally of what they did.

```
PICKGUARD_FAULT_ROUNDS   how many times over; 1, unless told otherwise, is what CI does
PICKGUARD_FAULT_SEED     what the lots are drawn from; printed at the beginning, and with what fails
PICKGUARD_FAULT_REPORT   a file to add the tallies to, for `python -m tests.faults.report FILE`
```
"""

import os
import secrets
from collections.abc import Generator
from pathlib import Path
from random import Random

import pytest

from tests.support.tally import Tally

# In the environment, so that the processes of xdist, which are started from here, draw from the same one.
SEED = os.environ.setdefault("PICKGUARD_FAULT_SEED", str(secrets.randbelow(1 << 32)))
ROUNDS = int(os.environ.get("PICKGUARD_FAULT_ROUNDS", "1"))
REPORT = os.environ.get("PICKGUARD_FAULT_REPORT")


def pytest_report_header() -> str:
    return f"faults: {ROUNDS} rounds, PICKGUARD_FAULT_SEED={SEED}"


@pytest.fixture
def rounds() -> int:
    return ROUNDS


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    """Lots that depend on the seed and the test alone. The scheduler draws lots too: a run is repeated nearly."""
    print(f"PICKGUARD_FAULT_SEED={SEED}")  # noqa: T201 (shown with what fails)
    return Random(f"{SEED} {request.node.name}")


@pytest.fixture
def tally() -> Generator[Tally]:
    tally = Tally()
    yield tally
    if REPORT and tally.fault:
        tally.write(Path(REPORT))
