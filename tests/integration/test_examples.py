"""The examples do what they say: each is run as it is, against a service as people start it."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import aiohttp
import attrs
import pytest

from pickguard.adapters.engine import Engine
from pickguard.client import PickguardClient
from tests.support.code_blocks import blocks_for
from tests.support.fakes import GOOD_PASSWORD
from tests.support.processes import PATIENCE, run, serving
from tests.support.serving import clean_environment

ROOT: Final = Path(__file__).parents[2]
EXAMPLES: Final = ROOT / "examples"
KNOWS_SHOP: Final = "--service-credentials services.credentials"
PICKGUARD: Final = str(Path(sys.executable).with_name("pickguard"))
SHOPS: Final = ["aiohttp_over_http.py", "aiohttp_in_process.py", "fastapi_app.py", "starlette_app.py"]
PROGRAMS: Final = ["library.py", "client_tour.py", "introspection.sh"]


@attrs.frozen(kw_only=True)
class Service:
    """A running service, and what an example has in its environment to find it."""

    url: str
    ca: Path
    environment: dict[str, str]
    directory: Path

    def client(self) -> PickguardClient:
        return PickguardClient(self.url, ca=self.ca)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, valkey: Engine) -> Generator[Service]:
    """A service with its development certificate, on a server that others may use beside it, which knows a shop."""
    directory = tmp_path_factory.mktemp("examples")
    secret = run([PICKGUARD, "service-credential", "shop", "--append", "services.credentials"], directory=directory).strip()
    store = ["--store", valkey.url, *KNOWS_SHOP.split()]
    environment = clean_environment()
    with serving([PICKGUARD, "serve", "--port", "0", *store], environment, directory) as served:
        ca = directory / "pickguard-data" / "tls" / "cert.pem"
        named = {"PICKGUARD_URL": served.url, "PICKGUARD_CA": str(ca), "PICKGUARD_STORE": valkey.url}
        environment |= {**named, "PICKGUARD_SERVICE_SECRET": secret, "PYTHONWARNINGS": "error"}
        yield Service(url=served.url, ca=ca, environment=environment, directory=directory)


async def sign_up(accounts: PickguardClient) -> str:
    email = f"ada.{uuid4().hex}@example.com"
    await accounts.register(name="Ada", email=email, password=GOOD_PASSWORD)
    return (await accounts.log_in(email=email, password=GOOD_PASSWORD)).access_token


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@asynccontextmanager
async def running(example: str, service: Service) -> AsyncGenerator[aiohttp.ClientSession]:
    """Run an example that serves, until it is told to stop; then it must end in order."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / example)),
        cwd=service.directory,
        env={**service.environment, "PORT": str(port)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            await until_it_answers(session, process)
            yield session
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            told, _ = await process.communicate()
        assert b"Traceback" not in told, told.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def until_it_answers(session: aiohttp.ClientSession, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            assert process.returncode is None, (await process.communicate())[0].decode()
            try:
                async with session.get("/nowhere"):
                    return
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.05)


async def ask(session: aiohttp.ClientSession, path: str, token: str | None = None, method: str = "GET") -> tuple[int, Any]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with session.request(method, path, headers=headers) as response:
        if response.status == 401:
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
        return response.status, await response.json(content_type=None)


def test_every_example_is_run_and_listed() -> None:
    there = {file.name for file in EXAMPLES.iterdir() if file.suffix in {".py", ".sh"}}
    adapter = {"__init__.py", "sqlite_accounts.py", "test_sqlite_accounts.py"}  # which has a test of its own
    assert there - adapter == {*SHOPS, *PROGRAMS}
    listed = (EXAMPLES / "README.md").read_text()
    for name in there - {"__init__.py"}:
        assert f"]({name})" in listed


@pytest.mark.parametrize("example", SHOPS)
async def test_a_shop_shows_to_each_their_own_and_to_strangers_nothing(example: str, service: Service) -> None:
    async with service.client() as accounts, running(example, service) as shop:
        token = await sign_up(accounts)
        user = await accounts.me(token)
        assert await ask(shop, "/basket", token) == (200, {"user": user.id, "basket": "the basket of Ada"})
        assert (await ask(shop, "/basket"))[0] == 401
        assert (await ask(shop, "/basket", "pg_x"))[0] == 401
        if example != "aiohttp_in_process.py":
            assert await ask(shop, "/healthz") == (200, {"status": "ok"})
        if example == "aiohttp_over_http.py":
            assert await ask(shop, "/greeting") == (200, {"hello": "stranger"})
            assert await ask(shop, "/greeting", token) == (200, {"hello": "Ada"})
        if example == "fastapi_app.py":
            _, described = await ask(shop, "/openapi.json")
            assert described["paths"]["/basket"]["get"]["security"] == [{"HTTPBearer": []}]
        if example in {"aiohttp_in_process.py", "starlette_app.py"}:
            assert await ask(shop, "/payments", token, "POST") == (200, {"paid": True})
            assert (await ask(shop, "/payments", None, "POST"))[0] == 401
        await accounts.log_out(token)
        assert (await ask(shop, "/basket", token))[0] == 401


async def run_program(*command: str, service: Service, sent: str = "") -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=service.directory,
        env=service.environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE):
        told, _ = await process.communicate(sent.encode())
    assert process.returncode is not None
    return process.returncode, told.decode()


async def test_the_library_goes_as_its_example_says(service: Service) -> None:
    status, told = await run_program(sys.executable, str(EXAMPLES / "library.py"), service=service)
    assert (status, told.splitlines()) == (
        0,
        [
            "Ada is registered as ada@example.com",
            "The address is taken, in capitals as well",
            "The token is Ada's",
            "There are 2 sessions",
            "The phone is logged out",
        ],
    )


async def test_the_tour_goes_as_its_example_says(service: Service) -> None:
    status, told = await run_program(sys.executable, str(EXAMPLES / "client_tour.py"), service=service)
    assert (status, told.splitlines()) == (
        0,
        [
            "The service is ready",
            "Refused: #/password password_too_short",
            "Refused: This e-mail address has an account already.",
            "Ada is logged in for 14 days",
            "Her name is Ada Lovelace now",
            "Nobody overwrites what they have not seen",
            "She has 2 sessions",
            "Lately: sessions_ended, logged_in, renamed, logged_in, registered",
            "The account is gone",
        ],
    )


async def test_a_script_introspects(service: Service) -> None:
    if os.environ.get("CI") != "true" and not shutil.which("curl"):
        return  # as the README says, outside of CI the tests do without it
    start, ask_, shown = (block.text for block in blocks_for("test_a_script_introspects"))
    assert start == "pickguard service-credential shop --append services.credentials\npickguard serve " + KNOWS_SHOP + "\n"
    assert ask_ == 'printf %s "$TOKEN" | PICKGUARD_SERVICE_SECRET=pgs_… sh examples/introspection.sh\n'
    command = ["sh", str(EXAMPLES / "introspection.sh")]
    async with service.client() as accounts:
        token = await sign_up(accounts)
        user = await accounts.me(token)
        status, told = await run_program(*command, service=service, sent=token)
        assert status == 0, told
        assert {"active": True, "sub": user.id, "email": user.email}.items() <= json.loads(told).items()
        assert list(json.loads(shown)) == list(json.loads(told))
        await accounts.log_out(token)
        assert await run_program(*command, service=service, sent=token) == (0, '{"active":false}')
        stranger = attrs.evolve(service, environment={**service.environment, "PICKGUARD_SERVICE_SECRET": "pgs_x"})
        status, told = await run_program(*command, service=stranger, sent=token)
        assert status != 0
        assert "401" in told
