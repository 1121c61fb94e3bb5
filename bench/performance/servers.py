"""Starting what is measured, and stopping it whatever happens."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final

import attrs

from bench.performance import proc
from bench.performance.errors import BenchError
from bench.performance.services import ROOT

START_SECONDS: Final = 60
STOP_SECONDS: Final = 10
POLL_SECONDS: Final = 0.002
LOG_LINES: Final = 3


@attrs.frozen
class Server:
    """A service that runs in a session of its own, by which all its processes are known."""

    session: int
    log: Path
    has_ended: Callable[[], bool]

    def failure(self, what: str) -> BenchError:
        """Return an error with the last lines that the server wrote."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()][-LOG_LINES:]
        return BenchError(f"{what}: {' / '.join(lines) or 'it wrote nothing'}")


@contextmanager
def running(
    command: Sequence[str], *, cores: str, log: Path, environment: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> Iterator[Server]:
    """Run a server on some cores, in a session of its own; in the end, stop every process of that session."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["taskset", "-c", cores, *command],
            cwd=cwd,
            env={**_plain_environment(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield Server(process.pid, log, has_ended=lambda: process.poll() is not None)
    finally:
        _stop(process)


def _plain_environment() -> dict[str, str]:
    """Return the environment without what would change what is measured: settings of the service, and starts that compile."""
    changing = ("PICKGUARD_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(changing)}


def _stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    for each in list(proc.processes()):
        if each.session == process.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
    process.wait()


def wait_until_ready(server: Server, port: int, path: str, *, tls: bool = False) -> float:
    """Wait for the first answer below 400, and return the seconds until then."""
    began = time.perf_counter()
    while time.perf_counter() - began < START_SECONDS:
        if server.has_ended():
            raise server.failure("a service ended when it should have started")
        with contextlib.suppress(OSError, http.client.HTTPException):
            if get(port, path, tls=tls) < HTTPStatus.BAD_REQUEST:
                return time.perf_counter() - began
        time.sleep(POLL_SECONDS)
    raise server.failure(f"a service did not answer {path} within {START_SECONDS} s")


def get(port: int, path: str, *, tls: bool = False, headers: Mapping[str, str] | None = None) -> int:
    """Send one GET on a connection of its own, and return the status."""
    if tls:
        connection: http.client.HTTPConnection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=trusting())
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=dict(headers or {}))
        answer = connection.getresponse()
        answer.read()
        return answer.status


def trusting() -> ssl.SSLContext:
    """Return a context that takes any certificate: what is measured is on this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def redis_command(port: int, directory: Path) -> list[str]:
    """Return the command of a store that keeps nothing: what a disk takes is no figure of ours."""
    return [
        *("redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory)),
        *("--save", "", "--appendonly", "no", "--daemonize", "no"),
    ]


def need(*programs: str) -> None:
    """Refuse to begin without the programs that are not Python's."""
    packages = {"wrk": "wrk", "redis-server": "redis-server", "taskset": "util-linux", "npm": "nodejs npm", "node": "nodejs"}
    if missing := [program for program in programs if not shutil.which(program)]:
        install = " ".join(dict.fromkeys(packages[program] for program in missing))
        raise BenchError(f"not on the PATH: {', '.join(missing)}. On Debian and Ubuntu: apt install {install}")
