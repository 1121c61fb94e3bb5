"""Who wants to know how requests fare: told of each answer, or in each request from beginning to end."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Final, Protocol

import attrs
from aiohttp import hdrs, web

from pickguard.entrypoints.http.problems import TYPES

STATUSES: Final = tuple(sorted({200, 201, 202, 204, 302, 303, 304, 307, 308, *(kind.status for kind in TYPES.values())}))
"""The statuses of answers."""


class Answered(Protocol):
    """Is told of each answer."""

    def __call__(self, method: str, route: str | None, status: int, seconds: float | None) -> None:
        """Take note of one. `route` is the template of its path, None where there is none; `seconds` None where it is unknown.

        The method is the client's word and may be any.
        """


class RequestSpan(Protocol):
    """One request that is traced."""

    def answered(self, status: int) -> None:
        """Take note of its answer."""


class RequestTracing(Protocol):
    """Traces requests."""

    def request(
        self, method: str, route: str | None, headers: Mapping[str, str], request_id: str
    ) -> AbstractContextManager[RequestSpan]:
        """Trace one request for as long as the context lasts."""


@attrs.frozen(kw_only=True)
class Watching:
    """Those who want to know; nobody, where nothing is said."""

    answered: Answered | None = None
    tracing: RequestTracing | None = None


@attrs.frozen
class Measured:
    """What is known of a request when its answer is sent."""

    route: str | None
    seconds: float


def routes_of(app: web.Application) -> list[tuple[str, str]]:
    """Return each method that an application has a route for, with the template of its path."""
    found = dict.fromkeys(
        (route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None
    )
    return [(method, path) for method, path in found if method != hdrs.METH_ANY]
