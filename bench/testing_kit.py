"""What a test pays for the testing kit: ``python -m bench.testing_kit`` prints the table of docs/testing.md, in seconds."""

import subprocess
import sys
import time
from collections.abc import Callable

from pickguard.testing import make_account_service

ROUNDS = 7


def microseconds(work: Callable[[], object], times: int) -> float:
    """Return the processor time of one call in the best of some rounds: what disturbs a round only ever makes it longer."""
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(times):
            work()
        taken.append((time.process_time() - began) / times * 1e6)
    return min(taken)


def import_of_the_plugin() -> float:
    """Return how many microseconds every run of pytest pays where the package is installed, in a fresh interpreter."""
    program = "import time, pytest; b = time.process_time(); import pickguard_pytest; print((time.process_time() - b) * 1e6)"
    return min(float(subprocess.check_output([sys.executable, "-c", program])) for _ in range(ROUNDS))


def main() -> None:
    accounts = make_account_service()
    numbers = iter(range(10**9))
    rows = [
        ("an account service in memory", microseconds(make_account_service, 300)),
        ("a user with one session and its token", microseconds(accounts.user, 1000)),
        ("the same, at an address of one's own", microseconds(lambda: accounts.user(f"one{next(numbers)}@example.com"), 1000)),
        ("a user with ten sessions", microseconds(lambda: accounts.user(sessions=10), 300)),
    ]
    rows.append(("the plugin, in a run of pytest that uses none of it", import_of_the_plugin()))
    for what, taken in rows:
        print(f"| {what} | {taken:.0f} µs |")


if __name__ == "__main__":
    main()
