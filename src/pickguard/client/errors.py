"""What can go wrong when the service is asked.

The tree; each class is for the problem types (RFC 9457) beside it:

```
ClientError
├── NotReached                      no connection; the request was not sent
├── OutcomeUnknown                  the request was sent and its answer lost: it may have been carried out or not
├── UnexpectedAnswer(status)        an answer that is none of the service's: a proxy's, another server's, a broken one
└── ProblemError                    the service says what is wrong
    ├── BadRequest                  malformed-request, malformed-body, request-timeout and others of the request's form
    ├── Unauthenticated
    │   ├── AuthenticationRequired  authentication-required
    │   ├── InvalidToken            invalid-token
    │   ├── InvalidCredentials      invalid-credentials
    │   └── InvalidClient           invalid-client: the service's own secret
    ├── WrongPassword               wrong-password
    ├── ReauthenticationRequired    reauthentication-required
    ├── DeletionPending             deletion-pending, with `deletes_at`
    ├── RegistrationClosed          registration-closed
    ├── NotFound                    not-found
    ├── EmailTaken                  email-taken
    ├── TokenSpent                  token-spent
    ├── PreconditionFailed          precondition-failed
    ├── InvalidBody                 invalid-body, with `faults`
    ├── IdempotencyKeyReused        idempotency-key-reused
    ├── RateLimited                 too-many-requests, with `retry_after`
    ├── Unavailable                 with `retry_after`
    │   ├── Overloaded              overloaded: nothing was done
    │   └── StoreUnavailable        store-unavailable: the detail says whether the outcome is unknown
    └── InternalError               internal-error
```

No message holds a token or a password.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import attrs


class ClientError(Exception):
    """Base of all errors of the client."""


class NotReached(ClientError):
    """There was no connection to the service, so the request was not sent."""


class OutcomeUnknown(ClientError):
    """The request was sent and its answer lost. What it asks for may have happened, or not: look before you repeat it."""


class UnexpectedAnswer(ClientError):
    """The answer is none of the service's: check the base URL, and what stands between. `status` is that of HTTP."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@attrs.frozen(kw_only=True)
class Fault:
    """One fault of a body: a JSON pointer to it in its URI fragment form, a stable code, and a sentence for people."""

    pointer: str
    code: str
    detail: str


class ProblemError(ClientError):
    """The service says what is wrong. A type that this version does not know is a plain `ProblemError`."""

    def __init__(
        self,
        *,
        slug: str,
        status: int,
        title: str,
        detail: str,
        request_id: str | None,
        retry_after: timedelta | None = None,
        faults: tuple[Fault, ...] = (),
    ) -> None:
        super().__init__(f"{status} {slug}: {detail}" + (f" (request {request_id})" if request_id else ""))
        self.slug = slug
        self.status = status
        self.title = title
        self.detail = detail
        self.request_id = request_id
        """What the service's log calls the request."""
        self.retry_after = retry_after
        """How long to wait before the request may succeed; None where waiting does not help."""
        self.faults = faults
        """All faults of the body, where there are any."""


class BadRequest(ProblemError):
    """The form of the request is not acceptable. That is a fault of this client, or of what was passed to it."""


class Unauthenticated(ProblemError):
    """Who asks has not proved who they are."""


class AuthenticationRequired(Unauthenticated):
    """There was no token."""


class InvalidToken(Unauthenticated):
    """The token opens nothing: it is unknown, malformed, expired or revoked."""


class InvalidCredentials(Unauthenticated):
    """The e-mail address or the password is wrong; which of the two is not said."""


class InvalidClient(Unauthenticated):
    """The service's own secret is not known: an operator must give it another, or add its line."""


class WrongPassword(ProblemError):
    """The password that was given as proof is wrong."""


class ReauthenticationRequired(ProblemError):
    """The password must have been proved shortly before: `reauthenticate`, then try again with the new token."""


class DeletionPending(ProblemError):
    """Address and password are right, and the account was deleted: `PickguardClient.restore` keeps it until `deletes_at`."""

    def __init__(self, *, deletes_at: datetime | None = None, **known: Any) -> None:
        super().__init__(**known)
        self.deletes_at = deletes_at


class RegistrationClosed(ProblemError):
    """Nobody can make an account for themselves."""


class NotFound(ProblemError):
    """There is no such resource, or it is not the caller's, or the service is set up without it."""


class EmailTaken(ProblemError):
    """The e-mail address has an account."""


class TokenSpent(ProblemError):
    """The mailed token is of no use any more."""


class PreconditionFailed(ProblemError):
    """The user is not in the state of the entity tag: read it again and decide anew."""


class InvalidBody(ProblemError):
    """What was given breaks rules, all of which are in `faults`."""


class IdempotencyKeyReused(ProblemError):
    """The idempotency key belongs to another registration."""


class RateLimited(ProblemError):
    """This was tried too often. Nothing was done."""


class Unavailable(ProblemError):
    """The service cannot do this now. Nothing is wrong with the request."""


class Overloaded(Unavailable):
    """The service has too much to do. Nothing was done."""


class StoreUnavailable(Unavailable):
    """The service's store cannot be reached. The detail says whether the outcome is unknown."""


class InternalError(ProblemError):
    """A fault of the service, of which its log has more under the request's id."""


KINDS: Final[Mapping[str, type[ProblemError]]] = {
    "malformed-request": BadRequest,
    "malformed-body": BadRequest,
    "method-not-allowed": BadRequest,
    "request-timeout": BadRequest,
    "body-too-large": BadRequest,
    "target-too-long": BadRequest,
    "unsupported-media-type": BadRequest,
    "expectation-failed": BadRequest,
    "headers-too-large": BadRequest,
    "authentication-required": AuthenticationRequired,
    "invalid-token": InvalidToken,
    "invalid-credentials": InvalidCredentials,
    "invalid-client": InvalidClient,
    "wrong-password": WrongPassword,
    "reauthentication-required": ReauthenticationRequired,
    "deletion-pending": DeletionPending,
    "registration-closed": RegistrationClosed,
    "not-found": NotFound,
    "email-taken": EmailTaken,
    "token-spent": TokenSpent,
    "precondition-failed": PreconditionFailed,
    "invalid-body": InvalidBody,
    "idempotency-key-reused": IdempotencyKeyReused,
    "too-many-requests": RateLimited,
    "overloaded": Overloaded,
    "store-unavailable": StoreUnavailable,
    "internal-error": InternalError,
}
"""For every problem type the class of its error."""

KINDS_BY_STATUS: Final[Mapping[int, type[ProblemError]]] = {401: Unauthenticated, 429: RateLimited, 503: Unavailable}
"""For types that are not known here: what can be told by the status."""
