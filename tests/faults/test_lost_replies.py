"""Every use case, with a fault at each of its commands: on the way there, on the way back, and in the middle of either."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from pickguard.adapters.redis import scripts
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.claims import LEASE
from pickguard.adapters.redis.connection import open_client
from pickguard.adapters.redis.encoding import claim_key, encode_claim
from pickguard.domain.model.users import EmailAddress
from tests.faults.use_cases import UseCases
from tests.faults.wire import CUT_REPLY, FAULTS, LATE_COMMAND, LATER_COMMAND, Wire
from tests.faults.workload import Load, Person, in_process, processes
from tests.support.accounts import an_account, operation
from tests.support.engines import PROGRAMS
from tests.support.fakes import cheap_hasher
from tests.support.redis_servers import Server
from tests.support.tally import UNKNOWN, Tally, engine_of

REGISTERING = ("register", "register_over_old_claim")
USE_CASES = (
    *REGISTERING,
    "log_in",
    "log_in_wrongly",
    "authenticate",
    "use_ended_token",
    "reauthenticate",
    "list_sessions",
    "rename",
    "change_address",
    "change_password",
    "change_everything",
    "log_out",
    "end_session",
    "end_others",
    "end_all",
    "delete",
)
AT_ONCE = 16
PATIENCE = timedelta(milliseconds=250)
"""Of those who meet a fault."""
UNDISTURBED = timedelta(seconds=10)
ATTEMPTS = 5


@attrs.frozen
class Stage:
    """A server with somebody who reaches it undisturbed, and those who do not."""

    server: Server
    raw: Any
    undisturbed: UseCases
    load: Load
    tally: Tally
    directory: Path
    hasher: Any
    free: asyncio.Semaphore = attrs.field(factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def commands_of(self, use_case: str) -> int:
        """Count the commands of a use case that meets no fault."""
        wire = Wire(self.server.port)
        await self._play(use_case, wire, patience=UNDISTURBED)
        return wire.commands

    async def play(self, use_case: str, *, at: int, fault: str, patience: timedelta = PATIENCE) -> None:
        """Let a new person do one thing, with a fault at one of its commands."""
        async with self.free:
            for _ in range(ATTEMPTS):
                wire = Wire(self.server.port, at=at, fault=fault, delay=PATIENCE.total_seconds() / 4)
                await self._play(use_case, wire, patience=patience)
                if wire.met:
                    self.tally.count(fault)
                    return
                # On a busy machine an earlier command may have timed out.
        raise AssertionError(f"{use_case} never came to its command {at}")

    async def _play(self, use_case: str, wire: Wire, *, patience: timedelta) -> None:
        # The same lots for everybody: one use case always sends the same commands.
        person = self.load.add(Random(use_case))
        await self._prepare(person, use_case)
        path = self.directory / f"{person.name}.sock"
        async with (
            wire.listening(path),
            open_client(f"unix://{path}", connections=2, connect_timeout=patience, command_timeout=patience) as client,
        ):
            await self._act(person, use_case, in_process(RedisAccounts(client), self.hasher))
            if wire.holds(LATE_COMMAND):
                await self._deliver(wire)
            while person.pending is not None:
                await person.settle(self.undisturbed)
            if wire.holds(LATER_COMMAND):
                await self._deliver(wire)

    async def _prepare(self, person: Person, use_case: str) -> None:
        if use_case == "register_over_old_claim":
            # What a crash leaves behind, more than half a minute later.
            orphan = an_account(f"{person.name}@example.com").user
            now, _ = await self.raw.time()
            claim = encode_claim(orphan.id, operation(), 1000 * (now - LEASE.seconds - 1))
            await self.raw.set(claim_key("pg", EmailAddress.parse(orphan.email.value).key), claim)
        elif use_case != "register":
            await person.register(self.undisturbed)
            for _ in range(3):
                await person.log_in(self.undisturbed)
            await person.log_out(self.undisturbed)

    async def _act(self, person: Person, use_case: str, disturbed: UseCases) -> None:
        if use_case == "register_over_old_claim":
            await person.register_at(disturbed, f"{person.name}@example.com")
        else:
            await getattr(person, use_case)(disturbed)

    async def _deliver(self, wire: Wire) -> None:
        wire.release.set()
        async with asyncio.timeout(10):
            await wire.delivered.wait()


@asynccontextmanager
async def staged(engine: str, directory: Path, tally: Tally, random: Random) -> AsyncGenerator[Stage]:
    async with (
        Server(directory / "server", program=PROGRAMS[engine]) as server,
        server.client() as raw,
        processes(server.url, 1, patience=UNDISTURBED) as undisturbed,
        cheap_hasher() as hasher,
    ):
        load = Load(undisturbed, people=0, contested=0, tally=tally, random=random)
        tally.engine = await engine_of(raw)
        # What is sent must not depend on who is the first to need a script.
        for script in vars(scripts).values():
            if isinstance(script, scripts.Script):
                await raw.script_load(script.source)
        yield Stage(server, raw, undisturbed[0], load, tally, directory, hasher)


@pytest.mark.parametrize("engine", PROGRAMS)
async def test_no_fault_at_any_command_of_any_use_case_makes_a_false_answer_or_half_an_account(
    engine: str, tmp_path: Path, tally: Tally, random: Random
) -> None:
    tally.fault = "fault on the wire, at each command of each use case"
    async with staged(engine, tmp_path, tally, random) as stage:
        plays = []
        for use_case in USE_CASES:
            commands = await stage.commands_of(use_case)
            assert commands > 0, use_case
            tally.count("command boundaries", commands)
            plays += [stage.play(use_case, at=at, fault=fault) for at in range(1, commands + 1) for fault in FAULTS]
        await asyncio.gather(*plays)
        await stage.load.audit(stage.raw)
    tally.assert_clean()


@pytest.mark.parametrize("engine", PROGRAMS)
@pytest.mark.parametrize("use_case", ["register", "change_everything", "end_all", "delete"])
async def test_a_reply_that_is_cut_off_is_looked_for(
    engine: str, use_case: str, tmp_path: Path, tally: Tally, random: Random
) -> None:
    async with staged(engine, tmp_path, tally, random) as stage:
        for at in range(1, await stage.commands_of(use_case) + 1):
            await stage.play(use_case, at=at, fault=CUT_REPLY, patience=UNDISTURBED)
        assert tally.counts[UNKNOWN] == 0
        await stage.load.audit(stage.raw)
    tally.assert_clean()
