"""Going through all accounts of a store in use: SCAN, server after server.

What SCAN promises holds for one run of one server. A cursor therefore knows by which servers it was given, and in which run of
each; where they are others now, after a restart, a fail-over or a change of the Cluster, it is refused, since accounts would be
missed. While slots of a Cluster are on their way from one server to another, accounts can be missed all the same.
"""

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

import attrs
from redis.exceptions import NoPermissionError, ResponseError

from pickguard.adapters.redis.accounts import DEFAULT_PREFIX
from pickguard.adapters.redis.clients import Node, StoreClient
from pickguard.adapters.redis.commands import FAILURES, Commands, unavailable
from pickguard.adapters.redis.encoding import (
    ACTIVITY,
    CHALLENGES,
    CREDENTIAL,
    SESSION_PREFIX,
    USER,
    VERSION,
    UnreadableError,
    account_key,
    decode_activity,
    decode_challenges,
    decode_credential,
    decode_session,
    decode_user,
)
from pickguard.domain.model.errors import InvalidCursor, StoreUnavailable
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.sessions import SessionDigest
from pickguard.domain.model.users import User
from pickguard.ports.directory import DirectoryEntry, DirectoryPage

NEEDED: Final = "+scan"
"""What a user needs for it beyond what the service does."""

MOST_KEYS: Final = 1000
"""Of which kind ever, that one SCAN looks at. The server does nothing else meanwhile, for less than a millisecond."""
LEAST_KEYS: Final = 100
MOST_SCANS: Final = 8
"""For one page, however few accounts they show."""

_Read = TypeVar("_Read")
_WRONG_TYPE: Final = object()
_CURSOR: Final = re.compile(r"([0-9a-f]{16})-([0-9]{1,4})-([0-9]{1,20})", re.ASCII)
_UUID: Final = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_GLOB: Final = re.compile(r"([*?\[\]\\^])")


@attrs.frozen
class _Cursor:
    """Where the next SCAN begins: the run of the servers, the place of one among them, and its own cursor."""

    run: str
    place: int = 0
    scan: int = 0

    @classmethod
    def parse(cls, text: str) -> "_Cursor":
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise InvalidCursor
        return cls(run=match[1], place=int(match[2]), scan=int(match[3]))

    def __str__(self) -> str:
        return f"{self.run}-{self.place}-{self.scan}"


class RedisDirectory:
    """An `AccountDirectory` of a store of any topology. It reads from the servers that take writes."""

    def __init__(self, client: StoreClient, *, prefix: str = DEFAULT_PREFIX) -> None:
        self._client = client
        self._commands = Commands(client)
        self._prefix = prefix
        self._pattern = _GLOB.sub(r"\\\1", prefix) + ":{*}"
        self._key = re.compile(re.escape(f"{prefix}:{{".encode()) + rb"(" + _UUID.pattern + rb")\}")

    async def page(self, *, after: str | None, limit: int, wanted: Callable[[User], bool] | None = None) -> DirectoryPage:
        """See `AccountDirectory.page`. It takes `MOST_SCANS` at most, each of `MOST_KEYS` at most."""
        cursor = None if after is None else _Cursor.parse(after)
        masters = await self._masters()
        if cursor is None:
            cursor = _Cursor(await self._run_of(masters))
        page = DirectoryPage(entries=(), next=str(cursor))
        seen: set[UserId] = set()
        for _ in range(MOST_SCANS):
            if cursor.place >= len(masters):
                raise InvalidCursor
            scan, ids = await self._scan(masters[cursor.place], cursor.scan, limit - len(page.entries))
            new = [user_id for user_id in ids if user_id not in seen]
            seen.update(new)
            page = _joined(page, await self._read(new, wanted))
            place = cursor.place if scan else cursor.place + 1
            cursor = attrs.evolve(cursor, place=place, scan=scan)
            if place == len(masters) or len(page.entries) >= limit:
                break
        # Only now: a server that was restarted before its last SCAN has not shown all.
        if await self._run_of(masters) != cursor.run:
            raise InvalidCursor
        return attrs.evolve(page, next=None if cursor.place == len(masters) else str(cursor))

    async def _masters(self) -> Sequence[Node]:
        try:
            return sorted(await self._client.masters(), key=lambda node: node.name)
        except FAILURES as error:
            raise unavailable(error) from error

    async def _run_of(self, masters: Sequence[Node]) -> str:
        """Return what tells these servers, each since its last start, from others, as far as the user may know."""
        runs = await asyncio.gather(*(_run_id(node) for node in masters))
        named = "\n".join(f"{node.name} {run}" for node, run in zip(masters, runs, strict=True))
        return hashlib.sha256(named.encode()).hexdigest()[:16]

    async def _scan(self, node: Node, cursor: int, limit: int) -> tuple[int, list[UserId]]:
        count = min(max(limit, LEAST_KEYS), MOST_KEYS)
        try:
            answer, keys = await Commands(node.client).ask("SCAN", cursor, "MATCH", self._pattern, "COUNT", count)
        except StoreUnavailable as error:
            if isinstance(error.__cause__, NoPermissionError):
                raise StoreUnavailable(f"the user may not list accounts: ACL SETUSER … {NEEDED}") from error
            if isinstance(error.__cause__, ResponseError) and "cursor" in str(error.__cause__):
                raise InvalidCursor from error
            raise
        found = (self._key.fullmatch(key) for key in keys)
        return int(answer), [UserId(UUID(match[1].decode())) for match in found if match is not None]

    async def _read(self, ids: Sequence[UserId], wanted: Callable[[User], bool] | None) -> DirectoryPage:
        unreadable: dict[UserId, None] = {}
        if wanted is not None:
            users = await self._ask_all([("HGET", account_key(self._prefix, user_id), USER) for user_id in ids])
            ids = [
                user_id
                for user_id, record in zip(ids, users, strict=True)
                if record is not None
                and ((user := _attempt(unreadable, user_id, record, _read_user)) is not None and wanted(user))
            ]
        found = await self._ask_all([("HGETALL", account_key(self._prefix, user_id)) for user_id in ids])
        entries = [
            entry
            for user_id, fields in zip(ids, found, strict=True)
            if fields != {} and (entry := _attempt(unreadable, user_id, fields, _read_entry)) is not None
        ]
        # It may have been changed between the two readings.
        entries = [each for each in entries if wanted is None or wanted(each.user)]
        return DirectoryPage(entries=tuple(entries), next=None, unreadable=tuple(unreadable))

    async def _ask_all(self, commands: Iterable[tuple[object, ...]]) -> list[Any]:
        """Send commands at once. The answer to one for another kind of value than the key holds is `_WRONG_TYPE`."""
        return await asyncio.gather(*(self._ask(*command) for command in commands))

    async def _ask(self, *command: object) -> Any:
        try:
            return await self._commands.ask(*command)
        except StoreUnavailable as error:
            if isinstance(error.__cause__, ResponseError) and str(error.__cause__).startswith("WRONGTYPE"):
                return _WRONG_TYPE
            raise


def _attempt(
    unreadable: dict[UserId, None], user_id: UserId, stored: Any, read: Callable[[Any, UserId], _Read]
) -> _Read | None:
    """Return what can be read; None where it cannot, and note that."""
    if stored is not _WRONG_TYPE:
        try:
            return read(stored, user_id)
        except UnreadableError:
            pass
    unreadable[user_id] = None
    return None


# Past the caches of what was read lately: those are for accounts in use, and a listing shows each one once.


def _read_user(record: bytes, user_id: UserId) -> User:
    return decode_user.__wrapped__(record, user_id)


def _read_entry(fields: Mapping[bytes, bytes], user_id: UserId) -> DirectoryEntry:
    if not {VERSION, USER, CREDENTIAL} <= fields.keys():
        raise UnreadableError("an account is there by half")
    sessions = (
        decode_session.__wrapped__(record, SessionDigest(name.removeprefix(SESSION_PREFIX)))
        for name, record in fields.items()
        if name.startswith(SESSION_PREFIX)
    )
    entry = DirectoryEntry(user=_read_user(fields[USER], user_id), sessions=tuple(sessions))
    # The rest is not shown, but nobody can use an account of which anything is damaged.
    decode_credential(fields[CREDENTIAL])
    if CHALLENGES in fields:
        decode_challenges(fields[CHALLENGES])
    if ACTIVITY in fields:
        decode_activity.__wrapped__(fields[ACTIVITY])
    return entry


def _joined(one: DirectoryPage, other: DirectoryPage) -> DirectoryPage:
    return attrs.evolve(one, entries=one.entries + other.entries, unreadable=one.unreadable + other.unreadable)


async def _run_id(node: Node) -> object:
    try:
        return (await node.client.execute_command("INFO", "server")).get("run_id")
    except ResponseError:  # not allowed to ask
        return None
    except FAILURES as error:
        raise unavailable(error) from error
