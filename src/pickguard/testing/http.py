"""The HTTP API of an account service, in this process, for a client that speaks HTTP only. Needs ``pickguard[server]``."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

import attrs
from aiohttp import web

from pickguard.entrypoints.bootstrap import Services
from pickguard.entrypoints.http.app import create_app
from pickguard.entrypoints.settings import Settings
from pickguard.testing.service import AccountService


@attrs.frozen(kw_only=True)
class HttpService:
    """An account service that answers at an address."""

    url: str
    """Where it answers, without a slash at the end: ``http://127.0.0.1:49152``. There is no TLS."""
    accounts: AccountService
    """What is behind it. Its own methods may be called at any time. Reach the use cases by requests: they run in a thread of
    their own, and what is in memory is not for two threads at once."""


@contextmanager
def serve_over_http(accounts: AccountService) -> Generator[HttpService]:
    """Serve an account service at a port of 127.0.0.1 that the system chooses, in a thread with an event loop of its own.

    So a test may be of any kind, may block, and may speak to it by any client.
    """
    if accounts.services.has_mail:
        settings = Settings(store="memory:", mail="console:", request_timeout=timedelta(seconds=30))
    else:
        settings = Settings(store="memory:", request_timeout=timedelta(seconds=30))
    with _loop_in_thread() as loop:
        runner = _run(loop, _start(create_app(settings, services=_services_of(accounts))))
        before = accounts.enter, accounts.wait_within
        accounts.enter, accounts.wait_within = _entering(loop), _waiting_within(loop)
        try:
            yield HttpService(url=f"http://127.0.0.1:{runner.addresses[0][1]}", accounts=accounts)
        finally:
            accounts.enter, accounts.wait_within = before
            _run(loop, runner.cleanup())
            _run(loop, accounts.settle())


def _services_of(accounts: AccountService) -> Any:
    @asynccontextmanager
    async def opened(_: Settings) -> AsyncGenerator[Services]:
        yield accounts.services

    return opened


async def _start(app: web.Application) -> web.AppRunner:
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


@contextmanager
def _loop_in_thread() -> Generator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="pickguard over HTTP", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _run(loop: asyncio.AbstractEventLoop, work: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(work, loop).result()


def _entering(loop: asyncio.AbstractEventLoop) -> Callable[[Callable[[], Any]], Any]:
    async def done(work: Callable[[], Any]) -> Any:
        return work()

    return lambda work: _run(loop, done(work))


def _waiting_within(loop: asyncio.AbstractEventLoop) -> Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]]:
    return lambda work: asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
