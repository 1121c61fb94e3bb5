"""The composition root: the one place that knows which adapter stands behind which port."""

import importlib.util
import logging
import ssl
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import attrs

from pickguard.adapters.argon2 import Argon2Hasher, Argon2Parameters, available_cores
from pickguard.adapters.background import LoopDeferred, LoopPace
from pickguard.adapters.common_passwords import ListedPasswords
from pickguard.adapters.event_log import LoggedEvents
from pickguard.adapters.files.service_credentials import ServiceCredentialFile
from pickguard.adapters.foreign_hashes import ForeignPasswordHashes
from pickguard.adapters.mail.location import MailLocation, Transport
from pickguard.adapters.memory import MemoryAccounts, MemoryReceipts, NoDirectory
from pickguard.adapters.memory_limits import MemoryRateLimiter, Unlimited
from pickguard.adapters.system import SystemClock, SystemSecrets
from pickguard.adapters.telemetry.board import Board
from pickguard.adapters.telemetry.metrics import STORE_PORTS, Metrics, Routes, make_board
from pickguard.adapters.telemetry.observing import Watch, observed
from pickguard.adapters.turns import LoopTurns
from pickguard.domain.model.challenges import ChallengeRules
from pickguard.domain.model.credentials import PasswordRules
from pickguard.domain.model.errors import StoreUnavailable
from pickguard.domain.model.sessions import SessionRules
from pickguard.domain.services.administration import Administration
from pickguard.domain.services.authentication import Authentication
from pickguard.domain.services.changes import AccountChanges
from pickguard.domain.services.counting import Counting
from pickguard.domain.services.exports import DataExports
from pickguard.domain.services.fields import FieldExaminer
from pickguard.domain.services.imports import Imports
from pickguard.domain.services.introspection import Introspection
from pickguard.domain.services.letters import Letters
from pickguard.domain.services.password_checks import PasswordChecks
from pickguard.domain.services.profiles import Profiles
from pickguard.domain.services.recovery import Recovery
from pickguard.domain.services.registration import Registration, RegistrationMode
from pickguard.domain.services.screening import PasswordScreen
from pickguard.domain.services.sessions import Sessions
from pickguard.domain.services.verification import Verification
from pickguard.entrypoints.request_context import CURRENT_REQUEST
from pickguard.entrypoints.settings import EMBEDDED, Settings, SettingsError
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.breaches import BreachedPasswords
from pickguard.ports.checkup import Checkup, Finding
from pickguard.ports.clock import Clock
from pickguard.ports.deferred import Deferred, Pace
from pickguard.ports.directory import AccountDirectory
from pickguard.ports.events import EventPublisher
from pickguard.ports.hashing import PasswordHasher
from pickguard.ports.limits import RateLimiter
from pickguard.ports.mail import Mailer
from pickguard.ports.passwords import CommonPasswords
from pickguard.ports.receipts import Receipts
from pickguard.ports.secrets import SecretSource
from pickguard.ports.service_credentials import ServiceCredentialSource

if TYPE_CHECKING:
    from pickguard.adapters.mail.outbox import MailWatch
    from pickguard.adapters.mail.transports import MessageTransport
    from pickguard.adapters.telemetry.tracing import Tracing

Port = TypeVar("Port")

logger = logging.getLogger("pickguard.store")

__all__ = [
    "Argon2Hasher",
    "Argon2Parameters",
    "MemoryAccounts",
    "Metrics",
    "Services",
    "available_cores",
    "build_services",
    "open_services",
    "open_store",
]


@attrs.frozen(kw_only=True)
class Services:
    """The use cases, wired to their adapters, and the rules they follow."""

    registration: Registration
    authentication: Authentication
    profiles: Profiles
    exports: DataExports
    sessions: Sessions
    administration: Administration
    verification: Verification | None
    """None where there is no mail."""
    recovery: Recovery | None
    """None where there is no mail."""
    introspection: Introspection | None
    """None where no other service has a credential."""
    imports: Imports
    password_screen: PasswordScreen
    fields: FieldExaminer
    accounts: AccountRepository
    directory: AccountDirectory
    session_rules: SessionRules
    deletion_grace: timedelta = timedelta(0)
    """How long an account can be restored after its user has deleted it."""

    @property
    def has_mail(self) -> bool:
        """Whether there is mail, so that addresses are verified and passwords can be reset."""
        return self.recovery is not None


def build_services(
    *,
    accounts: AccountRepository,
    hasher: PasswordHasher,
    directory: AccountDirectory | None = None,
    clock: Clock | None = None,
    receipts: Receipts | None = None,
    secrets: SecretSource | None = None,
    events: EventPublisher | None = None,
    limiter: RateLimiter | None = None,
    mailer: Mailer | None = None,
    deferred: Deferred | None = None,
    pace: Pace | None = None,
    common_passwords: CommonPasswords | None = None,
    breaches: BreachedPasswords | None = None,
    service_credentials: ServiceCredentialSource | None = None,
    password_rules: PasswordRules | None = None,
    session_rules: SessionRules | None = None,
    challenge_rules: ChallengeRules | None = None,
    registration_mode: RegistrationMode = RegistrationMode.OPEN,
    deletion_grace: timedelta = timedelta(0),
) -> Services:
    """Wire the use cases to adapters of one's choice; what is left out is that of the system.

    Pass a `deferred` that is closed at the end: what was asked for just before the program ends is lost with the one made here.
    Where callers of the use cases do not say from which `client` a request comes, nothing is counted for sources, registrations
    not at all, and wrong passwords for each account only.

    Without `receipts`, idempotency keys are known to this process only, and without a `limiter`, it counts for itself alone;
    several processes on one store need those of that store. Without a `directory`, accounts can be listed only where `accounts`
    is one itself. Without a `mailer` no address is verified and no password can be reset, and private registration is of no use
    to anybody. With a `deletion_grace`, an account that its user deletes can be restored for so long; an in-memory repository
    should then be told the time by this `clock`. Without `breaches`, new passwords are looked up in `common_passwords` alone.
    Without `service_credentials` no other service may ask whose a token is.
    """
    directory = directory or (accounts if isinstance(accounts, AccountDirectory) else NoDirectory())
    clock = clock or SystemClock()
    secrets = secrets or SystemSecrets()
    events = events or LoggedEvents(request_id=CURRENT_REQUEST.get)
    limiter = MemoryRateLimiter() if limiter is None else limiter  # an empty one may be false
    receipts = receipts or MemoryReceipts()
    deferred = deferred or LoopDeferred()
    session_rules = session_rules or SessionRules()
    fields = FieldExaminer(rules=password_rules or PasswordRules(), common_passwords=common_passwords or ListedPasswords())
    changes = AccountChanges(accounts=accounts, events=events, secrets=secrets, turns=LoopTurns())
    checks = PasswordChecks(hasher=hasher, limiter=limiter, events=events, clock=clock)
    screen = PasswordScreen(breaches=breaches, events=events, clock=clock)
    counting = Counting(limiter=limiter, events=events, clock=clock)
    letters = Letters(
        mailer=mailer,
        counting=counting,
        secrets=secrets,
        rules=challenge_rules or ChallengeRules(),
    )
    authentication = Authentication(
        accounts=accounts,
        changes=changes,
        checks=checks,
        letters=letters,
        hasher=hasher,
        clock=clock,
        secrets=secrets,
        fields=fields,
        session_rules=session_rules,
        verified_only=registration_mode is RegistrationMode.PRIVATE,
    )
    return Services(
        deletion_grace=deletion_grace,
        registration=Registration(
            accounts=accounts,
            receipts=receipts,
            changes=changes,
            counting=counting,
            letters=letters,
            screen=screen,
            deferred=deferred,
            pace=pace or LoopPace(),
            hasher=hasher,
            clock=clock,
            secrets=secrets,
            fields=fields,
            mode=registration_mode,
        ),
        authentication=authentication,
        profiles=Profiles(
            accounts=accounts,
            changes=changes,
            authentication=authentication,
            counting=counting,
            letters=letters,
            screen=screen,
            hasher=hasher,
            clock=clock,
            fields=fields,
            session_rules=session_rules,
            conceals_users=registration_mode is not RegistrationMode.OPEN,
            deletion_grace=deletion_grace,
        ),
        exports=DataExports(
            accounts=accounts,
            receipts=receipts,
            limiter=limiter,
            changes=changes,
            counting=counting,
            letters=letters,
            clock=clock,
            session_rules=session_rules,
        ),
        sessions=Sessions(accounts=accounts, changes=changes, clock=clock, session_rules=session_rules),
        administration=Administration(
            accounts=accounts,
            directory=directory,
            changes=changes,
            checks=checks,
            limiter=limiter,
            letters=letters,
            screen=screen,
            hasher=hasher,
            clock=clock,
            secrets=secrets,
            fields=fields,
            session_rules=session_rules,
            verified_only=registration_mode is RegistrationMode.PRIVATE,
        ),
        verification=Verification(accounts=accounts, changes=changes, letters=letters, clock=clock, session_rules=session_rules)
        if letters.enabled
        else None,
        recovery=Recovery(
            accounts=accounts,
            changes=changes,
            checks=checks,
            counting=counting,
            letters=letters,
            screen=screen,
            deferred=deferred,
            hasher=hasher,
            clock=clock,
            fields=fields,
        )
        if letters.enabled
        else None,
        introspection=None
        if service_credentials is None
        else Introspection(authentication=authentication, credentials=service_credentials, events=events, clock=clock),
        imports=Imports(accounts=accounts, changes=changes, hasher=hasher, clock=clock, secrets=secrets, fields=fields),
        password_screen=screen,
        fields=fields,
        accounts=accounts,
        directory=directory,
        session_rules=session_rules,
    )


@attrs.frozen(kw_only=True)
class Store:
    """What is kept."""

    accounts: AccountRepository
    directory: AccountDirectory
    receipts: Receipts
    limits: RateLimiter


def load(settings: Settings) -> None:
    """Import and read what `open_services` will need, so that processes forked from this one share the memory of it.

    Raises `SettingsError` where a package is missing.
    """
    ListedPasswords()
    if settings.mail_location is not None:
        with _mail_packages():
            import pickguard.adapters.mail.rendering  # noqa: PLC0415
            import pickguard.adapters.mail.transports  # noqa: PLC0415
    if settings.store_location() is not None:
        with _redis_py():
            import pickguard.adapters.redis.accounts  # noqa: PLC0415
            import pickguard.adapters.redis.connection  # noqa: PLC0415
            import pickguard.adapters.redis.directory  # noqa: PLC0415
            import pickguard.adapters.redis.durability  # noqa: PLC0415
            import pickguard.adapters.redis.limits  # noqa: PLC0415
            import pickguard.adapters.redis.receipts  # noqa: F401, PLC0415


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncGenerator[Store]:
    """Open the store that the settings name. Raises `StoreUnavailable` where it cannot be used."""
    if settings.store == EMBEDDED:
        raise SettingsError(
            "the embedded store belongs to `pickguard serve`; a program that uses the library names a store: memory: or redis://…"
        )
    location = settings.store_location()
    rules = settings.limit_rules if settings.rate_limits == "on" else None
    if location is None:
        limits = Unlimited() if rules is None else MemoryRateLimiter(rules)
        accounts = MemoryAccounts()
        yield Store(accounts=accounts, directory=accounts, receipts=MemoryReceipts(), limits=limits)
        return
    with _redis_py():
        from pickguard.adapters.redis.accounts import RedisAccounts  # noqa: PLC0415
        from pickguard.adapters.redis.connection import check_connection, open_client  # noqa: PLC0415
        from pickguard.adapters.redis.directory import RedisDirectory  # noqa: PLC0415
        from pickguard.adapters.redis.durability import confirm_durability  # noqa: PLC0415
        from pickguard.adapters.redis.limits import RedisRateLimiter  # noqa: PLC0415
        from pickguard.adapters.redis.receipts import RedisReceipts  # noqa: PLC0415

    try:
        client = open_client(
            location,
            connections=settings.store_connections,
            connect_timeout=settings.store_connect_timeout,
            command_timeout=settings.store_timeout,
            wait_replicas=settings.wait_replicas,
            wait_timeout=settings.wait_timeout,
        )
    except (ValueError, TypeError) as error:
        raise SettingsError(f"the store {settings.shown_store} makes no sense: {error}") from error
    async with client:
        await check_connection(client)
        await confirm_durability(
            client, strict=settings.strict_durability, wait_replicas=settings.wait_replicas, warn=logger.warning
        )
        yield Store(
            accounts=RedisAccounts(client),
            directory=RedisDirectory(client),
            receipts=RedisReceipts(client),
            limits=Unlimited() if rules is None else RedisRateLimiter(client, rules=rules),
        )


@contextmanager
def find_store(settings: Settings) -> Generator[Settings]:
    """Yield the settings with a store that can be opened: in place of the embedded one, the server on its data directory.

    That is the one of the service that runs there, or else one that runs for the time being. Raises `StoreUnavailable`.
    """
    if settings.store != EMBEDDED:
        yield settings
        return
    from pickguard.adapters.engine import EngineError, visit_engine  # noqa: PLC0415 (for POSIX only, unlike the rest)

    with ExitStack() as stack:
        try:
            url = stack.enter_context(visit_engine(settings.data_dir, program=settings.engine))
        except EngineError as error:
            raise StoreUnavailable(str(error)) from error
        yield settings.with_store(url)


@asynccontextmanager
async def open_checkup(settings: Settings) -> AsyncGenerator[Checkup]:
    """Open the store that the settings name in order to examine it. Raises `StoreUnavailable` where it cannot be reached."""
    location = settings.store_location()
    if location is None:
        raise SettingsError("--store memory: belongs to one process, and nobody else can look at it")
    with _redis_py():
        from pickguard.adapters.redis.accounts import DEFAULT_PREFIX  # noqa: PLC0415
        from pickguard.adapters.redis.connection import check_connection, open_client  # noqa: PLC0415
        from pickguard.adapters.redis.inspection import RedisCheckup  # noqa: PLC0415

    async with open_client(
        location,
        connections=settings.store_connections,
        connect_timeout=settings.store_connect_timeout,
        command_timeout=settings.store_timeout,
    ) as client:
        await check_connection(client)
        yield RedisCheckup(client, prefix=DEFAULT_PREFIX, wait_replicas=settings.wait_replicas)


def examine_hashing() -> Finding:
    """Say how the hashing of passwords was built and how fast it is on this machine, which takes some tens of milliseconds."""
    from pickguard.adapters.argon2.bindings import examine_bindings  # noqa: PLC0415 (what only the doctor needs)

    return examine_bindings()


@contextmanager
def _redis_py() -> Generator[None]:
    """Imports inside of functions, so that a program on the in-memory adapter needs no redis-py, may fail here."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise SettingsError(f"the package {error.name} is not installed: a store in Redis needs pickguard[redis]") from error


@contextmanager
def _mail_packages() -> Generator[None]:
    """Imports inside of functions, so that a program without mail needs neither of its packages, may fail here."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise SettingsError(f"the package {error.name} is not installed: --mail needs pickguard[server]") from error


@asynccontextmanager
async def _open_breaches(settings: Settings) -> AsyncGenerator[BreachedPasswords | None]:
    """Make what asks the range service that the settings name; None where they name none."""
    if not settings.breach_check:
        yield None
        return
    try:
        from pickguard.adapters.breaches import RangeService  # noqa: PLC0415 (aiohttp, where it is asked for)
    except ModuleNotFoundError as error:
        raise SettingsError(f"the package {error.name} is not installed: --breach-check needs pickguard[server]") from error
    async with RangeService(settings.breach_check, timeout=settings.breach_timeout) as service:
        yield service


def _open_service_credentials(settings: Settings) -> ServiceCredentialFile | None:
    if settings.service_credentials is None:
        return None
    try:
        return ServiceCredentialFile(settings.service_credentials)
    except ValueError as error:
        raise SettingsError(f"--service-credentials: {error}") from None


@asynccontextmanager
async def open_mailer(settings: Settings, *, watch: "MailWatch | None" = None) -> AsyncGenerator[Mailer | None]:
    """Open what sends mail; None where there is none. Raises `SettingsError` for what cannot be used."""
    location = settings.mail_location
    if location is None:
        yield None
        return
    with _mail_packages():
        from pickguard.adapters.mail.outbox import Outbox  # noqa: PLC0415
        from pickguard.adapters.mail.rendering import Renderer, TemplateError, sender_of  # noqa: PLC0415

    public_url = settings.public_url or settings.listening_url(settings.port)
    try:
        renderer = Renderer(
            service_name=settings.service_name,
            public_url=public_url,
            sender=sender_of(settings.mail_from, service_name=settings.service_name, public_url=public_url),
            overrides=settings.mail_templates,
        )
    except TemplateError as error:
        raise SettingsError(f"--mail-templates: {error}") from None
    transport = _mail_transport(settings, location)
    async with Outbox(renderer.render, transport, grace=settings.shutdown_timeout, watch=watch) as outbox:
        yield outbox


def _mail_transport(settings: Settings, location: MailLocation) -> "MessageTransport":
    """Make what hands mails over. Raises `SettingsError` for a directory or certificates that cannot be used."""
    from pickguard.adapters.mail.transports import ConsoleTransport, DirectoryTransport, SmtpTransport  # noqa: PLC0415

    if location.transport is Transport.CONSOLE:
        return ConsoleTransport()
    if location.path is not None:
        directory = DirectoryTransport(location.path)
        try:
            directory.prepare()
        except OSError as error:
            raise SettingsError(f"--mail: the directory {location.path} cannot be used: {error.strerror}") from None
        return directory
    try:
        return SmtpTransport(
            location=location, password=settings.mail_secret(), ca=settings.mail_ca, timeout=settings.mail_timeout
        )
    except ssl.SSLError:
        raise SettingsError(f"--mail-ca: {settings.mail_ca} has no certificates in PEM") from None


@attrs.frozen(kw_only=True)
class Telemetry:
    """What watches the adapters of one process; nothing, where nothing is said, and then it costs nothing."""

    metrics: Metrics | None = None
    tracing: "Tracing | None" = None

    def around_store(self, store: Store, *, system: str) -> Store:
        """Return the same store, with all that is asked of it watched."""

        def around(name: str, target: Port) -> Port:
            watches: list[Watch] = []
            if self.tracing is not None:
                watches.append(self.tracing.store(name, system))
            if self.metrics is not None:
                watches.append(self.metrics.store.port(name))
            return observed(target, port=STORE_PORTS[name], watches=watches)

        return Store(
            accounts=around("accounts", store.accounts),
            directory=around("directory", store.directory),
            receipts=around("receipts", store.receipts),
            limits=around("limits", store.limits),
        )

    def around_hasher(self, hasher: PasswordHasher) -> PasswordHasher:
        """Return the same hasher, traced. It is measured in its pool, where the wait and the work can be told apart."""
        return observed(hasher, port=PasswordHasher, watches=[self.tracing.hashing()] if self.tracing else [])

    def around_events(self, events: EventPublisher) -> EventPublisher:
        """Return what counts the events and passes them on."""
        return events if self.metrics is None else self.metrics.counted(events)


class Measuring:
    """The metrics of all workers. Make it before they are forked. Raises `SettingsError` where a package is missing."""

    def __init__(self, *, routes: Sequence[tuple[str, str]], statuses: Sequence[int], workers: int) -> None:
        try:
            from pickguard.adapters.telemetry.exposition import Exposer  # noqa: PLC0415 (where it is asked for)
        except ModuleNotFoundError as error:
            raise SettingsError(f"the package {error.name} is not installed: --admin-listen needs pickguard[server]") from error
        self._routes = Routes(pairs=routes, statuses=statuses)
        self._board: Board = make_board(self._routes, workers=workers)
        self.exposer: Exposer = Exposer(self._board)

    def of_worker(self, worker: int, pid: int) -> Metrics:
        """Return what one worker counts in, in its own process."""
        metrics = Metrics(self._board.part(worker), self._routes)
        metrics.is_run_by(pid)
        return metrics


def wants_traces(environment: Mapping[str, str]) -> bool:
    """Tell whether traces are to be sent: OpenTelemetry's variables say so, and its packages are there. If not, warn."""
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if (
        not any(environment.get(name) for name in endpoints)
        or environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        or environment.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() != "otlp"
    ):
        return False
    if all(map(_is_installed, ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"))):
        return True
    logger.warning("no traces are sent, though there is an endpoint for them: install pickguard[otel]")
    return False


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


@asynccontextmanager
async def open_tracing(*, wanted: bool, grace: timedelta) -> AsyncGenerator["Tracing | None"]:
    """Open what traces this process, where that is wanted, and send at the end what is left, for as long as the grace lasts."""
    if not wanted:
        yield None
        return
    from pickguard.adapters.telemetry.tracing import Tracing, make_provider  # noqa: PLC0415 (where it is asked for)

    tracing = Tracing(make_provider())
    try:
        yield tracing
    finally:
        await tracing.close(grace)


@asynccontextmanager
async def open_services(
    settings: Settings | None = None, *, events: EventPublisher | None = None, telemetry: Telemetry | None = None
) -> AsyncGenerator[Services]:
    """Open the store and wire the use cases to it. `telemetry` is what watches them.

    Raises `SettingsError` for a store that only `pickguard serve` can open, `StoreUnavailable` for one that does not answer.
    """
    settings = settings or Settings(store="memory:")
    telemetry = telemetry or Telemetry()
    metrics = telemetry.metrics
    hasher = Argon2Hasher(
        parameters=Argon2Parameters(
            memory_kib=settings.hash_memory, time_cost=settings.hash_time_cost, parallelism=settings.hash_parallelism
        ),
        threads=settings.hash_threads or None,
        wait_budget=settings.hash_wait,
        foreign=ForeignPasswordHashes(),
        watch=metrics.hashing if metrics else None,
    )
    async with (
        open_store(settings) as opened,
        hasher,
        _open_breaches(settings) as breaches,
        open_mailer(settings, watch=metrics.mail if metrics else None) as mailer,
        LoopDeferred(grace=settings.shutdown_timeout) as deferred,
    ):
        store = telemetry.around_store(opened, system="memory" if settings.store_location() is None else "redis")
        yield build_services(
            accounts=store.accounts,
            directory=store.directory,
            receipts=store.receipts,
            hasher=telemetry.around_hasher(hasher),
            events=telemetry.around_events(events or LoggedEvents(request_id=CURRENT_REQUEST.get)),
            limiter=store.limits,
            mailer=mailer,
            deferred=deferred,
            breaches=breaches,
            service_credentials=_open_service_credentials(settings),
            password_rules=PasswordRules(min_length=settings.password_min_length, service_name=settings.service_name),
            session_rules=SessionRules(
                lifetime=settings.session_lifetime,
                idle=settings.session_idle,
                maximum=settings.session_maximum,
                reauthentication_window=settings.reauthentication_window,
            ),
            challenge_rules=ChallengeRules(verification=settings.verification_lifetime, reset=settings.reset_lifetime),
            registration_mode=RegistrationMode(settings.registration),
            deletion_grace=settings.deletion_grace,
        )
