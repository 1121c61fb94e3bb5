"""The checks see what they are to check: a pattern that leaves out a folder leaves no other trace."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_linter_reads_every_module_once() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--show-files"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    seen = {Path(line) for line in shown.stdout.splitlines()}
    for folder in ("src", "tests", "bench", "docker"):
        assert set((ROOT / folder).rglob("*.py")) <= seen, folder
    assert not [path for path in seen if path.relative_to(ROOT).parts[0] in {"domain", "ports", "adapters", "entrypoints"}]
