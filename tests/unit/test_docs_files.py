"""What the page /docs is made of: Swagger UI as it was recorded, and a page of our own that its policy lets work."""

import gzip
import hashlib
import json
import re
from importlib.resources import files

import pytest

from pickguard.entrypoints.http.docs import CONTENT_SECURITY_POLICY, FILES

FOLDER = files("pickguard.entrypoints.http") / "docs_page"
RECORD = json.loads((FOLDER / "swagger-ui.json").read_text())


def content_of(name: str) -> bytes:
    plain = FOLDER / name
    return plain.read_bytes() if plain.is_file() else gzip.decompress((FOLDER / f"{name}.gz").read_bytes())


@pytest.mark.parametrize("name", RECORD["sha256"])
def test_swagger_ui_is_the_one_that_was_recorded(name: str) -> None:
    assert hashlib.sha256(content_of(name)).hexdigest() == RECORD["sha256"][name]
    assert name in FILES


def test_its_licence_comes_with_it() -> None:
    assert b"Apache License" in content_of("swagger-ui-LICENSE.txt")
    assert b"SmartBear" in content_of("swagger-ui-NOTICE.txt")
    assert b"swagger-ui-bundle.js.LICENSE.txt" in content_of("swagger-ui-bundle.js")[:200]


def test_nothing_lies_there_that_is_not_sent_and_nothing_is_sent_that_does_not() -> None:
    there = {path.name.removesuffix(".gz") for path in FOLDER.iterdir()}
    assert there == {*FILES, "index.html", "swagger-ui.json"}


def test_the_page_has_no_script_and_no_style_within_it() -> None:
    page = (FOLDER / "index.html").read_text()
    assert not re.search(r"<style|<script>|style=|\bon[a-z]+=", page)
    assert set(re.findall(r'(?:src|href)="([^"]*)"', page)) == {
        "data:,",
        "openapi.json",
        *(
            f"docs/{name}"
            for name in ("swagger-ui.css", "docs.css", "swagger-ui-bundle.js", "docs.js", "swagger-ui-LICENSE.txt")
        ),
    }
    assert "unsafe" not in CONTENT_SECURITY_POLICY
