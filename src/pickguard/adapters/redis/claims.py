"""Claims: which account may have which e-mail address, where accounts lie on different servers.

The account is the truth. A claim is a hint that is always checked: it counts only while its account exists and has the address.
No transaction spans the two, so they follow a protocol, of which each rule is needed (``tests/unit/test_claim_protocol.py``
explores every interleaving, crash and passing of time, and finds the fault when a rule is taken away):

1. An address is claimed before an account is saved under it. The claim has a nonce and the time of the claim's server.
2. A save that relies on a claim is refused, by the account's server and its clock, once the claim is older than the deadline.
3. A claim is taken over only when it is older than the lease, which is longer than the deadline, and its account is gone or has
   another address. The taking is a compare-and-set of the whole claim.
4. A claim of one's own that is already there, left by a crash or held by another request for the same account, is renewed under
   the same conditions: only past the lease, and not while the account has the address.
5. Claims are released by comparing the whole value. The value that a save will make superfluous is read before that save.

An account that was deleted with a grace is erased by its server at its end (its key expires), and leaves its claim, as if a
process had crashed after it had removed the account. Its end is set and called off by saves, so it never comes back.

So a crash leaves at most a claim without account, which rule 3 frees; never an account without its claim, never two accounts
with one address.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Self

import attrs

from pickguard.adapters.redis.commands import Commands, UnderReplicatedError
from pickguard.adapters.redis.encoding import claim_key, claim_mark, decode_claim
from pickguard.adapters.redis.scripts import CLAIM, RELEASE, TAKE_OVER, Script
from pickguard.domain.model.errors import AddressTaken, AddressUndecided, Conflict, StoreUnavailable
from pickguard.domain.model.identifiers import UserId

DEADLINE = timedelta(seconds=10)
LEASE = timedelta(seconds=30)
PATIENCE = timedelta(seconds=1)
"""How long a claim without account is watched for its outcome before nobody can know yet."""

_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.1


@attrs.frozen(kw_only=True)
class Claim:
    """The value of a claim: whose it is, and when it was made or renewed."""

    record: bytes
    user_id: UserId
    made_at: int

    @classmethod
    def parse(cls, record: bytes) -> Self:
        """Read a claim's value. Raises `UnreadableError`."""
        user_id, made_at = decode_claim(record)
        return cls(record=record, user_id=user_id, made_at=made_at)


class Claims:
    """Reads, makes and releases claims."""

    def __init__(self, *, commands: Commands, prefix: str, has_address: Callable[[UserId, str], Awaitable[bool]]) -> None:
        self._commands = commands
        self._prefix = prefix
        self._has_address = has_address

    async def read(self, address: str) -> Claim | None:
        """Return the claim on an address."""
        record = await self._commands.ask("GET", claim_key(self._prefix, address))
        return None if record is None else Claim.parse(record)

    async def acquire(self, address: str, user_id: UserId, *, nonce: bytes) -> Claim:
        """Claim an address for an account that does not have it yet.

        Raises `AddressTaken`; `Conflict` where the account has the address by now; `AddressUndecided` where a young claim has
        no account within `PATIENCE`; `StoreUnavailable`.
        """
        key, mark = claim_key(self._prefix, address), claim_mark(user_id, nonce)
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + PATIENCE.total_seconds()
        pause = _FIRST_PAUSE
        while True:
            won, record, now = await self._confirmed(address, CLAIM, key, mark)
            there = Claim.parse(record)
            if won:
                return there
            if await self._has_address(there.user_id, address):
                if there.user_id == user_id:
                    raise Conflict
                raise AddressTaken
            wait = LEASE // timedelta(milliseconds=1) - (now - there.made_at)
            if wait <= 0:
                least_age = LEASE // timedelta(milliseconds=1)
                won, record = await self._confirmed(address, TAKE_OVER, key, there.record, there.made_at, mark, least_age)
                if won:
                    return Claim.parse(record)
            elif loop.time() > give_up_at:
                raise AddressUndecided(
                    "another request has claimed this address and has not ended",
                    retry_after=timedelta(milliseconds=wait),
                )
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def release(self, address: str, claim: Claim) -> None:
        """Release a claim if it still is what was read.

        Where the store cannot be asked, the claim is left: what it stood for is decided, and it can be taken over.
        """
        try:
            await self._commands.repeatable(RELEASE, claim_key(self._prefix, address), claim.record)
        except (StoreUnavailable, UnderReplicatedError):
            return

    async def _confirmed(self, address: str, script: Script, key: str, *args: bytes | int) -> Any:
        """Run a script that claims, and take the claim back where too few replicas have it: a fail-over could lose it."""
        try:
            return await self._commands.repeatable(script, key, *args)
        except UnderReplicatedError as error:
            won, record, *_ = error.answer
            if not won:
                return error.answer
            await self.release(address, Claim.parse(record))
            raise StoreUnavailable("too few replicas have confirmed the claim on an address") from error
