"""The connection to a server, and what its failures mean.

A command can fail in three ways, and a store of record must not mix them up: the server was not asked, the server answered with
an error (and did nothing), or it was asked and the answer was lost. redis-py retries by itself, ten times by default, writes
included; here that is switched off, and only what is safe to repeat is repeated.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Protocol, cast

import redis.asyncio as redis
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    DataError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pickguard.adapters.redis.scripts import Script
from pickguard.domain.model.errors import StoreUnavailable

FAILURES = (RedisError, OSError, asyncio.TimeoutError)
"""Everything that redis-py lets through."""


class NotSentError(RedisConnectionError):
    """No connection was to be had, so the command was not sent."""


REFUSALS = (ResponseError, DataError, NotSentError, BusyLoadingError, AuthenticationError, AuthorizationError)
"""Failures after which it is certain that the command did nothing: it was refused, or never sent."""


class Client(Protocol):
    """What is used of redis-py's clients, the plain one as well as the others."""

    def execute_command(self, *args: Any, **options: Any) -> Awaitable[Any]:
        """Send one command and return its answer."""


class _Pool(redis.BlockingConnectionPool):
    """redis-py's bounded pool, which tells a command that was not sent from one whose answer was lost."""

    async def get_connection(self, command_name: object = None, *keys: object, **options: object) -> Connection:  # noqa: ARG002
        # redis-py has given up these arguments and warns where they are passed on, None included.
        try:
            return cast("Connection", await super().get_connection())  # type: ignore[no-untyped-call]
        except (AuthenticationError, AuthorizationError, BusyLoadingError):
            raise
        except (RedisConnectionError, RedisTimeoutError, OSError, asyncio.TimeoutError) as error:
            raise NotSentError(str(error)) from error


def open_client(url: str, *, connections: int, connect_timeout: timedelta, command_timeout: timedelta) -> redis.Redis:
    """Return a client for a URL of redis-py's (``redis://``, ``rediss://``, ``unix://``). Nothing is connected yet.

    At most `connections` are open at once; a command waits `connect_timeout` at most for one of them to be free. Raises
    ValueError where the URL makes no sense.
    """
    pool = _Pool.from_url(
        url,
        max_connections=connections,
        timeout=connect_timeout.total_seconds(),
        socket_connect_timeout=connect_timeout.total_seconds(),
        socket_timeout=command_timeout.total_seconds(),
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        decode_responses=False,
        protocol=2,
    )
    return redis.Redis.from_pool(pool)


class Commands:
    """Sends commands and says what became of them."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def ask(self, *args: Any) -> Any:
        """Send a command that may as well run twice. It is sent again where the connection broke, once.

        Raises `StoreUnavailable`.
        """
        return await self._repeatable(lambda: self._client.execute_command(*args))

    async def repeatable(self, script: Script, key: str, *args: Any) -> Any:
        """Run a script that has the same effect when run twice. Raises `StoreUnavailable`; it may have run all the same."""
        return await self._repeatable(lambda: self.once(script, key, *args))

    async def once(self, script: Script, key: str, *args: Any) -> Any:
        """Run a script, sending it once. Raises what redis-py raises: one of `REFUSALS` means that nothing happened."""
        try:
            return await self._client.execute_command("EVALSHA", script.digest, 1, key, *args)
        except NoScriptError:  # a new, restarted or flushed server; nothing happened
            return await self._client.execute_command("EVAL", script.source, 1, key, *args)

    async def _repeatable(self, send: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await send()
        except RedisTimeoutError as error:  # a second try would wait as long again
            raise unavailable(error) from error
        except RedisConnectionError as error:
            if isinstance(error, REFUSALS):
                raise unavailable(error) from error
        except FAILURES as error:
            raise unavailable(error) from error
        try:
            return await send()
        except FAILURES as error:
            raise unavailable(error) from error


def unavailable(error: BaseException) -> StoreUnavailable:
    """Return what a failure is to the core. Of a server's own words only the first, its error code, is passed on."""
    if isinstance(error, ResponseError):
        return StoreUnavailable(f"the store refused a command: {type(error).__name__} {str(error).partition(' ')[0]}")
    return StoreUnavailable(f"the store cannot be reached: {type(error).__name__}")


async def check_connection(client: Client) -> None:
    """Return if the server answers and lets us in; `StoreUnavailable` says, for a person, why not."""
    try:
        await client.execute_command("PING")
    except (AuthenticationError, AuthorizationError) as error:
        raise StoreUnavailable("the store refuses the user or the password that it was given") from error
    except ResponseError as error:
        if str(error).startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
            raise StoreUnavailable("the store asks for a user or a password; give them in its URL") from error
        raise unavailable(error) from error
    except FAILURES as error:
        raise StoreUnavailable(f"the store cannot be reached: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Return the system's own words for what failed, which name a host and a port but never a password."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    system = [cause for cause in causes if isinstance(cause, OSError)]
    text = system[-1].strerror or str(system[-1]) if system else str(error)
    return (text or type(causes[-1]).__name__).partition("\n")[0]
