"""A server that answers and does not write, or has forgotten the scripts: for a while, under load."""

from collections.abc import AsyncGenerator
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from tests.faults.workload import Load, Person, processes
from tests.support.engines import PROGRAMS
from tests.support.redis_servers import Server
from tests.support.tally import UNAVAILABLE, UNKNOWN, Tally, engine_of

pytestmark = pytest.mark.parametrize("engine", PROGRAMS)

READING = ("authenticate", "use_ended_token", "log_in_wrongly", "list_sessions")
SHRINKING = ("log_out", "end_session", "end_others", "delete", "reauthenticate", "change_password")
"""What ends sessions. A new password does that as well, and a token in place of another."""
FLUSHES = 50
GROWING = ("register", "log_in", "rename", "change_address", "change_everything")


@attrs.frozen
class Stage:
    load: Load
    raw: Any
    tally: Tally

    async def prepared(self, count: int) -> list[Person]:
        """Return people with an account, sessions, and a token that was revoked."""
        use_cases = self.load.processes[0]
        made = [self.load.add(Random(number)) for number in range(count)]
        for person in made:
            await person.register_at(use_cases, f"{person.name}@example.com")
            for _ in range(4):
                await person.log_in(use_cases)
            await person.log_out(use_cases)
        return made


@pytest.fixture
async def stage(engine: str, tmp_path: Path, tally: Tally, random: Random) -> AsyncGenerator[Stage]:
    async with (
        Server(tmp_path / "server", program=PROGRAMS[engine]) as server,
        server.client() as raw,
        processes(server.url, 2) as use_cases,
    ):
        tally.engine = await engine_of(raw)
        yield Stage(Load(use_cases, people=20, contested=3, tally=tally, random=random), raw, tally)


async def test_full_memory_refuses_what_grows_and_nothing_is_half_done(stage: Stage, random: Random, rounds: int) -> None:
    stage.tally.fault = "memory full (maxmemory, noeviction)"
    for _ in range(rounds):
        async with stage.load.running():
            await stage.load.until_acknowledged(random.randrange(20, 300))
            await stage.raw.config_set("maxmemory", 1)
            stage.tally.count("times full")
            await stage.load.until_refused(50)
            await stage.raw.config_set("maxmemory", 0)
            await stage.load.until_acknowledged(100)
        await stage.load.audit(stage.raw)
    assert stage.tally.counts[UNKNOWN] == 0
    stage.tally.assert_clean()


async def test_people_can_look_log_out_and_leave_while_memory_is_full(stage: Stage) -> None:
    names = (*READING, *SHRINKING, *GROWING)
    people = await stage.prepared(len(names))
    await stage.raw.config_set("maxmemory", 1)
    answered = [await getattr(person, name)(stage.load.processes[1]) for name, person in zip(names, people, strict=True)]
    await stage.raw.config_set("maxmemory", 0)
    assert dict(zip(names, answered, strict=True)) == {name: name not in GROWING for name in names}
    await stage.load.audit(stage.raw)
    stage.tally.assert_clean()


async def test_a_server_that_became_a_replica_refuses_and_nothing_is_half_done(
    stage: Stage, random: Random, rounds: int
) -> None:
    stage.tally.fault = "server made a read-only replica"
    for _ in range(rounds):
        async with stage.load.running():
            await stage.load.until_acknowledged(random.randrange(20, 300))
            await stage.raw.replicaof("127.0.0.1", "1")  # of nobody: nothing listens there
            stage.tally.count("demotions")
            await stage.load.until_refused(50)
            await stage.raw.replicaof("NO", "ONE")
            await stage.load.until_acknowledged(100)
        await stage.load.audit(stage.raw)
    assert stage.tally.counts[UNKNOWN] == 0
    stage.tally.assert_clean()


async def test_nobody_notices_that_scripts_are_flushed(stage: Stage, random: Random, rounds: int) -> None:
    stage.tally.fault = "scripts flushed (NOSCRIPT)"
    for _ in range(rounds):
        async with stage.load.running():
            for _ in range(FLUSHES):
                await stage.load.until_acknowledged(random.randrange(2, 20))
                await stage.raw.script_flush()
                stage.tally.count("flushes")
        await stage.load.audit(stage.raw)
    assert stage.tally.counts[UNAVAILABLE] == stage.tally.counts[UNKNOWN] == 0
    stage.tally.assert_clean()
