"""A disk that is full: whatever the server does about it, no acknowledged write may be missing once there is room again."""

import asyncio
import resource
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from tests.faults.workload import PATIENCE_SECONDS, Load, processes
from tests.support.engines import PROGRAMS
from tests.support.redis_servers import Server
from tests.support.tally import UNAVAILABLE, Tally, engine_of

pytestmark = pytest.mark.parametrize("engine", PROGRAMS)

if sys.platform != "linux":
    pytest.skip("prlimit is Linux's", allow_module_level=True)

ROOM = 1 << 30
"""Bytes, more than any test needs. With a limit at all, a write beyond it is an error and not the server's end."""


def fill(server: Server, random: Random) -> None:
    """Let the server's files not grow by more than a little."""
    largest = max(path.stat().st_size for path in server.directory.rglob("*") if path.is_file())
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (largest + random.randrange(1, 20_000), ROOM))


def make_room(server: Server) -> None:
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (ROOM, ROOM))


@asynccontextmanager
async def loaded(engine: str, fsync: str, directory: Path, tally: Tally, random: Random) -> AsyncGenerator[Server]:
    async with (
        Server(directory / "server", {"appendfsync": fsync}, program=PROGRAMS[engine], file_limit=ROOM) as server,
        processes(server.url, 2) as use_cases,
    ):
        load = Load(use_cases, people=20, contested=3, tally=tally, random=random)
        async with server.client() as raw:
            tally.engine = await engine_of(raw)
        async with load.running():
            await load.until_acknowledged(random.randrange(100, 300))
            fill(server, random)
            tally.count("times full")
            yield server
            await load.until_acknowledged(100)
        async with server.client() as raw:
            await load.audit(raw)


async def test_a_server_that_syncs_every_write_ends_before_it_acknowledges_what_it_cannot_write(
    engine: str, tmp_path: Path, tally: Tally, random: Random, rounds: int
) -> None:
    tally.fault = "disk full, appendfsync always"
    for number in range(rounds):
        async with loaded(engine, "always", tmp_path / str(number), tally, random) as server:
            assert await server.ended() != 0
            await server.restart()
    tally.assert_clean()


async def until_refused(tally: Tally, more: int) -> None:
    enough = tally.counts[UNAVAILABLE] + more
    async with asyncio.timeout(PATIENCE_SECONDS):
        while tally.counts[UNAVAILABLE] < enough:
            await asyncio.sleep(0.002)


async def until_acknowledged(tally: Tally, more: int) -> None:
    enough = tally.acknowledged + more
    async with asyncio.timeout(PATIENCE_SECONDS):
        while tally.acknowledged < enough:
            await asyncio.sleep(0.002)


async def test_a_server_that_syncs_every_second_refuses_writes_until_there_is_room(
    engine: str, tmp_path: Path, tally: Tally, random: Random, rounds: int
) -> None:
    tally.fault = "disk full, appendfsync everysec"
    for number in range(rounds):
        async with loaded(engine, "everysec", tmp_path / str(number), tally, random) as server:
            await until_refused(tally, 50)
            make_room(server)
    tally.assert_clean()


async def test_a_server_that_syncs_every_second_and_is_killed_on_a_full_disk_starts_again(
    engine: str, tmp_path: Path, tally: Tally, random: Random
) -> None:
    """What it acknowledged until it found out that the disk is full was never written, and a kill takes it: claims, too."""
    tally.fault = "disk full and server killed, appendfsync everysec"
    tally.may_lose = True
    async with loaded(engine, "everysec", tmp_path, tally, random) as server:
        await until_refused(tally, 50)
        await server.restart()
        await until_acknowledged(tally, 50)
