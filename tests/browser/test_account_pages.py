"""The account pages in Chromium: whole journeys, with scripts and without, and what every page must be like."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from playwright.async_api import Page, Request, Route, expect

from pickguard.adapters.memory import MemoryAccounts
from pickguard.domain.model.mail import ConfirmNewAddress, ResetPassword, VerifyAddress
from tests.support.browser import running_browser
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD
from tests.support.http import SETTINGS, serving
from tests.support.page_tour import DESKTOP, EMAIL, NAME, PHONE, Stage, opened_stage, tour
from tests.support.serving import serving as running

GRACE = "grace@example.com"
SCRIPTS = pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])
VIEWPORTS = pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])


@attrs.define
class Seen:
    """What a browser complained about, and what it asked for."""

    complaints: list[str] = attrs.field(factory=list)
    requests: list[Request] = attrs.field(factory=list)

    def watch(self, page: Page) -> Page:
        page.on("pageerror", lambda error: self.complaints.append(f"script: {error}"))
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("request", lambda request: self.requests.append(request))  # noqa: PLW0108 (it marks what it is given)
        return page

    def _note(self, kind: str, text: str) -> None:
        # That a page came with a status of 4xx is what the test asked for.
        if kind in {"error", "warning"} and "the server responded with a status of 4" not in text:
            self.complaints.append(f"{kind}: {text}")


@pytest.fixture
def seen() -> Seen:
    return Seen()


async def opened(stage: Stage, seen: Seen, **options: Any) -> Page:
    """Return a page of a new visitor."""
    return seen.watch(await (await stage.visitor(**options)).new_page())


async def sign_up(page: Page) -> None:
    await page.goto("/account/sign-up")
    await page.get_by_label("Name").fill(NAME)
    await page.get_by_label("E-mail address").fill(EMAIL)
    await page.get_by_label("Password", exact=True).fill(GOOD_PASSWORD)
    await page.get_by_role("button", name="Make the account").click()
    await expect(page.get_by_role("heading", name="Profile")).to_be_visible()


@pytest.mark.requirement(90)
@SCRIPTS
async def test_the_life_of_an_account(stage: Stage, seen: Seen, scripts: bool) -> None:  # noqa: FBT001, PLR0915 (a journey)
    page = await opened(stage, seen, scripts=scripts)
    await sign_up(page)
    await expect(page.get_by_role("status")).to_contain_text("Your account is ready")

    await stage.deferred.drain()
    token = stage.mail.last(VerifyAddress).token
    await page.goto(f"/account/verify#token={token}")
    if not scripts:
        await page.get_by_label("Code from the mail").fill(token)
    await page.get_by_role("button", name="Confirm the address").click()
    await expect(page.get_by_role("status")).to_have_text("Your e-mail address is confirmed.")
    await expect(page.get_by_text("Confirmed", exact=True)).to_be_visible()

    await page.get_by_label("Name").fill("Countess of Lovelace")
    await page.get_by_role("button", name="Save the name").click()
    await expect(page.get_by_role("status")).to_have_text("Your name is changed.")

    await page.get_by_role("link", name="Change the address").click()
    await page.get_by_label("New e-mail address").fill(GRACE)
    await page.get_by_label("Current password").fill(GOOD_PASSWORD)
    await page.get_by_role("button", name="Change the address").click()
    await expect(page.get_by_text("Waiting for confirmation")).to_be_visible()
    token = stage.mail.last(ConfirmNewAddress).token
    await page.goto(f"/account/verify#token={token}")
    if not scripts:
        await page.get_by_label("Code from the mail").fill(token)
    await page.get_by_role("button", name="Confirm the address").click()
    await expect(page.get_by_text(GRACE)).to_be_visible()

    await page.get_by_role("link", name="Password", exact=True).click()
    await page.get_by_label("Current password").fill(GOOD_PASSWORD)
    await page.get_by_label("New password").fill(OTHER_PASSWORD)
    await page.get_by_role("button", name="Change the password").click()
    await expect(page.get_by_role("status")).to_contain_text("Your password is changed")

    await stage.api.log_in(GRACE, OTHER_PASSWORD, User_Agent="curl/8.5.0")
    await page.get_by_role("link", name="Sessions").click()
    await expect(page.get_by_text("This device")).to_have_count(1)
    await page.get_by_role("button", name="Sign out curl").click()
    await expect(page.get_by_role("status")).to_have_text("That session has ended.")

    await page.get_by_role("link", name="Activity").click()
    await expect(page.get_by_role("row")).to_have_count(10)

    await page.get_by_role("button", name="Sign out", exact=True).click()
    await expect(page.get_by_role("status")).to_have_text("You are signed out.")
    await page.go_back()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()

    await page.get_by_role("link", name="Forgot your password?").click()
    await page.get_by_label("E-mail address").fill(GRACE)
    await page.get_by_role("button", name="Send the mail").click()
    await expect(page.get_by_role("heading", name="Check your mail")).to_be_visible()
    await stage.deferred.drain()
    token = stage.mail.last(ResetPassword).token
    await page.goto(f"/account/reset#token={token}")
    if not scripts:
        await page.get_by_label("Code from the mail").fill(token)
    await page.get_by_label("New password").fill("x")
    await page.get_by_role("button", name="Set the password").click()
    await expect(page.get_by_label("New password")).to_be_focused()
    await page.get_by_label("New password").fill(GOOD_PASSWORD)
    await page.get_by_role("button", name="Set the password").click()
    await expect(page.get_by_role("status")).to_contain_text("Sign in with it.")

    await page.get_by_label("E-mail address").fill(GRACE)
    await page.get_by_label("Password", exact=True).fill(GOOD_PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("link", name="Delete the account").click()
    await page.get_by_label("Current password").fill(GOOD_PASSWORD)
    await page.get_by_role("button", name="Delete my account for good").click()
    await expect(page.get_by_role("status")).to_have_text("Your account is deleted.")
    assert (await stage.api.try_log_in(GRACE, GOOD_PASSWORD)).status == 401
    assert seen.complaints == []
    assert_no_secret_in_addresses(seen)


def assert_no_secret_in_addresses(seen: Seen) -> None:
    """No request went elsewhere, or named a token where logs and other sites see it."""
    hosts = {re.match(r"(\w+://[^/]+)/", request.url) for request in seen.requests if not request.url.startswith("data:")}
    assert len({found[1] for found in hosts if found is not None}) == 1
    for request in seen.requests:
        assert not re.search(r"pgm?_[A-Za-z0-9_-]{8}", request.url.partition("#")[0])
        assert not re.search(r"pgm?_[A-Za-z0-9_-]{8}", request.headers.get("referer", ""))


@SCHEMES
@VIEWPORTS
async def test_every_page_is_accessible_and_fits(stage: Stage, seen: Seen, scheme: str, viewport: Any) -> None:
    page = await opened(stage, seen, scheme=scheme, viewport=viewport)
    axe = Path(AXE_FILE_PATH).read_text("utf-8")
    names = []
    async for name in tour(stage, page):
        names.append(name)
        # As an isolated script of the tester's, since the page's policy lets none of others in.
        found = await page.evaluate(f"{axe}\naxe.run(document, {{resultTypes: ['violations', 'incomplete']}})")
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]] == [], name
        assert [each["id"] for each in found["incomplete"]] == [], name
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} scrolls sideways"
        assert await page.evaluate(
            "[...document.querySelectorAll('td time')].every(each => each.getClientRects().length === 1)"
        )
        small = await page.evaluate(
            "[...document.querySelectorAll('button, .button, input:not([type=hidden]), nav a')]"
            ".filter(each => each.checkVisibility() && each.getBoundingClientRect().height < 24).map(each => each.outerHTML)"
        )
        assert small == [], name  # WCAG 2.2, 2.5.8
    assert len(names) == len(set(names)) >= 20
    assert seen.complaints == []
    assert_no_secret_in_addresses(seen)


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
async def test_long_words_do_not_make_a_page_wider(stage: Stage, seen: Seen, width: int) -> None:
    page = await opened(stage, seen, viewport={"width": width, "height": 700})
    await sign_up(page)
    await page.get_by_label("Name").fill("W" * 100)
    await page.get_by_role("button", name="Save the name").click()
    await page.goto("/account/address")
    long = f"{'w' * 60}@{'long-label-' * 5}x.{'another-label-' * 4}y.example"
    await page.get_by_label("New e-mail address").fill(long)
    await page.get_by_label("Current password").fill(GOOD_PASSWORD)
    await page.get_by_role("button", name="Change the address").click()
    await expect(page.get_by_text("Waiting for confirmation")).to_be_visible()
    for path in (
        "/account",
        "/account/address",
        "/account/sessions",
        "/account/activity",
        "/account/export",
        "/account/delete",
        "/account/password",
    ):
        await page.goto(path)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path


async def test_text_of_twice_the_size_is_not_cut_off(stage: Stage, seen: Seen) -> None:
    """WCAG 2.2, 1.4.4."""
    page = await opened(stage, seen, viewport={"width": 640, "height": 900})
    await sign_up(page)
    for path in ("/account", "/account/address", "/account/sessions", "/account/activity", "/account/password"):
        await page.goto(path)
        await page.evaluate("document.documentElement.style.fontSize = '200%'")
        cut_off = await page.evaluate(
            "[...document.querySelectorAll('main *')].filter(each => each.getBoundingClientRect().right > innerWidth)"
            ".map(each => each.outerHTML)"
        )
        assert cut_off == [], path


async def test_without_mail_no_page_speaks_of_mail(without_mail: Stage, seen: Seen) -> None:
    page = await opened(without_mail, seen)
    await page.goto("/account/sign-in")
    await expect(page.get_by_role("link", name="Forgot")).to_have_count(0)
    await sign_up(page)
    await expect(page.get_by_text("confirm")).to_have_count(0)
    await page.get_by_role("link", name="Change the address").click()
    await page.get_by_label("New e-mail address").fill(GRACE)
    await page.get_by_label("Current password").fill(GOOD_PASSWORD)
    await page.get_by_role("button", name="Change the address").click()
    await expect(page.get_by_role("status")).to_have_text("Your e-mail address is changed.")
    await expect(page.get_by_text(GRACE)).to_be_visible()
    assert seen.complaints == []


async def test_a_keyboard_is_enough_to_sign_in(stage: Stage, seen: Seen) -> None:
    await stage.api.register()
    page = await opened(stage, seen)
    await page.goto("/account/sign-in")
    await page.keyboard.press("Tab")
    await expect(page.get_by_text("Skip to content")).to_be_focused()
    await expect(page.get_by_text("Skip to content")).to_be_in_viewport()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await expect(page.get_by_label("E-mail address")).to_be_focused()
    width = await page.get_by_label("E-mail address").evaluate("each => parseFloat(getComputedStyle(each).outlineWidth)")
    assert width >= 2
    await page.keyboard.type(EMAIL)
    await page.keyboard.press("Tab")
    await page.keyboard.type(OTHER_PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_be_focused()
    await page.get_by_label("Password", exact=True).focus()
    await page.keyboard.type(GOOD_PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Profile")).to_be_visible()


@SCRIPTS
async def test_the_first_field_that_is_wrong_has_the_focus(stage: Stage, seen: Seen, scripts: bool) -> None:  # noqa: FBT001
    page = await opened(stage, seen, scripts=scripts)
    await page.goto("/account/sign-up")
    await page.get_by_label("Name").fill(NAME)
    await page.get_by_label("Password", exact=True).fill("short")
    await page.get_by_role("button", name="Make the account").click()
    email = page.get_by_label("E-mail address")
    await expect(email).to_be_focused()
    await expect(email).to_have_accessible_description("Fill this in.")
    await expect(page.get_by_label("Name")).to_have_value(NAME)
    await email.fill(EMAIL)
    await page.get_by_role("button", name="Make the account").click()
    password = page.get_by_label("Password", exact=True)
    await expect(password).to_be_focused()
    await expect(password).to_have_accessible_description(re.compile("^Fill this in. 8 characters or more"))
    await expect(password).to_have_value("")


@pytest.mark.requirement(91)
async def test_a_password_can_be_looked_at_and_is_sent_as_one(stage: Stage, seen: Seen) -> None:
    await stage.api.register()
    page = await opened(stage, seen)
    await page.goto("/account/sign-in")
    await page.get_by_label("E-mail address").fill(EMAIL)
    field = page.locator("#password")
    await field.fill(GOOD_PASSWORD)
    await page.get_by_role("button", name="Show the password").click()
    await expect(field).to_have_attribute("type", "text")
    await page.get_by_role("button", name="Hide the password").click()
    await expect(field).to_have_attribute("type", "password")
    await page.get_by_role("button", name="Show the password").click()
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Profile")).to_be_visible()
    assert seen.complaints == []


async def test_the_code_of_a_link_leaves_the_address_at_once(stage: Stage, seen: Seen) -> None:
    await stage.api.register()
    token = stage.mail.last(VerifyAddress).token
    page = await opened(stage, seen)
    await page.goto(f"/account/verify#token={token}")
    assert page.url == f"{stage.base}/account/verify"
    assert await page.evaluate("history.length") == 2  # the empty page that a browser begins with, and this
    await expect(page.get_by_label("Code from the mail")).to_be_hidden()
    await expect(page.locator("#token")).to_have_value(token)
    await page.goto("/account/verify#token=pgm_mistyped")  # the same page still: only the fragment is another
    await expect(page).to_have_url(f"{stage.base}/account/verify")
    await page.get_by_role("button", name="Confirm the address").click()
    await expect(page.get_by_label("Code from the mail")).to_be_focused()


async def test_a_form_that_is_sent_twice_in_haste_is_sent_once(stage: Stage, seen: Seen) -> None:
    page = await opened(stage, seen)
    await sign_up(page)
    await page.goto("/account/password")
    await page.get_by_label("Current password").fill(GOOD_PASSWORD)
    await page.get_by_label("New password").fill(OTHER_PASSWORD)
    await page.get_by_role("button", name="Change the password").dblclick()
    await expect(page.get_by_role("status")).to_contain_text("Your password is changed")
    sent = [request for request in seen.requests if request.method == "POST" and request.url.endswith("/account/password")]
    assert len(sent) == 1


async def test_a_form_whose_answer_did_not_come_can_be_sent_again(stage: Stage, seen: Seen) -> None:
    page = await opened(stage, seen)
    await page.clock.install()
    await sign_up(page)
    await page.goto("/account/password")
    await page.get_by_label("Current password").fill(GOOD_PASSWORD)
    await page.get_by_label("New password").fill(OTHER_PASSWORD)
    await page.route("**/account/password", lambda route: route.fulfill(status=204))  # a browser stays where it is
    async with page.expect_response("**/account/password"):
        await page.get_by_role("button", name="Change the password").click()
    await page.unroute("**/account/password")
    await page.clock.fast_forward("00:05")
    await page.get_by_role("button", name="Change the password").click()
    await expect(page.get_by_role("status")).to_contain_text("Your password is changed")


async def test_the_page_that_downloads_stays_of_use_and_keeps_no_password(stage: Stage, seen: Seen) -> None:
    """Its answer is a file, which leaves the page as it is."""
    page = await opened(stage, seen)
    await sign_up(page)
    await page.goto("/account/export")
    password = page.get_by_label("Current password")
    for _ in range(2):
        await password.fill(GOOD_PASSWORD)
        async with page.expect_download() as saved:
            await page.get_by_role("button", name="Download").dblclick()
        assert (await saved.value).suggested_filename == "account.json"
        await expect(password).to_have_value("")
    sent = [request for request in seen.requests if request.method == "POST" and request.url.endswith("/account/export")]
    assert len(sent) == 2
    assert seen.complaints == []


@pytest.mark.requirement(86, 88)
async def test_no_script_can_read_the_cookie_and_none_of_others_runs(stage: Stage, seen: Seen) -> None:
    page = await opened(stage, seen)
    await sign_up(page)
    assert await page.evaluate("document.cookie") == ""
    (cookie,) = await page.context.cookies()
    assert cookie["name"] == "__Host-pickguard"
    assert cookie["httpOnly"]
    assert cookie["secure"]
    assert cookie["sameSite"] == "Lax"
    await page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')")
    await page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
    )
    assert await page.evaluate("window.ran === undefined")
    assert any("Content Security Policy" in each for each in seen.complaints)


async def test_a_browser_names_the_pages_as_the_origin_of_their_forms(stage: Stage, seen: Seen) -> None:
    """Some browsers say no more than that: without the meta element it would be ``null``, as the header's policy has it."""
    await stage.api.register()
    page = await opened(stage, seen)
    await page.goto("/account/sign-in")
    await page.get_by_label("E-mail address").fill(EMAIL)
    await page.get_by_label("Password", exact=True).fill(GOOD_PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Profile")).to_be_visible()
    (sent,) = [request for request in seen.requests if request.method == "POST"]
    headers = await sent.all_headers()
    assert headers["origin"] == stage.base
    assert headers["sec-fetch-site"] == "same-origin"


async def answer_with(body: str, route: Route) -> None:
    await route.fulfill(body=body, content_type="text/html")


@pytest.mark.requirement(51)
async def test_a_page_of_another_site_can_send_nothing(stage: Stage, seen: Seen, tmp_path: Path) -> None:
    page = await opened(stage, seen)
    await sign_up(page)
    async with opened_stage(stage.browser, tmp_path / "other") as other:  # the same host, so the same site
        for base in (other.base, other.base.replace("127.0.0.1", "localhost")):
            form = f'<form method="post" action="{stage.base}/account"><input name="name" value="Eve"></form>'
            await page.route("**/evil", partial(answer_with, f"<!doctype html>{form}"))
            await page.goto(f"{base}/evil")
            await page.evaluate("document.forms[0].submit()")
            await expect(page.get_by_role("heading")).to_have_text("This request came from somewhere else")
    await page.goto(f"{stage.base}/account")
    await expect(page.get_by_label("Name")).to_have_value(NAME)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_without_tls_the_pages_work_on_this_machine(host: str, seen: Seen) -> None:
    """Chromium takes cookies with Secure from itself: that way is trustworthy (W3C, Secure Contexts, section 3.1)."""
    async with running_browser() as browser, serving(MemoryAccounts(), settings=SETTINGS) as api:
        context = await browser.new_context(base_url=f"http://{host}:{api.port}")
        page = seen.watch(await context.new_page())
        await sign_up(page)
        assert seen.complaints == []


async def test_pickguard_serve_has_the_pages(tmp_path: Path, seen: Seen) -> None:
    async with running_browser() as browser, running(tmp_path / "data", "--workers", "2", "--store", "") as service:
        context = await browser.new_context(base_url=service.base, ignore_https_errors=True)
        page = seen.watch(await context.new_page())
        await sign_up(page)
        for name in ("Password", "Sessions", "Activity", "Profile"):
            await page.get_by_role("link", name=name, exact=True).click()
            await expect(page.get_by_role("link", name=name, exact=True)).to_have_attribute("aria-current", "page")
        assert seen.complaints == []
