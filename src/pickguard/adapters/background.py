"""Work after the answer, in tasks of the event loop; and waiting."""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from datetime import timedelta
from typing import Final, Self

import attrs

from pickguard.domain.model.errors import Unavailable

logger = logging.getLogger("pickguard.background")

MOST_WAITING: Final = 1024
MOST_AT_ONCE: Final = 8
PAUSES: Final = (timedelta(seconds=1), timedelta(seconds=5), timedelta(seconds=25))
"""How long to wait before each further try."""
SCATTER: Final = timedelta(seconds=1)
"""How long scattered work waits at most. A mail may well come that much later, and what it takes, some milliseconds, is lost in
what else a second has."""


@attrs.frozen(kw_only=True, eq=False)
class _Job:
    """A piece of work, and the context of whoever submitted it, so that the log names their request."""

    work: Callable[[], Awaitable[None]]
    what: str
    context: Context = attrs.field(factory=copy_context)


class LoopDeferred:
    """`Deferred` in tasks of one event loop, a few at once. Leaving it as a context manager gives them `grace` to end."""

    def __init__(
        self,
        *,
        grace: timedelta = timedelta(seconds=3),
        pauses: Sequence[timedelta] = PAUSES,
        scatter: timedelta = SCATTER,
        most_waiting: int = MOST_WAITING,
        most_at_once: int = MOST_AT_ONCE,
    ) -> None:
        self._grace = grace
        self._pauses = tuple(pauses)
        self._scatter = scatter
        self._most_waiting = most_waiting
        self._most_at_once = most_at_once
        self._waiting: deque[_Job] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._scattered: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    def submit(self, work: Callable[[], Awaitable[None]], *, what: str, scattered: bool = False) -> None:
        """See `Deferred.submit`."""
        if len(self._waiting) + len(self._scattered) >= self._most_waiting:
            raise Unavailable("too much is waiting to be done after its answer")
        job = _Job(work=work, what=what)
        if scattered and self._scatter:
            task = asyncio.get_running_loop().create_task(self._submit_later(job))
            self._scattered.add(task)
            task.add_done_callback(self._scattered.discard)
        else:
            self._waiting.append(job)
            self._begin()

    async def _submit_later(self, job: _Job) -> None:
        await self._pause(self._scatter * random.random())  # noqa: S311 (nobody gets to see enough of it to foretell it)
        self._waiting.append(job)
        self._begin()

    async def drain(self) -> None:
        """Return when nothing is left to do."""
        while tasks := {*self._tasks, *self._scattered}:
            await asyncio.wait(tasks)

    async def __aenter__(self) -> Self:
        """Nothing is running before there is work."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let work end that has the time to, without further pauses, and give up the rest."""
        self._closing.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._grace.total_seconds()):
                await self.drain()
        begun, waiting = len(self._tasks), len(self._waiting) + len(self._scattered)
        left = [*self._tasks, *self._scattered]
        self._waiting.clear()
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if left:
            logger.warning("stopped with work undone: %d begun, %d waiting", begun, waiting)

    def _begin(self) -> None:
        while self._waiting and len(self._tasks) < self._most_at_once:
            job = self._waiting.popleft()
            task = asyncio.get_running_loop().create_task(self._do(job), context=job.context)
            self._tasks.add(task)
            task.add_done_callback(self._end)

    def _end(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._begin()

    async def _do(self, job: _Job) -> None:
        for pause in (*self._pauses, None):
            try:
                await job.work()
            except Unavailable as error:
                if pause is None or self._closing.is_set():
                    logger.warning("gave up %s: %s", job.what, error)
                    return
                await self._pause(pause)
            except Exception:
                logger.exception("failed: %s", job.what)
                return
            else:
                return

    async def _pause(self, span: timedelta) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(span.total_seconds()):
                await self._closing.wait()


class LoopPace:
    """`Pace` by the event loop's clock."""

    async def wait(self, span: timedelta) -> None:
        """See `Pace.wait`."""
        await asyncio.sleep(span.total_seconds())
