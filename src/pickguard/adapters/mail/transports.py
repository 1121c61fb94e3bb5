"""The ways in which a message leaves."""

import asyncio
import contextlib
import itertools
import os
import ssl
import sys
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Final, Protocol, TextIO, cast

import aiosmtplib
import attrs

from pickguard.adapters.mail.location import MailLocation, Transport

_PERMANENT: Final = range(500, 600)
"""Replies that mean: do not try this again as it is (RFC 5321, section 4.2.1)."""
_LEAVE_SECONDS: Final = 2.0
"""How long to wait for the server's good-bye."""


class DeliveryError(Exception):
    """A message was not taken. The reason holds nothing of the message and no address."""

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent


class MessageTransport(Protocol):
    """Hands one message over."""

    async def send(self, message: EmailMessage, *, sender: str, recipient: str) -> None:
        """Return when the message is in other hands. Raises `DeliveryError`."""


@attrs.frozen(kw_only=True)
class SmtpTransport:
    """Sends by SMTP, with a connection for each message. Making one raises `ssl.SSLError` where `ca` holds no certificates.

    ``smtp://`` means STARTTLS, without which nothing is sent: a server that does not offer it, or somebody on the way who takes
    the offer out, gets neither the password nor the message. The certificate is checked. Only on this machine, where nobody
    reads along, and with neither a user nor a `ca`, is TLS left to the server, whatever its certificate (RFC 7435).
    Each step may take `timeout`.

    A message that the server refuses with 5xx is refused for good; a connection that it refuses may be taken another time.
    Where its word on a whole message does not come in time, the message counts as not sent, and may arrive twice.
    """

    location: MailLocation
    password: str | None = attrs.field(default=None, repr=False)
    ca: Path | None = None
    timeout: timedelta = timedelta(seconds=10)
    _tls: ssl.SSLContext = attrs.field(init=False, repr=False, eq=False)

    @_tls.default
    def _make_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        if not (self._needs_tls or self.location.transport is Transport.SMTPS):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    @property
    def _needs_tls(self) -> bool:
        return bool(self.location.user or self.ca or not self.location.is_here)

    async def send(self, message: EmailMessage, *, sender: str, recipient: str) -> None:
        """See `MessageTransport.send`."""
        client = aiosmtplib.SMTP(
            hostname=self.location.host,
            port=self.location.port,
            use_tls=self.location.transport is Transport.SMTPS,
            start_tls=False,  # it is begun below, where it can be seen
            tls_context=self._tls,
            local_hostname=sender.rpartition("@")[2],  # this machine's own would be looked up, for as long as that takes
            timeout=self.timeout.total_seconds(),
        )
        try:
            await self._begin(client)
            await _hand_over(client, message.as_bytes(), sender, recipient)
        except aiosmtplib.SMTPTimeoutError:
            raise DeliveryError("the server did not answer in time") from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise DeliveryError(f"the server cannot be reached: {_reason(error)}") from None
        finally:
            if client.transport is not None:
                cast("asyncio.WriteTransport", client.transport).abort()  # an orderly end of TLS waits for the server
            client.close()

    async def _begin(self, client: aiosmtplib.SMTP) -> None:
        """Connect, by TLS where that is asked for, and log in where there is a user."""
        try:
            await client.connect()
            await client.ehlo()
            if self.location.transport is Transport.SMTP:
                if client.supports_extension("starttls"):
                    await client.starttls()
                    await client.ehlo()
                elif self._needs_tls:
                    raise DeliveryError("the server offers no STARTTLS")
            if self.location.user:
                if not client.supported_auth_methods:
                    raise DeliveryError("the server offers no way to log in that is known here")
                await client.login(self.location.user, self.password or "")
        except aiosmtplib.SMTPAuthenticationError as error:
            raise DeliveryError(f"the server refuses the user or the password ({error.code})") from None
        except aiosmtplib.SMTPResponseException as error:
            raise DeliveryError(f"the server refuses the connection ({error.code})") from None


async def _hand_over(client: aiosmtplib.SMTP, content: bytes, sender: str, recipient: str) -> None:
    """Send one message, and take leave. What comes after the server has the message does not matter."""
    try:
        await client.mail(sender)
        await client.rcpt(recipient)
        await client.data(content)
    except aiosmtplib.SMTPResponseException as error:
        raise DeliveryError(f"the server refuses it ({error.code})", permanent=error.code in _PERMANENT) from None
    with contextlib.suppress(aiosmtplib.SMTPException, OSError):
        await client.quit(timeout=_LEAVE_SECONDS)


class DirectoryTransport:
    """Writes each message into a file of its own, for development. The directory is made if it is not there.

    Names sort by time, and no two processes write one. A file appears whole.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count()

    async def send(self, message: EmailMessage, *, sender: str, recipient: str) -> None:  # noqa: ARG002 (both are in it)
        """See `MessageTransport.send`."""
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{os.getpid()}-{next(self._numbers):06d}.eml"
        try:
            await asyncio.to_thread(self._write, name, message.as_bytes())
        except OSError as error:
            raise DeliveryError(f"{self._directory} cannot be written: {error.strerror}") from None

    def prepare(self) -> None:
        """Make the directory, for its owner alone. Raises `OSError`."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _write(self, name: str, content: bytes) -> None:
        self.prepare()
        draft = self._directory / f".{name}.new"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        draft.rename(self._directory / name)


@attrs.frozen
class ConsoleTransport:
    """Prints each message, for development."""

    stream: TextIO | None = None
    """Standard output where it is None."""

    async def send(self, message: EmailMessage, *, sender: str, recipient: str) -> None:
        """See `MessageTransport.send`."""
        body = message.get_body(("plain",))
        text = body.get_content() if body is not None else ""
        lines = ["", f"From: {sender}", f"To: {recipient}", f"Subject: {message['Subject']}", "", *text.splitlines(), ""]
        try:
            print("\n".join(f"  | {line}".rstrip() for line in lines), file=self.stream or sys.stdout, flush=True)
        except OSError as error:
            raise DeliveryError(f"standard output cannot be written: {error.strerror}") from None


def _reason(error: BaseException) -> str:
    """Return the system's own words for what failed, which hold nothing of a message."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, OSError) and cause.strerror:
            # asyncio's own words for a connection that failed would be in place of the system's
            return os.strerror(cause.errno) if cause.errno and isinstance(cause, ConnectionError) else cause.strerror
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
