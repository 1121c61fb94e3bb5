"""`pickguard serve`: sockets, TLS, the embedded store, workers, and an orderly end.

One worker runs in this process. Several are forked from it before any event loop or thread exists; this process then only
supervises: it replaces workers that died, restarts the embedded store if it ended, and stops all of them on SIGTERM or SIGINT.
Each has a listening socket of its own, over which the kernel spreads connections, where the kernel does that.
"""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import resource
import shlex
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

import attrs
from aiohttp import web

from pickguard.adapters.engine import Engine, EngineError
from pickguard.adapters.files.watching import WatchedFiles
from pickguard.domain.model.errors import StoreUnavailable
from pickguard.entrypoints.admin.access import Gate, Right, TokenFile, TokensError, note_fault, note_renewal, read_token_files
from pickguard.entrypoints.admin.app import Desk, create_admin_app
from pickguard.entrypoints.admin.listening import AdminListeningError, listening
from pickguard.entrypoints.bootstrap import (
    Measuring,
    Metrics,
    Services,
    Telemetry,
    load,
    open_services,
    open_tracing,
    wants_traces,
)
from pickguard.entrypoints.http.acceptor import BACKLOG, Acceptor
from pickguard.entrypoints.http.app import create_app
from pickguard.entrypoints.http.express import Express
from pickguard.entrypoints.http.keys import SERVICES
from pickguard.entrypoints.http.protocol import Connection
from pickguard.entrypoints.http.watching import STATUSES, Watching, routes_of
from pickguard.entrypoints.settings import EMBEDDED, LEAST_CONNECTIONS, Settings, SettingsError
from pickguard.entrypoints.tls import CertificateError, development_certificate, server_context

logger = logging.getLogger("pickguard.serve")

SEND_BUFFER_BYTES: Final = 64 * 1024
"""What the kernel keeps of answers that are not read yet, for each connection. Left alone it would grow to megabytes."""
ADMIN_CONNECTIONS: Final = 32
"""The most connections of operators, and of what scrapes metrics, to one worker."""
OTHER_FILES: Final = 128 + ADMIN_CONNECTIONS
"""How many files a process may need beside its connections: sockets that listen, pipes, modules, what the event loop has."""
SUPERVISION_SECONDS: Final = 0.1
REPLACEMENT_SECONDS: Final = 1.0
"""The least time between two workers that take the place of others."""
LAST_SECONDS: Final = 1.0
"""How long to wait, when told to stop, for the requests of those who have connected and not sent one yet."""
POLL_SECONDS: Final = 0.01
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What a supervisor tells its workers by, or a terminal all of them."""
SPREADS: Final = sys.platform == "linux"
"""Whether the kernel spreads connections over sockets that share an address by SO_REUSEPORT. Others only let them share it."""
READY: Final = b"ready"
"""What a worker says to the supervisor."""


class ServingError(Exception):
    """The service cannot start. The message is one line for a person."""


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then let requests under way end and return. Raises `ServingError`."""
    signal.signal(signal.SIGTERM, _stop_before_ready)
    tls = _Tls(settings=settings)
    signal.signal(signal.SIGHUP, tls.note)
    settings = _with_files(settings)
    with ExitStack() as stack:
        if settings.store == EMBEDDED or not (settings.no_tls or settings.tls_cert):
            _make_data_dir(settings.data_dir)
        taken = stack.enter_context(_take_address(settings))
        tls.load()
        operators = _open_to_operators(settings, stack)
        traced = wants_traces(os.environ)
        engine = None
        if settings.store == EMBEDDED:
            engine = Engine(settings.data_dir, program=settings.engine)
            try:
                stack.enter_context(engine)
            except EngineError as error:
                raise ServingError(str(error)) from error
        base = settings.listening_url(taken.getsockname()[1])
        running = settings.with_store(engine.url) if engine else settings
        location = settings.mail_location
        if location is not None and not settings.public_url:
            running = running.with_public_url(base)
            if location.is_smtp:
                logger.warning("links in mails begin with %s: give --public-url if people reach it elsewhere", base)
                if not settings.mail_from:
                    logger.warning("mail is from an address at this machine, which others may refuse: give --mail-from")
        announcement = _announcement(settings, base, tls.development, operators.url if operators else None)
        stack.callback(signal.signal, signal.SIGHUP, signal.SIG_IGN)  # the loop gave its handler back
        if settings.workers == 1:
            ready = partial(announce, announcement)
            _runner()(_work(running, taken, tls, ready, engine=engine, operators=operators, traced=traced))
        else:
            listeners = _Listeners(taken, settings.workers)
            _Supervisor(running, listeners, tls, engine, operators, traced=traced).run(lambda: announce(announcement))


@attrs.frozen(kw_only=True)
class _Operators:
    """Where operators are listened to, by all workers, and what they can see."""

    listener: socket.socket
    gate: Gate
    measuring: Measuring
    url: str
    is_local: bool
    """Whether nobody on another machine can connect, so that plain HTTP is spoken."""


def _open_to_operators(settings: Settings, stack: ExitStack) -> _Operators | None:
    """Listen to operators, where that is asked for. Raises `ServingError`."""
    address = settings.admin_address
    if address is None:
        return None
    files = [
        TokenFile(path=path, right=right, flag=flag)
        for path, right, flag in (
            (settings.admin_token_file, Right.EVERYTHING, "--admin-token-file"),
            (settings.metrics_token_file, Right.METRICS, "--metrics-token-file"),
        )
        if path
    ]
    try:
        tokens = WatchedFiles(
            [each.path for each in files],
            partial(read_token_files, files),
            renewed=note_renewal,
            failed=note_fault,
        )
        listener = stack.enter_context(listening(address))
        measuring = Measuring(routes=routes_of(create_app(settings)), statuses=STATUSES, workers=settings.workers)
    except (TokensError, AdminListeningError, SettingsError) as error:
        raise ServingError(str(error)) from error
    port = 0 if address.path else listener.getsockname()[1]
    return _Operators(
        listener=listener,
        gate=Gate(tokens.current, address),
        measuring=measuring,
        url=address.url(port, tls=not address.is_local),
        is_local=address.is_local,
    )


def _with_files(settings: Settings) -> Settings:
    """Have this process and its children open as many files as all connections need, and return the settings that go with it.

    Where the system does not allow so many, there will be fewer connections.
    """
    others = settings.store_connections + OTHER_FILES
    needed = settings.max_connections + others
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return settings
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):  # more than the kernel has, whatever it said
        allowed = soft
    if allowed >= needed:
        return settings
    most = max(allowed - others, LEAST_CONNECTIONS)
    logger.warning(
        "each worker takes at most %d connections, since a process may open only %d files here (see ulimit -n); "
        "--max-connections %d needs %d",
        *(most, allowed, settings.max_connections, needed),
    )
    return attrs.evolve(settings, max_connections=most)


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
def _take_address(settings: Settings) -> Generator[socket.socket]:
    """Yield a socket that has the address, so that no other program gets it. Raises `ServingError`.

    It listens, unless there are to be listeners for several workers.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise ServingError(f"--host {settings.host}: there is no such address") from None
    with _new_socket(family) as taken:
        try:
            taken.bind(address)
            if settings.workers > 1 and SPREADS:
                _hold(taken, chosen=settings.port != 0)
            else:
                taken.listen(BACKLOG)
        except OSError as error:
            raise ServingError(_bind_failure(settings, error)) from None
        yield taken


def _new_socket(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    made.setblocking(False)
    return made


def _hold(taken: socket.socket, *, chosen: bool) -> None:
    """Keep an address without listening, open to listeners of one's own. Raises OSError where somebody has it.

    With SO_REUSEPORT from the start, a second service of the same user would not be refused but get half of the connections.
    So the address is taken as it is without, by listening. Then the socket no longer shares it with anybody who does not set
    SO_REUSEPORT, listens no more, and lets in who does.
    """
    if chosen:  # a port that the system chose is free, and would be lost with the end of listening
        taken.listen()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    if chosen:
        taken.shutdown(socket.SHUT_RDWR)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


class _Listeners:
    """The sockets at which workers listen: one for each where the kernel spreads connections over them, else one for all.

    They are the supervisor's as well, so that whoever has connected to a worker that dies waits for the next one.
    """

    def __init__(self, taken: socket.socket, count: int) -> None:
        self._taken = taken
        self._own = [self._open() for _ in range(count)] if SPREADS else []

    def of(self, slot: int) -> socket.socket:
        """Return the one for the worker in a slot."""
        return self._own[slot] if self._own else self._taken

    def renew(self, slot: int) -> None:
        """Reset those who have connected to a listener without a worker, and have newcomers go to the others."""
        if self._own:
            self._own[slot].close()
            self._own[slot] = self._open()

    def keep_only(self, slot: int) -> None:
        """In a worker: let go of those of the others, who could not close them otherwise."""
        for number, other in enumerate(self._own):
            if number != slot:
                other.close()
        if self._own:
            self._taken.close()

    def close(self) -> None:
        """Close all of them, and give the address up."""
        for each in (*self._own, self._taken):
            each.close()

    def _open(self) -> socket.socket:
        made = _new_socket(self._taken.family)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(self._taken.getsockname())  # to listen is for the worker, when it is ready
        return made


def _bind_failure(settings: Settings, error: OSError) -> str:
    where = f"{settings.host} port {settings.port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program; stop it, or choose another port with --port"
    if error.errno == errno.EACCES:
        return f"{where} may not be opened by this user; choose a port above 1023 with --port"
    return f"{where} cannot be opened: {error.strerror}"


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


@attrs.frozen
class _Terminal:
    """The terminal that the service was started at, if any.

    A terminal that is closed sends SIGHUP to what runs there, as an operator does for a new certificate. Whoever closes it
    expects the service to end with it.
    """

    was_there: bool = attrs.field(factory=_has_terminal)

    @property
    def is_gone(self) -> bool:
        """Whether it was there and has been closed."""
        return self.was_there and not _has_terminal()


@attrs.define(kw_only=True)
class _Tls:
    """The certificate that is served with, and how another comes in its place."""

    settings: Settings
    context: ssl.SSLContext | None = None
    """What newcomers shake hands in; None where plain HTTP is spoken."""
    development: Path | None = None
    """The development certificate, if that is what is served with."""
    is_due: bool = False
    """Whether it was to be loaded again while nobody could do so."""
    terminal: _Terminal = attrs.field(factory=_Terminal)

    def note(self, *_: object) -> None:
        """Remember that it is to be loaded again; this is the handler of a signal."""
        self.is_due = True

    def load(self) -> None:
        """Load the files that the settings name, or the development certificate. Raises `ServingError` and changes nothing."""
        settings, development = self.settings, None
        if settings.no_tls:
            return
        try:
            if settings.tls_cert is not None and settings.tls_key is not None:
                context = server_context(settings.tls_cert, settings.tls_key)
            else:
                development, key = development_certificate(settings.data_dir / "tls", settings.host)
                context = server_context(development, key)
        except CertificateError as error:
            raise ServingError(str(error)) from error
        self.context, self.development = context, development

    def renew(self) -> bool:
        """Load it again, and tell whether there is another now. What cannot be used is logged, and the one before stays.

        A new context has new keys for session tickets. They are not those of other workers, so a session that was begun after
        this is resumed at the worker that it was begun with, and every other one shakes hands in full.
        """
        self.is_due = False
        if self.settings.no_tls:
            logger.info("there is no certificate to load again: --no-tls")
            return False
        try:
            self.load()
        except ServingError as error:
            logger.error("the certificate was not loaded again, and the one before stays: %s", error)  # noqa: TRY400 (says it all)
            return False
        logger.info("the certificate was loaded again")
        return True


def _runner() -> Callable[[Coroutine[None, None, None]], None]:
    try:
        import uvloop  # noqa: PLC0415 (not there on every interpreter)
    except ImportError:
        return asyncio.run
    run: Callable[[Coroutine[None, None, None]], None] = uvloop.run
    return run


def _application(
    settings: Settings, services: Callable[[Settings], AbstractAsyncContextManager[Services]], watching: Watching
) -> web.Application:
    """Make the application. Raises `ServingError`."""
    try:
        return create_app(settings, services=services, watching=watching)
    except SettingsError as error:
        raise ServingError(str(error)) from error


def _patience(settings: Settings) -> float:
    """How long aiohttp waits for requests under way, in seconds. Of zero it would make no limit at all."""
    return max(settings.shutdown_timeout.total_seconds(), POLL_SECONDS)


async def _set_up(runner: web.AppRunner, settings: Settings) -> None:
    """Open all that the application needs. Raises `ServingError`."""
    try:
        await runner.setup()
    except StoreUnavailable as error:
        raise ServingError(f"--store {settings.shown_store}: {error}") from error
    except SettingsError as error:
        raise ServingError(str(error)) from error


async def _work(
    settings: Settings,
    listener: socket.socket,
    tls: _Tls,
    ready: Callable[[], None],
    *,
    engine: Engine | None = None,
    orphaned: int | None = None,
    operators: _Operators | None = None,
    worker: int = 0,
    traced: bool = False,
) -> None:
    """Serve requests until a signal says stop, or the supervisor at the other end of `orphaned` is gone."""
    metrics = operators.measuring.of_worker(worker, os.getpid()) if operators else None
    async with open_tracing(wanted=traced, grace=settings.shutdown_timeout) as tracing:
        telemetry = Telemetry(metrics=metrics, tracing=tracing)
        await _serve_requests(settings, listener, tls, ready, telemetry, engine=engine, orphaned=orphaned, operators=operators)


async def _serve_requests(
    settings: Settings,
    listener: socket.socket,
    tls: _Tls,
    ready: Callable[[], None],
    telemetry: Telemetry,
    *,
    engine: Engine | None,
    orphaned: int | None,
    operators: _Operators | None,
) -> None:
    metrics = telemetry.metrics
    answered = metrics.requests.answered if metrics else None
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if orphaned is not None:
        loop.add_reader(orphaned, stop.set)
    watching = Watching(answered=answered, tracing=telemetry.tracing)
    app = _application(settings, partial(open_services, telemetry=telemetry), watching)
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=_patience(settings))
    await _set_up(runner, settings)
    try:
        handler = runner.server
        assert handler is not None  # noqa: S101 (it is there after setup)
        express = Express(runner.app)
        acceptor = Acceptor(
            listener,
            lambda: Connection(handler, loop=loop, express=express, answered=answered),
            tls=tls.context,
            most=settings.max_connections,
            watch=metrics.connections if metrics else None,
        )
        async with (
            _listening_to(operators, settings, runner.app[SERVICES], tls, metrics) as for_operators,
            asyncio.TaskGroup() as tasks,
        ):

            def renew() -> None:
                if tls.terminal.is_gone:
                    stop.set()
                elif tls.renew() and tls.context is not None:
                    acceptor.renew(tls.context)
                    for_operators(tls.context)

            loop.add_signal_handler(signal.SIGHUP, renew)
            if tls.is_due:
                renew()
            acceptor.open()
            watch = tasks.create_task(_keep_engine_alive(engine)) if engine else None
            ready()
            gc.freeze()  # what was loaded is here to stay: collections need not go through it
            await stop.wait()
            logger.info("stopping: requests under way may end")
            acceptor.close()
            for queued in _stop_listening(listener):
                acceptor.let_in(queued)
            give_up_at = loop.time() + min(LAST_SECONDS, settings.shutdown_timeout.total_seconds())
            while loop.time() < give_up_at and (acceptor.is_shaking_hands or _owes_request(handler)):  # noqa: ASYNC110
                await asyncio.sleep(POLL_SECONDS)  # a connection has no event for it
            acceptor.give_up()
            if watch is not None:
                watch.cancel()
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _listening_to(
    operators: _Operators | None, settings: Settings, services: Services, tls: _Tls, metrics: Metrics | None
) -> AsyncGenerator[Callable[[ssl.SSLContext], None]]:
    """Serve operators, if there are any, for as long as the context lasts; it yields what gives them another certificate."""
    if operators is None or metrics is None:
        yield lambda _: None
        return
    desk = Desk(
        services=services,
        gate=operators.gate,
        expose=operators.measuring.exposer.expose,
        note=lambda admitted: metrics.admin_request(authenticated=admitted),
    )
    runner = web.AppRunner(
        create_admin_app(settings.for_operators(), desk),
        handle_signals=False,
        shutdown_timeout=_patience(settings),
    )
    await runner.setup()
    try:
        handler = runner.server
        assert handler is not None  # noqa: S101 (it is there after setup)
        loop = asyncio.get_running_loop()
        acceptor = Acceptor(
            operators.listener,
            lambda: Connection(handler, loop=loop),
            tls=None if operators.is_local else tls.context,
            most=ADMIN_CONNECTIONS,
        )
        acceptor.open()
        try:
            yield (lambda _: None) if operators.is_local else acceptor.renew
        finally:
            acceptor.close()
            acceptor.give_up()
    finally:
        await runner.cleanup()


def _owes_request(handler: web.Server) -> bool:
    """Tell whether a client has connected and not asked for anything yet, or is in the middle of asking."""
    return any(isinstance(each, Connection) and each._header_timer is not None for each in handler.connections)  # noqa: SLF001


def _stop_listening(listener: socket.socket) -> list[socket.socket]:
    """End listening, and return the connections that nobody has accepted yet: they would be reset otherwise."""
    queued: list[socket.socket] = []
    with listener:
        with contextlib.suppress(OSError):  # there are no more
            while len(queued) < BACKLOG:  # in a flood there would be no end of them
                connection, _ = listener.accept()
                connection.setblocking(False)
                queued.append(connection)
        if SPREADS:  # the supervisor has it, too, and may close it later only
            listener.shutdown(socket.SHUT_RDWR)
    return queued


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


@attrs.define(kw_only=True)
class _Worker:
    """What the supervisor knows of a worker: its listener, and the pipe on which it says that it is ready, or why it is not."""

    slot: int
    told: int
    is_ready: bool = False


class _Supervisor:
    """Keeps a number of workers running."""

    def __init__(
        self,
        settings: Settings,
        listeners: _Listeners,
        tls: _Tls,
        engine: Engine | None,
        operators: _Operators | None,
        *,
        traced: bool,
    ) -> None:
        self._settings = settings
        self._listeners = listeners
        self._tls = tls
        self._engine = engine
        self._operators = operators
        self._traced = traced
        self._workers: dict[int, _Worker] = {}
        self._fork_again_at = 0.0
        self._stopping = False
        self._lifeline = os.pipe()
        self._run = _runner()

    def run(self, ready: Callable[[], None]) -> None:
        """Fork the workers, replace those that die, and end with all of them. Raises `ServingError` if none can start."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_stop)
        try:
            self._prepare()
            self._start_first()
            if not self._stopping:
                ready()
            while not self._stopping:
                time.sleep(SUPERVISION_SECONDS)
                if self._engine is not None:
                    _revive(self._engine)
                if self._tls.is_due:
                    self._renew_certificate()
                self._replace_dead()
        finally:
            self._stop()
            for end in self._lifeline:
                os.close(end)

    def _prepare(self) -> None:
        """Load what all workers need, once, so that they share the memory of it."""
        try:
            load(self._settings)
            if not self._settings.no_pages:
                import pickguard.entrypoints.pages.routes  # noqa: F401, PLC0415 (who has no pages needs none of it)
        except SettingsError as error:
            raise ServingError(str(error)) from error
        # A collection goes through everything that it does not know to be permanent, writes to it, and thereby copies it.
        gc.collect()
        gc.freeze()

    def _note_stop(self, *_: object) -> None:
        self._stopping = True

    def _renew_certificate(self) -> None:
        """Load it here, for workers that are still to come, and have those that there are do the same, if it can be used.

        Where SIGHUP came from a terminal that was closed, stop.
        """
        if self._tls.terminal.is_gone:
            self._stopping = True
        elif self._tls.renew():
            for pid in self._workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGHUP)

    def _replace_dead(self) -> None:
        for pid, worker, status in self._reap():
            if not worker.is_ready:
                # Whoever waits for it since the one before it died has waited long enough: nobody knows when one will start.
                self._listeners.renew(worker.slot)
            logger.error("worker %d ended with status %d and is replaced", pid, status)
        free = set(range(self._settings.workers)) - {worker.slot for worker in self._workers.values()}
        if not self._stopping and time.monotonic() >= self._fork_again_at and free:
            self._fork(min(free))
            # One that cannot start, because the store is down for instance, is not tried without pause.
            self._fork_again_at = time.monotonic() + REPLACEMENT_SECONDS

    def _start_first(self) -> None:
        for slot in range(self._settings.workers):
            worker = self._fork(slot)
            message = b""
            while part := os.read(worker.told, 4096):
                message += part
            if self._stopping:
                return
            if message != READY:
                raise ServingError(message.decode() or "a worker ended before it was ready")
            worker.is_ready = True

    def _fork(self, slot: int) -> _Worker:
        reading, writing = os.pipe()
        # Python forgets signals that come to a new process before it is quite there. So they wait until it has its handlers.
        heard_before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                for other in (reading, *(worker.told for worker in self._workers.values())):
                    os.close(other)
                os._exit(self._be_worker(slot, writing))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, heard_before)
        os.close(writing)
        self._workers[pid] = _Worker(slot=slot, told=reading)
        return self._workers[pid]

    def _be_worker(self, slot: int, told: int) -> int:
        os.close(self._lifeline[1])
        self._listeners.keep_only(slot)
        if self._engine is not None:
            self._engine.leave_to_parent()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        if self._stopping:  # the signal came between the fork and here
            return 0

        def tell(message: bytes) -> None:
            os.write(told, message)
            os.close(told)

        work = _work(
            self._settings,
            self._listeners.of(slot),
            self._tls,
            lambda: tell(READY),
            orphaned=self._lifeline[0],
            operators=self._operators,
            worker=slot,
            traced=self._traced,
        )
        try:
            self._run(work)
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

    def _reap(self) -> list[tuple[int, _Worker, int]]:
        ended = []
        for pid, worker in list(self._workers.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                worker.is_ready = worker.is_ready or os.read(worker.told, len(READY)) == READY
                os.close(worker.told)
                del self._workers[pid]
                ended.append((pid, worker, os.waitstatus_to_exitcode(status)))
        return ended

    def _stop(self) -> None:
        self._listeners.close()
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        # Requests, operators, aiohttp's own clean-up, work after answers, mail and traces each have their time.
        give_up_at = time.monotonic() + 6 * self._settings.shutdown_timeout.total_seconds() + LAST_SECONDS + 1
        while self._workers and time.monotonic() < give_up_at:
            self._reap()
            time.sleep(0.02)
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _announcement(settings: Settings, base: str, certificate: Path | None, operators: str | None) -> str:
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
    if settings.mail_location is not None:
        lines.append(f"  mail         {settings.mail_location.shown}")
    if not settings.no_pages:
        lines.append(f"  pages        {base}/account (for people, in a browser)")
    if settings.docs == "on":
        lines.append(f"  API          {base}/docs (to read and to try)")
    if operators:
        lines.append(f"  operators    {operators} (administration and metrics)")
    lines += ["", "Register a first user from another terminal:", f"  {attempt}", "", "Stop with Ctrl-C."]
    return "\n".join(lines)
