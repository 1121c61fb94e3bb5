"""The steps of a measurement. Each gives rounds in which its variants had their turn, one after the other."""

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import attrs

from bench.performance import proc
from bench.performance.errors import BenchError
from bench.performance.figures import Run, Step
from bench.performance.log_ins import storm
from bench.performance.servers import running, trusting, wait_until_ready
from bench.performance.services import CEILING, ROOT, Program, Service, pickguard
from bench.performance.stage import CONNECTIONS, People, Running, Stage
from bench.performance.telling import say
from bench.performance.wrk import Flood

WARM_UP_SECONDS: Final = 1
SETTLING_SECONDS: Final = 0.5
STORM: Final = 8
"""How many log-ins are under way in a storm: enough to keep every core busy with hashes."""
CROWD: Final = 64
"""How many are under way when there are more than can be served in time."""
FLOOD_CONNECTIONS: Final = 256
WORKERS_CONNECTIONS: Final = 64


@attrs.frozen(kw_only=True)
class Contender:
    """A service that runs and has people."""

    service: Service
    served: Running
    people: People

    def flood(self, connections: int = CONNECTIONS) -> Flood:
        return self.served.flood(self.service.read, self.people, connections)


# One at a time: what a contender does under some load.


def warm_up(stage: Stage, floods: Iterable[Flood]) -> None:
    """Read for a moment, so that every connection is there and every branch was taken once."""
    for flood in floods:
        flood.run(WARM_UP_SECONDS, core=stage.second)


def hash_alone(stage: Stage) -> Run:
    """Verify passwords where the service runs, without it."""
    foreign = proc.Foreign()
    command = ["taskset", "-c", str(stage.first), sys.executable, "-m", "bench.performance.raw_hashing"]
    seconds = str(stage.pace.log_in_seconds)
    done = subprocess.run([*command, seconds], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"hashing failed: {done.stderr.strip().splitlines()[-1]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return {**figures, "foreign": foreign.cores()}


def log_in_only(stage: Stage, contender: Contender) -> Run:
    """Keep log-ins under way, and return how many were served and what each cost."""
    session = contender.served.server.session
    foreign, before = proc.Foreign(), proc.session_seconds(session)
    with storm(contender.served.log_ins(contender.service, contender.people), STORM, core=stage.second) as under_way:
        time.sleep(SETTLING_SECONDS)
        began = time.perf_counter()
        time.sleep(stage.pace.log_in_seconds)
        ended = time.perf_counter()
        seen = under_way.end()
    cpu = proc.session_seconds(session) - before
    cores = foreign.cores()
    done = seen.between(0, float("inf"))["log_ins"]
    if not done:
        raise contender.served.server.failure(f"{contender.service.name} let nobody log in")
    return {**seen.between(began, ended), "cpu_ms": 1000 * cpu / done, "foreign": cores}


def read_in_storm(stage: Stage, contender: Contender, *, log_ins: int, connections: int = CONNECTIONS) -> Run:
    """Read while so many log in, and return what became of both."""
    job = contender.served.log_ins(contender.service, contender.people)
    with storm(job, log_ins, core=stage.second) as under_way:
        time.sleep(SETTLING_SECONDS)
        began = time.perf_counter()
        run = stage.reads(contender.served, contender.flood(connections))
        ended = time.perf_counter()
        memory = proc.resident(contender.served.server.session)
        seen = under_way.end()
    return {**run, **seen.between(began, ended), "rss": memory}


def start(stage: Stage, program: Program) -> Run:
    """Start a program, and return the seconds until it answered and what it then has in memory."""
    place = stage.place(program.database)
    foreign, began = proc.Foreign(), time.perf_counter()
    with running(
        program.command(place),
        cores=str(stage.first),
        log=place.directory / "log",
        environment=program.environment(place),
        cwd=program.cwd,
    ) as server:
        wait_until_ready(server, place.port, program.ready, tls=program.tls)
        seconds = time.perf_counter() - began
        cores = foreign.cores()
        time.sleep(1)
        return {
            "seconds": seconds,
            "rss": proc.resident(server.session),
            "pss": proc.proportional(server.session),
            "foreign": cores,
        }


def resumes(port: int, path: str, version: ssl.TLSVersion) -> bool:
    """Tell whether a second connection takes up the TLS session of a first one. Where the version is refused, none does."""
    with contextlib.suppress(ssl.SSLError):
        return _resumes(port, path, version)
    return False


def _resumes(port: int, path: str, version: ssl.TLSVersion) -> bool:
    context = trusting()
    context.minimum_version = context.maximum_version = version
    session, reused = None, False
    for _ in range(2):
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
        with contextlib.closing(connection):
            if session is not None:
                # http.client has no way to hand a session on, so the socket is made as it would make it.
                connection.sock = _resuming(port, context, session)
            connection.request("GET", path)
            connection.getresponse().read()
            # The ticket of TLS 1.3 comes with the first answer.
            tls = connection.sock
            assert isinstance(tls, ssl.SSLSocket)
            session, reused = tls.session, bool(tls.session_reused)
    return reused


def _resuming(port: int, context: ssl.SSLContext, session: ssl.SSLSession) -> ssl.SSLSocket:
    return context.wrap_socket(
        socket.create_connection(("127.0.0.1", port), timeout=5), server_hostname="127.0.0.1", session=session
    )


# In turns.


def read(stage: Stage, people: People) -> Step:
    """An authenticated read, beside the ceiling with and without a GET from Redis."""
    service = pickguard()
    with stage.serving_ceiling(people) as ceiling, stage.serving(service) as served:
        floods = {"pickguard": (served, served.flood(service.read, people)), **ceiling_floods(ceiling, people)}
        return in_turns(stage, "reads", floods)


def ceiling_floods(ceiling: Running, people: People) -> dict[str, tuple[Running, Flood]]:
    """Return reads of all that the ceiling has to offer."""
    paths = {"ceiling": "/json", "get": "/get", "mget": "/mget"}
    return {name: (ceiling, ceiling.flood(path, people)) for name, path in paths.items()}


def in_turns(stage: Stage, title: str, floods: Mapping[str, tuple[Running, Flood]]) -> Step:
    """Read from each of several in turns."""
    warm_up(stage, (flood for _, flood in floods.values()))
    variants = {name: partial(all_served, stage, served, flood) for name, (served, flood) in floods.items()}
    return stage.rounds(title, stage.pace.rounds, variants, show_reads)


def all_served(stage: Stage, served: Running, flood: Flood) -> Run:
    """Read where nothing is in the way: a read that fails says that something else was measured."""
    run = stage.reads(served, flood)
    if run["reads_failed"]:
        raise served.server.failure(f"{served.program.name} failed {run['reads_failed']:.0f} reads of {flood.url}")
    return run


def log_in(stage: Stage, people: People) -> Step:
    """Log-ins on one core, beside the hash alone."""
    service = pickguard()
    with stage.serving(service) as served:
        contender = Contender(service=service, served=served, people=people)
        variants = {"raw": partial(hash_alone, stage), "pickguard": partial(log_in_only, stage, contender)}
        return stage.rounds("log-ins on one core", stage.pace.storm_rounds, variants, show_log_ins)


def storm_on(cores: int, stage: Stage, people: People) -> Step:
    """Reads alone, in a storm of log-ins, in one that is more than can be served, and as a flood beside log-ins."""
    service = pickguard()
    with stage.serving(service, cores=stage.both if cores > 1 else "") as served:
        contender = Contender(service=service, served=served, people=people)
        warm_up(stage, [contender.flood()])
        variants: dict[str, Callable[[], Run]] = {
            "calm": partial(stage.reads, served, contender.flood()),
            "storm": partial(read_in_storm, stage, contender, log_ins=STORM),
            "crowd": partial(read_in_storm, stage, contender, log_ins=CROWD),
        }
        if cores == 1:
            variants["flood"] = partial(read_in_storm, stage, contender, log_ins=STORM, connections=FLOOD_CONNECTIONS)
        title = f"reads and log-ins on {'one core' if cores == 1 else 'two cores'}"
        return stage.rounds(title, stage.pace.storm_rounds, variants, show_storm)


def starts(stage: Stage, _: People) -> Step:
    """From the start of the process to the first answer, and the memory then."""
    programs = {"ceiling": CEILING, "pickguard": pickguard(), "embedded": pickguard(embedded=True)}
    return start_in_turns(stage, programs)


def start_in_turns(stage: Stage, programs: Mapping[str, Program]) -> Step:
    """Start each of several in turns, once more than is counted: the first time fills the cache of pages."""
    for program in programs.values():
        start(stage, program)
    variants = {name: partial(start, stage, program) for name, program in programs.items()}
    return stage.rounds("starts", stage.pace.starts, variants, show_start)


def tls(stage: Stage, people: People) -> Step:
    """Reads over TLS on connections that stay, beside plain ones; and whether TLS sessions are taken up again."""
    plain, secure = pickguard(), pickguard(tls=True)
    with stage.serving(plain) as plainly, stage.serving(secure) as securely:
        step = in_turns(
            stage,
            "reads over TLS",
            {
                "plain": (plainly, plainly.flood(plain.read, people)),
                "tls": (securely, securely.flood(secure.read, people)),
            },
        )
        versions = {"resumes_1_2": ssl.TLSVersion.TLSv1_2, "resumes_1_3": ssl.TLSVersion.TLSv1_3}
        port = securely.place.port
        resumed = {name: float(resumes(port, secure.ready, version)) for name, version in versions.items()}
        return attrs.evolve(step, rounds=[{**each, "tls": {**each["tls"], **resumed}} for each in step.rounds])


def workers(stage: Stage, people: People) -> Step:
    """Reads from one worker and from two, with both cores to run on."""
    one, two = pickguard(), pickguard("--workers", "2")
    with stage.serving(one, cores=stage.both) as alone, stage.serving(two, cores=stage.both) as together:
        floods = {
            "1": (alone, alone.flood(one.read, people, WORKERS_CONNECTIONS)),
            "2": (together, together.flood(two.read, people, WORKERS_CONNECTIONS)),
        }
        return in_turns(stage, "reads from one worker and from two", floods)


STEPS: Final[Mapping[str, Callable[[Stage, People], Step]]] = {
    "read": read,
    "log-in": log_in,
    "storm": partial(storm_on, 1),
    "storm-two": partial(storm_on, 2),
    "start": starts,
    "tls": tls,
    "workers": workers,
}


def with_peers(stage: Stage, peers: Sequence[Service], wanted: Collection[str]) -> Iterator[tuple[str, Step]]:
    """This service and others, each in its turn: the same steps, with a variant for each of them."""
    services = [pickguard(), *peers]
    with contextlib.ExitStack() as stack:
        contenders = {}
        for service in services:
            say(f"registering people at {service.name}")
            served = stack.enter_context(stage.serving(service))
            people = stage.people(service, served)
            contenders[service.name] = Contender(service=service, served=served, people=people)
        if "read" in wanted:
            people = contenders["pickguard"].people
            ceiling = stack.enter_context(stage.serving_ceiling(people))
            floods = {name: (each.served, each.flood()) for name, each in contenders.items()}
            yield "read", in_turns(stage, "reads", {**floods, **ceiling_floods(ceiling, people)})
        if "log-in" in wanted:
            logging_in = {name: partial(log_in_only, stage, each) for name, each in contenders.items()}
            variants = {"raw": partial(hash_alone, stage), **logging_in}
            yield "log-in", stage.rounds("log-ins on one core", stage.pace.storm_rounds, variants, show_log_ins)
        if "storm" in wanted:
            storms = {name: partial(read_in_storm, stage, each, log_ins=STORM) for name, each in contenders.items()}
            yield "storm", stage.rounds("reads in a storm", stage.pace.storm_rounds, storms, show_storm)
    if "start" in wanted:
        yield "start", start_in_turns(stage, {program.name: program for program in (CEILING, *services)})


# For a person who waits.


def show_reads(run: Run) -> str:
    return f"{run['cpu_ms']:.3f} ms of processor time a read, {run['rps']:,.0f} reads/s, p99 {run['p99']:.1f} ms"


def show_log_ins(run: Run) -> str:
    if "log_ins" not in run:
        return f"{run['log_in_rate']:.1f} hashes/s, {run['cpu_ms']:.2f} ms of processor time each"
    refused = f", {run['refused']:.0f} refused" if run["refused"] else ""
    return f"{run['log_in_rate']:.1f} log-ins/s, {run['cpu_ms']:.2f} ms of processor time each{refused}"


def show_storm(run: Run) -> str:
    reads = f"{run['rps']:,.0f} reads/s, p99 {run['p99']:.1f} ms"
    if run["reads_failed"]:
        reads += f", {run['reads_failed']:.0f} failed"
    if "log_in_rate" not in run:
        return reads
    refused = f", {run['refused']:.0f} refused within {run['refused_max']:.0f} ms" if run["refused"] else ""
    return f"{reads}, {run['log_in_rate']:.1f} log-ins/s{refused}"


def show_start(run: Run) -> str:
    return f"{run['seconds']:.2f} s, {run['rss']:.0f} MiB"
