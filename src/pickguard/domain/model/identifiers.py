"""Identifiers: UUIDs of version 7, made from a time and random bytes that the caller brings."""

from datetime import UTC, datetime, timedelta
from typing import NewType
from uuid import UUID

UserId = NewType("UserId", UUID)
"""The id of a user, for ever the same."""
SessionId = NewType("SessionId", UUID)
"""The id of a session, by which it is listed and ended. It opens nothing."""

UUID7_RANDOM_BYTES = 10

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def uuid7(now: datetime, randomness: bytes) -> UUID:
    """Return the UUIDv7 of a moment (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then 74 random bits.

    `randomness` has exactly `UUID7_RANDOM_BYTES` bytes; six of its bits give way to the version and the variant.
    """
    if len(randomness) != UUID7_RANDOM_BYTES:
        message = f"a UUIDv7 takes {UUID7_RANDOM_BYTES} random bytes, not {len(randomness)}"
        raise ValueError(message)
    milliseconds = (now - _EPOCH) // timedelta(milliseconds=1)
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(randomness, "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)
