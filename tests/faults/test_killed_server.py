"""The server of the store killed, again and again, while people register, log in and change things."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from tests.faults.workload import Load, processes
from tests.support.engines import PROGRAMS
from tests.support.redis_servers import Server
from tests.support.tally import Tally, engine_of

KILLS = 6


@pytest.mark.parametrize("engine", PROGRAMS)
async def test_a_killed_server_loses_nothing_that_was_acknowledged(
    engine: str, tmp_path: Path, tally: Tally, random: Random, rounds: int
) -> None:
    tally.fault = "server killed (SIGKILL)"
    async with (
        Server(tmp_path / "server", program=PROGRAMS[engine]) as server,
        processes(server.url, 2) as use_cases,
    ):
        for _ in range(rounds):
            load = Load(use_cases, people=20, contested=3, tally=tally, random=random)
            async with load.running():
                for _ in range(KILLS):
                    # Only by themselves do the processes come back to work.
                    await load.until_acknowledged(random.randrange(20, 300))
                    await asyncio.sleep(random.uniform(0, 0.02))
                    server.kill()
                    tally.count("kills")
                    await asyncio.sleep(random.uniform(0, 0.2))
                    await server.start()
            async with server.client() as raw:
                await load.audit(raw)
                tally.engine = await engine_of(raw)
                await raw.flushall()
    tally.assert_clean()
