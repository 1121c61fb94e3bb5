"""The description of the operators' API for machines: OpenAPI 3.1, made in the way of the public one."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from pickguard.entrypoints.admin.rendering import ShownAccount, ShownAccounts, ShownAccountSessions, ShownAccountUser
from pickguard.entrypoints.http.openapi import DescribedApi, describe_api
from pickguard.entrypoints.http.operations import BEARER, Operation, Success
from pickguard.entrypoints.http.schemas import ShownActivity
from pickguard.entrypoints.http.shapes import Schema
from pickguard.entrypoints.settings import Settings

USERS: Final = "/admin/v1/users"
USER: Final = f"{USERS}/{{id}}"
METRICS_PATH: Final = "/metrics"
DESCRIPTION_PATH: Final = "/admin/openapi.json"
LEAST_LIMIT, DEFAULT_LIMIT, MOST_LIMIT = 1, 100, 1000
"""Of the accounts on a page."""

_ACCOUNTS: Final = "Accounts"
_SERVICE: Final = "Service"

_PARAMETERS: Final[Mapping[str, Schema]] = {
    "email": {
        "name": "email",
        "in": "query",
        "description": "The address of the one account that is wanted. One look-up.",
        "schema": {"type": "string", "minLength": 1},
        "example": "ada@example.com",
    },
    "search": {
        "name": "search",
        "in": "query",
        "description": "What the addresses that are wanted have in them. Looks at every account, page by page.",
        "schema": {"type": "string", "minLength": 1},
        "example": "@example.com",
    },
    "cursor": {
        "name": "cursor",
        "in": "query",
        "description": "The next of the page before; without it, the first page.",
        "schema": {"type": "string", "minLength": 1},
    },
    "limit": {
        "name": "limit",
        "in": "query",
        "description": "About how many accounts a page has.",
        "schema": {"type": "integer", "minimum": LEAST_LIMIT, "maximum": MOST_LIMIT, "default": DEFAULT_LIMIT},
    },
    "user id": {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The user's id.",
        "schema": {"type": "string", "format": "uuid"},
        "example": "01a20465-bea2-7890-b8a2-323b036c17a3",
    },
    "session": {
        "name": "session",
        "in": "path",
        "required": True,
        "description": "The session's id.",
        "schema": {"type": "string", "format": "uuid"},
        "example": "01a20465-bef6-7a56-903c-b26f4fa2fa4a",
    },
}


def _read(name: str, path: str, summary: str, description: str, shape: type) -> tuple[tuple[str, str], Operation]:
    return ("GET", path), Operation(
        name=name,
        tag=_ACCOUNTS,
        summary=summary,
        description=description,
        parameters=("user id",),
        successes=(Success(status=200, description=summary, shape=shape),),
        problems=("not-found",),
        security=BEARER,
    )


def _change(
    name: str, method: str, path: str, summary: str, description: str, *, shape: type | None = None, of_session: bool = False
) -> tuple[tuple[str, str], Operation]:
    done = (
        Success(status=204, description="It is done.")
        if shape is None
        else Success(status=200, description="As it is now.", shape=shape)
    )
    return (method, path), Operation(
        name=name,
        tag=_ACCOUNTS,
        summary=summary,
        description=description,
        parameters=("user id", "session") if of_session else ("user id",),
        successes=(done,),
        problems=("not-found",),
        security=BEARER,
        may_have_to_wait=True,
    )


ADMIN_OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = dict(
    [
        (
            ("GET", METRICS_PATH),
            Operation(
                name="getMetrics",
                tag=_SERVICE,
                summary="Read the metrics",
                description="All metrics of all workers, in Prometheus' text format or, if that is asked for, in OpenMetrics.",
                successes=(
                    Success(
                        status=200,
                        description="The metrics.",
                        texts=("text/plain", "application/openmetrics-text"),
                        headers=("Vary-by-type",),
                    ),
                ),
                security=BEARER,
                reaches_store=False,
            ),
        ),
        (
            ("GET", DESCRIPTION_PATH),
            Operation(
                name="getAdminDescription",
                tag=_SERVICE,
                summary="Describe this API to machines",
                description="This description: OpenAPI 3.1.",
                successes=(Success(status=200, description="An OpenAPI document.", anything=True),),
                security=BEARER,
                reaches_store=False,
            ),
        ),
        (
            ("GET", USERS),
            Operation(
                name="listAccounts",
                tag=_ACCOUNTS,
                summary="List accounts, or find one by its address",
                description=(
                    "From the first page to the last, each account that exists all the while is shown at least once, in no "
                    "order. A page may be empty and have a next one. email goes with neither search nor cursor."
                ),
                parameters=("email", "search", "cursor", "limit"),
                successes=(Success(status=200, description="Some of the accounts.", shape=ShownAccounts),),
                security=BEARER,
            ),
        ),
        _read("getAccount", USER, "Show an account", "The account, and how a log-in to it stands.", ShownAccount),
        _read("getAccountActivity", f"{USER}/activity", "Show its activity", "As its user sees it.", ShownActivity),
        _read("listAccountSessions", f"{USER}/sessions", "List its sessions", "Those that are live.", ShownAccountSessions),
        _change("deleteAccount", "DELETE", USER, "Delete an account", "With all that belongs to it. Its address is free."),
        _change(
            "disableAccount",
            "POST",
            f"{USER}/disable",
            "Disable an account",
            "Nobody can log in to it, and its sessions and all that was mailed end. It may be repeated.",
            shape=ShownAccountUser,
        ),
        _change(
            "enableAccount",
            "POST",
            f"{USER}/enable",
            "Enable an account",
            "It can be logged in to again. It may be repeated.",
            shape=ShownAccountUser,
        ),
        _change(
            "restoreAccount",
            "POST",
            f"{USER}/restore",
            "Restore an account",
            "An account that its user has deleted stays, while the grace lasts. It may be repeated.",
            shape=ShownAccountUser,
        ),
        _change("endAccountSessions", "DELETE", f"{USER}/sessions", "End its sessions", "All of them."),
        _change("endAccountSession", "DELETE", f"{USER}/sessions/{{session}}", "End a session", "That one.", of_session=True),
    ]
)
"""What operators can ask for. Every route of theirs is here, and nothing else is."""

_API: Final = DescribedApi(
    info={
        "title": "Pickguard for operators",
        "version": "1",
        "summary": "Administration and metrics over HTTP.",
        "description": (
            "For those who run the service, on a listener of its own. Conventions, problems and headers are those of the "
            "public API, which explains the types of problems."
        ),
    },
    servers=[{"url": "/", "description": "Where this description comes from"}],
    tags={_ACCOUNTS: "The accounts of everybody.", _SERVICE: "The service itself."},
    parameters=_PARAMETERS,
    security={
        BEARER: {
            BEARER: {
                "type": "http",
                "scheme": "bearer",
                "description": (
                    "A token of --admin-token-file; for the metrics, one of --metrics-token-file will do. A Unix socket "
                    "without such files needs none."
                ),
            }
        }
    },
)


def admin_document(settings: Settings) -> dict[str, Any]:
    """Return the description of the operators' API of a service; the settings are those `for_operators`."""
    return describe_api(_API, ADMIN_OPERATIONS, settings)


@lru_cache(maxsize=4)
def admin_json(settings: Settings) -> bytes:
    """Return the same as it is sent."""
    return orjson.dumps(admin_document(settings))
