"""What property tests draw from, and what they share: accounts with a history, addresses, JSON, a hasher without a cost."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import attrs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pickguard.domain.model.accounts import Account, Transition, register
from pickguard.domain.model.errors import AccountsError, SessionNotFound
from pickguard.domain.model.events import SessionEnd
from pickguard.domain.model.identifiers import SessionId, UserId, uuid7
from pickguard.domain.model.sessions import Session, SessionDigest, SessionRules, Token
from pickguard.domain.model.users import EmailAddress, PersonName
from pickguard.testing import NOW
from pickguard.testing import FakeHasher as InstantHasher

__all__ = [
    "NOW",
    "RULES",
    "USER_ID",
    "Change",
    "InstantHasher",
    "Life",
    "Step",
    "digest",
    "email",
    "examples",
    "json_scalars",
    "json_texts",
    "json_values",
    "live_out",
    "moments",
    "new_account",
    "session",
    "steps",
    "tokens",
    "waits",
]

USER_ID = UserId(UUID("019b7d1f-2a0e-7000-8000-000000000001"))
RULES = SessionRules(lifetime=timedelta(days=10), idle=timedelta(days=3), maximum=3)
"""Rules so narrow that a short history meets each of them."""


def examples(count: int) -> settings:
    """Return settings for so many examples. Time says nothing about a property, least of all on a busy machine."""
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def email(text: str) -> EmailAddress:
    return EmailAddress.parse(text)


def digest(number: int) -> SessionDigest:
    return SessionDigest(number.to_bytes(32, "big"))


def session(number: int, now: datetime = NOW) -> Session:
    """Return a session that was opened now; another number makes another session."""
    return Session(
        id=SessionId(uuid7(now, number.to_bytes(10, "big"))),
        digest=digest(number),
        created_at=now,
        last_used_at=now,
        authenticated_at=now,
    )


def new_account(now: datetime = NOW) -> Account:
    made = register(user_id=USER_ID, name=PersonName("Ada"), email=email("ada@example.com"), password_hash="hash of 0", now=now)
    return made.account


moments = st.integers(0, 4_102_444_800_000).map(lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms))
"""Moments of the years 1970 to 2099, to the millisecond."""

tokens = st.builds(
    Token,
    user_id=st.binary(min_size=16, max_size=16).map(lambda it: UserId(UUID(bytes=it))),
    secret=st.binary(min_size=32, max_size=32),
)

waits = st.one_of(
    st.sampled_from(
        [
            timedelta(0),
            timedelta(milliseconds=1),
            RULES.touch_interval,
            RULES.idle - timedelta(milliseconds=1),
            RULES.idle,
            RULES.lifetime,
        ]
    ),
    st.integers(0, 12 * 24).map(lambda hours: timedelta(hours=hours)),
)


@attrs.frozen(kw_only=True)
class Step:
    """One change in the life of an account. `choice` picks among sessions, names or addresses."""

    kind: str
    wait: timedelta
    choice: int


@attrs.frozen(kw_only=True)
class Change:
    """A step as it was taken: the account before, and the transition or the refusal it led to."""

    step: Step
    before: Account
    now: datetime
    chosen: SessionDigest
    transition: Transition | None
    refusal: AccountsError | None

    @property
    def after(self) -> Account:
        return self.before if self.transition is None else self.transition.account


class Life:
    """Takes steps in the life of one account. Digests and hashes are counted, so none comes twice."""

    def __init__(self) -> None:
        self.now = NOW
        self.account = new_account()
        self.digests: list[SessionDigest] = []
        self._counter = 0
        self.kinds: dict[str, Callable[[int, SessionDigest], Transition]] = {
            "rename": lambda choice, _: self.account.rename(PersonName(("Ada", "Grace")[choice % 2]), self.now),
            "change address": lambda choice, _: self.account.change_address(
                email(("ada@example.com", "Ada@example.com", "grace@example.com")[choice % 3]), self.now
            ),
            "change password": lambda choice, chosen: self.account.change_password(
                f"hash of {self._next()}", self.now, keep=chosen if choice else None
            ),
            "rehash": lambda _, __: self.account.rehash_password(f"hash of {self._next()}", self.now),
            "open": lambda _, __: self._open(self.account.credential.epoch),
            "open after a change": lambda _, __: self._open(self.account.credential.epoch - 1),
            "touch": lambda _, chosen: self.account.touch_session(chosen, self.now, RULES),
            "reauthenticate": lambda _, chosen: self._reauthenticate(chosen),
            "end": lambda _, chosen: self._end(chosen),
            "end all": lambda choice, chosen: self.account.end_sessions(
                self.now, keep=chosen if choice else None, reason=SessionEnd.REVOKED
            ),
            "schedule deletion": lambda choice, _: self.account.schedule_deletion(self.now, timedelta(days=1 + choice)),
            "restore": lambda _, __: self.account.restore(self.now),
            "prune": lambda _, __: self.account.prune_sessions(self.now, RULES),
        }

    def take(self, step: Step) -> Change:
        self.now += step.wait
        before = self.account
        chosen = self.digests[-1 - step.choice % len(self.digests)] if self.digests else digest(0)
        transition, refusal = None, None
        try:
            transition = self.kinds[step.kind](step.choice, chosen)
        except AccountsError as error:
            refusal = error
        else:
            self.account = transition.account
        return Change(step=step, before=before, now=self.now, chosen=chosen, transition=transition, refusal=refusal)

    def _next(self) -> int:
        self._counter += 1
        return self._counter

    def _new_digest(self) -> SessionDigest:
        self.digests.append(digest(self._next()))
        return self.digests[-1]

    def _open(self, epoch: int) -> Transition:
        made = attrs.evolve(
            session(0, self.now), digest=self._new_digest(), id=SessionId(uuid7(self.now, self.digests[-1][-10:]))
        )
        return self.account.open_session(made, email=self.account.user.email, epoch=epoch, now=self.now, rules=RULES)

    def _reauthenticate(self, chosen: SessionDigest) -> Transition:
        epoch = self.account.credential.epoch
        return self.account.reauthenticate_session(chosen, self._new_digest(), epoch=epoch, now=self.now, rules=RULES)

    def _end(self, chosen: SessionDigest) -> Transition:
        found = next((each for each in self.account.sessions if each.digest == chosen), None)
        if found is None:
            raise SessionNotFound
        return self.account.end_session(found.id, self.now, RULES, reason=SessionEnd.REVOKED)


steps = st.lists(
    st.builds(
        Step,
        # A log-in comes more often than the rest, or there would seldom be a session to do anything with.
        kind=st.sampled_from(["open", "open", "open", *(kind for kind in Life().kinds if kind != "open")]),
        wait=waits,
        choice=st.integers(0, 5),
    ),
    min_size=1,
    max_size=20,
)


def live_out(planned: Sequence[Step]) -> Iterator[Change]:
    """Take all steps on a new account, one after the other."""
    life = Life()
    for step in planned:
        yield life.take(step)


json_texts = st.text(max_size=20)
json_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(allow_nan=False, allow_infinity=False), json_texts
)
json_values = st.recursive(
    json_scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(json_texts, inner, max_size=4)),
    max_leaves=8,
)
