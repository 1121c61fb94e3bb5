"""`pickguard serve`: sockets, TLS, the embedded store, workers, and an orderly end.

One worker runs in this process. Several are forked from it before any event loop or thread exists; this process then only
supervises: it replaces workers that died, restarts the embedded store if it ended, and stops all of them on SIGTERM or SIGINT.
"""

import asyncio
import contextlib
import errno
import logging
import os
import shlex
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NoReturn

import attrs
from aiohttp import web

from pickguard.adapters.engine import Engine, EngineError
from pickguard.domain.model.errors import StoreUnavailable
from pickguard.entrypoints.http.app import create_app
from pickguard.entrypoints.http.express import Express
from pickguard.entrypoints.http.protocol import Connection
from pickguard.entrypoints.settings import EMBEDDED, Settings, SettingsError
from pickguard.entrypoints.tls import CertificateError, development_certificate, server_context

logger = logging.getLogger("pickguard.serve")

BACKLOG: Final = 1024
SEND_BUFFER_BYTES: Final = 64 * 1024
"""What the kernel keeps of answers that are not read yet, for each connection. Left alone it would grow to megabytes."""
TLS_HANDSHAKE_SECONDS: Final = 4.0
TLS_SHUTDOWN_SECONDS: Final = 2.0
SUPERVISION_SECONDS: Final = 0.1
REPLACEMENT_SECONDS: Final = 1.0
"""The least time between two workers that take the place of others."""


class ServingError(Exception):
    """The service cannot start. The message is one line for a person."""


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then let requests under way end and return. Raises `ServingError`."""
    signal.signal(signal.SIGTERM, _stop_before_ready)
    with ExitStack() as stack:
        if settings.store == EMBEDDED or not (settings.no_tls or settings.tls_cert):
            _make_data_dir(settings.data_dir)
        listener = stack.enter_context(_listen(settings))
        tls, certificate = _tls(settings)
        engine = None
        if settings.store == EMBEDDED:
            engine = Engine(settings.data_dir, program=settings.engine)
            try:
                stack.enter_context(engine)
            except EngineError as error:
                raise ServingError(str(error)) from error
        running = attrs.evolve(settings, store=engine.url, engine=None) if engine else settings
        announcement = _announcement(settings, listener.getsockname()[1], certificate)
        if settings.workers == 1:
            _run(_work(running, listener, tls, lambda: announce(announcement), engine=engine))
        else:
            _Supervisor(running, listener, tls, engine).run(lambda: announce(announcement))


def _stop_before_ready(*_: object) -> NoReturn:
    """End as asked, and in order: what has been started by then is stopped."""
    sys.exit(0)


def _make_data_dir(data_dir: Path) -> None:
    """Make the directory of the embedded store and of the certificate, for its owner alone."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ServingError(f"the data directory {data_dir} cannot be used: {error.strerror}") from error


@contextmanager
def _listen(settings: Settings) -> Generator[socket.socket]:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise ServingError(f"--host {settings.host}: there is no such address") from None
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        try:
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as error:
            raise ServingError(_bind_failure(settings, error)) from None
        listener.setblocking(False)
        yield listener


def _bind_failure(settings: Settings, error: OSError) -> str:
    where = f"{settings.host} port {settings.port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program; stop it, or choose another port with --port"
    if error.errno == errno.EACCES:
        return f"{where} may not be opened by this user; choose a port above 1023 with --port"
    return f"{where} cannot be opened: {error.strerror}"


def _tls(settings: Settings) -> tuple[ssl.SSLContext | None, Path | None]:
    """Return the context to serve with, and the development certificate if that is what it serves."""
    if settings.no_tls:
        return None, None
    try:
        if settings.tls_cert is not None and settings.tls_key is not None:
            return server_context(settings.tls_cert, settings.tls_key), None
        certificate, key = development_certificate(settings.data_dir / "tls", settings.host)
        return server_context(certificate, key), certificate
    except CertificateError as error:
        raise ServingError(str(error)) from error


def _run(work: Coroutine[None, None, None]) -> None:
    try:
        import uvloop  # noqa: PLC0415 (not there on every interpreter)
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


async def _work(
    settings: Settings,
    listener: socket.socket,
    tls: ssl.SSLContext | None,
    ready: Callable[[], None],
    *,
    engine: Engine | None = None,
    orphaned: int | None = None,
) -> None:
    """Serve requests until a signal says stop, or the supervisor at the other end of `orphaned` is gone."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if orphaned is not None:
        loop.add_reader(orphaned, stop.set)
    runner = web.AppRunner(
        create_app(settings), handle_signals=False, shutdown_timeout=settings.shutdown_timeout.total_seconds()
    )
    try:
        await runner.setup()
    except (StoreUnavailable, SettingsError) as error:
        raise ServingError(f"--store {settings.shown_store}: {error}") from error
    try:
        handler = runner.server
        assert handler is not None  # noqa: S101 (it is there after setup)
        express = Express(runner.app)
        server = await loop.create_server(
            lambda: Connection(handler, loop=loop, express=express),
            sock=listener.dup(),
            backlog=BACKLOG,
            ssl=tls,
            ssl_handshake_timeout=TLS_HANDSHAKE_SECONDS if tls else None,
            ssl_shutdown_timeout=TLS_SHUTDOWN_SECONDS if tls else None,
        )
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(_keep_engine_alive(engine)) if engine else None
            ready()
            await stop.wait()
            logger.info("stopping: requests under way may end")
            server.close()
            listener.close()
            if watch is not None:
                watch.cancel()
    finally:
        await runner.cleanup()


async def _keep_engine_alive(engine: Engine) -> None:
    while True:
        await asyncio.sleep(SUPERVISION_SECONDS)
        _revive(engine)


def _revive(engine: Engine) -> None:
    try:
        if engine.restart_if_dead():
            logger.error("the embedded store had ended and was started again; what it had acknowledged is on disk")
    except EngineError as error:
        logger.error("the embedded store ended and cannot be started again: %s", error)  # noqa: TRY400 (the message says it all)


class _Supervisor:
    """Keeps a number of workers running."""

    def __init__(self, settings: Settings, listener: socket.socket, tls: ssl.SSLContext | None, engine: Engine | None) -> None:
        self._settings = settings
        self._listener = listener
        self._tls = tls
        self._engine = engine
        self._workers: dict[int, int] = {}  # each with the pipe on which it says that it is ready
        self._fork_again_at = 0.0
        self._stopping = False
        self._lifeline = os.pipe()

    def run(self, ready: Callable[[], None]) -> None:
        """Fork the workers, replace those that die, and end with all of them. Raises `ServingError` if none can start."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_stop)
        try:
            self._start_first()
            if not self._stopping:
                ready()
            while not self._stopping:
                time.sleep(SUPERVISION_SECONDS)
                if self._engine is not None:
                    _revive(self._engine)
                self._replace_dead()
        finally:
            self._stop()
            for end in self._lifeline:
                os.close(end)

    def _note_stop(self, *_: object) -> None:
        self._stopping = True

    def _replace_dead(self) -> None:
        for pid, status in self._reap():
            logger.error("worker %d ended with status %d and is replaced", pid, status)
        if not self._stopping and time.monotonic() >= self._fork_again_at and len(self._workers) < self._settings.workers:
            self._fork()
            # One that cannot start, because the store is down for instance, is not tried without pause.
            self._fork_again_at = time.monotonic() + REPLACEMENT_SECONDS

    def _start_first(self) -> None:
        for _ in range(self._settings.workers):
            told = self._fork()
            message = b""
            while part := os.read(told, 4096):
                message += part
            if self._stopping:
                return
            if message != b"ready":
                raise ServingError(message.decode() or "a worker ended before it was ready")

    def _fork(self) -> int:
        """Fork a worker; return a pipe from which it can be read that it is ready, or why it is not."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            for other in (reading, *self._workers.values()):
                os.close(other)
            os._exit(self._be_worker(writing))
        os.close(writing)
        self._workers[pid] = reading
        return reading

    def _be_worker(self, told: int) -> int:
        os.close(self._lifeline[1])
        if self._engine is not None:
            self._engine.leave_to_parent()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        if self._stopping:  # the signal came between the fork and here
            return 0

        def tell(message: bytes) -> None:
            os.write(told, message)
            os.close(told)

        try:
            _run(_work(self._settings, self._listener, self._tls, lambda: tell(b"ready"), orphaned=self._lifeline[0]))
        except ServingError as error:
            tell(str(error).encode())
            return 1
        except BaseException:
            logger.exception("a worker failed")
            return 1
        finally:
            logging.shutdown()
            sys.stdout.flush()
        return 0

    def _reap(self) -> list[tuple[int, int]]:
        ended = []
        for pid in list(self._workers):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                os.close(self._workers.pop(pid))
                ended.append((pid, os.waitstatus_to_exitcode(status)))
        return ended

    def _stop(self) -> None:
        self._listener.close()
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        give_up_at = time.monotonic() + 2 * self._settings.shutdown_timeout.total_seconds() + 1
        while self._workers and time.monotonic() < give_up_at:
            self._reap()
            time.sleep(0.02)
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _announcement(settings: Settings, port: int, certificate: Path | None) -> str:
    host = settings.host
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104 (shown, not bound)
        host = "127.0.0.1"
    base = f"{'http' if settings.no_tls else 'https'}://{f'[{host}]' if ':' in host else host}:{port}"
    if settings.store == EMBEDDED:
        data = f"{settings.data_dir} (embedded store; a change is on disk before it is answered)"
    elif settings.store == "memory:":
        data = "in memory only: everything is gone when this process ends"
    else:
        data = settings.shown_store
    curl = ["curl", *(["--cacert", str(certificate.absolute())] if certificate else [])]
    body = '{"name":"Ada","email":"ada@example.com","password":"correct horse battery staple"}'
    attempt = shlex.join([*curl, "-H", "Content-Type: application/json", "-d", body, f"{base}/v1/users"])
    lines = [f"Pickguard is ready at {base}", f"  data         {data}"]
    if certificate:
        lines.append(
            f"  certificate  {certificate} (self-signed, for development; give your own with --tls-cert and --tls-key)"
        )
    if settings.workers > 1:
        lines.append(f"  workers      {settings.workers}")
    lines += ["", "Register a first user from another terminal:", f"  {attempt}", "", "Stop with Ctrl-C."]
    return "\n".join(lines)
