"""Where operators are listened to."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Self

import attrs

_UNIX: Final = "unix:"
_HOST_AND_PORT: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})", re.ASCII)
_GIVE: Final = "give HOST:PORT, such as 127.0.0.1:9444 or [::1]:9444, or unix:PATH"
MAX_PATH_BYTES: Final = 103
"""How long the path of a socket may be: macOS has room for so many bytes, Linux for four more."""


@attrs.frozen(kw_only=True)
class AdminAddress:
    """A host and a port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address. Raises `ValueError` that says what to give."""
        if text.startswith(_UNIX):
            path = text.removeprefix(_UNIX)
            if not path or not path.isprintable() or len(path.encode()) > MAX_PATH_BYTES:
                raise ValueError(f"give unix: and a path of at most {MAX_PATH_BYTES} bytes, without control characters")
            return cls(path=Path(path))
        match = _HOST_AND_PORT.fullmatch(text)
        if match is None or int(match[3]) > 65535:  # noqa: PLR2004 (the last port)
            raise ValueError(_GIVE)
        if match[1] is not None:
            try:
                ip_address(match[1])
            except ValueError:
                raise ValueError(_GIVE) from None
        return cls(host=match[1] or match[2], port=int(match[3]))

    @property
    def is_local(self) -> bool:
        """Whether nobody on another machine can connect."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def url(self, port: int, *, tls: bool) -> str:
        """Return where it is reached, when it has got this port."""
        if self.path is not None:
            return f"{_UNIX}{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if tls else 'http'}://{host}:{port}"
