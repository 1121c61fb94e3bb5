"""What goes wrong, as clients see it: problem details (RFC 9457), and one table from the core's errors to them."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import attrs
import orjson
from aiohttp import web

from pickguard.domain.model import errors
from pickguard.domain.model.errors import AccountsError, Fault

CONTENT_TYPE = "application/problem+json"
CHALLENGE = 'Bearer realm="pickguard"'
SERVICE_CHALLENGE = f'{CHALLENGE}, Basic realm="pickguard", charset="UTF-8"'


@attrs.frozen(kw_only=True)
class ProblemType:
    """A kind of problem: its stable name, its status, and what a person who looks it up should know."""

    slug: str
    status: int
    title: str
    explanation: str

    @property
    def path(self) -> str:
        """The path that identifies the type, at which the service explains it."""
        return f"/problems/{self.slug}"


@attrs.frozen(kw_only=True)
class Problem:
    """One occurrence of a problem."""

    type: ProblemType
    detail: str
    faults: tuple[Fault, ...] = ()
    headers: Mapping[str, str] = attrs.field(factory=dict)
    members: Mapping[str, object] = attrs.field(factory=dict)
    """What this type of problem has beside the members that all have (RFC 9457, section 3.2)."""
    close: bool = False
    """Whether the connection is of no further use, for instance because the rest of a body was not read."""


class ProblemError(Exception):
    """Raised by the HTTP layer itself to answer with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def _types(*types: ProblemType) -> dict[str, ProblemType]:
    return {each.slug: each for each in types}


TYPES = _types(
    ProblemType(
        slug="malformed-request",
        status=400,
        title="The request is malformed",
        explanation="A header or a query parameter is not what it must be, or is there twice. The detail says which.",
    ),
    ProblemType(
        slug="malformed-body",
        status=400,
        title="The body cannot be read",
        explanation=(
            "The body must be one JSON text in UTF-8 without a byte order mark. Refused are duplicate keys, NaN and Infinity, "
            "numbers too large for a double, and more than 16 levels of nesting. An introspection takes a form in its place, "
            "application/x-www-form-urlencoded, that names no parameter twice."
        ),
    ),
    ProblemType(
        slug="authentication-required",
        status=401,
        title="A bearer token is needed",
        explanation="Log in with POST /v1/sessions and send the access token in the header Authorization: Bearer TOKEN.",
    ),
    ProblemType(
        slug="invalid-token",
        status=401,
        title="The bearer token is not valid",
        explanation="It is unknown, malformed, expired or revoked; which of these is not said. Log in for a new one.",
    ),
    ProblemType(
        slug="invalid-credentials",
        status=401,
        title="The e-mail address or the password is wrong",
        explanation="No account has this e-mail address and this password. Which of the two is wrong is not said.",
    ),
    ProblemType(
        slug="invalid-client",
        status=401,
        title="The service has not proved which one it is",
        explanation=(
            "Only services with a credential may ask whose a token is. Send its name and its secret by HTTP Basic, or the "
            "secret alone in the header Authorization: Bearer SECRET. Operators make credentials with pickguard "
            "service-credential."
        ),
    ),
    ProblemType(
        slug="wrong-password",
        status=403,
        title="The password is wrong",
        explanation="The password that was given as proof is not that of the account. Nothing was changed.",
    ),
    ProblemType(
        slug="reauthentication-required",
        status=403,
        title="The password must be proved again",
        explanation=(
            "This cannot be undone or shows everything at once, so the password must have been proved shortly before. "
            "Call POST /v1/sessions/current/reauthentication, then try again with the new token."
        ),
    ),
    ProblemType(
        slug="deletion-pending",
        status=403,
        title="The account was deleted and can still be restored",
        explanation=(
            "The e-mail address and the password are right, but the account was deleted. It is gone for good at the time in "
            "the member deletes_at. To keep it, send the same address and password to POST /v1/account-restorations."
        ),
    ),
    ProblemType(
        slug="registration-closed",
        status=403,
        title="Nobody can register here",
        explanation="Accounts are made by the operators of this service.",
    ),
    ProblemType(
        slug="not-found",
        status=404,
        title="There is no such resource",
        explanation="The path names nothing, or nothing of yours.",
    ),
    ProblemType(
        slug="method-not-allowed",
        status=405,
        title="The resource does not have this method",
        explanation="The header Allow lists the methods that the resource has.",
    ),
    ProblemType(
        slug="request-timeout",
        status=408,
        title="The request took too long to arrive",
        explanation="The body did not arrive in time. Send the request again, without long pauses.",
    ),
    ProblemType(
        slug="email-taken",
        status=409,
        title="The e-mail address has an account already",
        explanation="One address has at most one account; spelling in upper or lower case makes no difference.",
    ),
    ProblemType(
        slug="token-spent",
        status=410,
        title="The token from the mail is of no use any more",
        explanation=(
            "It was used, has expired, was replaced by a newer one or by a new password, or was never sent; which of these is "
            "not said. Ask for a new mail."
        ),
    ),
    ProblemType(
        slug="precondition-failed",
        status=412,
        title="The resource has changed",
        explanation="The condition in If-Match or If-None-Match does not hold. Read the resource again, then decide anew.",
    ),
    ProblemType(
        slug="body-too-large",
        status=413,
        title="The body is too large",
        explanation="A body has at most 16 KiB.",
    ),
    ProblemType(
        slug="target-too-long",
        status=414,
        title="The request's target is too long",
        explanation="What stands between the method and the version of HTTP, path and query together, has at most 8,000 bytes.",
    ),
    ProblemType(
        slug="unsupported-media-type",
        status=415,
        title="The body is of an unsupported type",
        explanation=(
            "Send JSON with the header Content-Type: application/json, in UTF-8 and without Content-Encoding. PATCH also takes "
            "application/merge-patch+json, but no JSON Patch: clients do not tell the server how to process a request."
        ),
    ),
    ProblemType(
        slug="expectation-failed",
        status=417,
        title="The expectation cannot be met",
        explanation="The only expectation that is supported is Expect: 100-continue.",
    ),
    ProblemType(
        slug="invalid-body",
        status=422,
        title="The body breaks rules of its members",
        explanation=(
            "The body is JSON, but a member is missing, unknown, of the wrong type or not acceptable. The member errors lists "
            "every fault, with a JSON pointer to it, a code for programs and a sentence for people."
        ),
    ),
    ProblemType(
        slug="idempotency-key-reused",
        status=422,
        title="The idempotency key belongs to another request",
        explanation=(
            "Within the last 24 hours a request with this Idempotency-Key asked for something else. Nothing was done. Make up "
            "a new key for each registration, a UUID for instance, and send it again only to repeat that registration."
        ),
    ),
    ProblemType(
        slug="too-many-requests",
        status=429,
        title="Too many attempts",
        explanation=(
            "Wrong passwords, registrations, mails and exports are limited. Nothing was done. Try again after the time in the "
            "header Retry-After. Where a password was tried too often, a reset by mail helps at once, and so does a place from "
            "which the account was used before."
        ),
    ),
    ProblemType(
        slug="headers-too-large",
        status=431,
        title="The headers are too large",
        explanation="A request has at most 100 headers. A header has at most 8,190 bytes, and all of them together 32 KiB.",
    ),
    ProblemType(
        slug="internal-error",
        status=500,
        title="Something went wrong in the service",
        explanation="This is a fault of the service. Its log holds more under the request's id.",
    ),
    ProblemType(
        slug="overloaded",
        status=503,
        title="The service is overloaded",
        explanation="Nothing was done. Try again after the time in the header Retry-After.",
    ),
    ProblemType(
        slug="store-unavailable",
        status=503,
        title="The store is not available",
        explanation=(
            "Try again after the time in the header Retry-After. Where the detail says that the outcome is unknown, look first "
            "whether the change was made."
        ),
    ),
)

_BY_STATUS = {
    400: "malformed-request",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "body-too-large",
    415: "unsupported-media-type",
    417: "expectation-failed",
}


def problem(slug: str, detail: str, **more: Any) -> Problem:
    """Return a problem of the named type."""
    return Problem(type=TYPES[slug], detail=detail, **more)


def _plain(slug: str, detail: str, **headers: str) -> Callable[[Any], Problem]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: problem(slug, detail, headers=named)


def _retry_after(wait: timedelta) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(wait.total_seconds())))}


def time_text(moment: datetime) -> str:
    """Write a moment as RFC 3339 does, to the millisecond, in UTC with Z."""
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _later(slug: str, detail: str) -> Callable[[Any], Problem]:
    return lambda error: problem(slug, detail, headers=_retry_after(error.retry_after))


NOT_REPLICATED = (
    "The change was made, but too few replicas of the store have confirmed it. Whether it will stand is unknown: look "
    "before you send it again."
)
UNKNOWN_OUTCOME = "The store did not answer in time. Whether the change was made is unknown: look before you send it again."

TABLE: Mapping[type[AccountsError], Callable[[Any], Problem]] = {
    errors.InvalidFields: lambda error: problem(
        "invalid-body", "The body breaks the rules that are listed in errors.", faults=error.faults
    ),
    errors.AddressTaken: _plain("email-taken", "This e-mail address has an account already."),
    errors.InvalidCredentials: _plain(
        "invalid-credentials", "The e-mail address or the password is wrong.", WWW_Authenticate=CHALLENGE
    ),
    errors.DeletionPending: lambda error: problem(
        "deletion-pending",
        f"This account was deleted, and is gone at {time_text(error.deletes_at)} unless it is restored before.",
        members={"deletes_at": time_text(error.deletes_at)},
    ),
    errors.WrongPassword: _plain("wrong-password", "The current password is wrong."),
    errors.InvalidToken: _plain(
        "invalid-token",
        "The bearer token opens nothing. Log in for a new one.",
        WWW_Authenticate=f'{CHALLENGE}, error="invalid_token"',
    ),
    errors.InvalidServiceCredential: _plain(
        "invalid-client", "This is no credential of a service that is known here.", WWW_Authenticate=SERVICE_CHALLENGE
    ),
    errors.ReauthenticationRequired: lambda error: problem(
        "reauthentication-required",
        f"The password must have been proved within the last {math.ceil(error.max_age.total_seconds() / 60)} minutes.",
    ),
    errors.SessionNotFound: _plain("not-found", "You have no session with this id."),
    errors.AccountNotFound: _plain("not-found", "There is no account of this id."),
    errors.InvalidCursor: _plain("malformed-request", "The listing cannot go on from this cursor. Begin it anew, without one."),
    errors.RegistrationClosed: _plain("registration-closed", "Nobody can make an account for themselves here."),
    errors.TokenSpent: _plain("token-spent", "This token is of no use any more. Ask for a new mail."),
    errors.PreconditionFailed: _plain("precondition-failed", "The resource is not in the state that the request names."),
    errors.IdempotencyKeyReused: lambda _: problem(
        "idempotency-key-reused",
        "Another registration was sent with this Idempotency-Key. Nothing was done.",
        faults=(
            Fault(field=None, code="idempotency_key_reused", detail="This is not what the key's first request asked for."),
        ),
    ),
    errors.RateLimited: _later(
        "too-many-requests", "This was tried too often. Nothing was done. Wait for the time in Retry-After."
    ),
    errors.HashingOverloaded: _later("overloaded", "Too many passwords are waiting to be checked. Nothing was done."),
    errors.StoreUnavailable: _later(
        "store-unavailable", "The store cannot be reached or does not take changes. Nothing was done."
    ),
    errors.OutcomeUnknown: _later("store-unavailable", UNKNOWN_OUTCOME),
    errors.NotReplicated: _later("store-unavailable", NOT_REPLICATED),
    errors.AddressUndecided: _later(
        "store-unavailable", "Another request for this e-mail address has not ended, so nobody can know yet whose it is."
    ),
    errors.Contended: _later("overloaded", "Too many requests are changing this account at once. Nothing was done."),
    errors.Conflict: _plain("overloaded", "Another change came first. Nothing was done.", Retry_After="1"),
    errors.Unavailable: _later("overloaded", "The service cannot do this now."),
}
"""For every error that a use case can raise, the problem that a client gets. A test proves that none is missing."""


def for_error(error: AccountsError) -> Problem:
    """Return the problem that an error of the core is to a client; an adapter's own kind of one is what it is a kind of."""
    return next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)(error)


def for_http_exception(error: web.HTTPException) -> Problem:
    """Return the problem that aiohttp's own errors are to a client."""
    slug = _BY_STATUS.get(error.status)
    if slug is None:
        slug = "internal-error" if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "malformed-request"
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return problem(slug, TYPES[slug].explanation, headers=headers)


def respond(problem: Problem, request_id: str) -> web.Response:
    """Render a problem."""
    content: dict[str, object] = {
        "type": problem.type.path,
        "title": problem.type.title,
        "status": problem.type.status,
        "detail": problem.detail,
        "instance": f"urn:uuid:{request_id}",
        **problem.members,
    }
    if problem.faults:
        content["errors"] = [
            {"pointer": _pointer(fault.field), "code": fault.code, "detail": fault.detail} for fault in problem.faults
        ]
    response = web.Response(
        status=problem.type.status, body=orjson.dumps(content), content_type=CONTENT_TYPE, headers=problem.headers
    )
    if problem.close:
        response.force_close()
    return response


def _pointer(member: str | None) -> str:
    """Return a JSON pointer to a member, or to the whole body, in its URI fragment form (RFC 6901, section 6)."""
    if member is None:
        return "#"
    return "#/" + quote(member.replace("~", "~0").replace("/", "~1"), safe="~!$&'()*+,;=:@", errors="replace")
