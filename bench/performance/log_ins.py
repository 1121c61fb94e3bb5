"""People who log in, as many at once as it is told, until its standard input ends.

    python -m bench.performance.log_ins CLIENTS < JOB

The first line of its input is the job: where to send the log-ins, and their bodies. It writes a line when it begins, and one in
the end with each answer: when it came by the clock that all processes share, its status, how many milliseconds it took, and for
how many seconds it told the client to stay away. A client does as it is told, and otherwise sends the next log-in at once.
"""

import asyncio
import itertools
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final, Self

import aiohttp
import attrs

from bench.performance.errors import BenchError
from bench.performance.services import ROOT

TIMEOUT_SECONDS: Final = 30
NO_ANSWER: Final = 0


@attrs.frozen
class Answer:
    """What came of one log-in. Status 0 is no answer at all."""

    at: float
    status: int
    milliseconds: float
    retry_after: float | None


@attrs.frozen
class Storm:
    """What came of many log-ins."""

    answers: Sequence[Answer]

    @classmethod
    def read(cls, line: str) -> Self:
        return cls([Answer(*each) for each in json.loads(line)])

    def between(self, began: float, ended: float) -> dict[str, float]:
        """Return the figures of those that were answered in a time."""
        seen = [each for each in self.answers if began <= each.at < ended]
        done = sorted(each.milliseconds for each in seen if HTTPStatus.OK <= each.status < HTTPStatus.MULTIPLE_CHOICES)
        refused = [each for each in seen if each.status == HTTPStatus.SERVICE_UNAVAILABLE]
        waits = sorted(each.milliseconds for each in refused)
        return {
            "log_ins": len(done),
            "log_in_rate": len(done) / (ended - began),
            "log_in_p50": quantile(done, 0.5),
            "log_in_p99": quantile(done, 0.99),
            "refused": len(refused),
            "refused_rate": len(refused) / (ended - began),
            "refused_p50": quantile(waits, 0.5),
            "refused_p99": quantile(waits, 0.99),
            "refused_max": quantile(waits, 1),
            "without_retry_after": sum(each.retry_after is None for each in refused),
            "log_ins_broken": len(seen) - len(done) - len(refused),
        }


def quantile(ordered: Sequence[float], part: float) -> float:
    """Return a quantile of what is in order, 0 where there is nothing."""
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else 0.0


@attrs.frozen
class Job:
    """Where log-ins are sent."""

    url: str
    headers: Mapping[str, str]
    bodies: Sequence[str]


class RunningStorm:
    """A storm in a process of its own, so that the one that measures has nothing else to do."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def end(self) -> Storm:
        """Let the log-ins under way end, and return what came of all."""
        output, errors = self._process.communicate()
        if self._process.returncode:
            raise BenchError(f"the log-ins failed: {errors.strip().splitlines()[-1]}")
        return Storm.read(output)


@contextmanager
def storm(job: Job, clients: int, *, core: int) -> Iterator[RunningStorm]:
    """Keep so many log-ins under way."""
    command = ["taskset", "-c", str(core), sys.executable, "-m", "bench.performance.log_ins", str(clients)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(attrs.asdict(job)) + "\n")
            process.stdin.flush()
            process.stdout.readline()
            yield RunningStorm(process)
        finally:
            process.kill()


async def main() -> None:
    clients = int(sys.argv[1])
    job = Job(**json.loads(sys.stdin.readline()))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_reader(sys.stdin.fileno())
        stop.set()

    loop.add_reader(sys.stdin.fileno(), end)
    bodies = itertools.cycle(random.sample(job.bodies, len(job.bodies)))
    answers: list[Answer] = []
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=job.headers, timeout=timeout, connector=connector) as session:
        print("begun", flush=True)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(clients):
                tasks.create_task(_log_in_until(stop, session, job.url, bodies, answers))
    print(json.dumps([attrs.astuple(each) for each in answers]))


async def _log_in_until(
    stop: asyncio.Event, session: aiohttp.ClientSession, url: str, bodies: Iterator[str], answers: list[Answer]
) -> None:
    while not stop.is_set():
        answer = await _log_in(session, url, next(bodies))
        answers.append(answer)
        if answer.retry_after:
            try:
                await asyncio.wait_for(stop.wait(), answer.retry_after)
            except TimeoutError:
                continue


async def _log_in(session: aiohttp.ClientSession, url: str, body: str) -> Answer:
    began = time.perf_counter()
    status, wait = NO_ANSWER, None
    try:
        async with session.post(url, data=body) as response:
            await response.read()
            status = response.status
            told: Any = response.headers.get("Retry-After")
            wait = float(told) if told is not None else None
    except (aiohttp.ClientError, TimeoutError):
        pass
    ended = time.perf_counter()
    return Answer(ended, status, 1000 * (ended - began), wait)


if __name__ == "__main__":
    asyncio.run(main())
