"""The threads that hash, and the turns of those who wait for one."""

import asyncio
import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Final, Protocol, TypeVar

import attrs

from pickguard.domain.model.errors import HashingOverloaded
from pickguard.ports.hashing import Purpose

Result = TypeVar("Result")

MOST_WAITING: Final = 1024
"""How many may wait for each purpose, however short the wait."""

PRUDENCE: Final = 0.5
"""Who is expected to wait for more than this part of the budget is refused: in a burst on one core a hash takes up to 1.7 times
as long as before it, and a refusal at once is better than one after the whole wait."""

_WEIGHT_OF_THE_LAST: Final = 0.2
"""In the moving average of what a hash takes."""


class HashingWatch(Protocol):
    """Is told how hashing goes. All but `waiting` is told in the event loop."""

    def threads(self, count: int) -> None:
        """Take note of how many pieces of work may be done at once."""

    def waiting(self, count: int) -> None:
        """Take note of how many wait for their turn. Told in any thread, one at a time: return at once."""

    def hashed(self, purpose: Purpose, *, waited: float, took: float) -> None:
        """Take note of one piece of work that was done, and the seconds before and in it."""

    def refused(self, purpose: Purpose) -> None:
        """Take note of one that was refused."""


@attrs.frozen(kw_only=True)
class _Times:
    """How many seconds went by before a piece of work, and in it."""

    waited: float
    took: float


@attrs.frozen(kw_only=True, eq=False)
class _Turn:
    """One who waits. What the work comes to is told to its event loop."""

    work: Callable[[], Any]
    purpose: Purpose
    asked: float
    deadline: float
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"
    watch: HashingWatch | None = None

    def tell(self, result: object, error: BaseException | None, times: _Times | None = None) -> None:
        """Set the outcome, from a thread. Where the loop has been closed nobody wants it."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._set, result, error, times)

    def refuse(self, error: HashingOverloaded) -> None:
        """Set the outcome, in the event loop."""
        self._set(None, error)

    def _set(self, result: object, error: BaseException | None, times: _Times | None = None) -> None:
        if self.watch is not None and times is not None:
            self.watch.hashed(self.purpose, waited=times.waited, took=times.took)
        if self.future.done():  # cancelled meanwhile
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class HashingPool:
    """Does work in threads, at most `threads` pieces at once. Close it to end them.

    The rest waits, each purpose in a queue of its own, in order of arrival. The queues take turns, so that a flood for one
    purpose costs another no more than its share. Who would, by what hashes take at the moment, use up the budget or nearly so
    is refused at once. Where hashes begin to take longer, the last in line are refused as soon as that is seen, and nobody
    waits for longer than the budget.

    A thread takes the next turn itself: it does not wait for the event loop, which may be busy with something else.
    """

    def __init__(
        self,
        *,
        threads: int,
        wait_budget: timedelta,
        seconds_each: float,
        now: Callable[[], float] = time.monotonic,
        watch: HashingWatch | None = None,
    ) -> None:
        """`seconds_each` is what a hash may take, until the first has been measured."""
        if watch is not None:
            watch.threads(threads)
        self._watch = watch
        self.threads = threads
        self._budget = wait_budget.total_seconds()
        self._seconds_each = seconds_each
        self._measured = False
        self._now = now
        self._executor = ThreadPoolExecutor(threads, "pickguard-argon2")
        # Guards all that follows: both the event loop and the threads change it, and none holds it for long.
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: dict[Purpose, deque[_Turn]] = {purpose: deque() for purpose in Purpose}
        self._order = deque(Purpose)

    async def run(self, work: Callable[[], Result], *, purpose: Purpose, spent: timedelta = timedelta(0)) -> Result:
        """Return what `work` returns in a thread, and raise what it raises.

        Raises `HashingOverloaded`. Work that has begun is ended also where the caller is cancelled.
        """
        loop = asyncio.get_running_loop()
        budget = max(0.0, self._budget - spent.total_seconds())
        asked = self._now()
        turn = _Turn(
            work=work,
            purpose=purpose,
            asked=asked,
            deadline=asked + budget,
            loop=loop,
            future=loop.create_future(),
            watch=self._watch,
        )
        timer = None
        try:
            if not self._begin_or_wait(turn, budget):
                timer = loop.call_later(budget, self._expire, turn)
            result: Result = await turn.future
        except asyncio.CancelledError:
            self._leave(turn)
            raise
        except HashingOverloaded:
            if self._watch is not None:
                self._watch.refused(purpose)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        return result

    def close(self) -> None:
        """Let running work end, and the threads with it. Those who wait are refused."""
        with self._lock:
            left = [turn for queue in self._waiting.values() for turn in queue]
            for queue in self._waiting.values():
                queue.clear()
            self._note_waiting()
        for turn in left:
            turn.tell(None, refusal(0))
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _begin_or_wait(self, turn: _Turn, budget: float) -> bool:
        """Return whether the work has begun; else it waits for its turn."""
        with self._lock:
            if self._running < self.threads:  # nobody waits while a thread is free
                self._executor.submit(self._work, turn)
                self._running += 1
                return True
            queue = self._waiting[turn.purpose]
            expected = self._longest_wait(turn.purpose)
            if expected > PRUDENCE * budget or len(queue) >= MOST_WAITING:
                raise refusal(expected)
            queue.append(turn)
            self._note_waiting()
            return False

    def _work(self, turn: _Turn | None) -> None:
        """Work, in a thread, until nobody waits."""
        began = self._now()
        while turn is not None:
            result, error = None, None
            try:
                result = turn.work()
            except BaseException as raised:  # noqa: BLE001 (told to the one whose work it is)
                error = raised
            # From one end to the next: to get at the interpreter's lock between two pieces is a part of what they take.
            before, began = began, self._now()
            turn.tell(result, error, _Times(waited=before - turn.asked, took=began - before))
            turn = self._next_turn(began - before)

    def _next_turn(self, seconds: float) -> _Turn | None:
        with self._lock:
            weight = _WEIGHT_OF_THE_LAST if self._measured else 1.0
            self._measured = True
            self._seconds_each += weight * (seconds - self._seconds_each)
            try:
                while turn := self._pop():
                    if turn.deadline > self._now():
                        self._shed()
                        return turn
                    # Its timer is late, because the event loop is busy.
                    turn.tell(None, refusal(self._longest_wait(turn.purpose)))
                self._running -= 1
                return None
            finally:
                self._note_waiting()

    def _shed(self) -> None:
        """Refuse those at the ends of the queues whose turn will, as it looks now, come too late."""
        for purpose, queue in self._waiting.items():
            while queue:
                place = len(queue)
                others = sum(min(len(other), place) for other in self._waiting.values() if other is not queue)
                if self._now() + self._seconds_of(place + others) <= queue[-1].deadline:
                    break
                queue.pop().tell(None, refusal(self._longest_wait(purpose)))

    def _pop(self) -> _Turn | None:
        for _ in range(len(self._order)):
            queue = self._waiting[self._order[0]]
            self._order.rotate(-1)
            if queue:
                return queue.popleft()
        return None

    def _expire(self, turn: _Turn) -> None:
        if self._leave(turn):
            with self._lock:
                expected = self._longest_wait(turn.purpose)
            turn.refuse(refusal(expected))

    def _leave(self, turn: _Turn) -> bool:
        """Give up the place in line; return whether there was one."""
        with self._lock:
            try:
                self._waiting[turn.purpose].remove(turn)
            except ValueError:
                return False
            self._note_waiting()
            return True

    def _note_waiting(self) -> None:
        if self._watch is not None:
            self._watch.waiting(sum(map(len, self._waiting.values())))

    def _longest_wait(self, purpose: Purpose) -> float:
        """Return the seconds that one more would wait at most, if no other purpose joins those that wait now.

        Before each place comes one of every other queue that is not empty, and those may well grow.
        """
        place = len(self._waiting[purpose]) + 1
        queues = 1 + sum(bool(queue) for other, queue in self._waiting.items() if other is not purpose)
        return self._seconds_of(place * queues)

    def _seconds_of(self, turns: int) -> float:
        return turns / self.threads * self._seconds_each


def refusal(expected: float) -> HashingOverloaded:
    """Return what is told to one who would wait for so many seconds."""
    retry_after = timedelta(seconds=max(1, math.ceil(expected)))
    return HashingOverloaded("too many passwords are waiting to be hashed", retry_after=retry_after)
