"""How passwords become verifiers."""

from datetime import timedelta
from enum import Enum
from typing import Protocol


class Purpose(Enum):
    """What a password is hashed for. A flood for one purpose leaves the others their share of the turns."""

    LOG_IN = "log-in"
    REGISTRATION = "registration"
    PROOF = "proof"
    """Somebody who is logged in proves or changes the password."""


class PasswordHasher(Protocol):
    """Hashes passwords slowly, off the caller's thread, a bounded number at a time.

    Passwords are given normalised (`normalise_password`). Raises `HashingOverloaded` at once where the wait for a turn
    would be longer than the budget. Cancelling a call gives its place in the queue back. `spent` is what the caller's request
    has waited already: the budget is for the request, not for each of its turns.
    """

    async def hash(self, password: str, *, purpose: Purpose, spent: timedelta = timedelta(0)) -> str:
        """Return a new verifier, in PHC string format, with a salt of its own."""

    async def verify(
        self, password_hash: str | None, password: str, *, purpose: Purpose, spent: timedelta = timedelta(0)
    ) -> bool:
        """Tell whether the password is the one that was hashed.

        With None (there is no such account) the answer is False after as much work as a real verification takes.
        """

    def needs_rehash(self, password_hash: str) -> bool:
        """Tell whether a verifier was made with other parameters than today's."""
