"""Any sequence of use cases against a simple model of users, tokens and mails, as hypothesis finds it.

```python
class MyMachine(AccountServiceMachine):
    @asynccontextmanager
    async def open_accounts(self) -> AsyncGenerator[MyAccounts]:
        async with connected(EMPTY) as accounts:
            yield accounts


TestMyMachine = MyMachine.TestCase
```

Where the service and the model disagree, hypothesis looks for the shortest sequence that shows it and prints that as a program.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, TypeVar
from uuid import UUID

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from pickguard.adapters.memory import MemoryAccounts
from pickguard.domain.model.challenges import ChallengeKind, ChallengeRules
from pickguard.domain.model.errors import (
    AddressTaken,
    InvalidCredentials,
    InvalidFields,
    InvalidToken,
    ReauthenticationRequired,
    SessionNotFound,
    TokenSpent,
    WrongPassword,
)
from pickguard.domain.model.identifiers import SessionId, UserId
from pickguard.domain.model.mail import ConfirmNewAddress, ResetPassword, TokenMail, VerifyAddress
from pickguard.domain.model.sessions import SessionRules
from pickguard.domain.model.users import EmailAddress
from pickguard.domain.services.authentication import LoggedIn
from pickguard.domain.services.recovery import Recovery
from pickguard.domain.services.verification import Verification
from pickguard.ports.accounts import AccountRepository
from pickguard.testing.service import AccountService, make_account_service

Result = TypeVar("Result")

NAMES: Final = ("Ada", "Grace")
ADDRESSES: Final = ("ada@example.com", "ADA@example.com", "grace@example.com")
PASSWORDS: Final = ("the first of phrases", "the second of phrases")
RULES: Final = SessionRules(lifetime=timedelta(days=10), idle=timedelta(days=3), maximum=3)
"""Rules so narrow that a short history meets each of them."""
CHALLENGES: Final = ChallengeRules()

WAITS: Final = (
    timedelta(0),
    timedelta(milliseconds=1),
    timedelta(seconds=1),
    RULES.touch_interval,
    CHALLENGES.reset,
    CHALLENGES.reset - timedelta(milliseconds=1),
    RULES.reauthentication_window,
    CHALLENGES.verification,
    RULES.idle - timedelta(milliseconds=1),
    RULES.idle,
    RULES.lifetime,
)
_PROVED_BY: Final[dict[type[TokenMail], ChallengeKind]] = {
    VerifyAddress: ChallengeKind.VERIFY_ADDRESS,
    ConfirmNewAddress: ChallengeKind.CHANGE_ADDRESS,
    ResetPassword: ChallengeKind.RESET_PASSWORD,
}
_UNKNOWN_SESSION: Final = SessionId(UUID(int=0))


@attrs.define
class ModelSession:
    """A session, as far as its owner notices."""

    id: SessionId
    opened: datetime
    used: datetime
    proved: datetime

    def is_live(self, now: datetime) -> bool:
        """Tell whether it still opens anything."""
        return now < min(self.opened + RULES.lifetime, self.used + RULES.idle)


@attrs.define(eq=False)
class ModelUser:
    """A user, as far as they notice."""

    id: UserId
    name: str
    email: str
    password: str
    sessions: dict[str, ModelSession] = attrs.field(factory=dict)
    """By the text of their tokens. The expired ones stay until a log-in."""
    verified: bool = False
    pending: str | None = None
    mailed: dict[type[TokenMail], tuple[str, datetime]] = attrs.field(factory=dict)
    """The newest token of each kind that was mailed and not used, and when it expires."""


class AccountServiceMachine(RuleBasedStateMachine):
    """What a client may do with an account service, and what the model says should come of it.

    Override `open_accounts` to point it at a repository of one's own, and `has_mail` for a service without mail. One client
    does one thing after the other here; what many do at once is for the contract suites.
    """

    has_mail: ClassVar[bool] = True

    tokens: Bundle[str] = Bundle("tokens")
    mailed: Bundle[str] = Bundle("mailed")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.users: list[ModelUser] = []
        self.gone: list[UserId] = []
        self._open = AsyncExitStack()
        self.accounts = self.run_use_case(self._open.enter_async_context(self.open_accounts()))
        self.service = self.make_service(self.accounts)
        self.services, self.clock = self.service.services, self.service.clock

    @asynccontextmanager
    async def open_accounts(self) -> AsyncGenerator[AccountRepository]:
        """Open a repository on a store without accounts, and close it. Each example of hypothesis has one of its own."""
        yield MemoryAccounts()

    def make_service(self, accounts: AccountRepository) -> AccountService:
        """Wire the use cases to a repository."""
        return make_account_service(accounts=accounts, mail=self.has_mail, session_rules=RULES, challenge_rules=CHALLENGES)

    def teardown(self) -> None:
        try:
            self.run_use_case(self._open.aclose())
        finally:
            self.runner.close()

    def run_use_case(self, use_case: Coroutine[Any, Any, Result]) -> Result:
        """Run a use case to its end."""
        return self.runner.run(use_case)

    @property
    def verification(self) -> Verification:
        """The use cases that verify addresses."""
        assert self.services.verification is not None
        return self.services.verification

    @property
    def recovery(self) -> Recovery:
        """The use cases that reset passwords."""
        assert self.services.recovery is not None
        return self.services.recovery

    def by_address(self, email: str) -> ModelUser | None:
        """Return who has an address in the model."""
        return next((user for user in self.users if user.email.lower() == email.lower()), None)

    def by_token(self, token: str) -> tuple[ModelUser, ModelSession] | None:
        """Return whom a token stands for in the model, if it is live."""
        for user in self.users:
            found = user.sessions.get(token)
            if found is not None and found.is_live(self.clock.now()):
                return user, found
        return None

    def by_mailed(self, token: str, *kinds: type[TokenMail]) -> tuple[ModelUser, type[TokenMail]] | None:
        """Return whom a mailed token proves to be there in the model, and what kind of mail it came with."""
        for user in self.users:
            for kind, (text, expires_at) in user.mailed.items():
                if kind in kinds and text == token and self.clock.now() < expires_at:
                    return user, kind
        return None

    @contextmanager
    def refused_unless_live(self, token: str) -> Iterator[None]:
        """Expect that what is done with a token is refused, unless it is live."""
        if self.by_token(token) is None:
            with pytest.raises(InvalidToken):
                yield
        else:
            yield

    def note_mail(self, user: ModelUser, kind: type[TokenMail], to: str, lifetime: timedelta) -> Any:
        """Take the mail that must have been sent into the model; return its token, for the bundle `mailed`."""
        if not self.has_mail:
            return multiple()
        mail = self.service.outbox.last(kind)
        assert mail.to.value == to
        assert mail.expires_at == self.clock.now() + lifetime
        user.mailed[kind] = mail.token, mail.expires_at
        return mail.token

    # Making users and sessions

    @initialize(target=tokens)
    def begin(self) -> str:
        self.register(NAMES[0], ADDRESSES[0], PASSWORDS[0])
        token = self.log_in(ADDRESSES[0], PASSWORDS[0])
        assert isinstance(token, str)
        return token

    @rule(target=mailed, name=st.sampled_from(NAMES), email=st.sampled_from(ADDRESSES), password=st.sampled_from(PASSWORDS))
    def register(self, name: str, email: str, password: str) -> Any:
        registration = self.services.registration.register(name=name, email=email, password=password)
        if self.by_address(email) is not None:
            with pytest.raises(AddressTaken):
                self.run_use_case(registration)
            return multiple()
        made = self.run_use_case(registration)
        user = ModelUser(made.id, name, email, password)
        self.users.append(user)
        return self.note_mail(user, VerifyAddress, email, CHALLENGES.verification)

    @rule(target=tokens, email=st.sampled_from(ADDRESSES), password=st.sampled_from(PASSWORDS))
    def log_in(self, email: str, password: str) -> Any:
        attempt = self.services.authentication.log_in(email=email, password=password)
        user = self.by_address(email)
        if user is None or user.password != password:
            with pytest.raises(InvalidCredentials):
                self.run_use_case(attempt)
            return multiple()
        logged_in = self.run_use_case(attempt)
        now = self.clock.now()
        left = sorted(
            (pair for pair in user.sessions.items() if pair[1].is_live(now)), key=lambda pair: (pair[1].used, pair[1].id)
        )
        surplus = max(0, len(left) + 1 - RULES.maximum)
        user.sessions = dict(left[surplus:])
        return self.remember(user, logged_in)

    def remember(self, user: ModelUser, logged_in: LoggedIn) -> str:
        """Take a session that was opened, or proved again, into the model; return its token."""
        token, now = logged_in.token.reveal(), self.clock.now()
        user.sessions[token] = ModelSession(logged_in.session.id, logged_in.session.created_at, now, now)
        return token

    # Using and ending sessions

    @rule(token=tokens)
    def authenticate(self, token: str) -> None:
        with self.refused_unless_live(token):
            principal = self.run_use_case(self.services.authentication.authenticate(token))
            found = self.by_token(token)
            assert found is not None
            user, session = found
            if self.clock.now() - session.used >= RULES.touch_interval:
                session.used = self.clock.now()
            assert (principal.user.id, principal.session.id) == (user.id, session.id)
            assert principal.session.last_used_at == session.used

    @rule(target=tokens, token=tokens, password=st.sampled_from(PASSWORDS))
    def reauthenticate(self, token: str, password: str) -> Any:
        attempt = self.services.authentication.reauthenticate(token, password=password)
        found = self.by_token(token)
        if found is None or found[0].password != password:
            with pytest.raises(InvalidToken if found is None else WrongPassword):
                self.run_use_case(attempt)
            return multiple()
        user, session = found
        fresh = self.run_use_case(attempt)
        assert fresh.session.id == session.id
        del user.sessions[token]
        return self.remember(user, fresh)

    @rule(token=tokens, other=tokens)
    def end(self, token: str, other: str) -> None:
        target = next((user.sessions[other] for user in self.users if other in user.sessions), None)
        ending = self.services.sessions.end(token, target.id if target else _UNKNOWN_SESSION)
        found = self.by_token(token)
        if found is None:
            with pytest.raises(InvalidToken):
                self.run_use_case(ending)
        elif other not in found[0].sessions or not found[0].sessions[other].is_live(self.clock.now()):
            with pytest.raises(SessionNotFound):
                self.run_use_case(ending)
        else:
            self.run_use_case(ending)
            del found[0].sessions[other]

    @rule(token=tokens)
    def log_out(self, token: str) -> None:
        with self.refused_unless_live(token):
            self.run_use_case(self.services.sessions.log_out(token))
            for user in self.users:
                user.sessions.pop(token, None)

    @rule(token=tokens, keep_current=st.booleans())
    def end_all(self, token: str, keep_current: bool) -> None:  # noqa: FBT001
        found = self.by_token(token)
        with self.refused_unless_live(token):
            self.run_use_case(self.services.sessions.end_all(token, keep_current=keep_current))
            assert found is not None
            found[0].sessions = {token: found[1]} if keep_current else {}

    # Changing and deleting users

    @rule(
        target=mailed,
        token=tokens,
        name=st.one_of(st.none(), st.sampled_from(NAMES)),
        email=st.one_of(st.none(), st.sampled_from(ADDRESSES)),
        password=st.one_of(st.none(), st.sampled_from(PASSWORDS)),
        current_password=st.one_of(st.none(), st.sampled_from(PASSWORDS)),
    )
    def change(
        self, token: str, name: str | None, email: str | None, password: str | None, current_password: str | None
    ) -> Any:
        change = self.services.profiles.change(
            token, name=name, email=email, password=password, current_password=current_password
        )
        found = self.by_token(token)
        refusal = InvalidToken if found is None else self.refusal_of_change(found[0], email, password, current_password)
        if found is None or refusal is not None:
            with pytest.raises(refusal or InvalidToken):
                self.run_use_case(change)
            return multiple()
        user, session = found
        changed = self.run_use_case(change)
        user.name = name or user.name
        if password is not None and password != user.password:
            user.password, user.sessions, user.pending = password, {token: session}, None
            user.mailed = {kind: mail for kind, mail in user.mailed.items() if kind is VerifyAddress}
        assert changed.name.value == user.name
        return multiple() if email is None else self.change_address(user, email)

    def change_address(self, user: ModelUser, email: str) -> Any:
        """Take a change of address into the model: at once without mail, else when it is confirmed. Return what was mailed."""
        if email == user.email:
            user.pending = None
            user.mailed.pop(ConfirmNewAddress, None)
            return multiple()
        if not self.has_mail:
            user.email, user.verified = email, False
            return multiple()
        user.pending = email
        return self.note_mail(user, ConfirmNewAddress, email, CHALLENGES.verification)

    def refusal_of_change(
        self, user: ModelUser, email: str | None, password: str | None, current_password: str | None
    ) -> type[Exception] | None:
        """Return the error that a change is refused with, if it is."""
        if email is not None or password is not None:
            if current_password is None:
                return InvalidFields
            if current_password != user.password:
                return WrongPassword
        if email is not None and self.by_address(email) not in {None, user}:
            return AddressTaken
        return None

    @rule(token=consumes(tokens))
    def delete(self, token: str) -> None:
        deletion = self.services.profiles.delete(token)
        found = self.by_token(token)
        if found is None:
            with pytest.raises(InvalidToken):
                self.run_use_case(deletion)
        elif self.clock.now() - found[1].proved > RULES.reauthentication_window:
            with pytest.raises(ReauthenticationRequired):
                self.run_use_case(deletion)
        else:
            self.run_use_case(deletion)
            self.forget(found[0])

    def forget(self, user: ModelUser) -> None:
        """Take a user out of the model."""
        self.users.remove(user)
        self.gone.append(user.id)

    # What is proved by mail

    @rule(target=mailed, token=tokens)
    def send_verification(self, token: str) -> Any:
        if not self.has_mail:
            return multiple()
        found, before = self.by_token(token), len(self.service.outbox.mails)
        with self.refused_unless_live(token):
            self.run_use_case(self.verification.send(token))
        if found is None:
            return multiple()
        user = found[0]
        if user.pending is None:
            if user.verified:
                assert len(self.service.outbox.mails) == before
                return multiple()
            return self.note_mail(user, VerifyAddress, user.email, CHALLENGES.verification)
        if self.by_address(user.pending) in {None, user}:
            return self.note_mail(user, ConfirmNewAddress, user.pending, CHALLENGES.verification)
        # Somebody has the address by now, and is told in place of who wants it; the token of before proves nothing any more.
        assert type(self.service.outbox.mails[-1]).__name__ == "AddressWanted"
        user.mailed.pop(ConfirmNewAddress, None)
        return multiple()

    @rule(token=mailed)
    def confirm(self, token: str) -> None:
        confirmation = self.verification.confirm(token)
        found = self.by_mailed(token, VerifyAddress, ConfirmNewAddress)
        if found is None:
            with pytest.raises(TokenSpent):
                self.run_use_case(confirmation)
            return
        user, kind = found
        if kind is ConfirmNewAddress:
            assert user.pending is not None
            if self.by_address(user.pending) not in {None, user}:
                with pytest.raises(AddressTaken):
                    self.run_use_case(confirmation)
                return
            user.email, user.pending, user.mailed = user.pending, None, {}
        user.mailed.pop(kind, None)
        user.verified = True
        self.run_use_case(confirmation)

    @rule(token=mailed)
    def decline(self, token: str) -> None:
        declining = self.verification.decline(token)
        found = self.by_mailed(token, VerifyAddress)
        if found is None or found[0].verified:
            with pytest.raises(TokenSpent):
                self.run_use_case(declining)
            return
        self.run_use_case(declining)
        self.forget(found[0])

    @rule(target=mailed, email=st.sampled_from(ADDRESSES))
    def ask_for_reset(self, email: str) -> Any:
        if not self.has_mail:
            return multiple()
        before = len(self.service.outbox.mails)

        async def ask() -> None:
            await self.recovery.request(email=email)
            await self.service.settle()

        self.run_use_case(ask())
        user = self.by_address(email)
        if user is None:
            assert len(self.service.outbox.mails) == before
            return multiple()
        return self.note_mail(user, ResetPassword, user.email, CHALLENGES.reset)

    @rule(token=mailed, password=st.sampled_from(PASSWORDS))
    def reset(self, token: str, password: str) -> None:
        reset = self.recovery.reset(token, password=password)
        found = self.by_mailed(token, ResetPassword)
        if found is None:
            with pytest.raises(TokenSpent):
                self.run_use_case(reset)
            return
        self.run_use_case(reset)
        user = found[0]
        user.password, user.sessions, user.verified, user.pending, user.mailed = password, {}, True, None, {}

    # Time, and what is always so

    @rule(wait=st.one_of(st.sampled_from(WAITS), st.integers(0, 12 * 24).map(lambda hours: timedelta(hours=hours))))
    def wait(self, wait: timedelta) -> None:
        self.clock.advance(wait)

    @invariant()
    def store_and_model_agree(self) -> None:
        self.run_use_case(self.compare())

    async def compare(self) -> None:
        """Expect of the store all that the model knows, and nothing beside it."""
        now = self.clock.now()
        for user in self.users:
            snapshot = await self.accounts.get(user.id)
            assert snapshot is not None
            account = snapshot.account
            assert (account.user.name.value, account.user.email.value) == (user.name, user.email)
            pending = account.user.pending_email
            assert (account.user.email_verified, pending and pending.value) == (user.verified, user.pending)
            live = {session.id: session.last_used_at for session in account.live_sessions(now, RULES)}
            assert live == {each.id: each.used for each in user.sessions.values() if each.is_live(now)}
            assert len(account.sessions) <= RULES.maximum
            waiting = {(each.kind, each.expires_at) for each in account.challenges}
            assert waiting == {(_PROVED_BY[kind], expires_at) for kind, (_, expires_at) in user.mailed.items()}
        for user_id in self.gone:
            assert await self.accounts.get(user_id) is None
        for email in ADDRESSES:
            found, owner = await self.accounts.find(EmailAddress.parse(email)), self.by_address(email)
            assert (found and found.account.user.id) == (owner and owner.id)
