from collections.abc import AsyncGenerator, Callable
from datetime import timedelta

import attrs
import pytest
import redis.asyncio

from pickguard.adapters.engine import Engine
from pickguard.adapters.redis import accounts as adapter
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.connection import open_client
from pickguard.adapters.redis.encoding import account_key
from pickguard.domain.model.sessions import USER_AGENT_MAX_LENGTH, Client, SessionRules
from pickguard.domain.model.users import EmailAddress
from pickguard.testing.contracts.account_repository import AccountRepositoryContract
from tests.support.accounts import a_session, an_account, operation
from tests.support.engines import PROGRAMS

PATIENCE = timedelta(seconds=5)


@pytest.mark.parametrize("engine", PROGRAMS, indirect=True)
class TestRedisAccounts(AccountRepositoryContract):
    @pytest.fixture
    async def accounts(self, engine: Engine) -> AsyncGenerator[RedisAccounts]:
        async with open_client(engine.url, connections=16, connect_timeout=PATIENCE, command_timeout=PATIENCE) as client:
            yield RedisAccounts(client)

    @pytest.fixture
    async def another(self, engine: Engine) -> AsyncGenerator[RedisAccounts]:
        async with open_client(engine.url, connections=16, connect_timeout=PATIENCE, command_timeout=PATIENCE) as client:
            yield RedisAccounts(client)

    async def test_an_account_is_one_piece_however_many_sessions_it_has(self, engine: Engine, accounts: RedisAccounts) -> None:
        account = an_account(name="A" * 100)
        client = Client(ip="2001:db8:1234:5678:9abc:def0:1234:5678", user_agent="x" * USER_AGENT_MAX_LENGTH)
        sessions = tuple(a_session(account, client=client) for _ in range(SessionRules().maximum))
        await accounts.add(attrs.evolve(account, sessions=sessions), operation=operation())
        async with redis.asyncio.Redis(unix_socket_path=str(engine.socket_path)) as direct:
            assert await direct.object("ENCODING", account_key("pg", account.user.id)) in {b"listpack", b"ziplist"}

    @pytest.mark.requirement(17)
    async def test_as_much_is_read_for_an_address_that_nobody_has(
        self, accounts: RedisAccounts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        account = an_account()
        await accounts.add(account, operation=operation())
        read: list[str] = []
        for name in ("decode_user", "decode_credential"):
            decode = getattr(adapter, name)

            def noted(*args: object, name: str = name, decode: Callable[..., object] = decode) -> object:
                read.append(name)
                return decode(*args)

            monkeypatch.setattr(adapter, name, noted)
        assert await accounts.find_holder(account.user.email) is not None
        assert await accounts.find_holder(EmailAddress.parse("nobody.at.all@example.com")) is None
        assert await accounts.find_holder(EmailAddress.parse("nobody@example.com")) is None
        assert read == ["decode_user", "decode_credential"] * 3
