"""Sequences of forms that nobody meant, to every page there is, sent by somebody who has an account and wants another's.

Whatever is sent, no answer is a 5xx, no page holds what its template does not write, and the other account is as it was.
"""

import json
import logging
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pickguard.adapters.background import LoopDeferred
from pickguard.adapters.memory import MemoryAccounts
from tests.security.known_routes import MEANT, PAGES, THEIR_EMAIL
from tests.security.test_fuzz import ROUNDS, THEIR_PASSWORD
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, RecordedMail
from tests.support.http import EMAIL, Api, serving
from tests.support.pages import CHANGED, FORM, Browser, Page

HOSTILE: Final = (*json.loads(Path(__file__).with_name("hostile_texts.json").read_text()), "a" * 300, "\u00e9" * 300)
FIELDS: Final = ["name", "email", "password", "current_password", "token", "session", "next", "key"]
MEANT_FIELDS: Final = {
    **MEANT,
    "password": (GOOD_PASSWORD, OTHER_PASSWORD),
    "token": ("mailed", "pgm_x", ""),
    "session": ("mine", "theirs", "x"),
    "next": ("sessions", "https://evil.example"),
    "key": ("a", "b"),
}
OF_PAGE: Final = {
    "/account": ["name"],
    "/account/sign-up": ["name", "email", "password", "key"],
    "/account/sign-in": ["email", "password", "next"],
    "/account/password": ["password", "current_password"],
    "/account/address": ["email", "current_password"],
    "/account/sessions/end": ["session"],
    "/account/delete": ["password"],
    "/account/verify": ["token"],
    "/account/decline": ["token"],
    "/account/forgot": ["email"],
    "/account/reset": ["token", "password"],
}
FORMS: Final = sorted(path for method, path in PAGES if method == "POST")
texts = st.sampled_from(HOSTILE) | st.text(max_size=40)


def fields_of(path: str) -> st.SearchStrategy[list[tuple[str, str]]]:
    meant = st.fixed_dictionaries({name: st.sampled_from(MEANT_FIELDS[name]) for name in OF_PAGE.get(path, [])})
    odd = st.lists(st.tuples(st.sampled_from(FIELDS) | texts, texts), max_size=3)
    return st.one_of(
        meant.map(lambda it: list(it.items())), meant.map(lambda it: list(it.items())), st.tuples(meant, odd).map(_joined), odd
    )


def _joined(both: tuple[dict[str, Any], list[tuple[str, str]]]) -> list[tuple[str, str]]:
    return list({**both[0], **dict(both[1])}.items())


@attrs.frozen(kw_only=True)
class Request:
    """A form before it is known what the ids and the code are."""

    path: str
    fields: list[tuple[str, str]]
    raw: bytes | None
    headers: dict[str, str]
    query: str


some_headers = st.sampled_from(
    [
        *[CHANGED] * 6,
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "null"},
        {**CHANGED, "Content-Type": "text/plain"},
        {**CHANGED, "Content-Type": f"{FORM}; charset=utf-16"},
        {**CHANGED, "Cookie": "__Host-pickguard=x; __Host-pickguard=y"},
        {**CHANGED, "Expect": "100-continue"},
    ]
)
requests = st.sampled_from(FORMS).flatmap(
    lambda path: st.builds(
        Request,
        path=st.just(path),
        fields=fields_of(path),
        raw=st.none() | st.none() | st.binary(max_size=80),
        headers=some_headers,
        query=st.sampled_from(["", "?done=password", "?done=%ff&done=x", "?next=//evil.example", "?%00"]),
    )
)


class Intruder:
    """Somebody with an account, who knows of another account what others may know."""

    def __init__(self, api: Api, mail: RecordedMail, deferred: LoopDeferred) -> None:
        self._api = api
        self._mail = mail
        self._deferred = deferred
        self._browser = Browser(api)

    async def begin(self) -> None:
        self._their_token = await self._api.sign_up(name="Grace", email=THEIR_EMAIL, password=THEIR_PASSWORD)
        self._theirs = await self._account_of_theirs()
        await self._api.register()
        await self._browser.sign_in()

    async def _account_of_theirs(self) -> tuple[Any, Any]:
        return await self._api.me(self._their_token), await self._api.sessions(self._their_token)

    async def send(self, request: Request) -> None:
        await self._deferred.drain()
        mine = [getattr(each, "token", "") for each in self._mail.mails if each.to.value != THEIR_EMAIL]
        known = {"mailed": mine[-1] if mine else "", "theirs": self._theirs[1][0]["id"]}
        body = "&".join(f"{_quoted(name)}={_quoted(known.get(value, value))}" for name, value in request.fields)
        data = body.encode() if request.raw is None else request.raw
        page = await self._browser.send(f"{request.path}{request.query}", data, request.headers)
        self._judge(page)
        for path in ("/account", "/account/sessions", "/account/sign-in"):
            self._judge(await self._browser.get(f"{path}{request.query}"))
        if self._browser.token is None:  # signed out, or gone
            sent = {"email": EMAIL, "password": GOOD_PASSWORD}
            await self._browser.post("sign-in", sent)

    def _judge(self, page: Page) -> None:
        assert page.status < 500, page
        assert THEIR_PASSWORD not in page.text
        if page.status == 303:
            assert "evil" not in page.location

    async def end(self) -> None:
        assert await self._account_of_theirs() == self._theirs
        assert (await self._api.try_log_in(THEIR_EMAIL, THEIR_PASSWORD)).status == 201


def _quoted(text: str) -> str:
    return quote_plus(text, errors="replace")


@pytest.mark.requirement(15, 38, 42, 80, 82)
@given(sent=st.lists(requests, min_size=1, max_size=5))
@settings(
    max_examples=25 * ROUNDS, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
async def test_whatever_forms_are_sent_in_whatever_order_they_harm_nobody(
    caplog: pytest.LogCaptureFixture, sent: list[Request]
) -> None:
    caplog.clear()
    mail = RecordedMail()
    async with (
        LoopDeferred(pauses=(), spread=timedelta(0)) as deferred,
        serving(MemoryAccounts(), mailer=mail, deferred=deferred) as api,
    ):
        intruder = Intruder(api, mail, deferred)
        await intruder.begin()
        for request in sent:
            await intruder.send(request)
        await intruder.end()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
