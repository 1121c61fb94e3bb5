"""Every account page with a service behind it, for whoever wants to look at all of them.

``make screenshots`` takes the pictures of the documentation: ``python -m tests.support.page_tour docs/images/pages``.
"""

import asyncio
import ssl
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal

import attrs
from playwright.async_api import Browser, BrowserContext, Page, ViewportSize

from pickguard.adapters.background import LoopDeferred
from pickguard.adapters.memory import MemoryAccounts
from pickguard.adapters.memory_limits import MemoryRateLimiter
from pickguard.domain.model.mail import ResetPassword, VerifyAddress
from pickguard.entrypoints.tls import development_certificate, server_context
from tests.support.browser import running_browser
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, FakeClock, RecordedMail
from tests.support.http import Api, serving

NAME: Final = "Ada Lovelace"
EMAIL: Final = "ada@example.com"
DESKTOP: Final[ViewportSize] = {"width": 1280, "height": 800}
PHONE: Final[ViewportSize] = {"width": 390, "height": 844}
Scheme = Literal["light", "dark"]
_OTHERS: Final = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605 Version/17.5 Safari/604.1",
    "Mozilla/5.0 (Windows NT 10.0; Win64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36 Edg/130.0",
)


@attrs.frozen(kw_only=True)
class Stage:
    """A service with mail, over TLS, and a browser."""

    api: Api
    base: str
    clock: FakeClock
    mail: RecordedMail
    deferred: LoopDeferred
    browser: Browser

    async def visitor(
        self, *, viewport: ViewportSize = DESKTOP, scheme: Scheme = "light", scripts: bool = True, scale: float = 1
    ) -> BrowserContext:
        """Return a browser of somebody who has not been here."""
        context = await self.browser.new_context(
            base_url=self.base,
            viewport=viewport,
            color_scheme=scheme,
            java_script_enabled=scripts,
            ignore_https_errors=True,
            device_scale_factor=scale,
            locale="en-GB",
        )
        context.set_default_timeout(15_000)
        return context


@asynccontextmanager
async def opened_stage(browser: Browser, directory: Path, *, with_mail: bool = True) -> AsyncGenerator[Stage]:
    certificate, key = development_certificate(directory, "127.0.0.1")
    client_side = ssl.create_default_context(cafile=certificate)
    clock, mail, deferred = FakeClock(), RecordedMail(), LoopDeferred(spread=timedelta(0))
    async with (
        deferred,
        serving(
            MemoryAccounts(),
            clock=clock,
            limiter=MemoryRateLimiter(),
            mailer=mail if with_mail else None,
            deferred=deferred,
            tls=(server_context(certificate, key), client_side),
        ) as api,
    ):
        base = f"https://127.0.0.1:{api.port}"
        yield Stage(api=api, base=base, clock=clock, mail=mail, deferred=deferred, browser=browser)


async def tour(stage: Stage, page: Page) -> AsyncIterator[str]:
    """Lead a page through every page that there is, in every state that looks different; yield the name of each."""
    for part in (_tour_outside, _tour_inside, _tour_of_links):
        async for name in part(stage, page):
            # A click waits until the next page begins to come, and no longer; its stylesheet may be under way.
            await page.wait_for_load_state("load")
            yield name


async def _tour_outside(_: Stage, page: Page) -> AsyncIterator[str]:
    await page.goto("/account/sign-in")
    yield "sign-in"
    await page.click("form button.main")
    yield "sign-in-refused"
    await page.goto("/account/sign-up")
    yield "sign-up"
    await page.fill("#name", "Ada")
    await page.fill("#email", "ada@")
    await page.fill("#password", "ada")
    await page.click("form button.main")
    yield "sign-up-refused"
    await page.fill("#name", NAME)
    await page.fill("#email", EMAIL)
    await page.fill("#password", GOOD_PASSWORD)
    await page.click("form button.main")
    await page.wait_for_url("**/account?done=welcome-mail")
    yield "welcome"


async def _tour_inside(stage: Stage, page: Page) -> AsyncIterator[str]:
    for minutes, agent in enumerate(_OTHERS, 1):
        stage.clock.advance(timedelta(hours=7 * minutes, minutes=13 * minutes))
        await stage.api.try_log_in(EMAIL, OTHER_PASSWORD, User_Agent=agent)
        await stage.api.log_in(EMAIL, GOOD_PASSWORD, User_Agent=agent)
    await page.goto("/account")
    yield "profile"
    await page.goto("/account/password")
    yield "password"
    await page.fill("#current_password", OTHER_PASSWORD)
    await page.fill("#password", "short")
    await page.click("main form button.main")
    yield "password-refused"
    await page.goto("/account/address")
    yield "address"
    await page.fill("#email", "countess@example.com")
    await page.fill("#current_password", GOOD_PASSWORD)
    await page.click("main form button.main")
    await page.wait_for_url("**/account?done=address-pending")
    yield "profile-pending"
    await page.goto("/account/sessions")
    yield "sessions"
    await page.goto("/account/activity")
    yield "activity"
    await page.goto("/account/export")
    yield "export"
    await page.goto("/account/delete")
    yield "delete"


async def _tour_of_links(stage: Stage, page: Page) -> AsyncIterator[str]:
    token = stage.mail.last(VerifyAddress).token
    await page.goto(f"/account/verify#token={token}")
    yield "verify"
    await page.goto("/account/verify")
    await page.fill("#token", "pgm_mistyped")
    await page.click("main form button.main")
    yield "verify-refused"
    await page.goto(f"/account/decline#token={token}")
    yield "decline"
    await page.goto("/account/decline?done=declined")
    yield "declined"
    await page.goto("/account/forgot")
    yield "forgot"
    await page.fill("#email", EMAIL)
    await page.click("main form button.main")
    await page.wait_for_url("**/account/forgot?done=sent")
    yield "forgot-sent"
    await stage.deferred.drain()
    await page.goto(f"/account/reset#token={stage.mail.last(ResetPassword).token}")
    yield "reset"
    await page.goto("/account/sign-up?done=check-mail")
    yield "check-mail"
    await page.goto("/account/nowhere")
    yield "not-found"


SHOWN: Final = {
    *("sign-in", "sign-up", "sign-up-refused", "profile", "password", "address", "sessions", "activity", "export", "delete"),
    *("verify", "decline", "forgot", "forgot-sent", "reset", "not-found"),
}
"""What the documentation shows."""


async def take_screenshots(directory: Path) -> None:
    """Write a picture of each page that is shown."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        async with running_browser() as browser:
            for device, viewport in (("desktop", DESKTOP), ("phone", PHONE)):
                for scheme in ("light", "dark"):
                    async with opened_stage(browser, Path(temporary)) as stage:
                        context = await stage.visitor(viewport=viewport, scheme=scheme)
                        page = await context.new_page()
                        async for name in tour(stage, page):
                            if name in SHOWN:
                                picture = await page.screenshot(full_page=True, animations="disabled", caret="hide")
                                (directory / f"{name}-{device}-{scheme}.png").write_bytes(picture)
                        await context.close()


if __name__ == "__main__":
    asyncio.run(take_screenshots(Path(sys.argv[1])))
