"""A shop in Starlette that introspects: it has a credential of its own, and so is told of the session as well.

Make the credential and start a service that knows it, then start the shop with it:

    pickguard service-credential shop --append services.credentials
    pickguard serve --service-credentials services.credentials
    PICKGUARD_SERVICE_SECRET=pgs_… python examples/starlette_app.py
"""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from pickguard.asgi import AuthenticationMiddleware
from pickguard.client import PickguardClient
from pickguard.guard.over_http import OverHttp

URL = os.environ.get("PICKGUARD_URL", "https://127.0.0.1:9443")
CA = os.environ.get("PICKGUARD_CA", "pickguard-data/tls/cert.pem")
SECRET = os.environ.get("PICKGUARD_SERVICE_SECRET")

authenticator = OverHttp(PickguardClient(URL, ca=CA, service_secret=SECRET))


async def show_basket(request: Request) -> JSONResponse:
    """Show something to whom it belongs."""
    return JSONResponse({"user": request.user.identity, "basket": f"the basket of {request.user.display_name}"})


async def pay(request: Request) -> JSONResponse:
    """Do something only for who has proved the password lately."""
    session = request.state.principal.session
    if session is None or datetime.now(UTC) - session.authenticated_at > timedelta(minutes=15):
        return JSONResponse({"detail": "Prove your password again."}, status_code=403)
    return JSONResponse({"paid": True})


async def is_alive(_: Request) -> JSONResponse:
    """Answer everybody: the path is named as public below."""
    return JSONResponse({"status": "ok"})


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncGenerator[None]:
    """Keep the connections to the service for as long as the application runs."""
    async with authenticator:
        yield


app = Starlette(
    routes=[
        Route("/basket", show_basket),
        Route("/payments", pay, methods=["POST"]),
        Route("/healthz", is_alive),
    ],
    middleware=[Middleware(AuthenticationMiddleware, authenticator=authenticator, public={"/healthz"})],
    lifespan=lifespan,
)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
