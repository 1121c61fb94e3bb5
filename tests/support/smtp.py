"""Mail servers of a test: one that takes mail, in this event loop and on loopback, and ones that misbehave."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import attrs
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

PASSWORD = "geheim & 8"


@attrs.frozen(kw_only=True)
class Delivery:
    """A message as it arrived, and how."""

    sender: str
    recipients: list[str]
    content: bytes
    by_tls: bool
    user: str | None

    @property
    def message(self) -> EmailMessage:
        found = message_from_bytes(self.content, policy=default)
        assert isinstance(found, EmailMessage)
        return found

    @property
    def text(self) -> str:
        part = self.message.get_body(("plain",))
        assert part is not None
        return str(part.get_content()).replace("\r\n", "\n")


class Mailbox:
    """Takes mail. `replies` are what commands are answered by in turn, by their name; None means what is usual."""

    def __init__(self, replies: dict[str, Iterable[str | None]] | None = None) -> None:
        self._replies: dict[str, Iterator[str | None]] = {name: iter(each) for name, each in (replies or {}).items()}
        self._changed = asyncio.Event()
        self.deliveries: list[Delivery] = []
        self.commands: list[str] = []
        self.passwords: list[tuple[str, str, bool]] = []

    async def until(self, count: int) -> list[Delivery]:
        """Return what was delivered when it is so many."""
        async with asyncio.timeout(20):
            while len(self.deliveries) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.deliveries

    def _reply(self, command: str) -> str | None:
        self.commands.append(command)
        return next(self._replies.get(command, iter(())), None)

    # The names are aiosmtpd's.

    async def handle_MAIL(self, _: SMTP, __: Session, envelope: Envelope, address: str, options: list[str]) -> str:  # noqa: N802
        if (reply := self._reply("MAIL")) is not None:
            return reply
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(self, _: SMTP, __: Session, envelope: Envelope, address: str, options: list[str]) -> str:  # noqa: N802
        if (reply := self._reply("RCPT")) is not None:
            return reply
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, _: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if (reply := self._reply("DATA")) is not None:
            return reply
        assert isinstance(envelope.content, bytes)
        login: Any = session.auth_data
        self.deliveries.append(
            Delivery(
                sender=str(envelope.mail_from),
                recipients=list(envelope.rcpt_tos),
                content=envelope.content,
                by_tls=session.ssl is not None,
                user=login.login.decode() if isinstance(login, LoginPassword) else None,
            )
        )
        self._changed.set()
        return "250 OK"

    def authenticate(self, _: SMTP, session: Session, __: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.passwords.append((mechanism, data.password.decode(), session.ssl is not None))
        return AuthResult(success=data.password == PASSWORD.encode(), auth_data=data, handled=False)


@asynccontextmanager
async def mail_server(mailbox: Mailbox, *, implicit_tls: ssl.SSLContext | None = None, **options: Any) -> AsyncGenerator[int]:
    """Run a server for a mailbox and yield its port. `options` are those of aiosmtpd's SMTP."""
    loop = asyncio.get_running_loop()
    sessions: list[SMTP] = []

    def connect() -> SMTP:
        sessions.append(SMTP(mailbox, loop=loop, hostname="mail.test", authenticator=mailbox.authenticate, **options))
        return sessions[-1]

    server = await loop.create_server(connect, "127.0.0.1", 0, ssl=implicit_tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for session in sessions:
            if session.transport is not None:
                session.transport.close()
        await server.wait_closed()


Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def other_server(speak: Speak) -> AsyncGenerator[int]:
    """Run a server that is spoken for by a function, once for each connection, and yield its port."""

    talks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None
        talks.append(talk)
        try:
            await speak(reader, writer)
        except ConnectionError:
            pass  # the client is gone, as it may be
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        async with asyncio.timeout(20):
            await asyncio.gather(*talks)  # each ends when its client has gone
        await server.wait_closed()


async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *replies: str) -> None:
    """Greet with the first reply, and answer each command by the next."""
    for number, reply in enumerate(replies):
        if number:
            await reader.readline()
        writer.write(f"{reply}\r\n".encode())
        await writer.drain()


async def until_gone(reader: asyncio.StreamReader, _: asyncio.StreamWriter | None = None) -> None:
    """Say nothing until the client has gone."""
    while await reader.read(65536):
        pass
