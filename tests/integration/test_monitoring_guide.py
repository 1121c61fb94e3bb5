"""The guide to watching a service does what it says: its commands are run as they are written, its files are checked."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, get_type_hints

import pytest
import yaml

from pickguard.entrypoints.admin.access import Right, read_tokens
from pickguard.entrypoints.admin.description import ADMIN_OPERATIONS
from pickguard.entrypoints.admin.rendering import ShownStanding
from pickguard.entrypoints.logs import FORMATS, HumanLines
from tests.support.processes import Served, serving
from tests.support.redis_servers import free_port

ROOT: Final = Path(__file__).parents[2]
GUIDE: Final = (ROOT / "docs/monitoring.md").read_text()

missing = [name for name in ("curl", "openssl", "promtool") if not shutil.which(name)]
if missing and os.environ.get("CI") == "true":
    raise RuntimeError(f"CI runs what the guide says, and misses {', '.join(missing)}; .ci/run installs it")
needs_programs = pytest.mark.skipif(bool(missing), reason=f"the guide is run with {', '.join(missing)}")


def blocks(heading: str, language: str) -> list[str]:
    """Return the fenced blocks of a language under a heading."""
    found: list[str] = []
    under = ""
    for title, kind, text in re.findall(r"^#+ ([^\n]+)$|^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL):
        under = title or under
        if kind == language and under == heading:
            found.append(text)
    return found


def shell(text: str, directory: Path) -> str:
    done = subprocess.run(
        ["sh", "-euc", text], cwd=directory, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def served(command: str, directory: Path) -> Generator[Served]:
    """Run a line of the guide that begins with `pickguard serve`."""
    program, *words = command.split()
    assert program == "pickguard"
    environment = {"PATH": os.environ["PATH"]}
    with serving([sys.executable, "-m", "pickguard", *words, "--port", "0"], environment, directory) as found:
        yield found


@needs_programs
def test_a_unix_socket_is_set_up_and_asked_as_it_says(tmp_path: Path) -> None:
    (serve, asking, *_) = blocks("The listener for operators", "sh")
    with served(serve.strip(), tmp_path):
        metrics, users = (shell(line, tmp_path) for line in asking.splitlines())
        assert "pickguard_workers 1.0" in metrics
        assert json.loads(users) == {"users": [], "next": None, "unreadable": []}
        by_address, by_id = blocks("Why a log-in failed", "sh")[0].splitlines()
        assert json.loads(shell(by_address, tmp_path))["users"] == []
        assert json.loads(shell(by_id, tmp_path))["status"] == 404


@needs_programs
def test_a_port_and_its_tokens_are_set_up_and_asked_as_it_says(tmp_path: Path) -> None:
    port = free_port()
    *_, setting_up, asking = (text.replace("9444", str(port)) for text in blocks("The listener for operators", "sh"))
    making, serve = setting_up.splitlines()
    shell(making, tmp_path)
    assert (tmp_path / "admin-tokens").stat().st_mode & 0o077 == 0
    with served(serve, tmp_path) as service:
        assert f"http://127.0.0.1:{port} (administration and metrics)" in service.announcement
        assert "Bearer $(" not in asking  # where other users of the machine could read it, among the arguments of curl
        metrics, users = (shell(line.replace("curl ", "curl -f -sS "), tmp_path) for line in asking.splitlines())
        assert "pickguard_workers 1.0" in metrics
        assert json.loads(users)["users"] == []


def test_the_file_of_tokens_is_one(tmp_path: Path) -> None:
    (text,) = blocks("Tokens", "text")
    (tmp_path / "tokens").write_text(text)
    tokens = read_tokens(tmp_path / "tokens", right=Right.EVERYTHING, flag="--admin-token-file")
    assert [each.operator.name for each in tokens] == ["ada", "grace"]


@needs_programs
def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    (text,) = blocks("Metrics", "yaml")
    (scrape,) = yaml.safe_load(text)["scrape_configs"]
    assert scrape["job_name"] == "pickguard"
    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123456789abcdef")
    (tmp_path / "prometheus.yml").write_text(text.replace(scrape["authorization"]["credentials_file"], str(token)))
    shell("promtool check config prometheus.yml", tmp_path)


@needs_programs
def test_the_alerts_are_proved_as_it_says() -> None:
    (text,) = blocks("Alerts", "sh")
    for line in text.splitlines():
        shell(line, ROOT)


def test_how_a_log_in_stands_is_shown_as_it_is() -> None:
    (text,) = blocks("Why a log-in failed", "json")
    assert set(json.loads(text)) == set(get_type_hints(ShownStanding))


def test_every_request_of_operators_is_named() -> None:
    named = set(re.findall(r"`(GET|POST|DELETE) (/admin/[^`?]+)(?:\?[^`]*)?`", GUIDE))
    assert named == {line for line in ADMIN_OPERATIONS if line[1] != "/metrics"}


def test_every_format_of_the_log_is_named() -> None:
    assert re.findall(r"^\| `(\w+)` \| (?:for people|JSON) ", GUIDE, re.MULTILINE) == list(FORMATS)


def test_an_event_is_written_in_each_format_as_it_says() -> None:
    as_json, as_words = (text.strip() for text in blocks("Logs", "text"))
    fields = json.loads(as_json)
    at = datetime.fromisoformat(fields["time"])
    record = logging.LogRecord("pickguard.events", logging.INFO, "", 0, as_json, None, None)
    record.fields, record.created, record.msecs = fields, at.timestamp(), at.microsecond // 1000
    assert (
        HumanLines(spell_out=True).format(record).replace('"9b7c\\u2026"', "9b7c…").replace('"01a2\\u2026"', "01a2…")
        == as_words
    )
