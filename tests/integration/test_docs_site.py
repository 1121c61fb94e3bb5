"""The site of documentation builds without a warning, holds together, and takes nothing from another host."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urljoin, urlsplit
from xml.etree import ElementTree as ET

import click
import pytest
import yaml
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files

from pickguard import __all__ as exported
from pickguard.entrypoints.cli import cli
from pickguard.entrypoints.http.problems import TYPES
from pickguard.entrypoints.http.routes import MAIL_ROUTES, ROUTES
from pickguard.entrypoints.settings import options
from tests.support.processes import PATIENCE
from tools.site import hooks, reference

ROOT: Final = Path(__file__).parents[2]
LOADING: Final = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("object", "data")}
"""What a browser loads by itself. `a` is not among it: people decide to follow a link."""


class Reader(HTMLParser):
    """What a page loads, links to and has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.classes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name in {"id", "name"}:
                self.ids.add(value)
            if name == "class":
                self.classes |= set(value.split())
            if (tag, name) in LOADING:
                self.loaded.append(value)
            if (tag, name) == ("a", "href"):
                self.links.append(value)


def build(directory: Path, configuration: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(configuration)]
    return subprocess.run(
        [*command, "--site-dir", str(directory)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    done = build(directory)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return directory


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Reader]:
    return {str(path.relative_to(site)): Reader(path.read_text()) for path in site.rglob("*.html")}


def test_every_page_of_the_repository_is_in_the_site_and_can_be_found_from_its_start(pages: dict[str, Reader]) -> None:
    written = {str(path.relative_to(ROOT / "docs").with_suffix(".html")) for path in (ROOT / "docs").rglob("*.md")}
    assert written <= set(pages)
    found, waiting = set[str](), ["index.html"]
    while waiting:
        page = waiting.pop()
        if page not in found:
            found.add(page)
            waiting += [target for target, _ in internal(page, pages[page]) if target in pages]
    assert set(pages) - found == {"404.html"}


def internal(page: str, read: Reader) -> Iterator[tuple[str, str]]:
    """Return the file and the anchor of each link within the site."""
    for link in read.links:
        parts = urlsplit(urljoin(f"site:/{page}", link) if not urlsplit(link).scheme else link)
        if parts.scheme in {"site", ""}:
            target = unquote(urlsplit(urljoin(f"/{page}", link)).path).removeprefix("/")
            yield target or page, unquote(parts.fragment)


def test_no_link_and_no_anchor_leads_nowhere(site: Path, pages: dict[str, Reader]) -> None:
    wrong = []
    for page, read in pages.items():
        if page == "404.html":  # its links are those of the root of a host
            continue
        for target, anchor in internal(page, read):
            if not (site / target).exists():
                wrong.append((page, target))
            elif anchor and target in pages and anchor not in pages[target].ids:
                wrong.append((page, f"{target}#{anchor}"))
    assert wrong == []


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[str, Reader]) -> None:
    for page, read in pages.items():
        assert read.loaded, page
        assert [each for each in read.loaded if each.startswith("//") or urlsplit(each).scheme in {"http", "https"}] == [], page
        # The theme would fetch a program for these from a host of others.
        assert "mermaid" not in read.classes, page
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style.read_text()), style


def test_the_search_works_from_files(site: Path) -> None:
    index = (site / "search/search_index.js").read_text()
    assert index.startswith("var __index = {")
    assert "X-Forwarded-For" in index
    assert "assets/iframe-worker.js" in (site / "index.html").read_text()


def test_diagrams_are_a_part_of_the_page_that_shows_them(site: Path, pages: dict[str, Reader]) -> None:
    drawings = sorted((ROOT / "docs/images").glob("architecture-*.svg"))
    assert drawings
    assert "diagram" in pages["architecture.html"].classes
    text = (site / "architecture.html").read_text()
    for drawing in drawings:
        root = ET.parse(drawing).getroot()
        title = root.findtext("{http://www.w3.org/2000/svg}title")
        assert title
        assert f"<title>{title}</title>" in text
        assert drawing.name not in text


def test_no_link_of_the_repository_is_left(pages: dict[str, Reader]) -> None:
    for page, read in pages.items():
        assert [
            link for link in read.links if "../tests/" in link or "../src/" in link or link.endswith((".md", ".py"))
        ] == [], page


def test_a_link_that_leads_nowhere_breaks_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# A page\n\nIt has [a link](nowhere.md), and [another](#nowhere).\n")
    configuration = yaml.load((ROOT / "mkdocs.yml").read_text(), _Loader)
    configuration |= {"docs_dir": str(docs), "nav": ["index.md"], "plugins": [], "hooks": [], "extra_css": [], "extra": {}}
    configuration["markdown_extensions"] = []
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(configuration))
    done = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert done.returncode == 1
    assert "nowhere.md" in done.stderr
    assert "#nowhere" in done.stderr


class _Loader(yaml.SafeLoader):
    """Reads what MkDocs reads, without what is Python in it."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda _loader, _suffix, _node: None)


# The reference.


def test_every_setting_is_in_the_configuration_with_its_variable() -> None:
    page = reference.configuration()
    for each in options():
        assert page.count(f"{{ #{each.name.replace('_', '-')} }}") == 1
        assert f"`{each.variable}`" in page


def test_every_command_that_is_not_hidden_is_in_the_page_of_commands() -> None:
    page = reference.command_line(cli)

    def commands(group: click.Group, path: str) -> Iterator[str]:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            if not command.hidden:
                yield f"{path} {name}"
                if isinstance(command, click.Group):
                    yield from commands(command, f"{path} {name}")

    found = list(commands(cli, "pickguard"))
    assert "pickguard serve" in found
    assert "Begin with `pickguard serve`: it" in page
    assert "\\`" not in page, "code that is shown as text"
    for command in found:
        assert re.search(rf"^##+ `{re.escape(command)}`$", page, re.MULTILINE), command


def test_commands_within_commands_and_examples_are_shown() -> None:
    @click.group()
    def root() -> None:
        """Do things."""

    @root.group()
    def users() -> None:
        """See and change users."""

    @users.command(epilog="\b\npickguard users show a@b.example\n  --json")
    @click.argument("who")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON | nothing else.")
    def show(who: str, *, as_json: bool) -> None:
        """Show one_user."""

    @users.command(hidden=True)
    def secret() -> None:
        """Nobody's."""

    page = reference.command_line(root)
    assert "### `pickguard users show`" in page
    assert "pickguard users show [OPTIONS] WHO" in page
    assert "Show one\\_user." in page
    assert "| `--json` | Print JSON \\| nothing else. |" in page
    assert "```text\npickguard users show a@b.example\n  --json\n```" in page
    assert "Nobody" not in page
    del show, secret


def test_every_exported_name_is_in_the_reference_of_python(pages: dict[str, Reader]) -> None:
    ids = pages["reference/python/pickguard.html"].ids
    assert {f"pickguard.{name}" for name in exported} <= ids
    assert "pickguard.ports.accounts.AccountRepository.save" in pages["reference/python/ports.html"].ids
    assert "pickguard.domain.services.registration.Registration.register" in pages["reference/python/use-cases.html"].ids


DOCUMENT: Final[dict[str, Any]] = {
    "openapi": "3.1.0",
    "info": {"title": "A", "version": "1"},
    "security": [{"bearer": []}],
    "tags": [{"name": "Users", "description": "People."}],
    "paths": {
        "/v1/users/{id}": {
            "parameters": [{"$ref": "#/components/parameters/id"}],
            "get": {
                "tags": ["Users"],
                "summary": "Read a user",
                "responses": {
                    "200": {
                        "description": "The user | found",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/User"}}},
                    },
                    "404": {"$ref": "#/components/responses/not-found"},
                },
            },
            "post": {
                "security": [],
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/User"},
                            "examples": {"one": {"value": {"name": "Ada"}}},
                        }
                    }
                },
                "responses": {"204": {"description": "Done"}},
            },
        }
    },
    "components": {
        "parameters": {"id": {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}},
        "responses": {
            "not-found": {
                "description": "Nobody ([not-found](problems/not-found))",
                "content": {"application/problem+json": {"schema": {"enum": ["a", "b"]}}},
            }
        },
        "schemas": {
            "User": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "description": "What people call them."},
                    "friends": {"type": "array", "items": {"$ref": "#/components/schemas/User"}},
                    "nick": {"type": ["string", "null"]},
                    "kind": {"oneOf": [{"const": 1}, {"type": "boolean"}]},
                },
            },
            "Name": {"type": "string", "description": "A name."},
        },
    },
}


def test_an_openapi_document_becomes_a_page() -> None:
    page = reference.http(DOCUMENT)
    for expected in (
        "## Users\n\nPeople.",
        "### `GET /v1/users/{id}`\n\n**Read a user**\n\nNeeds: bearer.",
        "| `id` (required) | path |  string (uuid) |",
        "| 200 | The user \\| found | [User](#user) |",
        "| 404 | Nobody ([not-found](problems.md#not-found)) | `a`, `b` |",
        "## Other",
        "### `POST /v1/users/{id}`\n\nNeeds no log-in.",
        "The body, `application/json`: [User](#user)",
        '```json\n{\n  "name": "Ada"\n}\n```',
        "### User",
        "| `name` | string | What people call them. |",
        "| `friends` (optional) | list of [User](#user) |  |",
        "| `nick` (optional) | string or null |  |",
        "| `kind` (optional) | `1` or boolean |  |",
        "### Name\n\nA name.\n\nstring",
    ):
        assert expected in page, expected


def test_every_request_and_every_problem_is_in_the_reference_of_http(pages: dict[str, Reader]) -> None:
    page = reference.http(reference.openapi())
    for method, path, _ in (*ROUTES, *MAIL_ROUTES):
        assert f"### `{method} {path}`\n" in page
    assert set(TYPES) <= pages["reference/problems.html"].ids


# What the hook does to pages.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see [operations](operations.md#mail)", "see [operations](operations.md#mail)"),
        ("see [`a.py`](../src/pickguard/a.py)", "see `a.py`"),
        ("see [the code](../src/pickguard/a.py#L1)", "see the code (`src/pickguard/a.py`)"),
        ("see [the table](../README.md#configuration)", "see [the table](reference/configuration.md)"),
        ("see [there](https://example.com/a)", "see [there](https://example.com/a)"),
        ("see [below](#here)", "see [below](#here)"),
        ("see ![a picture](images/a.svg)", "see ![a picture](images/a.svg)"),
        ("```text\n[a](../src/a.py)\n```", "```text\n[a](../src/a.py)\n```"),
        ("see [what is new](../CHANGELOG.md)", "see [what is new](changelog.md)"),
    ],
)
def test_links_out_of_the_site_become_what_the_site_has(text: str, expected: str) -> None:
    changed = hooks.outside_of_code(text, lambda part: hooks.relinked(part, "page.md", Files([])))
    assert changed == expected


def test_the_title_of_a_page_and_its_first_sentence_are_found() -> None:
    assert hooks.title_and_sentence("# A\n\nIt [is](b.md) so, v1.2 of it. And more.\n") == ("A", "It is so, v1.2 of it.")
    assert hooks.title_and_sentence("# A\n\n```sh\nb\n```\n") == ("A", "")
    with pytest.raises(PluginError):
        hooks.title_and_sentence("nothing\n")
