"""Results as they are kept: the raw figures of every round, and on what they were taken."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Self

import attrs

from bench.performance.figures import Figure, Step
from bench.performance.services import ROOT

FOLDER: Final = ROOT / "bench/results"
PACKAGES: Final = ("aiohttp", "uvloop", "redis", "hiredis", "argon2-cffi-bindings")


@attrs.frozen(kw_only=True)
class Circumstances:
    """When, of what, and on what something was measured. No name of a machine or of a person."""

    began: str
    ended: str
    commit: str
    processor: str
    cores: int
    system: str
    versions: Mapping[str, str]

    @classmethod
    def now(cls, began: datetime, versions: Mapping[str, str]) -> Self:
        python = {platform.python_implementation(): platform.python_version()}
        return cls(
            began=began.isoformat(timespec="seconds"),
            ended=datetime.now(UTC).isoformat(timespec="seconds"),
            commit=_commit(),
            processor=parse_processor(Path("/proc/cpuinfo").read_text()),
            cores=os.cpu_count() or 1,
            system=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
            versions={**python, **{name: metadata.version(name) for name in PACKAGES}, **versions},
        )


@attrs.frozen(kw_only=True)
class Results:
    """The steps of one sitting."""

    circumstances: Circumstances
    steps: Mapping[str, Step]

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the results in a file, None where there is no such file."""
        if not path.exists():
            return None
        stored: dict[str, Any] = json.loads(path.read_text())
        steps = {name: Step(**each) for name, each in stored["steps"].items()}
        return cls(circumstances=Circumstances(**stored["circumstances"]), steps=steps)

    def write(self, path: Path) -> None:
        """Keep them in a file: a line for each run, so that a later one can be compared with it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        steps = []
        for name, step in self.steps.items():
            rounds = ",\n".join(_round(each) for each in step.rounds)
            head = f'"taken": {json.dumps(step.taken)}, "wanted": {step.wanted}'
            steps.append(f'  "{name}": {{{head}, "rounds": [\n{rounds}\n  ]}}')
        about = json.dumps(attrs.asdict(self.circumstances), indent=1)
        all_steps = ",\n".join(steps)
        path.write_text(f'{{"circumstances": {about},\n"steps": {{\n{all_steps}\n}}}}\n')

    def over(self, before: Self) -> Self:
        """Return these results with the steps of earlier ones that were not taken again."""
        return attrs.evolve(self, steps={**before.steps, **self.steps})

    def has(self, step: str, *variants: str) -> bool:
        return step in self.steps and set(variants) <= set(self.steps[step].variants)

    def figure(self, step: str, variant: str, name: str) -> Figure | None:
        """Return a figure, None where it was not measured."""
        return self.steps[step].figure(variant, name) if self.has(step, variant) else None


def _round(runs: Mapping[str, Mapping[str, float]]) -> str:
    rounded = {variant: {name: float(f"{value:.5g}") for name, value in run.items()} for variant, run in runs.items()}
    return "   {" + ",\n    ".join(f"{json.dumps(variant)}: {json.dumps(run)}" for variant, run in rounded.items()) + "}"


def parse_processor(text: str) -> str:
    """Return the name of the processor in `/proc/cpuinfo`."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _commit() -> str:
    """Return what is checked out, with a plus where something was changed since."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "requirements")
    return f"{git('rev-parse', '--short', 'HEAD') or 'unknown'}{'+' if changed else ''}"
