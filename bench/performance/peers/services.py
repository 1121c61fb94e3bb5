"""How each of the others is started, and what it calls a registration, a log-in and a read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.performance.errors import BenchError
from bench.performance.services import (
    HASH_LANES,
    HASH_MEMORY,
    HASH_TIME,
    PASSWORD,
    ROOT,
    Place,
    Post,
    Service,
    Token,
    credentials,
    member,
    named_credentials,
)

APPS: Final = Path(__file__).parent
INSTALLED: Final = ROOT / ".peers"
"""What `make bench-peers` installs, each version pinned: nothing of it is needed for anything else."""
PROGRAMS: Final = INSTALLED / "venv/bin"
BETTER_AUTH: Final = INSTALLED / "better_auth"
ALLAUTH: Final = "/_allauth/app/v1"


def environment(place: Place) -> Mapping[str, str]:
    """Return what tells a peer where its users and sessions are, and how to hash: as this service does."""
    return {
        "DATABASE": str(place.directory / "users.db"),
        "REDIS_URL": place.redis_url,
        "ARGON2": f"{HASH_MEMORY},{HASH_TIME},{HASH_LANES}",
        "PORT": str(place.port),
        "NODE_ENV": "production",
    }


def _sanic(place: Place) -> Sequence[str]:
    return [str(PROGRAMS / "python"), "sanic_app.py", str(place.port)]


def _fastapi_users(place: Place) -> Sequence[str]:
    how = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
    return [str(PROGRAMS / "uvicorn"), "fastapi_users_app:app", "--port", str(place.port), *how]


def _better_auth(_: Place) -> Sequence[str]:
    return ["node", "server.mjs"]


def _allauth(place: Place) -> Sequence[str]:
    how = ("--worker-class", "gthread", "--workers", "1", "--threads", "8", "--log-level", "warning")
    return [str(PROGRAMS / "gunicorn"), "allauth_app:wsgi", *how, "--bind", f"127.0.0.1:{place.port}"]


def _username(email: str) -> Mapping[str, str]:
    return {"username": email, "name": "Reader", "password": PASSWORD}


def _origin(place: Place) -> Mapping[str, str]:
    """Return what a browser would send: better-auth takes no log-in without it."""
    return {"Origin": f"http://127.0.0.1:{place.port}"}


def _set_auth_token(headers: Mapping[str, str], _: object) -> str:
    return headers["set-auth-token"]


PEERS: Final = (
    Service(
        name="sanic",
        title="sanic, as in the earlier design",
        command=_sanic,
        environment=environment,
        cwd=APPS,
        database=1,
        ready="/health",
        read="/user",
        register=Post(path="/register", body=_username),
        log_in=Post(path="/login", body=_username),
        token=Token(found_in=member("session_id"), header="X-Session-Id"),
    ),
    Service(
        name="fastapi-users",
        title="FastAPI Users 15 + Redis",
        command=_fastapi_users,
        environment=environment,
        cwd=APPS,
        database=2,
        ready="/openapi.json",
        read="/users/me",
        register=Post(path="/auth/register", body=credentials),
        log_in=Post(path="/auth/login", body=lambda email: {"username": email, "password": PASSWORD}, form=True),
        token=Token(found_in=member("access_token"), header="Authorization", prefix="Bearer "),
    ),
    Service(
        name="better-auth",
        title="better-auth 1.7 + Redis",
        command=_better_auth,
        environment=environment,
        cwd=BETTER_AUTH,
        database=3,
        ready="/api/auth/ok",
        read="/api/auth/get-session",
        register=Post(path="/api/auth/sign-up/email", body=named_credentials),
        log_in=Post(path="/api/auth/sign-in/email", body=credentials),
        token=Token(found_in=_set_auth_token, header="Authorization", prefix="Bearer "),
        headers=_origin,
    ),
    Service(
        name="allauth",
        title="django-allauth headless",
        command=_allauth,
        environment=environment,
        cwd=APPS,
        database=4,
        ready=f"{ALLAUTH}/config",
        read=f"{ALLAUTH}/auth/session",
        register=Post(path=f"{ALLAUTH}/auth/signup", body=credentials),
        log_in=Post(path=f"{ALLAUTH}/auth/login", body=credentials),
        token=Token(found_in=member("meta", "session_token"), header="X-Session-Token"),
    ),
)
TITLES: Final = {peer.name: peer.title for peer in PEERS}


def need_peers() -> None:
    """Refuse to begin where they are not installed."""
    if not (PROGRAMS / "gunicorn").exists() or not (BETTER_AUTH / "node_modules").exists():
        raise BenchError("the others are not installed: `make bench-peers` installs them and measures them")
