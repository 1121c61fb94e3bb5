"""The client: one method for each resource of the service."""

import asyncio
import copy
import ipaddress
import json
import random
import ssl
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Self, TypeVar, overload
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import attrs

from pickguard.client.errors import (
    KINDS,
    KINDS_BY_STATUS,
    ClientError,
    Fault,
    InvalidToken,
    NotFound,
    NotReached,
    OutcomeUnknown,
    Overloaded,
    ProblemError,
    RateLimited,
    UnexpectedAnswer,
)
from pickguard.client.retries import Failure, RetryRules, pause_before_next, read_retry_after
from pickguard.client.values import Activity, LoggedIn, Session, TokenInfo, User, take, take_moment

Read = TypeVar("Read")

ME: Final = "/v1/users/me"
JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
FORM: Final = "application/x-www-form-urlencoded"
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
IDLE_SECONDS: Final = 30.0
"""How long a connection is kept for the next request; shorter than the service and usual proxies keep it."""
_SENT_AGAIN: Final = {"DELETE"}
"""What changes something and is sent a second time by aiohttp, on sessions that are not the client's own."""
GATEWAY_FAILURES: Final = {502, 503, 504}
"""What a proxy in front answers with where the service does not."""


class _Lost(aiohttp.ClientError):
    """The connection broke after the request was sent."""


async def _send_once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a DELETE again by itself on a connection that broke: whether to do so is decided here."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Lost(str(error)) from error


@attrs.frozen(kw_only=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class _Request:
    method: str
    path: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    data: bytes | None = attrs.field(default=None, repr=False)
    repeatable: bool = False


@attrs.frozen(kw_only=True)
class _Failed:
    """A try that did not succeed; `failure` is None where another one would be in vain."""

    error: ClientError
    failure: Failure | None


class PickguardClient:
    """Asks a Pickguard service.

    ```python
    async with PickguardClient("https://accounts.example.com") as accounts:
        logged_in = await accounts.log_in(email="ada@example.com", password=password)
        user = await accounts.me(logged_in.access_token)
    ```

    Every method raises the errors of `pickguard.client.errors`, all of them kinds of `ClientError`. What failed is sent again
    as `RetryRules` says, and only where it is certain that it was not carried out, or harmless if it was: reading is, and
    registering, which has an idempotency key. A log-in whose answer was lost is not sent again: it may have opened a session.

    A client can be shared by any number of tasks of one event loop.
    """

    def __init__(
        self,
        base_url: str,
        *,
        ca: str | Path | None = None,
        ssl_context: ssl.SSLContext | None = None,
        service_secret: str | None = None,
        timeout: timedelta = timedelta(seconds=5),
        retries: RetryRules | None = None,
        session: aiohttp.ClientSession | None = None,
        user_agent: str = "pickguard-client",
        allow_plain_http: bool = False,
    ) -> None:
        """Make a client; nothing is sent yet.

        Args:
            base_url: Where the service is, such as ``https://accounts.example.com``.
            ca: Certificates, PEM, one of which must vouch for the service; the system's if not given.
            ssl_context: In place of `ca`, for what else can be said of TLS.
            service_secret: What `introspect` needs; `pickguard service-credential` makes it.
            timeout: How long one try may take, and three quarters of it until there is a connection. The service ends every
                request of its own within 3 seconds.
            retries: When a request is sent again.
            session: Used in place of one of the client's own, and not closed by it. aiohttp sends what it takes to be
                idempotent a second time by itself on a session like this, where a connection that was kept has broken. So a
                DELETE for which there is no connection is `OutcomeUnknown` there: it may have been sent before.
            user_agent: What the client calls itself; users see it in the list of their sessions.
            allow_plain_http: Without it, ``http://`` is for this machine only: whoever can read a token on its way is the user.

        Raises:
            ValueError: One of these or their combination makes no sense.
            OSError: `ca` cannot be read.
        """
        self._base = _read_base(base_url, allow_plain_http=allow_plain_http)
        if sum(each is not None for each in (ca, ssl_context, session)) > 1:
            raise ValueError("give one of ca, ssl_context and session")
        if service_secret is not None and not (service_secret.startswith("pgs_") and _is_sendable(service_secret)):
            raise ValueError("service_secret is no secret of a service: it begins with pgs_, and has no space or end of line")
        if timeout <= timedelta(0):
            raise ValueError("the timeout is more than nothing")
        self._ssl = _trust(ca) if ca is not None else ssl_context
        self._secret = service_secret
        self._timeout = timeout
        self._rules = retries or RetryRules()
        self._given_session = session
        self._opened: list[aiohttp.ClientSession] = []
        self._headers: dict[str, str] = {"User-Agent": user_agent, "Accept": f"{JSON}, {PROBLEM}"}
        self._sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
        self._clock: Callable[[], float] = time.monotonic
        self._chance: Callable[[], float] = random.random

    def __repr__(self) -> str:
        """Return where the service is, and no secret."""
        return f"PickguardClient({self._base!r})"

    async def __aenter__(self) -> Self:
        """Open the connections' pool."""
        if self._given_session is None and not self._opened:
            self._opened.append(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(
                        ssl=True if self._ssl is None else self._ssl, limit=0, keepalive_timeout=IDLE_SECONDS
                    ),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    middlewares=(_send_once,),
                )
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close what was opened."""
        await self.close()

    async def close(self) -> None:
        """Close the connections. A session that was given stays open."""
        while self._opened:
            await self._opened.pop().close()

    @property
    def has_service_secret(self) -> bool:
        """Whether `introspect` can be asked for."""
        return self._secret is not None

    def on_behalf_of(self, *, ip: str, user_agent: str | None = None) -> Self:
        """Return the same client for requests that somebody else has caused, whose address is `ip`; `ValueError` for none.

        A service that logs people in should do this: limits are counted for each address, and users are shown where their
        sessions are from. The service believes it only from a proxy that it was told to trust (``--trusted-proxies``).
        """
        # The name of a link may stand behind the address: to Python that is any text, so one that makes a list of it as well.
        address = ipaddress.ip_address(ip.partition("%")[0])
        headers = {**self._headers, "X-Forwarded-For": str(address)}
        if user_agent is not None:
            headers["User-Agent"] = "".join(char if " " <= char <= "~" else "?" for char in user_agent)
        other = copy.copy(self)
        other._headers = headers  # noqa: SLF001 (of the same class)
        return other

    # Accounts

    async def register(self, *, name: str, email: str, password: str, idempotency_key: str | None = None) -> User | None:
        """Make an account; return its user, or None in private registration, where the answer is by mail.

        The client makes an idempotency key of its own where none is given, so that a request whose answer was lost is sent
        again and registers once. Raises `InvalidBody`, `EmailTaken`, `RegistrationClosed`, `RateLimited` and
        `IdempotencyKeyReused`.
        """
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        body = {"name": name, "email": email, "password": password}
        answer = await self._call("POST", "/v1/users", body=body, headers=headers, repeatable=True, expected=(201, 202))
        return None if answer.status == HTTPStatus.ACCEPTED else _read(answer, User.read)

    @overload
    async def me(self, token: str) -> User: ...
    @overload
    async def me(self, token: str, *, if_none_match: str | None) -> User | None: ...
    async def me(self, token: str, *, if_none_match: str | None = None) -> User | None:
        """Return whom a token stands for; None where the user is still in the state of the entity tag `if_none_match`."""
        headers = {} if if_none_match is None else {"If-None-Match": if_none_match}
        expected = (200,) if if_none_match is None else (200, 304)
        answer = await self._call("GET", ME, token=token, headers=headers, repeatable=True, expected=expected)
        return None if answer.status == HTTPStatus.NOT_MODIFIED else _read_tagged(answer)

    async def change_me(
        self,
        token: str,
        *,
        name: str | None = None,
        email: str | None = None,
        password: str | None = None,
        current_password: str | None = None,
        if_match: str | None = None,
    ) -> User:
        """Change what is given, all of it or nothing; return the user as it is then.

        An address or a password needs the `current_password`. With `if_match`, an entity tag, only a user in that state is
        changed. Raises `InvalidBody`, `WrongPassword`, `EmailTaken`, `PreconditionFailed`.
        """
        given = {"name": name, "email": email, "password": password, "current_password": current_password}
        body = {member: value for member, value in given.items() if value is not None}
        headers = {} if if_match is None else {"If-Match": if_match}
        return _read_tagged(await self._call("PATCH", ME, token=token, body=body, headers=headers))

    async def delete_me(self, token: str, *, if_match: str | None = None) -> datetime | None:
        """Delete the account; return None where it is gone, or when it will be, until when `restore` keeps it.

        Its sessions end at once either way. Raises `ReauthenticationRequired` where the password was not proved shortly before.
        """
        headers = {} if if_match is None else {"If-Match": if_match}
        answer = await self._call("DELETE", ME, token=token, headers=headers, expected=(202, 204))
        if answer.status == HTTPStatus.NO_CONTENT:
            return None
        return _read(answer, lambda content: take_moment(content, "deletes_at"))

    async def restore(self, *, email: str, password: str) -> LoggedIn:
        """Keep an account that was deleted and is not gone yet, and log in to it; one that was not deleted is logged in to.

        Raises `InvalidCredentials`, as `log_in` does, where there is no such account any more, and `RateLimited`.
        """
        body = {"email": email, "password": password}
        return _read(await self._call("POST", "/v1/account-restorations", body=body, expected=(201,)), LoggedIn.read)

    async def export_me(self, token: str) -> dict[str, Any]:
        """Return all that the service holds about the user, as the JSON document that it is; `format` says which form it has.

        Raises `ReauthenticationRequired` where the password was not proved shortly before, and `RateLimited`.
        """
        return _read(await self._call("GET", f"{ME}/export", token=token, repeatable=True), dict)

    async def activity(self, token: str) -> tuple[Activity, ...]:
        """Return what happened to the account lately, newest first."""
        answer = await self._call("GET", f"{ME}/activity", token=token, repeatable=True)
        return _read(answer, lambda content: tuple(Activity.read(each) for each in take(content, "activity", list)))

    # Sessions

    async def log_in(self, *, email: str, password: str) -> LoggedIn:
        """Open a session. Raises `InvalidCredentials`, `RateLimited`, and `DeletionPending` where `restore` is asked for."""
        return _read(
            await self._call("POST", "/v1/sessions", body={"email": email, "password": password}, expected=(201,)),
            LoggedIn.read,
        )

    async def sessions(self, token: str) -> tuple[Session, ...]:
        """Return the user's sessions, newest first."""
        answer = await self._call("GET", "/v1/sessions", token=token, repeatable=True)
        return _read(answer, lambda content: tuple(Session.read(each) for each in take(content, "sessions", list)))

    async def current_session(self, token: str) -> Session:
        """Return the session that the token opens."""
        return _read(await self._call("GET", "/v1/sessions/current", token=token, repeatable=True), Session.read)

    async def reauthenticate(self, token: str, *, password: str) -> LoggedIn:
        """Prove the password again: the same session under a new token. The old token is refused from then on.

        Raises `WrongPassword` and `RateLimited`.
        """
        path = "/v1/sessions/current/reauthentication"
        return _read(await self._call("POST", path, token=token, body={"password": password}), LoggedIn.read)

    async def log_out(self, token: str) -> None:
        """End the session that the token opens. To end what has ended is no error: the token opens nothing then."""
        try:
            await self._call("DELETE", "/v1/sessions/current", token=token, repeatable=True, expected=(204,))
        except InvalidToken:
            return

    async def end_session(self, token: str, session_id: str) -> None:
        """End one of the user's sessions. Raises `NotFound` where the user has no such session (any more)."""
        path = f"/v1/sessions/{quote(session_id, safe='')}"
        await self._call("DELETE", path, token=token, repeatable=True, expected=(204,), done_if=NotFound)

    async def end_sessions(self, token: str, *, keep_current: bool = False) -> None:
        """End all sessions of the user, or all but the one in use."""
        if keep_current:  # with which to ask again
            await self._call("DELETE", "/v1/sessions?except=current", token=token, repeatable=True, expected=(204,))
        else:
            path = "/v1/sessions"
            await self._call("DELETE", path, token=token, repeatable=True, expected=(204,), done_if=InvalidToken)

    # Mail, which a service may be without: then all of these raise `NotFound`

    async def request_verification(self, token: str) -> None:
        """Mail a token to the address that the user has, or wants, to show that it is theirs."""
        await self._call("POST", "/v1/email-verifications", token=token, expected=(202,))

    async def confirm_verification(self, mailed_token: str) -> None:
        """Confirm an address with the token that was mailed to it. Raises `TokenSpent`, and `EmailTaken` for a new address."""
        await self._call("POST", "/v1/email-verifications/confirm", body={"token": mailed_token}, expected=(204,))

    async def decline_verification(self, mailed_token: str) -> None:
        """Say that the address's owner has not made this account, which deletes it. Raises `TokenSpent`."""
        await self._call("POST", "/v1/email-verifications/decline", body={"token": mailed_token}, expected=(204,))

    async def request_reset(self, *, email: str) -> None:
        """Mail a token for a new password, if the address has an account; whether it has is not told."""
        await self._call("POST", "/v1/password-resets", body={"email": email}, expected=(202,))

    async def confirm_reset(self, mailed_token: str, *, password: str) -> None:
        """Set a new password with the token that was mailed; every session ends. Raises `TokenSpent` and `InvalidBody`."""
        body = {"token": mailed_token, "password": password}
        await self._call("POST", "/v1/password-resets/confirm", body=body, expected=(204,))

    # For services

    async def introspect(self, token: str) -> TokenInfo | None:
        """Return whom a token stands for (RFC 7662); None where it opens nothing.

        Raises `InvalidClient` where the secret is not known, `NotFound` where the service knows no other service at all, and
        `ValueError` where the client has no secret.
        """
        if self._secret is None:
            raise ValueError("to introspect takes a service_secret")
        if not token or not _is_sendable(token):
            return None
        answer = await self._call("POST", "/v1/introspection", token=self._secret, form={"token": token}, repeatable=True)
        return _read(answer, lambda content: TokenInfo.read(content) if take(content, "active", bool) else None)

    async def is_live(self) -> bool:
        """Tell whether the service answers at all. Asked once."""
        return await self._probe("/livez")

    async def is_ready(self) -> bool:
        """Tell whether the service can do its work: whether its store takes writes. Asked once."""
        return await self._probe("/readyz")

    async def _probe(self, path: str) -> bool:
        try:
            answer = await self._send(self._request("GET", path), self._timeout)
        except (aiohttp.ClientError, TimeoutError):
            return False
        return answer.status == HTTPStatus.OK

    # How

    async def _call(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        body: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
        expected: tuple[int, ...] = (200,),
        done_if: type[ProblemError] | None = None,
    ) -> _Answer:
        """Send a request, again if need be; return an expected answer, raise the error of any other.

        `done_if` is the error that means, after a try whose outcome is unknown, that this try has done it.
        """
        request = self._request(method, path, token=token, body=body, form=form, headers=headers, repeatable=repeatable)
        began = self._clock()
        tries, was_unknown = 0, False
        while True:
            limit = min(self._timeout, self._rules.budget - timedelta(seconds=self._clock() - began))
            tried = await self._try(request, limit, expected)
            tries += 1
            if isinstance(tried, _Answer):
                return tried
            error = tried.error
            if was_unknown and done_if is not None and isinstance(error, done_if):
                return _Answer(status=error.status, headers={}, body=b"")
            pause = None
            if tried.failure is not None:
                pause = pause_before_next(
                    self._rules,
                    tried.failure,
                    repeatable=request.repeatable,
                    tries=tries,
                    spent=timedelta(seconds=self._clock() - began),
                    chance=self._chance(),
                    retry_after=error.retry_after if isinstance(error, ProblemError) else None,
                )
            if pause is None:
                raise error
            was_unknown = was_unknown or tried.failure is Failure.UNKNOWN
            await self._sleep(pause.total_seconds())

    async def _try(self, request: _Request, limit: timedelta, expected: tuple[int, ...]) -> _Answer | _Failed:
        """Send a request once."""
        try:
            answer = await self._send(request, limit)
        except (aiohttp.ClientError, TimeoutError) as error:
            return self._failed(error, request.method, limit)
        if answer.status in expected:
            return answer
        told = _error_of(answer)
        return _Failed(error=told, failure=_failure_of(told))

    def _failed(self, error: Exception, method: str, limit: timedelta) -> _Failed:
        """Return what is known of a try without an answer. aiohttp's errors are not kept: some hold the request's headers."""
        if isinstance(error, aiohttp.ClientConnectorCertificateError):  # which is the same the next time
            advice = "give ca, the file with the certificate of who vouches for it"
            reason = f"the certificate of {self._base} is not trusted: {error.certificate_error}; {advice}"
            return _Failed(error=NotReached(reason), failure=None)
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            reason = f"{self._base} cannot be reached: {_reason(error)}"
            if self._given_session is not None and method in _SENT_AGAIN:  # before, on a connection that was kept and broke
                return _Failed(error=OutcomeUnknown(f"{reason}; {method} may have been sent before"), failure=Failure.UNKNOWN)
            return _Failed(error=NotReached(reason), failure=Failure.NOT_SENT)
        if isinstance(error, TimeoutError):
            reason = f"{self._base} did not answer {method} within {limit.total_seconds():.1f} s"
            return _Failed(error=OutcomeUnknown(reason), failure=Failure.UNKNOWN)
        if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | _Lost):
            reason = f"the connection to {self._base} broke before the answer to {method} was complete: {_reason(error)}"
            return _Failed(error=OutcomeUnknown(reason), failure=Failure.UNKNOWN)
        reason = f"what {self._base} answered to {method} is not acceptable HTTP: {type(error).__name__}"
        return _Failed(error=UnexpectedAnswer(reason, status=getattr(error, "status", 0)), failure=Failure.UNKNOWN)

    async def _send(self, request: _Request, limit: timedelta) -> _Answer:
        session = self._given_session or next(iter(self._opened), None)
        if session is None:
            raise RuntimeError("the client is not open: use it within `async with`")
        seconds = max(limit.total_seconds(), 0.001)
        async with session.request(
            request.method,
            self._base + request.path,
            data=request.data,
            headers=request.headers,
            # The connection's time ends first, so that it is known that nothing was sent.
            timeout=aiohttp.ClientTimeout(total=seconds, connect=0.75 * seconds),
            allow_redirects=False,  # a token goes nowhere else
            raise_for_status=False,
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    response.close()
                    raise aiohttp.ClientPayloadError("it is too large")
            return _Answer(status=response.status, headers=response.headers, body=bytes(body))

    def _request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        body: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> _Request:
        sent = {**self._headers, **(headers or {})}
        data = None
        if token is not None:
            if not _is_sendable(token):
                _refuse_token()
            sent["Authorization"] = f"Bearer {token}"
        if body is not None:
            data, sent["Content-Type"] = json.dumps(body).encode(), JSON
        elif form is not None:
            data, sent["Content-Type"] = urlencode(form, errors="surrogatepass").encode(), FORM
        return _Request(method=method, path=path, headers=sent, data=data, repeatable=repeatable)


def _is_sendable(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token


def _refuse_token() -> NoReturn:
    """Refuse what cannot stand in a header, as the service would refuse it."""
    raise InvalidToken(
        slug="invalid-token",
        status=401,
        title="The bearer token is not valid",
        detail="It has characters that no token has, and was not sent.",
        request_id=None,
    )


def _trust(ca: str | Path) -> ssl.SSLContext:
    """Return what trusts the certificates of a file. What ssl raises does not name it."""
    try:
        return ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise ValueError(f"ca: {ca} has no certificates in PEM") from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(ca)) from None


def _read_base(text: str, *, allow_plain_http: bool) -> str:
    if not _is_base(text):
        raise ValueError("base_url is a URL of scheme, host and path only, such as https://accounts.example.com")
    parts = urlsplit(text)
    if parts.scheme == "http" and not allow_plain_http and not _is_loopback(parts.hostname or ""):
        raise ValueError("base_url begins with http://, over which anybody on the way can read tokens: see allow_plain_http")
    return text.rstrip("/")


def _is_base(text: str) -> bool:
    try:
        parts = urlsplit(text)
        host, _ = (parts.hostname or "").encode("idna"), parts.port  # which is where the system would fail, at each request
    except ValueError:
        return False
    is_plain = text.isprintable() and not set(text) & set(" ?#") and "@" not in parts.netloc
    return is_plain and parts.scheme in {"http", "https"} and bool(host)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _reason(error: Exception) -> str:
    """Return what is wrong, in few words: by the system's, where it has any."""
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__


def _read(answer: _Answer, read: Callable[[Mapping[str, Any]], Read]) -> Read:
    """Read the body of an answer that is as expected by its status."""
    try:
        content = json.loads(answer.body)
        if isinstance(content, dict):
            return read(content)
    except (KeyError, TypeError, ValueError, OverflowError, OSError, AttributeError, RecursionError):
        pass
    raise UnexpectedAnswer(f"the answer, {answer.status}, does not have the members that it should have", status=answer.status)


def _read_tagged(answer: _Answer) -> User:
    return _read(answer, lambda content: User.read(content, etag=answer.headers.get("ETag")))


def _error_of(answer: _Answer) -> ClientError:
    """Return the error that an answer stands for, which is none of those expected."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == PROBLEM and answer.status >= HTTPStatus.BAD_REQUEST:
        try:
            return _read(answer, lambda content: _problem_of(answer, content))
        except UnexpectedAnswer:
            pass
    return UnexpectedAnswer(f"the answer, {answer.status}, is none of a Pickguard service", status=answer.status)


def _problem_of(answer: _Answer, content: Mapping[str, Any]) -> ProblemError:
    slug = take(content, "type", str).rpartition("/")[2]
    faults = tuple(
        Fault(pointer=take(each, "pointer", str), code=take(each, "code", str), detail=take(each, "detail", str))
        for each in content.get("errors", ())
    )
    if slug == "deletion-pending" and "deletes_at" in content:
        more: dict[str, Any] = {"deletes_at": take_moment(content, "deletes_at")}
    else:
        more = {}
    return KINDS.get(slug, KINDS_BY_STATUS.get(answer.status, ProblemError))(
        slug=slug,
        status=answer.status,
        title=take(content, "title", str),
        detail=take(content, "detail", str),
        request_id=answer.headers.get("X-Request-ID"),
        retry_after=read_retry_after(answer.headers.get("Retry-After"), datetime.now(UTC)),
        faults=faults,
        **more,
    )


def _failure_of(error: ClientError) -> Failure | None:
    """Return what is known of a request by the error that it was answered with; None where another try would be in vain."""
    if isinstance(error, RateLimited | Overloaded):
        return Failure.NOTHING_DONE
    if isinstance(error, ProblemError | UnexpectedAnswer) and error.status in GATEWAY_FAILURES:
        return Failure.UNKNOWN  # a store's failure says in words only whether something was done
    return None
