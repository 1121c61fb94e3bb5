"""A `PasswordHasher` on argon2-cffi."""

import base64
import binascii
import os
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Final, Self

import argon2
import attrs

from pickguard.adapters.argon2.pool import HashingPool, HashingWatch, refusal
from pickguard.ports.hashing import ForeignHashes, Purpose

MAX_MEMORY_KIB: Final = 4_194_304
"""A stored hash that asks for more than these 4 GiB is not obeyed."""
MAX_TIME_COST: Final = 100
MAX_PARALLELISM: Final = 64
MAX_WORK_KIB: Final = 16_777_216
"""Of memory times passes. To fill 16 GiB takes many times as long as any request may."""

_OUT_OF_MEMORY: Final = argon2.low_level.error_to_str(-22)  # ARGON2_MEMORY_ALLOCATION_ERROR: not a wrong password
_SECONDS_PER_KIB: Final = 1e-6
"""What a slow core takes to fill it once. It counts until the first hash has been measured."""

_NUMBER: Final = "[1-9][0-9]{0,9}"
_PHC: Final = re.compile(
    rf"\$argon2(?:id|i|d)(?:\$v=(?:16|19))?\$m=(?P<memory_kib>{_NUMBER}),t=(?P<time_cost>{_NUMBER}),p=(?P<parallelism>{_NUMBER})"
    r"\$(?P<salt>[A-Za-z0-9+/]{11,128})\$(?P<digest>[A-Za-z0-9+/]{22,256})"
)
"""The PHC string format, of a salt of 8 bytes or more (RFC 9106, section 3.1) and a digest of 16 or more."""
_DJANGO: Final = "argon2$argon2"
"""How a hash of Django's Argon2PasswordHasher begins: with a word in front of the PHC string, whose first dollar it takes."""


def available_cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@attrs.frozen(kw_only=True)
class Argon2Parameters:
    """The cost of a hash. The default is the least that OWASP's Password Storage Cheat Sheet and ASVS 5.0 11.4.2 accept.

    Raises `ValueError` for a cost that would not be obeyed where it stands in a stored hash.
    """

    memory_kib: int = 19_456
    time_cost: int = 2
    parallelism: int = 1

    def __attrs_post_init__(self) -> None:
        if not _is_bounded(self.memory_kib, self.time_cost, self.parallelism):
            raise ValueError(
                f"a hash takes at least 8 KiB for each lane, at most {MAX_MEMORY_KIB} KiB, 1 to {MAX_TIME_COST} passes and "
                f"1 to {MAX_PARALLELISM} lanes, and at most {MAX_WORK_KIB} KiB times passes"
            )


def _is_bounded(memory_kib: int, time_cost: int, parallelism: int) -> bool:
    """Tell whether a cost is one that Argon2 has (RFC 9106, section 3.1) and that is obeyed here."""
    return (
        1 <= parallelism <= MAX_PARALLELISM
        and 8 * parallelism <= memory_kib <= MAX_MEMORY_KIB
        and 1 <= time_cost <= MAX_TIME_COST
        and memory_kib * time_cost <= MAX_WORK_KIB
    )


class Argon2Hasher:
    """A `PasswordHasher` on argon2-cffi, which lets go of the interpreter's lock while it hashes.

    At most `threads` hashes run at once, so memory is bounded by that many times the memory cost. Requests beyond wait for
    `wait_budget` at most, each purpose in a queue of its own that gets its share of the turns: one that by the time hashes
    take would wait nearly as long is refused at once, and one that does wait longer all the same is refused then. Close it to
    end its threads.

    Besides what it makes itself it verifies Argon2 of all kinds, in Django's form too, and what `foreign` recognises. The
    parameters in a stored hash are held against bounds before they are obeyed. Of the forms of a password that look alike only
    one, NFC, is tried, also where another system did not normalise.
    """

    def __init__(
        self,
        *,
        parameters: Argon2Parameters | None = None,
        threads: int | None = None,
        wait_budget: timedelta = timedelta(seconds=2),
        foreign: ForeignHashes | None = None,
        watch: HashingWatch | None = None,
    ) -> None:
        parameters = parameters or Argon2Parameters()
        self._hasher = argon2.PasswordHasher(
            time_cost=parameters.time_cost, memory_cost=parameters.memory_kib, parallelism=parameters.parallelism
        )
        self._pool = HashingPool(
            threads=threads or available_cores(),
            wait_budget=wait_budget,
            seconds_each=parameters.memory_kib * parameters.time_cost * _SECONDS_PER_KIB,
            watch=watch,
        )
        self._decoy = _a_hash_of_no_password(self._hasher)
        self._foreign = foreign

    async def hash(self, password: str, *, purpose: Purpose, spent: timedelta = timedelta(0)) -> str:
        """See `PasswordHasher.hash`."""
        return await self._pool.run(lambda: self._hash(password), purpose=purpose, spent=spent)

    async def verify(
        self, password_hash: str | None, password: str, *, purpose: Purpose, spent: timedelta = timedelta(0)
    ) -> bool:
        """See `PasswordHasher.verify`. A stored hash that cannot be read matches nothing."""
        return await self._pool.run(lambda: self._verify(password_hash, password), purpose=purpose, spent=spent)

    def needs_rehash(self, password_hash: str) -> bool:
        """See `PasswordHasher.needs_rehash`."""
        try:
            return self._hasher.check_needs_rehash(password_hash)
        except argon2.exceptions.InvalidHashError:
            return True

    def can_verify(self, password_hash: str) -> bool:
        """See `PasswordHasher.can_verify`."""
        return self._check_of(password_hash) is not None

    async def __aenter__(self) -> Self:
        """Nothing is acquired before the first hash."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let running hashes end, and their threads with them."""
        self._pool.close()

    def _hash(self, password: str) -> str:
        try:
            return self._hasher.hash(password)
        except argon2.exceptions.HashingError as error:
            raise refusal(0) from error

    def _verify(self, password_hash: str | None, password: str) -> bool:
        # Lone surrogates, which no stored password has, are encoded rather than refused: refusing would be quicker.
        secret = password.encode("utf-8", "surrogatepass")
        check = self._check_of(self._decoy if password_hash is None else password_hash)
        try:
            return check is not None and check(secret) and password_hash is not None
        except MemoryError as error:
            raise refusal(0) from error

    def _check_of(self, password_hash: str) -> Callable[[bytes], bool] | None:
        stored = password_hash.removeprefix("argon2") if password_hash.startswith(_DJANGO) else password_hash
        if match := _PHC.fullmatch(stored):
            salt, digest = match["salt"], match["digest"]
            cost = (int(match[name]) for name in ("memory_kib", "time_cost", "parallelism"))
            readable = _is_bounded(*cost) and _is_base64(salt) and _is_base64(digest)
            return (lambda secret: self._matches(stored, secret)) if readable else None
        return self._foreign.recognise(password_hash) if self._foreign else None

    def _matches(self, stored: str, secret: bytes) -> bool:
        try:
            return self._hasher.verify(stored, secret)
        except argon2.exceptions.VerificationError as error:
            if error.args == (_OUT_OF_MEMORY,):
                raise refusal(0) from error
            return False


def _is_base64(text: str) -> bool:
    """Tell whether a text is base64 without padding, in the one way to write what it stands for."""
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return False
    return base64.b64encode(decoded).decode().rstrip("=") == text


def _a_hash_of_no_password(hasher: argon2.PasswordHasher) -> str:
    """Return what a log-in for an unknown address is verified against: random bytes, for which nobody knows a password.

    Nothing is hashed for it, so a service starts sooner by the time of a hash.
    """
    salt, digest = (base64.b64encode(os.urandom(length)).decode().rstrip("=") for length in (hasher.salt_len, hasher.hash_len))
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v={argon2.low_level.ARGON2_VERSION}${cost}${salt}${digest}"
