"""Requests that name themselves, so that a repeat of one whose answer was lost is known for what it is.

The name is an idempotency key: a text that the client makes up, new for each request
(draft-ietf-httpapi-idempotency-key-header).
"""

import hashlib
import json
from datetime import datetime, timedelta
from typing import Final, NewType

import attrs

from pickguard.domain.model.identifiers import UserId

KeyDigest = NewType("KeyDigest", bytes)

KEY_DIGEST_BYTES: Final = 16
RECEIPT_LIFETIME: Final = timedelta(hours=24)
"""How long a request is remembered."""


@attrs.frozen(kw_only=True)
class Registered:
    """The answer to a registration that made an account."""

    user_id: UserId
    at: datetime


@attrs.frozen(kw_only=True)
class Refused:
    """The answer to a registration whose address belonged to another account."""


Answer = Registered | Refused


@attrs.frozen(kw_only=True)
class Receipt:
    """What is remembered of a request: a verifier of what was asked, and the answer once there is one.

    What was asked includes a password, so it is kept like one: as a slow hash, and nothing of it can be read.
    """

    fingerprint: str = attrs.field(repr=False)
    answer: Answer | None = None


def key_digest(key: str) -> KeyDigest:
    """Return what a key is kept as. Keys may be guessable; their digests are long enough not to collide by chance."""
    return KeyDigest(hashlib.sha256(key.encode()).digest()[:KEY_DIGEST_BYTES])


def what_was_asked(key: str, *members: str) -> str:
    """Return one text for a request, the same for the same request and no other: for a hasher."""
    return hashlib.sha256(json.dumps([key, *members]).encode()).hexdigest()
