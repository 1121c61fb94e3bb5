"""Where mail goes: the URLs that name a transport.

```
smtp://[user@]host[:587]      a server that is spoken to by STARTTLS (RFC 3207)
smtps://[user@]host[:465]     a server that is spoken to by TLS from the first byte (RFC 8314)
dir:PATH                      a directory, with a file for each message
console:                      the terminal
```
"""

import re
from enum import Enum
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote, urlsplit

import attrs

_SUBMISSION_PORT: Final = 587
_SUBMISSIONS_PORT: Final = 465
_HOST: Final = re.compile(r"[\w.-]+|[0-9a-f:.]+(%\w+)?", re.IGNORECASE)


class Transport(Enum):
    """How mail leaves."""

    SMTP = "smtp"
    SMTPS = "smtps"
    DIRECTORY = "dir"
    CONSOLE = "console"


@attrs.frozen(kw_only=True)
class MailLocation:
    """A place that mail is handed to."""

    transport: Transport
    host: str = ""
    port: int = 0
    user: str = ""
    path: Path | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL. Raises ValueError, with a message for a person that holds nothing secret."""
        scheme, colon, rest = url.partition(":")
        scheme = scheme.lower()
        if scheme == "console" and colon and not rest:
            return cls(transport=Transport.CONSOLE)
        if scheme == "dir" and rest and rest.isprintable():
            return cls(transport=Transport.DIRECTORY, path=Path(rest))
        if scheme not in {"smtp", "smtps"}:
            raise ValueError("give smtp://HOST, smtps://HOST, dir:PATH or console:")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _incomplete(scheme) from None
        if parts.password is not None:
            raise ValueError("the password does not belong in the URL: give it in a file or in PICKGUARD_MAIL_PASSWORD")
        user, host = unquote(parts.username or ""), parts.hostname or ""
        if not _HOST.fullmatch(host) or port == 0 or not (user or "@" not in parts.netloc):
            raise _incomplete(scheme)
        if parts.path.strip("/") or parts.query or parts.fragment or not (url.isprintable() and user.isprintable()):
            raise _incomplete(scheme)
        default = _SUBMISSIONS_PORT if scheme == "smtps" else _SUBMISSION_PORT
        return cls(
            transport=Transport(scheme),
            host=host,
            port=port or default,
            user=user,
        )

    @property
    def is_smtp(self) -> bool:
        """Whether mail goes to a server."""
        return self.transport in {Transport.SMTP, Transport.SMTPS}

    @property
    def is_here(self) -> bool:
        """Whether the server is on this machine, so that nobody reads along."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def shown(self) -> str:
        """The place, for a person; nothing in it is secret."""
        if self.is_smtp:
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"{self.transport.value}://{host}:{self.port}"
        return f"{self.transport.value}:{self.path or ''}"


def _incomplete(scheme: str) -> ValueError:
    return ValueError(f"this is not a complete {scheme} URL; an example is {scheme}://user@mail.example.com")
