"""A shop in aiohttp that asks the service whose each request is.

Start a service with `pickguard serve`, then, in the same directory: python examples/aiohttp_over_http.py
and ask for http://127.0.0.1:8080/basket with the header `Authorization: Bearer TOKEN` of a log-in.
"""

import os
from collections.abc import AsyncGenerator

from aiohttp import web

from pickguard.aiohttp import PRINCIPAL, OverHttp, authentication, login_optional, public
from pickguard.client import PickguardClient

URL = os.environ.get("PICKGUARD_URL", "https://127.0.0.1:9443")
CA = os.environ.get("PICKGUARD_CA", "pickguard-data/tls/cert.pem")

authenticator = OverHttp(PickguardClient(URL, ca=CA))


async def show_basket(request: web.Request) -> web.Response:
    """Every route needs a token, unless it says otherwise."""
    principal = request[PRINCIPAL]
    return web.json_response({"user": principal.user_id, "basket": f"the basket of {principal.name}"})


@login_optional
async def greet(request: web.Request) -> web.Response:
    """This one takes a token where there is one."""
    principal = request.get(PRINCIPAL)
    return web.json_response({"hello": principal.name if principal else "stranger"})


@public
async def is_alive(_: web.Request) -> web.Response:
    """And this one looks at none."""
    return web.json_response({"status": "ok"})


async def open_authenticator(_: web.Application) -> AsyncGenerator[None]:
    """Keep the connections to the service for as long as the application runs."""
    async with authenticator:
        yield


def make_app() -> web.Application:
    """Return the application."""
    app = web.Application(middlewares=[authentication(authenticator)])
    app.cleanup_ctx.append(open_authenticator)
    app.add_routes([web.get("/basket", show_basket), web.get("/greeting", greet), web.get("/healthz", is_alive)])
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
