"""Work after the answer."""

import asyncio
import logging
from contextvars import ContextVar
from datetime import timedelta

import pytest

from pickguard.adapters.background import LoopDeferred, LoopPace
from pickguard.domain.model.errors import StoreUnavailable, Unavailable

NONE = timedelta(0)
AT_ONCE = (timedelta(0),) * 3
REQUEST: ContextVar[str] = ContextVar("request", default="none")


class Work:
    """Fails as often as it is told, and counts."""

    def __init__(self, failures: int = 0, error: type[Exception] = StoreUnavailable) -> None:
        self.failures = failures
        self.error = error
        self.done = 0
        self.requests: list[str] = []

    async def __call__(self) -> None:
        self.requests.append(REQUEST.get())
        if self.failures:
            self.failures -= 1
            raise self.error("not now")
        self.done += 1


async def test_work_is_done_after_it_was_taken_and_in_order() -> None:
    order: list[int] = []

    def numbered(number: int) -> "asyncio.Future[None]":
        order.append(number)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    async with LoopDeferred(spread=NONE, most_at_once=1) as deferred:
        for number in range(5):
            deferred.submit(lambda number=number: numbered(number), what="a test")  # type: ignore[misc]
        assert order == []
        await deferred.drain()
    assert order == list(range(5))


async def test_no_more_is_done_at_once_than_may_be() -> None:
    running = most = 0

    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    async with LoopDeferred(spread=NONE, most_at_once=3) as deferred:
        for _ in range(20):
            deferred.submit(work, what="a test")
        await deferred.drain()
    assert most == 3


async def test_what_cannot_be_done_now_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    work = Work(failures=3)
    async with LoopDeferred(spread=NONE, pauses=AT_ONCE) as deferred:
        deferred.submit(work, what="a test")
        await deferred.drain()
    assert work.done == 1
    assert not caplog.records


async def test_what_never_can_be_done_is_given_up_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    work = Work(failures=4)
    async with LoopDeferred(spread=NONE, pauses=AT_ONCE) as deferred:
        deferred.submit(work, what="a test")
        await deferred.drain()
    assert work.done == 0
    assert caplog.messages == ["gave up a test: not now"]


async def test_a_fault_is_logged_and_stops_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    broken, work = Work(failures=1, error=RuntimeError), Work()
    async with LoopDeferred(spread=NONE, pauses=AT_ONCE, most_at_once=1) as deferred:
        deferred.submit(broken, what="a test")
        deferred.submit(work, what="another")
        await deferred.drain()
    assert (broken.done, work.done) == (0, 1)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(logging.ERROR, "failed: a test")]


async def test_where_too_much_waits_no_more_is_taken() -> None:
    async with LoopDeferred(spread=NONE, most_waiting=2, most_at_once=1) as deferred:
        gate = asyncio.Event()
        deferred.submit(lambda: gate.wait(), what="a test")  # type: ignore[arg-type, return-value] # noqa: PLW0108 (its answer is of no interest)
        work = Work()
        for _ in range(2):
            deferred.submit(work, what="a test")
        with pytest.raises(Unavailable):
            deferred.submit(work, what="a test")
        gate.set()
        await deferred.drain()
    assert work.done == 2


async def test_each_piece_of_work_knows_whose_request_it_came_from() -> None:
    work = Work()
    async with LoopDeferred(spread=NONE, most_at_once=1) as deferred:
        for name in ("one", "two"):
            REQUEST.set(name)
            deferred.submit(work, what="a test")
        await deferred.drain()
    assert work.requests == ["one", "two"]


async def test_what_waits_for_another_try_holds_up_nothing_else() -> None:
    stuck, work = [Work(failures=100) for _ in range(4)], Work()
    async with LoopDeferred(spread=NONE, pauses=(timedelta(hours=1),), most_at_once=2) as deferred:
        for each in stuck:
            deferred.submit(each, what="a test")
        deferred.submit(work, what="another")
        while not work.done:
            await asyncio.sleep(0)
        assert all(each.requests for each in stuck)


async def test_what_waits_for_another_try_is_counted_among_what_waits() -> None:
    async with LoopDeferred(spread=NONE, pauses=(timedelta(hours=1),), most_waiting=2) as deferred:
        for _ in range(2):
            deferred.submit(Work(failures=100), what="a test")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            deferred.submit(Work(), what="another")


async def test_work_begins_at_a_random_moment_and_not_with_the_answer() -> None:
    work = Work()
    async with LoopDeferred(spread=timedelta(hours=1)) as deferred:
        deferred.submit(work, what="a test")
        for _ in range(10):
            await asyncio.sleep(0)
        assert not work.requests
    assert work.done == 1  # when the service stops, at once


async def test_closing_lets_work_end_without_further_pauses(caplog: pytest.LogCaptureFixture) -> None:
    work, down = Work(failures=1), Work(failures=10)
    async with LoopDeferred(spread=NONE, pauses=(timedelta(hours=1),) * 3) as deferred:
        deferred.submit(work, what="a test")
        deferred.submit(down, what="another")
        while not (work.requests and down.requests):
            await asyncio.sleep(0)
    assert work.done == 1
    assert caplog.messages == ["gave up another: not now"]


async def test_closing_gives_up_what_does_not_end(caplog: pytest.LogCaptureFixture) -> None:
    async def endless() -> None:
        await asyncio.Event().wait()

    async with LoopDeferred(spread=NONE, grace=timedelta(0), most_at_once=1) as deferred:
        deferred.submit(endless, what="a test")
        deferred.submit(Work(), what="another")
    assert caplog.messages == ["stopped with work undone: 1 begun, 1 waiting"]


async def test_a_wait_takes_its_time() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await LoopPace().wait(timedelta(milliseconds=10))
    assert loop.time() - began >= 0.01
