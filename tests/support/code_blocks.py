"""The code blocks of what people read, README.md and docs/: what each is, who runs it, and how it is run.

docs/contributing.md tells writers of pages how their blocks are run. In short: `sh` blocks of a page are pasted into one
shell, in order, beside the service that a block starts; a `text` block behind one is what it prints; `python` is run;
configurations are given to the tool that reads them. For whatever needs more, a comment above it names the test that runs it.
"""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

import attrs

from tests.support.processes import PATIENCE
from tests.support.redis_servers import free_port

ROOT: Final = Path(__file__).parents[2]
TESTS: Final = ROOT / "tests"
PROGRAMS: Final = Path(sys.executable).parent

CURLS: Final = {"stand-in": [sys.executable, "-I", str(ROOT / "tests/support/curl.py")]}
"""What pages are run with: a stand-in that knows the options of the README, always, and the real curl where there is one."""

if found := shutil.which("curl"):
    CURLS["curl"] = [found]
elif os.environ.get("CI") == "true":
    raise RuntimeError("CI runs the pages with curl, and there is none on the PATH; .ci/run installs it")

_TESTED_BY = re.compile(r"^ *<!-- tested by: ([\w, ]+) -->$")
_NOT_RUN = re.compile(r"^ *<!-- not run: (.+) -->$")
_CHECKED = re.compile(r"^ *<!-- checked only: (.+) -->$")
_FENCE = re.compile(r"^( *)(`{3,})(.*)$")

RUN: Final = frozenset({"sh", "python", "json", "yaml", "toml", "ini", "nginx"})
"""Languages that are run, or read by the tool that they are for, without being told to."""

_VARYING: Final = {
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}": "ID",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z": "TIME",
    r"\d{1,2} [A-Z][a-z]+ \d{4}, \d\d:\d\d UTC": "MOMENT",
    r"pgm?_([A-Za-z0-9_-]{64}[0-9a-f]{8}|…)": "TOKEN",  # shortened in pages: a scanner for secrets would know a real one
    r"curl/[0-9][0-9a-z.-]*": "CURL",
    r"^pickguard [0-9][0-9a-z.+]*$": "pickguard VERSION",
    r"\d{4}-\d\d-\d\d( \d\d:\d\d UTC)?": "DATE",
    r"just now|\d+ seconds? ago": "AGO",
    r"^Password: [a-z2-9-]+$": "Password: PASSWORD",
    r" +$": "",  # of a table, which ends in spaces
}


@attrs.frozen(kw_only=True)
class Block:
    """A fenced block of a page.

    `tested_by` names tests, for all blocks up to the next heading but those that have a reason of their own. Such reasons are
    `not_run` and `checked_only`.
    """

    page: str
    line: int
    language: str
    text: str
    heading: str
    tested_by: tuple[str, ...] = ()
    not_run: str = ""
    checked_only: str = ""
    is_output: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_a_test(self) -> bool:
        """Whether it is a program for pytest."""
        return self.language == "python" and re.search(r"^(async )?def test_", self.text, re.MULTILINE) is not None


def pages() -> list[str]:
    """Return the pages, by their paths in the repository."""
    return ["README.md", "CHANGELOG.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))]


@cache
def blocks(page: str) -> tuple[Block, ...]:
    """Return the blocks of a page, in order."""
    return tuple(read_blocks((ROOT / page).read_text(), page))


def blocks_under(page: str, heading: str) -> list[Block]:
    """Return the blocks under one heading of a page."""
    return [block for block in blocks(page) if block.heading == heading]


def blocks_for(test: str) -> list[Block]:
    """Return the blocks that name a test, of whatever page."""
    return [block for page in pages() for block in blocks(page) if test in block.tested_by]


def read_blocks(text: str, page: str = "") -> Iterator[Block]:
    """Return the blocks of a text in Markdown."""
    heading, tests, reasons = "", (), {"not_run": "", "checked_only": ""}
    previous: Block | None = None
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        if fence := _FENCE.match(line):
            indent, ticks, language = fence.groups()
            inner: list[str] = []
            for _, each in lines:
                if each.strip() == ticks:
                    break
                inner.append(each.removeprefix(indent))
            else:
                raise AssertionError(f"{page}:{number} has no end")
            previous = Block(
                page=page,
                line=number,
                language=language.strip(),
                text="".join(f"{each}\n" for each in inner),
                heading=heading,
                tested_by=() if any(reasons.values()) else tests,
                is_output=language == "text" and previous is not None and previous.language in {"sh", "python"},
                **reasons,
            )
            yield previous
            reasons = {"not_run": "", "checked_only": ""}
        elif found := re.match(r"#+ (.+)$", line):
            heading, tests, previous = found[1], (), None
        elif found := _TESTED_BY.match(line):
            tests = tuple(found[1].replace(" ", "").split(","))
        elif found := _NOT_RUN.match(line):
            reasons["not_run"] = found[1]
        elif found := _CHECKED.match(line):
            reasons["checked_only"] = found[1]


# Whether somebody runs it.


@cache
def tests_by_name() -> dict[str, list[Path]]:
    """Return the files of all tests, by the names of the tests."""
    found: dict[str, list[Path]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found.setdefault(node.name, []).append(path)
    return found


def wrong_with(block: Block) -> str:
    """Say why nobody runs a block; nothing where somebody does."""
    if not block.language:
        return "has no language"
    if block.tested_by:
        return next(filter(None, (_wrong_with_test(name, block) for name in block.tested_by)), "")
    if block.not_run:
        return "" if block.language == "text" else "is not run, which only a picture in text may be"
    if block.checked_only:
        return "" if block.language == "sh" else "is only checked, which only commands may be"
    return "" if block.is_output or block.language in RUN else f"is {block.language}, which nobody runs"


def _wrong_with_test(name: str, block: Block) -> str:
    files = tests_by_name().get(name, [])
    if not files:
        return f"is said to be tested by {name}, which does not exist"
    reads = [path for path in files if any(word in path.read_text() for word in (Path(block.page).name, "blocks_for"))]
    return "" if reads else f"is said to be tested by {name}, whose file does not read this page"


# How it is run.


def without_what_varies(text: str) -> str:
    """Return what a program printed, without what is another at each run."""
    for pattern, name in _VARYING.items():
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return text


def session(page: str) -> list[Block]:
    """Return what is pasted into the shell of a page, and what it prints."""
    taken: list[Block] = []
    for block in blocks(page):
        if block.tested_by or block.checked_only:
            continue
        if block.language == "sh" or (block.is_output and taken and _is_behind(block, page) == "sh"):
            taken.append(block)
    return taken


def _is_behind(block: Block, page: str) -> str:
    all_of_them = blocks(page)
    return all_of_them[all_of_them.index(block) - 1].language


def printed_by(block: Block) -> Block | None:
    """Return the block with what another one prints, if its page shows it."""
    all_of_them = blocks(block.page)
    after = all_of_them[all_of_them.index(block) + 1 :][:1] if block in all_of_them else ()
    return after[0] if after and after[0].is_output else None


_END: Final = "-- end of a block --\n"
_START = re.compile(r"^pickguard serve( |$)")
_STARTED: Final = """
if [ -n "${{server-}}" ]; then kill "$server"; wait "$server" || true; fi
: >serve.log
( exec {command} ) >serve.log 2>&1 &
server=$!
until grep -q '^Stop with' serve.log; do
    kill -0 "$server" 2>/dev/null || {{ cat serve.log; exit 1; }}
    sleep 0.05
done
cat serve.log
"""
"""A block that serves does so beside those that follow, up to the next one that serves or the end of the page."""
_PORT = re.compile(r"\b(9443|8443|8080|6379|638[01]|26379|2638[01])\b")
"""Ports that pages name. Others are used when they are run."""
HOME: Final = "/home/ada"
"""Where pages are read, as they show it."""


def paste(
    commands: Sequence[str],
    directory: Path,
    *,
    ports: Mapping[str, int] | None = None,
    curl: Sequence[str] = (),
    data: str = "pickguard-data",
) -> list[str]:
    """Paste blocks into one shell, in order; return what each printed. A command that fails ends it, and that is an error.

    Ports that pages name are replaced by free ones, or those that are given, and back in what is printed. Whatever the shell
    has started ends with it.
    """
    used = dict(ports or {})
    programs = directory / "programs"
    programs.mkdir()
    program = programs / "curl"
    program.write_text(f'#!/bin/sh\nexec {" ".join(curl or CURLS.get("curl", CURLS["stand-in"]))} "$@"\n')
    program.chmod(0o700)
    script = ["set -e\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"]
    for command in commands:
        steps = _STARTED.format(command=command.strip()) if _START.match(command) else command
        script.append(f"{steps}\nprintf '%s' '{_END}'\n")
    for named in dict.fromkeys(["9443", *_PORT.findall("".join(script))]):
        used.setdefault(named, free_port())
    file = directory / "programs/script"
    file.write_text(_PORT.sub(lambda match: str(used[match[1]]), "".join(script)).replace("pickguard-data", data))
    with subprocess.Popen(
        ["bash", "--norc", str(file)],
        cwd=directory,
        env={
            "PATH": f"{programs}:{PROGRAMS}:{os.environ['PATH']}",
            "HOME": str(directory),
            "PICKGUARD_PORT": str(used["9443"]),  # where a page leaves the port to the service
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            printed, _ = shell.communicate(timeout=2 * PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, printed
    *told, rest = printed.split(_END)
    assert rest == "", rest
    for named, number in used.items():
        told = [text.replace(str(number), named) for text in told]
    return [text.replace(str(directory), HOME).replace(data, "pickguard-data") for text in told]
