"""What the machine allows: the least that aiohttp can do for a read, alone and with one GET from Redis.

    python -m bench.performance.ceiling PORT REDIS_PORT

`/json` is a document encoded for each answer, on uvloop and without a log; nothing that does more can cost less. `/get` fetches
the bytes of the document from Redis instead, by redis-py, one command for each request. `/mget` fetches those of all requests
of one tick of the event loop with one command.
"""

import argparse
import asyncio
import hashlib
from typing import Final

import redis.asyncio
import uvloop
from aiohttp import web

from bench.performance.services import CEILING

DOCUMENT: Final = {
    "id": "01a20465-bea2-7890-b8a2-323b036c17a3",
    "name": "reader17",
    "email": "reader17@example.com",
    "email_verified": False,
    "created_at": "2026-11-22T17:55:06.530Z",
    "updated_at": "2026-11-22T17:55:06.530Z",
}
"""As the project answers a read, so that there is as much to encode and to send."""

Stored = bytes | str | None
"""What redis-py may return of a key; it is bytes here, if there is something."""


def key_of(authorization: str) -> bytes:
    """Return where the document of a bearer of this header is."""
    return b"ceiling:" + hashlib.sha256(authorization.encode()).digest()


class Batch:
    """The GETs of one tick of the event loop, sent as one MGET."""

    def __init__(self, store: redis.asyncio.Redis) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._asked: list[tuple[bytes, asyncio.Future[Stored]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, key: bytes) -> asyncio.Future[Stored]:
        if not self._asked:
            self._loop.call_soon(self._send)
        answer: asyncio.Future[Stored] = self._loop.create_future()
        self._asked.append((key, answer))
        return answer

    def _send(self) -> None:
        asked, self._asked = self._asked, []
        task = self._loop.create_task(self._fetch(asked))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, asked: list[tuple[bytes, asyncio.Future[Stored]]]) -> None:
        found = await self._store.mget([key for key, _ in asked])
        for (_, answer), value in zip(asked, found, strict=True):
            if not answer.done():
                answer.set_result(value)


async def application(redis_port: int) -> web.Application:
    store = redis.asyncio.Redis(port=redis_port, db=CEILING.database)
    batch = Batch(store)

    async def encoded(_: web.Request) -> web.Response:
        return web.json_response(DOCUMENT)

    async def fetched(request: web.Request) -> web.Response:
        return _stored(await store.get(key_of(request.headers["Authorization"])))

    async def fetched_in_batches(request: web.Request) -> web.Response:
        return _stored(await batch.get(key_of(request.headers["Authorization"])))

    app = web.Application()
    app.router.add_get("/json", encoded)
    app.router.add_get("/get", fetched)
    app.router.add_get("/mget", fetched_in_batches)
    return app


def _stored(document: Stored) -> web.Response:
    if document is None:
        raise web.HTTPUnauthorized
    return web.Response(body=document, content_type="application/json")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("port", type=int)
    options.add_argument("redis_port", type=int)
    given = options.parse_args()
    app = application(given.redis_port)
    web.run_app(app, host="127.0.0.1", port=given.port, access_log=None, print=None, loop=uvloop.new_event_loop())


if __name__ == "__main__":
    main()
