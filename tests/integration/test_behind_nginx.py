"""The configurations of nginx in the pages, in a real nginx before a real service."""

import http.client
import json
import shlex
import shutil
import ssl
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from tests.support.code_blocks import Block, blocks_under
from tests.support.fakes import GOOD_PASSWORD
from tests.support.nginx import Nginx
from tests.support.processes import PATIENCE, serving
from tests.support.serving import clean_environment

CLIENT: Final = "127.0.0.2"
"""Where clients of these tests connect from, which is not where nginx connects from."""
PROGRAM: Final = str(Path(sys.executable).with_name("pickguard"))

pytestmark = pytest.mark.skipif(not shutil.which("nginx"), reason="there is no nginx")


@attrs.frozen(kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: Any


class Client:
    """A client of nginx at another address than nginx's own, which trusts its certificate only."""

    def __init__(self, nginx: Nginx) -> None:
        self._nginx = nginx

    def call(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        tls = ssl.create_default_context(cafile=self._nginx.certificate)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self._nginx.port, timeout=PATIENCE, context=tls, source_address=(CLIENT, 0)
        )
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            given["Content-Type"] = "application/json"
        connection.request(method, path, json.dumps(body) if body is not None else None, given)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        is_json = "json" in (answer.headers["Content-Type"] or "")
        return Answer(status=answer.status, headers=answer.headers, body=json.loads(text) if text and is_json else text)

    def session(self, **headers: str) -> Any:
        """Register if need be and log in; return the session."""
        user = {"name": "Ada", "email": "ada@example.com", "password": GOOD_PASSWORD}
        assert self.call("POST", "/v1/users", user, **headers).status in {201, 409}
        credentials = {name: user[name] for name in ("email", "password")}
        answer = self.call("POST", "/v1/sessions", credentials, **headers)
        assert answer.status == 201
        return answer.body["session"]


def of_language(page: str, heading: str, language: str) -> Block:
    (block,) = [block for block in blocks_under(page, heading) if block.language == language]
    return block


@contextmanager
def before(nginx: Nginx, upstream: str, port: int) -> Generator[Client]:
    """Run nginx before a service at another port than the page says."""
    text = nginx.file.read_text()
    assert f"server {upstream};" in text
    nginx.file.write_text(text.replace(f"server {upstream};", f"server 127.0.0.1:{port};"))
    with nginx.running():
        yield Client(nginx)


def test_behind_nginx_on_one_machine(tmp_path: Path) -> None:
    page = "docs/behind-nginx.md"
    nginx = Nginx(of_language(page, "On one machine", "nginx").text, tmp_path / "nginx")
    _, *words = shlex.split(of_language(page, "On one machine", "sh").text.replace("9443", "0"))
    with serving([PROGRAM, *words], clean_environment(), tmp_path / "service") as served:
        assert served.url.startswith("http://127.0.0.1:")
        with before(nginx, "127.0.0.1:9443", served.port) as client:
            answer = client.call("GET", "/readyz")
            printed = [block.text for block in blocks_under(page, "What you should see") if block.language == "text"]
            assert (answer.status, printed) == (200, [f"{json.dumps(answer.body, separators=(',', ':'))}\n"])
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
            assert answer.headers["Server"] == "nginx"
            assert client.session()["ip"] == CLIENT
            for claimed in ("192.0.2.1", "192.0.2.1, 127.0.0.1", "unknown", "127.0.0.1"):
                assert client.session(X_Forwarded_For=claimed)["ip"] == CLIENT
            assert client.call("POST", "/v1/users", {"name": "a" * 20_000}).status == 413
            wrong = client.call("POST", "/v1/users", {})
            assert (wrong.status, wrong.headers["Content-Type"]) == (422, "application/problem+json")
            redirected = http.client.HTTPConnection("127.0.0.1", nginx.plain_port, timeout=PATIENCE)
            redirected.request("GET", "/v1/users/me?a=b", headers={"Host": "accounts.example.com"})
            moved = redirected.getresponse()
            moved.read()
            redirected.close()
            assert (moved.status, moved.headers["Location"]) == (301, "https://accounts.example.com/v1/users/me?a=b")


def test_behind_nginx_on_a_machine_of_its_own(tmp_path: Path) -> None:
    nginx = Nginx(of_language("docs/operations.md", "Behind a proxy", "nginx").text, tmp_path / "nginx")
    # To nginx the service is accounts.example.com, by the certificate that the page has it trust.
    text = nginx.file.read_text()
    assert "proxy_ssl_name accounts.example.com;" in text
    nginx.file.write_text(text.replace("proxy_ssl_name accounts.example.com;", "proxy_ssl_name localhost;"))
    command = [PROGRAM, "serve", "--port", "0", "--trusted-proxies", "127.0.0.1"]
    with serving(command, clean_environment(), tmp_path / "service") as served:
        own = tmp_path / "service/pickguard-data/tls/cert.pem"
        shutil.copy(own, tmp_path / "nginx/tls/accounts-ca.pem")
        with before(nginx, "10.0.0.10:9443", served.port) as client:
            assert client.call("GET", "/readyz").status == 200
            assert client.session(X_Forwarded_For="192.0.2.1")["ip"] == CLIENT
        # Another certificate than the one that is trusted is no service.
        shutil.copy(nginx.certificate, tmp_path / "nginx/tls/accounts-ca.pem")
        with before_again(nginx) as client:
            assert client.call("GET", "/readyz").status == 502


@contextmanager
def before_again(nginx: Nginx) -> Generator[Client]:
    (nginx.directory / "error.log").unlink()
    with nginx.running():
        yield Client(nginx)
