"""``python -m tools.release 1.2.0`` sees that the commit at hand can be that version, and tags it. docs/releasing.md."""

import re
import subprocess
import sys
from pathlib import Path

from packaging.version import Version

_FORM = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")


def main(directory: Path, arguments: list[str]) -> str:
    """Tag the commit; return what is wrong, or nothing."""
    if len(arguments) != 1 or not _FORM.fullmatch(arguments[0]):
        return "give a version, such as 1.2.0 or 1.2.0rc1: make release VERSION=1.2.0"
    (text,) = arguments
    tag = f"v{text}"
    tags = _git(directory, "tag", "--list", "v*").split()
    if tag in tags:
        return f"{tag} is there already: a version is released once"
    released = [Version(each[1:]) for each in tags if _FORM.fullmatch(each[1:])]
    if later := [each for each in released if each > Version(text)]:
        return f"{max(later)} is released already, which is later"
    if wrong := _wrong_with_changes((directory / "CHANGELOG.md").read_text(), text):
        return wrong
    if _git(directory, "status", "--porcelain"):
        return "there is something that is not committed: git status"
    _git(directory, "tag", "--annotate", tag, "--message", f"Pickguard {text}")
    return ""


def _wrong_with_changes(changes: str, text: str) -> str:
    final = Version(text).base_version
    section = re.search(rf"^## \[{re.escape(final)}\] - \d{{4}}-\d\d-\d\d$(.*?)(?=^## |\Z)", changes, re.MULTILINE | re.DOTALL)
    if section is None and Version(text).is_prerelease:
        section = re.search(r"^## \[Unreleased\]$(.*?)(?=^## |\Z)", changes, re.MULTILINE | re.DOTALL)
    if section is None:
        return f"CHANGELOG.md has no section for it: ## [{final}] - YYYY-MM-DD, below ## [Unreleased]"
    return "" if re.search(r"^- ", section[1], re.MULTILINE) else f"CHANGELOG.md says nothing of what is new in {text}"


def _git(directory: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=directory, check=False, capture_output=True, text=True)  # noqa: S607
    if done.returncode != 0:
        raise SystemExit(f"git {words[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    if wrong := main(Path.cwd(), sys.argv[1:]):
        sys.exit(f"no release: {wrong}")
    sys.stdout.write(f"v{sys.argv[1]} is tagged. To publish it: git push origin v{sys.argv[1]}, then make dist\n")
