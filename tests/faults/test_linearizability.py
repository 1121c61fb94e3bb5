"""Histories of clients of two processes on one store, under faults: what they were told fits one order of single steps.

Each history is short, so that it can be searched, and at its end everything is looked at, so that what was lost shows. The same
searches must find what is wrong with adapters that are broken on purpose.
"""

import asyncio
import selectors
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Final, NoReturn

import attrs
import pytest
from fakeredis import FakeAsyncRedis
from redis.exceptions import ConnectionError as RedisConnectionError

from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.claims import Claim
from pickguard.adapters.redis.commands import Client
from pickguard.adapters.redis.encoding import VERSION, account_key, claim_key, encode_claim
from pickguard.domain.model.accounts import Account
from pickguard.domain.model.errors import AddressTaken, Conflict, StoreUnavailable
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.sessions import Session, SessionDigest
from pickguard.domain.model.users import User
from pickguard.ports.accounts import AccountRepository, Snapshot
from tests.faults.workload import services_of
from tests.support.fakes import wired
from tests.support.faults import Proxy
from tests.support.histories import InProcess, OverHttp, Recorder, Service, UnsteadyClient, look_at_all, run_clients
from tests.support.redis_servers import Server
from tests.support.serving import Serve, serving
from tests.support.strategies import InstantHasher
from tests.support.tally import ACKNOWLEDGED, IMPOSSIBLE, RIGHTLY_REFUSED, UNAVAILABLE, UNKNOWN, Tally, engine_of

CLIENTS = 3
"""Of each process."""
PATIENT: Final = timedelta(seconds=10)
"""How long the store may take, where a busy machine must not look like a fault."""

Fault = Callable[[], Awaitable[None]]


async def one_history(
    services: Sequence[Service],
    addresses: Sequence[str],
    *,
    seed: int,
    actions: int,
    fault: Fault | None = None,
    after: int = 0,
) -> Recorder:
    """Record what clients do at once, let a fault happen after so many operations, and look at everything in the end."""
    recorder = Recorder()
    clients = asyncio.create_task(run_clients(recorder, [*services] * CLIENTS, addresses=addresses, seed=seed, actions=actions))
    if fault is not None:
        while len(recorder.history) < after and not clients.done():
            await asyncio.sleep(0.001)
        await fault()
    await clients
    await look_at_all(recorder, services[-1], addresses)
    return recorder


def judge(recorder: Recorder, tally: Tally, *, lossy: bool) -> None:
    """Search a history, and note what was found."""
    tally.count("histories")
    tally.count(UNKNOWN, recorder.unknowns)
    for operation in recorder.history:
        answer = operation.action.answer
        if answer is not None:
            tally.count(ACKNOWLEDGED if answer.status < 300 else UNAVAILABLE if answer.status == 503 else RIGHTLY_REFUSED)
    for verdict in recorder.check(lossy=lossy):
        if verdict.outcome == "undecided":
            tally.count("searches without a verdict")
        if not verdict.linearizable:
            tally.violation(IMPOSSIBLE, str(verdict))


@asynccontextmanager
async def two_processes(url: str, patience: timedelta) -> AsyncGenerator[list[InProcess]]:
    """Return the use cases as two processes have them: nothing is shared but the store."""
    async with services_of(url, 2, patience=patience) as made:
        yield [InProcess(each) for each in made]


@attrs.frozen(kw_only=True)
class Store:
    """A server, behind a proxy that drops replies where it is told to."""

    server: Server
    proxy: Proxy
    url: str

    @classmethod
    @asynccontextmanager
    async def running(cls, directory: Path, **options: str) -> AsyncGenerator["Store"]:
        """Start both."""
        socket, front = directory / "s", directory / "p"
        async with Server(directory / "server", options, unixsocket=socket) as server:
            proxy = Proxy(socket)
            async with proxy.listening(front):
                yield cls(server=server, proxy=proxy, url=f"unix://{front}")

    async def kill(self) -> None:
        """`kill -9`, and start again."""
        await self.server.restart()

    async def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT some time later."""
        self.server.freeze()
        await asyncio.sleep(seconds)
        self.server.thaw()


EVENTS: Final = {"server killed": "kills", "server frozen": "freezes", "service killed": "kills"}


def assert_tried(fault: str, tally: Tally, store: Store) -> None:
    """Everything fits one order, and the fault was noticed."""
    tally.assert_clean()
    if fault == "no fault":
        # An answer that is not understood would be called unknown, and would hide what it says.
        assert (tally.counts[UNKNOWN], tally.counts[UNAVAILABLE]) == (0, 0)
    else:
        assert tally.counts[UNKNOWN] + tally.counts[UNAVAILABLE] + store.proxy.dropped > 0


IN_PROCESS: Final = {"no fault": 40, "server killed": 6, "server frozen": 5, "replies dropped": 6}
"""Which faults there are, and how many histories a round has of each."""


@pytest.mark.parametrize("fault", IN_PROCESS)
async def test_what_two_processes_answer_fits_one_order(
    fault: str, tmp_path: Path, tally: Tally, random: Random, rounds: int
) -> None:
    tally.fault = f"one order: {fault}"
    # Frozen for longer than a write and the look for what became of it may take.
    patience = timedelta(seconds=0.2) if fault == "server frozen" else PATIENT
    async with (
        Store.running(tmp_path) as store,
        two_processes(store.url if fault == "replies dropped" else store.server.unix_url, patience) as services,
    ):
        faults: dict[str, Fault] = {"server killed": store.kill, "server frozen": lambda: store.freeze(0.6)}
        if fault == "replies dropped":
            store.proxy.drop = lambda _: random.random() < 0.08
        for number in range(rounds * IN_PROCESS[fault]):
            recorder = await one_history(
                services,
                [f"{letter}{number}@example.com" for letter in "ab"],
                seed=random.getrandbits(32),
                actions=12,
                fault=faults.get(fault),
                after=random.randrange(4, 40),
            )
            tally.count(EVENTS.get(fault, ""), fault in EVENTS)
            judge(recorder, tally, lossy=fault != "no fault")
        async with store.server.client() as raw:
            tally.engine = await engine_of(raw)
        tally.count("replies dropped", store.proxy.dropped)
    assert_tried(fault, tally, store)


async def test_a_server_that_forgets_what_it_has_acknowledged_is_found_out(tmp_path: Path) -> None:
    async with Store.running(tmp_path, appendonly="no") as store, two_processes(store.server.unix_url, PATIENT) as services:
        recorder = await one_history(services, ["a@example.com"], seed=0, actions=15, fault=store.kill, after=20)
        assert [verdict.outcome for verdict in recorder.check(lossy=True)] == ["violation"]


OVER_HTTP: Final = {"no fault": 2, "server killed": 2, "server frozen": 1, "replies dropped": 2, "service killed": 2}


@pytest.mark.parametrize("fault", OVER_HTTP)
async def test_what_two_services_answer_fits_one_order(
    fault: str, tmp_path: Path, tally: Tally, random: Random, rounds: int
) -> None:
    tally.fault = f"one order, over HTTP: {fault}"
    async with Store.running(tmp_path) as store, AsyncExitStack() as stack:
        args: tuple[str, ...] = ("--no-tls", "--store", store.url)
        if fault == "no fault":  # nor is a busy machine one
            args += ("--store-timeout", "10s", "--hash-wait", "10s", "--request-timeout", "20s")
        lasting = await stack.enter_async_context(serving(tmp_path / "lasting", *args))
        other = await stack.enter_async_context(serving(tmp_path / "other", *args))
        faults: dict[str, Fault] = {
            "server killed": store.kill,
            "server frozen": lambda: store.freeze(2.2),
            "service killed": lambda: _killed(other),
        }
        if fault == "replies dropped":
            store.proxy.drop = lambda _: random.random() < 0.08
        for number in range(rounds * OVER_HTTP[fault]):
            if other.process.returncode is not None:
                other = await stack.enter_async_context(serving(tmp_path / "other", *args))
            async with OverHttp.at(other.base) as one, OverHttp.at(lasting.base) as two:
                recorder = await one_history(
                    [one, two],
                    [f"{letter}{number}@example.com" for letter in "ab"],
                    seed=random.getrandbits(32),
                    actions=8,
                    fault=faults.get(fault),
                    after=random.randrange(4, 25),
                )
            tally.count(EVENTS.get(fault, ""), fault in EVENTS)
            judge(recorder, tally, lossy=fault != "no fault")
        async with store.server.client() as raw:
            tally.engine = await engine_of(raw)
        tally.count("replies dropped", store.proxy.dropped)
    assert_tried(fault, tally, store)


async def _killed(service: Serve) -> None:
    service.process.kill()
    await service.process.communicate()


# Adapters that are broken on purpose


class CheckThenSet(RedisAccounts):
    """Looks whether the address is free, and takes it in another step."""

    async def add(self, account: Account, *, operation: bytes) -> None:
        address = account.user.email
        if await self.find(address) is not None:
            raise AddressTaken
        claim = encode_claim(account.user.id, operation, 0)
        await self._commands.ask("SET", claim_key(self._prefix, address.key), claim)
        await self._save(None, account, operation, claim=None)


class LastWriteWins(RedisAccounts):
    """Saves over whatever version there is."""

    async def save(self, before: Snapshot, after: Account, *, operation: bytes) -> None:
        version = await self._commands.ask("HGET", account_key(self._prefix, after.user.id), VERSION)
        if version is None:
            raise Conflict
        await super().save(attrs.evolve(before, version=int(version)), after, operation=operation)


class Cached(RedisAccounts):
    """Keeps sessions that it has seen until it changes their account itself."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._cache: dict[tuple[UserId, SessionDigest], tuple[User, Session]] = {}

    async def read_session(self, user_id: UserId, digest: SessionDigest) -> tuple[User, Session] | None:
        if (user_id, digest) not in self._cache:
            found = await super().read_session(user_id, digest)
            if found is None:
                return None
            self._cache[user_id, digest] = found
        return self._cache[user_id, digest]

    async def save(self, before: Snapshot, after: Account, *, operation: bytes) -> None:
        self._forget(before)
        await super().save(before, after, operation=operation)
        self._forget(before)

    async def remove(self, before: Snapshot, *, operation: bytes) -> None:
        self._forget(before)
        await super().remove(before, operation=operation)
        self._forget(before)

    def _forget(self, snapshot: Snapshot) -> None:
        self._cache = {key: found for key, found in self._cache.items() if key[0] != snapshot.account.user.id}


class ReleasesFirst(RedisAccounts):
    """Gives a claim back before the account is saved under it."""

    async def _save_under(self, claim: Claim, address: str, before: Snapshot | None, after: Account, operation: bytes) -> None:
        await self._claims.release(address, claim)
        await super()._save_under(claim, address, before, after, operation)


class Liar(RedisAccounts):
    """Says that nothing was stored whenever an answer was lost."""

    async def _look_for(self, *_: object) -> NoReturn:
        raise StoreUnavailable("the store did not answer")


class Repeating:
    """A client that sends again what was not answered, as redis-py does by itself."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        while True:
            try:
                return await self._client.execute_command(*args, **options)
            except RedisConnectionError:
                continue


def repeating(client: Client) -> RedisAccounts:
    """An adapter whose writes may happen twice."""
    return RedisAccounts(Repeating(client))


SEEDS = 20
"""How many histories are tried."""
LOSSES = 0.1
"""How many of the commands are lost, or their answers, where that is what an adapter makes a mistake of."""
LOSSY: Final = {Liar, repeating}
BROKEN: Final[Sequence[Callable[[Client], AccountRepository]]] = (
    CheckThenSet,
    LastWriteWins,
    Cached,
    ReleasesFirst,
    Liar,
    repeating,
)


class _Skipping(selectors.DefaultSelector):
    """Where there is nothing to do for some time, that time has passed already."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0
        return super().select(timeout and 0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop with a time of its own: what happens on it, and when, does not depend on how busy the machine is."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now


async def simulated(adapter: Callable[[Client], AccountRepository], seed: int, *, losses: float) -> Recorder:
    """Record two processes in a simulation, in which all that happens follows from the seed."""
    random, addresses = Random(seed), ("a@example.com", "b@example.com")
    async with FakeAsyncRedis(version=(7,), protocol=2) as server:
        adapters = [adapter(UnsteadyClient(server, random, losses=losses)) for _ in range(2)]
        services = [InProcess(wired(each, InstantHasher())) for each in adapters]
        recorder = await one_history(services, addresses, seed=seed, actions=10)
        await look_at_all(recorder, InProcess(wired(RedisAccounts(server), InstantHasher())), addresses)
        return recorder


@pytest.mark.parametrize("adapter", BROKEN)
def test_a_broken_adapter_is_found_out(adapter: Callable[[Client], AccountRepository]) -> None:
    lossy = adapter in LOSSY
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        for seed in range(SEEDS):
            recorder = runner.run(simulated(adapter, seed, losses=LOSSES if lossy else 0))
            verdicts = recorder.check(lossy=lossy)
            assert all(verdict.outcome != "undecided" for verdict in verdicts)
            if not all(verdict.linearizable for verdict in verdicts):
                return
    pytest.fail(f"{SEEDS} histories show nothing wrong")


@pytest.mark.parametrize("losses", [0, LOSSES])
def test_in_the_same_simulation_nothing_is_wrong_with_the_adapter_that_is_not_broken(losses: float) -> None:
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        for seed in range(SEEDS):
            recorder = runner.run(simulated(RedisAccounts, seed, losses=losses))
            for verdict in recorder.check(lossy=losses > 0):
                assert verdict.linearizable, f"seed {seed}: {verdict}"
            statuses = {operation.action.answer and operation.action.answer.status for operation in recorder.history}
            assert losses or not statuses & {None, 503}, statuses
