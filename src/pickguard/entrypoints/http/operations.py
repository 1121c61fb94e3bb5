"""What each operation of the API reads and answers: the declarations that the API's description is made of.

A route without one is refused when the application is made; one without a route fails a test. Which schema a body or an answer
has is said by naming its class in `schemas`; the statuses that many operations share follow from what an operation is said to
do. Tests hold every answer of the service to what stands here.
"""

from collections.abc import Mapping
from typing import Final

import attrs

from pickguard.domain.services.registration import RegistrationMode
from pickguard.entrypoints.http.exported import ShownExport
from pickguard.entrypoints.http.requests import FORM, JSON, JSON_OR_MERGE_PATCH
from pickguard.entrypoints.http.schemas import (
    ChangeBody,
    IntrospectionForm,
    LogInBody,
    MailedTokenBody,
    ReauthenticationBody,
    RegistrationBody,
    ResetBody,
    ResetRequestBody,
    RestorationBody,
    ShownActiveToken,
    ShownActivity,
    ShownDeletion,
    ShownExplanation,
    ShownExplanations,
    ShownInactiveToken,
    ShownLogIn,
    ShownSession,
    ShownSessions,
    ShownStatus,
    ShownUser,
)
from pickguard.entrypoints.settings import Settings, show_duration

USERS: Final = "Users"
SESSIONS: Final = "Sessions"
EMAILS: Final = "E-mail addresses"
RESETS: Final = "Password resets"
TOKENS: Final = "Tokens"
SERVICE: Final = "Service"
TAGS: Final[Mapping[str, str]] = {
    USERS: "Registering, and one's own account.",
    SESSIONS: "Logging in, and the sessions that are open.",
    EMAILS: "Showing that an address is one's own, by a token that is mailed to it.",
    RESETS: "A new password without the old one, by a token that is mailed.",
    TOKENS: "For other services: whose a token is that they were sent.",
    SERVICE: "The service itself, and its description.",
}
"""The groups of operations, in the order in which they are shown."""

BEARER: Final = "bearer"
CREDENTIAL: Final = "credential"
"""That of another service, which it can give in two ways."""


@attrs.frozen(kw_only=True)
class Success:
    """An answer that is no problem. `shape` is the class of its body in `schemas`; None where it has no body."""

    status: int
    description: str
    shape: type | None = None
    other_shape: type | None = None
    """What its body can be as well."""
    anything: bool = False
    """Whether its body is JSON that is described elsewhere."""
    texts: tuple[str, ...] = ()
    """The media types of the answer that are no JSON."""
    headers: tuple[str, ...] = ()
    """Its headers beside those of every answer, by their names among the components."""


@attrs.frozen(kw_only=True)
class Operation:
    """One method of one resource."""

    name: str
    """What generated clients call it."""
    tag: str
    summary: str
    description: str
    successes: tuple[Success, ...]
    problems: tuple[str, ...] = ()
    """The problems that it can answer with, beside those that follow from the rest."""
    parameters: tuple[str, ...] = ()
    body: type | None = None
    body_types: tuple[str, ...] = JSON
    security: str | None = None
    """The security scheme; None where anybody may ask."""
    reaches_store: bool = True
    may_have_to_wait: bool = False
    """Whether it hashes a password or changes an account, and is refused where too many others do so at once."""

    def all_problems(self) -> tuple[str, ...]:
        """Return every problem that it can answer with."""
        found = ["malformed-request", "target-too-long", "expectation-failed", "headers-too-large", *self.problems]
        if self.body is not None:
            found += ["malformed-body", "request-timeout", "body-too-large", "unsupported-media-type"]
            found += ["invalid-body"] if self.body_types != FORM else []
        if self.security == BEARER:
            found += ["authentication-required", "invalid-token"]
        if self.security == CREDENTIAL:
            found.append("invalid-client")
        if self.reaches_store:
            found += ["internal-error", "store-unavailable"]
        if self.may_have_to_wait:
            found.append("overloaded")
        return tuple(found)


HTML: Final = "text/html"
DOCS_TYPES: Final = ("text/javascript", "text/css", "text/plain")

Operations = Mapping[tuple[str, str], Operation]


def operations(settings: Settings) -> Operations:
    """Return all operations by method and path, as they are with these settings."""
    services = _services() if settings.service_credentials is not None else {}
    return {**_users(settings), **_sessions(settings), **_mailed(settings), **services, **_service()}


_TAGGED: Final = "The ETag is strong and changes with anything that the User shows."
_CONDITIONS: Final = ("If-Match", "If-None-Match")


def _limited(settings: Settings) -> tuple[str, ...]:
    return ("too-many-requests",) if settings.rate_limits == "on" else ()


def _register(settings: Settings) -> Operation:
    mode = RegistrationMode(settings.registration)
    if mode is RegistrationMode.CLOSED:
        return Operation(
            name="register",
            tag=USERS,
            summary="Register (closed)",
            description="Nobody can make an account for themselves here. Accounts are made by the operators of this service.",
            successes=(),
            problems=("registration-closed",),
            reaches_store=False,
        )
    repeated = (
        "With an Idempotency-Key a repeat of the same request within 24 hours gets the first answer again, and makes no other "
        "account: send one wherever a request may be sent twice."
    )
    if mode is RegistrationMode.PRIVATE:
        told = (
            "The answer is the same whether or not the address has an account: the mail tells its owner. Nobody can log in "
            "before the address is verified."
        )
        success = Success(status=202, description="It was taken note of. A mail says what came of it.")
        problems: tuple[str, ...] = ()
    else:
        verified = "A mail with a token that verifies the address is sent. " if settings.mail is not None else ""
        told = f"{verified}Log in afterwards; registering opens no session."
        success = Success(status=201, description="The new user.", shape=ShownUser, headers=("Location",))
        problems = ("email-taken",)
    return Operation(
        name="register",
        tag=USERS,
        summary="Register",
        description=f"Makes an account. {told} {repeated}",
        parameters=("Idempotency-Key",),
        body=RegistrationBody,
        successes=(success,),
        problems=(*problems, "idempotency-key-reused", *_limited(settings)),
        may_have_to_wait=True,
    )


def _users(settings: Settings) -> Operations:
    if settings.mail is None:
        changed = "Another address takes effect at once, and is not verified."
    else:
        changed = "Another address is pending until it confirms, and the present one is told of that by mail."
    # Where there is mail an address is claimed by its confirmation only, and else it is told at once who has it, unless that is
    # to stay unknown.
    is_told = settings.mail is None or settings.registration == RegistrationMode.OPEN.value
    taken = ("email-taken",) if is_told else ()
    window, grace = show_duration(settings.reauthentication_window), show_duration(settings.deletion_grace)
    deleted = (
        f", {grace} after this request. Until then nobody can log in, the address stays taken, and the account can be restored"
        if settings.deletion_grace
        else ""
    )
    return {
        ("POST", "/v1/users"): _register(settings),
        ("GET", "/v1/users/me"): Operation(
            name="getCurrentUser",
            tag=USERS,
            summary="Show the user",
            description=f"The user that the token stands for. {_TAGGED}",
            parameters=_CONDITIONS,
            security=BEARER,
            successes=(
                Success(status=200, description="The user.", shape=ShownUser, headers=("ETag",)),
                Success(status=304, description="The user is as If-None-Match says.", headers=("ETag",)),
            ),
            problems=("precondition-failed",),
        ),
        ("PATCH", "/v1/users/me"): Operation(
            name="changeCurrentUser",
            tag=USERS,
            summary="Change the user",
            description=(
                "Changes what is given, all of it in one step; what is left out stays as it is (RFC 7396). Another address or "
                f"password needs current_password. {changed} A new password ends every other session. Send If-Match with the "
                "ETag that was read to change only what is still the same."
            ),
            parameters=_CONDITIONS,
            security=BEARER,
            body=ChangeBody,
            body_types=JSON_OR_MERGE_PATCH,
            successes=(Success(status=200, description="The user as it is now.", shape=ShownUser, headers=("ETag",)),),
            problems=("wrong-password", *taken, "precondition-failed", *_limited(settings)),
            may_have_to_wait=True,
        ),
        ("DELETE", "/v1/users/me"): Operation(
            name="deleteCurrentUser",
            tag=USERS,
            summary="Delete the user",
            description=(
                f"Removes the user, the password, every session and the claim on the address, in one step{deleted}. The "
                f"password must have been proved within the last {window}, by a log-in or a reauthentication."
            ),
            parameters=_CONDITIONS,
            security=BEARER,
            successes=(
                Success(status=202, description="It is gone at the time that is told, unless restored.", shape=ShownDeletion)
                if settings.deletion_grace
                else Success(status=204, description="There is no such user any more."),
            ),
            problems=("reauthentication-required", "precondition-failed"),
            may_have_to_wait=True,
        ),
        ("GET", "/v1/users/me/export"): Operation(
            name="exportCurrentUser",
            tag=USERS,
            summary="Export all that is held about the user",
            description=(
                "One JSON document, as a file. That it was asked for is noted in the activity, and told by mail where there is "
                f"mail. The password must have been proved within the last {window}, by a log-in or a reauthentication."
            ),
            security=BEARER,
            successes=(Success(status=200, description="The document.", shape=ShownExport, headers=("Content-Disposition",)),),
            problems=("reauthentication-required", *_limited(settings)),
            may_have_to_wait=True,
        ),
        ("POST", "/v1/account-restorations"): Operation(
            name="restoreAccount",
            tag=USERS,
            summary="Restore an account that was deleted",
            description=(
                "Keeps an account whose user has deleted it, as long as it is not gone, and opens a session. Checked like a "
                "log-in, with the same limits. An account that was not deleted is logged in to, so this can be sent again."
            ),
            body=RestorationBody,
            successes=(Success(status=201, description="The token, the session and the user.", shape=ShownLogIn),),
            problems=("invalid-credentials", *_limited(settings)),
            may_have_to_wait=True,
        ),
        ("GET", "/v1/users/me/activity"): Operation(
            name="listActivity",
            tag=USERS,
            summary="Show what happened to the account",
            description="Log-ins, wrong passwords, changes and the like, newest first.",
            security=BEARER,
            successes=(Success(status=200, description="What happened lately.", shape=ShownActivity),),
        ),
    }


def _sessions(settings: Settings) -> Operations:
    lifetime, idle = show_duration(settings.session_lifetime), show_duration(settings.session_idle)
    unverified = ", an address that is not verified" if settings.registration == RegistrationMode.PRIVATE.value else ""
    return {
        ("POST", "/v1/sessions"): Operation(
            name="logIn",
            tag=SESSIONS,
            summary="Log in",
            description=(
                f"Opens a session and gives its token. A session ends {lifetime} after its log-in, or {idle} after its last "
                f"use. A user has at most {settings.session_maximum} sessions; one more ends the least recently used. An "
                f"unknown address, a wrong password{unverified} and a disabled account get the same answer."
            ),
            body=LogInBody,
            successes=(Success(status=201, description="The token, the session and the user.", shape=ShownLogIn),),
            problems=("invalid-credentials", "deletion-pending", *_limited(settings)),
            may_have_to_wait=True,
        ),
        ("GET", "/v1/sessions"): Operation(
            name="listSessions",
            tag=SESSIONS,
            summary="List the sessions",
            description="All of the user's live sessions, newest first.",
            security=BEARER,
            successes=(Success(status=200, description="The sessions.", shape=ShownSessions),),
        ),
        ("DELETE", "/v1/sessions"): Operation(
            name="endSessions",
            tag=SESSIONS,
            summary="End all sessions",
            description="Ends every session of the user, or every one but that in use. Their tokens are refused from then on.",
            parameters=("except",),
            security=BEARER,
            successes=(Success(status=204, description="They have ended."),),
            may_have_to_wait=True,
        ),
        ("GET", "/v1/sessions/current"): Operation(
            name="getCurrentSession",
            tag=SESSIONS,
            summary="Show the session in use",
            description="The session that the token opens.",
            security=BEARER,
            successes=(Success(status=200, description="The session.", shape=ShownSession),),
        ),
        ("DELETE", "/v1/sessions/current"): Operation(
            name="logOut",
            tag=SESSIONS,
            summary="Log out",
            description="Ends the session in use. Its token is refused from then on.",
            security=BEARER,
            successes=(Success(status=204, description="It has ended."),),
            may_have_to_wait=True,
        ),
        ("POST", "/v1/sessions/current/reauthentication"): Operation(
            name="reauthenticate",
            tag=SESSIONS,
            summary="Prove the password again",
            description=(
                "Gives another token for the same session, which counts as freshly authenticated. The old token is refused "
                "from then on."
            ),
            security=BEARER,
            body=ReauthenticationBody,
            successes=(Success(status=200, description="The new token, the session and the user.", shape=ShownLogIn),),
            problems=("wrong-password", *_limited(settings)),
            may_have_to_wait=True,
        ),
        ("DELETE", "/v1/sessions/{id}"): Operation(
            name="endSession",
            tag=SESSIONS,
            summary="End one session",
            description="Ends one of the user's sessions. Its token is refused from then on.",
            parameters=("session id",),
            security=BEARER,
            successes=(Success(status=204, description="It has ended."),),
            problems=("not-found",),
            may_have_to_wait=True,
        ),
    }


def _services() -> Operations:
    return {
        ("POST", "/v1/introspection"): Operation(
            name="introspectToken",
            tag=TOKENS,
            summary="Ask whose a token is",
            description=(
                "Tells a service that has a credential whom a token stands for (RFC 7662). The token in the body is what is "
                "asked about; the header is for the credential. To ask is to use the session. A parameter that comes twice is "
                "refused."
            ),
            security=CREDENTIAL,
            body=IntrospectionForm,
            body_types=FORM,
            successes=(
                Success(
                    status=200,
                    description="What the token is: look at active.",
                    shape=ShownActiveToken,
                    other_shape=ShownInactiveToken,
                ),
            ),
        ),
    }


def _mailed(settings: Settings) -> Operations:
    verification, reset = show_duration(settings.verification_lifetime), show_duration(settings.reset_lifetime)
    return {
        ("POST", "/v1/email-verifications"): Operation(
            name="sendVerification",
            tag=EMAILS,
            summary="Mail a token again",
            description=(
                "Mails a token to the pending address if there is one, else to the present one unless it is verified. It voids "
                f"the one before and lives {verification}. Over the limit of mails the answer is the same, and nothing is sent."
            ),
            security=BEARER,
            successes=(Success(status=202, description="It was taken note of."),),
            may_have_to_wait=True,
        ),
        ("POST", "/v1/email-verifications/confirm"): Operation(
            name="confirmEmail",
            tag=EMAILS,
            summary="Verify an address",
            description=(
                "Takes a mailed token as proof that its address is the user's: it is verified, and takes effect if it was "
                "pending. Nobody has to be logged in."
            ),
            body=MailedTokenBody,
            successes=(Success(status=204, description="The address is verified."),),
            problems=("token-spent", "email-taken"),
            may_have_to_wait=True,
        ),
        ("POST", "/v1/email-verifications/decline"): Operation(
            name="declineAccount",
            tag=EMAILS,
            summary="Say that this was not me",
            description="Removes an account that somebody else made with one's address, and that was never verified.",
            body=MailedTokenBody,
            successes=(Success(status=204, description="The account is gone, and the address free."),),
            problems=("token-spent",),
            may_have_to_wait=True,
        ),
        ("POST", "/v1/password-resets"): Operation(
            name="requestPasswordReset",
            tag=RESETS,
            summary="Ask for a new password",
            description=(
                "Mails a token if the address has an account. The answer is the same, and takes as long, for any text. The "
                f"token voids the one before and lives {reset}."
            ),
            body=ResetRequestBody,
            successes=(Success(status=202, description="It was taken note of."),),
        ),
        ("POST", "/v1/password-resets/confirm"): Operation(
            name="resetPassword",
            tag=RESETS,
            summary="Set the new password",
            description=(
                "Sets a new password for whoever has the mailed token, verifies the address and ends every session. Only a "
                "success spends the token."
            ),
            body=ResetBody,
            successes=(Success(status=204, description="The password is set. Log in with it."),),
            problems=("token-spent",),
            may_have_to_wait=True,
        ),
    }


def _service() -> Operations:
    return {
        ("GET", "/livez"): Operation(
            name="isAlive",
            tag=SERVICE,
            summary="Is the process alive?",
            description="Answers as long as the process does. Nothing else is looked at.",
            successes=(Success(status=200, description="It is.", shape=ShownStatus),),
            reaches_store=False,
        ),
        ("GET", "/readyz"): Operation(
            name="isReady",
            tag=SERVICE,
            summary="Can requests be served?",
            description="Tells whether the store can be reached and takes changes.",
            successes=(Success(status=200, description="They can.", shape=ShownStatus),),
        ),
        ("GET", "/problems"): Operation(
            name="listProblems",
            tag=SERVICE,
            summary="List the types of problems",
            description="All types of problems: a page, or JSON for clients that prefer that (Accept).",
            successes=(
                Success(
                    status=200,
                    description="The types.",
                    shape=ShownExplanations,
                    texts=(HTML,),
                    headers=("Vary-by-type", "Content-Security-Policy-of-a-page", "Cross-Origin-Opener-Policy"),
                ),
            ),
            reaches_store=False,
        ),
        ("GET", "/problems/{slug}"): Operation(
            name="explainProblem",
            tag=SERVICE,
            summary="Explain a type of problem",
            description="What the type of a problem leads to: a page, or JSON for clients that prefer that (Accept).",
            parameters=("problem slug",),
            successes=(
                Success(
                    status=200,
                    description="What the problem is, and what to do about it.",
                    shape=ShownExplanation,
                    texts=(HTML,),
                    headers=("Vary-by-type", "Content-Security-Policy-of-a-page", "Cross-Origin-Opener-Policy"),
                ),
            ),
            problems=("not-found",),
            reaches_store=False,
        ),
        ("GET", "/openapi.json"): Operation(
            name="getDescription",
            tag=SERVICE,
            summary="Describe the API to machines",
            description="This description: OpenAPI 3.1, of the API as this service is set up.",
            successes=(Success(status=200, description="The document.", anything=True),),
            reaches_store=False,
        ),
        ("GET", "/docs"): Operation(
            name="showDocs",
            tag=SERVICE,
            summary="Describe the API to people",
            description="A page that shows this description, and on which requests can be tried.",
            successes=(
                Success(
                    status=200,
                    description="The page.",
                    texts=(HTML,),
                    headers=(
                        "Content-Security-Policy-of-a-page",
                        "Cross-Origin-Opener-Policy",
                    ),
                ),
            ),
            reaches_store=False,
        ),
        ("GET", "/docs/{file}"): Operation(
            name="getDocsFile",
            tag=SERVICE,
            summary="A file of the page",
            description="What the page is made of: scripts, styles and the licence of what is not our own.",
            parameters=("docs file",),
            successes=(
                Success(
                    status=200,
                    description="The file.",
                    texts=DOCS_TYPES,
                    headers=("Vary-by-encoding", "Content-Encoding"),
                ),
            ),
            problems=("not-found",),
            reaches_store=False,
        ),
    }
