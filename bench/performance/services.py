"""Services to measure: how each is started, and what a registration, a log-in and a read look like there."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import attrs

PASSWORD: Final = "correct horse battery staple"
HASH_MEMORY, HASH_TIME, HASH_LANES = 19_456, 2, 1
ROOT: Final = Path(__file__).parents[2]


@attrs.frozen(kw_only=True)
class Place:
    """Where a service is to run: what is given to it, so that it shares nothing with another."""

    port: int
    redis_port: int
    database: int
    directory: Path

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.redis_port}/{self.database}"


@attrs.frozen(kw_only=True)
class Post:
    """A request with a body, which is filled in with an address."""

    path: str
    body: Callable[[str], Mapping[str, str]]
    form: bool = False


@attrs.frozen(kw_only=True)
class Token:
    """Where the answer to a log-in has the token, and the header that it goes in afterwards."""

    found_in: Callable[[Mapping[str, str], Any], str]
    header: str
    prefix: str = ""


@attrs.frozen(kw_only=True)
class Program:
    """Something that serves HTTP, and a path that it answers as soon as it can answer anything."""

    name: str
    title: str
    command: Callable[[Place], Sequence[str]]
    ready: str
    environment: Callable[[Place], Mapping[str, str]] = lambda _: {}
    cwd: Path = ROOT
    tls: bool = False
    database: int = 0


@attrs.frozen(kw_only=True)
class Service(Program):
    """A program that has users, and its form of the three requests that are measured."""

    read: str
    register: Post
    log_in: Post
    token: Token
    headers: Callable[[Place], Mapping[str, str]] = lambda _: {}


def credentials(email: str) -> dict[str, str]:
    return {"email": email, "password": PASSWORD}


def named_credentials(email: str) -> dict[str, str]:
    return {"name": email.partition("@")[0], **credentials(email)}


def member(*path: str) -> Callable[[Mapping[str, str], Any], str]:
    """Return what finds a member of a body in JSON."""

    def found_in(_: Mapping[str, str], body: Any) -> str:
        for name in path:
            body = body[name]
        return str(body)

    return found_in


def pickguard(*options: str, embedded: bool = False, tls: bool = False) -> Service:
    """Return the service of this project, as `pickguard serve` starts it."""

    def command(place: Place) -> Sequence[str]:
        return [
            *(sys.executable, "-m", "pickguard", "serve", "--port", str(place.port), "--log-level", "warning"),
            *("--data-dir", str(place.directory / "data"), "--rate-limits", "off"),
            *([] if tls else ["--no-tls"]),
            *([] if embedded else ["--store", place.redis_url]),
            *options,
        ]

    return Service(
        name="pickguard",
        title="**Pickguard**",
        command=command,
        ready="/readyz",
        read="/v1/users/me",
        register=Post(path="/v1/users", body=named_credentials),
        log_in=Post(path="/v1/sessions", body=credentials),
        token=Token(found_in=member("access_token"), header="Authorization", prefix="Bearer "),
        tls=tls,
    )


CEILING: Final = Program(
    name="ceiling",
    title="bare aiohttp `json_response`, uvloop, no log (the ceiling)",
    command=lambda place: [sys.executable, "-m", "bench.performance.ceiling", str(place.port), str(place.redis_port)],
    ready="/json",
    database=15,
)
"""See `bench.performance.ceiling`."""


def encoded(post: Post, email: str) -> tuple[str, bytes]:
    """Return the type of a body, and the body."""
    if post.form:
        return "application/x-www-form-urlencoded", urlencode(post.body(email)).encode()
    return "application/json", json.dumps(post.body(email)).encode()
