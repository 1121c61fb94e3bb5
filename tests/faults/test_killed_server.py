"""The server of the store killed, again and again, while people register, log in and change things."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from tests.faults.workload import load_on, processes
from tests.support.engines import PROGRAMS
from tests.support.redis_servers import Server
from tests.support.tally import Tally

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
            async with load_on(server, use_cases, tally=tally, random=random) as load:
                for _ in range(KILLS):
                    # Only by themselves do the processes come back to work.
                    await load.until_acknowledged(random.randrange(20, 300))
                    await asyncio.sleep(random.uniform(0, 0.02))  # some command is half-way then
                    server.kill()
                    tally.count("kills")
                    await asyncio.sleep(random.uniform(0, 0.2))  # there is no server for a while
                    await server.start()
    tally.assert_clean()
