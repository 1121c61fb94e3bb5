"""Middleware that authenticates requests in an ASGI application: Starlette, FastAPI, Litestar, Quart and others.

```python
app.add_middleware(AuthenticationMiddleware, authenticator=authenticator, public={"/healthz"})
```

It needs no framework. Who makes the request stands in ``scope["state"]["principal"]``, which Starlette and FastAPI show as
``request.state.principal``, and in ``scope["user"]``, as Starlette's own middleware has it, so that
``@requires("authenticated")`` works.
"""

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, Final

import attrs

from pickguard.guard import (
    DEFAULT_REALM,
    Anonymous,
    Authenticator,
    Guard,
    Principal,
    PrincipalSession,
    Refusal,
    Refused,
)
from pickguard.guard.in_process import InProcess

__all__ = [
    "Anonymous",
    "AuthenticationMiddleware",
    "Authenticator",
    "Credentials",
    "InProcess",
    "Principal",
    "PrincipalSession",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY_VIOLATION: Final = 1008
TRY_AGAIN_LATER: Final = 1013
"""Why a WebSocket is closed (RFC 6455, section 7.4.1, and its registry)."""


@attrs.frozen
class Credentials:
    """What Starlette's ``@requires`` looks at: ``authenticated`` is among the scopes of whoever has a token."""

    scopes: tuple[str, ...] = ()


class AuthenticationMiddleware:
    """Lets requests and WebSockets pass whose token opens something.

    Who is refused gets 401 with a challenge (RFC 6750), 400 or 503, as problem details. A WebSocket is refused before it is
    accepted, with the same answer where the server can send one (the extension ``websocket.http.response``), else closed, which
    servers turn into 403. Put middleware that adds headers for other origins (CORS) outside of this one.
    """

    def __init__(
        self,
        app: App,
        *,
        authenticator: Authenticator,
        public: Collection[str] = (),
        required: bool = True,
        realm: str = DEFAULT_REALM,
    ) -> None:
        """Guard an application.

        Args:
            app: The application.
            authenticator: Says whose a token is. It must be open for as long as the application runs: see ``lifespan``.
            public: Paths for everybody, where tokens are not looked at. Each is one path, as it stands in the application.
            required: False lets requests without a token pass, with None as their principal: the application decides. A token
                that opens nothing is refused all the same.
            realm: What the challenge calls the service.
        """
        if isinstance(public, str):
            raise TypeError("public is a collection of paths, not one path")
        self._app = app
        self._guard = Guard(authenticator, realm=realm)
        self._public = frozenset(public)
        self._required = required

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in {"http", "websocket"}:  # lifespan: nobody makes a request
            await self._app(scope, receive, send)
            return
        principal = None
        if _path_of(scope) not in self._public:
            lines = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"authorization"]
            try:
                principal = await self._guard.identify(lines, required=self._required)
            except Refused as refused:
                await _refuse(refused.refusal, scope, receive, send)
                return
        # In place, as Starlette does: what stands outside may want to see what comes to stand in it within.
        scope.setdefault("state", {})["principal"] = principal
        scope["user"] = Anonymous() if principal is None else principal
        scope["auth"] = Credentials(() if principal is None else ("authenticated",))
        await self._app(scope, receive, send)


def _path_of(scope: Scope) -> str:
    """Return the path within the application: servers put where it is mounted, the root path, before it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()  # that somebody wants to connect
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            code = POLICY_VIOLATION if refusal.status < 500 else TRY_AGAIN_LATER  # noqa: PLR2004 (the service's own failure)
            await send({"type": "websocket.close", "code": code, "reason": refusal.detail})
            return
        kind = "websocket.http.response"
    body = refusal.body
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in refusal.all_headers]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": f"{kind}.start", "status": refusal.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": b"" if scope.get("method") == "HEAD" else body})
