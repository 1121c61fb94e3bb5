"""The earlier design on today's libraries: sanic, redis-py, and Argon2 inside the handler.

    python sanic_app.py PORT

A session is a string that holds the name of its user, a user is a hash: a read takes two round trips.
"""

import os
import secrets
import sys

import redis.asyncio
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from sanic import HTTPResponse, Request, Sanic, json

memory, passes, lanes = map(int, os.environ["ARGON2"].split(","))
hasher = PasswordHasher(time_cost=passes, memory_cost=memory, parallelism=lanes)
app = Sanic("earlier")
app.config.ACCESS_LOG = False


@app.before_server_start
async def connect(app: Sanic, _: object) -> None:
    app.ctx.store = redis.asyncio.from_url(os.environ["REDIS_URL"], decode_responses=True)


@app.get("/health")
async def health(_: Request) -> HTTPResponse:
    return json({"ok": True})


@app.post("/register")
async def register(request: Request) -> HTTPResponse:
    given, store = request.json, request.app.ctx.store
    user = f"user:{given['username']}"
    if not await store.hsetnx(user, "username", given["username"]):
        return json({"error": "taken"}, 409)
    await store.hset(user, mapping={"password": hasher.hash(given["password"]), "name": given["name"]})
    return json({"username": given["username"], "name": given["name"]}, 201)


@app.post("/login")
async def log_in(request: Request) -> HTTPResponse:
    given, store = request.json, request.app.ctx.store
    user = await store.hgetall(f"user:{given['username']}")
    try:
        hasher.verify(user["password"], given["password"])
    except (KeyError, VerifyMismatchError):
        return json({"error": "bad credentials"}, 401)
    session = secrets.token_urlsafe(32)
    await store.set(f"session:{session}", given["username"], ex=3600)
    return json({"session_id": session})


@app.get("/user")
async def read(request: Request) -> HTTPResponse:
    store, session = request.app.ctx.store, request.headers.get("x-session-id")
    name = session and await store.get(f"session:{session}")
    if not name:
        return json({"error": "unauthorized"}, 401)
    user = await store.hgetall(f"user:{name}")
    return json({"username": user["username"], "name": user["name"]})


if __name__ == "__main__":
    app.run("127.0.0.1", int(sys.argv[1]), single_process=True, access_log=False, debug=False)
