"""deploy/systemd: systemd understands the unit and finds it closed, and the service can live in it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from pickguard import Settings
from pickguard.entrypoints.settings import options
from pickguard.entrypoints.tls import development_certificate
from tests.support.code_blocks import blocks_for
from tests.support.processes import PATIENCE, run, serving
from tests.support.sandbox import allowed_calls, value, values
from tests.support.walks import lead_a_life

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy/systemd"
UNIT: Final = (DEPLOY / "pickguard.service").read_text()
DROP_INS: Final = sorted((DEPLOY / "pickguard.service.d").iterdir())
PROGRAM: Final = str(Path(sys.executable).with_name("pickguard"))
MOST_EXPOSURE: Final = 14
"""In tenths, as `systemd-analyze security` counts. What is left of it is the network, which a server is for."""

if not shutil.which("systemd-analyze") and os.environ.get("CI") == "true":
    raise RuntimeError("CI examines the unit with systemd-analyze, and there is none; .ci/run installs it")
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit and what is dropped into it, with the program of this run."""
    folder = tmp_path / "system"
    shutil.copytree(DEPLOY, folder)
    path = folder / "pickguard.service"
    path.write_text(UNIT.replace("/opt/pickguard/bin/pickguard", PROGRAM))
    return path


def verify(unit: Path) -> str:
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return f"{done.stdout}{done.stderr}"


@needs_systemd
def test_systemd_understands_every_line(unit: Path) -> None:
    assert verify(unit) == ""
    unit.write_text(unit.read_text().replace("ProtectProc=", "ProtectProcess="))
    assert "ProtectProcess" in verify(unit)
    (unit.parent / "pickguard.service.d/store.conf").write_text("[Service]\nLoadCredentials=a:b\n")
    assert "LoadCredentials" in verify(unit)


@needs_systemd
def test_systemd_finds_the_unit_closed(unit: Path) -> None:
    run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", "--no-pager", str(unit)],
        directory=ROOT,
    )


def environment(*files: str) -> dict[str, str]:
    """Return what the unit and files dropped into it put into the environment."""
    words = [word for text in (UNIT, *files) for line in values(text, "Environment") for word in shlex.split(line)]
    return dict(word.split("=", 1) for word in words)


def test_every_variable_is_a_setting() -> None:
    known = {each.variable for each in options()}
    assert set(environment(*(file.read_text() for file in DROP_INS))) <= known
    assert set(read_environment_file()) <= known


def test_every_credential_that_is_named_is_loaded_and_none_for_nothing() -> None:
    for file in DROP_INS:
        text = file.read_text()
        loaded = [line.split(":")[0] for line in values(text, "LoadCredential")]
        assert loaded == re.findall(r"%d/([\w-]+)$", text, re.MULTILINE)
        assert all(line.split(":")[1].startswith("/etc/pickguard/") for line in values(text, "LoadCredential"))


def test_no_password_stands_in_the_environment() -> None:
    secret = {each.variable for each in options() if each.in_environment_only}
    assert secret
    assert not secret & (set(read_environment_file()) | set(environment(*(file.read_text() for file in DROP_INS))))


def test_the_files_that_are_dropped_in_make_sense(tmp_path: Path) -> None:
    for name in ("store-password", "store-ca", "mail-password"):
        (tmp_path / name).write_text("something\n")
    given = environment(*(file.read_text() for file in DROP_INS))
    given = {name: each.replace("%d", str(tmp_path)).replace("%S", str(tmp_path)) for name, each in given.items()}
    settings = Settings.load({}, given)
    assert settings.strict_durability
    assert settings.store.startswith("rediss://")


def read_environment_file() -> dict[str, str]:
    lines = (DEPLOY / "pickguard.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@needs_systemd
def test_the_service_lives_in_its_sandbox(unit: Path, tmp_path: Path) -> None:
    allowed = allowed_calls(UNIT)
    assert {"read", "prlimit64"} <= allowed
    assert not allowed & {"chown", "setuid", "mount", "ptrace", "sched_setaffinity", "reboot"}
    certificate, key = development_certificate(tmp_path / "tls", "127.0.0.1")
    given = {**environment(), **read_environment_file(), "PICKGUARD_HOST": "127.0.0.1", "PICKGUARD_PORT": "0"}
    given["PICKGUARD_DATA_DIR"] = given["PICKGUARD_DATA_DIR"].replace("%S", str(tmp_path / "lib"))
    given |= {"PICKGUARD_TLS_CERT": str(certificate), "PICKGUARD_TLS_KEY": str(key)}
    given |= {"PICKGUARD_WORKERS": "2", "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    Path(given["PICKGUARD_DATA_DIR"]).mkdir(parents=True)
    command = shlex.split(value(UNIT, "ExecStart").replace("/opt/pickguard/bin/pickguard", PROGRAM))
    sandboxed = [sys.executable, "-m", "tests.support.sandbox", str(unit), *command]
    with serving(sandboxed, given, tmp_path / "run") as served:
        lead_a_life(served.url, certificate)
    assert "Traceback" not in (tmp_path / "run/stderr.log").read_text()


@needs_systemd
def test_the_sandbox_of_the_test_refuses_what_the_unit_does(unit: Path) -> None:
    program = "import os; os.chown('.', 0, 0)"
    command = [sys.executable, "-m", "tests.support.sandbox", str(unit), sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert "PermissionError" in done.stderr


@needs_systemd
def test_the_commands_of_the_page_install_what_systemd_understands(tmp_path: Path) -> None:
    """Run the page's commands on a root of their own. What would change this system is left out: users, and services."""
    for name in ("cert.pem", "key.pem", "store-ca.pem"):
        (tmp_path / name).write_text("something\n")
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for name in ("systemctl", "systemd-sysusers", "python3", "pip"):
        (stubs / name).write_text(f'#!/bin/sh\necho "{name} $*" >>"{tmp_path}/called"\n')
        (stubs / name).chmod(0o700)
    script = "".join(block.text for block in blocks_for("test_the_commands_of_the_page_install_what_systemd_understands"))
    script = script.replace("/opt/pickguard/bin/pip", "pip").replace("/etc/", f"{tmp_path}/etc/").replace("-g pickguard ", "")
    path = f"{stubs}:{os.environ['PATH']}"
    run(["bash", "-euc", script], directory=tmp_path, PATH=path, STORE_PASSWORD="one", MAIL_PASSWORD="two")
    etc = tmp_path / "etc"
    assert (etc / "sysusers.d/pickguard.conf").exists()
    assert (etc / "pickguard/mail-password").read_text() == "two\n"
    assert (etc / "pickguard/store-password").stat().st_mode & 0o777 == 0o600
    assert (etc / "pickguard/tls/key.pem").stat().st_mode & 0o777 == 0o640
    installed = etc / "systemd/system/pickguard.service"
    assert installed.read_text() == UNIT
    installed.write_text(UNIT.replace("/opt/pickguard/bin/pickguard", PROGRAM))
    assert verify(installed) == ""
    # What the unit, the files dropped in and the settings name is where the commands have put it.
    named = re.findall(r"/etc/pickguard/[\w./-]+", "".join([UNIT, *(file.read_text() for file in DROP_INS)]))
    named += [each for each in read_environment_file().values() if each.startswith("/")]
    assert len(named) > 4
    assert [each for each in named if not (tmp_path / each.removeprefix("/")).exists()] == []
    called = (tmp_path / "called").read_text()
    assert "pip install pickguard[server]" in called
    assert "systemctl enable --now pickguard" in called
