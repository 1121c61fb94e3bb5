"""How others fare while many log in: start a service, keep log-ins running, and time an authenticated read meanwhile.

    python bench/log_in_storm.py [--seconds 15] [--log-ins 60] [--registrations 0] [--readers 0] [--cores 0] [--serve-option …]

With `--registrations` so many register without end as well, and with `--readers` so many read without a pause: do log-ins still
get through? Prints quantiles of the read before and during the storm, what became of log-ins and registrations, how soon those
were answered that were refused, and how much processor time and memory the service took. Client and service share the
machine, so the figures hold for one machine at one time: compare, do not quote. `--cores` is where the service may run.
"""

import argparse
import asyncio
import itertools
import os
import re
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import attrs

PASSWORD = "correct horse battery staple"
# The reader is not among those who log in: more than a hundred sessions of one user would end the reader's.
READER = "reader@example.com"
CROWD = [f"crowd-{number}@example.com" for number in range(20)]
AT_ONCE_MS = 100


@attrs.define
class Seen:
    """What became of one kind of request: how many of each status, and what each of them took in milliseconds."""

    statuses: Counter[int] = attrs.field(factory=Counter)
    taken: list[float] = attrs.field(factory=list)
    refused: list[float] = attrs.field(factory=list)

    def note(self, status: int, milliseconds: float) -> None:
        self.statuses[status] += 1
        (self.refused if status == HTTPStatus.SERVICE_UNAVAILABLE else self.taken).append(milliseconds)

    def told(self, seconds: float) -> str:
        rate = self.statuses[HTTPStatus.CREATED] / seconds
        late = sum(each > AT_ONCE_MS for each in self.refused)
        refused = f"; refused {quantiles(self.refused)}, {late} after more than {AT_ONCE_MS} ms" if self.refused else ""
        return f"{rate:.1f} a second, {dict(self.statuses)}, ms {quantiles(self.taken)}{refused}"


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=15)
    options.add_argument("--log-ins", type=int, default=60)
    options.add_argument("--registrations", type=int, default=0)
    options.add_argument("--readers", type=int, default=0)
    options.add_argument("--cores", default="")
    options.add_argument("--serve-option", action="append", default=[])
    given = options.parse_args()
    pinned = ["taskset", "--cpu-list", given.cores] if given.cores else []
    with tempfile.TemporaryDirectory() as directory:
        data_dir = Path(directory) / "data"
        service = await asyncio.create_subprocess_exec(
            *(*pinned, sys.executable, "-m", "pickguard", "serve", "--port", "0", "--data-dir", str(data_dir)),
            *("--log-level", "error", "--rate-limits", "off", *given.serve_option),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            base = await announced(service)
            connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=data_dir / "tls" / "cert.pem"), limit=0)
            async with aiohttp.ClientSession(base, connector=connector) as session:
                await measure(session, service.pid, given)
        finally:
            service.terminate()
            await service.wait()


async def announced(service: asyncio.subprocess.Process) -> str:
    assert service.stdout is not None
    async for line in service.stdout:
        if found := re.search(r"ready at (\S+)", line.decode()):
            return found[1]
    raise SystemExit("the service did not start")


async def measure(session: aiohttp.ClientSession, pid: int, given: argparse.Namespace) -> None:
    for person in map(registration, (READER, *CROWD)):
        async with session.post("/v1/users", json=person) as response:
            response.raise_for_status()
    async with session.post("/v1/sessions", json={"email": READER, "password": PASSWORD}) as response:
        token = (await response.json())["access_token"]
    idle = memory(pid)
    before = await reads(session, token, until=time.perf_counter() + min(given.seconds, 5), pause=0.002)
    used, began = processor_seconds(pid), time.perf_counter()
    end = began + given.seconds
    log_ins, registrations = Seen(), Seen()
    people = itertools.cycle({"email": each, "password": PASSWORD} for each in CROWD)
    newcomers = (registration(f"new-{number}@example.com") for number in itertools.count())
    print(
        f"{given.log_ins} log-ins, {given.registrations} registrations, {given.readers} readers for {given.seconds:.0f} s ..."
    )
    async with asyncio.TaskGroup() as tasks:
        for _ in range(given.log_ins):
            tasks.create_task(post_until(session, end, "/v1/sessions", people, log_ins.note))
        for _ in range(given.registrations):
            tasks.create_task(post_until(session, end, "/v1/users", newcomers, registrations.note))
        for _ in range(given.readers):
            tasks.create_task(reads(session, token, until=end, pause=0))
        reading = tasks.create_task(reads(session, token, until=end, pause=0.002))
        watching = tasks.create_task(peak_memory(pid, end))
    taken = time.perf_counter() - began
    print(f"cores, load               {given.cores or os.cpu_count()}, {os.getloadavg()[0]:.1f}")
    print(f"processor                 {(processor_seconds(pid) - used) / taken:.2f} cores went to the service")
    print(f"read before, ms           {quantiles(before)}")
    print(f"read during, ms           {quantiles(reading.result())}")
    print(f"log-ins                   {log_ins.told(taken)}")
    if given.registrations:
        print(f"registrations             {registrations.told(taken)}")
    print(f"memory, MiB               {idle:.0f} before, {watching.result():.0f} at most")


def registration(email: str) -> dict[str, str]:
    return {"name": "Ada", "email": email, "password": PASSWORD}


async def reads(session: aiohttp.ClientSession, token: str, *, until: float, pause: float) -> list[float]:
    taken = []
    while (began := time.perf_counter()) < until:
        async with session.get("/v1/users/me", headers={"Authorization": f"Bearer {token}"}) as response:
            await response.read()
            response.raise_for_status()
        taken.append(1000 * (time.perf_counter() - began))
        await asyncio.sleep(pause)
    return taken


async def post_until(
    session: aiohttp.ClientSession, end: float, path: str, bodies: Iterator[Any], note: Callable[[int, float], None]
) -> None:
    while (began := time.perf_counter()) < end:
        async with session.post(path, json=next(bodies)) as response:
            await response.read()
            note(response.status, 1000 * (time.perf_counter() - began))
            if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
                await asyncio.sleep(float(response.headers["Retry-After"]))


async def peak_memory(pid: int, end: float) -> float:
    peak = 0.0
    while time.perf_counter() < end:
        peak = max(peak, memory(pid))
        await asyncio.sleep(0.05)
    return peak


def memory(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def processor_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def quantiles(taken: list[float]) -> str:
    if not taken:
        return "none"
    ordered = sorted(taken)
    points = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    shown = [f"{name} {ordered[min(int(at * len(ordered)), len(ordered) - 1)]:.1f}" for name, at in points.items()]
    return f"{', '.join(shown)} ({len(ordered)})"


asyncio.run(main())
