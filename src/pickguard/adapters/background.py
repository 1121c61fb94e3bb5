"""Work after the answer, in tasks of the event loop; and waiting."""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from datetime import timedelta
from typing import Final, Self

import attrs

from pickguard.domain.model.errors import Unavailable

logger = logging.getLogger("pickguard.background")

MOST_WAITING: Final = 1024
MOST_AT_ONCE: Final = 8
SPREAD: Final = timedelta(milliseconds=250)
PAUSES: Final = (timedelta(seconds=1), timedelta(seconds=5), timedelta(seconds=25))
"""How long to wait before each further try."""


@attrs.define(kw_only=True, eq=False)
class _Job:
    """A piece of work, how often it was tried, and whoever submitted it, so that the log names their request."""

    work: Callable[[], Awaitable[None]]
    what: str
    tries: int = 0
    context: Context = attrs.field(factory=copy_context)


class LoopDeferred:
    """`Deferred` in tasks of one event loop, a few at once. Leaving it as a context manager gives them `grace` to end.

    Each piece of work is begun at a random moment within `spread`, so that whoever submitted it, and asks something else at
    once, cannot tell by the answer's time how much there was to do. What has to be tried again waits aside and holds up no
    other.
    """

    def __init__(
        self,
        *,
        grace: timedelta = timedelta(seconds=3),
        spread: timedelta = SPREAD,
        pauses: Sequence[timedelta] = PAUSES,
        most_waiting: int = MOST_WAITING,
        most_at_once: int = MOST_AT_ONCE,
    ) -> None:
        self._grace = grace
        self._spread = spread.total_seconds()
        self._pauses = tuple(pauses)
        self._most_waiting = most_waiting
        self._most_at_once = most_at_once
        self._ready: deque[_Job] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._aside: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    def submit(self, work: Callable[[], Awaitable[None]], *, what: str) -> None:
        """See `Deferred.submit`."""
        if len(self._ready) + len(self._aside) >= self._most_waiting:
            raise Unavailable("too much is waiting to be done after its answer")
        job = _Job(work=work, what=what)
        if self._spread:
            self._set_aside(job, random.uniform(0, self._spread))  # noqa: S311 (noise, and no secret)
        else:
            self._ready.append(job)
            self._begin()

    async def drain(self) -> None:
        """Return when nothing is left to do."""
        while tasks := {*self._running, *self._aside}:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)  # for what follows from their end

    async def __aenter__(self) -> Self:
        """Nothing is running before there is work."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let work end that has the time to, without further pauses, and give up the rest."""
        self._closing.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._grace.total_seconds()):
                await self.drain()
        waiting, left = len(self._ready) + len(self._aside), [*self._running, *self._aside]
        begun = len(self._running)
        self._ready.clear()
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if left:
            logger.warning("stopped with work undone: %d begun, %d waiting", begun, waiting)

    def _begin(self) -> None:
        while self._ready and len(self._running) < self._most_at_once:
            job = self._ready.popleft()
            self._start(self._do(job), self._running, job.context)

    def _start(self, work: Coroutine[None, None, None], tasks: "set[asyncio.Task[None]]", context: Context) -> None:
        task = asyncio.get_running_loop().create_task(work, context=context)
        tasks.add(task)

        def end(ended: "asyncio.Task[None]") -> None:
            tasks.discard(ended)
            self._begin()

        task.add_done_callback(end)

    async def _do(self, job: _Job) -> None:
        job.tries += 1
        try:
            await job.work()
        except Unavailable as error:
            if job.tries > len(self._pauses) or self._closing.is_set():
                logger.warning("gave up %s: %s", job.what, error)
                return
            self._set_aside(job, self._pauses[job.tries - 1].total_seconds())
        except Exception:
            logger.exception("failed: %s", job.what)

    def _set_aside(self, job: _Job, seconds: float) -> None:
        self._start(self._wait_aside(job, seconds), self._aside, job.context)

    async def _wait_aside(self, job: _Job, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        self._ready.append(job)


class LoopPace:
    """`Pace` by the event loop's clock."""

    async def wait(self, span: timedelta) -> None:
        """See `Pace.wait`."""
        await asyncio.sleep(span.total_seconds())
