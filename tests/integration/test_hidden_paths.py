"""What nobody can find: another door, a file, a page of a framework, or a way to say something where it does not count."""

import json
from collections.abc import AsyncGenerator
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pickguard.adapters.memory import MemoryAccounts
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD
from tests.support.http import EMAIL, NAME, Api, serving
from tests.support.serving import children, engine_of
from tests.support.serving import serving as running

ME = "/v1/users/me"
LISTENS = "0A"


@pytest.fixture
async def api() -> AsyncGenerator[Api]:
    async with serving(MemoryAccounts()) as api:
        yield api


@pytest.mark.requirement(15, 68)
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/.git/HEAD",
        "/.git/config",
        "/.env",
        "/.well-known/security.txt",
        "/favicon.ico",
        "/robots.txt",
        "/index.html",
        "/static/",
        "/static/../pyproject.toml",
        "/debug",
        "/metrics",
        "/status",
        "/server-status",
        "/admin",
        "/console",
        "/_debug",
        "/__debug__/",
        "/v1",
        "/v1/",
        "/v1/admin",
        "/v1/debug",
        "/v1/config",
        "/problems/",
        "/cert.pem",
        "/tls/key.pem",
        "/engine.sock",
        "/backup.zip",
        "/swagger.json",
        "/graphql",
    ],
)
async def test_nothing_is_there_that_is_not_part_of_the_api(api: Api, path: str) -> None:
    # ASVS 13.4.1 to 13.4.6. That no header names software or its version is looked at in every answer.
    unsaid = (b"aiohttp", b"Python", b"Traceback", version("pickguard").encode())
    for method in ("GET", "POST", "HEAD"):
        answer = await api.call(method, path)
        assert answer.status == 404
        assert not [word for word in unsaid if word.lower() in answer.body.lower()]


@pytest.mark.requirement(74)
async def test_a_member_of_a_body_counts_in_the_body_only(api: Api) -> None:
    # ASVS 15.3.7: the same name in the query is another thing, or nothing.
    body = {"name": NAME, "email": EMAIL, "password": GOOD_PASSWORD}
    query = f"?name=Eve&email=eve%40example.com&password={OTHER_PASSWORD.replace(' ', '+')}&email=eve2%40example.com"
    answer = await api.call("POST", f"/v1/users{query}", body)
    assert (answer.status, answer.json()["email"], answer.json()["name"]) == (201, EMAIL, NAME)
    assert (await api.call("POST", f"/v1/users{query}", {})).faults == [
        ("#/email", "required"),
        ("#/name", "required"),
        ("#/password", "required"),
    ]
    token = await api.log_in()
    await api.call("PATCH", f"{ME}?name=Eve", {}, token=token)
    assert (await api.me(token))["name"] == NAME
    assert (await api.call("POST", "/v1/sessions?email=ada%40example.com", {"password": GOOD_PASSWORD})).status == 422


@pytest.mark.requirement(69)
async def test_a_token_is_taken_from_nowhere_but_its_header(api: Api) -> None:
    # ASVS 14.2.1; RFC 6750, section 2.3
    token = await api.sign_up()
    for query in (f"?access_token={token}", f"?token={token}", f"?Authorization=Bearer+{token}"):
        assert (await api.call("GET", f"{ME}{query}")).outcome == (401, "authentication-required")
    for headers in ({"Cookie": f"access_token={token}"}, {"X-Access-Token": token}, {"Proxy-Authorization": f"Bearer {token}"}):
        assert (await api.call("GET", ME, headers=headers)).outcome == (401, "authentication-required")
    body = json.dumps({"access_token": token, "name": "Eve"}).encode()
    assert (await api.call("PATCH", ME, data=body)).outcome == (401, "authentication-required")


def listening(pid: int) -> set[int]:
    """Return the TCP ports at which a process listens, on any address (Linux)."""
    sockets = {
        link.removeprefix("socket:[").removesuffix("]")
        for link in (str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir())
        if link.startswith("socket:[")
    }
    ports: set[int] = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == LISTENS and words[9] in sockets:
                ports.add(int(words[1].rpartition(":")[2], 16))
    return ports


@pytest.mark.requirement(63)
async def test_without_any_option_the_one_port_speaks_tls_and_its_store_has_none(data_dir: Path) -> None:
    # ASVS 12.2.1, 12.3.1
    async with running(data_dir) as service, service.client() as api:
        port = urlsplit(service.base).port
        assert service.base.startswith("https://")
        assert (await api.call("GET", "/livez"))[0] == 200
        assert engine_of(service) in children(service.process.pid)
        assert listening(service.process.pid) == {port}
        for child in children(service.process.pid):
            assert listening(child) == set()
        assert await service.stop() == 0
