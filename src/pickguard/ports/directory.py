"""Going through all accounts."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import attrs

from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.sessions import Session
from pickguard.domain.model.users import User


@attrs.frozen(kw_only=True)
class DirectoryEntry:
    """One account, as of one moment. Some of the sessions may have expired; their order means nothing."""

    user: User
    sessions: tuple[Session, ...]


@attrs.frozen(kw_only=True)
class DirectoryPage:
    """Some of the accounts, and how to get at those that follow."""

    entries: tuple[DirectoryEntry, ...]
    next: str | None
    """The cursor of the page that follows; None where this one is the last."""
    unreadable: tuple[UserId, ...] = ()
    """Accounts that are there and cannot be read: they are damaged, or of a newer version."""


@runtime_checkable
class AccountDirectory(Protocol):
    """Lists accounts page by page, while others write.

    From the first page to the last, each account that exists all the while is shown at least once. One that is made, changed or
    removed meanwhile may be shown or not, and one may be shown twice. The order means nothing. One that is gone since its
    `User.deletes_at`, as `AccountRepository` has it, is not shown.

    A page costs the store a bounded time, so it may hold no entries and have a cursor all the same. Where an account is looked
    for by its address, `AccountRepository.find` is one look-up; this looks at all.
    """

    async def page(self, *, after: str | None, limit: int, wanted: Callable[[User], bool] | None = None) -> DirectoryPage:
        """Return the page that begins at a cursor; the first one for None.

        It has about `limit` accounts and may have some more. Those whose user is not `wanted` are left out, and their sessions
        are not read. Raises `InvalidCursor` where the text is no cursor, or the store has changed so that the listing cannot go
        on: it has to begin anew. Raises `StoreUnavailable`.
        """
