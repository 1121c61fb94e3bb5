"""The page /docs in a real browser: it asks nobody but the service, keeps to its policy, and what it offers to try works."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import pytest
from playwright.async_api import Browser, Locator, Page, expect

from pickguard.adapters.memory import MemoryAccounts
from tests.support.browser import running_browser
from tests.support.http import Api, serving

SECONDS = 1000
expect.set_options(timeout=20 * SECONDS)


@pytest.fixture
async def browser() -> AsyncGenerator[Browser]:
    async with running_browser() as browser:
        yield browser


@pytest.fixture
async def api() -> AsyncGenerator[Api]:
    async with serving(MemoryAccounts()) as api:
        yield api


@attrs.frozen
class Watched:
    """A page, and all that a browser says of it."""

    page: Page
    complaints: list[str]
    asked: list[str]

    async def open(self, url: str) -> None:
        await self.page.goto(url)
        await expect(self.page.locator(".opblock").first).to_be_visible()

    async def operation(self, name: str) -> Locator:
        """Open an operation to be tried."""
        block = self.page.locator(f".opblock[id$='-{name}']")
        await block.locator(".opblock-summary-control").click()
        await block.get_by_role("button", name="Try it out").click()
        return block

    async def send(self, block: Locator) -> str:
        """Send its request and return the status of the answer."""
        await block.get_by_role("button", name="Execute").click()
        status = block.locator(".live-responses-table .response .response-col_status")
        await expect(status).to_be_visible()
        return (await status.inner_text()).split()[0]


@asynccontextmanager
async def watched(browser: Browser, *, dark: bool = False) -> AsyncGenerator[Watched]:
    context = await browser.new_context(color_scheme="dark" if dark else "light", viewport={"width": 1280, "height": 900})
    page = await context.new_page()
    page.set_default_timeout(20 * SECONDS)
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    try:
        yield Watched(page, complaints, asked)
    finally:
        await context.close()


@pytest.mark.requirement(85)
async def test_what_the_page_offers_to_try_works_and_nobody_else_is_asked(browser: Browser, api: Api, tmp_path: Path) -> None:
    async with watched(browser) as there:
        await there.open(f"{api.base}/docs")
        assert await there.page.title() == "Pickguard: the API"
        assert await there.send(await there.operation("register")) == "201"
        log_in = await there.operation("logIn")
        assert await there.send(log_in) == "201"
        told = await log_in.locator(".live-responses-table .response .response-col_description").inner_text()
        (token,) = re.findall(r'"access_token": "(pg_[^"]+)"', told)
        await there.page.locator(".auth-wrapper .authorize").first.click()
        await there.page.locator(".auth-container input").fill(token)
        await there.page.get_by_role("button", name="Apply credentials").click()
        await there.page.get_by_role("button", name="Close").click()
        assert await there.send(await there.operation("getCurrentUser")) == "200"
        assert await there.send(await there.operation("listSessions")) == "200"
        await there.page.screenshot(path=tmp_path / "light.png", full_page=True)
        assert there.complaints == []
        origins = {f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" for url in there.asked if not url.startswith("data:")}
        assert origins == {api.base}


async def test_the_page_is_dark_where_people_want_that(browser: Browser, api: Api) -> None:
    async with watched(browser, dark=True) as there:
        await there.open(f"{api.base}/docs")
        await expect(there.page.locator("html")).to_have_class(re.compile("dark-mode"))
        await there.page.emulate_media(color_scheme="light")
        await expect(there.page.locator("html")).not_to_have_class(re.compile("dark-mode"))
        assert there.complaints == []


async def test_a_link_decides_nothing_of_what_is_shown(browser: Browser, api: Api) -> None:
    # Swagger UI can take a description, or settings of its own, from the query: somebody's link could show a form of theirs.
    async with watched(browser) as there:
        await there.open(f"{api.base}/docs?url=/problems/not-found&configUrl=/problems/not-found&spec=%7B%7D")
        assert not [url for url in there.asked if urlsplit(url).path.startswith("/problems")]
        assert there.complaints == []


async def test_the_policy_of_the_page_holds(browser: Browser, api: Api) -> None:
    async with watched(browser) as there:
        await there.open(f"{api.base}/docs")
        for line in (
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = true'}))",
            "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = true\">')",
        ):
            await there.page.evaluate(line)
        assert not await there.page.evaluate("window.ran")
        assert await there.page.evaluate("fetch('http://127.0.0.2:9/').then(() => 'sent', () => 'refused')") == "refused"
        assert len([text for text in there.complaints if "Content Security Policy" in text]) >= 3


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_the_problems_are_pages_that_lead_on(browser: Browser, api: Api, *, dark: bool) -> None:
    async with watched(browser, dark=dark) as there:
        await there.page.goto(f"{api.base}/problems/email-taken")
        await expect(there.page.get_by_role("heading", level=1)).to_have_text("The e-mail address has an account already")
        await there.page.get_by_role("link", name="All problems").click()
        await there.page.get_by_role("link", name="Too many attempts").click()
        await expect(there.page.get_by_text("too-many-requests")).to_be_visible()
        await there.page.get_by_role("link", name="the API").click()
        await expect(there.page.locator(".opblock").first).to_be_visible()
        assert there.complaints == []
