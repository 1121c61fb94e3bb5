"""What is known of each route: the class of its body, None where it reads none, and what a success looks like.

A route that is not here fails a test, so that whatever goes over all routes goes over new ones as well.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from pickguard.entrypoints.http.routes import routes
from pickguard.entrypoints.http.schemas import (
    ChangeBody,
    LogInBody,
    MailedTokenBody,
    ReauthenticationBody,
    RegistrationBody,
    ResetBody,
    ResetRequestBody,
    RestorationBody,
)
from pickguard.entrypoints.pages.routes import MAIL_PAGE_ROUTES, PAGE_ROUTES
from pickguard.entrypoints.settings import Settings
from tests.contracts.http_api import LOG_IN_MEMBERS, SESSION_MEMBERS, USER_MEMBERS
from tests.contracts.http_rights import EXPORT_MEMBERS
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD
from tests.support.http import EMAIL, NAME

THEIR_EMAIL: Final = "grace@example.com"
"""The address of somebody else's account."""

Check = Callable[[Any], object]


def has(members: set[str], **inner: Check) -> Check:
    """Return a check that an object has exactly these members; of some of them more is known."""

    def check(content: Any) -> None:
        assert set(content) == members
        for name, more in inner.items():
            more(content[name])

    return check


def each(check: Check) -> Check:
    def check_all(content: Any) -> None:
        for item in content:
            check(item)

    return check_all


def is_user(content: Any) -> None:
    """Check a User, who has one member more where there is mail."""
    assert set(content) in (USER_MEMBERS, {*USER_MEMBERS, "pending_email"})


USER: Final = is_user
ACTIVITY: Final = has({"activity"}, activity=each(has({"event", "at", "ip", "user_agent", "count"})))
SESSION: Final = has(SESSION_MEMBERS)
LOG_IN: Final = has(LOG_IN_MEMBERS, user=USER, session=SESSION)
EXPORT: Final = has(EXPORT_MEMBERS)
STATUS: Final = has({"status"})
NOTHING: Final = None
EVERY: Final = [(method, path) for method, path, _ in routes(Settings(mail="console:"))]
"""Every route of the API that there can be."""
PAGES: Final = [(method, path) for method, path, _ in (*PAGE_ROUTES, *MAIL_PAGE_ROUTES)]
"""Every route of the account pages; what they read and give, tests/integration/test_pages.py knows."""


def anything(_: object) -> None:
    """Check nothing: what is described is checked of every answer, by `tests.support.http`."""


@attrs.frozen
class Route:
    """What a route reads and gives."""

    body: type | None
    status: int
    success: Check | None


KNOWN: Final[Mapping[tuple[str, str], Route]] = {
    ("POST", "/v1/users"): Route(RegistrationBody, 201, USER),
    ("GET", "/v1/users/me"): Route(None, 200, USER),
    ("PATCH", "/v1/users/me"): Route(ChangeBody, 200, USER),
    ("DELETE", "/v1/users/me"): Route(None, 204, NOTHING),
    ("GET", "/v1/users/me/activity"): Route(None, 200, ACTIVITY),
    ("GET", "/v1/users/me/export"): Route(None, 200, EXPORT),
    ("POST", "/v1/account-restorations"): Route(RestorationBody, 201, LOG_IN),
    ("POST", "/v1/email-verifications"): Route(None, 202, NOTHING),
    ("POST", "/v1/email-verifications/confirm"): Route(MailedTokenBody, 204, NOTHING),
    ("POST", "/v1/email-verifications/decline"): Route(MailedTokenBody, 204, NOTHING),
    ("POST", "/v1/password-resets"): Route(ResetRequestBody, 202, NOTHING),
    ("POST", "/v1/password-resets/confirm"): Route(ResetBody, 204, NOTHING),
    ("POST", "/v1/sessions"): Route(LogInBody, 201, LOG_IN),
    ("GET", "/v1/sessions"): Route(None, 200, has({"sessions"}, sessions=each(SESSION))),
    ("DELETE", "/v1/sessions"): Route(None, 204, NOTHING),
    ("GET", "/v1/sessions/current"): Route(None, 200, SESSION),
    ("DELETE", "/v1/sessions/current"): Route(None, 204, NOTHING),
    ("POST", "/v1/sessions/current/reauthentication"): Route(ReauthenticationBody, 200, LOG_IN),
    ("DELETE", "/v1/sessions/{id}"): Route(None, 204, NOTHING),
    ("GET", "/livez"): Route(None, 200, STATUS),
    ("GET", "/readyz"): Route(None, 200, STATUS),
    ("GET", "/problems"): Route(None, 200, anything),
    ("GET", "/problems/{slug}"): Route(None, 200, anything),
    ("GET", "/openapi.json"): Route(None, 200, anything),
    ("GET", "/docs"): Route(None, 200, anything),
    ("GET", "/docs/{file}"): Route(None, 200, anything),
}
MEANT: Final[Mapping[str, Sequence[str]]] = {
    "name": ("Ada", NAME, "Zoë"),
    "email": (EMAIL, THEIR_EMAIL, "new@example.com", "ADA@EXAMPLE.COM"),
    "password": (GOOD_PASSWORD, OTHER_PASSWORD, "yet another good phrase"),
    "current_password": (GOOD_PASSWORD, OTHER_PASSWORD),
}
"""What a member is meant to hold. One that is not named here holds only what it is not meant to."""


def members(route: Route) -> list[str]:
    """Return the names of the members of a route's body."""
    return [field.name for field in attrs.fields(route.body)] if route.body else []
