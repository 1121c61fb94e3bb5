"""A disk that is full: whatever the server does about it, no acknowledged write may be missing once there is room again."""

import resource
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from tests.faults.workload import Load, load_on, processes
from tests.support.engines import PROGRAMS
from tests.support.redis_servers import Server
from tests.support.tally import Tally

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
async def full(engine: str, fsync: str, directory: Path, tally: Tally, random: Random) -> AsyncGenerator[tuple[Server, Load]]:
    """Return a server whose disk is full, under load."""
    async with (
        Server(directory / "server", {"appendfsync": fsync}, program=PROGRAMS[engine], file_limit=ROOM) as server,
        processes(server.url, 2) as use_cases,
        load_on(server, use_cases, tally=tally, random=random) as load,
    ):
        await load.until_acknowledged(random.randrange(100, 300))
        fill(server, random)
        tally.count("times full")
        yield server, load
        await load.until_acknowledged(100)


async def test_a_server_that_syncs_every_write_ends_before_it_acknowledges_what_it_cannot_write(
    engine: str, tmp_path: Path, tally: Tally, random: Random, rounds: int
) -> None:
    tally.fault = "disk full, appendfsync always"
    for number in range(rounds):
        async with full(engine, "always", tmp_path / str(number), tally, random) as (server, _):
            assert await server.ended() != 0
            await server.restart()
    tally.assert_clean()


async def test_a_server_that_syncs_every_second_refuses_writes_until_there_is_room(
    engine: str, tmp_path: Path, tally: Tally, random: Random, rounds: int
) -> None:
    tally.fault = "disk full, appendfsync everysec"
    for number in range(rounds):
        async with full(engine, "everysec", tmp_path / str(number), tally, random) as (server, load):
            await load.until_refused(50)
            make_room(server)
    tally.assert_clean()


async def test_a_server_that_syncs_every_second_and_is_killed_on_a_full_disk_starts_again(
    engine: str, tmp_path: Path, tally: Tally, random: Random
) -> None:
    """What it acknowledged until it found out that the disk is full was never written, and a kill takes it: claims, too."""
    tally.fault = "disk full and server killed, appendfsync everysec"
    tally.may_lose = True
    async with full(engine, "everysec", tmp_path, tally, random) as (server, load):
        await load.until_refused(50)
        await server.restart()
