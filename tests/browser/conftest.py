"""A browser for the tests of a module, and a service with pages for each test."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.support.browser import running_browser
from tests.support.page_tour import Stage, opened_stage


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncGenerator[Stage]:
    """The pages with mail, over TLS, and a browser."""
    async with running_browser() as browser, opened_stage(browser, tmp_path) as stage:
        yield stage


@pytest.fixture
async def without_mail(tmp_path: Path) -> AsyncGenerator[Stage]:
    """The pages without mail, over TLS, and a browser."""
    async with running_browser() as browser, opened_stage(browser, tmp_path, with_mail=False) as stage:
        yield stage
