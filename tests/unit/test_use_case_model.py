"""The use cases against a simple model of users and tokens, in any order that hypothesis finds."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from pickguard.adapters.memory import MemoryAccounts
from pickguard.domain.model.errors import (
    AddressTaken,
    InvalidCredentials,
    InvalidFields,
    InvalidToken,
    ReauthenticationRequired,
    SessionNotFound,
    WrongPassword,
)
from pickguard.domain.model.identifiers import SessionId, UserId
from pickguard.domain.services.authentication import LoggedIn
from pickguard.entrypoints.bootstrap import build_services
from tests.support.fakes import FakeClock, NoCommonPasswords, RecordedEvents
from tests.support.strategies import RULES, InstantHasher, examples, waits

Result = TypeVar("Result")

NAMES = ("Ada", "Grace")
ADDRESSES = ("ada@example.com", "ADA@example.com", "grace@example.com")
PASSWORDS = ("the first of phrases", "the second of phrases")
UNKNOWN = SessionId(UUID(int=0))


@attrs.define
class ModelSession:
    id: SessionId
    opened: datetime
    used: datetime
    proved: datetime

    def is_live(self, now: datetime) -> bool:
        return now < min(self.opened + RULES.lifetime, self.used + RULES.idle)


@attrs.define(eq=False)
class ModelUser:
    id: UserId
    name: str
    email: str
    password: str
    sessions: dict[str, ModelSession] = attrs.field(factory=dict)
    """By the text of their tokens. The expired ones stay until a log-in."""


class UseCases(RuleBasedStateMachine):
    """What a client may do, and what the model says should come of it."""

    tokens: Bundle[str] = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.accounts = MemoryAccounts()
        self.services = build_services(
            accounts=self.accounts,
            hasher=InstantHasher(),
            clock=self.clock,
            events=RecordedEvents(),
            common_passwords=NoCommonPasswords(),
            session_rules=RULES,
        )
        self.runner = asyncio.Runner()
        self.users: list[ModelUser] = []

    def teardown(self) -> None:
        self.runner.close()

    def run_use_case(self, use_case: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(use_case)

    def by_address(self, email: str) -> ModelUser | None:
        return next((user for user in self.users if user.email.lower() == email.lower()), None)

    def by_token(self, token: str) -> tuple[ModelUser, ModelSession] | None:
        """Return whom a token stands for in the model, if it is live."""
        for user in self.users:
            found = user.sessions.get(token)
            if found is not None and found.is_live(self.clock.now()):
                return user, found
        return None

    @contextmanager
    def refused_unless_live(self, token: str) -> Iterator[None]:
        if self.by_token(token) is None:
            with pytest.raises(InvalidToken):
                yield
        else:
            yield

    # Making users and sessions

    @initialize(target=tokens)
    def begin(self) -> str:
        self.register(NAMES[0], ADDRESSES[0], PASSWORDS[0])
        token = self.log_in(ADDRESSES[0], PASSWORDS[0])
        assert isinstance(token, str)
        return token

    @rule(name=st.sampled_from(NAMES), email=st.sampled_from(ADDRESSES), password=st.sampled_from(PASSWORDS))
    def register(self, name: str, email: str, password: str) -> None:
        registration = self.services.registration.register(name=name, email=email, password=password)
        if self.by_address(email) is not None:
            with pytest.raises(AddressTaken):
                self.run_use_case(registration)
            return
        user = self.run_use_case(registration)
        self.users.append(ModelUser(user.id, name, email, password))

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
        ending = self.services.sessions.end(token, target.id if target else UNKNOWN)
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
        token=tokens,
        name=st.one_of(st.none(), st.sampled_from(NAMES)),
        email=st.one_of(st.none(), st.sampled_from(ADDRESSES)),
        password=st.one_of(st.none(), st.sampled_from(PASSWORDS)),
        current_password=st.one_of(st.none(), st.sampled_from(PASSWORDS)),
    )
    def change(
        self, token: str, name: str | None, email: str | None, password: str | None, current_password: str | None
    ) -> None:
        change = self.services.profiles.change(
            token, name=name, email=email, password=password, current_password=current_password
        )
        found = self.by_token(token)
        refusal = InvalidToken if found is None else self.refusal_of_change(found[0], email, password, current_password)
        if found is None or refusal is not None:
            with pytest.raises(refusal or InvalidToken):
                self.run_use_case(change)
            return
        user, session = found
        changed = self.run_use_case(change)
        user.name, user.email = name or user.name, email or user.email
        if password is not None and password != user.password:
            user.password, user.sessions = password, {token: session}
        assert (changed.name.value, changed.email.value) == (user.name, user.email)

    def refusal_of_change(
        self, user: ModelUser, email: str | None, password: str | None, current_password: str | None
    ) -> type[Exception] | None:
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
            self.users.remove(found[0])

    @rule(wait=st.one_of(waits, st.sampled_from([RULES.reauthentication_window, timedelta(seconds=1)])))
    def wait(self, wait: timedelta) -> None:
        self.clock.advance(wait)

    @invariant()
    def store_and_model_agree(self) -> None:
        snapshots = [self.run_use_case(self.accounts.get(user.id)) for user in self.users]
        assert len(self.accounts._snapshots) == len(self.accounts._owners) == len(self.users)
        for user, snapshot in zip(self.users, snapshots, strict=True):
            assert snapshot is not None
            account = snapshot.account
            assert (account.user.name.value, account.user.email.value) == (user.name, user.email)
            live = {session.id: session.last_used_at for session in account.live_sessions(self.clock.now(), RULES)}
            assert live == {each.id: each.used for each in user.sessions.values() if each.is_live(self.clock.now())}
            assert len(account.sessions) <= RULES.maximum


TestUseCases = UseCases.TestCase
TestUseCases.settings = settings(examples(15), stateful_step_count=25)
