"""docs/http.md does what it says: its commands are run as they are written, and print what stands there."""

import re
from pathlib import Path

import pytest

from pickguard.entrypoints.http.cors import EXPOSED_HEADERS
from pickguard.entrypoints.http.openapi import openapi_document
from pickguard.entrypoints.settings import Settings
from tests.integration.test_readme import CURLS, ROOT, Block, walk
from tests.support.description import Description

PAGE = (ROOT / "docs/http.md").read_text()


def blocks() -> list[Block]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [Block(language=language, text=text, heading="") for language, text in found if language in {"sh", "text"}]


@pytest.mark.parametrize("curl", CURLS)
def test_the_examples_go_as_they_are_printed(tmp_path: Path, curl: str) -> None:
    walk(blocks(), tmp_path, CURLS[curl])


def test_what_the_page_says_of_other_parts_is_so() -> None:
    operations = {operation["operationId"] for _, operation in Description(openapi_document(Settings())).operations()}
    assert {"register", "logIn", "getCurrentUser", "endSession"} <= operations
    assert all(f"`{name}`" in PAGE for name in EXPOSED_HEADERS.split(", "))
