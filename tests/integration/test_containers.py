"""The image and the composition, as far as they can be checked where no Docker runs: every part that is plain text or a plain
command is read or run as it is written.
"""

import fnmatch
import json
import os
import re
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import yaml

from pickguard.adapters.engine import packaged_program
from tests.support.distributions import needed_by
from tests.support.engines import PROGRAMS
from tests.support.processes import PATIENCE, serving

ROOT: Final = Path(__file__).parents[2]
BINARIES: Final = Path(sys.executable).parent
PINNED: Final = re.compile(r"[a-z./]+:\d+\.\d+\.\d+(-[a-z0-9.-]+)?")
"""An image by its full version: three numbers."""
PASSWORD: Final = "f3c1b6a9d27e4058"
IMAGE_BINARIES: Final = "/opt/pickguard/bin"


@attrs.frozen(kw_only=True)
class Stage:
    image: str
    name: str
    instructions: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        return [text for each, text in self.instructions if each == name]

    def only(self, name: str) -> str:
        (text,) = self.all(name)
        return text


def read_stages() -> list[Stage]:
    lines = [
        line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    stages: list[Stage] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, text = line.partition(" ")
        if name == "FROM":
            image, _, stage = text.partition(" AS ")
            stages.append(Stage(image=image, name=stage, instructions=[]))
        else:
            stages[-1].instructions.append((name, text))
    return stages


STAGES: Final = read_stages()
FINAL: Final = STAGES[-1]


def copied(stage: Stage) -> Iterator[tuple[str | None, list[str], str]]:
    """Return of each COPY the stage it takes from, the sources and the target."""
    for text in stage.all("COPY"):
        words = shlex.split(text)
        source = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else None
        yield source, words[:-1], words[-1]


def is_let_in(path: str) -> bool:
    """Tell whether .dockerignore lets a file into the build: the last pattern that matches it or a folder above it decides."""
    allowed = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        parts = Path(path).parts
        above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        if any(_matches(each, pattern.removeprefix("!")) for each in above):
            allowed = pattern.startswith("!")
    return allowed


def _matches(path: str, pattern: str) -> bool:
    # Docker's * stops at a slash, and its leading **/ stands for any number of folders.
    if pattern.startswith("**/"):
        return any(_matches("/".join(Path(path).parts[start:]), pattern[3:]) for start in range(len(Path(path).parts)))
    names, wanted = path.split("/"), pattern.split("/")
    return len(names) == len(wanted) and all(fnmatch.fnmatchcase(name, want) for name, want in zip(names, wanted, strict=True))


def image_environment() -> dict[str, str]:
    """Return the environment of the image, with the folder of this test run's programs where the image has its own."""
    environment = {"PATH": os.defpath}
    for text in FINAL.all("ENV"):
        for word in shlex.split(text):
            name, _, value = word.partition("=")
            environment[name] = value.replace("$PATH", environment["PATH"])
    assert environment["PATH"].startswith(f"{IMAGE_BINARIES}:")
    environment["PATH"] = environment["PATH"].replace(IMAGE_BINARIES, str(BINARIES))
    return environment


def image_command() -> list[str]:
    return [*json.loads(FINAL.only("ENTRYPOINT")), *json.loads(FINAL.only("CMD"))]


def is_healthy(environment: Mapping[str, str]) -> bool:
    """Run the image's health check as it is written, with the folders of the checkout for those of the image."""
    _, _, command = FINAL.only("HEALTHCHECK").partition("CMD ")
    words: list[str] = json.loads(command)
    places = {target: source for _, sources, target in copied(FINAL) for source in sources if source.startswith("docker/")}
    words = [str(ROOT / places[word]) if word in places else word for word in words]
    assert words[0] == "python"
    done = subprocess.run(
        words, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode in {0, 1}, done.stderr
    assert not done.stderr
    assert len(done.stdout.splitlines()) == 1
    return done.returncode == 0


# The image


def test_every_image_and_stage_that_the_dockerfile_names_is_pinned_or_its_own() -> None:
    assert all(PINNED.fullmatch(stage.image) for stage in STAGES)
    assert len({stage.image for stage in STAGES}) == 1  # an environment made by one Python would not run on another
    for index, stage in enumerate(STAGES):
        earlier = {each.name for each in STAGES[:index]}
        assert all(source is None or source in earlier for source, _, _ in copied(stage))


def test_all_that_is_copied_exists_and_is_let_into_the_build() -> None:
    wanted = [source for stage in STAGES for origin, sources, _ in copied(stage) if origin is None for source in sources]
    assert "src" in wanted
    for source in wanted:
        path = ROOT / source
        files = (
            [path]
            if path.is_file()
            else [each for each in path.rglob("*") if each.is_file() and "__pycache__" not in each.parts]
        )
        assert files, source
        assert all(is_let_in(str(each.relative_to(ROOT))) for each in files)


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".git/config",
        ".venv/bin/python",
        "pickguard-data/engine.log",
        "pickguard-data/tls/key.pem",
        "requirements/dev.txt",
        "tests/conftest.py",
        "src/pickguard/__pycache__/__init__.cpython-313.pyc",
        "a-file-of-tomorrow",
    ],
)
def test_nothing_else_is_let_into_the_build(path: str) -> None:
    assert not is_let_in(path)


def test_packages_are_locked_by_hash_and_the_service_is_a_wheel() -> None:
    steps = [step for stage in STAGES for text in stage.all("RUN") for step in text.split("&&")]
    fetched = [step for step in steps if re.search(r"\bpip\b.* (install|wheel|download)\b", step)]
    assert any("--require-hashes" in step and "requirements/server.txt" in step for step in fetched)
    assert all("--require-hashes" in step or "--no-index" in step for step in fetched)
    assert not any(" -e " in step or "--editable" in step for step in fetched)
    locked = set(
        re.findall(r"^([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==", (ROOT / "requirements/server.txt").read_text(), re.MULTILINE)
    )
    assert needed_by("pickguard", extras={"server"}) <= locked


def test_argon2_is_built_for_newer_processors_only_where_that_is_asked_for() -> None:
    (build, final) = STAGES
    assert build.all("ARG") == ["ARGON2_CFLAGS=", "VERSION="]
    assert final.all("ARG") == []
    (step,) = [text for text in build.all("RUN") if "ARGON2_CFLAGS" in text]
    assert step.startswith('if [ -n "$ARGON2_CFLAGS" ]; then ')
    assert "requirements/native.sh python wheels" in step
    script = (ROOT / "requirements/native.sh").read_text()
    assert os.access(ROOT / "requirements/native.sh", os.X_OK)
    fetched = re.findall(r"^.*\bpip (?:install|wheel|download)\b.*$", script, re.MULTILINE)
    assert len(fetched) == 2
    assert all("--require-hashes" in line for line in fetched)
    # The lines that the script takes from the lock are those of the bindings, to the comment behind their hashes.
    (pattern,) = re.findall(r"sed -n '([^']+)'", script)
    lines = subprocess.run(
        ["sed", "-n", pattern, str(ROOT / "requirements/server.txt")], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert re.fullmatch(r"argon2-cffi-bindings==\S+ \\", lines[0])
    assert all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}(?: \\)?", line) for line in lines[1:-1])
    assert lines[-1].startswith("    # via")
    assert len(lines) > 3


def test_the_version_of_the_image_is_what_the_build_is_told() -> None:
    (step,) = [text for text in STAGES[0].all("RUN") if "hatchling build" in text]
    words = " ".join(step.partition("hatch-vcs")[2].rpartition("&&")[0].split()).removeprefix("&& ")
    script = f'{words}; printf %s "${{SETUPTOOLS_SCM_PRETEND_VERSION-unset}}"'
    for given, told in (("1.2.3", "1.2.3"), ("", "unset")):
        done = subprocess.run(
            ["/bin/sh", "-c", script], env={"VERSION": given}, check=True, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.stdout == told


def test_argon2_gets_huge_pages() -> None:
    assert image_environment()["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"


def test_the_last_stage_builds_nothing() -> None:
    steps = " ".join(FINAL.all("RUN"))
    assert not re.search(r"\b(pip|apt-get|apt|gcc|make|hatchling|curl|wget)\b", steps)
    assert [(origin, sources) for origin, sources, _ in copied(FINAL)] == [
        ("build", ["/opt/pickguard"]),
        (None, ["docker/healthcheck.py"]),
    ]
    assert any("venv --without-pip /opt/pickguard" in text for text in STAGES[0].all("RUN"))


def test_the_image_runs_as_a_fixed_user_who_owns_the_data() -> None:
    user, _, group = FINAL.only("USER").partition(":")
    assert int(user) >= 1000
    assert int(group) >= 1000
    made = FINAL.only("RUN")
    assert f"--gid {group} pickguard" in made
    assert f"--uid {user} --gid {group}" in made
    data = image_environment()["PICKGUARD_DATA_DIR"]
    assert f"--owner pickguard --group pickguard --mode 700 {data}" in made
    assert FINAL.only("VOLUME") == data
    # What a volume starts with is what is there before VOLUME; later changes would be lost.
    names = [name for name, _ in FINAL.instructions]
    assert names.index("RUN") < names.index("VOLUME")
    assert FINAL.only("EXPOSE") == "9443"


def test_the_image_serves_and_knows_whether_it_is_ready(tmp_path: Path) -> None:
    environment = {**image_environment(), "PICKGUARD_DATA_DIR": str(tmp_path / "data"), "PICKGUARD_PORT": "0"}
    assert environment["PICKGUARD_HOST"] == "0.0.0.0"
    with serving(image_command(), environment, tmp_path / "run") as served:
        assert served.url.startswith("https://")
        environment["PICKGUARD_PORT"] = str(served.port)
        assert is_healthy(environment)
        assert not is_healthy({**environment, "PICKGUARD_NO_TLS": "on"})
    assert (tmp_path / "data" / "appendonlydir").is_dir()
    assert not list((tmp_path / "run").glob("pickguard-data"))


def test_the_image_without_tls_knows_whether_it_is_ready(tmp_path: Path) -> None:
    environment = {**image_environment(), "PICKGUARD_STORE": "memory:", "PICKGUARD_NO_TLS": "on", "PICKGUARD_PORT": "0"}
    with serving(image_command(), environment, tmp_path) as served:
        assert served.url.startswith("http://")
        environment["PICKGUARD_PORT"] = str(served.port)
        assert is_healthy(environment)
        assert not is_healthy({**environment, "PICKGUARD_NO_TLS": "off"})


def test_the_image_is_unhealthy_where_nothing_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen: every connection is refused
        assert not is_healthy({**image_environment(), "PICKGUARD_PORT": str(taken.getsockname()[1])})


# The composition


def interpolate(value: Any, environment: Mapping[str, str]) -> Any:
    """Put variables in, as Docker Compose does. The file uses one form only: a variable that must be set."""
    if isinstance(value, dict):
        return {name: interpolate(each, environment) for name, each in value.items()}
    if isinstance(value, list):
        return [interpolate(each, environment) for each in value]
    if not isinstance(value, str):
        return value
    put = re.sub(r"\$\{([A-Z_]+):\?[^}]+\}", lambda match: environment[match[1]], value)
    assert "$" not in put
    return put


def read_composition(password: str = PASSWORD) -> dict[str, Any]:
    content = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    put = interpolate(content, {"PICKGUARD_REDIS_PASSWORD": password})
    assert isinstance(put, dict)
    return put


def test_the_composition_is_the_api_and_a_redis_that_keeps_what_it_acknowledges() -> None:
    services = read_composition()["services"]
    assert set(services) == {"api", "redis"}
    api, redis = services["api"], services["redis"]
    assert PINNED.fullmatch(redis["image"])
    assert api["build"] == "."
    assert api["ports"] == ["9443:9443"]
    assert "ports" not in redis
    assert api["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert api["environment"] == {
        "PICKGUARD_STORE": "redis://redis:6379/0",
        "PICKGUARD_STORE_PASSWORD": PASSWORD,
        "PICKGUARD_STRICT_DURABILITY": "on",
    }
    program, *arguments = redis["command"]
    assert program == "redis-server"
    assert dict(zip(arguments[::2], arguments[1::2], strict=True)) == {
        "--appendonly": "yes",
        "--appendfsync": "always",
        "--aof-load-truncated": "no",
        "--save": "",
        "--maxmemory-policy": "noeviction",
        "--hash-max-listpack-value": "1024",
        "--hash-max-listpack-entries": "128",
        "--requirepass": PASSWORD,
    }


@pytest.mark.parametrize("name", ["api", "redis"])
def test_each_container_has_no_more_rights_than_it_needs(name: str) -> None:
    composition = read_composition()
    service = composition["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert re.fullmatch(r"\d+s", service["stop_grace_period"])
    assert {"test", "interval", "timeout", "retries", "start_period"} == set(service["healthcheck"])
    (volume,) = service["volumes"]
    source, _, target = volume.partition(":")
    assert source in composition["volumes"]
    assert target == "/data"


def test_the_password_has_no_default_and_stands_in_no_file() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    references = re.findall(r"\$\{[^}]*\}", text)
    assert references
    assert all(each.startswith("${PICKGUARD_REDIS_PASSWORD:?") for each in references)
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_both_files_check_health_in_the_same_way() -> None:
    options, _, command = FINAL.only("HEALTHCHECK").partition("CMD ")
    check = read_composition()["services"]["api"]["healthcheck"]
    assert check["test"] == ["CMD", *json.loads(command)]
    given = dict(word.removeprefix("--").split("=") for word in options.split())
    assert given == {name.replace("_", "-"): str(value) for name, value in check.items() if name != "test"}


@contextmanager
def redis_of_the_composition(program: Path, directory: Path) -> Generator[int]:
    """Run the command of the Redis container as it is written; only port and folder are not those of a container."""
    directory.mkdir()
    _, *arguments = read_composition()["services"]["redis"]["command"]
    for _ in range(5):  # another program may take a free port before the server does
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [str(program), *arguments, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory)]
        with (
            (directory / "log").open("wb") as log,
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as server,
        ):
            try:
                if _is_listening(server, port):
                    yield port
                    return
            finally:
                server.terminate()
    pytest.fail(f"no Redis came up: {(directory / 'log').read_text()}")


def _is_listening(server: subprocess.Popen[bytes], port: int) -> bool:
    give_up_at = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < give_up_at:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return server.poll() is None
    return False


def redis_health(port: int, directory: Path, password: str = PASSWORD) -> bool:
    """Run the health check of the Redis container as it is written, on a `redis-cli` that knows the port."""
    service = read_composition(password)["services"]["redis"]
    kind, command = service["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    directory.mkdir(exist_ok=True)
    client = directory / "redis-cli"
    if found := shutil.which("redis-cli"):
        client.write_text(f'#!/bin/sh\nexec {shlex.quote(found)} -p {port} "$@"\n')
    else:
        client.write_text(f"#!{sys.executable}\n{_REDIS_CLI.format(port=port)}")
    client.chmod(client.stat().st_mode | stat.S_IXUSR)
    environment = {"PATH": f"{directory}:{os.defpath}", **service["environment"]}
    check = ["/bin/sh", "-c", command]
    return subprocess.run(check, env=environment, stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False).returncode == 0


_REDIS_CLI: Final = """
import os, socket, sys
with socket.create_connection(("127.0.0.1", {port})) as server:
    answers = server.makefile("rb")
    server.sendall(b"AUTH %s\\r\\n" % os.environ["REDISCLI_AUTH"].encode())
    answers.readline()
    server.sendall(b"%s\\r\\n" % sys.argv[1].encode())
    print(answers.readline().decode().strip().lstrip("+-"))
"""


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_two_containers_work_together(tmp_path: Path, name: str) -> None:
    program = PROGRAMS[name] or packaged_program()
    composed = read_composition()["services"]["api"]["environment"]
    environment = {**image_environment(), **composed, "PICKGUARD_DATA_DIR": str(tmp_path / "api"), "PICKGUARD_PORT": "0"}
    with redis_of_the_composition(program, tmp_path / "redis") as port:
        assert redis_health(port, tmp_path / "cli")
        assert not redis_health(port, tmp_path / "cli", password="another")
        environment["PICKGUARD_STORE"] = composed["PICKGUARD_STORE"].replace("redis:6379", f"127.0.0.1:{port}")
        with serving(image_command(), environment, tmp_path / "run") as served:
            assert PASSWORD not in served.announcement
            environment["PICKGUARD_PORT"] = str(served.port)
            assert is_healthy(environment)
    assert (tmp_path / "redis" / "appendonlydir").is_dir()


def test_the_image_is_unhealthy_without_its_store(tmp_path: Path) -> None:
    composed = read_composition()["services"]["api"]["environment"]
    environment = {**image_environment(), **composed, "PICKGUARD_DATA_DIR": str(tmp_path / "api"), "PICKGUARD_PORT": "0"}
    with ExitStack() as api:
        with redis_of_the_composition(packaged_program(), tmp_path / "redis") as port:
            environment["PICKGUARD_STORE"] = composed["PICKGUARD_STORE"].replace("redis:6379", f"127.0.0.1:{port}")
            served = api.enter_context(serving(image_command(), environment, tmp_path / "run"))
        assert not is_healthy({**environment, "PICKGUARD_PORT": str(served.port)})
