"""Sessions, and the bearer tokens that open them."""

import hashlib
import unicodedata
from datetime import datetime, timedelta
from typing import NewType, Self
from uuid import UUID

import attrs

from pickguard.domain.model.errors import InvalidToken
from pickguard.domain.model.identifiers import SessionId, UserId
from pickguard.domain.model.tokens import BODY_LENGTH, SECRET_BYTES, USER_ID_BYTES, read_checked, write_token

SessionDigest = NewType("SessionDigest", bytes)
"""SHA-256 of a token's secret: all of the token that is ever stored. The secret has 256 random bits, so a plain digest
cannot be searched through (ASVS 5.0 6.5.2, 11.4.2)."""

TOKEN_PREFIX = "pg_"  # noqa: S105 (public: secret scanners know a token by it)
TOKEN_SECRET_BYTES = SECRET_BYTES
USER_AGENT_MAX_LENGTH = 256


def _displayable(text: str | None) -> str | None:
    """Cut to the length that is kept, with control characters and lone surrogates replaced."""
    if not text:
        return None
    cut = text[:USER_AGENT_MAX_LENGTH]
    if cut.isprintable():  # which all are that are stored; no refused category is printable
        return cut
    refused = {"Cc", "Cs", "Zl", "Zp"}
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(char) in refused else char for char in cut)


@attrs.frozen(kw_only=True)
class Token:
    """A bearer token: it says whose account it opens, and proves it with a secret. Its text begins with ``pg_``."""

    user_id: UserId
    secret: bytes = attrs.field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a token's text; `InvalidToken` for anything that is not one."""
        content = read_checked(TOKEN_PREFIX, text, BODY_LENGTH)  # as read_token does, with one call less for each request
        if content is None:
            raise InvalidToken
        return cls(user_id=UserId(UUID(bytes=content[:USER_ID_BYTES])), secret=content[USER_ID_BYTES:])

    def reveal(self) -> str:
        """Return the text that the client keeps. Whoever has it is the user."""
        return write_token(TOKEN_PREFIX, self.user_id, self.secret)

    @property
    def digest(self) -> SessionDigest:
        """What is stored of the secret, and looked for."""
        return SessionDigest(hashlib.sha256(self.secret).digest())


@attrs.frozen(kw_only=True)
class Client:
    """Where a request came from, as far as it is known: a network address, and what the program there calls itself."""

    ip: str | None = None
    user_agent: str | None = attrs.field(default=None, converter=_displayable)


@attrs.frozen(kw_only=True)
class SessionRules:
    """How long sessions last and how many an account has."""

    lifetime: timedelta = timedelta(days=30)
    """From the log-in, whatever happens (NIST SP 800-63B-4, section 2.1.3: 30 days at most at AAL1)."""
    idle: timedelta = timedelta(days=14)
    """From the last use."""
    maximum: int = 100
    """For each account; one more ends the least recently used (ASVS 5.0 7.1.2)."""
    touch_interval: timedelta = timedelta(seconds=60)
    """`last_used_at` is written at most this often, and so may be behind by as much."""
    reauthentication_window: timedelta = timedelta(minutes=15)
    """How fresh the proof of the password must be for what cannot be undone (ASVS 5.0 7.5.3)."""


@attrs.frozen(kw_only=True)
class Session:
    """One log-in of one user, on one device. `id` is public and opens nothing; `digest` is what a token must match."""

    id: SessionId
    digest: SessionDigest = attrs.field(repr=False)
    created_at: datetime
    last_used_at: datetime
    authenticated_at: datetime
    client: Client = Client()

    def expires_at(self, rules: SessionRules) -> datetime:
        """Return when the session ends unless it is used before: the nearer of its two limits."""
        return min(self.created_at + rules.lifetime, self.last_used_at + rules.idle)

    def is_live(self, now: datetime, rules: SessionRules) -> bool:
        """Tell whether the session still opens anything."""
        return now < self.expires_at(rules)

    def is_due_for_touch(self, now: datetime, rules: SessionRules) -> bool:
        """Tell whether `last_used_at` is far enough behind to be written again."""
        return now - self.last_used_at >= rules.touch_interval

    def is_freshly_authenticated(self, now: datetime, rules: SessionRules) -> bool:
        """Tell whether the password was proved recently enough for what cannot be undone."""
        return now - self.authenticated_at <= rules.reauthentication_window
