"""Which passwords are known from data that was stolen elsewhere."""

from typing import Protocol


class BreachCheckUnavailable(Exception):
    """It cannot be found out now whether a password is known. The message says why, and nothing of the password."""


class BreachedPasswords(Protocol):
    """Knows the passwords in data that was stolen from other services (NIST SP 800-63B-4, section 3.1.1.2; ASVS 5.0 6.2.12)."""

    async def count(self, password: str) -> int:
        """Return how often a password was found in such data: 0 for one that is not known.

        Raises `BreachCheckUnavailable` where that cannot be told, within a time that the adapter bounds. Nothing leaves this
        process from which the password could be told.
        """
