"""Challenges: what an account waits to have proved by a token that was mailed."""

import enum
import hashlib
import hmac
from datetime import datetime, timedelta
from typing import Final, NewType, Self

import attrs

from pickguard.domain.model.errors import TokenSpent
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.tokens import read_token, write_token
from pickguard.domain.model.users import EmailAddress

ChallengeDigest = NewType("ChallengeDigest", bytes)
"""SHA-256 of a mailed token's secret and of all that the token is bound to. The secret has 256 random bits, so a plain digest
cannot be searched through (ASVS 5.0 6.5.2)."""

MAILED_TOKEN_PREFIX: Final = "pgm_"  # noqa: S105 (public: secret scanners know a token by it)


class ChallengeKind(enum.Enum):
    """What is to be proved."""

    VERIFY_ADDRESS = "verify_address"
    """That the account's address is its user's."""
    CHANGE_ADDRESS = "change_address"
    """That the address which the account is to have is its user's."""
    RESET_PASSWORD = "reset_password"  # noqa: S105 (a kind, not a password)
    """That somebody without the password reads what is mailed to the account's address."""


@attrs.frozen(kw_only=True)
class ChallengeRules:
    """How long mailed tokens live."""

    verification: timedelta = timedelta(hours=24)
    """Of an address (NIST SP 800-63A-4: 24 hours for a code that confirms an e-mail address)."""
    reset: timedelta = timedelta(minutes=10)
    """Of a password (ASVS 5.0 6.5.5: 10 minutes at most)."""

    def lifetime(self, kind: ChallengeKind) -> timedelta:
        """Return how long a token for one kind lives."""
        return self.reset if kind is ChallengeKind.RESET_PASSWORD else self.verification


@attrs.frozen(kw_only=True)
class MailedToken:
    """A token that was mailed: whose account it is for, and a secret. Its text begins with ``pgm_``."""

    user_id: UserId
    secret: bytes = attrs.field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a token's text, without the space around it that copying adds; `TokenSpent` for anything that is not one."""
        found = read_token(MAILED_TOKEN_PREFIX, text.strip())
        if found is None:
            raise TokenSpent
        return cls(user_id=found[0], secret=found[1])

    def reveal(self) -> str:
        """Return the text that is mailed."""
        return write_token(MAILED_TOKEN_PREFIX, self.user_id, self.secret)

    def digest(self, kind: ChallengeKind, address: EmailAddress, epoch: int) -> ChallengeDigest:
        """Return what is stored of a token for one purpose, one address and one password.

        Whatever of these changes voids the token, without anything to be remembered. A verification is of the address alone.
        """
        password = "" if kind is ChallengeKind.VERIFY_ADDRESS else str(epoch)
        bound = f"{kind.value}\0{address.key}\0{password}"
        return ChallengeDigest(hashlib.sha256(self.secret + bound.encode()).digest())


@attrs.frozen(kw_only=True)
class Challenge:
    """One thing to be proved. An account has one of each kind at most: a newer one voids the older."""

    kind: ChallengeKind
    digest: ChallengeDigest = attrs.field(repr=False)
    expires_at: datetime

    def is_met_by(self, digest: ChallengeDigest, now: datetime) -> bool:
        """Tell whether a token of this digest proves it now. Takes as long whatever the digest is (ASVS 5.0 11.2.4)."""
        return hmac.compare_digest(self.digest, digest) and now < self.expires_at
