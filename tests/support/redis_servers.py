"""A server of Redis or Valkey on a port of its own, to be killed, frozen and started again."""

import asyncio
import errno
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from pickguard.adapters.engine import packaged_program
from pickguard.adapters.redis.durability import mends_torn_transactions

START_SECONDS: Final = 20.0
"""Until a test gives up on a server that does not come up. Nothing waits this long unless it fails."""

SYSTEM_OF_RECORD: Final[Mapping[str, str]] = {
    "appendonly": "yes",
    "appendfsync": "always",
    "aof-load-truncated": "no",
    "save": '""',
    "maxmemory-policy": "noeviction",
}
"""What we recommend for a server that is the only place where the data is."""

_ENDS_TOO_EARLY = "Unexpected end of file reading the append only file"
_GUARD = 'read -r _; kill -KILL "$0" 2>/dev/null'
_ATTEMPTS = 10

# Below the ports that the system gives to clients, so that no connection takes the port of a server that is down, not even one
# that is looking for that server. The bus of a Cluster has the port that lies 10000 further on.
_PORTS = range(10000, 22768)
_BUS = 10000


class ServerError(Exception):
    """The server did not start. The message has the end of its log."""


def free_port() -> int:
    """Return a port that nobody listens on now, and whose Cluster bus is free as well."""
    while True:
        # Not `random`, which pytest-randomly seeds alike in all processes.
        port = secrets.choice(_PORTS)
        if _is_free(port) and _is_free(port + _BUS):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        return True


class Server:
    """One process on 127.0.0.1 with a directory of its own, in which its data and its log stay over restarts.

    Options are named and written as in the server's configuration file, a list for one that comes several times. They are added
    to `SYSTEM_OF_RECORD`, or replace what is there. The file is written at the first start only: what the server itself, or a
    Sentinel, has rewritten since holds after a restart. `file_limit` is the greatest size that a file may grow to, in bytes, a
    multiple of 512: more than that fails like a full disk. It and `env` count from the next start on.

    Use it as an asynchronous context manager. It kills what it started in the end, in whatever state that is; so does a guard
    where the test process itself is killed.
    """

    def __init__(
        self,
        directory: Path,
        options: Mapping[str, str | Sequence[str]] | None = None,
        *,
        program: Path | None = None,
        mode: Sequence[str] = (),
        username: str | None = None,
        password: str | None = None,
        unixsocket: Path | None = None,
        env: Mapping[str, str] | None = None,
        file_limit: int | None = None,
    ) -> None:
        self.directory = directory
        self.port = 0
        self.unixsocket = unixsocket
        self.env = dict(env or {})
        self.file_limit = file_limit
        self._options = {**({} if mode else SYSTEM_OF_RECORD), **(options or {})}
        self._program = program or packaged_program()
        self._mode = mode
        self._username = username
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._frozen = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.directory.name} at port {self.port}>"

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            self.kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The store's URL, with the user and the password."""
        return f"redis://{self._credentials}{self.address}"

    @property
    def unix_url(self) -> str:
        """The store's URL by way of the Unix socket."""
        assert self.unixsocket is not None
        return f"unix://{self._credentials}{quote(str(self.unixsocket))}"

    @property
    def _credentials(self) -> str:
        return f"{quote(self._username or '', safe='')}:{quote(self._password, safe='')}@" if self._password else ""

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self} does not run"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def awake(self) -> bool:
        """Whether it runs and is not frozen."""
        return self.running and not self._frozen

    async def start(self) -> None:
        """Start the process; return when the server answers and has loaded its data. Raises `ServerError`."""
        first = self.port == 0
        for attempts_left in reversed(range(_ATTEMPTS)):
            if first:
                self.port = free_port()
                self._write_configuration()
            if not self.running:
                self._forget()  # one that has ended by itself leaves its guard
            self._spawn()
            try:
                await self._until_ready()
            except ServerError as error:
                self.kill()
                # Between being found free and being bound the port was taken. Once it is the server's, it keeps it.
                if first and attempts_left and "in use" in str(error):
                    continue
                raise
            return

    async def start_after_power_cut(self) -> bool:
        """Start as docs/operations.md says: a log that ends too early is cut first. Tell whether it was."""
        try:
            await self.start()
        except ServerError as error:
            if _ENDS_TOO_EARLY not in str(error):
                raise
            self._cut_log()
            await self.start()
            return True
        return False

    def _cut_log(self) -> None:
        """Take from the log the command, or the whole transaction, that it ends within."""
        with tempfile.TemporaryDirectory() as directory:
            tool = Path(directory) / "redis-check-aof"  # which a server is by that name
            tool.symlink_to(self._program)
            subprocess.run([tool, "--fix", self.append_only_file], input=b"y\n", capture_output=True, check=True)

    async def restart(self) -> None:
        """Kill what may still run, and start again on the same port with the same data."""
        self.kill()
        await self.start()

    def kill(self) -> None:
        """End the process as `kill -9` does, frozen or not, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._forget()

    async def stop(self) -> int:
        """Ask the process to end; return its status."""
        assert self._process is not None, f"{self} does not run"
        self._process.terminate()
        status = await self.ended()
        self._forget()
        return status

    async def ended(self) -> int:
        """Wait until the process has ended by itself; return its status."""
        assert self._process is not None, f"{self} does not run"
        give_up_at = time.monotonic() + START_SECONDS
        while (status := self._process.poll()) is None:
            assert time.monotonic() < give_up_at, f"{self} does not end:\n{self.last_words()}"
            await asyncio.sleep(0.01)
        return status

    def freeze(self) -> None:
        """Let the process stand still. Its sockets stay open and take in what is sent."""
        os.kill(self.pid, signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let a frozen process go on."""
        os.kill(self.pid, signal.SIGCONT)
        self._frozen = False

    def client(self) -> redis.asyncio.Redis:
        """Return a client to look with, which the caller closes. It tries everything once, and decodes nothing."""
        return redis.asyncio.Redis(
            host="127.0.0.1",
            port=self.port,
            username=self._username,
            password=self._password,
            socket_connect_timeout=5,
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )

    def last_words(self, lines: int = 20) -> str:
        """Return the end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _write_configuration(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        own = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": f'"{self.directory}"',
        }
        if self.unixsocket is not None:
            own["unixsocket"] = f'"{self.unixsocket}"'
        lines = []
        for name, values in {**own, **self._options}.items():
            lines += [f"{name} {value}\n" for value in ([values] if isinstance(values, str) else values)]
        self._configuration.write_text("".join(lines))

    @property
    def log(self) -> Path:
        """All that the server has said, over restarts."""
        return self.directory / "server.log"

    @property
    def append_only_file(self) -> Path:
        """The file that writes are appended to."""
        (file,) = [*self.directory.glob("appendonlydir/*.incr.aof"), *self.directory.glob("appendonly.aof")]
        return file

    @property
    def _configuration(self) -> Path:
        return self.directory / "server.conf"

    def _spawn(self) -> None:
        assert not self.running, f"{self} runs already"
        command = [str(self._program), str(self._configuration), *self._mode]
        if self.file_limit is not None:
            # Ignored, the signal becomes an error of the write, as on a full disk. sh counts in blocks of 512 bytes.
            script = f'trap "" XFSZ; ulimit -f {self.file_limit // 512}; exec "$0" "$@"'
            command = ["/bin/sh", "-c", script, *command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # It waits at a pipe whose other end is open only here.
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _forget(self) -> None:
        self._process = None
        self._frozen = False
        if self._guard is not None:
            assert self._guard.stdin is not None
            self._guard.kill()
            self._guard.wait()
            self._guard.stdin.close()
            self._guard = None

    async def _until_ready(self) -> None:
        give_up_at = time.monotonic() + START_SECONDS
        reason = ""
        while True:
            async with self.client() as client:
                try:
                    await client.ping()
                    if (await client.info("server"))["process_id"] == self.pid:
                        return
                    reason = "another server answers there"  # so this one is about to end
                except (RedisError, OSError) as error:  # not there yet, or loading
                    reason = str(error)
            if not self.running:
                raise ServerError(f"{self} ended at once:\n{self.last_words()}")
            if time.monotonic() > give_up_at:
                raise ServerError(f"{self} does not answer: {reason}\n{self.last_words()}")
            await asyncio.sleep(0.01)


async def mends_torn_logs(client: redis.asyncio.Redis) -> bool:
    """Say whether a server is taken to mend a log that ends within a transaction."""
    about = await client.info("server")
    engine = about.get("server_name", "redis")
    return mends_torn_transactions(engine, tuple(int(part) for part in about[f"{engine}_version"].split(".")))
