"""A release is refused where something is missing, and is a tag where nothing is."""

import subprocess
from pathlib import Path

import pytest

from tools.release import main

CHANGES = """# Changelog

## [Unreleased]

- Something new.

## [1.1.0] - 2026-12-24

### Added

- A thing.

## [1.0.0] - 2026-11-30
"""


def git(directory: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com", *words]
    return subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "ada@example.com")
    git(tmp_path, "init", "--quiet")
    (tmp_path / "CHANGELOG.md").write_text(CHANGES)
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    return tmp_path


@pytest.mark.parametrize("version", ["1.1.0", "2.0.0rc1"])
def test_a_version_with_its_section_is_tagged(checkout: Path, version: str) -> None:
    assert main(checkout, [version]) == ""
    assert git(checkout, "describe") == f"v{version}"
    assert "is there already" in main(checkout, [version])


@pytest.mark.parametrize("arguments", [[], ["1.1"], ["v1.1.0"], ["1.1.0-final"], ["1.1.0", "1.2.0"], [""]])
def test_what_is_no_version_is_refused(checkout: Path, arguments: list[str]) -> None:
    assert main(checkout, arguments).startswith("give a version")


def test_a_version_without_a_section_or_with_an_empty_one_is_refused(checkout: Path) -> None:
    assert main(checkout, ["1.2.0"]).startswith("CHANGELOG.md has no section")
    assert main(checkout, ["1.0.0"]).startswith("CHANGELOG.md says nothing")
    assert git(checkout, "tag") == ""


def test_a_version_before_one_that_is_released_is_refused(checkout: Path) -> None:
    git(checkout, "tag", "v1.10.0")
    assert main(checkout, ["1.1.0"]) == "1.10.0 is released already, which is later"


def test_what_is_not_committed_is_not_released(checkout: Path) -> None:
    (checkout / "new").touch()
    assert main(checkout, ["1.1.0"]).startswith("there is something that is not committed")
    assert git(checkout, "tag") == ""
