"""Processes of the service killed, again and again, in the middle of whatever they do, while clients use them over HTTP."""

import asyncio
import signal
from pathlib import Path
from random import Random

import pytest

from tests.faults.use_cases import OverHttp
from tests.faults.workload import load_on
from tests.support.redis_servers import Server
from tests.support.serving import Serve, serving
from tests.support.tally import UNKNOWN, Tally

KILLS = 4


@pytest.mark.requirement(44)
async def test_a_killed_service_leaves_nothing_half_done_and_nothing_that_it_acknowledged_is_lost(
    tmp_path: Path, tally: Tally, random: Random, rounds: int
) -> None:
    tally.fault = "service killed (SIGKILL)"
    async with Server(tmp_path / "server") as server, OverHttp.client() as session:
        options = ("--store", server.url, "--no-tls", "--log-level", "error")
        async with serving(tmp_path / "a", *options) as first, serving(tmp_path / "b", *options) as second:
            services = [first, second]
            use_cases = [OverHttp(session, service.base) for service in services]
            try:
                for _ in range(rounds):
                    async with load_on(server, use_cases, people=8, contested=2, tally=tally, random=random) as load:
                        for number in range(KILLS):
                            await load.until_acknowledged(random.randrange(5, 40))
                            await asyncio.sleep(random.uniform(0, 0.05))  # some request is half-way then
                            which = number % 2
                            await services[which].end()
                            tally.count("kills")
                            services[which] = await Serve.start(services[which].data_dir, *options)
                            use_cases[which].base = services[which].base
                        await load.until_acknowledged(20)
                assert [await service.stop(signal.SIGTERM) for service in services] == [0, 0]
            finally:
                for service in services:
                    await service.end()
    assert tally.counts[UNKNOWN] > 0
    tally.assert_clean()
