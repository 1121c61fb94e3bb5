"""The client of a range service, against a service that does everything that one can do wrong."""

import asyncio
import hashlib
import logging
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web

from pickguard.adapters.breaches import FAILURES, LOG_EVERY_SECONDS, MAX_ANSWER_BYTES, PAUSE_SECONDS, RangeService
from pickguard.domain.model.errors import InvalidFields
from pickguard.entrypoints.bootstrap import open_services
from pickguard.entrypoints.settings import Settings
from pickguard.entrypoints.tls import development_certificate, server_context
from pickguard.ports.breaches import BreachCheckUnavailable
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD
from tests.support.redis_servers import free_port

STOLEN: Final = "pâté de campagne"
DIGEST: Final = hashlib.sha1(STOLEN.encode()).hexdigest().upper()
PADDING: Final = f"{'0' * 35}:0"
PATIENT: Final = timedelta(seconds=20)
"""No answer of a good service may be late because the machine is busy."""
BRIEF: Final = timedelta(milliseconds=50)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Range:
    """A range service that knows one password, and answers otherwise when it is told to."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.url = ""
        self.answer: Answer = self.right

    async def right(self, request: web.Request) -> web.StreamResponse:
        lines = ["0" * 34 + "1:7", PADDING]
        if request.match_info["prefix"] == DIGEST[:5]:
            lines.insert(1, f"{DIGEST[5:]}:42")
        return web.Response(text="\r\n".join(lines))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        return await self.answer(request)


@asynccontextmanager
async def running(tls: ssl.SSLContext | None = None) -> AsyncGenerator[Range]:
    known = Range()
    app = web.Application()
    app.router.add_get("/range/{prefix}", known.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        known.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/range/"
        yield known
    finally:
        await runner.cleanup()


@pytest.fixture
async def known() -> AsyncGenerator[Range]:
    async with running() as range_service:
        yield range_service


def says(text: str = "", status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status, headers=headers)

    return answer


async def why_not(service: RangeService) -> str:
    with pytest.raises(BreachCheckUnavailable) as error:
        await service.count(STOLEN)
    return str(error.value)


@pytest.mark.requirement(6)
async def test_a_stolen_password_is_counted_and_only_five_digits_are_sent(known: Range) -> None:
    async with RangeService(known.url, timeout=PATIENT) as service:
        assert [await service.count(password) for password in (STOLEN, GOOD_PASSWORD)] == [42, 0]
    first, _ = known.requests
    assert first.path_qs == f"/range/{DIGEST[:5]}"
    assert first.headers["Add-Padding"] == "true"
    assert first.headers["Accept-Encoding"] == "identity"
    assert set(first.headers) == {"Host", "Add-Padding", "Accept-Encoding", "User-Agent", "Accept"}
    assert not first.can_read_body
    sent = f"{first.path_qs} {first.headers}"
    assert STOLEN not in sent
    assert DIGEST[5:] not in sent


async def test_a_line_of_padding_is_no_breach(known: Range) -> None:
    known.answer = says(f"{DIGEST[5:]}:0\r\n{PADDING}")
    async with RangeService(known.url, timeout=PATIENT) as service:
        assert await service.count(STOLEN) == 0


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        (f"{DIGEST[5:].lower()}:1", 1),
        (f"{PADDING}\n{DIGEST[5:]}:9999999999\n", 9999999999),
        (f"{DIGEST[5:-1]}{'0' if DIGEST[-1] != '0' else '1'}:5", 0),
        ("\r\n".join([*([PADDING] * 1000), f"{DIGEST[5:]}:2"]), 2),
    ],
    ids=["nothing", "lower case", "line feeds", "a neighbour", "a thousand lines"],
)
async def test_every_form_of_a_list_is_read(known: Range, text: str, count: int) -> None:
    known.answer = says(text)
    async with RangeService(known.url, timeout=PATIENT) as service:
        assert await service.count(STOLEN) == count


UNUSABLE: dict[str, tuple[Answer, str]] = {
    "a page": (says("<html>Log in to the network</html>"), "its answer is no list of digests"),
    "a page around a list": (says(f"<pre>\n{DIGEST[5:]}:1\n</pre>"), "its answer is no list of digests"),
    "half a line": (says(f"{PADDING}\r\n{DIGEST[5:20]}"), "its answer is no list of digests"),
    "a count that is none": (says(f"{DIGEST[5:]}:-1"), "its answer is no list of digests"),
    "a line feed too many": (says(f"{PADDING}\n\n{PADDING}"), "its answer is no list of digests"),
    "bytes": (says("\u0000\u00ff" * 100), "its answer is no list of digests"),
    "not found": (says("", status=404), "it answered with status 404"),
    "too many": (says(PADDING, status=429), "it answered with status 429"),
    "a fault": (says(PADDING, status=500), "it answered with status 500"),
    "no content": (says(status=204), "it answered with status 204"),
    "elsewhere": (says(status=302, headers={"Location": "/range/00000"}), "it answered with status 302"),
    "too much": (says(f"{PADDING}\n" * (MAX_ANSWER_BYTES // len(PADDING) + 1)), "its answer is too long"),
    "compressed": (says(PADDING, headers={"Content-Encoding": "gzip"}), "its answer is compressed, which was not asked for"),
}


@pytest.mark.parametrize(("answer", "reason"), UNUSABLE.values(), ids=UNUSABLE)
async def test_an_answer_that_is_none_is_no_answer(known: Range, answer: Answer, reason: str) -> None:
    known.answer = answer
    async with RangeService(known.url, timeout=PATIENT) as service:
        assert await why_not(service) == reason
        assert len(known.requests) == 1  # and no redirection was followed
        known.answer = known.right
        assert await service.count(STOLEN) == 42


async def test_an_endless_answer_is_not_read_to_its_end(known: Range) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(f"{PADDING}\r\n".encode() * 1000)
            sent += 1

    known.answer = endless
    async with RangeService(known.url, timeout=PATIENT) as service:
        assert await why_not(service) == "its answer is too long"
    assert sent < 1000  # of which some stands in the buffers of sockets


@pytest.mark.parametrize("begins", [False, True], ids=["never", "and stops"])
async def test_an_answer_that_does_not_come_is_not_waited_for(known: Range, begins: bool) -> None:  # noqa: FBT001 (a column of a table)
    ends = asyncio.Event()

    async def late(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if begins:
            await response.prepare(request)
            await response.write(PADDING.encode())
        await ends.wait()
        return response

    known.answer = late
    async with RangeService(known.url, timeout=BRIEF) as service:
        assert await why_not(service) == "it did not answer in time"
    ends.set()


async def test_a_connection_that_is_dropped_is_no_answer(known: Range) -> None:
    async def drop(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    known.answer = drop
    async with RangeService(known.url, timeout=PATIENT) as service:
        assert (await why_not(service)).startswith("it cannot be talked to (")


async def test_a_service_that_is_not_there_is_no_answer() -> None:
    async with RangeService(f"http://127.0.0.1:{free_port()}/range/", timeout=PATIENT) as service:
        assert await why_not(service) == "it cannot be talked to (ClientConnectorError)"


async def test_over_tls_the_certificate_is_checked(tmp_path: Path) -> None:
    ours, others = (development_certificate(tmp_path / name, "127.0.0.1") for name in ("ours", "others"))
    async with running(server_context(*ours)) as known:
        for context in (None, ssl.create_default_context(cafile=str(others[0]))):
            async with RangeService(known.url, timeout=PATIENT, context=context) as service:
                assert await why_not(service) == "its certificate cannot be verified"
        assert known.requests == []
        trusting = ssl.create_default_context(cafile=str(ours[0]))
        async with RangeService(known.url, timeout=PATIENT, context=trusting) as service:
            assert await service.count(STOLEN) == 42


async def test_a_service_that_is_down_is_left_alone_for_a_while(known: Range) -> None:
    now = 1000.0
    known.answer = says(status=503)
    async with RangeService(known.url, timeout=PATIENT, now=lambda: now) as service:
        for _ in range(FAILURES + 5):
            await why_not(service)
        assert len(known.requests) == FAILURES
        now += PAUSE_SECONDS
        for _ in range(3):
            await why_not(service)
        assert len(known.requests) == FAILURES + 1  # one tried
        known.answer = known.right
        now += PAUSE_SECONDS - 0.001
        await why_not(service)
        now += 0.001
        assert [await service.count(STOLEN) for _ in range(2)] == [42, 42]
        assert len(known.requests) == FAILURES + 3


async def test_while_one_tries_again_the_others_do_not_wait(known: Range) -> None:
    now = 1000.0
    reached, ends = asyncio.Event(), asyncio.Event()

    async def late(request: web.Request) -> web.StreamResponse:
        reached.set()
        await ends.wait()
        return await known.right(request)

    known.answer = says(status=503)
    async with RangeService(known.url, timeout=PATIENT, now=lambda: now) as service:
        for _ in range(FAILURES):
            await why_not(service)
        known.answer = late
        now += PAUSE_SECONDS
        one = asyncio.create_task(service.count(STOLEN))
        await reached.wait()
        await why_not(service)
        assert len(known.requests) == FAILURES + 1
        ends.set()
        assert await one == 42
        assert await service.count(STOLEN) == 42


async def test_one_failure_now_and_then_keeps_nobody_from_asking(known: Range) -> None:
    async with RangeService(known.url, timeout=PATIENT) as service:
        for _ in range(FAILURES * 2):
            known.answer = says(status=503)
            await why_not(service)
            known.answer = known.right
            assert await service.count(STOLEN) == 42


async def test_a_caller_who_leaves_is_no_failure(known: Range) -> None:
    reached, ends = asyncio.Event(), asyncio.Event()

    async def late(request: web.Request) -> web.StreamResponse:
        reached.set()
        await ends.wait()
        return await known.right(request)

    known.answer = late
    async with RangeService(known.url, timeout=PATIENT) as service:
        for _ in range(FAILURES):
            reached.clear()
            one = asyncio.create_task(service.count(STOLEN))
            await reached.wait()
            one.cancel()
            with pytest.raises(asyncio.CancelledError):
                await one
        ends.set()
        assert await service.count(STOLEN) == 42


async def test_the_log_says_why_once_in_a_while_and_nothing_of_the_password(
    known: Range, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pickguard")
    now = 1000.0
    known.answer = says(f"{STOLEN}\n{DIGEST}", status=503)
    async with RangeService(known.url, timeout=PATIENT, now=lambda: now) as service:
        for _ in range(5):
            await why_not(service)
        now += LOG_EVERY_SECONDS
        await why_not(service)
    assert caplog.messages == [
        "1 new password was not looked up at the range service: it answered with status 503",
        "5 new passwords were not looked up at the range service: it answered with status 503",
    ]
    assert DIGEST[:5] not in caplog.text


async def test_it_is_a_context_manager(known: Range) -> None:
    with pytest.raises(RuntimeError, match="context manager"):
        await RangeService(known.url).count(STOLEN)
    assert known.requests == []


async def test_the_settings_open_it(known: Range) -> None:
    settings = Settings(store="memory:", breach_check=known.url, breach_timeout=PATIENT, request_timeout=2 * PATIENT)
    async with open_services(settings) as services:
        with pytest.raises(InvalidFields):
            await services.password_screen.raise_if_breached(STOLEN)
        await services.password_screen.raise_if_breached(OTHER_PASSWORD)
    assert len(known.requests) == 2
    async with open_services(Settings(store="memory:")) as services:
        await services.password_screen.raise_if_breached(STOLEN)
    assert len(known.requests) == 2
