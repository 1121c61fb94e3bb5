"""The account pages as they are served: what people see, and what is refused."""

import asyncio
import json
import logging
import re
import ssl
from collections.abc import AsyncGenerator
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlencode

import attrs
import pytest

from pickguard.adapters.memory import MemoryAccounts, MemoryReceipts
from pickguard.adapters.memory_limits import MemoryRateLimiter, Unlimited
from pickguard.domain.model.accounts import Account
from pickguard.domain.model.errors import OutcomeUnknown, StoreUnavailable
from pickguard.domain.model.limits import LimitRules, Rate
from pickguard.domain.model.mail import AlreadyRegistered, ConfirmNewAddress, ResetPassword, VerifyAddress
from pickguard.domain.model.sessions import SessionRules
from pickguard.domain.services.registration import RegistrationMode
from pickguard.entrypoints.pages.routes import MAIL_PAGE_ROUTES, PAGE_ROUTES
from pickguard.entrypoints.tls import development_certificate, server_context
from pickguard.ports.accounts import Snapshot
from tests.contracts.http_mail import UNKNOWN_TOKEN, HttpMailContract, Post
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, FakeClock
from tests.support.http import EMAIL, NAME, PROBLEM, SETTINGS, Api, serving
from tests.support.pages import CHANGED, FORM, Browser, Page
from tests.support.serving import run_to_end

GRACE = "grace@example.com"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605 Version/17.5 Safari/604.1"
HOSTILE = [
    *json.loads((Path(__file__).parents[1] / "security" / "hostile_texts.json").read_text()),
    *("<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "{{7*7}}{% raise %}", "{email} {service}", "a</title>"),
]
FORMS = [path for method, path, _ in (*PAGE_ROUTES, *MAIL_PAGE_ROUTES) if method == "POST"]
MAIL_PATHS = {path for _, path, _ in MAIL_PAGE_ROUTES}


class Failing(MemoryAccounts):
    """A store that fails when a test says so."""

    error: Exception | None = None
    writes_fail = False

    async def get(self, user_id: object) -> Snapshot | None:
        if self.error is not None and not self.writes_fail:
            raise self.error
        return await super().get(user_id)  # type: ignore[arg-type]

    async def remove(self, snapshot: Snapshot, *, operation: bytes) -> None:
        if self.error is not None:
            raise self.error
        await super().remove(snapshot, operation=operation)


@pytest.fixture
def accounts() -> Failing:
    return Failing()


@pytest.fixture
async def api(accounts: Failing, clock: FakeClock) -> AsyncGenerator[Api]:
    """The pages without mail."""
    async with serving(accounts, clock=clock) as api:
        yield api


@pytest.fixture
async def post() -> AsyncGenerator[Post]:
    """The pages with mail."""
    async with HttpMailContract.serve(MemoryAccounts(), MemoryReceipts(), Unlimited()) as post:
        yield post


@pytest.fixture
async def private() -> AsyncGenerator[Post]:
    """The pages with private registration and limits."""
    accounts, limiter = MemoryAccounts(), MemoryRateLimiter()
    async with HttpMailContract.serve(accounts, MemoryReceipts(), limiter, mode=RegistrationMode.PRIVATE) as post:
        yield post


@pytest.fixture
def browser(api: Api) -> Browser:
    return Browser(api, User_Agent=FIREFOX)


# Signing up, in and out


@pytest.mark.requirement(86, 88)
async def test_somebody_signs_up_out_and_in(browser: Browser) -> None:
    page = await browser.sign_up()
    assert (page.heading, page.notice) == ("Profile", "Your account is ready.")
    assert page.values["name"] == NAME
    assert EMAIL in page.text
    first = browser.token
    out = await browser.follow(await browser.post("sign-out"))
    assert (out.heading, out.notice) == ("Sign in", "You are signed out.")
    assert browser.token is None
    assert first is not None
    assert not await browser.api.opens(first)
    assert (await browser.get()).location == "/account/sign-in"
    assert (await browser.sign_in()).heading == "Profile"
    assert browser.token != first


async def test_a_sign_up_shows_every_fault_beside_its_field(browser: Browser) -> None:
    page = await browser.post("sign-up", name=" ", email="nobody", password="short", key="")
    assert page.status == 422
    assert list(page.faults) == ["name", "email", "password"]
    assert page.faults["password"] == "This is too short. Use 8 characters or more."
    assert page.values == {**page.values, "name": " ", "email": "nobody", "password": ""}
    assert [each.attributes["name"] for each in page.focused] == ["name"]
    assert page.tagged("title")[0].text.startswith("Error: Sign up")
    assert browser.token is None


async def test_an_address_that_is_taken_is_told_beside_the_field(browser: Browser) -> None:
    await browser.api.register()
    page = await browser.post("sign-up", name="Eve", email="ADA@example.com", password=OTHER_PASSWORD, key="")
    assert page.status == 409
    assert page.faults == {"email": "This address has an account already."}


async def test_a_form_that_is_sent_twice_makes_one_account_and_signs_in_twice(browser: Browser) -> None:
    form = (await browser.get("sign-up")).values
    sent = {**form, "name": NAME, "email": EMAIL, "password": GOOD_PASSWORD}
    one, other = await asyncio.gather(browser.post("sign-up", sent), browser.post("sign-up", sent))
    assert one.location == other.location == "/account?done=welcome"
    again = await Browser(browser.api).post("sign-up", {**sent, "email": GRACE})
    assert (again.status, again.alert) == (
        422,
        "That form was sent before with other content. Look it through and send it once more.",
    )
    assert again.values["key"] != form["key"]
    assert (await Browser(browser.api).get("sign-up")).values["key"] not in {form["key"], again.values["key"]}


async def test_nobody_signs_up_where_registration_is_closed(accounts: Failing) -> None:
    async with serving(accounts, mode=RegistrationMode.CLOSED) as api:
        browser = Browser(api)
        assert "/account/sign-up" not in (await browser.get("sign-in")).links
        shown = await browser.get("sign-up")
        sent = await browser.post("sign-up", name=NAME, email=EMAIL, password=GOOD_PASSWORD)
        assert [shown.status, sent.status] == [403, 403]
        assert shown.heading == sent.heading == "Sign-up is closed"
        assert (await api.try_log_in()).status == 401


async def test_private_sign_up_tells_nobody_which_addresses_have_an_account(private: Post) -> None:
    browser = Browser(private.api)
    sent = {"name": NAME, "email": EMAIL, "password": GOOD_PASSWORD}
    first = await browser.post("sign-up", sent)
    second = await Browser(private.api).post("sign-up", {**sent, "password": OTHER_PASSWORD})
    assert first.location == second.location == "/account/sign-up?done=check-mail"
    assert browser.token is None
    assert (await browser.follow(first)).heading == "Check your mail"
    await private.deferred.drain()
    assert len(private.mail.of(VerifyAddress)) == len(private.mail.of(AlreadyRegistered)) == 1
    before = await browser.post("sign-in", email=EMAIL, password=GOOD_PASSWORD)
    unknown = await browser.post("sign-in", email=GRACE, password=GOOD_PASSWORD)
    assert before.status == unknown.status == 401
    assert before.text.replace(EMAIL, "") == unknown.text.replace(GRACE, "")
    verified = await browser.post("verify", token=private.mail.last(VerifyAddress).token)
    assert verified.location == "/account?done=verified"
    landed = await browser.follow(verified)
    assert landed.location == "/account/sign-in?done=verified"
    assert (await browser.follow(landed)).notice == "Your e-mail address is confirmed."
    assert (await browser.sign_in()).heading == "Profile"


@pytest.mark.parametrize(
    "given",
    [
        {"email": EMAIL, "password": OTHER_PASSWORD},
        {"email": GRACE, "password": GOOD_PASSWORD},
        {"email": "no address", "password": GOOD_PASSWORD},
        {"email": EMAIL, "password": "x"},
        {"email": "\x00", "password": "\x00"},
    ],
)
async def test_every_sign_in_that_fails_is_told_alike(browser: Browser, given: dict[str, str]) -> None:
    await browser.api.register()
    page = await browser.post("sign-in", given)
    assert (page.status, page.alert) == (401, "The e-mail address or the password is wrong.")
    assert page.faults == {}
    assert page.values == {"email": given["email"], "password": ""}
    assert [each.attributes.get("role") for each in page.focused] == ["alert"]


async def test_a_sign_in_without_fields_names_them(browser: Browser) -> None:
    page = await browser.send("sign-in", b"", CHANGED)
    assert page.status == 422
    assert page.faults == {"email": "Fill this in.", "password": "Fill this in."}
    too_long = await browser.post("sign-in", email="a" * 255, password="b" * 257)
    assert too_long.status == 422
    assert set(too_long.faults) == {"email", "password"}


async def test_whoever_is_signed_in_is_led_to_the_profile(browser: Browser) -> None:
    await browser.sign_up()
    assert (await browser.get("sign-in")).location == "/account"
    assert (await browser.get("sign-in?next=sessions")).location == "/account/sessions"
    assert (await browser.get("sign-up")).location == "/account"


async def test_another_sign_in_ends_the_session_that_the_browser_had(browser: Browser) -> None:
    await browser.sign_up()
    first = browser.token
    await browser.sign_in()
    assert first is not None
    assert not await browser.api.opens(first)
    assert len(await browser.api.sessions(str(browser.token))) == 1


async def test_another_sign_up_ends_the_session_that_the_browser_had(browser: Browser) -> None:
    await browser.sign_up()
    first = str(browser.token)
    await browser.post("sign-up", name="Grace", email=GRACE, password=GOOD_PASSWORD)
    assert browser.token != first
    assert not await browser.api.opens(first)


async def test_a_token_that_opens_nothing_is_in_no_sign_ins_way(browser: Browser) -> None:
    await browser.api.register()
    browser.token = "pg_garbage"
    assert (await browser.post("sign-in", email=EMAIL, password=GOOD_PASSWORD)).location == "/account?done=signed-in"
    assert await browser.api.opens(str(browser.token))


async def test_a_session_that_cannot_be_ended_is_in_no_sign_ins_way(browser: Browser, accounts: Failing) -> None:
    await browser.sign_up()
    save = accounts.save

    async def then_fail(before: Snapshot, after: Account, *, operation: bytes) -> None:
        await save(before, after, operation=operation)
        accounts.error = StoreUnavailable("down")

    accounts.save = then_fail  # type: ignore[method-assign]
    page = await browser.post("sign-in", email=EMAIL, password=GOOD_PASSWORD)
    assert page.location == "/account?done=signed-in"
    accounts.error = None
    assert await browser.api.opens(str(browser.token))


async def test_who_has_a_token_that_opens_nothing_is_signed_out(browser: Browser) -> None:
    browser.token = "pg_garbage"
    assert (await browser.post("sign-out")).location == "/account/sign-in?done=signed-out"
    assert browser.token is None


async def test_space_around_an_address_is_left_out(browser: Browser) -> None:
    await browser.api.register()
    assert (await browser.sign_in(f" {EMAIL} ")).heading == "Profile"


async def test_a_sign_out_has_no_fields(browser: Browser) -> None:
    await browser.sign_up()
    assert (await browser.post("sign-out", everywhere="yes")).status == 400
    assert (await browser.get()).heading == "Profile"


@pytest.mark.parametrize("page", ["", "password", "address", "sessions", "activity", "export", "delete"])
async def test_a_sign_in_leads_back_to_where_somebody_wanted_to_go(browser: Browser, page: str) -> None:
    await browser.api.register()
    asked = await browser.get(page)
    form = await browser.follow(asked)
    assert form.values.get("next", "") == page
    wrong = await browser.post("sign-in", {**form.values, "email": EMAIL, "password": OTHER_PASSWORD})
    done = await browser.post("sign-in", {**wrong.values, "email": EMAIL, "password": GOOD_PASSWORD})
    assert done.location.partition("?")[0] == (f"/account/{page}" if page else "/account")
    assert (await browser.follow(done)).status == 200


@pytest.mark.requirement(89)
@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "../v1/users",
        "sign-out",
        "activity%0d%0a",
        "\x00",
        "x" * 2000,
        "__class__",
        "__doc__",
    ],
)
async def test_nothing_leads_elsewhere(browser: Browser, elsewhere: str) -> None:
    await browser.api.register()
    assert (await browser.get(f"?done={quote(elsewhere)}")).location == "/account/sign-in"
    asked = f"sign-in?next={quote(elsewhere)}&done={quote(elsewhere)}"
    form = await browser.get(asked)
    assert (form.values.get("next", ""), form.notice) == ("", "")
    sent = await browser.post("sign-in", email=EMAIL, password=GOOD_PASSWORD, next=elsewhere)
    assert sent.location == "/account?done=signed-in"
    assert (await browser.get(asked)).location == "/account"
    assert (await browser.get(f"?done={quote(elsewhere)}")).notice == ""


async def test_a_browser_that_keeps_no_cookie_is_told_so(browser: Browser) -> None:
    await browser.api.register()
    done = await browser.post("sign-in", email=EMAIL, password=GOOD_PASSWORD)
    browser.token = None
    page = await browser.follow(await browser.follow(done))
    assert "did not keep the cookie" in page.notice


async def test_a_session_that_has_ended_leads_to_the_sign_in(browser: Browser, clock: FakeClock) -> None:
    await browser.sign_up()
    clock.advance(timedelta(days=14))
    ended = await browser.get("sessions")
    assert ended.location == "/account/sign-in?next=sessions&done=expired"
    assert browser.token is None
    assert "Sign in again" in (await browser.follow(ended)).notice
    for path in ("", "password", "address", "export", "delete", "sessions/end", "sessions/end-others"):
        assert (await browser.post(path, name="x")).location == "/account/sign-in"
    assert (await browser.post("sign-out")).location == "/account/sign-in?done=signed-out"


# The cookie


@pytest.mark.requirement(86)
async def test_the_cookie_lasts_as_long_as_the_session_can(accounts: Failing, clock: FakeClock) -> None:
    rules = SessionRules(lifetime=timedelta(days=3), idle=timedelta(days=1))
    async with serving(accounts, clock=clock, session_rules=rules) as api:
        browser = Browser(api)
        await browser.sign_up()
        (line,) = browser.set_cookies
        attributes = line.split("; ", 1)[1]
        assert sorted(attributes.split("; ")) == ["HttpOnly", "Max-Age=259200", "Path=/", "SameSite=Lax", "Secure"]
        # What has been used stays; the session's own limits say when it ends, whatever the cookie says.
        clock.advance(timedelta(hours=23))
        assert (await browser.get()).status == 200
        assert len(browser.set_cookies) == 1


@pytest.mark.parametrize(("used", "left"), [(timedelta(hours=23), 176_400), (timedelta(days=3, milliseconds=-500), 1)])
async def test_a_new_token_of_an_old_session_lasts_no_longer(
    accounts: Failing, clock: FakeClock, used: timedelta, left: int
) -> None:
    rules = SessionRules(lifetime=timedelta(days=3), idle=timedelta(days=3))
    async with serving(accounts, clock=clock, session_rules=rules) as api:
        browser = Browser(api)
        await browser.sign_up()
        clock.advance(used)
        accounts.error, accounts.writes_fail = StoreUnavailable("down"), True
        assert (await browser.post("delete", password=GOOD_PASSWORD)).status == 503
        assert f"Max-Age={left}" in browser.set_cookies[-1].split("; ")


@pytest.mark.requirement(86)
async def test_the_cookie_opens_the_pages_and_not_the_api(browser: Browser) -> None:
    await browser.sign_up()
    cookie = {"Cookie": f"__Host-pickguard={browser.token}"}
    for method, path in [
        ("GET", "/v1/users/me"),
        ("GET", "/v1/sessions"),
        ("DELETE", "/v1/users/me"),
        ("DELETE", "/v1/sessions"),
    ]:
        answer = await browser.api.call(method, path, headers={**cookie, **CHANGED})
        assert answer.outcome == (401, "authentication-required")
    bearer = await browser.api.call("GET", "/account", headers={"Authorization": f"Bearer {browser.token}"})
    assert (bearer.status, bearer.headers["Location"]) == (303, "/account/sign-in")


@pytest.mark.parametrize(
    "value", ["", "x", "pg_", "pg_" + "A" * 72, '"', "\xff\xfe", "a" * 4000, "=;,=", "pgm_" + "A" * 64 + "c81fa14b"]
)
async def test_a_cookie_of_somebody_elses_making_opens_nothing(browser: Browser, value: str) -> None:
    page = await browser.get(headers={"Cookie": f"__Host-pickguard={value}"})
    assert page.location.startswith("/account/sign-in")
    page = await browser.get("sign-in", headers={"Cookie": f"__Host-pickguard={value}; other=1"})
    assert page.heading == "Sign in"


# Requests that other sites cause

FOREIGN: list[dict[str, str]] = [
    {},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "Same-Origin"},
    {"Sec-Fetch-Site": ""},
    {"Sec-Fetch-Site": "cross-site", "Origin": "OWN"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "https://evil.example"},
    {"Origin": "http://HOST.evil.example"},
    {"Origin": "http://evil.example/OWN"},
    {"Origin": "OWN x"},
    {"Origin": "OWN/x"},
    {"Origin": "ftp://HOST"},
    {"Origin": "HOST"},
    {"Referer": "OWN/account/sign-in"},
]
OWN: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "OWN"},
    {"Origin": "https://HOST"},  # a proxy has ended TLS
]


def from_(api: Api, headers: dict[str, str]) -> dict[str, str]:
    host = f"127.0.0.1:{api.port}"
    return {name: value.replace("OWN", f"http://{host}").replace("HOST", host) for name, value in headers.items()}


@pytest.mark.requirement(51)
@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_what_another_site_sends_does_nothing(post: Post, headers: dict[str, str]) -> None:
    browser = Browser(post.api)
    await browser.sign_up()
    before = await browser.get()
    sent = from_(post.api, headers)
    fields = {"name": "Eve", "email": EMAIL, "password": GOOD_PASSWORD}
    for path in FORMS:
        page = await browser.send(path, urlencode(fields).encode(), sent)
        assert (page.status, page.heading) == (403, "This request came from somewhere else"), path
        assert "Set-Cookie" not in page.answer.headers
    assert (await browser.get()).text == before.text
    assert (await browser.sign_in()).heading == "Profile"


@pytest.mark.parametrize("headers", OWN, ids=str)
async def test_what_an_own_page_sends_is_done(browser: Browser, headers: dict[str, str]) -> None:
    await browser.sign_up()
    page = await browser.send("", b"name=Countess", from_(browser.api, headers))
    assert page.location == "/account?done=name"


@pytest.mark.parametrize("name", ["Sec-Fetch-Site", "Origin"])
async def test_a_header_that_is_there_twice_names_nobody(browser: Browser, name: str) -> None:
    await browser.sign_up()
    own = {"Sec-Fetch-Site": "same-origin", "Origin": f"http://127.0.0.1:{browser.api.port}"}[name]
    lines = f"Host: 127.0.0.1:{browser.api.port}\r\nContent-Type: {FORM}\r\nContent-Length: 0\r\n" + f"{name}: {own}\r\n" * 2
    head = "POST /account/sign-out HTTP/1.1\r\n"
    answer = await browser.api.raw(f"{head}{lines}\r\n".encode(), "POST")
    assert answer.status == 403


async def test_behind_a_proxy_the_public_url_is_an_own_origin_and_its_path_stands_before_links(accounts: Failing) -> None:
    settings = attrs.evolve(SETTINGS, public_url="https://example.com/id")
    async with serving(accounts, settings=settings) as api:
        browser = Browser(api)
        form = await browser.get("sign-in")
        assert "/id/account/sign-up" in form.links
        assert {each.attributes["action"] for each in form.tagged("form")} == {"/id/account/sign-in"}
        sent = urlencode({"name": NAME, "email": EMAIL, "password": GOOD_PASSWORD}).encode()
        for origin in ("http://example.com", "https://example.com:8443", "https://example.com.evil.example"):
            page = await browser.send("sign-up", sent, {"Origin": origin, "Host": "127.0.0.1:1"})
            assert page.status == 403
        page = await browser.send("sign-up", sent, {"Origin": "https://example.com", "Host": "127.0.0.1:1"})
        assert page.location == "/id/account?done=welcome"
        # Where people come by TLS, a page that came without it may be anybody's.
        own = f"http://127.0.0.1:{api.port}"
        assert (await browser.send("sign-in", sent, {"Origin": own})).status == 403


async def test_over_tls_a_page_that_came_without_it_is_another_site(accounts: Failing, tmp_path: Path) -> None:
    certificate, key = development_certificate(tmp_path, "127.0.0.1")
    tls = server_context(certificate, key), ssl.create_default_context(cafile=certificate)
    async with serving(accounts, tls=tls) as api:
        browser = Browser(api)
        await browser.sign_up()
        for scheme, status in (("http", 403), ("https", 303)):
            page = await browser.send("", b"name=x", {"Origin": f"{scheme}://127.0.0.1:{api.port}"})
            assert page.status == status, scheme


@pytest.mark.parametrize(
    ("public_url", "own", "other"),
    [
        ("https://example.com:443", "https://example.com", "https://example.com:444"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443", "https://[2001:db8::1]"),
    ],
)
async def test_the_public_url_is_an_origin_as_browsers_write_it(
    accounts: Failing, public_url: str, own: str, other: str
) -> None:
    async with serving(accounts, settings=attrs.evolve(SETTINGS, public_url=public_url)) as api:
        browser = Browser(api)
        await browser.sign_up()
        for origin, status in ((other, 403), (own, 303)):
            page = await browser.send("", b"name=x", {"Origin": origin, "Host": "127.0.0.1:1"})
            assert page.status == status, origin


# One's own account


async def test_a_name_is_changed(browser: Browser) -> None:
    await browser.sign_up()
    page = await browser.follow(await browser.post("", name="  Countess of Lovelace "))
    assert (page.notice, page.values["name"]) == ("Your name is changed.", "Countess of Lovelace")
    wrong = await browser.post("", name="x" * 101)
    assert wrong.status == 422
    assert set(wrong.faults) == {"name"}
    assert wrong.values["name"] == "x" * 101


@pytest.mark.requirement(87)
@pytest.mark.parametrize("name", HOSTILE)
async def test_whatever_somebody_is_called_is_shown_as_text(api: Api, name: str) -> None:
    agent = "<b>visit https://evil.example</b>"
    browser = Browser(api, User_Agent=agent)
    sent = name.encode("utf-8", "replace").decode()  # no form can hold half of a surrogate pair
    refused = await browser.post("sign-up", name=sent, email=sent, password="short")
    assert refused.status == 422
    await browser.sign_up()
    changed = await browser.post("", name=sent)
    pages = [refused, *[await browser.get(page) for page in ("", "sessions", "activity")]]
    if changed.status == 303:
        assert pages[1].values["name"] == (await browser.api.me(str(browser.token)))["name"]
    else:
        assert (changed.status, list(changed.faults)) == (422, ["name"])
        pages.append(changed)
    for page in pages:
        # What a page must not have at all, `Page.of` has looked for. This is for what it has already.
        assert {element.tag for element in page.elements} <= KNOWN_TAGS
        assert agent not in page.text
        assert "visit" not in page.text


KNOWN_TAGS = {
    *("html", "head", "meta", "title", "link", "script", "body", "a", "header", "div", "span", "form", "button", "nav", "ul"),
    *("li", "main", "p", "h1", "h2", "label", "input", "section", "dl", "dt", "dd", "time", "table", "thead", "tbody", "tr"),
    *("th", "td", "br", "strong", "code"),
}


async def test_a_new_password_ends_the_other_sessions(browser: Browser) -> None:
    await browser.sign_up()
    other = await browser.api.log_in()
    form = await browser.get("password")
    assert [each.attributes.get("autocomplete") for each in form.tagged("input")] == [
        "username",
        "current-password",
        "new-password",
    ]
    page = await browser.follow(await browser.post("password", password=OTHER_PASSWORD, current_password=GOOD_PASSWORD))
    assert page.notice == "Your password is changed, and every other session has ended."
    assert not await browser.api.opens(other)
    assert (await browser.api.try_log_in(EMAIL, OTHER_PASSWORD)).status == 201


@pytest.mark.parametrize(
    ("given", "faults"),
    [
        ({"password": "", "current_password": ""}, {"password", "current_password"}),
        ({"password": "short", "current_password": ""}, {"password", "current_password"}),
        ({"password": "x" * 257, "current_password": GOOD_PASSWORD}, {"password"}),
        ({"password": EMAIL, "current_password": GOOD_PASSWORD}, {"password"}),
        ({"password": OTHER_PASSWORD, "current_password": "wrong"}, {"current_password"}),
        ({"password": OTHER_PASSWORD, "current_password": "x" * 300}, {"current_password"}),
    ],
)
async def test_a_change_of_password_that_is_refused_says_which_field_is_wrong(
    browser: Browser, given: dict[str, str], faults: set[str]
) -> None:
    await browser.sign_up()
    page = await browser.post("password", given)
    assert page.status == 422
    assert set(page.faults) == faults
    assert page.values == {"password": "", "current_password": ""}
    assert (await browser.api.try_log_in()).status == 201


async def test_without_mail_another_address_counts_at_once(browser: Browser) -> None:
    await browser.sign_up()
    assert "at once" in (await browser.get("address")).text
    page = await browser.follow(await browser.post("address", email=f" {GRACE} ", current_password=GOOD_PASSWORD))
    assert page.notice == "Your e-mail address is changed."
    assert GRACE in page.text
    assert page.classed("tag") == []
    await browser.api.register()
    taken = await browser.post("address", email=EMAIL, current_password=GOOD_PASSWORD)
    assert (taken.status, list(taken.faults)) == (409, ["email"])
    wrong = await browser.post("address", email="nobody", current_password="")
    assert (wrong.status, list(wrong.faults)) == (422, ["email", "current_password"])
    assert wrong.values["email"] == "nobody"
    unproved = await browser.post("address", email="other@example.com", current_password=OTHER_PASSWORD)
    assert (unproved.status, list(unproved.faults)) == (422, ["current_password"])


async def test_with_mail_another_address_waits_for_its_confirmation(post: Post) -> None:
    browser = Browser(post.api)
    page = await browser.sign_up()
    assert "follow it to confirm your address" in page.notice
    assert page.classed("tag") == ["Not confirmed"]
    page = await browser.follow(await browser.post("address", email=GRACE, current_password=GOOD_PASSWORD))
    assert "mailed a link to the new address" in page.notice
    assert page.classed("tag") == ["Not confirmed", "Waiting for confirmation"]
    assert (await browser.follow(await browser.post("verification"))).notice == "If a mail is needed, it is on its way."
    token = await post.token(ConfirmNewAddress)
    confirmed = await browser.follow(await browser.post("verify", token=token))
    assert confirmed.notice == "Your e-mail address is confirmed."
    assert confirmed.classed("tag") == ["Confirmed"]
    assert (await post.api.me(str(browser.token)))["email"] == GRACE
    kept = await browser.follow(await browser.post("address", email=GRACE, current_password=GOOD_PASSWORD))
    assert kept.notice == "Your e-mail address stays as it is."


async def test_sessions_are_listed_and_ended(api: Api, clock: FakeClock) -> None:
    browser, phone, third = Browser(api, User_Agent=FIREFOX), Browser(api, User_Agent=PHONE), Browser(api)
    await browser.sign_up()
    clock.advance(timedelta(hours=1))
    await phone.sign_in()
    await third.sign_in()
    page = await browser.get("sessions")
    headings = [" ".join(each.text.split()) for each in page.tagged("h2")]
    assert headings[0] == "Firefox on Linux This device"
    assert sorted(headings[1:]) == ["A Python program", "Safari on an iPhone"]
    assert '<time datetime="2026-01-02T04:04:05Z">2 January 2026, 04:04 UTC</time>' in page.text
    (theirs,) = [each["id"] for each in await api.sessions(str(browser.token)) if each["user_agent"] == PHONE]
    labels = [each.attributes["aria-label"] for each in page.tagged("button") if "aria-label" in each.attributes]
    assert "Sign out Safari on an iPhone, signed in 2 January 2026, 04:04 UTC" in labels
    done = await browser.follow(await browser.post("sessions/end", session=theirs))
    assert (done.notice, len(done.tagged("h2"))) == ("That session has ended.", 2)
    assert (await phone.get()).location == "/account/sign-in?done=expired"
    for gone in (theirs, "", "x", "00000000-0000-0000-0000-000000000000"):
        page = await browser.post("sessions/end", session=gone)
        assert (page.status, page.alert) == (404, "That session has ended already.")
    alone = await browser.follow(await browser.post("sessions/end-others"))
    assert (alone.notice, len(alone.tagged("h2"))) == ("Every other session has ended.", 1)
    assert (await third.get()).location == "/account/sign-in?done=expired"


async def test_the_own_session_can_be_ended_from_the_list(browser: Browser) -> None:
    await browser.sign_up()
    (own,) = await browser.api.sessions(str(browser.token))
    page = await browser.post("sessions/end", session=own["id"])
    assert (await browser.follow(page)).location == "/account/sign-in?next=sessions&done=expired"


async def test_activity_says_what_happened_in_words(browser: Browser) -> None:
    await browser.sign_up()
    await browser.post("", name="Countess")
    page = await browser.get("activity")
    assert [" ".join(each.text.split()) for each in page.tagged("th")][3:] == ["Name changed", "Signed in", "Account made"]
    assert "Firefox on Linux" in page.text
    assert "127.0.0.1" in page.text


async def test_everything_that_is_kept_is_downloaded_by_whoever_proves_the_password(browser: Browser, clock: FakeClock) -> None:
    await browser.sign_up()
    clock.advance(timedelta(hours=1))  # so that the sign-in is no proof any more
    before = browser.token
    assert (await browser.post("export")).faults == {"password": "Fill this in."}
    wrong = await browser.post("export", password=OTHER_PASSWORD)
    assert (wrong.status, wrong.faults) == (422, {"password": "This is not your password."})
    saved = await browser.post("export", password=GOOD_PASSWORD)
    assert saved.status == 200
    assert saved.answer.headers["Content-Disposition"] == 'attachment; filename="account.json"'
    assert saved.answer.json()["user"]["email"] == EMAIL
    assert browser.token != before
    assert (await browser.get()).heading == "Profile"  # with the new token of the same session
    page = await browser.get("activity")
    assert "Data exported" in page.text


async def test_no_more_is_downloaded_than_is_allowed_and_the_session_stays(clock: FakeClock) -> None:
    async with serving(MemoryAccounts(now=clock.now), clock=clock, limiter=MemoryRateLimiter()) as api:
        browser = Browser(api)
        await browser.sign_up()
        for _ in range(10):
            assert (await browser.post("export", password=GOOD_PASSWORD)).status == 200
        refused = await browser.post("export", password=GOOD_PASSWORD)
        assert refused.status == 429
        assert refused.answer.headers["Retry-After"]
        assert refused.alert
        assert (await browser.get()).heading == "Profile"


async def test_an_account_is_deleted_by_whoever_proves_the_password(browser: Browser, clock: FakeClock) -> None:
    await browser.sign_up()
    clock.advance(timedelta(hours=1))  # so that the sign-in is no proof any more
    assert (await browser.post("delete")).faults == {"password": "Fill this in."}
    wrong = await browser.post("delete", password=OTHER_PASSWORD)
    assert (wrong.status, wrong.faults) == (422, {"password": "This is not your password."})
    assert (await browser.get()).status == 200
    gone = await browser.follow(await browser.post("delete", password=GOOD_PASSWORD))
    assert gone.notice == "Your account is deleted."
    assert browser.token is None
    assert (await browser.api.try_log_in()).status == 401
    await browser.api.register()


async def test_with_a_grace_somebody_who_signs_in_is_asked_and_can_keep_the_account(clock: FakeClock) -> None:
    async with serving(MemoryAccounts(now=clock.now), clock=clock, grace=timedelta(days=30)) as api:
        browser = Browser(api)
        await browser.sign_up()
        assert "are deleted in 30 days. Until then you can sign in and keep it." in (await browser.get("delete")).text
        deleted = await browser.follow(await browser.post("delete", password=GOOD_PASSWORD))
        assert deleted.notice == "Your account will be gone in 30 days. If you change your mind, sign in here before then."
        wrong = await browser.post("sign-in", email=EMAIL, password=OTHER_PASSWORD)
        assert (wrong.status, wrong.alert) == (401, "The e-mail address or the password is wrong.")
        asked = await browser.post("sign-in", email=EMAIL, password=GOOD_PASSWORD)
        assert asked.status == 403
        assert "gone for good on 1 February 2026, 03:04 UTC" in asked.alert
        assert "Sign in and keep the account" in asked.text
        assert browser.token is None
        done = await browser.post("sign-in", email=EMAIL, password=GOOD_PASSWORD, keep="yes")
        browser.token = None
        assert "did not keep the cookie" in (await browser.follow(await browser.follow(done))).notice
        kept = await browser.follow(await browser.post("sign-in", email=EMAIL, password=GOOD_PASSWORD, keep="yes"))
        assert (kept.heading, kept.notice) == ("Profile", "You keep your account.")
        clock.advance(timedelta(days=31))
        assert (await browser.sign_in()).heading == "Profile"


async def test_a_deletion_that_fails_halfway_leaves_the_session(browser: Browser, accounts: Failing) -> None:
    await browser.sign_up()
    before = browser.token
    accounts.error, accounts.writes_fail = OutcomeUnknown("no answer"), True
    page = await browser.post("delete", password=GOOD_PASSWORD)
    assert (page.status, page.heading) == (503, "Did that work?")
    accounts.error = None
    assert browser.token != before
    assert (await browser.get()).heading == "Profile"


# Links from mails


async def test_a_reset_by_mail(post: Post) -> None:
    await post.api.register()
    browser = Browser(post.api)
    assert "/account/forgot" in (await browser.get("sign-in")).links
    pages = [await browser.post("forgot", email=email) for email in (EMAIL, GRACE, "nobody", "\x00", "x" * 9000)]
    assert {page.location for page in pages} == {"/account/forgot?done=sent"}
    await post.token(ResetPassword)
    mailed = len(post.mail.of(ResetPassword))
    await browser.post("forgot", email=f" {EMAIL} ")
    await post.deferred.drain()
    assert len(post.mail.of(ResetPassword)) == mailed + 1
    told = await browser.follow(pages[0])
    assert told.heading == "Check your mail"
    assert "10 minutes" in told.text
    token = await post.token(ResetPassword)
    short = await browser.post("reset", token=token, password="short")
    assert (short.status, list(short.faults)) == (422, ["password"])
    assert short.values == {"token": token, "password": ""}  # it is good still
    guessable = await browser.post("reset", token=token, password=EMAIL)
    assert (guessable.status, list(guessable.faults)) == (422, ["password"])
    done = await browser.post("reset", token=f" {token} ", password=OTHER_PASSWORD)
    assert (await browser.follow(done)).notice == "Your password is changed. Sign in with it."
    spent = await browser.post("reset", token=token, password=GOOD_PASSWORD)
    assert (spent.status, list(spent.faults)) == (410, ["token"])
    assert token not in spent.text
    assert (await browser.sign_in(EMAIL, OTHER_PASSWORD)).heading == "Profile"


async def test_a_reset_signs_the_browser_out_of_whatever_account(post: Post) -> None:
    await post.api.register()
    browser = Browser(post.api)
    await browser.sign_up(name="Grace", email=GRACE)
    theirs = str(browser.token)
    await browser.post("forgot", email=EMAIL)
    done = await browser.post("reset", token=await post.token(ResetPassword), password=OTHER_PASSWORD)
    assert (await browser.follow(done)).notice == "Your password is changed. Sign in with it."
    assert not await post.api.opens(theirs)
    assert browser.token is None


@pytest.mark.parametrize("page", ["verify", "decline", "reset"])
async def test_to_look_at_a_link_uses_no_token(post: Post, page: str) -> None:
    browser = Browser(post.api)
    await browser.sign_up()
    token = await post.token(VerifyAddress)
    for method in ("GET", "HEAD"):
        for query in ("", f"?token={token}"):
            looked = await browser.get(f"{page}{query}", method=method)
            assert looked.status == 200
            assert token not in looked.text
    assert (await post.confirm(token)).status == 204


@pytest.mark.parametrize("page", ["verify", "decline"])
async def test_a_code_that_proves_nothing_is_told_beside_the_field(post: Post, page: str) -> None:
    browser = Browser(post.api)
    assert (await browser.post(page)).faults == {"token": "Fill this in."}
    for token in ("garbage", UNKNOWN_TOKEN, "\x00", "pg_x"):
        spent = await browser.post(page, token=token)
        assert (spent.status, list(spent.faults)) == (410, ["token"])
        assert spent.values == {"token": ""}


async def test_an_account_that_was_not_wanted_is_declined(post: Post) -> None:
    await post.api.register()
    browser = Browser(post.api)
    page = await browser.follow(await browser.post("decline", token=await post.token(VerifyAddress)))
    assert page.heading == "The account is deleted"
    await post.api.register()


async def test_somebody_else_was_quicker_to_confirm_the_address(post: Post) -> None:
    browser = Browser(post.api)
    await browser.sign_up()
    await browser.post("address", email=GRACE, current_password=GOOD_PASSWORD)
    token = await post.token(ConfirmNewAddress)
    await post.api.register(email=GRACE)
    page = await browser.post("verify", token=token)
    assert page.status == 409
    assert "has an account already" in page.text


async def test_without_mail_there_is_nothing_that_needs_it(browser: Browser) -> None:
    assert "/account/forgot" not in (await browser.get("sign-in")).links
    await browser.sign_up()
    for path in MAIL_PATHS:
        assert (await browser.get(path)).status == 404
        assert (await browser.post(path)).status == 404


# What is refused


async def test_limits_are_those_of_the_api(accounts: Failing, clock: FakeClock) -> None:
    limiter = MemoryRateLimiter(LimitRules(guesses=Rate(2, timedelta(minutes=15)), registrations=Rate(3, timedelta(hours=1))))
    async with serving(accounts, clock=clock, limiter=limiter) as api:
        browser = Browser(api)
        await browser.sign_up()
        for _ in range(2):
            assert (await browser.post("sign-in", email=GRACE, password=OTHER_PASSWORD)).status == 401
        page = await browser.post("sign-in", email=GRACE, password=OTHER_PASSWORD)
        assert page.status == 429
        assert re.fullmatch(r"That was tried too often. Wait \d+ minutes, then try again.", page.alert)
        assert (await browser.api.try_log_in(GRACE, OTHER_PASSWORD)).status == 429
        for number in (1, 2):
            sent = await browser.post("sign-up", name="x", email=f"a{number}@example.com", password=GOOD_PASSWORD, key="")
            assert sent.status == 303
        page = await browser.post("sign-up", name="x", email="c@example.com", password=GOOD_PASSWORD, key="")
        assert page.status == 429
        assert page.values["email"] == "c@example.com"


@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [
        (b"name=a&name=b", {}, 400),
        (b"name=a&role=admin", {}, 400),
        (b"name=%ff", {}, 400),
        (b"name=\xff", {}, 400),
        (b"name", {}, 400),
        (b"&&", {}, 400),
        (b"&".join(b"x=" for _ in range(1000)), {}, 400),
        (b"name=" + b"a" * 17_000, {}, 413),
        (b'{"name":"a"}', {"Content-Type": "application/json"}, 415),
        (b"name=a", {"Content-Type": "text/plain"}, 415),
        (b"name=a", {"Content-Type": f"{FORM}; charset=latin-1"}, 415),
        (b"name=a", {"Content-Encoding": "gzip"}, 415),
    ],
)
async def test_what_is_no_form_of_these_pages_is_refused(
    browser: Browser, data: bytes, headers: dict[str, str], status: int
) -> None:
    await browser.sign_up()
    page = await browser.send("", data, {**CHANGED, **headers})
    assert page.status == status
    assert page.answer.headers["X-Request-ID"] in page.text
    assert (await browser.get()).values["name"] == NAME


@pytest.mark.parametrize("path", sorted({path for _, path, _ in (*PAGE_ROUTES, *MAIL_PAGE_ROUTES)}))
async def test_a_page_has_its_methods_and_no_others(post: Post, path: str) -> None:
    allowed = {method for method, each, _ in (*PAGE_ROUTES, *MAIL_PAGE_ROUTES) if each == path}
    allowed |= {"HEAD"} if "GET" in allowed else set()
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - allowed:
        answer = await post.api.call(method, path, headers=CHANGED)
        assert answer.status == 405
        assert set(answer.headers["Allow"].split(",")) == allowed
        if path.startswith("/account") and method != "HEAD":
            assert Page.of(answer).heading == "There is no such page"


@pytest.mark.parametrize(
    "path", ["/account/", "/account/nowhere", "/account/sign-in/", "/account/../account/x", "/account/%ff"]
)
async def test_below_account_what_is_not_there_is_a_page(browser: Browser, path: str) -> None:
    page = Page.of(await browser.api.call("GET", path))
    assert (page.status, page.heading) == (404, "There is no such page")
    assert page.answer.headers["X-Request-ID"] in page.text


@pytest.mark.parametrize("path", ["/accounts", "/account.css", "/Account", "/v1/account", "/.well-known/account"])
async def test_elsewhere_it_is_a_problem(browser: Browser, path: str) -> None:
    answer = await browser.api.call("GET", path)
    assert (answer.status, answer.headers["Content-Type"]) == (404, PROBLEM)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StoreUnavailable("gone"), (503, "Not right now")),
        (OutcomeUnknown("no answer"), (503, "Did that work?")),
        (RuntimeError("a fault of ours, with a secret"), (500, "Something went wrong")),
    ],
)
async def test_a_failure_is_a_page_that_says_no_more_than_the_api(
    browser: Browser, accounts: Failing, error: Exception, told: tuple[int, str]
) -> None:
    await browser.sign_up()
    accounts.error = error
    page = await browser.post("", name="Countess")
    assert (page.status, page.heading) == told
    assert "secret" not in page.text
    assert page.answer.headers["X-Request-ID"] in page.text


async def test_no_secret_is_logged(post: Post, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    browser = Browser(post.api)
    await browser.sign_up()
    mailed = await post.token(VerifyAddress)
    secrets = [mailed, GOOD_PASSWORD, OTHER_PASSWORD, str(browser.token)]
    await browser.post("verify", token=mailed)
    await browser.post("password", password=OTHER_PASSWORD, current_password=GOOD_PASSWORD)
    await browser.send("sign-in", f"password={OTHER_PASSWORD}&password={OTHER_PASSWORD}".encode(), CHANGED)
    await browser.get(f"nowhere/{mailed}?token={mailed}")
    assert not any(secret in caplog.text for secret in secrets)


# What else there is


@pytest.mark.requirement(91)
async def test_password_managers_find_the_page_for_a_new_password(browser: Browser) -> None:
    page = await browser.get("/.well-known/change-password")
    assert page.location == "/account/password"
    assert (
        await browser.api.call("GET", "/.well-known/resource-that-should-not-exist-whose-status-code-should-not-be-200")
    ).status == 404


async def test_the_stylesheet_and_the_script_are_there(browser: Browser) -> None:
    style = await browser.api.call("GET", "/account/style.css")
    script = await browser.api.call("GET", "/account/script.js")
    assert (style.status, style.headers["Content-Type"]) == (200, "text/css; charset=utf-8")
    assert (script.status, script.headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")
    assert b"url(" not in style.body
    assert b"@import" not in style.body


async def test_without_pages_there_are_none(accounts: Failing) -> None:
    async with serving(accounts, settings=attrs.evolve(SETTINGS, no_pages=True)) as api:
        for method, path, _ in (*PAGE_ROUTES, *MAIL_PAGE_ROUTES):
            answer = await api.call(method, path, headers=CHANGED)
            assert answer.outcome == (HTTPStatus.NOT_FOUND, "not-found")
        await api.sign_up()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_templates_that_cannot_be_used_end_the_start_with_one_line(tmp_path: Path, workers: str) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/sign_in.html").write_text("{% if %}")
    line = ("serve", "--port", "0", "--data-dir", str(tmp_path / "data"), "--workers", workers, "--pages-templates", "own")
    status, output, errors = await run_to_end(*line, cwd=tmp_path)
    assert (status, output) == (1, "")
    last = errors.strip().splitlines()[-1]
    assert "--pages-templates: " in last
    assert "sign_in.html, line 1" in last
    assert "Traceback" not in errors


async def test_a_package_that_the_pages_miss_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "aiohttp_jinja2.py").write_text("raise ModuleNotFoundError('gone', name='aiohttp_jinja2')\n")
    line = ("serve", "--port", "0", "--no-tls", "--store", "memory:")
    status, output, errors = await run_to_end(*line, environment={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path)
    assert (status, output) == (1, "")
    assert errors == (
        "pickguard: the package aiohttp_jinja2 is not installed: the account pages need pickguard[server]; "
        "--no-pages does without\n"
    )
