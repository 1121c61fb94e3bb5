"""Accounts and receipts in dictionaries: the same promises as any other adapter, gone with the process.

For unit tests, other services' tests, and trying things out. No method waits for anything between reading and writing, so
each is atomic among the tasks of one event loop; it is not for use from several threads.
"""

import heapq
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NoReturn
from uuid import UUID

from pickguard.domain.model.accounts import Account
from pickguard.domain.model.errors import AddressTaken, Conflict, InvalidCursor, StoreUnavailable
from pickguard.domain.model.idempotency import RECEIPT_LIFETIME, Answer, KeyDigest, Receipt
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.sessions import Session, SessionDigest
from pickguard.domain.model.users import EmailAddress, User
from pickguard.ports.accounts import Holder, Snapshot
from pickguard.ports.directory import DirectoryEntry, DirectoryPage


def _system_time() -> datetime:
    return datetime.now(UTC)


class MemoryAccounts:
    """An `AccountRepository` that keeps nothing beyond its own life, and its `AccountDirectory`.

    `now` tells when accounts that await their deletion are gone. It should be the clock that the use cases go by.
    """

    def __init__(self, *, now: Callable[[], datetime] = _system_time) -> None:
        self._snapshots: dict[UserId, Snapshot] = {}
        self._owners: dict[str, UserId] = {}
        self._ends: dict[UserId, datetime] = {}
        self._now = now

    async def get(self, user_id: UserId) -> Snapshot | None:
        """See `AccountRepository.get`."""
        self._erase()
        return self._snapshots.get(user_id)

    async def find(self, email: EmailAddress) -> Snapshot | None:
        """See `AccountRepository.find`."""
        self._erase()
        owner = self._owners.get(email.key)
        return None if owner is None else self._snapshots[owner]

    async def find_holder(self, email: EmailAddress) -> Holder | None:
        """See `AccountRepository.find_holder`."""
        found = await self.find(email)
        if found is None:
            return None
        account = found.account
        return Holder(user=account.user, credential=account.credential, read_activity=lambda: account.activity)

    async def read_session(self, user_id: UserId, digest: SessionDigest) -> tuple[User, Session] | None:
        """See `AccountRepository.read_session`."""
        snapshot = await self.get(user_id)
        if snapshot is None:
            return None
        session = next((session for session in snapshot.account.sessions if session.digest == digest), None)
        return None if session is None else (snapshot.account.user, session)

    async def add(self, account: Account, *, operation: bytes) -> None:  # noqa: ARG002 (no answer is ever lost here)
        """See `AccountRepository.add`."""
        self._erase()
        if account.user.id in self._snapshots:
            if self._owners.get(account.user.email.key, account.user.id) != account.user.id:
                raise AddressTaken
            raise Conflict
        if account.user.email.key in self._owners:
            raise AddressTaken
        self._owners[account.user.email.key] = account.user.id
        self._keep(Snapshot(account=account, version=1))

    async def save(self, before: Snapshot, after: Account, *, operation: bytes) -> None:  # noqa: ARG002
        """See `AccountRepository.save`."""
        self._confirm(before)
        user_id, old, new = after.user.id, before.account.user.email.key, after.user.email.key
        if self._owners.get(new, user_id) != user_id:
            raise AddressTaken
        del self._owners[old]
        self._owners[new] = user_id
        self._keep(Snapshot(account=after, version=before.version + 1))

    async def remove(self, before: Snapshot, *, operation: bytes) -> None:  # noqa: ARG002
        """See `AccountRepository.remove`."""
        self._confirm(before)
        self._remove(before.account)

    async def confirm(self, snapshot: Snapshot) -> None:
        """See `AccountRepository.confirm`."""
        self._confirm(snapshot)

    async def check_writable(self) -> None:
        """See `AccountRepository.check_writable`."""

    async def page(self, *, after: str | None, limit: int, wanted: Callable[[User], bool] | None = None) -> DirectoryPage:
        """See `AccountDirectory.page`. In the order of the ids, and never more than `limit`."""
        try:
            last = None if after is None else UserId(UUID(after))
        except ValueError:
            raise InvalidCursor from None
        self._erase()
        ids = heapq.nsmallest(limit + 1, (user_id for user_id in self._snapshots if last is None or user_id > last))
        accounts = [self._snapshots[user_id].account for user_id in ids[:limit]]
        return DirectoryPage(
            entries=tuple(
                DirectoryEntry(user=each.user, sessions=each.sessions)
                for each in accounts
                if wanted is None or wanted(each.user)
            ),
            next=str(ids[limit - 1]) if len(ids) > limit else None,
        )

    def _keep(self, snapshot: Snapshot) -> None:
        user = snapshot.account.user
        self._snapshots[user.id] = snapshot
        self._ends.pop(user.id, None)
        if user.deletes_at is not None:
            self._ends[user.id] = user.deletes_at

    def _remove(self, account: Account) -> None:
        del self._snapshots[account.user.id]
        del self._owners[account.user.email.key]
        self._ends.pop(account.user.id, None)

    def _erase(self) -> None:
        """Remove the accounts that are gone by now. Few await that at any time, so all of them are looked at."""
        if self._ends:
            now = self._now()
            for user_id in [user_id for user_id, end in self._ends.items() if end <= now]:
                self._remove(self._snapshots[user_id].account)

    def _confirm(self, before: Snapshot) -> None:
        self._erase()
        present = self._snapshots.get(before.account.user.id)
        if present is None or present.version != before.version:
            raise Conflict


class NoDirectory:
    """An `AccountDirectory` beside a repository that has none."""

    async def page(
        self,
        *,
        after: str | None,  # noqa: ARG002 (nothing can be listed)
        limit: int,  # noqa: ARG002
        wanted: Callable[[User], bool] | None = None,  # noqa: ARG002
    ) -> NoReturn:
        """Raise `StoreUnavailable`."""
        raise StoreUnavailable("this store does not list its accounts; pass a directory to build_services")


class MemoryReceipts:
    """`Receipts` that keep nothing beyond their own life."""

    def __init__(self) -> None:
        self._receipts: dict[KeyDigest, tuple[datetime, Receipt]] = {}

    async def read(self, request: KeyDigest, now: datetime) -> Receipt | None:
        """See `Receipts.read`."""
        self._forget(now)
        found = self._receipts.get(request)
        return None if found is None else found[1]

    async def open(self, request: KeyDigest, fingerprint: str, now: datetime) -> Receipt:
        """See `Receipts.open`."""
        self._forget(now)
        return self._receipts.setdefault(request, (now + RECEIPT_LIFETIME, Receipt(fingerprint=fingerprint)))[1]

    async def close(self, request: KeyDigest, opened: Receipt, answer: Answer) -> Answer:
        """See `Receipts.close`."""
        held = self._receipts.get(request)
        if held is None or held[1].fingerprint != opened.fingerprint:  # forgotten after its time
            return answer
        if held[1].answer is not None:
            return held[1].answer
        self._receipts[request] = (held[0], Receipt(fingerprint=opened.fingerprint, answer=answer))
        return answer

    def _forget(self, now: datetime) -> None:
        """Drop what has expired: the oldest come first, because all live equally long."""
        for request, (expires_at, _) in list(self._receipts.items()):
            if now < expires_at:
                break
            del self._receipts[request]
