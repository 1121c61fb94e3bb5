"""Which passwords everybody uses."""

from typing import Protocol


class CommonPasswords(Protocol):
    """Knows the passwords that attackers try first (NIST SP 800-63B-4, section 3.1.1.2; ASVS 5.0 6.2.4)."""

    def contains(self, password: str) -> bool:
        """Tell whether a password is among them, in this or in lower case. Does not wait on a network."""
