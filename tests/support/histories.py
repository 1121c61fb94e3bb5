"""Histories of what clients do to accounts: recorded over HTTP or in process, and the model that they are checked against."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import count
from random import Random
from typing import Any, Final, Protocol
from uuid import UUID

import aiohttp
import attrs
from redis.exceptions import ConnectionError as RedisConnectionError

from pickguard.adapters.redis.commands import Client
from pickguard.domain.model.errors import AccountsError
from pickguard.domain.model.identifiers import SessionId
from pickguard.domain.model.users import User
from pickguard.entrypoints.bootstrap import Services
from pickguard.entrypoints.http.problems import for_error
from pickguard.entrypoints.http.schemas import render_log_in, render_sessions, render_user
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD
from tests.support.linearizability import LIMIT, Operation, Verdict, check, partition

PASSWORDS: Final = (GOOD_PASSWORD, OTHER_PASSWORD)

# What is asked and answered. Users and sessions have short names, in the order in which the recorder met them: no token and no
# other secret gets into a history.


@attrs.frozen(kw_only=True, cache_hash=True)
class Profile:
    """A user as answers show it. What nobody has seen yet, because the answer was lost, is None."""

    user: str | None
    name: str
    email: str
    updated_at: datetime | None

    def __str__(self) -> str:
        at = "" if self.updated_at is None else f" as of {self.updated_at:%S.%f}"[:-3]
        return f"{self.user or 'somebody'} {self.name} {self.email}{at}"


@attrs.frozen(kw_only=True)
class Answer:
    """The status of an answer and, of its body, what the model knows."""

    status: int
    profile: Profile | None = None
    session: str | None = None
    sessions: frozenset[str] | None = None

    def __str__(self) -> str:
        listed = None if self.sessions is None else " ".join(sorted(self.sessions))
        return " ".join(str(part) for part in (self.status, self.session, self.profile, listed) if part)


@attrs.frozen(kw_only=True)
class Action:
    """One request, and its answer: None before there is one, and where it is unknown what has happened."""

    kind: str
    session: str | None = None
    """In which session, for all but registrations and log-ins."""
    name: str | None = None
    email: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    proof: str | None = attrs.field(default=None, repr=False)
    target: str | None = None
    """The session to end."""
    condition: Profile | None = None
    """What the user must be for this to happen."""
    answer: Answer | None = None

    @property
    def only_looks(self) -> bool:
        """Whether this changes nothing, whatever the answer."""
        return self.kind in {"me", "list"}

    def __str__(self) -> str:
        secrets = {text: f"password {number}" for number, text in enumerate(PASSWORDS, 1)}
        parts = [
            self.session and f"{self.session}:",
            self.kind,
            self.name,
            self.email,
            self.password and secrets.get(self.password, "another password"),
            self.proof and f"by {secrets.get(self.proof, 'another password')}",
            self.target,
            self.condition and f"if {self.condition}",
            "->",
            "unknown" if self.answer is None else str(self.answer),
        ]
        return " ".join(part for part in parts if part)


# The model


@attrs.frozen(kw_only=True, cache_hash=True)
class Account:
    """All that can be seen of one account."""

    profile: Profile
    password: str = attrs.field(repr=False)
    sessions: frozenset[str] = frozenset()

    def __str__(self) -> str:
        sessions = " ".join(sorted(self.sessions)) or "-"
        return f"{self.profile}, password {PASSWORDS.index(self.password) + 1}, sessions {sessions}"


class State(frozenset[Account]):
    """The accounts that there are."""

    __slots__ = ()

    def at(self, email: str | None) -> Account | None:
        return next((each for each in self if each.profile.email == email), None)

    def in_session(self, session: str | None) -> Account | None:
        return next((each for each in self if session in each.sessions), None)

    def of(self, user: str | None) -> Account | None:
        return next((each for each in self if each.profile.user == user), None)

    def having(self, new: Account, *, instead_of: Account | None = None) -> "State":
        return State((self - {instead_of}) | {new})

    def __str__(self) -> str:
        return "; ".join(sorted(map(str, self))) or "no accounts"


@attrs.frozen(kw_only=True)
class AccountsModel:
    """What the API promises, one request at a time.

    One thing is allowed that a sequential model would not have: where answers get lost (`lossy`), a deletion that finds its
    account gone takes the deletion for its own, so two clients who delete one account at once are both told that it is gone.
    """

    registered: frozenset[str]
    """The users of whom somebody was told that they are registered."""
    owners: Mapping[str, str]
    """Whose each session is. A session whose log-in was not answered is not among them, and nobody can use it."""
    lossy: bool
    initial: State = attrs.field(factory=State)

    @classmethod
    def of(cls, history: Iterable[Operation[Action]], *, lossy: bool) -> "AccountsModel":
        """Return the model for a history: it knows who and which sessions there are in it, but not when."""
        registered, owners = set(), {}
        for operation in history:
            answer = operation.action.answer
            if answer is not None and answer.profile is not None and answer.profile.user is not None:
                if operation.action.kind == "register":
                    registered.add(answer.profile.user)
                if answer.session is not None:
                    owners[answer.session] = answer.profile.user
        return cls(registered=frozenset(registered), owners=owners, lossy=lossy)

    def may_change(self, action: Action) -> bool:
        """See `Model.may_change`."""
        return not action.only_looks and (action.answer is None or action.answer.status < 300)

    def step(self, state: State, action: Action) -> Iterator[State]:
        """See `Model.step`."""
        status = None if action.answer is None else action.answer.status
        if status == 503:  # nothing was done, or the answer would be unknown
            yield state
        elif action.kind == "register":
            yield from self._register(state, action, status)
        elif action.kind == "log in":
            yield from self._log_in(state, action, status)
        else:
            account = state.in_session(action.session)
            if account is not None:
                yield from self._in_session(state, account, action, status)
            elif status == 401 or (self.lossy and (status, action.kind) == (204, "delete") and self._is_gone(state, action)):
                yield state

    def _register(self, state: State, action: Action, status: int | None) -> Iterator[State]:
        assert action.name is not None
        assert action.email is not None
        assert action.password is not None
        if state.at(action.email) is not None:
            if status == 409:
                yield state
            return
        profile = Profile(user=None, name=action.name, email=action.email, updated_at=None)
        if action.answer is None:
            yield state.having(Account(profile=profile, password=action.password))
        elif status == 201 and (seen := action.answer.profile) is not None:
            same = seen == attrs.evolve(profile, user=seen.user, updated_at=seen.updated_at)
            if same and state.of(seen.user) is None:
                yield state.having(Account(profile=seen, password=action.password))

    def _log_in(self, state: State, action: Action, status: int | None) -> Iterator[State]:
        account = state.at(action.email)
        if account is None or account.password != action.password:
            if status == 401:
                yield state
        elif status == 201 and action.answer is not None and action.answer.session is not None:
            seen = self._recognised(state, account, action.answer.profile)
            if seen is not None and state.in_session(action.answer.session) is None:
                opened = attrs.evolve(seen, sessions=seen.sessions | {action.answer.session})
                yield state.having(opened, instead_of=account)

    def _in_session(self, state: State, account: Account, action: Action, status: int | None) -> Iterator[State]:
        needs_proof = action.email is not None or action.password is not None
        conditions_fail = {
            403: needs_proof and action.proof != account.password,
            404: action.kind == "end" and action.target not in account.sessions,
            409: self._is_anothers(state, action),
            412: action.condition is not None and not _may_be(account.profile, action.condition),
        }
        if status in conditions_fail:
            # A condition on what nobody has seen may as well fail.
            unseen = status == 412 and action.condition is not None and account.profile.updated_at is None
            if conditions_fail[status] or unseen:
                yield state
        elif (status is None or status < 300) and not any(conditions_fail.values()):
            for after in self._changed(state, account, action):
                yield State(state - {account}) if after is None else state.having(after, instead_of=account)

    def _changed(self, state: State, account: Account, action: Action) -> Iterator[Account | None]:
        """Return the account after an action that is not refused; None where it is no more."""
        answer = action.answer
        if answer is not None and answer.status != (200 if action.kind in {"me", "list", "change"} else 204):
            return
        if action.kind == "me":
            seen = self._recognised(state, account, answer.profile if answer else None)
            if seen is not None:
                yield seen
        elif action.kind == "list":
            # Of the sessions whose log-in was not answered there may be any.
            if answer is None or answer.sessions is None or answer.sessions & self.owners.keys() == account.sessions:
                yield account
        elif action.kind == "change":
            yield from self._with_changes(state, account, action)
        elif action.kind == "delete":
            yield None
        else:
            left = {
                "end": account.sessions - {action.target},
                "log out": account.sessions - {action.session},
                "end others": account.sessions & {action.session},
                "end all": frozenset[str](),
            }
            yield attrs.evolve(account, sessions=left[action.kind])

    def _with_changes(self, state: State, account: Account, action: Action) -> Iterator[Account]:
        before = account.profile
        wanted = attrs.evolve(before, name=action.name or before.name, email=action.email or before.email)
        password = action.password or account.password
        changed = wanted != before or password != account.password
        after = attrs.evolve(
            account,
            profile=attrs.evolve(wanted, updated_at=None) if changed else before,
            password=password,
            sessions=account.sessions if password == account.password else account.sessions & {action.session},
        )
        if action.answer is None:
            yield after
            return
        seen = self._recognised(state, after, action.answer.profile)
        later = seen and before.updated_at and seen.profile.updated_at and seen.profile.updated_at > before.updated_at
        if seen is not None and (later or not changed or before.updated_at is None):
            yield seen

    def _recognised(self, state: State, account: Account, seen: Profile | None) -> Account | None:
        """Return the account with what an answer tells of it, or None where that cannot be."""
        if seen is None or not _may_be(account.profile, seen):
            return None
        if account.profile.user is None and (seen.user in self.registered or state.of(seen.user) is not None):
            return None
        return attrs.evolve(account, profile=seen)

    def _is_anothers(self, state: State, action: Action) -> bool:
        holder = None if action.email is None else state.at(action.email)
        return holder is not None and holder.profile.user != self.owners[action.session or ""]

    def _is_gone(self, state: State, action: Action) -> bool:
        return state.of(self.owners[action.session or ""]) is None


def _may_be(profile: Profile, seen: Profile) -> bool:
    return (
        (profile.name, profile.email) == (seen.name, seen.email)
        and profile.user in {None, seen.user}
        and profile.updated_at in {None, seen.updated_at}
    )


def touched(action: Action) -> Iterator[str]:
    """Return which addresses, users and sessions an action is about: two that share none are independent."""
    yield from filter(None, (action.email, action.session, action.target))
    if action.answer is not None:
        profile = action.answer.profile
        yield from filter(None, (action.answer.session, profile.user if profile is not None else None))


# The clients


class LostError(Exception):
    """No answer came."""


@attrs.frozen(kw_only=True)
class Reply:
    """An answer as a service gives it."""

    status: int
    body: Any = None
    tag: str = ""
    """What a condition on the user, as it is here, has to say."""


class Service(Protocol):
    """A way to one service."""

    async def send(self, action: Action, *, token: str, target: str, tag: str) -> Reply:
        """Do what is asked; raise `LostError` where no answer comes.

        The token is that of the session, `target` the real id of the session to end, and the tag that of the condition.
        """


class OverHttp:
    """A service at the other end of a connection."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str) -> AsyncGenerator["OverHttp"]:
        """Connect to a service."""
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(url, connector=connector, timeout=aiohttp.ClientTimeout(20)) as session:
            # Or it would repeat a DELETE whose connection broke, and show the second answer only. There is no public way.
            session._retry_connection = False
            yield cls(session)

    async def send(self, action: Action, *, token: str, target: str, tag: str) -> Reply:
        """See `Service.send`."""
        method, path = {
            "register": ("POST", "/v1/users"),
            "log in": ("POST", "/v1/sessions"),
            "me": ("GET", "/v1/users/me"),
            "list": ("GET", "/v1/sessions"),
            "change": ("PATCH", "/v1/users/me"),
            "end": ("DELETE", f"/v1/sessions/{target}"),
            "log out": ("DELETE", "/v1/sessions/current"),
            "end others": ("DELETE", "/v1/sessions?except=current"),
            "end all": ("DELETE", "/v1/sessions"),
            "delete": ("DELETE", "/v1/users/me"),
        }[action.kind]
        members = {"name": action.name, "email": action.email, "password": action.password, "current_password": action.proof}
        body = {name: value for name, value in members.items() if value is not None} or None
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if action.condition is not None:
            headers["If-Match"] = tag
        try:
            async with self._session.request(method, path, json=body, headers=headers) as response:
                text = await response.read()
        except aiohttp.ClientConnectorError:
            return Reply(status=503, body={"detail": "There is no service at the address. Nothing was done."})
        except (aiohttp.ClientError, TimeoutError) as error:
            raise LostError from error
        return Reply(status=response.status, body=json.loads(text) if text else None, tag=response.headers.get("ETag", ""))


class InProcess:
    """The use cases of one process. Answers and conditions have the form that they have over HTTP."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def send(self, action: Action, *, token: str, target: str, tag: str) -> Reply:
        """See `Service.send`."""
        try:
            return await self._call(action, token, target, tag)
        except AccountsError as error:
            problem = for_error(error)
            return Reply(status=problem.type.status, body={"detail": problem.detail})

    async def _call(self, action: Action, token: str, target: str, tag: str) -> Reply:
        sessions, profiles = self._services.sessions, self._services.profiles
        email, password = action.email or "", action.password or ""
        precondition = None if action.condition is None else (lambda user: _tag(user) == tag)
        match action.kind:
            case "register":
                register = self._services.registration.register
                return _of_user(201, await register(name=action.name or "", email=email, password=password))
            case "log in":
                logged_in = await self._services.authentication.log_in(email=email, password=password)
                body = json.loads(render_log_in(logged_in, self._services.session_rules, with_pending=False))
                return Reply(status=201, body=body, tag=_tag(logged_in.user))
            case "me":
                return _of_user(200, (await self._services.authentication.authenticate(token)).user)
            case "list":
                body = json.loads(render_sessions(await sessions.list(token), self._services.session_rules))
                return Reply(status=200, body=body)
            case "change":
                changed = await profiles.change(
                    token,
                    name=action.name,
                    email=action.email,
                    password=action.password,
                    current_password=action.proof,
                    precondition=precondition,
                )
                return _of_user(200, changed)
        others: dict[str, Callable[[], Awaitable[object]]] = {
            "end": lambda: sessions.end(token, SessionId(UUID(target))),
            "log out": lambda: sessions.log_out(token),
            "end others": lambda: sessions.end_all(token, keep_current=True),
            "end all": lambda: sessions.end_all(token),
            "delete": lambda: profiles.delete(token, precondition=precondition),
        }
        await others[action.kind]()
        return Reply(status=204)


def _tag(user: User) -> str:
    return render_user(user, with_pending=False).decode()


def _of_user(status: int, user: User) -> Reply:
    return Reply(status=status, body=json.loads(render_user(user, with_pending=False)), tag=_tag(user))


ANSWERS: Final[Mapping[str, frozenset[int]]] = {
    "register": frozenset({201, 409}),
    "log in": frozenset({201, 401}),
    "me": frozenset({200, 401}),
    "list": frozenset({200, 401}),
    "change": frozenset({200, 401, 403, 409, 412}),
    "end": frozenset({204, 401, 404}),
    "log out": frozenset({204, 401}),
    "end others": frozenset({204, 401}),
    "end all": frozenset({204, 401}),
    "delete": frozenset({204, 401, 412}),
}
"""The statuses that decide something, for each kind of action. Beside them there is only 503."""


def is_decided(kind: str, status: int, body: Any) -> bool:
    """Tell whether an answer says what has happened. Any that a client should never get is an AssertionError.

    A 503 says that nothing was done, unless it says that the outcome is unknown: that is a promise, and is held against it.
    """
    if status == 503:
        return "unknown" not in body["detail"]
    assert status in ANSWERS[kind], f"{kind}: {status} {body}"
    return True


class Recorder:
    """Sends what clients want, and writes down what becomes of it."""

    def __init__(self) -> None:
        self.history: list[Operation[Action]] = []
        self.unknowns = 0
        self.profiles: dict[str, list[Profile]] = {}
        """What answers told of each session's user, the latest last."""
        self.sessions: list[str] = []
        """Every session whose token somebody has got, the oldest first."""
        self.live: list[str] = []
        """Those that were not refused yet."""
        self._clock = count(1)
        self._names: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self._tokens: dict[str, str] = {}
        self._tags: dict[Profile, str] = {}

    async def perform(self, client: str, service: Service, action: Action) -> Action:
        """Carry out an action and return it with its answer."""
        invoked = next(self._clock)
        try:
            reply = await service.send(
                action,
                token=self._tokens.get(action.session or "", ""),
                target=self._ids.get(action.target or "", ""),
                tag=self._tags[action.condition] if action.condition is not None else "",
            )
        except LostError:
            decided = False
        else:
            decided = is_decided(action.kind, reply.status, reply.body)
            if decided:
                action = attrs.evolve(action, answer=self._read(action, reply))
        returned = next(self._clock)
        self.unknowns += not decided
        # A log-in without an answer has opened a session that nobody can use, if any.
        if decided or not (action.only_looks or action.kind == "log in"):
            self.history.append(
                Operation(client=client, action=action, invoked=invoked, returned=returned if decided else None)
            )
        return action

    def _read(self, action: Action, reply: Reply) -> Answer:
        body = reply.body
        if reply.status == 401 and action.session in self.live:
            self.live.remove(action.session)
        if reply.status >= 300 or reply.status == 204:
            return Answer(status=reply.status)
        if action.kind == "list":
            listed = frozenset(self._named("s", each["id"]) for each in body["sessions"])
            return Answer(status=reply.status, sessions=listed)
        session = None
        if action.kind == "log in":
            session = self._named("s", body["session"]["id"])
            self._tokens[session] = body["access_token"]
            self.sessions.append(session)
            self.live.append(session)
        user = body["user"] if action.kind == "log in" else body
        profile = Profile(
            user=self._named("u", user["id"]),
            name=user["name"],
            email=user["email"],
            updated_at=datetime.fromisoformat(user["updated_at"]),
        )
        if reply.tag:
            self._tags[profile] = reply.tag
            self.profiles.setdefault(session or action.session or "", []).append(profile)
        return Answer(status=reply.status, profile=profile, session=session)

    def _named(self, letter: str, real: str) -> str:
        if real not in self._names:
            name = f"{letter}{len(self._names) + 1}"
            self._names[real], self._ids[name] = name, real
        return self._names[real]

    def check(self, *, lossy: bool, limit: int = LIMIT) -> list[Verdict[State, Action]]:
        """Check the history, in its independent parts."""
        model = AccountsModel.of(self.history, lossy=lossy)
        return [check(part, model, limit=limit) for part in partition(self.history, touched)]


def choose(random: Random, recorder: Recorder, addresses: Sequence[str], name: str) -> Action:
    """Choose what a client does next, in anybody's session. The name is one that no other action gives."""
    email, password, proof = random.choice(addresses), random.choice(PASSWORDS), random.choice(PASSWORDS)
    sessions = (recorder.live if recorder.live and random.random() < 0.8 else recorder.sessions)[-6:]
    kinds = {"register": 3, "log in": 5}
    if sessions:
        kinds |= {"me": 5, "list": 2, "change": 8, "end": 2, "log out": 1, "end others": 1, "end all": 1, "delete": 1}
    (kind,) = random.choices(list(kinds), list(kinds.values()))
    if kind == "register":
        return Action(kind=kind, name=name, email=email, password=password)
    if kind == "log in":
        return Action(kind=kind, email=email, password=password)
    session = random.choice(sessions)
    profiles = recorder.profiles.get(session, [])[-2:] if kind in {"change", "delete"} and random.random() < 0.4 else []
    action = Action(kind=kind, session=session, condition=random.choice(profiles) if profiles else None)
    if kind == "end":
        return attrs.evolve(action, target=random.choice(sessions))
    if kind == "change":
        change = random.choice(("name", "name", "email", "email", "password", "all"))
        return attrs.evolve(
            action,
            name=name if change in {"name", "all"} else None,
            email=email if change in {"email", "all"} else None,
            password=password if change in {"password", "all"} else None,
            proof=None if change == "name" else proof,
        )
    return action


async def run_clients(
    recorder: Recorder, services: Sequence[Service], *, addresses: Sequence[str], seed: int, actions: int
) -> None:
    """Let one client for each of the services, of which some may be the same, do so many actions, all clients at once."""
    numbers = count(1)

    async def act(client: str, service: Service) -> None:
        random = Random(f"{seed} {client}")
        for _ in range(actions):
            done = await recorder.perform(client, service, choose(random, recorder, addresses, f"n{next(numbers)}"))
            if done.answer is None or done.answer.status == 503:
                await asyncio.sleep(0.02)  # or the history would be full of these while a server is away
            for _ in range(random.randrange(3)):
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for client, service in zip("abcdefgh", services, strict=False):
            group.create_task(act(client, service))


async def look_at_all(recorder: Recorder, service: Service, addresses: Sequence[str]) -> None:
    """See, one after the other, what has become of everything: a write that was acknowledged and is gone shows here."""
    for session in recorder.sessions[:]:
        await recorder.perform("last", service, Action(kind="me", session=session))
    for email in addresses:
        for password in PASSWORDS:
            done = await recorder.perform("last", service, Action(kind="log in", email=email, password=password))
            if done.answer is not None and done.answer.session is not None:
                await recorder.perform("last", service, Action(kind="list", session=done.answer.session))


class UnsteadyClient:
    """A client of a store that takes its time, in another way for each seed, and loses some commands or their answers."""

    def __init__(self, client: Client, random: Random, *, losses: float = 0.0) -> None:
        self._client = client
        self._random = random
        self._losses = losses

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command, and lose it, or its answer, or neither."""
        lost = self._random.random() < self._losses
        before = lost and self._random.random() < 0.5
        await self._pause()
        if before:
            raise RedisConnectionError("cut before the command arrived")
        answer = await self._client.execute_command(*args, **options)
        await self._pause()
        if lost:
            raise RedisConnectionError("cut before the answer arrived")
        return answer

    async def _pause(self) -> None:
        for _ in range(self._random.randrange(4)):
            await asyncio.sleep(0)
