"""A real browser: the system's Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import pytest
from playwright.async_api import Browser, async_playwright

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
# As root, which CI is, Chromium has no sandbox. It only sees pages of this machine.
ARGUMENTS: Final = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--font-render-hinting=none")


def find_chromium() -> str:
    """Return the program, or skip the test outside of CI, where it must be there."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        message = "there is no Chromium: on Debian and Ubuntu, apt install chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@asynccontextmanager
async def running_browser() -> AsyncGenerator[Browser]:
    """Run the browser, without a window."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()
