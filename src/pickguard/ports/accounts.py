"""Where accounts are kept."""

from collections.abc import Callable, Sequence
from typing import Protocol

import attrs

from pickguard.domain.model.accounts import Account
from pickguard.domain.model.activity import Activity
from pickguard.domain.model.credentials import Credential
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.sessions import Session, SessionDigest
from pickguard.domain.model.users import EmailAddress, User

OPERATION_ID_BYTES = 8
REMEMBERED_OPERATIONS = 8


@attrs.frozen(kw_only=True)
class Snapshot:
    """An account as it was at one moment, and which version of it that was."""

    account: Account
    version: int


@attrs.frozen(kw_only=True)
class Holder:
    """Who has an address, as far as somebody who has proved nothing yet makes it necessary to know: without the sessions.

    The activity is of the same moment, and `read_activity` reads it from what is at hand, without a wait. An adapter decodes it
    only then: that takes the longer the more of it there is, and nobody else has any to decode.
    """

    user: User
    credential: Credential
    read_activity: Callable[[], Sequence[Activity]] = attrs.field(repr=False, eq=False)


class AccountRepository(Protocol):
    """Keeps accounts, each as one unit, and sees to it that no two have one e-mail address.

    What every adapter promises, under any concurrency of tasks and processes and any crash:

    - A write happens as a whole or not at all, and only on the version that the caller read.
    - What a call has acknowledged by returning is seen by every call that starts afterwards, in any process.
    - An account is gone from its `User.deletes_at` on, as if it had been removed at that moment, and without anybody's help:
      nothing of it is returned, no write finds it, and its address is free. The store's clock tells when that is. An adapter
      that cannot do so much to a moment that has come, or all but come, may refuse such a save with `StoreUnavailable`. Once
      a save without `deletes_at` has been acknowledged, the account stays.
    - One address (`EmailAddress.key`) belongs to at most one account; a crash never loses an address for good.
    - `Unavailable` and its kin: `StoreUnavailable` means that nothing was stored. `OutcomeUnknown` means that the write was
      sent and its answer lost, or (`NotReplicated`) that it was made and a fail-over may undo it. A lost answer is looked for
      by the operation's id before that is raised, and a write is never sent twice. An operation's id has `OPERATION_ID_BYTES`
      random bytes and is used for one call only.

    Every method can raise `StoreUnavailable`; the writing ones also `OutcomeUnknown`.
    """

    async def get(self, user_id: UserId) -> Snapshot | None:
        """Return the account, or None where there is none of that id. One consistent state."""

    async def find(self, email: EmailAddress) -> Snapshot | None:
        """Return the account that has this address, or None. How long that takes may tell how much there is of it."""

    async def find_holder(self, email: EmailAddress) -> Holder | None:
        """Return who has this address, or None.

        It is as much work for an address that nobody has, and for an account with however many sessions: what a stranger asks
        for must not tell by its time whether there is an account (ASVS 5.0 6.3.8).
        """

    async def read_session(self, user_id: UserId, digest: SessionDigest) -> tuple[User, Session] | None:
        """Return the user and the one session, as of one moment; None where either is gone. Expiry is not looked at.

        This is the authenticated read: it costs one round trip, however many sessions the account has.
        """

    async def add(self, account: Account, *, operation: bytes) -> None:
        """Store a new account.

        Raises `AddressTaken` where its address has another account, `AddressUndecided` where another claim on the address is
        too young to tell, and `Conflict` where there is an account of its id.
        """

    async def save(self, before: Snapshot, after: Account, *, operation: bytes) -> None:
        """Replace `before` by `after`, which has the same user id, as one write.

        Raises `Conflict` where the stored version is not that of `before` any more or the account is gone, `AddressTaken`
        or `AddressUndecided` where the address changes to one that another account has or may have.
        """

    async def remove(self, before: Snapshot, *, operation: bytes) -> None:
        """Remove the account with all that belongs to it, and free its address.

        Raises `Conflict` where the stored version is not that of `before` any more or the account is gone.
        """

    async def confirm(self, snapshot: Snapshot) -> None:
        """Return when what was read is kept as safely as what a write acknowledges: for an answer that rests on it alone.

        A write that was made and not acknowledged can be read, and a repeat of it finds nothing left to do. May raise
        `Conflict` where the stored version is another by now, and raises `NotReplicated` like a write.
        """

    async def check_writable(self) -> None:
        """Return if a write would succeed now; `StoreUnavailable` if not."""
