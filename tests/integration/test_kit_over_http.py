"""The HTTP API of the kit, which runs in a thread of its own, and what a test may do from outside of it."""

import asyncio
import threading
from typing import Any

import pytest

from pickguard import MemoryAccounts
from pickguard.testing import make_account_service
from pickguard.testing.http import serve_over_http

THREAD = "pickguard over HTTP"


def test_what_is_done_after_an_answer_is_waited_for_from_any_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    accounts, threads = make_account_service(), list[str]()
    drain = accounts.deferred.drain

    async def noted() -> None:  # what is of one event loop is waited for in no other
        threads.append(threading.current_thread().name)
        if threads[-1] == THREAD:
            await drain()

    async def work() -> None:
        await asyncio.sleep(0.02)
        threads.append("done")

    monkeypatch.setattr(accounts.deferred, "drain", noted)
    with serve_over_http(accounts):
        accounts.enter(lambda: accounts.deferred.submit(work, what="a test"))
        asyncio.run(accounts.settle())
        assert threads == [THREAD, "done"]


class Watched(MemoryAccounts):
    """Notes in which thread it was touched."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[str] = set()

    async def add(self, *given: Any, **named: Any) -> None:
        self.threads.add(threading.current_thread().name)
        await super().add(*given, **named)

    async def find(self, *given: Any) -> Any:
        self.threads.add(threading.current_thread().name)
        return await super().find(*given)


async def test_the_store_is_touched_by_the_thread_of_the_server_alone() -> None:
    repository = Watched()
    accounts = make_account_service(accounts=repository)
    with serve_over_http(accounts):
        accounts.user("ada@example.com")
        await accounts.add_user("grace@example.com")
        found = await accounts.account("ada@example.com")
    assert found is not None
    assert repository.threads == {THREAD}
    assert await accounts.account("grace@example.com") is not None
    assert repository.threads == {THREAD, threading.current_thread().name}
