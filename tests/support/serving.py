"""`pickguard serve` as its users run it: a process of its own, on a port that the system chooses."""

import asyncio
import json
import os
import re
import signal
import ssl
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests.support.fakes import GOOD_PASSWORD

START_SECONDS = 60
STOP_SECONDS = 30
RUN_SECONDS = 180
"""Until a test gives up on a program that is to end by itself. Nothing waits as long as any of these unless it fails."""


def clean_environment() -> dict[str, str]:
    """The environment of this process without anything that would configure a service.

    But for the limits: many tests do from one address what only many people would do. Those of the limits switch them on.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PICKGUARD_")}
    return {**kept, "PICKGUARD_RATE_LIMITS": "off"}


class Serve:
    """A running service. Its data outlives it, so that another one can be started on the same."""

    def __init__(self, process: asyncio.subprocess.Process, announcement: str, data_dir: Path) -> None:
        self.process = process
        self.announcement = announcement
        self.data_dir = data_dir
        found = re.search(r"https?://\S+", announcement)
        assert found is not None
        self.base = found[0]

    @classmethod
    async def start(cls, data_dir: Path, *args: str, environment: Mapping[str, str] | None = None) -> Self:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pickguard", "serve", "--port", "0", "--data-dir", str(data_dir), *args),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**clean_environment(), **(environment or {})},
            cwd=data_dir.parent,
        )
        assert process.stdout is not None
        announcement = b""
        async with asyncio.timeout(START_SECONDS):
            while b"Stop with Ctrl-C" not in announcement:
                line = await process.stdout.readline()
                if not line:
                    _, errors = await process.communicate()
                    message = f"the service ended with {process.returncode}: {errors.decode()}"
                    raise AssertionError(message)
                announcement += line
        return cls(process, announcement.decode(), data_dir)

    @property
    def certificate(self) -> Path:
        return self.data_dir / "tls" / "cert.pem"

    @asynccontextmanager
    async def client(self) -> AsyncGenerator["Api"]:
        tls = ssl.create_default_context(cafile=self.certificate) if self.base.startswith("https") else True
        connector = aiohttp.TCPConnector(ssl=tls, limit=0)
        async with aiohttp.ClientSession(self.base, connector=connector, timeout=aiohttp.ClientTimeout(60)) as session:
            yield Api(session)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status, which must come in time."""
        self.process.send_signal(number)
        async with asyncio.timeout(STOP_SECONDS):
            await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode

    async def end(self) -> None:
        """End the service in whatever state it is."""
        if self.process.returncode is None:
            self.process.kill()
            await self.process.communicate()


@asynccontextmanager
async def serving(data_dir: Path, *args: str, environment: Mapping[str, str] | None = None) -> AsyncGenerator[Serve]:
    service = await Serve.start(data_dir, *args, environment=environment)
    try:
        yield service
    finally:
        await service.end()


class Api:
    """The API with as few words as tests like."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def call(self, method: str, path: str, body: object = None, *, token: str | None = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.session.request(method, path, json=body, headers=headers) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else None

    async def register(self, email: str = "ada@example.com") -> int:
        status, _ = await self.call("POST", "/v1/users", {"name": "Ada", "email": email, "password": GOOD_PASSWORD})
        return status

    async def log_in(self, email: str = "ada@example.com") -> str:
        status, answer = await self.call("POST", "/v1/sessions", {"email": email, "password": GOOD_PASSWORD})
        assert status == 201, answer
        return str(answer["access_token"])

    async def me(self, token: str) -> int:
        status, _ = await self.call("GET", "/v1/users/me", token=token)
        return status

    async def until_ready(self) -> None:
        """Ask until the service is ready."""
        async with asyncio.timeout(START_SECONDS):
            while (await self.call("GET", "/readyz"))[0] != 200:
                await asyncio.sleep(0.02)


async def run_to_end(*args: str, environment: Mapping[str, str] | None = None, cwd: Path) -> tuple[int, str, str]:
    """Run the command line and return its status, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pickguard", *args),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**clean_environment(), **(environment or {})},
        cwd=cwd,
    )
    output, errors = await ended(process)
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def ended(process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    """Return what a process prints until it ends, which must be in time."""
    try:
        async with asyncio.timeout(RUN_SECONDS):
            return await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def children(pid: int) -> list[int]:
    """Return the children of a process (Linux)."""
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return ""


def engine_of(service: Serve) -> int:
    """Return the process of a service's embedded store."""
    return next(
        pid for pid in children(service.process.pid) if "--unixsocket" in command_of(pid) or "-server" in command_of(pid)
    )


async def until_gone(*pids: int) -> None:
    """Wait until none of the processes runs any more."""
    async with asyncio.timeout(STOP_SECONDS):
        while any(_runs(pid) for pid in pids):
            await asyncio.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
