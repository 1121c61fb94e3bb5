"""How others fare while many log in: start a service, keep 60 log-ins running, and time an authenticated read meanwhile.

    python bench/log_in_storm.py [--seconds 15] [--log-ins 60] [--serve-option ...]

Prints quantiles of the read before and during the storm, what became of the log-ins, and how much memory the service took.
Client and service share the machine, so the figures hold for one machine at one time: compare, do not quote.
"""

import argparse
import asyncio
import collections
import json
import os
import re
import ssl
import sys
import tempfile
import time
from http import HTTPStatus
from pathlib import Path

import aiohttp

PASSWORD = "correct horse battery staple"
# The reader is not among those who log in: more than a hundred sessions of one user would end the reader's.
READER, CROWD = "reader@example.com", "crowd@example.com"


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=15)
    options.add_argument("--log-ins", type=int, default=60)
    options.add_argument("--serve-option", action="append", default=[])
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        data_dir = Path(directory) / "data"
        service = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pickguard", "serve", "--port", "0", "--data-dir", str(data_dir), "--log-level", "warning"),
            *given.serve_option,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            base = await announced(service)
            connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=data_dir / "tls" / "cert.pem"), limit=0)
            async with aiohttp.ClientSession(base, connector=connector) as session:
                await measure(session, service.pid, given.log_ins, given.seconds)
        finally:
            service.terminate()
            await service.wait()


async def announced(service: asyncio.subprocess.Process) -> str:
    assert service.stdout is not None
    async for line in service.stdout:
        if found := re.search(r"ready at (\S+)", line.decode()):
            return found[1]
    raise SystemExit("the service did not start")


async def measure(session: aiohttp.ClientSession, pid: int, log_ins: int, seconds: float) -> None:
    for email in (READER, CROWD):
        async with session.post("/v1/users", json={"name": "Ada", "email": email, "password": PASSWORD}) as response:
            response.raise_for_status()
    async with session.post("/v1/sessions", json={"email": READER, "password": PASSWORD}) as response:
        token = (await response.json())["access_token"]
    idle = memory(pid)
    before = await reads(session, token, until=time.perf_counter() + min(seconds, 5))
    end = time.perf_counter() + seconds
    print(f"{log_ins} log-ins at once for {seconds:.0f} s ...", flush=True)
    async with asyncio.TaskGroup() as tasks:
        storm = [tasks.create_task(log_in_until(session, end)) for _ in range(log_ins)]
        reading = tasks.create_task(reads(session, token, until=end))
        watching = tasks.create_task(peak_memory(pid, end))
    results = collections.Counter[int]()
    for each in storm:
        results += each.result()
    print(f"cores                     {os.cpu_count()}")
    print(f"read before, ms           {quantiles(before)}")
    print(f"read during, ms           {quantiles(reading.result())}")
    print(f"log-ins                   {json.dumps(results)}, {results[HTTPStatus.CREATED] / seconds:.1f} a second succeeded")
    print(f"memory, MiB               {idle:.0f} before, {watching.result():.0f} at most")


async def reads(session: aiohttp.ClientSession, token: str, *, until: float) -> list[float]:
    taken = []
    while (began := time.perf_counter()) < until:
        async with session.get("/v1/users/me", headers={"Authorization": f"Bearer {token}"}) as response:
            await response.read()
            response.raise_for_status()
        taken.append(1000 * (time.perf_counter() - began))
        await asyncio.sleep(0.002)
    return taken


async def log_in_until(session: aiohttp.ClientSession, end: float) -> collections.Counter[int]:
    results = collections.Counter[int]()
    while time.perf_counter() < end:
        async with session.post("/v1/sessions", json={"email": CROWD, "password": PASSWORD}) as response:
            await response.read()
            results[response.status] += 1
            if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
                await asyncio.sleep(float(response.headers["Retry-After"]))
    return results


async def peak_memory(pid: int, end: float) -> float:
    peak = 0.0
    while time.perf_counter() < end:
        peak = max(peak, memory(pid))
        await asyncio.sleep(0.05)
    return peak


def memory(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def quantiles(taken: list[float]) -> str:
    ordered = sorted(taken)
    points = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    shown = [f"{name} {ordered[min(int(at * len(ordered)), len(ordered) - 1)]:.1f}" for name, at in points.items()]
    return f"{', '.join(shown)} ({len(ordered)} reads)"


asyncio.run(main())
