"""What one person does with an account, from first to last, at a service that runs somewhere."""

import json
import ssl
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.support.fakes import GOOD_PASSWORD

SECONDS = 30


def ask(
    url: str, certificate: Path | None, method: str = "GET", body: object = None, *, token: str | None = None
) -> tuple[int, Any]:
    """Send one request; return status and body. TLS is checked against the certificate."""
    tls = ssl.create_default_context(cafile=certificate) if certificate else None
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = Request(url, json.dumps(body).encode() if body is not None else None, headers, method=method)
    try:
        with urlopen(request, context=tls, timeout=SECONDS) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def lead_a_life(url: str, certificate: Path | None) -> dict[str, Any]:
    """Register, log in, look, log out; return the session that was opened."""
    user = {"name": "Ada", "email": "ada@example.com", "password": GOOD_PASSWORD}
    assert ask(f"{url}/v1/users", certificate, "POST", user)[0] == 201
    assert ask(f"{url}/v1/users", certificate, "POST", user)[0] == 409
    status, opened = ask(f"{url}/v1/sessions", certificate, "POST", {name: user[name] for name in ("email", "password")})
    assert status == 201
    token = opened["access_token"]
    assert ask(f"{url}/v1/users/me", certificate, token=token)[0] == 200
    assert ask(f"{url}/v1/sessions/current", certificate, "DELETE", token=token)[0] == 204
    assert ask(f"{url}/v1/users/me", certificate, token=token)[0] == 401
    assert ask(f"{url}/readyz", certificate)[0] == 200
    session: dict[str, Any] = opened["session"]
    return session
