"""docs/http.md does what it says: its commands are run as they are written, and print what stands there."""

from pathlib import Path

import pytest

from pickguard.entrypoints.http.cors import EXPOSED_HEADERS
from pickguard.entrypoints.http.openapi import openapi_document
from pickguard.entrypoints.settings import Settings
from tests.integration.test_readme import walk
from tests.support.code_blocks import CURLS, ROOT, blocks
from tests.support.description import Description

PAGE = "docs/http.md"


@pytest.mark.parametrize("curl", CURLS)
def test_the_examples_go_as_they_are_printed(tmp_path: Path, curl: str) -> None:
    walk([block for block in blocks(PAGE) if block.language in {"sh", "text"}], tmp_path, CURLS[curl])


def test_what_the_page_says_of_other_parts_is_so() -> None:
    text = (ROOT / PAGE).read_text()
    operations = {operation["operationId"] for _, operation in Description(openapi_document(Settings())).operations()}
    assert {"register", "logIn", "getCurrentUser", "endSession"} <= operations
    assert all(f"`{name}`" in text for name in EXPOSED_HEADERS.split(", "))
