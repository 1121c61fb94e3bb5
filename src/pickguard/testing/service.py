"""The use cases in memory, on stand-ins that a test holds in its hand, and ready-made users."""

from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, Final, TypeVar

import attrs

from pickguard.adapters.background import LoopDeferred
from pickguard.adapters.memory import MemoryAccounts, MemoryReceipts
from pickguard.adapters.memory_limits import MemoryRateLimiter, Unlimited
from pickguard.domain.model.accounts import Account, register
from pickguard.domain.model.challenges import ChallengeRules
from pickguard.domain.model.credentials import PasswordRules
from pickguard.domain.model.events import SessionOpened
from pickguard.domain.model.identifiers import UUID7_RANDOM_BYTES, SessionId, UserId, uuid7
from pickguard.domain.model.limits import LimitRules
from pickguard.domain.model.sessions import TOKEN_SECRET_BYTES, Client, Session, SessionRules, Token
from pickguard.domain.model.users import EmailAddress, PersonName, User
from pickguard.domain.services.registration import RegistrationMode
from pickguard.entrypoints.bootstrap import Services, build_services
from pickguard.ports.accounts import OPERATION_ID_BYTES, AccountRepository, Snapshot
from pickguard.ports.breaches import BreachedPasswords
from pickguard.ports.limits import RateLimiter
from pickguard.ports.passwords import CommonPasswords
from pickguard.ports.receipts import Receipts
from pickguard.ports.secrets import SecretSource
from pickguard.testing.accounts import CLIENT
from pickguard.testing.fakes import (
    PASSWORD,
    FakeClock,
    FakeHasher,
    FakeSecrets,
    NoCommonPasswords,
    Outbox,
    RecordedEvents,
    RecordedPace,
)

_Result = TypeVar("_Result")

_NAME: Final = "Ada Lovelace"


@attrs.frozen(kw_only=True)
class ReadyUser:
    """A user who is there, with what only they and their client would know."""

    user: User
    password: str = attrs.field(repr=False)
    tokens: tuple[str, ...] = attrs.field(repr=False)
    """One for each session, in the order in which they were opened."""
    sessions: tuple[Session, ...]
    """As they were opened; the store knows what has become of them since."""

    @property
    def id(self) -> UserId:
        """The user's id."""
        return self.user.id

    @property
    def email(self) -> str:
        """The user's address, as it is shown."""
        return self.user.email.value

    @property
    def token(self) -> str:
        """The bearer token of the first session. Raises `LookupError` for a user who was made without one."""
        if not self.tokens:
            raise LookupError(f"{self.email} was made without a session, so there is no token; ask for sessions=1")
        return self.tokens[0]

    @property
    def headers(self) -> dict[str, str]:
        """What a client of the HTTP API sends with each request: the token, as RFC 6750 has it."""
        return {"Authorization": f"Bearer {self.token}"}


@attrs.define(kw_only=True, eq=False)
class AccountService:
    """An account service of one test: the use cases, and what they were wired from.

    `services` is what an application works with. The rest is for the test: it moves the `clock`, reads the `outbox` and the
    `events`, and looks into the `repository`. `make_account_service` makes one.
    """

    services: Services
    repository: AccountRepository
    clock: FakeClock
    secrets: SecretSource
    hasher: FakeHasher
    events: RecordedEvents
    outbox: Outbox
    pace: RecordedPace
    deferred: LoopDeferred
    _made: int = 0
    enter: Callable[[Callable[[], Any]], Any] = attrs.field(default=lambda work: work(), repr=False)
    """Runs something where the store may be touched: while `serve_over_http` has it, in the thread of the server."""
    wait_within: Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]] = attrs.field(default=lambda work: work, repr=False)
    """Waits for something where the store may be touched, likewise."""

    def user(
        self,
        email: str | None = None,
        *,
        name: str = _NAME,
        password: str = PASSWORD,
        verified: bool = True,
        disabled: bool = False,
        sessions: int | None = None,
        client: Client = CLIENT,
    ) -> ReadyUser:
        """Put a user into the store, in microseconds: no use case is asked, nothing is hashed, mailed or published.

        Without an `email` each gets one of their own. A user has one session, opened just now by the `client`, and another
        number if `sessions` says so; one that is disabled has none. Raises `InvalidFields` for what is no name or address,
        `AddressTaken`, and `TypeError` where the repository has to wait for something: there, use `add_user`.
        """
        return self._entered(
            lambda: self._put_at_once(
                *self._ready(email, name, password, client, sessions, verified=verified, disabled=disabled)
            )
        )

    async def add_user(
        self,
        email: str | None = None,
        *,
        name: str = _NAME,
        password: str = PASSWORD,
        verified: bool = True,
        disabled: bool = False,
        sessions: int | None = None,
        client: Client = CLIENT,
    ) -> ReadyUser:
        """Do what `user` does, on a repository that may wait, such as one in a database."""
        account, ready = self._ready(email, name, password, client, sessions, verified=verified, disabled=disabled)
        await self.wait_within(self.repository.add(account, operation=self.secrets.random_bytes(OPERATION_ID_BYTES)))
        return ready

    async def account(self, email: str) -> Account | None:
        """Return the account that has an address as it is in the store, or None."""
        found: Snapshot | None = await self.wait_within(self.repository.find(EmailAddress.parse(email)))
        return None if found is None else found.account

    async def settle(self) -> None:
        """Return when all is done that is done after an answer: a reset that was asked for is mailed by then.

        May be called from any event loop while `serve_over_http` has the service: ``asyncio.run(accounts.settle())``.
        """
        await self.wait_within(self.deferred.drain())

    def _entered(self, work: Callable[[], _Result]) -> _Result:
        result: _Result = self.enter(work)
        return result

    def _ready(
        self,
        email: str | None,
        name: str,
        password: str,
        client: Client,
        sessions: int | None,
        *,
        verified: bool,
        disabled: bool,
    ) -> tuple[Account, ReadyUser]:
        if disabled and sessions:
            raise ValueError("an account that is disabled has no sessions: leave out `sessions`, or disable it afterwards")
        now = self.clock.now()
        self._made += 1
        address = f"user{self._made}@example.com"
        user_id = UserId(self._uuid7())
        transition = register(
            user_id=user_id,
            name=PersonName.parse(name),
            email=EmailAddress(value=address, key=address) if email is None else EmailAddress.parse(email),
            password_hash=self.hasher.hash_at_once(password),
            now=now,
        )
        count = (0 if disabled else 1) if sessions is None else sessions
        tokens = [Token(user_id=user_id, secret=self.secrets.random_bytes(TOKEN_SECRET_BYTES)) for _ in range(count)]
        opened = tuple(
            Session(
                id=SessionId(self._uuid7()),
                digest=token.digest,
                created_at=now,
                last_used_at=now,
                authenticated_at=now,
                client=client,
            )
            for token in tokens
        )
        user = attrs.evolve(transition.account.user, email_verified=verified, disabled=disabled)
        told = (*transition.events, *(SessionOpened(user_id=user_id, at=now, session_id=each.id) for each in opened))
        account = attrs.evolve(transition.account, user=user, sessions=opened)
        account = account.with_activity([attrs.evolve(event, client=client) for event in told])
        texts = tuple(token.reveal() for token in tokens)
        return account, ReadyUser(user=user, password=password, tokens=texts, sessions=opened)

    def _put_at_once(self, account: Account, ready: ReadyUser) -> ReadyUser:
        operation = self.secrets.random_bytes(OPERATION_ID_BYTES)
        call: Coroutine[Any, Any, None] = self.repository.add(account, operation=operation)
        try:
            call.send(None)
        except StopIteration:
            return ready
        call.close()
        raise TypeError(f"{type(self.repository).__name__} waits for something: use `await service.add_user(…)`")

    def _uuid7(self) -> Any:
        return uuid7(self.clock.now(), self.secrets.random_bytes(UUID7_RANDOM_BYTES))


def make_account_service(
    *,
    accounts: AccountRepository | None = None,
    receipts: Receipts | None = None,
    limiter: RateLimiter | None = None,
    limits: LimitRules | None = None,
    mail: bool = True,
    clock: FakeClock | None = None,
    secrets: SecretSource | None = None,
    hasher: FakeHasher | None = None,
    common_passwords: CommonPasswords | None = None,
    breaches: BreachedPasswords | None = None,
    registration_mode: RegistrationMode = RegistrationMode.OPEN,
    session_rules: SessionRules | None = None,
    password_rules: PasswordRules | None = None,
    challenge_rules: ChallengeRules | None = None,
    deletion_grace: timedelta = timedelta(0),
) -> AccountService:
    """Wire the use cases to stand-ins. All that is kept is kept in memory, unless `accounts`, `receipts` or `limiter` is given.

    There is mail, unless `mail` is False, and nothing is limited unless `limits` says how much: ``limits=LimitRules()`` are the
    limits of a service. No password is known to be common, and none from a breach.
    """
    clock, secrets, hasher = clock or FakeClock(), secrets or FakeSecrets(), hasher or FakeHasher()
    events, outbox, pace = RecordedEvents(), Outbox(), RecordedPace()
    deferred = LoopDeferred(spread=timedelta(0), pauses=())
    repository = MemoryAccounts(now=clock.now) if accounts is None else accounts
    if limiter is None:
        limiter = Unlimited() if limits is None else MemoryRateLimiter(limits)
    services = build_services(
        accounts=repository,
        receipts=receipts or MemoryReceipts(),
        hasher=hasher,
        clock=clock,
        secrets=secrets,
        events=events,
        limiter=limiter,
        mailer=outbox if mail else None,
        deferred=deferred,
        pace=pace,
        common_passwords=common_passwords or NoCommonPasswords(),
        breaches=breaches,
        password_rules=password_rules,
        session_rules=session_rules,
        challenge_rules=challenge_rules,
        registration_mode=registration_mode,
        deletion_grace=deletion_grace,
    )
    return AccountService(
        services=services,
        repository=repository,
        clock=clock,
        secrets=secrets,
        hasher=hasher,
        events=events,
        outbox=outbox,
        pace=pace,
        deferred=deferred,
    )
