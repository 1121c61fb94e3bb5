"""A shop in FastAPI that asks the service whose each request is.

Start a service with `pickguard serve`, then, in the same directory: python examples/fastapi_app.py
and open http://127.0.0.1:8080/docs, where "Authorize" takes the token of a log-in.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPBearer

from pickguard.asgi import AuthenticationMiddleware, Principal
from pickguard.client import PickguardClient
from pickguard.guard.over_http import OverHttp

URL = os.environ.get("PICKGUARD_URL", "https://127.0.0.1:9443")
CA = os.environ.get("PICKGUARD_CA", "pickguard-data/tls/cert.pem")

authenticator = OverHttp(PickguardClient(URL, ca=CA))


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """Keep the connections to the service for as long as the application runs."""
    async with authenticator:
        yield


def current_principal(request: Request) -> Principal:
    """Return who makes the request. Without a token there is nobody, and the request ends here."""
    principal: Principal | None = request.state.principal
    if principal is None:
        raise HTTPException(401, "Send an access token.", headers={"WWW-Authenticate": "Bearer"})
    return principal


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]
documented = [Depends(HTTPBearer(auto_error=False))]  # tells /docs about the token; the middleware looks at it

app = FastAPI(title="Shop", lifespan=lifespan, dependencies=documented)
app.add_middleware(AuthenticationMiddleware, authenticator=authenticator, required=False)


@app.get("/basket")
async def show_basket(principal: CurrentPrincipal) -> dict[str, str]:
    """Show something to whom it belongs."""
    return {"user": principal.user_id, "basket": f"the basket of {principal.name}"}


@app.get("/healthz")
async def is_alive() -> dict[str, str]:
    """Answer everybody: a route needs a token only if it depends on who asks."""
    return {"status": "ok"}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
