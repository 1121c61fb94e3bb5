"""How fast the service is, beside what the machine allows.

    make bench [ARGS="--quick"]

Measures the service and the ceiling in turns, on this machine and its loopback alone. wrk and redis-server must be on the PATH.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from bench.performance.errors import BenchError
from bench.performance.servers import need
from bench.performance.services import pickguard
from bench.performance.stage import QUICK, Pace, Stage
from bench.performance.steps import STEPS
from bench.performance.telling import say


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="short runs, and few: to try it out, within two minutes")
    options.add_argument("--only", action="append", choices=list(STEPS), metavar="STEP", help=f"one of {', '.join(STEPS)}")
    given = options.parse_args()
    # Stopped by a signal, it stops what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        need("wrk", "redis-server", "taskset")
        with tempfile.TemporaryDirectory(prefix="pickguard-bench-") as directory:
            measure(Path(directory), QUICK if given.quick else Pace(), given.only or list(STEPS))
    except BenchError as error:
        raise SystemExit(f"bench: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("bench: interrupted; everything that was started is stopped") from None


def measure(directory: Path, pace: Pace, names: list[str]) -> None:
    service = pickguard()
    with Stage(pace, directory) as stage:
        say("registering people")
        with stage.serving(service, cores=stage.both) as served:
            people = stage.people(service, served)
        for name in names:
            step = STEPS[name](stage, people)
            for variant in step.variants:
                print(variant, step.figure(variant, "cpu_ms").shown(3), step.figure(variant, "rps").shown(0))


if __name__ == "__main__":
    main()
