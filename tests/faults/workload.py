"""Load on the use cases, by people each of whom knows what their account must look like.

A person is one task that does one thing at a time and keeps a ledger. After a call that was acknowledged the ledger is exact.
After `StoreUnavailable` and its kin nothing has changed: that is what they promise. After `OutcomeUnknown` the account is in
one of two states, and the person does nothing else until a log-in was acknowledged. That pins it: a write that is still on its
way then meets a newer version and is refused, so what is seen from there on is what came of it.

Most addresses belong to one person alone: to be told that such a one is taken is a false refusal. Some are contested by all,
and an address book knows who may have which of them at any time.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from random import Random
from typing import Final, Generic, TypeVar

import attrs
import redis.asyncio

from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.clients import StoreClient
from pickguard.adapters.redis.connection import open_client
from pickguard.domain.model.accounts import Account
from pickguard.domain.model.errors import (
    AccountsError,
    AddressTaken,
    InvalidCredentials,
    InvalidToken,
    OutcomeUnknown,
    Unavailable,
)
from pickguard.entrypoints.bootstrap import Services
from pickguard.ports.accounts import AccountRepository, Snapshot
from pickguard.ports.hashing import PasswordHasher
from tests.faults.use_cases import InProcess, Opened, Seen, UseCases
from tests.support.accounts import an_account, operation
from tests.support.fakes import cheap_hasher, wired
from tests.support.faults import age_claims
from tests.support.invariants import Scan
from tests.support.redis_servers import Server
from tests.support.tally import (
    ACKNOWLEDGED,
    BROKEN,
    FALSE_REFUSAL,
    FALSE_SUCCESS,
    IMPOSSIBLE,
    LOST,
    RIGHTLY_REFUSED,
    UNAVAILABLE,
    UNKNOWN,
    Tally,
    engine_of,
)

Result = TypeVar("Result")

COMMAND_TIMEOUT: Final = timedelta(seconds=1)
"""How long a process waits for the store, where a test does not say otherwise."""
PATIENCE_SECONDS: Final = 30.0
"""Until a test gives up on the store to work again. Nothing waits this long unless it fails."""

_MOST_SESSIONS = 8
_MOST_ENDED = 30


class AddressBook:
    """Who may have which address, and since when not any more. Times are of one monotonic clock."""

    def __init__(self, contested: int = 0) -> None:
        self.contested = [f"contested-{number}@example.com" for number in range(contested)]
        self._may: dict[str, dict[str, float]] = {}
        self._owners: dict[str, str] = {}

    def note(self, person: str, *, may_have: Collection[str], has: str | None) -> str | None:
        """Note which addresses a person may have, and which one for certain; say who else has that one for certain."""
        for address, holders in self._may.items():
            if holders.get(person) == float("inf") and address not in may_have:
                holders[person] = time.monotonic()
        for address in may_have:
            self._may.setdefault(address, {})[person] = float("inf")
        for address in [address for address, owner in self._owners.items() if owner == person and address != has]:
            del self._owners[address]
        if has is None:
            return None
        other = self._owners.setdefault(has, person)
        return None if other == person else other

    def may_be_taken(self, address: str, person: str, since: float) -> bool:
        """Tell whether anybody else may have had an address at any moment from then on."""
        return any(who != person and until >= since for who, until in self._may.get(address, {}).items())


@attrs.frozen(kw_only=True)
class Known:
    """What an account must look like. Of a session whose log-in was not answered the id is known, but no token."""

    id: str
    name: str
    email: str
    password: str = attrs.field(repr=False)
    sessions: Mapping[str, str | None] = attrs.field(factory=dict, repr=lambda it: f"{len(it)} sessions")

    def matches(self, user: Seen) -> bool:
        return (user.id, user.name, user.email) == (self.id, self.name, self.email)

    @property
    def tokens(self) -> list[str]:
        return [token for token in self.sessions.values() if token is not None]


@attrs.define
class Pending:
    """A change whose outcome is unknown: the account before and after it, and what log-ins may have added since."""

    kind: str
    before: Known | None
    after: Known | None
    opened: dict[str, str] = attrs.field(factory=dict)
    strays: int = 0
    misses: int = 0


@attrs.frozen(kw_only=True)
class Outcome(Generic[Result]):
    """What came of a call."""

    result: Result | None = None
    error: AccountsError | None = None

    @property
    def acknowledged(self) -> bool:
        return self.error is None

    @property
    def unknown(self) -> bool:
        return isinstance(self.error, OutcomeUnknown)

    @property
    def unavailable(self) -> bool:
        """There is no answer, known outcome or not."""
        return isinstance(self.error, Unavailable)


class Person:
    """Somebody with one account at a time, who remembers all that was acknowledged."""

    def __init__(self, name: str, *, book: AddressBook, tally: Tally, random: Random) -> None:
        self.name = name
        self.known: Known | None = None
        self.pending: Pending | None = None
        self.stopped = False
        """A false answer was met, after which the ledger says nothing about what will come."""
        self.ghosts: set[str] = set()
        """Addresses of registrations of which nothing was seen; they may still arrive, for ten seconds."""
        self.addresses: set[str] = set()
        """All that were ever used."""
        self._ended: list[str] = []
        self._book = book
        self._tally = tally
        self._random = random
        self._counter = 0

    async def step(self, use_cases: UseCases) -> bool:
        """Do one thing, at random. Tell whether it got an answer (or else it is better to wait a little)."""
        if self.pending is not None:
            return await self.settle(use_cases)
        if self.known is None:
            return await self.register(use_cases)
        known = self.known
        if not known.tokens or self._random.random() < 0.05:
            return await self.log_in(use_cases)
        if len(known.sessions) >= _MOST_SESSIONS:
            return await self.end_all(use_cases)
        names, weights = zip(*_WEIGHTS.items(), strict=True)
        (name,) = self._random.choices(names, weights)
        action: Callable[[UseCases], Awaitable[bool]] = getattr(self, name)
        return await action(use_cases)

    # What a person does. Each of these makes one call, and tells whether it got an answer.

    async def register(self, use_cases: UseCases) -> bool:
        return await self.register_at(use_cases, self._some_address())

    async def register_at(self, use_cases: UseCases, email: str) -> bool:
        wanted = Known(id="", name=self._fresh("Ada"), email=email, password=self._fresh_password())
        call = use_cases.register(name=wanted.name, email=email, password=wanted.password)
        self._may_become(wanted)
        since = time.monotonic()
        outcome = await self._call("register", call)
        if outcome.result is not None:
            wanted = attrs.evolve(wanted, id=outcome.result.id)
        return self._conclude("register", outcome, wanted, wanted=email, since=since)

    async def log_in(self, use_cases: UseCases) -> bool:
        known = self._the_known
        outcome = await self._call("log_in", use_cases.log_in(email=known.email, password=known.password))
        if outcome.unknown:
            self.pending = Pending("log_in", known, known, strays=1)
            return False
        if outcome.result is not None:
            self._expect_user("log_in", outcome.result.user)
            known = _with_session(known, outcome.result)
        return self._conclude("log_in", outcome, known)

    async def authenticate(self, use_cases: UseCases) -> bool:
        outcome = await self._call("authenticate", use_cases.authenticate(self._some_token()))
        if outcome.result is not None:
            self._expect_user("authenticate", outcome.result)
        return self._conclude("authenticate", outcome, self.known)

    async def list_sessions(self, use_cases: UseCases) -> bool:
        known = self._the_known
        outcome = await self._call("list_sessions", use_cases.sessions(self._some_token()))
        if outcome.acknowledged and outcome.result != frozenset(known.sessions):
            self._stop(IMPOSSIBLE, f"{len(outcome.result or ())} sessions are listed, not {len(known.sessions)}")
        return self._conclude("list_sessions", outcome, known)

    async def use_ended_token(self, use_cases: UseCases) -> bool:
        """Try a token that was revoked, if there is one: it must be refused."""
        if not self._ended:
            return await self.authenticate(use_cases)
        return await self._expect_refusal(
            "use_ended_token", use_cases.authenticate(self._random.choice(self._ended)), InvalidToken
        )

    async def log_in_wrongly(self, use_cases: UseCases) -> bool:
        """Try a password that the account does not have."""
        call = use_cases.log_in(email=self._the_known.email, password=self._fresh_password())
        return await self._expect_refusal("log_in_wrongly", call, InvalidCredentials)

    async def reauthenticate(self, use_cases: UseCases) -> bool:
        known = self._the_known
        session = self._some_session()
        call = use_cases.reauthenticate(known.sessions[session] or "", password=known.password)
        outcome = await self._call("reauthenticate", call)
        token = outcome.result.token if outcome.result is not None else None
        if outcome.result is not None:
            self._expect_user("reauthenticate", outcome.result.user)
        after = attrs.evolve(known, sessions={**known.sessions, session: token})
        return self._conclude("reauthenticate", outcome, after)

    async def rename(self, use_cases: UseCases) -> bool:
        return await self._change(use_cases, "rename", name=self._fresh("Ada"))

    async def change_address(self, use_cases: UseCases) -> bool:
        return await self._change(use_cases, "change_address", email=self._some_address())

    async def change_password(self, use_cases: UseCases) -> bool:
        return await self._change(use_cases, "change_password", password=self._fresh_password())

    async def change_everything(self, use_cases: UseCases) -> bool:
        return await self._change(
            use_cases,
            "change_everything",
            name=self._fresh("Ada"),
            email=self._some_address(),
            password=self._fresh_password(),
        )

    async def log_out(self, use_cases: UseCases) -> bool:
        session = self._some_session()
        call = use_cases.log_out(self._the_known.sessions[session] or "")
        return self._conclude("log_out", await self._call("log_out", call), self._without(session))

    async def end_session(self, use_cases: UseCases) -> bool:
        session = self._random.choice(sorted(self._the_known.sessions))
        call = use_cases.end(self._some_token(), session)
        return self._conclude("end_session", await self._call("end_session", call), self._without(session))

    async def end_others(self, use_cases: UseCases) -> bool:
        kept = self._some_session()
        known = self._the_known
        outcome = await self._call("end_others", use_cases.end_all(known.sessions[kept] or "", keep_current=True))
        return self._conclude("end_others", outcome, attrs.evolve(known, sessions={kept: known.sessions[kept]}))

    async def end_all(self, use_cases: UseCases) -> bool:
        outcome = await self._call("end_all", use_cases.end_all(self._some_token(), keep_current=False))
        return self._conclude("end_all", outcome, attrs.evolve(self._the_known, sessions={}))

    async def delete(self, use_cases: UseCases) -> bool:
        self._may_become(None)
        outcome = await self._call("delete", use_cases.delete(self._some_token()))
        return self._conclude("delete", outcome, None)

    async def settle(self, use_cases: UseCases) -> bool:
        """Log in, as before or as after the change whose outcome is unknown, and see what came of it."""
        pending = self.pending
        assert pending is not None
        states = [state for state in (pending.before, pending.after) if state is not None]
        for email, password in dict.fromkeys((state.email, state.password) for state in states):
            outcome = await self._call("settle", use_cases.log_in(email=email, password=password))
            if outcome.result is not None:
                return await self._settle_with(use_cases, pending, outcome.result, password)
            if outcome.unavailable:
                pending.strays += outcome.unknown
                return False
            if not isinstance(outcome.error, InvalidCredentials):
                self._stop(FALSE_REFUSAL, f"settle: {outcome.error!r}")
        return self._settle_without_log_in(pending)

    def _settle_without_log_in(self, pending: Pending) -> bool:
        pending.misses += 1
        if pending.before is None:  # nothing of a registration is there; it may still be on its way
            assert pending.after is not None
            self.ghosts.add(pending.after.email)
            return self._become(None)
        if pending.after is None:
            return self._become(None)
        if pending.misses > 5:  # between two attempts a change may arrive, but hardly every time
            self.known = pending.before
            self._stop(FALSE_REFUSAL, f"no log-in after {pending.kind}, neither as before nor as after")
        return True

    async def _settle_with(self, use_cases: UseCases, pending: Pending, opened: Opened, password: str) -> bool:
        pending.opened[opened.session] = opened.token
        outcome = await self._call("settle", use_cases.sessions(opened.token))
        if outcome.result is None:
            if not outcome.unavailable:
                self._stop(FALSE_REFUSAL, f"settle: {outcome.error!r}")
            return False
        for state in (pending.before, pending.after):  # the one before first: what it alone has cannot come back
            if state is None or password != state.password:
                continue
            found = attrs.evolve(state, id=state.id or opened.user.id)
            strays = outcome.result - found.sessions.keys() - pending.opened.keys()
            if found.matches(opened.user) and found.sessions.keys() <= outcome.result and len(strays) <= pending.strays:
                kept = await self._kept_tokens(use_cases, pending, found)
                if kept is None:
                    return False
                sessions = {**kept, **pending.opened, **dict.fromkeys(strays)}
                return self._become(attrs.evolve(found, sessions=sessions))
        self.known = pending.before
        self._stop(
            IMPOSSIBLE,
            f"{opened.user} with {len(outcome.result)} sessions, neither {pending.before} nor {pending.after}, "
            f"{pending.strays} stray",
        )
        return True

    async def _kept_tokens(self, use_cases: UseCases, pending: Pending, found: Known) -> dict[str, str | None] | None:
        """Return the sessions of the state that was found; a reauthentication shows only in which token is refused."""
        if pending.kind != "reauthenticate":
            return dict(found.sessions)
        kept = dict(found.sessions)
        for session, token in found.sessions.items():
            if token is not None:
                outcome = await self._call("settle", use_cases.authenticate(token))
                if outcome.unavailable:
                    return None
                kept[session] = token if outcome.acknowledged else None
        return kept

    async def audit(self, use_cases: UseCases, account: Snapshot | None) -> None:
        """Compare what is stored, and what the use cases answer, with the ledger, once everything works again."""
        known = self.known
        if known is None:
            return
        if account is None:
            self._tally.violation(LOST, f"the account of {self.name}")
            return
        self._compare(known, account.account)
        if self.stopped:
            return
        for token in known.tokens:
            outcome = await self._call("audit", use_cases.authenticate(token))
            if outcome.result is None or not known.matches(outcome.result):
                self._tally.violation(LOST, f"a token of {self.name}: {outcome}")
        while self._ended:
            await self._expect_refusal("use_ended_token", use_cases.authenticate(self._ended.pop()), InvalidToken)
        opened = await self._call("audit", use_cases.log_in(email=known.email, password=known.password))
        if opened.result is None:
            self._tally.violation(LOST, f"the password of {self.name}: {opened.error!r}")
        else:
            self._become(_with_session(known, opened.result))

    def _compare(self, known: Known, stored: Account) -> None:
        user = stored.user
        if user.name.value != known.name:
            self._tally.violation(LOST, f"the name of {self.name} is {user.name.value}, not {known.name}")
        if user.email.value != known.email:
            self._tally.violation(LOST, f"the address of {self.name} is {user.email.value}, not {known.email}")
        stored_ids = {str(session.id) for session in stored.sessions}
        for session in sorted(known.sessions.keys() - stored_ids):
            self._tally.violation(LOST, f"{self.name}'s session {session}")
        for session in sorted(stored_ids - known.sessions.keys()):
            self._tally.violation(LOST, f"the end of {self.name}'s session {session}")

    # The ledger

    async def _call(self, what: str, call: Awaitable[Result]) -> Outcome[Result]:
        began = time.monotonic()
        try:
            outcome = Outcome(result=await call)
        except AccountsError as error:
            outcome = Outcome(error=error)
        except Exception as error:  # noqa: BLE001 (whatever else a use case raises is a fault of it)
            self._stop(IMPOSSIBLE, f"{what} raised {error!r}")
            outcome = Outcome(error=AccountsError())
        self._tally.took(time.monotonic() - began)
        if outcome.acknowledged:
            self._tally.count(ACKNOWLEDGED)
        elif outcome.unknown:
            self._tally.count(UNKNOWN)
        elif outcome.unavailable:
            self._tally.count(UNAVAILABLE)
        return outcome

    async def _change(self, use_cases: UseCases, kind: str, **changes: str) -> bool:
        known = self._the_known
        session = self._some_session()
        after = attrs.evolve(
            known,
            name=changes.get("name", known.name),
            email=changes.get("email", known.email),
            password=changes.get("password", known.password),
        )
        if "password" in changes:
            after = attrs.evolve(after, sessions={session: known.sessions[session]})
        proof = {} if kind == "rename" else {"current_password": known.password}
        call = use_cases.change(known.sessions[session] or "", {**changes, **proof})
        self._may_become(after)
        since = time.monotonic()
        outcome = await self._call(kind, call)
        if outcome.result is not None and not after.matches(outcome.result):
            self._stop(IMPOSSIBLE, f"{kind} was answered with {outcome.result}, not {after}")
        return self._conclude(kind, outcome, after, wanted=changes.get("email"), since=since)

    def _conclude(
        self, kind: str, outcome: Outcome[Result], after: Known | None, *, wanted: str | None = None, since: float = 0.0
    ) -> bool:
        """Enter what came of a call that, if it was acknowledged, makes the account what it is after it."""
        if self.stopped:
            return True
        if outcome.acknowledged:
            return self._become(after)
        if outcome.unknown:
            if after != self.known:
                self.pending = Pending(kind, self.known, after)
            return False
        if outcome.unavailable:
            self._become(self.known)
            return False
        if isinstance(outcome.error, AddressTaken) and wanted and self._book.may_be_taken(wanted, self.name, since):
            self._tally.count(RIGHTLY_REFUSED)
            return self._become(self.known)
        self._stop(FALSE_REFUSAL, f"{kind} was refused with {outcome.error!r}, at {self.known} to {after}")
        return True

    async def _expect_refusal(self, kind: str, call: Awaitable[object], refusal: type[AccountsError]) -> bool:
        outcome = await self._call(kind, call)
        if outcome.acknowledged:
            self._stop(FALSE_SUCCESS, f"{kind} of {self.name} succeeded")
        elif isinstance(outcome.error, refusal):
            self._tally.count(RIGHTLY_REFUSED)
        elif not outcome.unavailable:
            self._stop(FALSE_REFUSAL, f"{kind} was refused with {outcome.error!r}, not {refusal.__name__}")
        elif outcome.unknown and self.known is not None:  # of a log-in, which might have succeeded, falsely
            self.pending = Pending(kind, self.known, self.known)
        return not outcome.unavailable

    def _expect_user(self, kind: str, user: Seen) -> None:
        if not self._the_known.matches(user):
            self._stop(IMPOSSIBLE, f"{kind} shows {user}, not {self.known}")

    def _become(self, known: Known | None) -> bool:
        kept = set(known.tokens) if known is not None else set()
        if self.known is not None:
            self._ended += [token for token in self.known.tokens if token not in kept]
        self._ended = self._ended[-_MOST_ENDED:]
        self.known, self.pending = known, None
        self._note({known.email} if known else set(), known.email if known else None)
        return True

    def _may_become(self, after: Known | None) -> None:
        """Note, before a call, which addresses the account may have from now on."""
        addresses = {state.email for state in (self.known, after) if state is not None}
        keeps_one = self.known is not None and after is not None and len(addresses) == 1
        self._note(addresses, min(addresses) if keeps_one else None)

    def _note(self, may_have: Collection[str], has: str | None) -> None:
        self.addresses.update(may_have)
        other = self._book.note(self.name, may_have={*may_have, *self.ghosts}, has=has)
        if other is not None:
            self._stop(IMPOSSIBLE, f"{self.name} and {other} both have {has}")

    def _stop(self, kind: str, detail: str) -> None:
        if not self.stopped:
            self._tally.violation(kind, detail)
        self.stopped = True

    @property
    def _the_known(self) -> Known:
        assert self.known is not None
        return self.known

    def _without(self, session: str) -> Known:
        left = {each: token for each, token in self._the_known.sessions.items() if each != session}
        return attrs.evolve(self._the_known, sessions=left)

    def _some_session(self) -> str:
        """Return a session of which there is a token."""
        return self._random.choice(sorted(each for each, token in self._the_known.sessions.items() if token is not None))

    def _some_token(self) -> str:
        return self._the_known.sessions[self._some_session()] or ""

    def _some_address(self) -> str:
        """Return an address that the account does not have: a contested one, one of their own given up before, or a new one."""
        own = f"{self.name}-{self._random.randrange(6)}@example.com"
        chosen = self._random.choice([own, own, own, *self._book.contested])
        if chosen in self.ghosts or (self.known is not None and chosen == self.known.email):
            return f"{self._fresh(self.name)}@example.com".replace(" ", "-")
        return chosen

    def _fresh(self, text: str) -> str:
        self._counter += 1
        return f"{text} {self._counter}"

    def _fresh_password(self) -> str:
        # Of hexadecimal digits alone, one in 33,000 has no letters but those of "Ada", and is refused.
        return f"x{self._random.getrandbits(96):024x}"


_WEIGHTS: Final[Mapping[str, int]] = {
    "authenticate": 20,
    "log_in": 14,
    "rename": 12,
    "change_address": 12,
    "change_password": 6,
    "change_everything": 4,
    "reauthenticate": 5,
    "log_out": 8,
    "end_session": 4,
    "end_others": 2,
    "end_all": 2,
    "list_sessions": 4,
    "use_ended_token": 10,
    "log_in_wrongly": 3,
    "delete": 4,
}
"""How often a person with an account does what."""


def _with_session(known: Known, opened: Opened) -> Known:
    return attrs.evolve(known, sessions={**known.sessions, opened.session: opened.token})


class Load:
    """People who use a service, by way of several processes of it, until they are told to stop."""

    def __init__(self, processes: Sequence[UseCases], *, people: int, contested: int, tally: Tally, random: Random) -> None:
        self.processes = list(processes)
        self.book = AddressBook(contested)
        self.people: list[Person] = []
        self._tally = tally
        self._random = random
        self._ending = False
        for _ in range(people):
            self.add(Random(random.getrandbits(64)))

    def add(self, random: Random) -> Person:
        """Add somebody who is audited with the others, and acts from the next time on that this runs."""
        person = Person(f"person-{len(self.people)}", book=self.book, tally=self._tally, random=random)
        self.people.append(person)
        return person

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Let all people act; in the end each finishes what they are at."""
        self._ending = False
        tasks = [asyncio.create_task(self._live(person)) for person in self.people]
        try:
            yield
            self._ending = True
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def until_acknowledged(self, more: int) -> None:
        """Return when so many more operations were acknowledged: the service works."""
        await self._until(ACKNOWLEDGED, more)

    async def until_refused(self, more: int) -> None:
        """Return when so many more operations were refused with 503."""
        await self._until(UNAVAILABLE, more)

    async def _until(self, what: str, more: int) -> None:
        enough = self._tally.counts[what] + more
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self._tally.counts[what] < enough:
                assert not all(person.stopped for person in self.people), self._tally.details
                await asyncio.sleep(0.002)

    async def settle(self) -> None:
        """Find out, with the store in order again, what came of every change whose outcome is unknown."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*(self._settle(person) for person in self.people))

    async def audit(self, *masters: redis.asyncio.Redis, accounts: AccountRepository | None = None) -> Scan:
        """Hold the store against what was acknowledged; nobody may be active. Returns the scan of all keys.

        `accounts` is asked whether every address that nobody has can be had, once the claims that were left are old. Of a
        single server it need not be given.
        """
        await self.settle()
        scan = await Scan.of(*masters)
        for fault in scan.faults:
            self._tally.violation(BROKEN, fault)
        known = {person.known.id for person in self.people if person.known is not None}
        ghosts = {address for person in self.people for address in person.ghosts}
        for user_id, snapshot in scan.accounts.items():
            if user_id not in known and snapshot.account.user.email.value not in ghosts:
                self._tally.violation(LOST, f"the removal of {snapshot.account.user.email.value}")
        for person in self.people:
            account = scan.accounts.get(person.known.id) if person.known is not None else None
            await person.audit(self._random.choice(self.processes), account)
        self._tally.count("accounts checked", len(known))
        self._tally.count("claims left without account", scan.orphan_claims)
        for master in masters:
            await age_claims(master)
        await self._expect_free(
            accounts or RedisAccounts(masters[0]), {snapshot.account.user.email.key for snapshot in scan.accounts.values()}
        )
        return scan

    async def _expect_free(self, accounts: AccountRepository, used: Collection[str]) -> None:
        """Let a newcomer have every address that was ever used and that nobody has now."""
        for address in sorted({address for person in self.people for address in person.addresses} - set(used)):
            newcomer = an_account(address)
            try:
                await accounts.add(newcomer, operation=operation())
                snapshot = await accounts.get(newcomer.user.id)
                assert snapshot is not None
                await accounts.remove(snapshot, operation=operation())
            except AccountsError as error:
                self._tally.violation(FALSE_REFUSAL, f"nobody can have {address}: {error!r}")

    async def _live(self, person: Person) -> None:
        while not self._ending:
            if person.stopped:
                return
            if not await person.step(self._random.choice(self.processes)):
                await asyncio.sleep(self._random.uniform(0.002, 0.02))  # as a client would, which was told to come back

    async def _settle(self, person: Person) -> None:
        while person.pending is not None and not person.stopped:
            if not await person.step(self._random.choice(self.processes)):
                await asyncio.sleep(0.02)


@asynccontextmanager
async def load_on(
    server: Server, use_cases: Sequence[UseCases], *, people: int = 20, contested: int = 3, tally: Tally, random: Random
) -> AsyncGenerator[Load]:
    """Let people act on a server; in the end hold it against what was acknowledged, and empty it."""
    load = Load(use_cases, people=people, contested=contested, tally=tally, random=random)
    async with load.running():
        yield load
    async with server.client() as raw:
        await load.audit(raw)
        tally.engine = await engine_of(raw)
        await raw.flushall()


def connect(url: str, *, patience: timedelta = COMMAND_TIMEOUT, wait_replicas: int = 0) -> StoreClient:
    """Return a client as a process has it."""
    return open_client(url, connections=16, connect_timeout=patience, command_timeout=patience, wait_replicas=wait_replicas)


@asynccontextmanager
async def processes(
    url: str, count: int, *, patience: timedelta = COMMAND_TIMEOUT, wait_replicas: int = 0
) -> AsyncGenerator[list[UseCases]]:
    """Return the use cases as so many processes have them: nothing is shared but the store."""
    async with services_of(url, count, patience=patience, wait_replicas=wait_replicas) as made:
        yield [InProcess(each) for each in made]


@asynccontextmanager
async def services_of(url: str, count: int, *, patience: timedelta, wait_replicas: int = 0) -> AsyncGenerator[list[Services]]:
    """Return the services that so many processes are made of."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            client = await stack.enter_async_context(connect(url, patience=patience, wait_replicas=wait_replicas))
            made.append(wired(RedisAccounts(client), await stack.enter_async_context(cheap_hasher())))
        yield made


async def until_it_works(
    call: Callable[[], Awaitable[object]], failures: type[Exception] | tuple[type[Exception], ...] = Unavailable
) -> int:
    """Call again and again until that does not fail; return how often it did."""
    failed = 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                await call()
            except failures:
                failed += 1
                await asyncio.sleep(0.02)
            else:
                return failed


def in_process(accounts: AccountRepository, hasher: PasswordHasher) -> InProcess:
    """Return the use cases on a repository, as one process has them."""
    return InProcess(wired(accounts, hasher))
