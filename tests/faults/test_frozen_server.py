"""The server of the store stopped for seconds: it keeps its connections, takes in commands, and carries them out much later."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from tests.faults.workload import load_on, processes
from tests.support.engines import PROGRAMS
from tests.support.redis_servers import Server
from tests.support.tally import UNAVAILABLE, UNKNOWN, Tally

FREEZES = 2
LIMIT_SECONDS = 3.0
"""The contract's: with the store frozen every call ends within it."""


@pytest.mark.parametrize("engine", PROGRAMS)
async def test_every_call_ends_in_time_while_the_server_is_frozen_and_says_what_came_of_it(
    engine: str, tmp_path: Path, tally: Tally, random: Random, rounds: int
) -> None:
    tally.fault = "server frozen (SIGSTOP)"
    async with (
        Server(tmp_path / "server", program=PROGRAMS[engine]) as server,
        processes(server.url, 2) as use_cases,
    ):
        for _ in range(rounds):
            async with load_on(server, use_cases, tally=tally, random=random) as load:
                for _ in range(FREEZES):
                    await load.until_acknowledged(random.randrange(20, 300))
                    without_answer = tally.counts[UNAVAILABLE] + tally.counts[UNKNOWN]
                    server.freeze()
                    tally.count("freezes")
                    await asyncio.sleep(random.uniform(1.2, 3.0))
                    server.thaw()
                    assert tally.counts[UNAVAILABLE] + tally.counts[UNKNOWN] > without_answer
    assert tally.slowest < LIMIT_SECONDS
    tally.assert_clean()
