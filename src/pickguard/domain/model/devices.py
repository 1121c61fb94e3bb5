"""What a device seems to be, in words of our own.

What a program calls itself may be a sentence with a link in it, so it is never repeated to a person. A library with patterns
for every browser there was (ua-parser) would know more names, and would run a thousand regular expressions over whatever
anybody sends; for "is that me?" the few that people use are enough.
"""

from typing import Final

import attrs

from pickguard.domain.model.sessions import Client

_PROGRAMS: Final = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
    ("python", "a Python program"),
    ("Python", "a Python program"),
)
_SYSTEMS: Final = (
    ("iPhone", "an iPhone"),
    ("iPad", "an iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "a Mac"),
    ("CrOS", "a Chromebook"),
    ("Linux", "Linux"),
)


@attrs.frozen(kw_only=True)
class Device:
    """The program and the system that a client seems to be; None for what is not known."""

    program: str | None
    system: str | None

    @classmethod
    def of(cls, client: Client) -> "Device":
        """Tell by what a client calls itself. That can be anything: it is a hint for its user, and proves nothing."""
        agent = client.user_agent or ""
        return cls(
            program=next((name for mark, name in _PROGRAMS if mark in agent), None),
            system=next((name for mark, name in _SYSTEMS if mark in agent), None),
        )
