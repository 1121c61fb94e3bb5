"""Commands, and what their failures mean.

A command can fail in four ways, and a store of record must not mix them up: it was not sent, the server answered with an error
(and did nothing), it was sent and the answer was lost, or it was done and too few replicas have it. redis-py retries by itself,
ten times by default, writes included; here that is switched off, and only what is safe to repeat is repeated.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    DataError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pickguard.adapters.redis.scripts import Script
from pickguard.domain.model.errors import StoreUnavailable

FAILURES = (RedisError, OSError, asyncio.TimeoutError)
"""Everything that a client of `open_client` lets through."""


class NotSentError(RedisConnectionError):
    """No connection was to be had, so the command was not sent."""


class StaleMasterError(NotSentError):
    """A server that was the master once refused the command: it does nothing any more. Another connection finds the new one."""


class UnderReplicatedError(RedisError):
    """A script ran and gave its answer, and fewer replicas than wanted have confirmed what it wrote."""

    def __init__(self, answer: Any) -> None:
        super().__init__("too few replicas have confirmed a write in time")
        self.answer = answer


REFUSALS = (ResponseError, DataError, NotSentError, BusyLoadingError, AuthenticationError, AuthorizationError)
"""Failures after which it is certain that the command did nothing: it was refused, or never sent."""


class Client(Protocol):
    """What is used of a client: redis-py's plain one will do."""

    def execute_command(self, *args: Any, **options: Any) -> Awaitable[Any]:
        """Send one command and return its answer."""


class Commands:
    """Sends commands and says what became of them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._ask = getattr(client, "ask", client.execute_command)

    @property
    def wait_for_replicas(self) -> bool:
        """Whether a script's answer comes only when replicas have confirmed what it wrote."""
        return getattr(self._client, "wait_replicas", 0) > 0

    @property
    def have_several_masters(self) -> bool:
        """Whether keys lie on several servers, some of which may be down while others are not."""
        return bool(getattr(self._client, "has_several_masters", False))

    async def ask(self, *args: Any) -> Any:
        """Send a command that may as well run twice. It is sent again where the connection broke, once.

        Raises `StoreUnavailable`.
        """
        try:
            answer = await self._ask(*args)
        except FAILURES as error:
            answer = await self._again(error, lambda: self._ask(*args))
        if args[0] == "HGETALL" and isinstance(answer, list):  # where commands are sent together redis-py makes nothing of it
            return dict(zip(answer[::2], answer[1::2], strict=True))
        return answer

    async def repeatable(self, script: Script, key: str, *args: Any) -> Any:
        """Run a script that has the same effect when run twice.

        Raises `StoreUnavailable`, and it may have run all the same; `UnderReplicatedError` where it did.
        """
        try:
            return await self.once(script, key, *args)
        except FAILURES as error:
            return await self._again(error, lambda: self.once(script, key, *args))

    async def once(self, script: Script, key: str, *args: Any) -> Any:
        """Run a script, sending it once. Raises what redis-py raises: one of `REFUSALS` means that nothing happened."""
        try:
            return await self._run(script, key, *args)
        except StaleMasterError:
            return await self._run(script, key, *args)

    async def _run(self, script: Script, key: str, *args: Any) -> Any:
        try:
            return await self._client.execute_command("EVALSHA", script.digest, 1, key, *args)
        except NoScriptError:  # a new, restarted or flushed server; nothing happened
            return await self._client.execute_command("EVAL", script.source, 1, key, *args)

    async def _again(self, error: BaseException, send: Callable[[], Awaitable[Any]]) -> Any:
        """Send a second time what failed with an error, if that promises anything."""
        if isinstance(error, UnderReplicatedError):
            raise error
        # After a time-out a second try would wait as long again.
        if isinstance(error, (RedisTimeoutError, *REFUSALS)) or not isinstance(error, RedisConnectionError):
            raise unavailable(error) from error
        try:
            return await send()
        except UnderReplicatedError:
            raise
        except FAILURES as second:
            raise unavailable(second) from second


_CODES: Final[dict[type[ResponseError], str]] = {
    ClusterDownError: "CLUSTERDOWN",
    MasterDownError: "MASTERDOWN",
    NoPermissionError: "NOPERM",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
}
"""The error codes that redis-py takes from a server's words and makes classes of."""


def unavailable(error: BaseException) -> StoreUnavailable:
    """Return what a failure is to the core. Of a server's own words only the first, its error code, is passed on."""
    if isinstance(error, ResponseError):
        word = str(error).partition(" ")[0]
        code = _CODES.get(type(error)) or (word if word.isupper() else type(error).__name__)
        return StoreUnavailable(f"the store refused a command: {code}")
    return StoreUnavailable(f"the store cannot be reached: {type(error).__name__}")
