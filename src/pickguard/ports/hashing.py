"""How passwords become verifiers."""

from typing import Protocol


class PasswordHasher(Protocol):
    """Hashes passwords slowly, off the caller's thread, a bounded number at a time.

    Passwords are given normalised (`normalise_password`). Raises `HashingOverloaded` at once where the wait for a turn
    would be longer than the budget. Cancelling a call gives its place in the queue back.
    """

    async def hash(self, password: str) -> str:
        """Return a new verifier, in PHC string format, with a salt of its own."""

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Tell whether the password is the one that was hashed.

        With None (there is no such account) the answer is False after as much work as a real verification takes.
        """

    def needs_rehash(self, password_hash: str) -> bool:
        """Tell whether a verifier was made with other parameters than today's."""
