"""The use cases as their clients see them, in this process or over HTTP, with the core's errors for what goes wrong."""

from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID

import aiohttp
import attrs

from pickguard import Services
from pickguard.domain.model.errors import (
    AccountsError,
    AddressTaken,
    HashingOverloaded,
    InvalidCredentials,
    InvalidToken,
    OutcomeUnknown,
    SessionNotFound,
    StoreUnavailable,
    WrongPassword,
)
from pickguard.domain.model.identifiers import SessionId
from pickguard.domain.model.users import User
from pickguard.domain.services.authentication import LoggedIn
from pickguard.entrypoints.http.problems import UNKNOWN_OUTCOME


@attrs.frozen(kw_only=True)
class Seen:
    """A user as an answer shows them."""

    id: str
    name: str
    email: str


@attrs.frozen(kw_only=True)
class Opened:
    """The answer to a log-in or a reauthentication."""

    user: Seen
    session: str
    token: str = attrs.field(repr=False)


class UseCases(Protocol):
    """All that a user can do. Each method raises what the use case of that name raises."""

    async def register(self, *, name: str, email: str, password: str) -> Seen: ...

    async def log_in(self, *, email: str, password: str) -> Opened: ...

    async def authenticate(self, token: str) -> Seen: ...

    async def reauthenticate(self, token: str, *, password: str) -> Opened: ...

    async def change(self, token: str, changes: Mapping[str, str]) -> Seen: ...

    async def sessions(self, token: str) -> frozenset[str]: ...

    async def end(self, token: str, session: str) -> None: ...

    async def log_out(self, token: str) -> None: ...

    async def end_all(self, token: str, *, keep_current: bool) -> None: ...

    async def delete(self, token: str) -> None: ...


class InProcess:
    """The use cases, called directly."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def register(self, *, name: str, email: str, password: str) -> Seen:
        return _seen(await self._services.registration.register(name=name, email=email, password=password))

    async def log_in(self, *, email: str, password: str) -> Opened:
        return _opened(await self._services.authentication.log_in(email=email, password=password))

    async def authenticate(self, token: str) -> Seen:
        return _seen((await self._services.authentication.authenticate(token)).user)

    async def reauthenticate(self, token: str, *, password: str) -> Opened:
        return _opened(await self._services.authentication.reauthenticate(token, password=password))

    async def change(self, token: str, changes: Mapping[str, str]) -> Seen:
        return _seen(
            await self._services.profiles.change(
                token,
                name=changes.get("name"),
                email=changes.get("email"),
                password=changes.get("password"),
                current_password=changes.get("current_password"),
            )
        )

    async def sessions(self, token: str) -> frozenset[str]:
        listed = await self._services.sessions.list(token)
        return frozenset(str(session.id) for session in listed.sessions)

    async def end(self, token: str, session: str) -> None:
        await self._services.sessions.end(token, SessionId(UUID(session)))

    async def log_out(self, token: str) -> None:
        await self._services.sessions.log_out(token)

    async def end_all(self, token: str, *, keep_current: bool) -> None:
        await self._services.sessions.end_all(token, keep_current=keep_current)

    async def delete(self, token: str) -> None:
        await self._services.profiles.delete(token)


def _seen(user: User) -> Seen:
    return Seen(id=str(user.id), name=user.name.value, email=user.email.value)


def _opened(logged_in: LoggedIn) -> Opened:
    return Opened(user=_seen(logged_in.user), session=str(logged_in.session.id), token=logged_in.token.reveal())


_PROBLEMS: Mapping[str, type[AccountsError]] = {
    "email-taken": AddressTaken,
    "invalid-credentials": InvalidCredentials,
    "invalid-token": InvalidToken,
    "wrong-password": WrongPassword,
    "not-found": SessionNotFound,
}


class OverHttp:
    """The use cases of a service at an address, which may go away at any moment."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self.base = base

    @classmethod
    def client(cls) -> aiohttp.ClientSession:
        """Return a session that opens a connection for each request."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0), timeout=aiohttp.ClientTimeout(20)
        )

    async def register(self, *, name: str, email: str, password: str) -> Seen:
        body = {"name": name, "email": email, "password": password}
        return _seen_in(await self._call("POST", "/v1/users", body=body))

    async def log_in(self, *, email: str, password: str) -> Opened:
        return _opened_in(await self._call("POST", "/v1/sessions", body={"email": email, "password": password}))

    async def authenticate(self, token: str) -> Seen:
        return _seen_in(await self._call("GET", "/v1/users/me", token))

    async def reauthenticate(self, token: str, *, password: str) -> Opened:
        body = {"password": password}
        return _opened_in(await self._call("POST", "/v1/sessions/current/reauthentication", token, body))

    async def change(self, token: str, changes: Mapping[str, str]) -> Seen:
        return _seen_in(await self._call("PATCH", "/v1/users/me", token, changes))

    async def sessions(self, token: str) -> frozenset[str]:
        answer = await self._call("GET", "/v1/sessions", token)
        return frozenset(str(session["id"]) for session in answer["sessions"])

    async def end(self, token: str, session: str) -> None:
        await self._call("DELETE", f"/v1/sessions/{session}", token)

    async def log_out(self, token: str) -> None:
        await self._call("DELETE", "/v1/sessions/current", token)

    async def end_all(self, token: str, *, keep_current: bool) -> None:
        await self._call("DELETE", "/v1/sessions" + ("?except=current" if keep_current else ""), token)

    async def delete(self, token: str) -> None:
        await self._call("DELETE", "/v1/users/me", token)

    async def _call(self, method: str, path: str, token: str | None = None, body: Mapping[str, str] | None = None) -> Any:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            async with self._session.request(method, self.base + path, json=body, headers=headers) as response:
                answer: Any = await response.json(content_type=None) if response.status != 204 else None
        except (aiohttp.ClientError, TimeoutError) as error:
            # What may be repeated aiohttp sends a second time where the first went unanswered, on any connection: that nobody
            # is there says nothing about the first.
            if isinstance(error, aiohttp.ClientConnectorError) and method in {"POST", "PATCH"}:
                raise StoreUnavailable("there is no service at the address") from error
            raise OutcomeUnknown("the service went away before it answered") from error
        if response.status < 400:
            return answer
        raise _error_in(answer)


def _error_in(problem: Mapping[str, Any]) -> Exception:
    slug = str(problem["type"]).removeprefix("/problems/")
    if slug in _PROBLEMS:
        return _PROBLEMS[slug]()
    if slug == "store-unavailable":
        unknown = problem["detail"] == UNKNOWN_OUTCOME
        return OutcomeUnknown(UNKNOWN_OUTCOME) if unknown else StoreUnavailable(str(problem["detail"]))
    if slug == "overloaded":
        return HashingOverloaded(str(problem["detail"]))
    return AssertionError(f"the service answered: {dict(problem)}")


def _seen_in(answer: Mapping[str, Any]) -> Seen:
    return Seen(id=answer["id"], name=answer["name"], email=answer["email"])


def _opened_in(answer: Mapping[str, Any]) -> Opened:
    return Opened(user=_seen_in(answer["user"]), session=answer["session"]["id"], token=answer["access_token"])
