"""Argon2id (RFC 9106) in a bounded pool of threads."""

import asyncio
import math
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Self, TypeVar

import argon2
import attrs

from pickguard.domain.model.errors import HashingOverloaded

Result = TypeVar("Result")

MAX_MEMORY_KIB = 4_194_304
"""A stored hash that asks for more than these 4 GiB is not obeyed."""

_OUT_OF_MEMORY = argon2.low_level.error_to_str(-22)  # ARGON2_MEMORY_ALLOCATION_ERROR: not a wrong password


def available_cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@attrs.frozen(kw_only=True)
class Argon2Parameters:
    """The cost of a hash. The default is the least that OWASP's Password Storage Cheat Sheet and ASVS 5.0 11.4.2 accept."""

    memory_kib: int = 19_456
    time_cost: int = 2
    parallelism: int = 1


class Argon2Hasher:
    """A `PasswordHasher` on argon2-cffi, which lets go of the interpreter's lock while it hashes.

    At most `threads` hashes run at once, so memory is bounded by that many times the memory cost. Requests beyond wait in
    order of arrival, for `wait_budget` at most: one that by the time hashes take would wait longer is refused at once, and
    one that does wait longer all the same is refused then. Close it to end its threads.
    """

    def __init__(
        self,
        *,
        parameters: Argon2Parameters | None = None,
        threads: int | None = None,
        wait_budget: timedelta = timedelta(seconds=2),
    ) -> None:
        parameters = parameters or Argon2Parameters()
        self._hasher = argon2.PasswordHasher(
            time_cost=parameters.time_cost, memory_cost=parameters.memory_kib, parallelism=parameters.parallelism
        )
        self._threads = threads or available_cores()
        self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="pickguard-argon2")
        self._budget = wait_budget.total_seconds()
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        # What a log-in for an unknown address is verified against: nobody knows a password for it.
        began = time.perf_counter()
        self._decoy = self._hasher.hash(os.urandom(32))
        self._seconds_each = time.perf_counter() - began  # from now on a moving average of what one hash takes

    async def hash(self, password: str, *, spent: timedelta = timedelta(0)) -> str:
        """See `PasswordHasher.hash`."""
        try:
            return await self._run(lambda: self._hasher.hash(password), spent)
        except argon2.exceptions.HashingError as error:
            raise self._refusal(0) from error

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """See `PasswordHasher.verify`. A stored hash that cannot be read matches nothing."""
        return await self._run(lambda: self._verify(password_hash, password))

    def needs_rehash(self, password_hash: str) -> bool:
        """See `PasswordHasher.needs_rehash`."""
        return self._hasher.check_needs_rehash(password_hash)

    async def __aenter__(self) -> Self:
        """Nothing is acquired before the first hash."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let running hashes end, and their threads with them."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _verify(self, password_hash: str | None, password: str) -> bool:
        try:
            # Lone surrogates, which no stored password has, are encoded rather than refused: refusing would be quicker.
            secret = password.encode("utf-8", "surrogatepass")
            stored = password_hash or self._decoy
            if argon2.extract_parameters(stored).memory_cost > MAX_MEMORY_KIB:
                return False
            self._hasher.verify(stored, secret)
        except argon2.exceptions.VerificationError as error:
            if error.args == (_OUT_OF_MEMORY,):
                raise self._refusal(0) from error
            return False
        except (argon2.exceptions.InvalidHashError, UnicodeError):
            return False
        return password_hash is not None

    async def _run(self, work: Callable[[], Result], spent: timedelta = timedelta(0)) -> Result:
        await self._take_turn(max(0.0, self._budget - spent.total_seconds()))
        loop = asyncio.get_running_loop()
        began = loop.time()
        # The slot is given back when the thread has ended, which may be after the caller was cancelled.
        future = loop.run_in_executor(self._executor, work)
        future.add_done_callback(lambda _: self._end_turn(loop.time() - began))
        return await asyncio.shield(future)

    async def _take_turn(self, budget: float) -> None:
        if self._running < self._threads and not self._waiting:
            self._running += 1
            return
        expected = self._expected_wait(len(self._waiting) + 1)
        if expected > budget:
            raise self._refusal(expected)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(budget):
                await turn
        except TimeoutError:
            self._give_up(turn)
            raise self._refusal(self._expected_wait(len(self._waiting) + 1)) from None
        except asyncio.CancelledError:
            self._give_up(turn)
            raise

    def _give_up(self, turn: "asyncio.Future[None]") -> None:
        if turn.done() and not turn.cancelled():  # the turn came in the same moment: pass it on
            self._pass_on()
        elif turn in self._waiting:
            self._waiting.remove(turn)

    def _end_turn(self, seconds: float) -> None:
        self._seconds_each = 0.9 * self._seconds_each + 0.1 * seconds
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1

    def _expected_wait(self, place: int) -> float:
        return place / self._threads * self._seconds_each

    def _refusal(self, expected: float) -> HashingOverloaded:
        retry_after = timedelta(seconds=max(1, math.ceil(expected)))
        return HashingOverloaded("too many passwords are waiting to be hashed", retry_after=retry_after)
