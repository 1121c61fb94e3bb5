"""How passwords become verifiers."""

from collections.abc import Callable
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
        """Tell whether a verifier was made with other parameters than today's, or with another function altogether."""

    def can_verify(self, password_hash: str) -> bool:
        """Tell whether a text is a verifier that a password can match, and whose cost is one that is obeyed.

        Does not hash. A text for which this is False matches no password.
        """


class ForeignHashes(Protocol):
    """Knows verifiers that other systems made, of functions which are not used here for new ones."""

    def recognise(self, password_hash: str) -> Callable[[bytes], bool] | None:
        """Return what tells whether a password, in UTF-8, is the one that was hashed.

        None where the text is of no form that is known, or its parameters ask for more than is obeyed. Reading it costs little
        and never raises; what is returned takes as long as a hash takes, in the caller's thread.
        """
