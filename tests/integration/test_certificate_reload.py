"""Another certificate, without an end to any connection: SIGHUP."""

import asyncio
import fcntl
import os
import pty
import signal
import ssl
import sys
import termios
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pickguard.adapters.engine import Engine
from pickguard.entrypoints.tls import development_certificate
from tests.support.certificates import write_pair
from tests.support.serving import (
    START_SECONDS,
    STOP_SECONDS,
    Serve,
    children,
    clean_environment,
    command_of,
    serving,
    until_gone,
)

PATIENCE = 20.0
REQUEST = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
Pair = tuple[Path, Path]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """The files that the service is told to use."""
    return development_certificate(tmp_path / "own", "127.0.0.1")


def replace(pair: Pair, *, with_rsa: bool = False) -> bytes:
    """Put another certificate and its key in place of these, and return the certificate as clients are shown it."""
    return write_pair(*pair, name="another", with_rsa=with_rsa)


class Client:
    """One connection that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)

    async def is_served(self) -> bool:
        self.writer.write(REQUEST)
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            await self.reader.readexactly(len(b'{"status":"ok"}'))
        return head.startswith(b"HTTP/1.1 200 ")


@asynccontextmanager
async def connected(service: Serve) -> AsyncGenerator[Client]:
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE  # which one is shown is what is looked at
    host, port = service.base.removeprefix("https://").split(":")
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(host, int(port), ssl=trusting)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def shown(service: Serve) -> bytes:
    """Return the certificate that a newcomer is shown, once the newcomer was served."""
    async with connected(service) as client:
        assert await client.is_served()
        assert isinstance(client.shown, bytes)
        return client.shown


async def until_said(service: Serve, *words: str) -> list[str]:
    """Read the log up to a line with these words."""
    assert service.process.stderr is not None
    lines: list[str] = []
    async with asyncio.timeout(PATIENCE):
        while not lines or not all(word in lines[-1] for word in words):
            line = await service.process.stderr.readline()
            assert line, lines
            lines.append(line.decode())
    return lines


def files(pair: Pair) -> tuple[str, ...]:
    return "--tls-cert", str(pair[0]), "--tls-key", str(pair[1]), "--store", "memory:"


@pytest.mark.parametrize("with_rsa", [False, True], ids=["same kind of key", "another kind of key"])
async def test_newcomers_get_the_new_certificate_and_open_connections_go_on(
    data_dir: Path, pair: Pair, *, with_rsa: bool
) -> None:
    async with serving(data_dir, *files(pair)) as service:
        async with connected(service) as old:
            assert await old.is_served()
            made = replace(pair, with_rsa=with_rsa)
            assert await shown(service) == old.shown != made
            service.process.send_signal(signal.SIGHUP)
            await until_said(service, "INFO", "the certificate was loaded again")
            assert {await shown(service) for _ in range(3)} == {made}
            assert await old.is_served()
        assert await service.stop() == 0


SPOILED: dict[str, Callable[[Pair], object]] = {
    "no certificate": lambda pair: pair[0].write_text("not a certificate"),
    "no file": lambda pair: pair[0].unlink(),
    "another key": lambda pair: replace((pair[0].with_name("other.pem"), pair[1])),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
async def test_a_certificate_that_cannot_be_used_leaves_the_one_before_and_is_said_in_one_line(
    data_dir: Path, pair: Pair, spoil: Callable[[Pair], object]
) -> None:
    async with serving(data_dir, *files(pair)) as service:
        before = await shown(service)
        spoil(pair)
        service.process.send_signal(signal.SIGHUP)
        (line,) = await until_said(service, "the one before stays")
        assert "ERROR" in line
        assert str(pair[0]) in line
        assert await shown(service) == before
        made = replace(pair)
        service.process.send_signal(signal.SIGHUP)
        await until_said(service, "the certificate was loaded again")
        assert await shown(service) == made
        assert await service.stop() == 0


def workers_of(service: Serve) -> list[int]:
    return [pid for pid in children(service.process.pid) if "pickguard serve" in command_of(pid)]


async def test_every_worker_gets_it_and_so_does_one_that_is_forked_later(data_dir: Path, pair: Pair, valkey: Engine) -> None:
    args = (
        *files(pair)[:4],
        "--store",
        valkey.url,
        "--workers",
        "2",
        "--store-connect-timeout",
        "20s",
        "--store-timeout",
        "20s",
    )
    async with serving(data_dir, *args) as service:
        async with connected(service) as old:
            made = replace(pair)
            service.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(PATIENCE):
                while {await shown(service) for _ in range(16)} != {made}:  # of which some are with each, but for 3 in 10^5
                    await asyncio.sleep(0.02)
            assert await old.is_served()
        first = workers_of(service)
        for each in first:
            os.kill(each, signal.SIGKILL)
            await until_gone(each)
        async with asyncio.timeout(PATIENCE):
            while len(set(workers_of(service)) - set(first)) < 2:
                await asyncio.sleep(0.02)
        assert {await shown(service) for _ in range(16)} == {made}
        pair[0].unlink()
        service.process.send_signal(signal.SIGHUP)
        lines = await until_said(service, "the one before stays")
        assert {await shown(service) for _ in range(16)} == {made}
        assert await service.stop() == 0
        assert service.process.stderr is not None
        assert len([line for line in lines if "stays" in line]) == 1


async def test_a_development_certificate_that_is_gone_is_made_anew(data_dir: Path) -> None:
    async with serving(data_dir, "--store", "memory:") as service:
        before = await shown(service)
        service.process.send_signal(signal.SIGHUP)
        await until_said(service, "the certificate was loaded again")
        assert await shown(service) == before
        service.certificate.unlink()
        service.process.send_signal(signal.SIGHUP)
        await until_said(service, "the certificate was loaded again")
        assert await shown(service) == ssl.PEM_cert_to_DER_cert(service.certificate.read_text()) != before
        assert await service.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_without_tls_there_is_nothing_to_load_and_the_service_goes_on(
    data_dir: Path, valkey: Engine, workers: str
) -> None:
    async with serving(data_dir, "--no-tls", "--store", valkey.url, "--workers", workers) as service, service.client() as api:
        service.process.send_signal(signal.SIGHUP)
        await until_said(service, "INFO", "--no-tls")
        assert (await api.call("GET", "/livez"))[0] == 200
        assert await service.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_service_ends_with_the_terminal_that_it_was_started_at(data_dir: Path, workers: str) -> None:
    near, far = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(far, termios.TIOCSCTTY, 0)

    command = [sys.executable, "-m", "pickguard", "serve", "--port", "0", "--data-dir", str(data_dir), "--workers", workers]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=far,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=clean_environment(),
        cwd=data_dir.parent,
        preexec_fn=take_terminal,
    )
    os.close(far)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            while b"Stop with Ctrl-C" not in (line := await process.stdout.readline()):
                assert line
        os.kill(process.pid, signal.SIGHUP)  # the terminal is there: this is for the certificate
        os.close(near)
        async with asyncio.timeout(STOP_SECONDS):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
