"""Everything that a use case can raise on purpose.

The tree; a leaf carries data for the caller, never HTTP:

```
AccountsError
├── InvalidFields(faults)                    what was given breaks rules of its fields
├── AddressTaken                             the e-mail address belongs to another account
├── InvalidCredentials                       this e-mail address and password open no session
├── DeletionPending(deletes_at)              they would, but the account was deleted and can only be restored
├── WrongPassword                            the password given as proof is not the account's
├── InvalidToken                             the bearer token opens nothing (unknown, expired, revoked, garbage)
├── ReauthenticationRequired(max_age)        the session's last proof of the password is too old
├── SessionNotFound                          the account has no such session
├── AccountNotFound                          an operator named an account that there is not
├── InvalidCursor                            a listing cannot go on from there
├── PreconditionFailed                       the caller's condition on the present state does not hold
├── IdempotencyKeyReused                     another request had this name
├── RegistrationClosed                       nobody can register
├── InvalidServiceCredential                 another service has not proved which one it is
├── TokenSpent                               a mailed token proves nothing (used, void, expired, unknown, garbage)
├── RateLimited(limit, retry_after)          this was tried too often
├── Conflict                                 another write came first; inside the core only, use cases try again
└── Unavailable(retry_after)                 not now; nothing is wrong with the request
    ├── HashingOverloaded                    the queue for hashing is full
    ├── StoreUnavailable                     the store cannot be reached or refuses to write; nothing was stored
    ├── OutcomeUnknown                       a write was sent and its answer lost: it may have happened or not
    │   └── NotReplicated                    a write was made and too few replicas have confirmed it: a fail-over may undo it
    ├── AddressUndecided                     another registration of this address has not ended yet
    └── Contended                            one account is being changed too often at once
```
"""

from datetime import datetime, timedelta

import attrs

from pickguard.domain.model.limits import Limit


@attrs.frozen(kw_only=True)
class Fault:
    """One broken rule: of which field (None: of the whole), a stable code for programs, and a sentence for people."""

    field: str | None
    code: str
    detail: str


class AccountsError(Exception):
    """Base of all errors that the core raises on purpose."""


class InvalidFields(AccountsError):
    """What was given breaks rules of its fields: all of the faults, not only the first."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(f"{fault.field or 'all of it'}: {fault.detail}" for fault in faults))
        self.faults = faults


class AddressTaken(AccountsError):
    """The e-mail address belongs to another account."""


class InvalidCredentials(AccountsError):
    """This e-mail address and password open no session. Which of the two is wrong is not said, on purpose."""


class DeletionPending(AccountsError):
    """This account was deleted and is gone at `deletes_at`, unless it is restored. Told only to who knows its password."""

    def __init__(self, deletes_at: datetime) -> None:
        super().__init__(f"the account is gone at {deletes_at}, unless it is restored")
        self.deletes_at = deletes_at


class WrongPassword(AccountsError):
    """The password given as proof is not the account's."""


class InvalidToken(AccountsError):
    """The bearer token opens nothing. Unknown, expired, revoked and garbage are not told apart, on purpose."""


class ReauthenticationRequired(AccountsError):
    """The session's last proof of the password is older than `max_age`; reauthenticate the session and try again."""

    def __init__(self, max_age: timedelta) -> None:
        super().__init__(f"the password was last proved more than {max_age} ago")
        self.max_age = max_age


class SessionNotFound(AccountsError):
    """The account has no live session with this id."""


class AccountNotFound(AccountsError):
    """There is no account of this id, or with this address."""


class InvalidCursor(AccountsError):
    """The listing cannot go on from there: it is no cursor, or the store has changed since it was given. Begin anew."""


class PreconditionFailed(AccountsError):
    """The caller's condition on the present state does not hold; nothing was changed."""


class IdempotencyKeyReused(AccountsError):
    """A request of this name was made within the last day, and it asked for something else. Nothing was done."""


class RegistrationClosed(AccountsError):
    """Nobody can make an account for themselves here."""


class InvalidServiceCredential(AccountsError):
    """Another service has not proved which one it is. Unknown, wrong and garbage are not told apart, on purpose."""


class TokenSpent(AccountsError):
    """A mailed token proves nothing (any more). Used, void, expired, unknown and garbage are not told apart, on purpose."""


class RateLimited(AccountsError):
    """This was tried too often: refused without a look, until `retry_after` has passed."""

    def __init__(self, limit: Limit, *, retry_after: timedelta) -> None:
        super().__init__(f"over the limit of {limit.value}")
        self.limit = limit
        self.retry_after = retry_after


class Conflict(AccountsError):
    """Another write came first and this one did not happen. Load, decide and save again."""


class Unavailable(AccountsError):
    """Not now: nothing is wrong with the request, and the same one may succeed after `retry_after`."""

    def __init__(self, reason: str, *, retry_after: timedelta = timedelta(seconds=1)) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class HashingOverloaded(Unavailable):
    """The request would wait longer for its turn to hash than it may."""


class StoreUnavailable(Unavailable):
    """The store cannot be reached, or refuses to write. What was asked for did not happen."""


class OutcomeUnknown(Unavailable):
    """A write was sent and its answer lost: it may have happened, may yet happen, or may never. Look before you repeat."""


class NotReplicated(OutcomeUnknown):
    """A write was made, but fewer replicas than wanted have confirmed it: it stands unless a fail-over undoes it."""


class AddressUndecided(Unavailable):
    """Another registration or change has claimed this address and has not ended: nobody can know yet whose it is."""


class Contended(Unavailable):
    """One account is being changed by so many at once that this change did not get its turn. It did not happen."""
