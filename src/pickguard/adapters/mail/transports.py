"""The ways in which a message leaves."""

import asyncio
import itertools
import os
import ssl
import sys
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Final, Protocol, TextIO

import aiosmtplib
import attrs

from pickguard.adapters.mail.location import MailLocation, Transport

_PERMANENT: Final = range(500, 600)
"""Replies that mean: do not try this again as it is (RFC 5321, section 4.2.1)."""


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
    """Sends by SMTP, with a connection for each message.

    ``smtp://`` means STARTTLS, without which nothing is sent: a server that does not offer it, or somebody on the way who takes
    the offer out, gets neither the password nor the message. Only on this machine, and without a user, TLS is left to the
    server. The certificate is checked. Each step may take `timeout`.
    """

    location: MailLocation
    password: str | None = attrs.field(default=None, repr=False)
    ca: Path | None = None
    timeout: timedelta = timedelta(seconds=10)

    async def send(self, message: EmailMessage, *, sender: str, recipient: str) -> None:
        """See `MessageTransport.send`."""
        by_tls = self.location.transport is Transport.SMTPS
        start_tls = None if self.location.is_here and not self.location.user else True
        client = aiosmtplib.SMTP(
            hostname=self.location.host,
            port=self.location.port,
            use_tls=by_tls,
            start_tls=False if by_tls else start_tls,
            tls_context=ssl.create_default_context(cafile=None if self.ca is None else str(self.ca)),
            username=self.location.user or None,
            password=self.password,
            timeout=self.timeout.total_seconds(),
        )
        try:
            async with client:
                await client.sendmail(sender, [recipient], message.as_bytes(policy=SMTP))
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _refused(error.recipients[0].code) from None
        except aiosmtplib.SMTPAuthenticationError as error:
            raise DeliveryError(f"the server refuses the user or the password ({error.code})") from None
        except aiosmtplib.SMTPResponseException as error:
            raise _refused(error.code) from None
        except aiosmtplib.SMTPTimeoutError:
            raise DeliveryError("the server did not answer in time") from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise DeliveryError(f"the server cannot be reached: {_reason(error)}") from None


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

    def _write(self, name: str, content: bytes) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
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
        print("\n".join(f"  | {line}".rstrip() for line in lines), file=self.stream or sys.stdout, flush=True)


def _refused(code: int) -> DeliveryError:
    return DeliveryError(f"the server refuses it ({code})", permanent=code in _PERMANENT)


def _reason(error: BaseException) -> str:
    """Return the system's own words for what failed, which hold nothing of a message."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return "it offers no STARTTLS" if "STARTTLS" in str(error) else type(error).__name__
