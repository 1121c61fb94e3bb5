"""Argon2id in a bounded pool: how many at once, how long a wait, and what a stored hash may be."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Literal, NoReturn

import argon2
import pytest

from pickguard.adapters.argon2 import Argon2Hasher, Argon2Parameters, available_cores
from pickguard.domain.model.errors import HashingOverloaded
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, cheap_hasher

THREADS = 2
PATIENT = timedelta(minutes=1)


class Gate:
    """Holds up every verification in its thread until it may go on, and counts how many there are at once."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.started = 0
        self._lock = threading.Lock()
        self._permits = threading.Semaphore(0)

    def let(self, count: int) -> None:
        """Let so many go on."""
        self._permits.release(count)

    def open(self) -> None:
        """Let all go on that there will ever be."""
        self.let(1000)

    async def until(self, started: int) -> None:
        """Return when so many have come to the gate, of all times."""
        await settled(lambda: self.started >= started)

    def __enter__(self) -> None:
        with self._lock:
            self.started += 1
            self.running += 1
            self.most = max(self.most, self.running)
        self._permits.acquire()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.running -= 1


class HeldUp(argon2.PasswordHasher):
    """A hasher of argon2-cffi behind a gate."""

    gate: Gate

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002
        with self.gate:
            return super().verify(hash, password)


async def settled(holds: Callable[[], bool]) -> None:
    """Let tasks and threads run until something holds."""
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@asynccontextmanager
async def bounded(gate: Gate, wait_budget: timedelta = PATIENT) -> AsyncGenerator[Argon2Hasher]:
    async with cheap_hasher(threads=THREADS, wait_budget=wait_budget) as hasher:
        hasher._hasher = HeldUp(time_cost=1, memory_cost=8, parallelism=1)
        hasher._hasher.gate = gate
        try:
            yield hasher
        finally:
            gate.open()  # or a test that failed would wait for its threads without end


def verify(hasher: Argon2Hasher) -> "asyncio.Task[bool]":
    return asyncio.create_task(hasher.verify(None, GOOD_PASSWORD))


async def all_busy(
    hasher: Argon2Hasher, gate: Gate, *, waiting: int
) -> "tuple[list[asyncio.Task[bool]], list[asyncio.Task[bool]]]":
    """Occupy every thread, then let so many wait in line; return those who hash and those who wait."""
    running = [verify(hasher) for _ in range(THREADS)]
    await gate.until(THREADS)
    in_line = [verify(hasher) for _ in range(waiting)]
    await settled(lambda: len(hasher._waiting) == waiting)
    return running, in_line


async def cancel(task: "asyncio.Task[bool]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_password_matches_its_hash_and_no_other() -> None:
    async with cheap_hasher() as hasher:
        one, other = await hasher.hash(GOOD_PASSWORD), await hasher.hash(GOOD_PASSWORD)
        assert one != other
        assert await hasher.verify(one, GOOD_PASSWORD)
        assert await hasher.verify(other, GOOD_PASSWORD)
        assert not await hasher.verify(one, OTHER_PASSWORD)


async def test_the_default_cost_is_what_owasp_asks_for() -> None:
    async with Argon2Hasher(threads=1) as hasher:
        assert (await hasher.hash(GOOD_PASSWORD)).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_a_hash_of_other_parameters_needs_a_rehash() -> None:
    async with cheap_hasher() as weak, Argon2Hasher(parameters=Argon2Parameters(memory_kib=16, time_cost=1)) as strong:
        stored = await weak.hash(GOOD_PASSWORD)
        assert not weak.needs_rehash(stored)
        assert strong.needs_rehash(stored)
        assert await strong.verify(stored, GOOD_PASSWORD)


def test_there_are_as_many_threads_as_cores_by_default() -> None:
    assert Argon2Hasher(parameters=Argon2Parameters(memory_kib=8, time_cost=1))._threads == available_cores() >= 1


# What is stored, what is given


async def test_a_log_in_for_nobody_takes_a_real_verification(gate: Gate) -> None:
    gate.open()
    async with bounded(gate) as hasher:
        assert not await hasher.verify(None, GOOD_PASSWORD)
        decoy = argon2.extract_parameters(hasher._decoy)
        assert decoy == argon2.extract_parameters(await hasher.hash(GOOD_PASSWORD))
    assert gate.started == 1


@pytest.mark.parametrize("secret", ["", "\0", "\ud800", "x\udcff", "\ud83d\ude00"])
async def test_a_password_that_nobody_can_have_matches_nothing(secret: str) -> None:
    async with cheap_hasher() as hasher:
        stored = await hasher.hash("\N{GRINNING FACE}")
        assert [await hasher.verify(each, secret) for each in (None, stored)] == [False, False]


STORED = {
    "nothing": "",
    "a word": "x",
    "a header alone": "$argon2id$",
    "no hash": "$argon2id$v=19$m=8,t=1,p=1$",
    "another function": "$2b$12$C6UzMDM.H6dfI/f/IKcEeO3UQ1h0p3mM2CnjUQdV4FfZxF8n8rwE.",
    "more memory than there is": "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b1EWg",
    "a control character": "$argon2id$\0",
    "a letter that is not ASCII": "$argon2id$v=19$m=8,t=1,p=1$sält$",
    "a lone surrogate": "$argon2id$\ud800",
}


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
async def test_a_stored_hash_that_cannot_be_read_matches_nothing(stored: str) -> None:
    async with cheap_hasher(threads=1) as hasher:
        assert not await hasher.verify(stored, "")
        assert hasher._running == 0


# How many at once


async def test_no_more_hashes_run_at_once_than_there_are_threads(gate: Gate) -> None:
    async with bounded(gate) as hasher:
        running, waiting = await all_busy(hasher, gate, waiting=4 * THREADS)
        gate.open()
        assert await asyncio.gather(*running, *waiting) == [False] * 5 * THREADS
        assert (gate.most, gate.started) == (THREADS, 5 * THREADS)
        assert (hasher._running, len(hasher._waiting)) == (0, 0)


async def test_those_who_wait_come_in_the_order_of_their_arrival() -> None:
    came: list[int] = []
    async with cheap_hasher(threads=1, wait_budget=PATIENT) as hasher:

        async def come(number: int) -> None:
            await hasher.hash(GOOD_PASSWORD)
            came.append(number)

        await asyncio.gather(*(come(number) for number in range(10)))
    assert came == list(range(10))


async def test_who_would_wait_longer_than_the_budget_is_refused_at_once(gate: Gate) -> None:
    async with bounded(gate, timedelta(seconds=3)) as hasher:
        running, waiting = await all_busy(hasher, gate, waiting=3)
        hasher._seconds_each = 2.0  # two seconds a hash on two threads: the fourth in line would wait for four
        with pytest.raises(HashingOverloaded) as refused:
            await hasher.verify(None, GOOD_PASSWORD)
        assert refused.value.retry_after == timedelta(seconds=4)
        assert len(hasher._waiting) == 3
        gate.open()
        assert await asyncio.gather(*running, *waiting) == [False] * (THREADS + 3)
        assert hasher._running == 0


async def test_who_does_wait_longer_than_the_budget_is_refused_then_and_loses_the_place(gate: Gate) -> None:
    async with bounded(gate, timedelta(milliseconds=5)) as hasher:
        running, _ = await all_busy(hasher, gate, waiting=0)
        hasher._seconds_each = 0.0
        with pytest.raises(HashingOverloaded) as refused:
            await hasher.verify(None, GOOD_PASSWORD)
        assert refused.value.retry_after == timedelta(seconds=1)
        assert len(hasher._waiting) == 0
        gate.open()
        await asyncio.gather(*running)
        assert hasher._running == 0


async def test_a_hash_that_fails_gives_its_place_back() -> None:
    async with cheap_hasher(threads=1) as hasher:
        with pytest.raises(UnicodeEncodeError):
            await hasher.hash("\ud800")
        assert await hasher.verify(await hasher.hash(GOOD_PASSWORD), GOOD_PASSWORD)
        assert hasher._running == 0


# Cancelling


async def test_who_is_cancelled_while_waiting_gives_the_place_back(gate: Gate) -> None:
    async with bounded(gate) as hasher:
        running, waiting = await all_busy(hasher, gate, waiting=3)
        await cancel(waiting[1])
        assert len(hasher._waiting) == 2
        gate.open()
        await asyncio.gather(*running, waiting[0], waiting[2])
        assert (gate.started, hasher._running) == (THREADS + 2, 0)


async def test_who_is_cancelled_while_hashing_holds_the_place_until_the_thread_has_ended(gate: Gate) -> None:
    async with bounded(gate) as hasher:
        running, waiting = await all_busy(hasher, gate, waiting=1)
        for task in running:
            await cancel(task)
        assert (hasher._running, gate.started) == (THREADS, THREADS)
        gate.open()
        assert not await waiting[0]
        await settled(lambda: hasher._running == 0)
        assert gate.most == THREADS


async def test_who_is_cancelled_in_the_moment_of_the_turn_passes_it_on(gate: Gate) -> None:
    async with bounded(gate) as hasher:
        running, waiting = await all_busy(hasher, gate, waiting=2)
        turn = hasher._waiting[0]
        gate.let(1)
        await settled(turn.done)
        await cancel(waiting[0])
        await gate.until(THREADS + 1)
        gate.open()
        assert await asyncio.gather(*running, waiting[1]) == [False] * (THREADS + 1)
        assert (gate.most, gate.started, hasher._running) == (THREADS, THREADS + 1, 0)


async def test_cancelling_at_any_point_never_loses_a_place() -> None:
    async with cheap_hasher(threads=THREADS, wait_budget=PATIENT) as hasher:
        for steps in range(12):
            tasks = [verify(hasher) for _ in range(4 * THREADS)]
            for _ in range(steps):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert not await hasher.verify(None, GOOD_PASSWORD)
        # One that was cancelled may still be in its thread.
        await settled(lambda: hasher._running == 0)
        assert len(hasher._waiting) == 0


async def test_memory_that_cannot_be_had_is_no_wrong_password(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cheap_hasher() as hasher:
        stored = await hasher.hash("a password")

        def fail(*_: object) -> NoReturn:
            raise argon2.exceptions.VerificationError(argon2.low_level.error_to_str(-22))

        monkeypatch.setattr(argon2.PasswordHasher, "verify", fail)
        with pytest.raises(HashingOverloaded):
            await hasher.verify(stored, "a password")

        def fail_to_hash(*_: object) -> NoReturn:
            raise argon2.exceptions.HashingError(argon2.low_level.error_to_str(-22))

        monkeypatch.setattr(argon2.PasswordHasher, "hash", fail_to_hash)
        with pytest.raises(HashingOverloaded):
            await hasher.hash("a password")


async def test_what_a_request_has_waited_already_counts_against_its_budget() -> None:
    gate = Gate()
    async with bounded(gate) as hasher:
        running, _ = await all_busy(hasher, gate, waiting=0)
        with pytest.raises(HashingOverloaded):
            await hasher.hash(GOOD_PASSWORD, spent=PATIENT)
        gate.open()
        await asyncio.gather(*running)
        assert await hasher.hash(GOOD_PASSWORD, spent=PATIENT)  # a turn that is free is taken all the same
