"""Clients that are slow or silent in every way there is, against the service as it runs, with its own time limits.

All of them at once, so that it takes no longer than the slowest; the same with short limits, and on both event loops, is in
test_malformed_input.py.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.support.serving import Serve, serving

WITHIN = 15.0
"""Seconds within which the contract has each of them cut off."""
UNNOTICED = 5.0
"""Seconds that nobody else ever waits for an answer, on a busy machine."""
PAUSE = 0.3
HEAD = b"POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
IN_CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /problems/not-found HTTP/1.1\r\nHost: x\r\n\r\n"


class Client:
    """One connection to the service, with or without TLS on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ended(self) -> bytes:
        """Return what comes until the service ends the connection, in whichever way."""
        content = bytearray()
        try:
            while part := await self.reader.read(65536):
                content += part
        except (ConnectionError, ssl.SSLError):
            pass
        return bytes(content)

    async def drip(self, data: Iterator[bytes]) -> bytes:
        """Send a little, wait a little, and so on until the connection ends; return what came until then."""
        ended = asyncio.create_task(self.ended())
        while not ended.done():
            if not self.writer.is_closing():
                self.writer.write(next(data))
            await asyncio.wait({ended}, timeout=PAUSE)
        return ended.result()


def forever(part: bytes) -> Iterator[bytes]:
    while True:
        yield part


def bit_by_bit(data: bytes, rest: bytes) -> Iterator[bytes]:
    for number in range(len(data)):
        yield data[number : number + 1]
    yield from forever(rest)


async def asks_and_never_reads(client: Client) -> bytes:
    try:
        while True:
            await client.send(GET * 100)
    except (ConnectionError, ssl.SSLError):
        return b""


async def asks_and_reads_hardly_anything(client: Client) -> bytes:
    async def read() -> None:
        while await client.reader.read(1):
            await asyncio.sleep(PAUSE)

    reading = asyncio.create_task(read())
    try:
        return await asks_and_never_reads(client)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def sends(data: bytes, then: bytes | None = None) -> Callable[[Client], Awaitable[bytes]]:
    """Send something, and then nothing, or for ever the same."""

    async def behave(client: Client) -> bytes:
        await client.send(data)
        return await (client.ended() if then is None else client.drip(forever(then)))

    return behave


async def begins_another_request(client: Client) -> bytes:
    await client.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.reader.readuntil(b'{"status":"ok"}')
    return await client.drip(bit_by_bit(GET[:-2], b"X: y\r\n"))


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
"""The beginning of a TLS handshake."""

WITHOUT_TLS: dict[str, tuple[Callable[[Client], Awaitable[bytes]], bytes]] = {
    "says nothing at all": (sends(b""), b""),
    "begins a handshake": (sends(HELLO), b""),
    "sends its handshake bit by bit": (lambda client: client.drip(bit_by_bit(HELLO, b"\0")), b""),
}
OVER_TLS: dict[str, tuple[Callable[[Client], Awaitable[bytes]], bytes]] = {
    "says nothing after the handshake": (sends(b""), b""),
    "begins a header": (sends(GET[:20]), b""),
    "sends its header bit by bit": (lambda client: client.drip(bit_by_bit(GET[:-2], b"X: y\r\n")), b""),
    "sends empty lines": (sends(b"\r\n", b"\r\n"), b""),
    "begins another request": (begins_another_request, b""),
    "sends no body": (sends(HEAD + b"Content-Length: 100\r\n\r\n"), b"408"),
    "sends half a body": (sends(HEAD + b'Content-Length: 100\r\n\r\n{"name":'), b"408"),
    "sends its body bit by bit": (sends(HEAD + b"Content-Length: 1000\r\n\r\n", b" "), b"408"),
    "sends chunks bit by bit": (sends(IN_CHUNKS, b"1\r\n \r\n"), b"408"),
    "sends chunks without end": (sends(IN_CHUNKS, b"400\r\n%s\r\n" % (b" " * 1024)), b"413"),
    "never ends a chunk": (sends(IN_CHUNKS + b"ffffffff\r\n", b" "), b"408"),
    "never ends an extension of a chunk": (sends(IN_CHUNKS + b"1;", b"x"), b"408"),
    "never ends what follows the chunks": (sends(IN_CHUNKS + b"0\r\n", b"X: y\r\n"), b"408"),
    "sends too large a body bit by bit": (sends(HEAD + b"Content-Length: 100000\r\n\r\n", b" "), b"413"),
    "sends another kind of body bit by bit": (
        sends(HEAD.replace(b"application/json", b"text/plain") + b"Content-Length: 1000\r\n\r\n", b" "),
        b"415",
    ),
    "sends a body that nobody wants": (sends(GET[:-2] + b"Content-Length: 1000\r\n\r\n", b" "), b"200"),
    "never reads": (asks_and_never_reads, b""),
    "reads hardly anything": (asks_and_reads_hardly_anything, b""),
}


async def connect(service: Serve, *, secure: bool) -> Client:
    host, port = service.base.partition("://")[2].split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
    context = ssl.create_default_context(cafile=service.certificate) if secure else None
    name = "127.0.0.1" if secure else None
    return Client(*await asyncio.open_connection(sock=connection, ssl=context, server_hostname=name, limit=4096))


async def cut_off(service: Serve, behave: Callable[[Client], Awaitable[bytes]], expected: bytes, *, secure: bool) -> str:
    """Return what is wrong with how the service treats a client; nothing, if nothing is."""
    client = await connect(service, secure=secure)
    began = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(WITHIN):
            answer = await behave(client)
    except TimeoutError:
        return f"is still there after {WITHIN:.0f} seconds"
    finally:
        client.writer.transport.abort()
    seconds = asyncio.get_running_loop().time() - began
    status = answer[9:12] if answer.startswith(b"HTTP/1.1 ") else answer
    return "" if status == expected else f"got {answer[:200]!r} after {seconds:.1f} seconds, and not {expected!r}"


async def others(service: Serve, over: asyncio.Event) -> list[float]:
    """Be served until it is over; return how long each answer took."""
    loop = asyncio.get_running_loop()
    took: list[float] = []
    async with service.client() as api:
        await api.register()
        token = await api.log_in()
        while not over.is_set():
            began = loop.time()
            assert await api.me(token) == 200
            async with service.client() as newcomer:
                assert (await newcomer.call("GET", "/livez"))[0] == 200
            took.append(loop.time() - began)
            await asyncio.sleep(0.05)
    return took


@pytest.mark.requirement(72)
@pytest.mark.parametrize("secure", [True, False], ids=["TLS", "plain"])
async def test_every_slow_or_silent_client_is_cut_off_in_time_and_others_do_not_notice(data_dir: Path, *, secure: bool) -> None:
    cases = {**WITHOUT_TLS, **OVER_TLS} if secure else OVER_TLS
    args = [] if secure else ["--no-tls"]
    async with serving(data_dir, "--store", "memory:", *args) as service:
        over = asyncio.Event()
        served = asyncio.create_task(others(service, over))
        found = await asyncio.gather(
            *(cut_off(service, *case, secure=secure and name not in WITHOUT_TLS) for name, case in cases.items())
        )
        over.set()
        took = await served
        wrong = {name: words for name, words in zip(cases, found, strict=True) if words}
        assert not wrong
        assert len(took) > 5
        assert max(took) < UNNOTICED
        assert await service.stop() == 0
