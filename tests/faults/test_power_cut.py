"""Power cuts: where writes are synced before they are acknowledged none is lost, and a log that ends too early does no harm."""

import asyncio
import sys
from pathlib import Path
from random import Random

import pytest

from pickguard.adapters.engine import packaged_program
from tests.faults.power import Loss, Power, can_be_cut
from tests.faults.workload import PATIENCE_SECONDS, Load, load_on, processes
from tests.support.engines import PROGRAMS
from tests.support.invariants import Scan
from tests.support.redis_servers import Server
from tests.support.tally import BROKEN, LOST, Tally, engine_of

CUTS = 4

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD is Linux's"),
    pytest.mark.parametrize("engine", [name for name, path in PROGRAMS.items() if can_be_cut(path or packaged_program())]),
]

AT_STAKE = 1 << 15
"""Bytes, many times what one write takes."""

SYNCED_EVERY_SECOND = {"appendfsync": "everysec"}


def noted(loss: Loss, tally: Tally) -> Loss:
    tally.count("power cuts")
    tally.count("unsynced bytes", loss.unsynced)
    tally.count("unsynced bytes that stayed", loss.left)
    return loss


async def test_a_power_cut_takes_nothing_that_was_acknowledged(
    engine: str, tmp_path: Path, tally: Tally, random: Random, rounds: int
) -> None:
    tally.fault = "power cut, appendfsync always"
    power = Power(tmp_path / "power")
    # The packaged engine mends a torn log by itself, and a service's own store lets it.
    options = {"aof-load-truncated": "yes"} if PROGRAMS[engine] is None else {}
    async with (
        Server(tmp_path / "server", options, program=PROGRAMS[engine], env=power.env) as server,
        processes(server.url, 2) as use_cases,
    ):
        for _ in range(rounds):
            async with load_on(server, use_cases, tally=tally, random=random) as load:
                for number in range(CUTS):
                    await load.until_acknowledged(random.randrange(20, 300))
                    await asyncio.sleep(random.uniform(0, 0.02))  # some command is half-way then
                    # Every other time a part of what was being written stays.
                    noted(power.cut(server, *[lambda size: random.randint(0, size)] * (number % 2)), tally)
                    if await server.start_after_power_cut():
                        tally.count("logs cut off")
    tally.assert_clean()


async def test_a_power_cut_takes_what_was_acknowledged_where_it_is_synced_every_second(
    engine: str, tmp_path: Path, tally: Tally, random: Random
) -> None:
    """It is also the proof that these cuts bite.

    What is left is a state that once was; and who had claimed an address before the cut may save an account after it, without
    the claim. So this setting loses more than a second: it is not for a system of record.
    """
    tally.fault = "power cut, appendfsync everysec"
    tally.may_lose = True
    power = Power(tmp_path / "power")
    async with (
        Server(tmp_path / "server", SYNCED_EVERY_SECOND, program=PROGRAMS[engine], env=power.env) as server,
        processes(server.url, 2) as use_cases,
        load_on(server, use_cases, tally=tally, random=random),
    ):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while power.at_stake(server) < AT_STAKE:
                await asyncio.sleep(0.001)
        noted(power.cut(server), tally)
        await server.start_after_power_cut()
    assert tally.counts[LOST] > 0


async def test_a_log_that_ends_within_a_command_is_read_up_to_there(
    engine: str, tmp_path: Path, tally: Tally, random: Random, rounds: int
) -> None:
    tally.fault = "power cut, torn end of the log"
    power = Power(tmp_path / "power")
    options = {**SYNCED_EVERY_SECOND, "aof-load-truncated": "yes"}
    torn = 0
    for number in range(CUTS * rounds):
        # Each starts on its log once, since not every engine may go on with such a log: see test_torn_transaction.py.
        async with (
            Server(tmp_path / f"server-{number}", options, program=PROGRAMS[engine], env=power.env) as server,
            processes(server.url, 2) as use_cases,
        ):
            load = Load(use_cases, people=20, contested=3, tally=tally, random=random)
            async with load.running():
                await load.until_acknowledged(random.randrange(100, 200))
            noted(power.cut(server, lambda size: random.randint(1, size - 1) if size > 1 else size), tally)
            await server.start()
            torn += "short read while loading" in server.last_words(40)
            async with server.client() as raw:
                scan = await Scan.of(raw)
                tally.engine = await engine_of(raw)
            tally.count("accounts checked", len(scan.accounts))
            for fault in scan.faults:
                tally.violation(BROKEN, fault)
    tally.count("torn ends", torn)
    assert torn > 0
    tally.assert_clean()
