"""How fast the service is, beside what the machine allows, and beside other services.

    make bench [ARGS="--quick"]
    make bench-peers [ARGS="--quick"]

Measures on this machine and its loopback alone, in some 6 minutes where it has nothing else to do, in 15 where it has. What is
compared is measured in turns, and again where others took too much of the machine meanwhile. A whole run keeps its figures in
bench/results/ and puts them in docs/performance.md; a quick one, or one of some steps only, shows them and keeps nothing.

wrk and redis-server must be on the PATH, and node and npm for `make bench-peers`.
"""

import argparse
import signal
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

from bench.performance import page, picture
from bench.performance.errors import BenchError
from bench.performance.figures import Step
from bench.performance.goals import read_scale, verdicts
from bench.performance.peers.services import PEERS, TITLES, need_peers
from bench.performance.results import FOLDER, Circumstances, Results
from bench.performance.servers import need
from bench.performance.services import pickguard
from bench.performance.stage import QUICK, Pace, Stage
from bench.performance.steps import STEPS, with_peers
from bench.performance.telling import say

OWN: Final = FOLDER / "performance.json"
OTHERS: Final = FOLDER / "peers.json"
PEER_STEPS: Final = ("read", "log-in", "storm", "start")


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m bench.performance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--quick", action="store_true", help="few runs, and short ones: to try it out, in two minutes")
    options.add_argument(
        "--only",
        action="append",
        choices=list(STEPS),
        metavar="STEP",
        help=f"only this step, of {', '.join(STEPS)}; may be repeated",
    )
    options.add_argument(
        "--peers", action="store_true", help=f"measure the others too; their steps are {', '.join(PEER_STEPS)}"
    )
    options.add_argument(
        "--keep", action="store_true", help="keep the figures even so, in place of the last ones of these steps"
    )
    options.add_argument("--page", action="store_true", help="measure nothing, write the page from the figures that are kept")
    given = options.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        if not given.page:
            known = PEER_STEPS if given.peers else tuple(STEPS)
            names = [name for name in known if name in (given.only or known)]
            measured = measure(QUICK if given.quick else Pace(), names, peers=given.peers)
            keep = given.keep or not (given.quick or given.only)
            show(measured, peers=given.peers)
            if not keep:
                return
            path = OTHERS if given.peers else OWN
            before = Results.read(path)
            (measured.over(before) if before else measured).write(path)
            say(f"the figures are in {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
        write_page()
    except BenchError as error:
        raise SystemExit(f"bench: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("bench: interrupted; what was started is stopped, and nothing is kept") from None


def _stop(*_: object) -> NoReturn:
    """End as asked, and in order: what was started is stopped, even for somebody who asks once more meanwhile."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def measure(pace: Pace, names: Sequence[str], *, peers: bool) -> Results:
    """Run the steps of these names, one after the other."""
    need("wrk", "redis-server", "taskset", *(["node"] if peers else []))
    if peers:
        need_peers()
    began = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="pickguard-bench-") as directory, Stage(pace, Path(directory)) as stage:
        taken = dict(with_peers(stage, PEERS, names) if peers else own_steps(stage, names))
        versions = stage.versions()
    return Results(circumstances=Circumstances.now(began, versions), steps=taken)


def own_steps(stage: Stage, names: Sequence[str]) -> Iterator[tuple[str, Step]]:
    service = pickguard()
    say("registering people")
    with stage.serving(service, cores=stage.both) as served:
        people = stage.people(service, served)
    for name in names:
        yield name, STEPS[name](stage, people)


def show(results: Results, *, peers: bool) -> None:
    """Print what was measured, as it would stand in the page."""
    made = page.parts(results, results if peers else None, TITLES, verdicts(results, read_scale()))
    print(*(made[name] for name in ("table", "loads", "costs", "circumstances")), sep="\n")
    if not peers:
        print(made["goals"])


def write_page() -> None:
    """Put the figures that are kept into the page."""
    own, others = Results.read(OWN), Results.read(OTHERS)
    if own is None:
        raise BenchError("no figures are kept yet: `make bench` measures them")
    made = page.parts(own, others, TITLES, verdicts(own, read_scale()))
    page.PAGE.write_text(page.fill(page.PAGE.read_text(), made))
    page.PICTURE.write_text(picture.draw(page.rows(own, others, TITLES), own))
    say("docs/performance.md is written")


if __name__ == "__main__":
    main()
