"""What docs/testing.md says: its programs are run as a newcomer would run them, and its commands are held to what there is."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

import pickguard_pytest
from tests.support.code_blocks import blocks_for

pytest_plugins = ("pytester",)

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "testing.md"
PATIENCE: Final = 60.0
"""Seconds."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with the programs of the page, each in the file that its first line names."""
    pytester.makeini("[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n")
    for block in blocks("python"):
        name = re.match(r"# (\w+\.py)\n", block)
        assert name, block
        (pytester.path / name[1]).write_text(block)
    return pytester


def test_the_page_on_testing_says_what_is_so(project: pytest.Pytester) -> None:
    files = sorted(path.name for path in project.path.glob("test_*.py"))
    run = ("-p", "no:cacheprovider", "-p", "no:randomly", "--hypothesis-profile=short")
    (project.path / "conftest.py").write_text(
        "from hypothesis import settings\n"
        "settings.register_profile('short', max_examples=3, stateful_step_count=10, deadline=None)\n"
    )
    done = project.runpytest_subprocess(*run, *(name for name in files if name != "test_unfinished.py"), timeout=PATIENCE)
    outcomes = done.parseoutcomes()
    assert set(outcomes) == {"passed"}
    assert outcomes["passed"] > 60
    unfinished = project.runpytest_subprocess(*run, "test_unfinished.py", timeout=PATIENCE)
    assert set(unfinished.parseoutcomes()) == {"errors"}
    unfinished.stdout.fnmatch_lines("*TestMyAccounts has to override the fixture `accounts` with a repository to test*")
    installs, runs, *_ = blocks("sh")
    assert installs == "pip install 'pickguard[testing]'\n"
    assert "testing" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert runs.split()[-1] in files


def test_a_newcomer_installs_the_same() -> None:
    (block,) = blocks_for("test_a_newcomer_installs_the_same")
    assert block.page == "docs/newcomer.md"
    assert block.text == blocks("sh")[0]


def test_the_page_names_every_fixture() -> None:
    told = re.findall(r"^\| `(pickguard_\w+)` \|", PAGE.read_text(), re.MULTILINE)
    there = [name for name in vars(pickguard_pytest) if name.startswith("pickguard_")]
    assert sorted(told) == sorted(there)


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    """Run the example as the page says, but at a port that the system chooses."""
    *_, command = blocks("sh")
    words = command.split()
    assert words[0] == "python"
    program = [sys.executable, str(ROOT / words[1]), *words[2:], "0"]
    with subprocess.Popen(program, cwd=directory, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def call(url: str, body: object = None, token: str = "") -> dict[str, object]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data=data, headers=headers), timeout=PATIENCE) as answer:
        found = json.load(answer)
        assert isinstance(found, dict)
        return found


def test_the_example_serves_the_http_api(tmp_path: Path) -> None:
    ada = {"email": "ada@example.com", "password": "correct horse battery staple"}
    with serving(tmp_path) as url:
        call(f"{url}/v1/users", {"name": "Ada", **ada})
        token = str(call(f"{url}/v1/sessions", ada)["access_token"])
    with pytest.raises(URLError):
        call(f"{url}/v1/users/me", token=token)
    with serving(tmp_path) as url:  # another process, and the same file
        assert call(f"{url}/v1/users/me", token=token)["name"] == "Ada"
