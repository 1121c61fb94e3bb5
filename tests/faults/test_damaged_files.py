"""The server's log, damaged: a server that cannot trust it does not start, and what was whole outlives a missing end."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from tests.faults.workload import Load, processes
from tests.support.engines import PROGRAMS
from tests.support.invariants import Scan
from tests.support.redis_servers import Server, ServerError
from tests.support.tally import BROKEN, Tally, engine_of

pytestmark = pytest.mark.parametrize("engine", PROGRAMS)


@asynccontextmanager
async def with_log(engine: str, directory: Path, tally: Tally, random: Random) -> AsyncGenerator[tuple[Server, Path]]:
    """Return a server that was stopped, and its log, in which people have been busy."""
    async with Server(directory / "server", program=PROGRAMS[engine]) as server:
        async with processes(server.url, 1) as use_cases, server.client() as raw:
            load = Load(use_cases, people=10, contested=2, tally=tally, random=random)
            async with load.running():
                await load.until_acknowledged(300)
            await load.audit(raw)
            tally.engine = await engine_of(raw)
        await server.stop()
        yield server, server.append_only_file


async def test_a_server_does_not_start_on_a_log_with_a_damaged_command(
    engine: str, tmp_path: Path, tally: Tally, random: Random
) -> None:
    tally.fault = "log damaged in the middle"
    async with with_log(engine, tmp_path, tally, random) as (server, log):
        content = bytearray(log.read_bytes())
        # The length of some command's second word. What is within a word has no checksum, and would be believed.
        place = content.index(b"\r\n$", content.index(b"\r\n*", random.randrange(len(content) // 4, len(content) // 2)) + 4) + 2
        content[place] ^= 1 << random.randrange(7)
        log.write_bytes(content)
        with pytest.raises(ServerError, match="Bad file format reading the append only file"):
            await server.start()
        tally.count("damaged logs")
    tally.assert_clean()


async def test_a_server_starts_on_a_log_with_its_end_missing(
    engine: str, tmp_path: Path, tally: Tally, random: Random, rounds: int
) -> None:
    tally.fault = "log with its end missing"
    async with with_log(engine, tmp_path, tally, random) as (server, log):
        for _ in range(10 * rounds):
            os.truncate(log, log.stat().st_size - random.randrange(1, 1000))
            await server.start_after_power_cut()
            async with server.client() as raw:
                scan = await Scan.of(raw)
            for fault in scan.faults:
                tally.violation(BROKEN, fault)
            tally.count("accounts checked", len(scan.accounts))
            tally.count("logs cut off")
            await server.stop()
    tally.assert_clean()
