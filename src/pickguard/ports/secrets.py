"""Where randomness comes from."""

from typing import Protocol


class SecretSource(Protocol):
    """Makes secrets and ids. A test brings its own where it must know them beforehand."""

    def random_bytes(self, size: int) -> bytes:
        """Return bytes that nobody can predict (a cryptographic generator: ASVS 5.0 11.5.1)."""
