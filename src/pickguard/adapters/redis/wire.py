"""What redis-py's connections are taught: to send a command once, with its companions, and to say when nothing was sent."""

import asyncio
from contextvars import ContextVar
from typing import Any, ClassVar, cast

import attrs
import redis.asyncio as redis
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, BusyLoadingError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pickguard.adapters.redis.commands import NotSentError, StaleMasterError, UnderReplicatedError

_ASKING: ContextVar[bool] = ContextVar("_ASKING", default=False)


@attrs.frozen(kw_only=True)
class Wait:
    """How many replicas are to confirm a write, and for how long to wait for them."""

    replicas: int
    milliseconds: int


class Companions(AbstractConnection):
    """What a connection of redis-py is taught: to say when nothing was sent, and to send companions along with a command.

    A companion travels in the same packet and is answered on the same connection, which is what makes it count: WAIT knows of
    the writes of its own connection only, and so does ASKING.
    """

    wait: ClassVar[Wait]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._asked = self._waits = False
        self._is_being_made = False
        self._former: asyncio.BaseProtocol | None = None

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Connect. What fails here was not sent."""
        packed_for = self._asked, self._waits  # in a Cluster, a command is packed before its connection is made
        asking = _ASKING.get()
        _ASKING.set(False)  # it is for the command, not for what makes the connection
        self._is_being_made = True
        try:
            await super().connect_check_health(*args, **options)
        except (AuthenticationError, AuthorizationError, BusyLoadingError, NotSentError):
            raise
        except (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError) as error:
            raise NotSentError(str(error)) from error
        finally:
            self._is_being_made = False
            _ASKING.set(asking)
        self._asked, self._waits = packed_for

    async def open(self) -> None:
        """Connect. Raises one of `FAILURES`."""
        await self.connect()  # type: ignore[no-untyped-call]

    def lend(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Let what comes in go to another protocol from now on; return the way out. In the end it must call `forget`."""
        assert self._writer is not None  # noqa: S101 (it is connected)
        transport = self._writer.transport
        self._former = transport.get_protocol()
        transport.set_protocol(protocol)
        return cast("asyncio.Transport", transport)

    def forget(self, error: Exception | None) -> None:
        """Note that a connection which was lent is closed."""
        if self._former is not None:
            self._former.connection_lost(error)
        self._close()  # type: ignore[no-untyped-call]

    def error_of(self, text: str) -> Exception:
        """Return the exception that an error is, which a server answered with."""
        return cast("Exception", self._parser.parse_error(text))  # type: ignore[no-untyped-call]

    def pack_command(self, *args: Any) -> list[bytes]:
        """Pack a command with its companions."""
        self._asked = self._waits = False
        if args == ("ASKING",):
            # redis-py sends it by itself, and then the command, with any luck on the same connection.
            _ASKING.set(True)
            return super().pack_command("PING")
        packed = super().pack_command(*args)
        if _ASKING.get():
            _ASKING.set(False)
            self._asked = True
            packed = [*super().pack_command("ASKING"), *packed]
        if self.wait.replicas and args[0] in {"EVAL", "EVALSHA"}:
            self._waits = True
            packed = [*packed, *super().pack_command("WAIT", self.wait.replicas, self.wait.milliseconds)]
        return packed

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        """Send what was packed. A connection that is being closed is made anew first: nothing was sent on it."""
        # To write all the same raises a TypeError on Python 3.12 and 3.13, or leaves the number of the socket watched, so that
        # the next connection to get that number hears nothing (python/cpython#136234).
        if self._writer is not None and self._writer.transport.is_closing():
            await self.disconnect(nowait=True)
            if not self._is_being_made:
                await self._open_anew()
        if self._is_being_made and not self.is_connected:
            # To begin anew in the middle of a beginning would have no end where a server resets every connection.
            raise RedisConnectionError("the connection was closed while it was made")
        try:
            await super().send_packed_command(*args, **options)
        except (AttributeError, RuntimeError, TypeError) as error:
            if not isinstance(error, RuntimeError) and self.is_connected:
                raise
            # In a Cluster, redis-py closes connections to a node that failed, some of them while others begin to use them. Of a
            # connection that is being closed, uvloop says RuntimeError, and asyncio TypeError from Python 3.12 on.
            raise RedisConnectionError("the connection was closed while a command was sent") from error

    async def _open_anew(self) -> None:
        """Connect, behind sentinels to whom they name now: the master of before may have closed because it is none any more."""
        try:
            await self.open()
        except (AuthenticationError, AuthorizationError, BusyLoadingError, NotSentError):
            raise
        except (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError) as error:
            raise NotSentError(str(error)) from error

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read the answer to a command, and those to its companions, whatever they are."""
        asked, waits = self._asked, self._waits
        self._asked = self._waits = False
        refusal = await self._read_refusal() if asked else None
        try:
            answer = await self._read(*args, **options)
        except ResponseError as error:
            if waits:
                await self._read_refusal()
            raise (refusal or error) from None
        if waits:
            try:
                reached = await self._read()
            except ResponseError as error:  # a WAIT that is not allowed confirms nothing
                raise UnderReplicatedError(answer) from error
            if reached < self.wait.replicas:
                raise UnderReplicatedError(answer)
        return answer

    async def _read_refusal(self) -> ResponseError | None:
        """Read the answer to a companion. Whatever it is, the answers after it are still to be read."""
        try:
            await self._read()
        except ResponseError as error:
            return error
        return None

    async def _read(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        except RedisConnectionError as error:
            if isinstance(error.__context__, ReadOnlyError):  # what redis-py makes of it behind sentinels
                raise StaleMasterError(str(error)) from error
            raise


def taught(base: type[AbstractConnection], wait: Wait) -> type[AbstractConnection]:
    """Return a class of connections that has learnt all this."""
    return type(base.__name__, (Companions, base), {"wait": wait})


class Pool(redis.BlockingConnectionPool):
    """redis-py's bounded pool, which tells a command that was not sent from one whose answer was lost."""

    async def get_connection(self, command_name: object = None, *keys: object, **options: object) -> Connection:  # noqa: ARG002
        """Return a connection that is free, when there is one. Raises `NotSentError`."""
        # redis-py has given up these arguments and warns where they are passed on, None included.
        try:
            return cast("Connection", await super().get_connection())  # type: ignore[no-untyped-call]
        except (AuthenticationError, AuthorizationError, BusyLoadingError, NotSentError):
            raise
        except (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError) as error:
            raise NotSentError(str(error)) from error


def no_retries() -> Retry:
    """Return the policy to try everything once."""
    return Retry(NoBackoff(), 0)
