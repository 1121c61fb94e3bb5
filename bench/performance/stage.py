"""What all steps of a measurement share: cores, a Redis, people with accounts, and how long and how often to measure."""

import contextlib
import http.client
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final, Self

import attrs
import redis

from bench.performance import log_ins, proc
from bench.performance.ceiling import DOCUMENT, key_of
from bench.performance.errors import BenchError
from bench.performance.figures import QUIET, Run, Step, loudness
from bench.performance.servers import Server, free_port, redis_command, running, wait_until_ready
from bench.performance.services import CEILING, Place, Post, Program, Service, encoded
from bench.performance.telling import say
from bench.performance.wrk import Flood

READERS: Final = 32
CONNECTIONS: Final = 32
REGISTRATIONS_AT_ONCE: Final = 4


@attrs.frozen(kw_only=True)
class Pace:
    """How long and how often to measure.

    In each step, rounds are repeated for some seconds if the machine was not quiet. `patience` is how many seconds may pass in
    all with waiting until it is.
    """

    seconds: float = 4
    log_in_seconds: float = 5
    rounds: int = 5
    storm_rounds: int = 3
    starts: int = 5
    crowd: int = 192
    repeating_seconds: float = 40
    patience: float = 90


QUICK: Final = Pace(seconds=2, log_in_seconds=3, rounds=2, storm_rounds=1, starts=2, crowd=24, repeating_seconds=0, patience=10)


@attrs.frozen(kw_only=True)
class People:
    """Those who have accounts: some read, with a token each, and the others log in."""

    headers: Path
    header: str
    crowd: Sequence[str]
    anyone: Mapping[str, str]
    """The header of one of the readers."""


@attrs.frozen(kw_only=True)
class Running:
    """A program at work."""

    program: Program
    server: Server
    place: Place

    def url(self, path: str) -> str:
        return f"{'https' if self.program.tls else 'http'}://127.0.0.1:{self.place.port}{path}"

    def flood(self, path: str, people: People, connections: int = CONNECTIONS) -> Flood:
        """Return reads of all readers."""
        return Flood(url=self.url(path), header=people.header, values=people.headers, connections=connections)

    def log_ins(self, service: Service, people: People) -> log_ins.Job:
        """Return log-ins of all that do not read."""
        bodies = [encoded(service.log_in, email) for email in people.crowd]
        headers = {"Content-Type": bodies[0][0], **service.headers(self.place)}
        return log_ins.Job(self.url(service.log_in.path), headers, [body.decode() for _, body in bodies])


class Stage:
    """Where a measurement takes place: the service on the first core, its clients and Redis on the second."""

    def __init__(self, pace: Pace, directory: Path) -> None:
        self.pace = pace
        self.directory = directory
        self.first, *others = sorted(os.sched_getaffinity(0))
        if not others:
            raise BenchError("this needs two cores: one for the service, one for its clients and Redis")
        self.second = others[0]
        self.both = f"{self.first},{self.second}"
        self._patience = pace.patience
        self._stack = contextlib.ExitStack()
        self._made = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.redis_port = free_port()
            command = redis_command(self.redis_port, self.directory)
            self._redis_server = stack.enter_context(running(command, cores=str(self.second), log=self.directory / "redis.log"))
            self.redis = stack.enter_context(redis.Redis(port=self.redis_port))
            self._wait_for_redis()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _wait_for_redis(self) -> None:
        for _ in range(500):
            if self._redis_server.has_ended():
                raise self._redis_server.failure("redis-server did not start")
            with contextlib.suppress(redis.ConnectionError):
                self.redis.ping()
                return
            time.sleep(0.01)
        raise self._redis_server.failure("redis-server does not answer")

    def versions(self) -> Mapping[str, str]:
        return {"Redis": self.redis.info("server")["redis_version"]}

    # What runs on it.

    def place(self, database: int = 0) -> Place:
        self._made += 1
        directory = self.directory / f"service-{self._made}"
        directory.mkdir()
        return Place(port=free_port(), redis_port=self.redis_port, database=database, directory=directory)

    @contextmanager
    def serving(self, program: Program, *, cores: str = "") -> Iterator[Running]:
        """Run a program until it is no longer needed, on the first core unless others are named."""
        place = self.place(program.database)
        with running(
            program.command(place),
            cores=cores or str(self.first),
            log=place.directory / "log",
            environment=program.environment(place),
            cwd=program.cwd,
        ) as server:
            wait_until_ready(server, place.port, program.ready, tls=program.tls)
            yield Running(program=program, server=server, place=place)

    @contextmanager
    def serving_ceiling(self, people: People) -> Iterator[Running]:
        """Run the ceiling, with a document for each of the readers in Redis."""
        with redis.Redis(port=self.redis_port, db=CEILING.database) as store:
            for value in people.headers.read_text().splitlines():
                store.set(key_of(value), json.dumps(DOCUMENT))
        with self.serving(CEILING) as served:
            yield served

    def people(self, service: Service, served: Running) -> People:
        """Register everybody, and log the readers in."""
        headers = service.headers(served.place)
        readers = [f"reader{number}@example.com" for number in range(READERS)]
        crowd = [f"crowd{number}@example.com" for number in range(self.pace.crowd)]

        def post(what: Post, email: str) -> tuple[Mapping[str, str], bytes]:
            content_type, body = encoded(what, email)
            connection = http.client.HTTPConnection("127.0.0.1", served.place.port, timeout=60)
            with contextlib.closing(connection):
                connection.request("POST", what.path, body, {"Content-Type": content_type, **headers})
                answer = connection.getresponse()
                content = answer.read()
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    raise BenchError(f"{service.name} answered {answer.status} to {what.path}: {content[:200]!r}")
                return {name.lower(): value for name, value in answer.getheaders()}, content

        def log_in(email: str) -> str:
            answered, content = post(service.log_in, email)
            return service.token.prefix + service.token.found_in(answered, json.loads(content))

        with ThreadPoolExecutor(REGISTRATIONS_AT_ONCE) as pool:
            list(pool.map(lambda email: post(service.register, email), readers + crowd))
            values = list(pool.map(log_in, readers))
        path = served.place.directory / "readers"
        path.write_text("\n".join(values) + "\n")
        return People(headers=path, header=service.token.header, crowd=crowd, anyone={service.token.header: values[0]})

    # Measuring.

    def wait_until_quiet(self) -> None:
        """Wait until others leave the cores alone, as long as there is patience left."""
        while self._patience > 0:
            foreign, began = proc.Foreign(), time.perf_counter()
            time.sleep(0.4)
            cores = foreign.cores()
            if cores < QUIET:
                return
            self._patience -= time.perf_counter() - began

    def reads(self, served: Running, flood: Flood, seconds: float | None = None) -> Run:
        """Let wrk read, and return what it saw and what that cost the service and Redis."""
        seconds = seconds or self.pace.seconds
        foreign, before = proc.Foreign(), proc.session_seconds(served.server.session)
        redis_before = self._redis_work()
        seen = flood.run(seconds, core=self.second)
        cpu = proc.session_seconds(served.server.session) - before
        redis_cpu, commands = (after - b for after, b in zip(self._redis_work(), redis_before, strict=True))
        if not seen.served:
            raise served.server.failure(f"{served.program.name} served no read at {flood.url}")
        return {
            "rps": seen.served / seen.seconds,
            "cpu_ms": 1000 * cpu / seen.requests,
            "cores": cpu / seen.seconds,
            "p50": seen.p50,
            "p99": seen.p99,
            "max": seen.max,
            "reads_failed": seen.refused + seen.broken,
            "redis_us": 1e6 * redis_cpu / seen.requests,
            "redis_commands": commands / seen.requests,
            "foreign": foreign.cores(),
        }

    def _redis_work(self) -> tuple[float, float]:
        """Return the seconds for which Redis worked, and the commands it did but for those that ask for this."""
        commands = self.redis.info("commandstats")
        calls = sum(facts["calls"] for name, facts in commands.items() if name != "cmdstat_info")
        return proc.session_seconds(self._redis_server.session), calls

    def rounds(self, title: str, wanted: int, variants: Mapping[str, Callable[[], Run]], show: Callable[[Run], str]) -> Step:
        """Let each variant have its turn, round by round, until so many rounds were quiet or there is no more time for it."""
        taken: list[Mapping[str, Run]] = []
        give_up_at = float("inf")
        while len(taken) < wanted or (self._loud(taken, wanted) and time.monotonic() < give_up_at):
            round_: dict[str, Run] = {}
            for name, measure in variants.items():
                self.wait_until_quiet()
                round_[name] = measure()
                noise = f", others took {round_[name]['foreign']:.2f} cores" if round_[name]["foreign"] >= QUIET else ""
                say(f"{title}, round {len(taken) + 1}: {name}: {show(round_[name])}{noise}")
            taken.append(round_)
            if len(taken) == wanted and self._loud(taken, wanted):
                give_up_at = time.monotonic() + self.pace.repeating_seconds
                if seconds := self.pace.repeating_seconds:
                    say(f"{title}: others were at work too, so rounds are repeated, for {seconds:.0f} s at most")
        return Step.now(wanted, taken)

    def _loud(self, taken: Sequence[Mapping[str, Run]], wanted: int) -> bool:
        return sum(loudness(each) < QUIET for each in taken) < wanted
