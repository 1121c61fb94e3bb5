"""A look at every key of a store in use: is each account whole, does each have its claim, does each key belong to somebody.

The service goes on meanwhile, so what one reading shows may be half of a change. A first pass over all keys only suspects; then
every suspect is read again, and counts only if it still shows the fault:

- An account is read before and after its claim, until both readings have one version. Versions only grow, so the account had
  its address all the while, and in the protocol of `pickguard.adapters.redis.claims` there is no moment at which it has it
  without the claim. A claim that such an account lacks is lost, however much is going on.
- A claim without account that is younger than the lease may be a registration under way. One that is older, still the same and
  still without its account after a pause, is what a crash has left, or an account that went at its end.
- An account and the expiry of its key are written in one step, so what differs while the version stays is a fault.

How much is remembered depends on the number of suspects, not on that of accounts.

Repairs are made by the protocol's own scripts and rules, as one more process among those of the service;
``tests/integration/test_inspection.py`` has them in the model of the protocol, in every interleaving:

- A missing claim is made as for a registration, with a nonce that nobody else knows. If somebody was first, nothing is done.
- A claim that leads elsewhere is taken over by rule 3: only past the lease, only if its account does not have the address, by
  comparing the whole value. Its age is judged before its account is read: past the lease no save can rely on it, so an account
  that has not the address then does not get it by this claim any more.
- After either, the account is read once more. If it has left the address meanwhile, the claim is given back by comparing the
  value: the protocol lets nobody but the one who made a claim rely on it, so nobody relies on this one.
- An orphan is released in the same order, and by comparing the value: whoever takes it over changes it, so that it is not
  released any more.
- The expiry of an account's key is set anew as the account says, if the account is still of the version that was judged.
- Where several accounts have one address, they are reported and none is chosen. To know of them all, a claim is made only after
  all keys have been seen. What is not understood is never changed: it may be of a newer version.
"""

import asyncio
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import attrs
from redis.exceptions import NoPermissionError, ResponseError

from pickguard.adapters.redis.claims import LEASE, PATIENCE, Claim
from pickguard.adapters.redis.clients import Node, StoreClient
from pickguard.adapters.redis.commands import FAILURES, Commands, unavailable
from pickguard.adapters.redis.durability import examine
from pickguard.adapters.redis.encoding import (
    ACTIVITY,
    CHALLENGES,
    CREDENTIAL,
    MADE_BY,
    OPERATIONS,
    SESSION_PREFIX,
    USER,
    VERSION,
    UnreadableError,
    account_key,
    claim_key,
    claim_mark,
    decode_snapshot,
    decode_user,
    milliseconds,
)
from pickguard.adapters.redis.scripts import CLAIM, RELEASE, SET_END, TAKE_OVER
from pickguard.domain.model.errors import StoreUnavailable
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.limits import Limit
from pickguard.ports.accounts import OPERATION_ID_BYTES, REMEMBERED_OPERATIONS
from pickguard.ports.checkup import Finding, Inspection, Irregularity, Kind, Progress

SUSPECTS: Final = 200_000
"""How many accounts, and how many claims, one run looks into again, at half a kilobyte each. More are left to the next."""

LISTED: Final = 100
"""How many irregularities of each kind are told one by one."""

NEEDED: Final = "+dbsize +scan +exists +pttl"
"""What a user needs for it beyond what the service does."""

_PAGE = 500
_FOR_EVER, _GONE = -1, -2
"""What PTTL answers for a key without an expiry, and for one that is not there."""
_NO_END = 0
_ATTEMPTS = 10
_DIGEST_BYTES = 32
_CLAIM_DIGEST_LENGTH = 28
_COUNTED = frozenset({limit.value for limit in Limit} - {Limit.GUESSES.value, Limit.RUN.value})


class RedisCheckup:
    """A `Checkup` of a store. The client is one that does not wait for replicas."""

    def __init__(self, client: StoreClient, *, prefix: str, wait_replicas: int = 0) -> None:
        self._client = client
        self._prefix = prefix
        self._wait_replicas = wait_replicas

    async def examine(self) -> tuple[Finding, ...]:
        """See `Checkup.examine`."""
        return await examine(self._client, wait_replicas=self._wait_replicas)

    async def inspect(self, *, repair: bool, progress: Callable[[Progress], None]) -> Inspection:
        """See `Checkup.inspect`."""
        return await inspect(self._client, prefix=self._prefix, repair=repair, progress=progress)


async def inspect(
    client: StoreClient,
    *,
    prefix: str,
    repair: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    pause: timedelta = PATIENCE,
    suspects: int = SUSPECTS,
) -> Inspection:
    """Look at every key. With `repair`, mend what can be mended without a guess.

    While slots of a Cluster are on their way from one node to another, keys can be missed; look when they have arrived. Raises
    `StoreUnavailable`, also where a server was restarted or replaced meanwhile, so that not all of its keys were seen.
    """
    inspector = _Inspector(client=client, prefix=prefix, repair=repair, progress=progress, pause=pause, suspects=suspects)
    return await inspector.run()


class _WrongType:
    """The answer to a command for another kind of value than the key holds."""


_WRONG_TYPE: Final = _WrongType()


@attrs.frozen
class _Lack:
    """An account lacks its claim, and this is what is there in its place."""

    there: object


class _Inspector:
    def __init__(
        self,
        *,
        client: StoreClient,
        prefix: str,
        repair: bool,
        progress: Callable[[Progress], None],
        pause: timedelta,
        suspects: int,
    ) -> None:
        self._client = client
        self._commands = Commands(client)
        self._prefix = prefix
        self._repair = repair
        self._progress = progress
        self._pause = pause
        self._most_suspects = suspects
        self._salt = secrets.token_bytes()
        self._horizon = sys.maxsize
        self._masters: Sequence[Node] = ()
        self._seen = 0
        self._counts: Counter[str] = Counter()
        self._unclaimed: dict[str, set[UserId]] = {}
        self._loose: dict[str, bytes] = {}
        self._irregularities: dict[Irregularity, None] = {}
        self._found: Counter[Kind] = Counter()
        self._repaired: Counter[Kind] = Counter()

    async def run(self) -> Inspection:
        try:
            return await self._run()
        except StoreUnavailable as error:
            if isinstance(error.__cause__, NoPermissionError):
                raise StoreUnavailable(f"the user may not do that: ACL SETUSER … {NEEDED}") from error
            raise

    async def _run(self) -> Inspection:
        try:
            self._masters = await self._client.masters()
        except FAILURES as error:
            raise unavailable(error) from error
        identities = await self._identities()
        total = sum([await Commands(node.client).ask("DBSIZE") for node in self._masters])
        for node in self._masters:
            await self._scan(node, total)
        if await self._identities() != identities:
            raise StoreUnavailable(
                "a server was restarted or replaced during the inspection, so not all keys were seen; start again"
            )
        for key, users in self._unclaimed.items():
            await self._settle_accounts(key, users)
        if self._loose:
            await asyncio.sleep(self._pause.total_seconds())
        for key, record in self._loose.items():
            if key not in self._unclaimed:
                await self._settle_claim(key, record)
        return Inspection(
            **self._counts,
            irregularities=tuple(self._irregularities),
            found=dict(self._found),
            repaired=dict(self._repaired),
        )

    async def _identities(self) -> list[object]:
        """Return what tells one run of a server from another, as far as the user may know."""
        found = []
        for node in self._masters:
            try:
                answer = await node.client.execute_command("INFO", "server")
            except ResponseError:
                answer = {}
            except FAILURES as error:
                raise unavailable(error) from error
            found.append(answer.get("run_id"))
        return found

    # The first pass.

    async def _scan(self, node: Node, total: int) -> None:
        commands = Commands(node.client)
        cursor = 0
        while True:
            cursor, keys = await commands.ask("SCAN", cursor, "COUNT", _PAGE)
            await self._look_at(keys)
            self._seen += len(keys)
            self._progress(Progress(seen=self._seen, total=max(self._seen, total)))
            if int(cursor) == 0:
                return

    async def _look_at(self, names: Sequence[bytes]) -> None:
        accounts: dict[str, UserId] = {}
        claims, fleeting = [], []
        for name in names:
            key = repr(name)[2:-1]  # the same but for what no key of ours has in it, and safe to show
            kind, _, rest = key.removeprefix(f"{self._prefix}:").partition(":")
            if not key.startswith(f"{self._prefix}:"):
                self._counts["others"] += 1
            elif (user_id := _user_of(kind)) is not None and account_key(self._prefix, user_id) == key:
                accounts[key] = user_id
            elif kind == "email" and len(rest) == _CLAIM_DIGEST_LENGTH:
                claims.append(key)
            elif counted := _fleeting(kind, rest):
                self._counts[counted] += 1
                fleeting.append(key)
            elif await self._commands.ask("EXISTS", name):
                self._report(Kind.UNKNOWN_KEY, key, "No part of the service writes such a key.")
        await self._look_at_accounts(accounts)
        await self._look_at_claims(claims)
        for key, left in zip(fleeting, await self._ask_all([("PTTL", key) for key in fleeting]), strict=True):
            if left == _FOR_EVER and await self._commands.ask("PTTL", key) == _FOR_EVER:
                self._report(Kind.LASTING_KEY, key, "It should go by itself after a time, and has none set.")

    async def _look_at_accounts(self, accounts: Mapping[str, UserId]) -> None:
        owners: list[tuple[str, UserId]] = []
        answers = await self._ask_all([("HGETALL", key) for key in accounts])
        lives = await self._ask_all([("PTTL", key) for key in accounts])
        for (key, user_id), fields, life in zip(accounts.items(), answers, lives, strict=True):
            if not fields:  # removed meanwhile
                continue
            self._counts["accounts"] += 1
            await self._look_at_end(key, user_id, fields, life)
            address, sessions, fault = _read_account(fields, user_id)
            self._counts["sessions"] += sessions
            if fault and (again := await self._read("HGETALL", key)):
                _, _, fault = _read_account(again, user_id)
                if fault:
                    self._report(Kind.UNREADABLE_ACCOUNT, key, fault)
            if address is not None:
                owners.append((claim_key(self._prefix, address), user_id))
        answers = await self._ask_all([("GET", key) for key, _ in owners])
        for (key, user_id), there in zip(owners, answers, strict=True):
            claim = _parse(there)
            if claim is None or claim.user_id != user_id:
                self._suspect_account(key, user_id)

    async def _look_at_end(self, key: str, user_id: UserId, fields: Any, life: int) -> None:
        """See whether an account's key goes at the account's end, and only then."""
        end = _end_of(fields, user_id)
        self._counts["deleted"] += end not in {None, _NO_END}
        if _is_kept(end, life):
            return
        # Read apart, the two may be of two moments.
        before = await self._read("HMGET", key, VERSION, USER)
        life = await self._commands.ask("PTTL", key)
        if isinstance(before, _WrongType) or before != await self._read("HMGET", key, VERSION, USER):
            return
        end = _end_of({USER: before[1]}, user_id)
        if end is None or _is_kept(end, life):
            return
        repaired = self._repair and bool(await self._commands.repeatable(SET_END, key, before[0], end))
        if end == _NO_END:
            self._report(Kind.VANISHING_ACCOUNT, key, "It has no end, and its key has an expiry.", repaired=repaired)
        else:
            self._report(Kind.LASTING_ACCOUNT, key, "It has an end, and its key has no expiry.", repaired=repaired)

    async def _look_at_claims(self, keys: Sequence[str]) -> None:
        claims: dict[str, Claim] = {}
        for key, there in zip(keys, await self._ask_all([("GET", key) for key in keys]), strict=True):
            if there is None:  # released meanwhile
                continue
            self._counts["claims"] += 1
            claim = _parse(there)
            if claim is not None:
                claims[key] = claim
            elif (again := await self._read("GET", key)) is not None and _parse(again) is None:
                self._report(Kind.UNREADABLE_CLAIM, key, "What is there is no claim.")
        users = [("HGET", account_key(self._prefix, claim.user_id), USER) for claim in claims.values()]
        for (key, claim), user in zip(claims.items(), await self._ask_all(users), strict=True):
            if self._key_of(user, claim.user_id) == key:
                continue
            if len(self._loose) < self._most_suspects:
                self._loose[key] = claim.record
            else:
                self._counts["postponed"] += 1

    def _suspect_account(self, key: str, user_id: UserId) -> None:
        """Remember an account; where there are too many, all of an address or none, and others in the next run than in this."""
        if self._rank(key) >= self._horizon:
            self._counts["postponed"] += 1
            return
        self._unclaimed.setdefault(key, set()).add(user_id)
        if len(self._unclaimed) > self._most_suspects:
            ranked = sorted(self._unclaimed, key=self._rank)
            self._horizon = self._rank(ranked[len(ranked) // 2])
            for dropped in ranked[len(ranked) // 2 :]:
                self._counts["postponed"] += len(self._unclaimed.pop(dropped))

    def _rank(self, key: str) -> int:
        return hash((self._salt, key))

    # The second.

    async def _settle_accounts(self, key: str, users: set[UserId]) -> None:
        """Settle the accounts that seemed to lack the claim on their address; all that are without it are among them."""
        lacks = {user_id: lack for user_id in sorted(users) if (lack := await self._lack_of(key, user_id)) is not None}
        for user_id, lack in lacks.items():
            claim = _parse(lack.there)
            # Before its account is read: a claim that is past the lease now gets no account after that any more.
            is_young = claim is not None and await self._is_young(claim)
            rivals = [other for other in lacks if other != user_id]
            if claim is not None and await self._version_at(key, claim.user_id) is not None:
                rivals.insert(0, claim.user_id)
            if rivals:
                others = ", ".join(map(str, rivals))
                detail = f"It has the same address as {others}; the address's claim is {key}."
                self._report(Kind.SHARED_ADDRESS, account_key(self._prefix, user_id), detail)
            elif lack.there is None or claim is not None:  # else the claim is reported by itself
                await self._settle_account(key, user_id, claim, is_young=is_young)

    async def _settle_account(self, key: str, user_id: UserId, claim: Claim | None, *, is_young: bool) -> None:
        if claim is not None and is_young:
            self._report(Kind.PENDING_CLAIM, key, f"{claim.user_id} claims the address of {user_id}, and may yet get it.")
            return
        repaired = self._repair and await self._claim(key, user_id, claim)
        if self._repair and not repaired and await self._lack_of(key, user_id) is None:
            return  # it is settled by itself
        account = account_key(self._prefix, user_id)
        if claim is None:
            self._report(Kind.MISSING_CLAIM, account, f"Nothing claims its address: {key} is not there.", repaired=repaired)
        else:
            detail = f"{key} claims its address for {claim.user_id}, which does not have it."
            self._report(Kind.FOREIGN_CLAIM, account, detail, repaired=repaired)

    async def _lack_of(self, key: str, user_id: UserId) -> _Lack | None:
        """Return what is there in the place of an account's claim; None where it has its claim, or not this address."""
        for _ in range(_ATTEMPTS):
            version = await self._version_at(key, user_id)
            if version is None:
                return None
            there = await self._read("GET", key)
            claim = _parse(there)
            if claim is not None and claim.user_id == user_id:
                return None
            if await self._version_at(key, user_id) == version:
                return _Lack(there)
        return None  # it changes all the time; the next run will see

    async def _claim(self, key: str, user_id: UserId, there: Claim | None) -> bool:
        """Claim the address of an account; tell whether the account has its claim now."""
        mark = claim_mark(user_id, secrets.token_bytes(OPERATION_ID_BYTES))
        if there is None:
            won, record, _ = await self._commands.repeatable(CLAIM, key, mark)
        else:
            least_age = LEASE // timedelta(milliseconds=1)
            won, record = await self._commands.repeatable(TAKE_OVER, key, there.record, there.made_at, mark, least_age)
        if won and await self._version_at(key, user_id) is None:
            await self._commands.repeatable(RELEASE, key, record)
            return False
        return bool(won)

    async def _settle_claim(self, key: str, record: bytes) -> None:
        claim = Claim.parse(record)
        is_young = await self._is_young(claim)  # before its account is read, as above
        if await self._version_at(key, claim.user_id) is not None or await self._read("GET", key) != record:
            return
        if is_young:
            self._report(Kind.PENDING_CLAIM, key, f"{claim.user_id} claims an address that it does not have yet.")
            return
        detail = f"It claims an address for {claim.user_id}, which does not have it."
        if not self._repair:
            self._report(Kind.ORPHAN_CLAIM, key, detail)
        elif await self._commands.repeatable(RELEASE, key, record):
            self._report(Kind.ORPHAN_CLAIM, key, detail, repaired=True)

    async def _is_young(self, claim: Claim) -> bool:
        """Tell whether a claim may be younger than the lease: by the clock of the server that is furthest behind."""
        times = [await Commands(node.client).ask("TIME") for node in self._masters]
        now = min(int(seconds) * 1000 + int(microseconds) // 1000 for seconds, microseconds in times)
        return now - claim.made_at < LEASE // timedelta(milliseconds=1)

    # Reading.

    async def _version_at(self, key: str, user_id: UserId) -> int | None:
        """Return the version of an account, if it has the address that a key claims."""
        answer = await self._read("HMGET", account_key(self._prefix, user_id), VERSION, USER)
        if isinstance(answer, _WrongType) or answer[0] is None or self._key_of(answer[1], user_id) != key:
            return None
        return int(answer[0])

    def _key_of(self, user: object, user_id: UserId) -> str | None:
        """Return the key that claims a user's address; None where there is no user, or none that can be read."""
        if not isinstance(user, bytes):
            return None
        try:
            return claim_key(self._prefix, decode_user(user, user_id).email.key)
        except UnreadableError:
            return None

    async def _read(self, *command: object) -> Any:
        try:
            return await self._commands.ask(*command)
        except StoreUnavailable as error:
            if _is_wrong_type(error.__cause__):
                return _WRONG_TYPE
            raise

    async def _ask_all(self, commands: Sequence[tuple[object, ...]]) -> list[Any]:
        """Send many commands at once, those that fail once more by themselves."""
        try:
            answers = await self._client.execute_all(commands)
        except FAILURES as error:
            answers = [error] * len(commands)
        return [
            await self._read(*command) if isinstance(answer, BaseException) else answer
            for command, answer in zip(commands, answers, strict=True)
        ]

    def _report(self, kind: Kind, key: str, detail: str, *, repaired: bool = False) -> None:
        irregularity = Irregularity(kind=kind, key=key, detail=detail, repaired=repaired)
        if irregularity in self._irregularities:  # SCAN may show a key twice
            return
        self._found[kind] += 1
        if repaired:
            self._repaired[kind] += 1
        if self._found[kind] <= LISTED:
            self._irregularities[irregularity] = None


def _fleeting(kind: str, rest: str) -> str | None:
    """Return as what a key is counted that goes by itself; None where it is none of those."""
    if kind == "limit":
        kind, _, rest = rest.partition(":")
        return "limits" if kind in _COUNTED and len(rest) == _CLAIM_DIGEST_LENGTH else None
    if kind == "tries":
        return "limits" if len(rest) == _CLAIM_DIGEST_LENGTH else None
    return {"probe": "probes", "request": "receipts"}.get(kind)


def _user_of(name: str) -> UserId | None:
    try:
        return UserId(UUID(name.strip("{}")))
    except ValueError:
        return None


def _parse(there: object) -> Claim | None:
    if not isinstance(there, bytes):
        return None
    try:
        return Claim.parse(there)
    except UnreadableError:
        return None


def _is_wrong_type(error: object) -> bool:
    return isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")


def _read_account(fields: Any, user_id: UserId) -> tuple[str | None, int, str]:
    """Return an account's address, how many sessions it has, and what is wrong with it, if anything is."""
    if isinstance(fields, _WrongType):
        return None, 0, "It is no hash."
    try:
        snapshot = decode_snapshot(fields, user_id)
    except UnreadableError as error:
        return None, 0, f"{str(error)[0].upper()}{str(error)[1:]}."
    address, sessions = snapshot.account.user.email.key, snapshot.account.sessions
    operations = fields.get(OPERATIONS, b"")
    fault = ""
    if len(operations) != OPERATION_ID_BYTES * min(snapshot.version, REMEMBERED_OPERATIONS):
        fault = f"It does not remember the operations that have led to version {snapshot.version}."
    elif any(_is_strange(name) for name in fields):
        fault = "It has a field that is none of an account."
    elif len({session.id for session in sessions}) != len(sessions):
        fault = "It has one session twice."
    return address, len(sessions), fault


def _end_of(fields: Any, user_id: UserId) -> int | None:
    """Return when an account ends, in ms; `_NO_END` where it does not; None where it cannot be read."""
    user = None if isinstance(fields, _WrongType) else fields.get(USER)
    if user is None:
        return None
    try:
        deletes_at = decode_user(user, user_id).deletes_at
    except UnreadableError:
        return None
    return _NO_END if deletes_at is None else milliseconds(deletes_at)


def _is_kept(end: int | None, life: int) -> bool:
    """Tell whether a key lives as long as its account, as far as the account can be read and is there."""
    return end is None or life == _GONE or (end == _NO_END) == (life == _FOR_EVER)


def _is_strange(name: bytes) -> bool:
    if name.startswith(SESSION_PREFIX):
        return len(name) != len(SESSION_PREFIX) + _DIGEST_BYTES
    return name not in {VERSION, OPERATIONS, USER, CREDENTIAL, CHALLENGES, ACTIVITY, MADE_BY}
