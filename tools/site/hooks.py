"""What MkDocs asks while it builds the site: `hooks:` in mkdocs.yml names this file.

The pages in docs/ are written for people who read them in the repository, too. So links there lead to files of the repository,
and here they become what the site has in their place.
"""

import posixpath
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # MkDocs loads this file by its path

from tools.site import reference  # noqa: E402 (the path comes first)

CHANGELOG: Final = "changelog.md"
ELSEWHERE: Final = {
    "README.md#configuration": f"{reference.FOLDER}/configuration.md",
    "README.md": "index.md",
    "CHANGELOG.md": CHANGELOG,
}
"""Where the site has what a file of the repository has."""

_FENCED = re.compile(r"^( *)(```+).*?^\1\2$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
_DIAGRAM = re.compile(r"^!\[([^]]+)\]\((images/architecture-[a-z]+\.svg)\)$", re.MULTILINE)
_CARDS = re.compile(r"^<!-- pages: (.+) -->$", re.MULTILINE)


@cache
def generated() -> Mapping[str, str]:
    """Return the pages that are made while the site is built, by their paths."""
    return {CHANGELOG: (ROOT / "CHANGELOG.md").read_text(), **reference.pages()}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages into the navigation, where it has a place for each folder of them."""
    config.nav = list(_filled(config.nav or []))
    return config


def _filled(entries: list[Any]) -> Iterator[Any]:
    for entry in entries:
        if isinstance(entry, dict):
            ((title, value),) = entry.items()
            filled = list(_filled(value)) if isinstance(value, list) else value
            yield {title: filled}
        elif entry.endswith("/"):
            yield from (path for path in generated() if path.startswith(entry))
        else:
            yield entry


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for path, text in generated().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to where the site has what they mean, and list pages where a page asks for it."""
    docs = Path(config.docs_dir)
    markdown = outside_of_code(markdown, lambda text: drawn(relinked(text, page.file.src_uri, files), docs))
    return _CARDS.sub(lambda match: cards(match[1], config.nav or [], files), markdown)


def outside_of_code(markdown: str, change: Any) -> str:
    """Change what is not within a fence."""
    parts: list[str] = []
    end = 0
    for fenced in _FENCED.finditer(markdown):
        parts += [change(markdown[end : fenced.start()]), fenced[0]]
        end = fenced.end()
    return "".join([*parts, change(markdown[end:])])


def relinked(text: str, page: str, files: Files) -> str:
    """Return the text of a page with each link to a file of the repository as the site has it, or as plain text."""
    # The change log stands at the top of the repository, and its links are seen from there.
    folder = "." if page == CHANGELOG else posixpath.join("docs", posixpath.dirname(page))

    def changed(match: re.Match[str]) -> str:
        shown, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, hash_sign, anchor = target.partition("#")
        there = posixpath.normpath(posixpath.join(folder, path))
        within = ELSEWHERE.get(f"{there}{hash_sign}{anchor}")
        if within is None and there.startswith("docs/") and files.get_file_from_path(there.removeprefix("docs/")):
            within = f"{there.removeprefix('docs/')}{hash_sign}{anchor}"
        within = within or ELSEWHERE.get(there)
        if within is not None:
            return f"[{shown}]({posixpath.relpath(within, posixpath.dirname(page) or '.')})"
        if there.startswith("docs/"):
            return match[0]  # MkDocs says that it leads nowhere
        return shown if posixpath.basename(there) in shown or len(shown) > len(there) else f"{shown} (`{there}`)"

    return _LINK.sub(changed, text)


def drawn(text: str, docs: Path) -> str:
    """Return the text of a page with its diagrams as a part of it, so that they have the colours of the site, light or dark."""
    return _DIAGRAM.sub(lambda match: _figure(match[1], (docs / match[2]).read_text()), text)


def _figure(description: str, drawing: str) -> str:
    label = description.replace('"', "&quot;")
    return f'<figure class="diagram" aria-label="{label}">{" ".join(drawing.split())}</figure>'


def cards(section: str, nav: list[Any], files: Files) -> str:
    """Return a list of the pages of a section, each with its title and its first sentence."""
    paths = list(_pages_of(section, nav))
    if not paths:
        raise PluginError(f"there is no section {section!r} in the navigation")
    lines = ['<div class="cards" markdown>', ""]
    for path in paths:
        file = files.get_file_from_path(path)
        if file is None:
            raise PluginError(f"there is no page {path}")
        title, sentence = title_and_sentence(file.content_string)
        lines.append(f"- **[{title}]({path})**\n\n    {sentence}\n")
    return "\n".join([*lines, "</div>"])


def _pages_of(section: str, nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        if not isinstance(entry, dict):
            continue
        ((title, value),) = entry.items()
        if title == section:
            yield from _leaves(value)
        elif isinstance(value, list):
            yield from _pages_of(section, value)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (each for below in value.values() for each in _leaves(below))
    else:
        yield from (each for below in value for each in _leaves(below))


def title_and_sentence(markdown: str) -> tuple[str, str]:
    """Return the title of a page, and the first sentence below it without links."""
    found = re.search(r"^# (.+)\n+((?!#|```|<|:::|\|)[^\n]+)?", markdown, re.MULTILINE)
    if found is None:
        raise PluginError(f"a page has no title: {markdown[:80]!r}")
    first = re.match(r".*?[.:](?= |$)", found[2] or "")
    return found[1], _LINK.sub(r"\1", first[0]).rstrip(":") if first else ""
