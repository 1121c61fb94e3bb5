"""A shop in aiohttp that looks tokens up itself, on the Redis of the service: nothing stands in between.

Start a service with `pickguard serve --store redis://127.0.0.1:6379`, then: python examples/aiohttp_in_process.py
and ask for http://127.0.0.1:8080/basket with the header `Authorization: Bearer TOKEN` of a log-in.

It reads the same PICKGUARD_… variables as the service, so that both have the same store and the same rules for sessions.
"""

import os
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

from aiohttp import web

from pickguard import Settings
from pickguard.aiohttp import PRINCIPAL, InProcess, authentication

STORE = os.environ.get("PICKGUARD_STORE", "redis://127.0.0.1:6379")

authenticator = InProcess(Settings.load({"store": STORE}, os.environ))


async def show_basket(request: web.Request) -> web.Response:
    """Show something to whom it belongs."""
    principal = request[PRINCIPAL]
    return web.json_response({"user": principal.user_id, "basket": f"the basket of {principal.name}"})


async def pay(request: web.Request) -> web.Response:
    """Do something only for who has proved the password lately: in process, the session is known as well."""
    session = request[PRINCIPAL].session
    if session is None or datetime.now(UTC) - session.authenticated_at > timedelta(minutes=15):
        return web.json_response({"detail": "Prove your password again."}, status=403)
    return web.json_response({"paid": True})


async def open_authenticator(_: web.Application) -> AsyncGenerator[None]:
    """Keep the connections to the store for as long as the application runs."""
    async with authenticator:
        yield


def make_app() -> web.Application:
    """Return the application."""
    app = web.Application(middlewares=[authentication(authenticator)])
    app.cleanup_ctx.append(open_authenticator)
    app.add_routes([web.get("/basket", show_basket), web.post("/payments", pay)])
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
