"""A `PasswordHasher` on argon2-cffi."""

import base64
import os
from datetime import timedelta
from typing import Final, Self

import argon2
import attrs

from pickguard.adapters.argon2.pool import HashingPool, refusal
from pickguard.ports.hashing import Purpose

MAX_MEMORY_KIB: Final = 4_194_304
"""A stored hash that asks for more than these 4 GiB is not obeyed."""

_OUT_OF_MEMORY: Final = argon2.low_level.error_to_str(-22)  # ARGON2_MEMORY_ALLOCATION_ERROR: not a wrong password
_SECONDS_PER_KIB: Final = 1e-6
"""What a slow core takes to fill it once. It counts until the first hash has been measured."""


def available_cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@attrs.frozen(kw_only=True)
class Argon2Parameters:
    """The cost of a hash. The default is the least that OWASP's Password Storage Cheat Sheet and ASVS 5.0 11.4.2 accept."""

    memory_kib: int = 19_456
    time_cost: int = 2
    parallelism: int = 1


class Argon2Hasher:
    """A `PasswordHasher` on argon2-cffi, which lets go of the interpreter's lock while it hashes.

    At most `threads` hashes run at once, so memory is bounded by that many times the memory cost. Requests beyond wait for
    `wait_budget` at most, each purpose in a queue of its own that gets its share of the turns: one that by the time hashes
    take would wait nearly as long is refused at once, and one that does wait longer all the same is refused then. Close it to
    end its threads.
    """

    def __init__(
        self,
        *,
        parameters: Argon2Parameters | None = None,
        threads: int | None = None,
        wait_budget: timedelta = timedelta(seconds=2),
    ) -> None:
        parameters = parameters or Argon2Parameters()
        self._hasher = argon2.PasswordHasher(
            time_cost=parameters.time_cost, memory_cost=parameters.memory_kib, parallelism=parameters.parallelism
        )
        self._pool = HashingPool(
            threads=threads or available_cores(),
            wait_budget=wait_budget,
            seconds_each=parameters.memory_kib * parameters.time_cost * _SECONDS_PER_KIB,
        )
        self._decoy = _a_hash_of_no_password(self._hasher)

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
        return self._hasher.check_needs_rehash(password_hash)

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
        try:
            # Lone surrogates, which no stored password has, are encoded rather than refused: refusing would be quicker.
            secret = password.encode("utf-8", "surrogatepass")
            stored = password_hash or self._decoy
            if argon2.extract_parameters(stored).memory_cost > MAX_MEMORY_KIB:
                return False
            self._hasher.verify(stored, secret)
        except argon2.exceptions.VerificationError as error:
            if error.args == (_OUT_OF_MEMORY,):
                raise refusal(0) from error
            return False
        except (argon2.exceptions.InvalidHashError, UnicodeError):
            return False
        return password_hash is not None


def _a_hash_of_no_password(hasher: argon2.PasswordHasher) -> str:
    """Return what a log-in for an unknown address is verified against: random bytes, for which nobody knows a password.

    Nothing is hashed for it, so a service starts sooner by the time of a hash.
    """
    salt, digest = (base64.b64encode(os.urandom(length)).decode().rstrip("=") for length in (hasher.salt_len, hasher.hash_len))
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v={argon2.low_level.ARGON2_VERSION}${cost}${salt}${digest}"
