"""The pool of threads that hash: how many at once, whose turn it is, how long a wait, and who is refused."""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import NoReturn

import pytest

from pickguard.adapters.argon2.pool import MOST_WAITING, PRUDENCE, HashingPool
from pickguard.domain.model.errors import HashingOverloaded
from pickguard.ports.hashing import Purpose

THREADS = 2
PATIENT = timedelta(minutes=1)


class Time:
    """A clock that stands still until it is moved, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Gate:
    """Work that is held up in its thread until it may go on; counts how much of it there is at once."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.started: list[str] = []
        self._lock = threading.Lock()
        self._permits = threading.Semaphore(0)

    def let(self, count: int) -> None:
        """Let so many go on."""
        self._permits.release(count)

    def open(self) -> None:
        """Let all go on that there will ever be."""
        self.let(10 * MOST_WAITING)

    async def until(self, started: int) -> None:
        """Return when so many have come to the gate, of all times."""
        await settled(lambda: len(self.started) >= started)

    def work(self, name: str = "") -> Callable[[], str]:
        def pass_through() -> str:
            with self._lock:
                self.started.append(name)
                self.running += 1
                self.most = max(self.most, self.running)
            self._permits.acquire()
            with self._lock:
                self.running -= 1
            return name

        return pass_through


async def settled(holds: Callable[[], bool]) -> None:
    """Let tasks and threads run until something holds."""
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def time() -> Time:
    return Time()


@contextmanager
def pool_of(
    gate: Gate, *, threads: int = THREADS, wait_budget: timedelta = PATIENT, seconds_each: float = 0.0, now: Time | None = None
) -> Generator[HashingPool]:
    pool = HashingPool(threads=threads, wait_budget=wait_budget, seconds_each=seconds_each, now=now or Time())
    try:
        yield pool
    finally:
        gate.open()  # or a test that failed would wait for its threads without end
        pool.close()


Task = asyncio.Task[str]


def ask(pool: HashingPool, gate: Gate, purpose: Purpose = Purpose.LOG_IN, name: str = "") -> Task:
    return asyncio.create_task(pool.run(gate.work(name), purpose=purpose))


def in_line(pool: HashingPool, purpose: Purpose | None = None) -> int:
    return sum(len(queue) for each, queue in pool._waiting.items() if purpose in {None, each})


async def all_busy(pool: HashingPool, gate: Gate, *, waiting: int) -> tuple[list[Task], list[Task]]:
    """Occupy every thread, then let so many wait in line; return those who work and those who wait."""
    running = [ask(pool, gate) for _ in range(pool.threads)]
    await gate.until(pool.threads)
    return running, await join(pool, gate, Purpose.LOG_IN, waiting)


async def join(pool: HashingPool, gate: Gate, purpose: Purpose, count: int) -> list[Task]:
    """Let so many more wait for a purpose."""
    before = in_line(pool, purpose)
    tasks = [ask(pool, gate, purpose, f"{purpose.value} {before + number}") for number in range(1, count + 1)]
    await settled(lambda: in_line(pool, purpose) == before + count)
    return tasks


async def cancel(task: Task) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


# How much at once


@pytest.mark.requirement(72)
@pytest.mark.would_have_caught("keycloak-28477")
async def test_there_is_no_more_work_at_once_than_there_are_threads(gate: Gate) -> None:
    with pool_of(gate) as pool:
        running, waiting = await all_busy(pool, gate, waiting=4 * THREADS)
        gate.open()
        await asyncio.gather(*running, *waiting)
        await settled(lambda: pool._running == 0)
        assert (gate.most, len(gate.started), in_line(pool)) == (THREADS, 5 * THREADS, 0)


async def test_work_that_fails_tells_why_and_frees_its_thread(gate: Gate) -> None:
    def fail() -> NoReturn:
        raise KeyboardInterrupt("why")

    gate.open()
    with pool_of(gate, threads=1) as pool:
        with pytest.raises(KeyboardInterrupt, match="why"):
            await pool.run(fail, purpose=Purpose.LOG_IN)
        assert await ask(pool, gate, name="next") == "next"


async def test_a_thread_takes_the_next_turn_without_the_event_loop(gate: Gate) -> None:
    second = threading.Event()
    with pool_of(gate, threads=1) as pool:
        running, _ = await all_busy(pool, gate, waiting=0)
        waiting = asyncio.create_task(pool.run(second.set, purpose=Purpose.LOG_IN))
        await settled(lambda: in_line(pool) == 1)
        gate.open()
        assert second.wait(5)  # the event loop stands still here
        await asyncio.gather(*running, waiting)


# Whose turn it is


async def test_those_who_wait_for_one_purpose_come_in_the_order_of_their_arrival(gate: Gate) -> None:
    with pool_of(gate, threads=1) as pool:
        running, waiting = await all_busy(pool, gate, waiting=10)
        gate.open()
        await asyncio.gather(*running, *waiting)
        assert gate.started[1:] == [f"log-in {number}" for number in range(1, 11)]


async def test_the_purposes_take_turns(gate: Gate) -> None:
    with pool_of(gate, threads=1) as pool:
        running, waiting = await all_busy(pool, gate, waiting=4)
        waiting += await join(pool, gate, Purpose.REGISTRATION, 2)
        waiting += await join(pool, gate, Purpose.PROOF, 1)
        gate.open()
        await asyncio.gather(*running, *waiting)
        assert gate.started[1:] == [
            "log-in 1",
            "registration 1",
            "proof 1",
            "log-in 2",
            "registration 2",
            "log-in 3",
            "log-in 4",
        ]


@pytest.mark.requirement(72)
@pytest.mark.parametrize(("flood", "other"), list(itertools.permutations(Purpose, 2)))
async def test_a_flood_for_one_purpose_makes_no_other_wait_more_than_a_turn(gate: Gate, flood: Purpose, other: Purpose) -> None:
    budget = timedelta(seconds=12) / PRUDENCE
    with pool_of(gate, threads=1, wait_budget=budget, seconds_each=1.0) as pool:
        tasks, _ = await all_busy(pool, gate, waiting=0)
        tasks += await join(pool, gate, flood, 12)
        with pytest.raises(HashingOverloaded) as refused:
            await ask(pool, gate, flood)
        assert refused.value.retry_after == timedelta(seconds=13)
        tasks += await join(pool, gate, other, 1)
        gate.open()
        await asyncio.gather(*tasks)
        assert gate.started.index(f"{other.value} 1") <= 2


# How long a wait


async def test_who_would_wait_longer_than_the_budget_is_refused_at_once(gate: Gate) -> None:
    # Two seconds a hash on two threads: the fourth in line would wait for four.
    with pool_of(gate, wait_budget=timedelta(seconds=3) / PRUDENCE, seconds_each=2.0) as pool:
        running, waiting = await all_busy(pool, gate, waiting=3)
        with pytest.raises(HashingOverloaded) as refused:
            await ask(pool, gate)
        assert refused.value.retry_after == timedelta(seconds=4)
        assert in_line(pool) == 3
        gate.open()
        await asyncio.gather(*running, *waiting)


async def test_those_of_other_purposes_who_come_first_count_for_the_wait(gate: Gate) -> None:
    with pool_of(gate, threads=1, wait_budget=timedelta(seconds=6) / PRUDENCE, seconds_each=1.0) as pool:
        tasks, waiting = await all_busy(pool, gate, waiting=4)
        tasks += [*waiting, *await join(pool, gate, Purpose.REGISTRATION, 3)]
        with pytest.raises(HashingOverloaded) as refused:  # four registrations, and four log-ins between them
            await ask(pool, gate, Purpose.REGISTRATION)
        assert refused.value.retry_after == timedelta(seconds=8)
        gate.open()
        await asyncio.gather(*tasks)


@pytest.mark.requirement(72)
@pytest.mark.would_have_caught("keycloak-28477")
async def test_the_queue_is_bounded_however_short_the_wait(gate: Gate) -> None:
    with pool_of(gate) as pool:
        running, waiting = await all_busy(pool, gate, waiting=MOST_WAITING)
        with pytest.raises(HashingOverloaded) as refused:
            await ask(pool, gate)
        assert refused.value.retry_after == timedelta(seconds=1)
        gate.open()
        await asyncio.gather(*running, *waiting)


async def test_who_does_wait_longer_than_the_budget_is_refused_then_and_loses_the_place(gate: Gate) -> None:
    with pool_of(gate, wait_budget=timedelta(0)) as pool:
        running, _ = await all_busy(pool, gate, waiting=0)
        with pytest.raises(HashingOverloaded) as refused:
            await ask(pool, gate)
        assert refused.value.retry_after == timedelta(seconds=1)
        assert in_line(pool) == 0
        gate.open()
        await asyncio.gather(*running)


async def test_a_turn_that_comes_too_late_is_not_taken_even_if_the_event_loop_is_busy(gate: Gate, time: Time) -> None:
    with pool_of(gate, threads=1, wait_budget=timedelta(seconds=60), now=time) as pool:
        running, _ = await all_busy(pool, gate, waiting=0)
        spent = timedelta(seconds=50)
        late = asyncio.create_task(pool.run(gate.work("late"), purpose=Purpose.LOG_IN, spent=spent))
        in_time = ask(pool, gate, name="in time")
        await settled(lambda: in_line(pool) == 2)
        time.seconds = 11.0  # no timer has run, since the loop's own clock stands still
        gate.open()
        await asyncio.gather(*running, in_time)
        with pytest.raises(HashingOverloaded) as refused:
            await late
        assert refused.value.retry_after == timedelta(seconds=22)
        assert gate.started == ["", "in time"]


async def test_the_last_in_line_are_refused_as_soon_as_hashes_are_seen_to_take_too_long(gate: Gate, time: Time) -> None:
    with pool_of(gate, threads=1, wait_budget=timedelta(seconds=60), seconds_each=1.0, now=time) as pool:
        running, waiting = await all_busy(pool, gate, waiting=10)
        time.seconds = 20.0  # the first hash took 20 seconds: one more has its turn now, and two in time
        gate.let(1)
        refused = await asyncio.gather(*waiting[3:], return_exceptions=True)
        assert [type(each) for each in refused] == [HashingOverloaded] * 7
        assert in_line(pool) == 2
        gate.open()
        assert await asyncio.gather(*running, *waiting[:3]) == ["", "log-in 1", "log-in 2", "log-in 3"]


async def test_one_who_waits_for_something_else_costs_the_last_in_line_no_more_than_a_turn(gate: Gate, time: Time) -> None:
    with pool_of(gate, threads=1, wait_budget=timedelta(seconds=45) / PRUDENCE, seconds_each=2.0, now=time) as pool:
        running, waiting = await all_busy(pool, gate, waiting=20)
        waiting += await join(pool, gate, Purpose.REGISTRATION, 1)
        time.seconds = 2.0
        gate.open()
        assert len(set(await asyncio.gather(*running, *waiting))) == 22


async def test_what_a_hash_takes_is_measured(gate: Gate, time: Time) -> None:
    def take(seconds: float) -> Callable[[], None]:
        def pass_time() -> None:
            time.seconds += seconds

        return pass_time

    with pool_of(gate, threads=1, wait_budget=timedelta(seconds=6) / PRUDENCE, seconds_each=1000.0, now=time) as pool:
        for seconds in (4.0, 14.0):  # the first in place of the guess, the next as a fifth of the average: 6 seconds
            await pool.run(take(seconds), purpose=Purpose.LOG_IN)
            await settled(lambda: pool._running == 0)
        running, waiting = await all_busy(pool, gate, waiting=1)
        with pytest.raises(HashingOverloaded) as refused:
            await ask(pool, gate)
        assert refused.value.retry_after == timedelta(seconds=12)
        gate.open()
        await asyncio.gather(*running, *waiting)


async def test_what_a_request_has_waited_already_counts_against_its_budget(gate: Gate) -> None:
    with pool_of(gate, seconds_each=1.0) as pool:
        running, _ = await all_busy(pool, gate, waiting=0)
        with pytest.raises(HashingOverloaded):
            await pool.run(gate.work(), purpose=Purpose.LOG_IN, spent=PATIENT)
        gate.open()
        await asyncio.gather(*running)
        await settled(lambda: pool._running == 0)
        # A turn that is free is taken all the same.
        assert await pool.run(gate.work("late"), purpose=Purpose.LOG_IN, spent=PATIENT) == "late"


# Cancelling and closing


async def test_who_is_cancelled_while_waiting_gives_the_place_back(gate: Gate) -> None:
    with pool_of(gate) as pool:
        running, waiting = await all_busy(pool, gate, waiting=3)
        await cancel(waiting[1])
        assert in_line(pool) == 2
        gate.open()
        await asyncio.gather(*running, waiting[0], waiting[2])
        assert len(gate.started) == THREADS + 2


async def test_who_is_cancelled_while_hashing_holds_the_place_until_the_thread_has_ended(gate: Gate) -> None:
    with pool_of(gate) as pool:
        running, waiting = await all_busy(pool, gate, waiting=1)
        for task in running:
            await cancel(task)
        assert (pool._running, len(gate.started)) == (THREADS, THREADS)
        gate.open()
        await asyncio.gather(*waiting)
        await settled(lambda: pool._running == 0)
        assert gate.most == THREADS


async def test_cancelling_at_any_point_never_loses_a_place(gate: Gate) -> None:
    gate.open()
    with pool_of(gate) as pool:
        for steps in range(12):
            tasks = [ask(pool, gate, purpose) for purpose in Purpose for _ in range(THREADS)]
            for _ in range(steps):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert await ask(pool, gate, name="still there") == "still there"
        # One that was cancelled may still be in its thread.
        await settled(lambda: pool._running == 0)
        assert in_line(pool) == 0


async def test_those_who_wait_when_it_is_closed_are_refused(gate: Gate) -> None:
    with pool_of(gate, threads=1) as pool:
        running, waiting = await all_busy(pool, gate, waiting=2)
    await asyncio.gather(*running)
    assert [type(each) for each in await asyncio.gather(*waiting, return_exceptions=True)] == [HashingOverloaded] * 2
    assert len(gate.started) == 1
    with pytest.raises(RuntimeError):
        await ask(pool, gate)


def test_an_event_loop_that_has_ended_leaves_no_thread_behind(gate: Gate) -> None:
    with pool_of(gate, threads=1) as pool:

        async def begin_and_end() -> None:
            asyncio.create_task(pool.run(gate.work(), purpose=Purpose.LOG_IN)).set_name("left")
            await gate.until(1)

        async def go_on() -> str:
            gate.open()
            return await pool.run(gate.work("later"), purpose=Purpose.LOG_IN)

        asyncio.run(begin_and_end())
        assert asyncio.run(go_on()) == "later"
