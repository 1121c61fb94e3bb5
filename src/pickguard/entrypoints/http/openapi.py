"""The API's description for machines: an OpenAPI 3.1 document, made of the routes that a service has and their operations."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import orjson

from pickguard.domain.model import errors
from pickguard.domain.model.limits import Limit
from pickguard.entrypoints.http.answers import HEADERS, OF_A_PAGE, STRICT_TRANSPORT_SECURITY
from pickguard.entrypoints.http.cors import EXPOSED_HEADERS
from pickguard.entrypoints.http.operations import BEARER, CREDENTIAL, TAGS, Operation, Success, operations
from pickguard.entrypoints.http.problems import (
    CHALLENGE,
    CONTENT_TYPE,
    TYPES,
    Problem,
    ProblemType,
    for_error,
    problem,
    respond,
)
from pickguard.entrypoints.http.requests import FORM, JSON, JSON_OR_MERGE_PATCH
from pickguard.entrypoints.http.routes import routes
from pickguard.entrypoints.http.shapes import TIME, Schema, Shapes, example_of
from pickguard.entrypoints.settings import Settings

VERSION: Final = "1"
"""Of the API, not of the software, which no answer names (ASVS 13.4.6)."""

FAULT_CODES: Final[Mapping[str, str]] = {
    "required": "The member is missing.",
    "unknown_field": "There is no such member.",
    "wrong_type": "The member, or the whole body, is of another JSON type; null is one.",
    "invalid_name": "The name breaks a rule of names.",
    "invalid_email": "This is not an e-mail address that mail can be sent to.",
    "invalid_password": "The password has lone surrogates, which are no text.",
    "password_too_short": "The password has too few characters.",
    "password_too_long": "The password has too many characters.",
    "password_too_common": "The password is one that attackers try first.",
    "password_guessable": "The password is made of the address, the name or the name of the service.",
    "idempotency_key_reused": "The Idempotency-Key belongs to a request that asked for something else.",
}
"""Every code that a fault in a body can have."""

_EXAMPLE_ID: Final = "1616032f-d79e-41f3-b217-471759d89da6"
_EXAMPLE_TAG: Final = '"5f0c7b1f0d4e2a6b8c9d0e1f"'
_WAIT: Final = timedelta(seconds=1)


def _fault(field: str | None, code: str, detail: str) -> errors.Fault:
    return errors.Fault(field=field, code=code, detail=detail)


_INVALID: Final = (
    _fault("email", "invalid_email", "An email address must have an @-sign."),
    _fault("password", "password_too_short", "A password has at least 8 characters."),
)
_OCCURRENCES: Final[tuple[errors.AccountsError, ...]] = (
    errors.InvalidFields(_INVALID),
    errors.AddressTaken(),
    errors.InvalidCredentials(),
    errors.DeletionPending(datetime(2026, 12, 22, 17, 55, 6, 530000, tzinfo=UTC)),
    errors.WrongPassword(),
    errors.InvalidToken(),
    errors.InvalidServiceCredential(),
    errors.ReauthenticationRequired(timedelta(minutes=15)),
    errors.SessionNotFound(),
    errors.RegistrationClosed(),
    errors.TokenSpent(),
    errors.PreconditionFailed(),
    errors.IdempotencyKeyReused(),
    errors.RateLimited(Limit.GUESSES, retry_after=timedelta(minutes=15)),
    errors.HashingOverloaded("", retry_after=_WAIT),
    errors.StoreUnavailable("", retry_after=_WAIT),
)
_EXAMPLES: Final[Mapping[str, Problem]] = {
    **{slug: problem(slug, kind.explanation) for slug, kind in TYPES.items()},
    **{found.type.slug: found for found in map(for_error, _OCCURRENCES)},
}
"""What a problem of each type looks like."""

_PARAMETERS: Final[Mapping[str, Schema]] = {
    "Idempotency-Key": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": (
            "What the client calls this request, so that it can be sent again (draft-ietf-httpapi-idempotency-key-header). As "
            "hard to guess as a UUID, and new for each registration."
        ),
        "schema": {"type": "string", "pattern": "^[ -~]{1,255}$"},
        "example": "5a0b4a0e-31d6-4d5e-8f0b-6c1de4a2c1b7",
    },
    "If-Match": {
        "name": "If-Match",
        "in": "header",
        "description": "Entity tags, one of which the user must have, or *. If none is it, the answer is 412.",
        "schema": {"type": "string"},
        "example": _EXAMPLE_TAG,
    },
    "If-None-Match": {
        "name": "If-None-Match",
        "in": "header",
        "description": (
            "Entity tags, none of which the user may have, or *. If one is it, a read is answered with 304, a change with 412."
        ),
        "schema": {"type": "string"},
        "example": _EXAMPLE_TAG,
    },
    "except": {
        "name": "except",
        "in": "query",
        "description": "current keeps the session in use.",
        "schema": {"type": "string", "enum": ["current"]},
        "example": "current",
    },
    "session id": {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The session's id.",
        "schema": {"type": "string", "format": "uuid"},
        "example": "01a20465-bef6-7a56-903c-b26f4fa2fa4a",
    },
    "problem slug": {
        "name": "slug",
        "in": "path",
        "required": True,
        "description": "The last part of a problem's type.",
        "schema": {"type": "string", "enum": list(TYPES)},
        "example": "email-taken",
    },
    "docs file": {
        "name": "file",
        "in": "path",
        "required": True,
        "description": "The file's name.",
        "schema": {"type": "string"},
        "example": "docs.js",
    },
    "X-Request-ID": {
        "name": "X-Request-ID",
        "in": "header",
        "description": "What the client calls this request, for the log: a UUID. Anything else is replaced by a new one.",
        "schema": {"type": "string"},
        "example": _EXAMPLE_ID,
    },
}


def openapi_document(settings: Settings) -> dict[str, Any]:
    """Return the description of the API that a service with these settings has. Nothing is opened for it.

    Raises `LookupError` where a route has no operation.
    """
    described = operations(settings)
    served = [(method, path) for method, path, _ in routes(settings)]
    if missing := [line for line in served if line not in described]:
        raise LookupError(f"these routes are not described in operations.py: {missing}")
    api = DescribedApi(info=_info(settings), servers=_servers(settings), tags=TAGS, parameters=_PARAMETERS, security=_SECURITY)
    return describe_api(api, {line: described[line] for line in served}, settings)


@attrs.frozen(kw_only=True)
class DescribedApi:
    """What a description says of an API beside its operations."""

    info: Schema
    servers: list[Schema]
    tags: Mapping[str, str]
    """The groups of operations, in the order in which they are shown."""
    parameters: Mapping[str, Schema]
    """Those that operations name."""
    security: Mapping[str | None, Mapping[str, Schema]]
    """The schemes of each kind of proof, of which any one is enough."""


def describe_api(api: DescribedApi, described: Mapping[tuple[str, str], Operation], settings: Settings) -> dict[str, Any]:
    """Return the description of an API of a service with these settings."""
    return _Document(api, settings).build(described)


@lru_cache(maxsize=8)
def openapi_json(settings: Settings) -> bytes:
    """Return the same as it is sent."""
    return orjson.dumps(openapi_document(settings))


class _Document:
    """Makes one document. What several operations share becomes a component."""

    def __init__(self, api: DescribedApi, settings: Settings) -> None:
        self._api = api
        self._shapes = Shapes(settings)
        self._responses: dict[str, Schema] = {}
        self._parameters: dict[str, Schema] = {}
        self._headers = _headers(settings)
        self._used_headers: set[str] = set()
        self._every = _on_every_answer(settings)

    def build(self, described: Mapping[tuple[str, str], Operation]) -> dict[str, Any]:
        paths: dict[str, Schema] = {}
        for (method, path), operation in described.items():
            paths.setdefault(path, {})[method.lower()] = self._operation(operation)
        for slug in ("not-found", "method-not-allowed"):  # which are of no operation
            self._problem((slug,))
        tags = {operation.tag for operation in described.values()}
        proofs = {operation.security for operation in described.values()}
        return {
            "openapi": "3.1.0",
            "info": self._api.info,
            "servers": self._api.servers,
            "tags": [{"name": name, "description": text} for name, text in self._api.tags.items() if name in tags],
            "paths": paths,
            "components": {
                "schemas": dict(sorted({**self._shapes.components, **_problem_schemas()}.items())),
                "responses": dict(sorted(self._responses.items())),
                "parameters": dict(sorted(self._parameters.items())),
                "headers": {name: header for name, header in sorted(self._headers.items()) if name in self._used_headers},
                "securitySchemes": {
                    name: scheme
                    for kind, offered in self._api.security.items()
                    if kind in proofs
                    for name, scheme in offered.items()
                },
            },
        }

    def _operation(self, operation: Operation) -> Schema:
        responses = {str(each.status): self._success(each) for each in operation.successes}
        for status, slugs in sorted(_by_status(operation.all_problems()).items()):
            responses[str(status)] = self._problem(slugs, body_types=operation.body_types)
        content: Schema = {
            "operationId": operation.name,
            "tags": [operation.tag],
            "summary": operation.summary,
            "description": operation.description,
            "parameters": [self._parameter(name) for name in (*operation.parameters, "X-Request-ID")],
            "responses": dict(sorted(responses.items())),
            "security": [{name: []} for name in self._api.security.get(operation.security, ())],
        }
        if operation.body is not None:
            schema = self._shapes.reference(operation.body)
            example = example_of(schema, self._shapes.components)
            content["requestBody"] = {
                "required": True,
                "content": {kind: {"schema": schema, "example": example} for kind in operation.body_types},
            }
        return content

    def _success(self, success: Success) -> Schema:
        content: Schema = {}
        if success.shape is not None:
            schema = self._shapes.reference(success.shape)
            example = example_of(schema, self._shapes.components)
            if success.other_shape is not None:
                schema = {"oneOf": [schema, self._shapes.reference(success.other_shape)]}
            content[JSON[0]] = {"schema": schema, "example": example}
        if success.anything:
            content[JSON[0]] = {"schema": {"type": "object"}}
        for kind in success.texts:
            content[kind] = {"schema": {"type": "string"}}
        response: Schema = {"description": success.description, "headers": self._named((*success.headers, *self._every))}
        return {**response, "content": content} if content else response

    def _problem(self, slugs: Sequence[str], *, body_types: tuple[str, ...] = JSON) -> Schema:
        kinds = [TYPES[slug] for slug in slugs]
        names = [*dict.fromkeys(name for each in kinds for name in _PROBLEM_HEADERS.get(each.slug, ()))]
        component = "Or".join(slug.title().replace("-", "") for slug in slugs)
        if "unsupported-media-type" in slugs:
            name, suffix = _ACCEPTED[body_types]
            names.append(name)
            component += suffix
        if component not in self._responses:
            examples = {each.slug: _example_of(each) for each in kinds}
            self._responses[component] = {
                "description": " ".join(f"{each.title} ([{each.slug}]({each.path.lstrip('/')}))." for each in kinds),
                "x-problems": [each.path for each in kinds],
                "headers": self._named((*names, *self._every)),
                "content": {CONTENT_TYPE: {"schema": _schema_of(kinds), "examples": examples}},
            }
        return {"$ref": f"#/components/responses/{component}"}

    def _parameter(self, name: str) -> Schema:
        component = "".join(word.title() for word in name.replace("-", " ").split())
        self._parameters[component] = self._api.parameters.get(name) or _PARAMETERS[name]
        return {"$ref": f"#/components/parameters/{component}"}

    def _named(self, components: Iterable[str]) -> dict[str, Schema]:
        """Return the headers of an answer; of two that have one name, the first."""
        found: dict[str, Schema] = {}
        for each in components:
            assert each in self._headers, each  # noqa: S101 (as an operation names them)
            self._used_headers.add(each)
            found.setdefault(_WITH_A_NAME_OF_THEIR_OWN.get(each, each), {"$ref": f"#/components/headers/{each}"})
        return found


_PROBLEM_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    **{slug: ("WWW-Authenticate",) for slug, kind in TYPES.items() if kind.status == HTTPStatus.UNAUTHORIZED},
    "method-not-allowed": ("Allow",),
    "too-many-requests": ("Retry-After",),
    "overloaded": ("Retry-After",),
    "store-unavailable": ("Retry-After",),
}
_ACCEPTED: Final[Mapping[tuple[str, ...], tuple[str, str]]] = {
    JSON: ("Accept", ""),
    JSON_OR_MERGE_PATCH: ("Accept-Patch", "OfPatch"),
    FORM: ("Accept-of-a-form", "OfForm"),
}
"""By what a body may be: the header that says so where it is something else, and what the answer is called."""
_BEARER_SCHEME: Final[Schema] = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "opaque, begins with pg_",
    "description": "The access_token of a log-in (POST /v1/sessions), in the header Authorization and nowhere else (RFC 6750).",
}
_SECURITY: Final[Mapping[str | None, Mapping[str, Schema]]] = {
    BEARER: {BEARER: _BEARER_SCHEME},
    CREDENTIAL: {
        "serviceBasic": {
            "type": "http",
            "scheme": "basic",
            "description": "The name of another service and its secret, each encoded as in a form (RFC 6749, section 2.3.1).",
        },
        "serviceSecret": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "opaque, begins with pgs_",
            "description": "The secret of another service.",
        },
    },
}
"""The schemes of each kind of proof, of which any one is enough."""


def _by_status(slugs: Iterable[str]) -> dict[int, tuple[str, ...]]:
    found: dict[int, tuple[str, ...]] = {}
    for slug in TYPES:  # in the order of the table, whatever that of the operation is
        if slug in slugs:
            status = TYPES[slug].status
            found[status] = (*found.get(status, ()), slug)
    return found


def _header(description: str, schema: Schema, example: str | None = None, *, required: bool = True) -> Schema:
    shown = {} if example is None else {"example": example}
    return {"description": description, "required": required, "schema": {"type": "string", **schema}, **shown}


def _headers(settings: Settings) -> dict[str, Schema]:
    """Return every header that an answer can have, beside those that every answer on the Web has."""
    vary = ", Origin" if settings.cors_origins else ""
    constant = {
        "Cache-Control": "Nothing is to be kept by caches.",
        "X-Content-Type-Options": "The body is what Content-Type says.",
        "Referrer-Policy": "Where somebody came from is not told.",
        "Content-Security-Policy": "A browser shows nothing of the answer as a page.",
    }
    found = {
        "X-Request-ID": _header("What this request is called in the log: a UUID.", {"format": "uuid"}, _EXAMPLE_ID),
        **{name: _header(text, {"const": HEADERS[name]}) for name, text in constant.items()},
        "Content-Security-Policy-of-a-page": _header(
            "What a browser may load for the page.", {"pattern": "^default-src 'none'; "}, "default-src 'none'; …"
        ),
        "Cross-Origin-Opener-Policy": _header(
            "The page has its window for itself.", {"const": OF_A_PAGE["Cross-Origin-Opener-Policy"]}, required=False
        ),
        "ETag": _header("The state of the user, for If-Match and If-None-Match.", {"pattern": '^"[^"]+"$'}, _EXAMPLE_TAG),
        "Location": _header("Where the user is.", {"const": "/v1/users/me"}),
        "WWW-Authenticate": _header("How to authenticate.", {"pattern": f"^{CHALLENGE}"}, CHALLENGE),
        "Retry-After": _header("Whole seconds until it may be tried again.", {"pattern": "^[1-9][0-9]*$"}, "1"),
        "Allow": _header("The methods that the resource has.", {}, "GET,HEAD,PATCH,DELETE"),
        "Accept": _header("What would have been accepted.", {"const": ", ".join(JSON)}),
        "Accept-of-a-form": _header("What would have been accepted.", {"const": ", ".join(FORM)}),
        "Accept-Patch": _header("What would have been accepted.", {"const": ", ".join(JSON_OR_MERGE_PATCH)}),
        "Vary-by-type": _header("What the answer depends on.", {"const": f"Accept{vary}"}),
        "Vary-by-encoding": _header("What the answer depends on.", {"const": f"Accept-Encoding{vary}"}),
        "Content-Disposition": _header("The answer is a file.", {"const": 'attachment; filename="account.json"'}),
        "Content-Encoding": _header("gzip, where the client takes that.", {"const": "gzip"}, required=False),
    }
    if not settings.no_tls:
        found["Strict-Transport-Security"] = _header(
            "The service is asked by TLS only from now on.", {"const": STRICT_TRANSPORT_SECURITY}
        )
    if settings.cors_origins:
        # Whatever is refused before it is known to be a request has none of these.
        found["Vary"] = _header("What the answer depends on.", {"const": "Origin"}, required=False)
        found["Access-Control-Allow-Origin"] = _header(
            "Whose page may read the answer.", {"enum": list(settings.cors_origins)}, required=False
        )
        found["Access-Control-Expose-Headers"] = _header(
            "Which headers that page may read.", {"const": EXPOSED_HEADERS}, required=False
        )
    return found


_WITH_A_NAME_OF_THEIR_OWN: Final = {
    "Content-Security-Policy-of-a-page": "Content-Security-Policy",
    "Vary-by-type": "Vary",
    "Accept-of-a-form": "Accept",
    "Vary-by-encoding": "Vary",
}
"""Headers that have another value, or another reason, in some answers: their components, and what they are called there."""


def _on_every_answer(settings: Settings) -> tuple[str, ...]:
    secure = () if settings.no_tls else ("Strict-Transport-Security",)
    shared = ("Vary", "Access-Control-Allow-Origin", "Access-Control-Expose-Headers") if settings.cors_origins else ()
    return ("X-Request-ID", *HEADERS, *secure, *shared)


def _problem_schemas() -> dict[str, Schema]:
    members: Schema = {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "enum": [each.path for each in TYPES.values()],
            "description": "Which problem this is. The service explains it at this path.",
        },
        "title": {"type": "string", "description": "The same for every problem of the type."},
        "status": {"type": "integer", "description": "The status of the answer."},
        "detail": {"type": "string", "minLength": 1, "description": "What went wrong this time, for a person."},
        "instance": {
            "type": "string",
            "format": "uri",
            "pattern": "^urn:uuid:[0-9a-fA-F-]{36}$",
            "description": "The request, by its X-Request-ID: what to name to the operators.",
        },
    }
    faults: Schema = {
        "type": "array",
        "minItems": 1,
        "items": {"$ref": "#/components/schemas/Fault"},
        "description": "All that is wrong with the body.",
    }
    codes = "\n".join(f"- `{code}`: {text}" for code, text in FAULT_CODES.items())
    return {
        "Problem": _closed("What went wrong (RFC 9457).", members),
        "ProblemWithFaults": _closed(
            "What went wrong, with every fault of the body (RFC 9457).", {**members, "errors": faults}
        ),
        "ProblemWithEnd": _closed(
            "That an account was deleted and can still be restored (RFC 9457).",
            {**members, "deletes_at": {"type": "string", **TIME, "description": "When it is gone for good, in UTC."}},
        ),
        "Fault": _closed(
            "One broken rule.",
            {
                "pointer": {
                    "type": "string",
                    "pattern": "^#(/.*)?$",
                    "description": "Which member: a JSON pointer as a URI fragment (RFC 6901, section 6).",
                },
                "code": {"type": "string", "enum": list(FAULT_CODES), "description": f"For programs:\n\n{codes}"},
                "detail": {"type": "string", "minLength": 1, "description": "For people."},
            },
        ),
    }


def _closed(description: str, members: Schema) -> Schema:
    return {
        "type": "object",
        "description": description,
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }


def _schema_of(kinds: Sequence[ProblemType]) -> Schema:
    # One class for all of them, as generated clients want it. Which types a response can be is said beside it, in x-problems.
    name = "ProblemWithFaults" if kinds[0].status == HTTPStatus.UNPROCESSABLE_ENTITY else "Problem"
    if [each.slug for each in kinds] == ["deletion-pending"]:
        name = "ProblemWithEnd"
    return {"$ref": f"#/components/schemas/{name}"}


def _example_of(kind: ProblemType) -> Schema:
    body = respond(_EXAMPLES[kind.slug], _EXAMPLE_ID).body
    assert isinstance(body, bytes)  # noqa: S101 (as it was rendered)
    return {"summary": kind.slug, "value": orjson.loads(body)}


def _servers(settings: Settings) -> list[Schema]:
    here = urlsplit(settings.public_url).path or "/"
    servers: list[Schema] = [{"url": here, "description": "Where this description comes from"}]
    if settings.public_url:
        servers.append({"url": settings.public_url, "description": "Where people reach the service"})
    return servers


def _info(settings: Settings) -> Schema:
    return {
        "title": settings.service_name,
        "version": VERSION,
        "summary": "Accounts and sessions over HTTP.",
        "description": _INTRODUCTION
        + "".join(f"| [{each.slug}]({each.path.lstrip('/')}) | {each.status} | {each.title} |\n" for each in TYPES.values()),
    }


_INTRODUCTION: Final = """\
People register, log in for an opaque bearer token, see and end their sessions, and read, change and delete their account.

**Authentication.** Log in with `POST /v1/sessions` and send the `access_token` in the header `Authorization: Bearer TOKEN`, \
and nowhere else. A token that is unknown, expired or revoked is refused with 401, without saying which it is.

**Bodies** are JSON in UTF-8, at most 16 KiB, with the header `Content-Type: application/json`. Members that are not known are \
refused. Times are in UTC, as RFC 3339 writes them. Every GET has a HEAD.

**Errors** are problem details (RFC 9457). Their `type` is a path that explains them. A 422 lists all faults of the body.

**Trying again.** A 429 or 503 says in `Retry-After` after how many seconds. Where the detail of a 503 says that the outcome \
is unknown, look before you send a change again; a registration with an `Idempotency-Key` can be sent again as it is.

**Every answer** has an `X-Request-ID`, under which the log has more, and is kept by no cache.

Any path that names nothing is answered with 404 (`not-found`), and a method that a resource has not with 405 \
(`method-not-allowed`).

| Problem | Status | What it is |
| --- | --- | --- |
"""
