"""The listener for operators as it is served, in this process."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import ClientSession, DummyCookieJar, TCPConnector, web

from pickguard.adapters.telemetry.exposition import Exposer
from pickguard.entrypoints.admin.access import Gate, Right, Token, read_tokens
from pickguard.entrypoints.admin.address import AdminAddress
from pickguard.entrypoints.admin.app import Desk, create_admin_app
from pickguard.entrypoints.admin.description import admin_document
from pickguard.entrypoints.bootstrap import Services
from pickguard.entrypoints.http.acceptor import Acceptor
from pickguard.entrypoints.http.protocol import Connection
from pickguard.entrypoints.settings import Settings
from tests.support.description import Description
from tests.support.http import SETTINGS, Api
from tests.support.telemetry import Measured

OPERATOR = "f0e1d2c3b4a5968778695a4b3c2d1e0f"
OTHER_OPERATOR = "00112233445566778899aabbccddeeff.~+/-_=="
SCRAPER = "0123456789abcdef0123456789abcdef"
LOCAL = AdminAddress.parse("127.0.0.1:0")


def some_tokens(directory: Path) -> tuple[Token, ...]:
    """Tokens as an operator writes them down: two people's, and one for Prometheus."""
    people, scrapers = directory / "admin-tokens", directory / "metrics-token"
    people.write_text(f"# Ours\n\n{OPERATOR}\n  grace:{OTHER_OPERATOR}\n")
    scrapers.write_text(f"{SCRAPER}\n")
    return (
        *read_tokens(people, right=Right.EVERYTHING, flag="--admin-token-file"),
        *read_tokens(scrapers, right=Right.METRICS, flag="--metrics-token-file"),
    )


@asynccontextmanager
async def serving_operators(
    services: Services,
    tokens: Sequence[Token],
    *,
    measured: Measured | None = None,
    settings: Settings = SETTINGS,
    address: AdminAddress = LOCAL,
) -> AsyncGenerator[Api]:
    """Serve operators with services of one's own."""
    described = Description(admin_document(settings.for_operators()))
    measured = measured or Measured()
    metrics = measured.metrics
    desk = Desk(
        services=services,
        gate=Gate(lambda: tokens, address),
        expose=Exposer(measured.board).expose,
        note=lambda admitted: metrics.admin_request(authenticated=admitted),
    )
    runner = web.AppRunner(create_admin_app(settings.for_operators(), desk), handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    handler, loop = runner.server, asyncio.get_running_loop()
    assert handler is not None
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.setblocking(False)
            port = listener.getsockname()[1]
            acceptor = Acceptor(listener, lambda: Connection(handler, loop=loop), tls=None, most=100)
            acceptor.open()
            try:
                async with ClientSession(
                    f"http://127.0.0.1:{port}", connector=TCPConnector(limit=0), cookie_jar=DummyCookieJar()
                ) as session:
                    yield Api(port=port, session=session, tls=None, settings=settings, description=described)
            finally:
                acceptor.close()
                acceptor.give_up()
    finally:
        await runner.cleanup()
