"""What the HTTP API promises its clients, on whichever store. A subclass has the fixtures `accounts` and `receipts`."""

import asyncio
import logging
import unicodedata
from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from itertools import pairwise
from uuid import UUID, uuid4

import attrs
import pytest
from multidict import CIMultiDict

from pickguard.adapters.event_log import LoggedEvents
from pickguard.domain.model.sessions import SessionRules
from pickguard.entrypoints.http.problems import TYPES
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.receipts import Receipts
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, FakeClock, RecordedEvents
from tests.support.http import EMAIL, NAME, SETTINGS, TIME, Answer, Api, serving

ME = "/v1/users/me"
USER_MEMBERS = {"id", "name", "email", "email_verified", "created_at", "updated_at"}
SESSION_MEMBERS = {"id", "created_at", "last_used_at", "authenticated_at", "expires_at", "user_agent", "ip", "current"}
LOG_IN_MEMBERS = {"access_token", "token_type", "expires_in", "session", "user"}
OTHER_EMAIL = "grace@example.com"
WRONG_PASSWORD = "nobody ever chose this phrase"
UNKNOWN_TOKEN = f"pg_{'A' * 64}112b7160"
"""Well-formed: only the store knows that it opens nothing."""

BODIES: dict[tuple[str, str], dict[str, str]] = {
    ("POST", "/v1/users"): {"name": NAME, "email": EMAIL, "password": GOOD_PASSWORD},
    ("POST", "/v1/sessions"): {"email": EMAIL, "password": GOOD_PASSWORD},
    ("POST", "/v1/account-restorations"): {"email": EMAIL, "password": GOOD_PASSWORD},
    ("PATCH", ME): {"name": "Ada", "email": EMAIL, "password": OTHER_PASSWORD, "current_password": GOOD_PASSWORD},
    ("POST", "/v1/sessions/current/reauthentication"): {"password": GOOD_PASSWORD},
}
AUTHENTICATED = [
    ("GET", ME),
    ("HEAD", ME),
    ("PATCH", ME),
    ("DELETE", ME),
    ("GET", f"{ME}/export"),
    ("GET", "/v1/sessions"),
    ("DELETE", "/v1/sessions"),
    ("DELETE", "/v1/sessions?except=current"),
    ("GET", "/v1/sessions/current"),
    ("DELETE", "/v1/sessions/current"),
    ("POST", "/v1/sessions/current/reauthentication"),
    ("DELETE", "/v1/sessions/019b7ca9-8f2e-7bf7-b0a8-689e37612033"),
    ("DELETE", "/v1/sessions/garbage"),
]
ALLOWED = {
    "/v1/users": {"POST"},
    ME: {"GET", "HEAD", "PATCH", "DELETE"},
    f"{ME}/export": {"GET", "HEAD"},
    "/v1/account-restorations": {"POST"},
    "/v1/sessions": {"GET", "HEAD", "POST", "DELETE"},
    "/v1/sessions/current": {"GET", "HEAD", "DELETE"},
    "/v1/sessions/current/reauthentication": {"POST"},
    "/v1/sessions/019b7ca9-8f2e-7bf7-b0a8-689e37612033": {"DELETE"},
    "/livez": {"GET", "HEAD"},
    "/readyz": {"GET", "HEAD"},
    "/problems/not-found": {"GET", "HEAD"},
}
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

BAD_NAMES = {
    "empty": "",
    "only spaces": " \t\u3000 ",
    "101 characters": "x" * 101,
    "control character": "Ada\x07Lovelace",
    "NUL": "Ada\x00",
    "line feed": "Ada\nLovelace",
    "C1 control character": "Ada\x9bLovelace",
    "lone high surrogate": "Ada \ud83d",
    "lone low surrogate": "\udc00 Ada",
    "bidirectional override": "Ada \u202eecalevoL",
    "left-to-right override": "\u202dAda",
    "isolate": "Ada \u2067Lovelace\u2069",
}
GOOD_NAMES = {
    "one character": ("A", "A"),
    "100 characters": ("x" * 100, "x" * 100),
    "100 characters beside the spaces": (f"  {'x' * 100} ", "x" * 100),
    "100 characters after normalisation": ("e\u0301" * 100, "\u00e9" * 100),
    "decomposed": ("Zoe\u0308", "Zo\u00eb"),
    "space at the ends": ("\t Ada \n", "Ada"),
    "another script": ("\u05e2\u05d3\u05d4", "\u05e2\u05d3\u05d4"),
    "beyond the basic plane": ("Ada \U0001f98a", "Ada \U0001f98a"),
    "joined emoji": ("\U0001f469\u200d\U0001f4bb", "\U0001f469\u200d\U0001f4bb"),
    "markup": ("<script>alert(1)</script>", "<script>alert(1)</script>"),
}
BAD_EMAILS = {
    "empty": "",
    "no at sign": "ada.example.com",
    "two at signs": "ada@home@example.com",
    "no local part": "@example.com",
    "no domain": "ada@",
    "one label": "ada@localhost",
    "space around it": " ada@example.com ",
    "space within": "ada lovelace@example.com",
    "display name": "Ada <ada@example.com>",
    "two addresses": "ada@example.com,eve@example.com",
    "header injection": "ada@example.com\r\nBcc: eve@example.com",
    "line feed at the end": "ada@example.com\n",
    "NUL": "ada\x00@example.com",
    "local part beyond ASCII": "\u00e4da@example.com",
    "Cyrillic look-alike": "\u0430da@example.com",
    "letter that upper case turns into ASCII": "ad\u0131@example.com",
    "Kelvin sign": "\u212aay@example.com",
    "quoted local part": '"ada lovelace"@example.com',
    "quoted plain local part": '"ada"@example.com',
    "address literal": "ada@[127.0.0.1]",
    "IPv6 literal": "ada@[IPv6:::1]",
    "two dots": "ada..l@example.com",
    "dot at the end": "ada.@example.com",
    "comment": "ada(comment)@example.com",
    "lone surrogate before the at sign": "ada\ud800@example.com",
    "lone surrogate in the domain": "ada@ex\udfffample.com",
    "label of 64": f"ada@{'a' * 64}.com",
    "255 characters": f"{'a' * 60}@{'.'.join(['b' * 60] * 3)}.{'c' * 7}.com",
    "thousands of characters": f"ada@{'a.' * 5000}com",
    "hyphen at the end of a label": "ada@example-.com",
    "underscore in the domain": "ada@exam_ple.com",
    "bad punycode": "ada@xn--\u00fc.com",
}
GOOD_EMAILS = {
    "plain": ("ada@example.com", "ada@example.com"),
    "capital domain": ("ada@EXAMPLE.Com", "ada@example.com"),
    "capital local part": ("Ada.Lovelace@example.com", "Ada.Lovelace@example.com"),
    "subaddress": ("ada+tag@example.com", "ada+tag@example.com"),
    "odd but allowed": ("!#$%&'*+/=?^_`{|}~-@example.com", "!#$%&'*+/=?^_`{|}~-@example.com"),
    "domain in Unicode": ("ada@b\u00fccher.example.com", "ada@b\u00fccher.example.com"),
    "domain in xn--": ("ada@xn--bcher-kva.example.com", "ada@b\u00fccher.example.com"),
    "local part of 64": (f"{'a' * 64}@example.com", f"{'a' * 64}@example.com"),
}
BAD_PASSWORDS = {
    "empty": ("", "password_too_short"),
    "7 characters": ("x9$kQ2m", "password_too_short"),
    "7 characters after normalisation": ("e\u0301" * 7, "password_too_short"),
    "257 characters": ("xy" * 128 + "z", "password_too_long"),
    "16 thousand bytes": ("x" * 16_000, "password_too_long"),
    "lone surrogate": ("correct horse \ud800", "invalid_password"),
    "only lone surrogates": ("\udc80" * 12, "invalid_password"),
    "the address": ("ada.lovelace@example.com", "password_guessable"),
    "the address in capitals": ("ADA.LOVELACE@EXAMPLE.COM", "password_guessable"),
    "the local part": ("Ada.Lovelace", "password_guessable"),
    "the name": ("ada LOVELACE", "password_guessable"),
    "the service": ("PickGuard", "password_guessable"),
}
GOOD_PASSWORDS = {
    "8 characters": "x9$kQ2mv",
    "8 characters that are one each after normalisation": "e\u0301" * 8,
    "256 characters": "xy" * 128,
    "256 characters of four bytes": "\U0001f98a" * 256,
    "only digits": "8461937502846",
    "space at the ends": "  two words  ",
    "control characters": "\x00\x01\x02\x03\x04\x05\x06\x07\n",
    "other scripts": "\u043f\u0430\u0440\u043e\u043b\u044c \u5bc6\u7801 \u05e1\u05d9\u05e1\u05de\u05d4",
}


def ids(cases: Mapping[str, object]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


def body_of(method: str, path: str) -> dict[str, str] | None:
    return BODIES.get((method, path))


def written(record: logging.LogRecord) -> str:
    return logging.Formatter("%(levelname)s %(name)s %(message)s").format(record)


def without_id(answer: Answer) -> tuple[int, bytes, list[tuple[str, str]]]:
    """What of an answer a client can compare; the date is left out, for the clock may strike between two of them."""
    return answer.status, answer.body, sorted(item for item in answer.headers.items() if item[0] != "Date")


REGISTRATION = {"name": NAME, "email": EMAIL, "password": GOOD_PASSWORD}


class HttpApiContract:
    """Tests of behaviour."""

    @pytest.fixture
    async def api(
        self, accounts: AccountRepository, receipts: Receipts, clock: FakeClock, events: RecordedEvents
    ) -> AsyncGenerator[Api]:
        async with serving(accounts, receipts=receipts, clock=clock, events=events) as api:
            yield api

    # Conventions

    @pytest.mark.requirement(75)
    async def test_the_log_holds_nothing_that_a_client_keeps_secret(
        self, accounts: AccountRepository, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        password, other = "canary that sings at dawn", "canary that sings at dusk"
        settings = attrs.evolve(SETTINGS, access_log=True, log_level="debug")
        async with serving(accounts, clock=clock, events=LoggedEvents(), settings=settings) as api:
            token = await api.sign_up(password=password)
            for path in (
                f"/{token}",
                f"/v1/sessions/{token}",
                f"/problems/{token}",
                f"{ME}?access_token={token}",
                f"{ME}?{password}",
            ):
                for method in ("GET", "DELETE", "PUT"):
                    await api.call(method, path.replace(" ", "%20"), token=f"{token}x")
            await api.call("GET", ME, headers={"Authorization": f"Basic {token}", "X-Request-ID": token, "Expect": token})
            await api.call("GET", ME, headers={"Referer": f"https://example.com/{token}", "Cookie": token})
            await api.call("POST", f"/v1/users?{token}", data=f'{{"password":"{password}'.encode())
            await api.call("POST", "/v1/users", {"name": 1, "password": password, password: token})
            await api.call("POST", "/v1/sessions", {"email": password, "password": token})
            await api.try_log_in(password=other)
            await api.raw(f"GET /{token} HTTP/9.9\r\n{token}: {password}\r\n\r\n".encode())
            await api.raw(f"{token} /{token} HTTP/1.1\r\nHost: x\r\n{token}\r\n\r\n".encode())
            await api.raw(f"GET /livez HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{password}\r\n\r\n".encode())
            await api.call("PATCH", ME, {"password": other, "current_password": password}, token=token)
            again = await api.call("POST", "/v1/sessions/current/reauthentication", {"password": other}, token=token)
            fresh = again.json()["access_token"]
            await api.call("DELETE", ME, token=fresh)
        assert any(record.name == "pickguard.http" for record in caplog.records)
        assert any(record.name == "pickguard.events" for record in caplog.records)
        log = "\n".join(written(record) for record in caplog.records)
        for secret in (token, fresh, password, other, token[3:40], fresh[3:40], "canary", "argon2id$"):
            assert secret not in log
            assert secret.replace(" ", "%20") not in log

    @pytest.mark.requirement(77)
    @pytest.mark.would_have_caught("django-cve-2025-48432")
    async def test_no_client_can_write_a_line_of_the_log(
        self, accounts: AccountRepository, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        settings = attrs.evolve(SETTINGS, access_log=True, log_level="debug")
        async with serving(accounts, clock=clock, events=LoggedEvents(), settings=settings) as api:
            await api.register()
            await api.try_log_in(User_Agent="x\ty\u0085z\u2028w\x9b31m")
            await api.try_log_in(User_Agent="x\ty\u0085z\u2028w", password=WRONG_PASSWORD)
            for path in (
                "/%0aforged",
                "/v1/sessions/%0d%0aforged",
                "/problems/%1b%5b31m",
                "/v1/users/me?%0a=%0d",
                "/%c2%85",
                "/%00",
            ):
                await api.call("DELETE", path)
            for line in (b"GET /\x1b[31m HTTP/1.1", b"GET /\xc2\x85 HTTP/1.1", b"G\x0bT / HTTP/1.1", b"PROPFIND /\tx HTTP/1.1"):
                await api.raw(line + b"\r\nHost: x\r\nUser-Agent: \x1b]0;x\x07\r\n\r\n")
        assert len(caplog.records) > 10
        for record in caplog.records:
            assert not [char for char in written(record) if unicodedata.category(char) in {"Cc", "Zl", "Zp"}], record

    async def test_the_service_says_that_it_lives_and_is_ready(self, api: Api) -> None:
        for path in ("/livez", "/readyz"):
            assert (await api.call("GET", path)).status == 200
            assert (await api.call("HEAD", path)).status == 200

    @pytest.mark.parametrize(
        "path", ["/", "/v1", "/v1/", "/v1/user", "/v1/users/", "/v1/users/me/", "/v2/users", "/v1/users/%2e", "//"]
    )
    async def test_a_path_that_names_nothing_is_not_found(self, api: Api, path: str) -> None:
        for method in ("GET", "POST", "DELETE"):
            assert (await api.call(method, path)).outcome == (404, "not-found")

    @pytest.mark.parametrize("path", ["/v1/email-verifications", "/v1/password-resets", "/v1/password-resets/confirm"])
    async def test_without_mail_its_resources_do_not_exist(self, api: Api, path: str) -> None:
        assert (await api.call("POST", path, {})).outcome == (404, "not-found")

    @pytest.mark.requirement(55)
    @pytest.mark.parametrize("path", ALLOWED)
    async def test_a_method_that_a_resource_has_not_is_named_so_beside_those_that_it_has(self, api: Api, path: str) -> None:
        for method in METHODS - ALLOWED[path]:
            answer = await api.call(method, path)
            assert answer.status == 405
            assert {each.strip() for each in answer.headers["Allow"].split(",")} == ALLOWED[path]
            if method != "HEAD":
                assert answer.slug == "method-not-allowed"

    @pytest.mark.requirement(82)
    @pytest.mark.parametrize("slug", TYPES)
    async def test_every_type_of_problem_is_explained_at_its_own_path(self, api: Api, slug: str) -> None:
        page = await api.call("GET", f"/problems/{slug}", headers={"Accept": "text/html"})
        assert page.status == 200
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert slug.encode() in page.body
        explained = await api.call("GET", f"/problems/{slug}", headers={"Accept": "application/json"})
        assert explained.json()["status"] == TYPES[slug].status

    async def test_an_unknown_type_of_problem_is_not_found(self, api: Api) -> None:
        assert (await api.call("GET", "/problems/no-such-problem")).outcome == (404, "not-found")

    @pytest.mark.parametrize("given", ["019b7ca9-8f2e-7bf7-b0a8-689e37612033", "019B7CA9-8F2E-7BF7-B0A8-689E37612033"])
    async def test_a_request_id_that_is_a_uuid_is_kept(self, api: Api, given: str) -> None:
        found = await api.call("GET", "/livez", headers={"X-Request-ID": given})
        refused = await api.call("GET", ME, headers={"X-Request-ID": given})
        assert found.headers["X-Request-ID"] == given
        assert refused.json()["instance"] == f"urn:uuid:{given}"

    @pytest.mark.parametrize(
        "given",
        [
            "1",
            "019b7ca98f2e7bf7b0a8689e37612033",
            "{019b7ca9-8f2e-7bf7-b0a8-689e37612033}",
            "019b7ca9-8f2e-7bf7-b0a8-689e37612033 x",
            "019b7ca9-8f2e-7bf7-b0a8-689e3761203g",
            "x" * 4000,
            "",
        ],
    )
    async def test_a_request_id_that_is_no_uuid_is_replaced(self, api: Api, given: str) -> None:
        answer = await api.call("GET", "/livez", headers={"X-Request-ID": given})
        assert answer.headers["X-Request-ID"] != given
        UUID(answer.headers["X-Request-ID"])

    async def test_every_request_has_an_id_of_its_own(self, api: Api) -> None:
        answers = [await api.call("GET", "/livez") for _ in range(5)]
        assert len({answer.headers["X-Request-ID"] for answer in answers}) == 5

    @pytest.mark.requirement(49)
    async def test_other_origins_are_told_nothing(self, api: Api) -> None:
        # ASVS 3.4.2; what configured ones are told is in tests/integration/test_cors.py
        headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        assert (await api.call("OPTIONS", "/v1/users", headers=headers)).status == 405
        assert (await api.call("GET", "/livez", headers=headers)).status == 200

    # Registrations that name themselves

    async def test_a_registration_that_names_itself_can_be_sent_again(self, api: Api) -> None:
        named = {"Idempotency-Key": "5a0b4a0e-31d6-4d5e-8f0b-6c1de4a2c1b7"}
        first = await api.call("POST", "/v1/users", REGISTRATION, headers=named)
        assert first.status == 201
        token = await api.log_in()
        await api.call("PATCH", ME, {"name": "Countess"}, token=token)
        again = await api.call("POST", "/v1/users", REGISTRATION, headers=named)
        assert (again.status, again.body, again.headers["Location"]) == (201, first.body, "/v1/users/me")
        assert (await api.call("POST", "/v1/users", REGISTRATION)).outcome == (409, "email-taken")
        assert (await api.me(token))["name"] == "Countess"

    async def test_the_first_answer_stays_after_the_user_is_gone(self, api: Api) -> None:
        first = await api.call("POST", "/v1/users", REGISTRATION, headers={"Idempotency-Key": "a"})
        assert (await api.call("DELETE", ME, token=await api.log_in())).status == 204
        again = await api.call("POST", "/v1/users", REGISTRATION, headers={"Idempotency-Key": "a"})
        assert (again.status, again.body) == (201, first.body)
        assert (await api.try_log_in()).outcome == (401, "invalid-credentials")
        anew = await api.call("POST", "/v1/users", REGISTRATION, headers={"Idempotency-Key": "b"})
        assert anew.status == 201
        assert anew.json()["id"] != first.json()["id"]

    async def test_a_refusal_is_an_answer_that_stays_as_well(self, api: Api) -> None:
        await api.register()
        body = {**REGISTRATION, "name": "Eve"}
        named = {"Idempotency-Key": "a"}
        assert (await api.call("POST", "/v1/users", body, headers=named)).outcome == (409, "email-taken")
        assert (await api.call("DELETE", ME, token=await api.log_in())).status == 204
        assert (await api.call("POST", "/v1/users", body, headers=named)).outcome == (409, "email-taken")
        assert (await api.call("POST", "/v1/users", body)).status == 201

    async def test_a_body_that_was_refused_may_be_mended_under_the_same_name(self, api: Api) -> None:
        named = {"Idempotency-Key": "a"}
        refused = await api.call("POST", "/v1/users", {**REGISTRATION, "password": "short"}, headers=named)
        assert refused.outcome == (422, "invalid-body")
        assert (await api.call("POST", "/v1/users", REGISTRATION, headers=named)).status == 201

    @pytest.mark.parametrize("changed", [{"name": "Eve"}, {"email": "eve@example.com"}, {"password": OTHER_PASSWORD}])
    async def test_another_registration_of_the_same_name_is_refused(self, api: Api, changed: dict[str, str]) -> None:
        named = {"Idempotency-Key": "a"}
        assert (await api.call("POST", "/v1/users", REGISTRATION, headers=named)).status == 201
        refused = await api.call("POST", "/v1/users", {**REGISTRATION, **changed}, headers=named)
        assert refused.outcome == (422, "idempotency-key-reused")
        assert (await api.call("POST", "/v1/users", REGISTRATION, headers=named)).status == 201

    @pytest.mark.would_have_caught("allauth-1862")
    async def test_many_of_one_name_at_once_get_one_answer(self, api: Api) -> None:
        named = {"Idempotency-Key": "a"}
        answers = await asyncio.gather(*(api.call("POST", "/v1/users", REGISTRATION, headers=named) for _ in range(16)))
        assert {(answer.status, answer.body) for answer in answers} == {(201, answers[0].body)}

    @pytest.mark.parametrize("name", ["", " ", "x" * 256, "\u00e9", "a\tb"])
    async def test_a_name_that_is_none_is_refused(self, api: Api, name: str) -> None:
        refused = await api.call("POST", "/v1/users", REGISTRATION, headers={"Idempotency-Key": name})
        assert refused.outcome == (400, "malformed-request")

    async def test_two_names_are_refused(self, api: Api) -> None:
        named = CIMultiDict([("Idempotency-Key", "a"), ("Idempotency-Key", "a")])
        assert (await api.call("POST", "/v1/users", REGISTRATION, headers=named)).outcome == (400, "malformed-request")

    @pytest.mark.parametrize("name", ["x" * 255, '"a quoted string"', "!~"])
    async def test_any_text_in_ascii_is_a_name(self, api: Api, name: str) -> None:
        assert (await api.call("POST", "/v1/users", REGISTRATION, headers={"Idempotency-Key": name})).status == 201

    # The bearer token

    @pytest.mark.requirement(43, 81)
    @pytest.mark.parametrize(("method", "path"), AUTHENTICATED)
    async def test_without_a_token_every_resource_of_a_user_asks_for_one(self, api: Api, method: str, path: str) -> None:
        answer = await api.call(method, path, body_of(method, path))
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="pickguard"'
        if method != "HEAD":
            assert answer.slug == "authentication-required"

    @pytest.mark.requirement(81)
    @pytest.mark.parametrize(("method", "path"), AUTHENTICATED)
    async def test_a_token_that_opens_nothing_is_refused_by_every_resource_of_a_user(
        self, api: Api, method: str, path: str
    ) -> None:
        token = await api.sign_up()
        assert (await api.call("DELETE", "/v1/sessions/current", token=token)).status == 204
        answer = await api.call(method, path, body_of(method, path), token=token)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="pickguard", error="invalid_token"'
        if method != "HEAD":
            assert answer.slug == "invalid-token"

    @pytest.mark.requirement(81)
    @pytest.mark.parametrize(
        "header",
        ["", "Bearer", "Bearer ", "Basic YWRhOnB3", "Token abc", "Bearerx", "pg_abc", "Digest username=x", ", Bearer x"],
    )
    async def test_another_scheme_or_none_is_no_token(self, api: Api, header: str) -> None:
        answer = await api.call("GET", ME, headers={"Authorization": header})
        assert answer.outcome == (401, "authentication-required")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="pickguard"'

    @pytest.mark.requirement(81)
    @pytest.mark.would_have_caught("gotrue-2387")
    @pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
    async def test_the_scheme_may_be_in_any_case(self, api: Api, scheme: str) -> None:
        token = await api.sign_up()
        assert (await api.call("GET", ME, headers={"Authorization": f"{scheme} {token}"})).status == 200

    @pytest.mark.requirement(29)
    async def test_a_token_that_is_anything_but_what_was_given_out_is_refused(self, api: Api) -> None:
        token = await api.sign_up()
        flipped = token[:20] + ("A" if token[20] != "A" else "B") + token[21:]
        wrong = [
            "x",
            flipped,
            token[:-1],
            token + "0",
            token.upper(),
            token[3:],
            f"pg_{token}",
            f"{token} x",
            f"{token},{token}",
        ]
        wrong += [f"{token}\u00e9", f'"{token}"', token.replace("pg_", "pq_"), UNKNOWN_TOKEN, "pg_" + "x" * 6000, "pg_", "*"]
        for each in wrong:
            answer = await api.call("GET", ME, token=each)
            assert answer.outcome == (401, "invalid-token"), each
        assert await api.opens(token)

    async def test_unknown_expired_and_revoked_tokens_are_refused_in_the_same_words(self, api: Api, clock: FakeClock) -> None:
        expired = await api.sign_up()
        clock.advance(timedelta(days=31))
        revoked = await api.log_in()
        await api.call("DELETE", "/v1/sessions/current", token=revoked)
        same_id = {"X-Request-ID": str(uuid4())}
        answers = [
            without_id(await api.call("GET", ME, token=token, headers=same_id))
            for token in (expired, revoked, UNKNOWN_TOKEN, "x")
        ]
        assert answers[1:] == answers[:-1]

    @pytest.mark.requirement(74)
    async def test_two_authorization_headers_are_one_too_many(self, api: Api) -> None:
        token = await api.sign_up()
        headers = CIMultiDict([("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")])
        for path in (ME, "/livez", "/v1/sessions"):
            assert (await api.call("GET", path, headers=headers)).outcome == (400, "malformed-request")

    @pytest.mark.requirement(69)
    async def test_a_token_counts_in_the_header_only(self, api: Api) -> None:
        token = await api.sign_up()
        for path in (f"{ME}?access_token={token}", f"{ME}?token={token}"):
            assert (await api.call("GET", path)).outcome == (401, "authentication-required")
        form = f"access_token={token}".encode()
        answer = await api.call("PATCH", ME, data=form, headers={"Content-Type": "application/x-www-form-urlencoded"})
        assert answer.outcome == (401, "authentication-required")
        assert (await api.call("PATCH", ME, {"access_token": token})).outcome == (401, "authentication-required")
        assert (await api.call("GET", ME, headers={"Cookie": f"access_token={token}"})).status == 401

    @pytest.mark.requirement(31)
    async def test_a_token_has_a_known_prefix_and_is_never_the_same(self, api: Api) -> None:
        await api.register()
        tokens = [await api.log_in() for _ in range(5)]
        assert len(set(tokens)) == 5
        assert all(token.startswith("pg_") and len(token) >= 3 + 43 for token in tokens)

    # Registration

    @pytest.mark.requirement(40)
    async def test_registering_answers_with_the_user(self, api: Api) -> None:
        body = {"name": NAME, "email": EMAIL, "password": GOOD_PASSWORD}
        answer = await api.call("POST", "/v1/users", body)
        assert answer.status == 201
        assert answer.headers["Location"] == "/v1/users/me"
        assert answer.headers["Content-Type"] == "application/json"
        user = answer.json()
        assert set(user) == USER_MEMBERS
        assert UUID(user["id"]).version == 7
        assert (user["name"], user["email"], user["email_verified"]) == (NAME, EMAIL, False)
        assert user["created_at"] == user["updated_at"] == "2026-01-02T03:04:05.678Z"

    async def test_an_address_registers_once_however_it_is_spelled(self, api: Api) -> None:
        await api.register(email="Ada@b\u00fccher.example.com")
        for spelling in ("ada@b\u00fccher.example.com", "ADA@B\u00dcCHER.EXAMPLE.COM", "aDa@xn--bcher-kva.example.com"):
            body = {"name": "Eve", "email": spelling, "password": OTHER_PASSWORD}
            assert (await api.call("POST", "/v1/users", body)).outcome == (409, "email-taken")
        await api.log_in("ADA@XN--BCHER-KVA.example.com")

    @pytest.mark.requirement(45)
    @pytest.mark.would_have_caught("gotrue-2675", "allauth-1862")
    async def test_of_32_who_register_one_address_at_once_one_succeeds(self, api: Api) -> None:
        spellings = [EMAIL, EMAIL.upper(), EMAIL.title(), "aDA@EXAMPLE.com"] * 8
        answers = await asyncio.gather(
            *(
                api.call(
                    "POST", "/v1/users", {"name": f"Ada {number}", "email": email, "password": f"{GOOD_PASSWORD} {number}"}
                )
                for number, email in enumerate(spellings)
            )
        )
        assert sorted(answer.outcome for answer in answers) == [(201, "")] + [(409, "email-taken")] * 31
        number, registered = next((each, answer) for each, answer in enumerate(answers) if answer.status == 201)
        token = await api.log_in(EMAIL, f"{GOOD_PASSWORD} {number}")
        assert await api.me(token) == registered.json()

    @ids(GOOD_NAMES)
    async def test_a_name_is_kept_normalised(self, api: Api, case: tuple[str, str]) -> None:
        user = await api.register(name=case[0])
        assert user["name"] == case[1]
        assert (await api.me(await api.log_in()))["name"] == case[1]

    @pytest.mark.requirement(42, 58)
    @ids(BAD_NAMES)
    async def test_a_bad_name_is_refused(self, api: Api, case: str) -> None:
        answer = await api.call("POST", "/v1/users", {"name": case, "email": EMAIL, "password": GOOD_PASSWORD})
        assert answer.faults == [("#/name", "invalid_name")]
        token = await api.sign_up()
        assert (await api.call("PATCH", ME, {"name": case}, token=token)).faults == [("#/name", "invalid_name")]

    @ids(GOOD_EMAILS)
    async def test_an_address_is_kept_normalised(self, api: Api, case: tuple[str, str]) -> None:
        user = await api.register(email=case[0])
        assert user["email"] == case[1]
        assert (await api.me(await api.log_in(case[0])))["email"] == case[1]

    @pytest.mark.requirement(42, 58)
    @pytest.mark.would_have_caught("django-cve-2019-19844")
    @ids(BAD_EMAILS)
    async def test_a_bad_address_is_refused(self, api: Api, case: str) -> None:
        answer = await api.call("POST", "/v1/users", {"name": NAME, "email": case, "password": GOOD_PASSWORD})
        assert answer.faults == [("#/email", "invalid_email")]
        token = await api.sign_up()
        body = {"email": case, "current_password": GOOD_PASSWORD}
        assert (await api.call("PATCH", ME, body, token=token)).faults == [("#/email", "invalid_email")]

    @pytest.mark.requirement(3, 4)
    @ids(GOOD_PASSWORDS)
    async def test_a_good_password_is_taken_whole(self, api: Api, case: str) -> None:
        await api.register(password=case)
        assert await api.opens(await api.log_in(password=case))
        for other in {case[:-1], f"{case} ", case.strip(), case.swapcase(), case.replace("\x00", "")} - {case}:
            if len(other) <= 256:
                assert (await api.try_log_in(password=other)).outcome == (401, "invalid-credentials"), other

    @pytest.mark.requirement(1, 7)
    @ids(BAD_PASSWORDS)
    async def test_a_bad_password_is_refused_at_registration_and_change(self, api: Api, case: tuple[str, str]) -> None:
        email = "ada.lovelace@example.com"
        password, code = case
        answer = await api.call("POST", "/v1/users", {"name": NAME, "email": email, "password": password})
        assert answer.faults == [("#/password", code)]
        token = await api.sign_up(email=email)
        body = {"password": password, "current_password": GOOD_PASSWORD}
        assert (await api.call("PATCH", ME, body, token=token)).faults == [("#/password", code)]
        assert await api.opens(await api.log_in(email))

    @pytest.mark.requirement(5)
    async def test_a_password_is_the_same_in_either_normal_form(self, api: Api) -> None:
        await api.register(password="cr\u00e8me br\u00fbl\u00e9e")
        assert await api.opens(await api.log_in(password="cre\u0300me bru\u0302le\u0301e"))

    @pytest.mark.requirement(7)
    async def test_a_new_password_may_not_be_the_name_or_address_that_comes_with_it(self, api: Api) -> None:
        token = await api.sign_up()
        for member, value in (("name", "Augusta Ada King"), ("email", "augusta@example.com")):
            body = {member: value, "password": value.upper(), "current_password": GOOD_PASSWORD}
            assert (await api.call("PATCH", ME, body, token=token)).faults == [("#/password", "password_guessable")]

    @pytest.mark.requirement(42)
    async def test_all_faults_of_a_registration_are_in_one_answer(self, api: Api) -> None:
        body = {"name": " ", "email": "ada", "password": "short", "admin": True, "a/b~c": 1}
        assert (await api.call("POST", "/v1/users", body)).faults == [
            ("#/admin", "unknown_field"),
            ("#/a~1b~0c", "unknown_field"),
            ("#/email", "invalid_email"),
            ("#/name", "invalid_name"),
            ("#/password", "password_too_short"),
        ]

    async def test_faults_of_shape_and_of_content_are_in_one_answer(self, api: Api) -> None:
        body = {"name": None, "email": "ada", "extra": {"deep": [1]}}
        assert (await api.call("POST", "/v1/users", body)).faults == [
            ("#/email", "invalid_email"),
            ("#/extra", "unknown_field"),
            ("#/name", "wrong_type"),
            ("#/password", "required"),
        ]

    async def test_all_faults_of_a_change_are_in_one_answer(self, api: Api) -> None:
        token = await api.sign_up()
        body = {"name": "", "email": "ada", "password": "short", "role": "admin"}
        assert (await api.call("PATCH", ME, body, token=token)).faults == [
            ("#/current_password", "required"),
            ("#/email", "invalid_email"),
            ("#/name", "invalid_name"),
            ("#/password", "password_too_short"),
            ("#/role", "unknown_field"),
        ]

    async def test_a_member_without_a_name_is_pointed_at_as_a_member(self, api: Api) -> None:
        body = {"name": NAME, "email": EMAIL, "password": GOOD_PASSWORD, "": 1}
        # RFC 6901, section 5: "#" is the whole document, "#/" its member with the empty name.
        assert (await api.call("POST", "/v1/users", body)).faults == [("#/", "unknown_field")]

    @pytest.mark.requirement(73)
    @pytest.mark.parametrize("value", [None, True, 1, 1.5, [], ["x"], {}, {"a": 1}])
    @pytest.mark.parametrize(
        ("request_line", "member"), [(line, member) for line, body in BODIES.items() for member in body], ids=str
    )
    async def test_a_member_of_the_wrong_type_is_refused(
        self, api: Api, request_line: tuple[str, str], member: str, value: object
    ) -> None:
        token = await api.sign_up()
        method, path = request_line
        body = {**BODIES[request_line], "email": "new@example.com"} if "email" in BODIES[request_line] else BODIES[request_line]
        answer = await api.call(method, path, {**body, member: value}, token=token)
        assert answer.faults == [(f"#/{member}", "wrong_type")]

    @pytest.mark.parametrize("body", [[], "text", 1, True, [{}]], ids=str)
    @pytest.mark.parametrize(("method", "path"), BODIES)
    async def test_a_body_that_is_no_object_is_refused(self, api: Api, method: str, path: str, body: object) -> None:
        token = await api.sign_up()
        assert (await api.call(method, path, body, token=token)).faults == [("#", "wrong_type")]
        assert (await api.call(method, path, data=b"null", token=token)).faults == [("#", "wrong_type")]

    @pytest.mark.parametrize("line", [line for line in BODIES if line[0] == "POST"], ids=str)
    async def test_a_missing_member_is_required(self, api: Api, line: tuple[str, str]) -> None:
        token = await api.sign_up()
        for member in BODIES[line]:
            body = {name: value for name, value in BODIES[line].items() if name != member}
            assert (await api.call(*line, body, token=token)).faults == [(f"#/{member}", "required")]
        assert (await api.call(*line, {}, token=token)).faults == sorted((f"#/{name}", "required") for name in BODIES[line])

    # Log-in

    @pytest.mark.requirement(40)
    async def test_a_log_in_answers_with_a_token_the_session_and_the_user(self, api: Api) -> None:
        user = await api.register()
        answer = await api.try_log_in(User_Agent="curl/8.9")
        assert answer.status == 201
        content = answer.json()
        assert set(content) == LOG_IN_MEMBERS
        assert content["token_type"] == "Bearer"
        assert content["expires_in"] == 14 * 86400
        assert content["user"] == user
        session = content["session"]
        assert set(session) == SESSION_MEMBERS
        assert UUID(session["id"]).version == 7
        assert session["current"] is True
        assert (session["user_agent"], session["ip"]) == ("curl/8.9", "127.0.0.1")
        assert session["created_at"] == session["last_used_at"] == session["authenticated_at"] == "2026-01-02T03:04:05.678Z"
        assert session["expires_at"] == "2026-01-16T03:04:05.678Z"
        assert await api.me(content["access_token"]) == user

    @pytest.mark.requirement(17)
    async def test_a_log_in_with_a_wrong_password_answers_as_for_an_unknown_address(self, api: Api) -> None:
        await api.register()
        same_id = str(uuid4())
        wrong = await api.try_log_in(password=WRONG_PASSWORD, X_Request_ID=same_id)
        unknown = await api.try_log_in(OTHER_EMAIL, X_Request_ID=same_id)
        assert wrong.outcome == (401, "invalid-credentials")
        assert without_id(wrong) == without_id(unknown)

    @pytest.mark.parametrize(
        "email", ["", "x", " ada@example.com", "ada@example.com\x00", "ada@\ud800", "\u0430da@example.com", "@", '"']
    )
    async def test_a_log_in_with_what_can_be_no_address_answers_as_for_an_unknown_one(self, api: Api, email: str) -> None:
        await api.register()
        assert (await api.try_log_in(email)).outcome == (401, "invalid-credentials")

    @pytest.mark.parametrize(
        "password", ["", "x", "\ud800\udfff\ud800", "\x00" * 8, f"{GOOD_PASSWORD}\x00", f"{GOOD_PASSWORD}\udc80"]
    )
    async def test_a_log_in_with_what_can_be_no_password_answers_as_for_a_wrong_one(self, api: Api, password: str) -> None:
        await api.register()
        assert (await api.try_log_in(password=password)).outcome == (401, "invalid-credentials")

    async def test_a_log_in_is_refused_only_for_what_is_longer_than_any_can_be(self, api: Api) -> None:
        await api.register()
        answer = await api.try_log_in("a" * 255, "x" * 257)
        assert answer.faults == [("#/email", "invalid_email"), ("#/password", "password_too_long")]
        assert (await api.try_log_in("a" * 254, "x" * 256)).outcome == (401, "invalid-credentials")

    async def test_the_user_agent_is_cut_and_without_control_characters(self, api: Api) -> None:
        await api.register()
        token = await api.log_in(User_Agent="agent\twith tab" + "x" * 400)
        shown = (await api.sessions(token))[0]["user_agent"]
        assert len(shown) == 256
        assert shown.startswith("agent\ufffdwith tab")

    async def test_without_a_user_agent_none_is_shown(self, api: Api) -> None:
        await api.register()
        body = b'{"email":"ada@example.com","password":"correct horse battery staple"}'
        head = f"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        answer = await api.raw(head.encode() + body)
        assert answer.json()["session"]["user_agent"] is None

    @pytest.mark.requirement(54)
    async def test_where_a_request_came_from_is_not_for_the_client_to_say(self, api: Api) -> None:
        await api.register()
        token = await api.log_in(X_Forwarded_For="203.0.113.9", Forwarded="for=203.0.113.9", X_Real_IP="203.0.113.9")
        assert (await api.sessions(token))[0]["ip"] == "127.0.0.1"

    # Reading and changing the user

    async def test_a_head_request_is_answered_like_a_get_without_the_body(self, api: Api) -> None:
        token = await api.sign_up()
        for path in (ME, "/v1/sessions", "/v1/sessions/current"):
            whole, head = await api.call("GET", path, token=token), await api.call("HEAD", path, token=token)
            assert (head.status, head.body) == (200, b"")
            for name in ("Content-Type", "Content-Length", "ETag"):
                assert head.headers.get(name) == whole.headers.get(name)

    async def test_the_user_has_a_strong_tag_that_changes_with_the_user_only(self, api: Api) -> None:
        token = await api.sign_up()
        first = (await api.call("GET", ME, token=token)).etag
        assert (await api.call("GET", ME, token=await api.log_in())).etag == first
        changed = await api.call("PATCH", ME, {"name": "Ada King"}, token=token)
        assert changed.etag != first
        assert (await api.call("GET", ME, token=token)).etag == changed.etag

    @pytest.mark.parametrize("condition", ["{}", "W/{}", '"other", {}', '"other",W/{} , "more"', "*"])
    async def test_what_a_client_has_already_is_not_sent_again(self, api: Api, condition: str) -> None:
        token = await api.sign_up()
        tag = (await api.call("GET", ME, token=token)).etag
        for method in ("GET", "HEAD"):
            answer = await api.call(method, ME, token=token, headers={"If-None-Match": condition.format(tag)})
            assert (answer.status, answer.body, answer.etag) == (304, b"", tag)

    async def test_conditions_may_stand_in_several_lines(self, api: Api) -> None:
        # RFC 9110, section 5.3: of a list, several lines are one.
        token = await api.sign_up()
        tag = (await api.call("GET", ME, token=token)).etag
        lines = CIMultiDict([("If-None-Match", '"other"'), ("If-None-Match", tag)])
        assert (await api.call("GET", ME, token=token, headers=lines)).status == 304
        lines = CIMultiDict([("If-Match", '"other"'), ("If-Match", tag)])
        assert (await api.call("PATCH", ME, {"name": "Ada King"}, token=token, headers=lines)).status == 200

    @pytest.mark.parametrize("condition", ['"other"', 'W/"other"', "garbage", '"unclosed', '""', '"*"'])
    async def test_a_tag_of_another_state_sends_the_user_again(self, api: Api, condition: str) -> None:
        token = await api.sign_up()
        answer = await api.call("GET", ME, token=token, headers={"If-None-Match": condition})
        assert answer.status == 200

    @pytest.mark.parametrize("condition", ["{}", '"other", {}', "*"])
    async def test_a_change_happens_where_its_condition_holds(self, api: Api, condition: str) -> None:
        token = await api.sign_up()
        tag = (await api.call("GET", ME, token=token)).etag
        headers = {"If-Match": condition.format(tag)}
        assert (await api.call("PATCH", ME, {"name": "Ada King"}, token=token, headers=headers)).status == 200
        assert (await api.me(token))["name"] == "Ada King"

    @pytest.mark.parametrize("condition", ['"other"', "W/{}", "garbage", '"unclosed', '""', '"*"'])
    @pytest.mark.parametrize("method", ["PATCH", "DELETE"])
    async def test_a_change_does_not_happen_where_its_condition_does_not_hold(
        self, api: Api, method: str, condition: str
    ) -> None:
        token = await api.sign_up()
        before = await api.call("GET", ME, token=token)
        headers = {"If-Match": condition.format(before.etag)}
        answer = await api.call(method, ME, {"name": "Eve"} if method == "PATCH" else None, token=token, headers=headers)
        assert answer.outcome == (412, "precondition-failed")
        assert (await api.call("GET", ME, token=token)).body == before.body

    @pytest.mark.parametrize("condition", ["{}", "W/{}", "*"])
    async def test_a_change_only_from_another_state_does_not_happen(self, api: Api, condition: str) -> None:
        token = await api.sign_up()
        tag = (await api.call("GET", ME, token=token)).etag
        headers = {"If-None-Match": condition.format(tag)}
        answer = await api.call("PATCH", ME, {"name": "Eve"}, token=token, headers=headers)
        assert answer.outcome == (412, "precondition-failed")

    async def test_of_two_changes_of_one_state_at_once_one_is_told_that_it_came_second(self, api: Api) -> None:
        token = await api.sign_up()
        headers = {"If-Match": (await api.call("GET", ME, token=token)).etag}
        answers = await asyncio.gather(
            *(api.call("PATCH", ME, {"name": name}, token=token, headers=headers) for name in ("Ada King", "Ada Byron"))
        )
        assert sorted(answer.outcome for answer in answers) == [(200, ""), (412, "precondition-failed")]
        won = next(answer for answer in answers if answer.status == 200)
        assert await api.me(token) == won.json()

    async def test_a_change_is_answered_with_the_user_as_it_is_then(self, api: Api, clock: FakeClock) -> None:
        token = await api.sign_up()
        before = await api.me(token)
        clock.advance(timedelta(seconds=5))
        answer = await api.call("PATCH", ME, {"name": " Ada King "}, token=token)
        assert answer.status == 200
        assert answer.json() == {**before, "name": "Ada King", "updated_at": "2026-01-02T03:04:10.678Z"}
        assert await api.me(token) == answer.json()

    async def test_a_change_of_nothing_changes_nothing(self, api: Api, clock: FakeClock) -> None:
        token = await api.sign_up()
        before = await api.call("GET", ME, token=token)
        clock.advance(timedelta(seconds=5))
        same = {"name": NAME, "email": EMAIL, "password": GOOD_PASSWORD, "current_password": GOOD_PASSWORD}
        for body in ({}, {"name": NAME}, {"name": f" {NAME} "}, same):
            answer = await api.call("PATCH", ME, body, token=token)
            assert (answer.status, answer.body, answer.etag) == (200, before.body, before.etag)

    @pytest.mark.parametrize(
        "kind", ["application/json", "application/merge-patch+json", "Application/Merge-Patch+JSON; charset=UTF-8"]
    )
    async def test_a_change_may_be_sent_as_json_or_as_a_merge_patch(self, api: Api, kind: str) -> None:
        token = await api.sign_up()
        answer = await api.call("PATCH", ME, {"name": "Ada King"}, token=token, headers={"Content-Type": kind})
        assert answer.status == 200

    async def test_a_json_patch_is_not_taken(self, api: Api) -> None:
        token = await api.sign_up()
        patch = [{"op": "replace", "path": "/name", "value": "Eve"}]
        answer = await api.call("PATCH", ME, patch, token=token, headers={"Content-Type": "application/json-patch+json"})
        assert answer.outcome == (415, "unsupported-media-type")
        assert (await api.me(token))["name"] == NAME

    @pytest.mark.parametrize("line", [line for line in BODIES if line[0] == "POST"], ids=str)
    async def test_only_a_change_may_be_sent_as_a_merge_patch(self, api: Api, line: tuple[str, str]) -> None:
        token = await api.sign_up()
        answer = await api.call(*line, BODIES[line], token=token, headers={"Content-Type": "application/merge-patch+json"})
        assert answer.outcome == (415, "unsupported-media-type")

    @pytest.mark.requirement(8, 35)
    @pytest.mark.would_have_caught("browsertrix-1272")
    @pytest.mark.parametrize("change", [{"email": OTHER_EMAIL}, {"password": OTHER_PASSWORD}, {"email": EMAIL}])
    async def test_a_change_of_address_or_password_needs_the_password(self, api: Api, change: dict[str, str]) -> None:
        token = await api.sign_up()
        before = await api.me(token)
        missing = await api.call("PATCH", ME, change, token=token)
        assert missing.faults == [("#/current_password", "required")]
        for wrong in (WRONG_PASSWORD, "", "\ud800", GOOD_PASSWORD.upper()):
            body = {"name": "Eve", **change, "current_password": wrong}
            assert (await api.call("PATCH", ME, body, token=token)).outcome == (403, "wrong-password")
        too_long = await api.call("PATCH", ME, {**change, "current_password": "x" * 257}, token=token)
        assert too_long.faults == [("#/current_password", "password_too_long")]
        assert await api.me(token) == before

    async def test_a_new_address_takes_effect_at_once(self, api: Api) -> None:
        token = await api.sign_up()
        body = {"email": "Grace@EXAMPLE.com", "current_password": GOOD_PASSWORD}
        answer = await api.call("PATCH", ME, body, token=token)
        assert answer.status == 200
        assert (answer.json()["email"], answer.json()["email_verified"]) == ("Grace@example.com", False)
        assert await api.opens(token)
        assert (await api.try_log_in(EMAIL)).outcome == (401, "invalid-credentials")
        assert await api.opens(await api.log_in(OTHER_EMAIL))
        await api.register(email=EMAIL)

    @pytest.mark.would_have_caught("fender-update")
    async def test_an_address_that_somebody_has_cannot_be_changed_to(self, api: Api) -> None:
        token = await api.sign_up()
        await api.register(name="Grace", email=OTHER_EMAIL)
        before = await api.me(token)
        body = {"name": "Eve", "email": OTHER_EMAIL.upper(), "password": OTHER_PASSWORD, "current_password": GOOD_PASSWORD}
        assert (await api.call("PATCH", ME, body, token=token)).outcome == (409, "email-taken")
        assert await api.me(token) == before
        await api.log_in(EMAIL, GOOD_PASSWORD)

    async def test_the_spelling_of_ones_own_address_can_be_changed(self, api: Api) -> None:
        token = await api.sign_up()
        answer = await api.call("PATCH", ME, {"email": "ADA@example.com", "current_password": GOOD_PASSWORD}, token=token)
        assert (answer.status, answer.json()["email"]) == (200, "ADA@example.com")
        await api.log_in(EMAIL)

    async def test_an_address_can_be_changed_and_changed_back(self, api: Api) -> None:
        token = await api.sign_up()
        for email in (OTHER_EMAIL, EMAIL, OTHER_EMAIL):
            body = {"email": email, "current_password": GOOD_PASSWORD}
            assert (await api.call("PATCH", ME, body, token=token)).json()["email"] == email

    @pytest.mark.requirement(34)
    async def test_a_new_password_ends_the_other_sessions_and_keeps_the_token(self, api: Api) -> None:
        token = await api.sign_up()
        others = [await api.log_in() for _ in range(3)]
        session = (await api.call("GET", "/v1/sessions/current", token=token)).json()
        body = {"password": OTHER_PASSWORD, "current_password": GOOD_PASSWORD}
        assert (await api.call("PATCH", ME, body, token=token)).status == 200
        assert [await api.opens(other) for other in others] == [False] * 3
        assert await api.sessions(token) == [session]
        assert (await api.try_log_in(EMAIL, GOOD_PASSWORD)).outcome == (401, "invalid-credentials")
        assert await api.opens(await api.log_in(EMAIL, OTHER_PASSWORD))

    async def test_everything_can_be_changed_in_one_step(self, api: Api) -> None:
        token = await api.sign_up()
        body = {"name": "Grace", "email": OTHER_EMAIL, "password": OTHER_PASSWORD, "current_password": GOOD_PASSWORD}
        assert (await api.call("PATCH", ME, body, token=token)).status == 200
        user = await api.me(await api.log_in(OTHER_EMAIL, OTHER_PASSWORD))
        assert (user["name"], user["email"]) == ("Grace", OTHER_EMAIL)

    @pytest.mark.requirement(40)
    async def test_no_answer_holds_a_password_or_a_hash(self, api: Api) -> None:
        token = await api.sign_up()
        answers = [
            await api.try_log_in(),
            await api.call("GET", ME, token=token),
            await api.call("GET", "/v1/sessions", token=token),
            await api.call("PATCH", ME, {"password": GOOD_PASSWORD}, token=token),
            await api.call("PATCH", ME, {"password": OTHER_PASSWORD, "current_password": GOOD_PASSWORD}, token=token),
            await api.call("POST", "/v1/users", {"name": NAME, "email": EMAIL, "password": GOOD_PASSWORD}),
            await api.call("POST", "/v1/users", {"name": 1, "email": EMAIL, "password": GOOD_PASSWORD}),
            await api.call("POST", "/v1/users", {"password": GOOD_PASSWORD, "Password": OTHER_PASSWORD}),
        ]
        for answer in answers:
            for secret in (GOOD_PASSWORD, OTHER_PASSWORD, "argon2", "password_hash"):
                assert secret.encode() not in answer.body

    # Several at once

    async def test_two_changes_at_once_are_both_applied(self, api: Api) -> None:
        token = await api.sign_up()
        other = await api.log_in()
        await asyncio.gather(
            api.call("PATCH", ME, {"name": "Ada King"}, token=token),
            api.call("PATCH", ME, {"email": OTHER_EMAIL, "current_password": GOOD_PASSWORD}, token=other),
        )
        user = await api.me(token)
        assert (user["name"], user["email"]) == ("Ada King", OTHER_EMAIL)

    async def test_of_many_changes_at_once_each_is_whole(self, api: Api) -> None:
        token = await api.sign_up()
        wanted = [(f"Ada {number}", f"ada.{number}@example.com") for number in range(12)]
        answers = await asyncio.gather(
            *(
                api.call("PATCH", ME, {"name": name, "email": email, "current_password": GOOD_PASSWORD}, token=token)
                for name, email in wanted
            )
        )
        assert {answer.outcome for answer in answers} == {(200, "")}
        user = await api.me(token)
        assert (user["name"], user["email"]) in wanted
        for name, email in wanted:
            if email != user["email"]:
                await api.register(name=name, email=email)

    async def test_of_many_who_change_to_one_address_at_once_one_gets_it(self, api: Api) -> None:
        tokens = [await api.sign_up(email=f"ada.{number}@example.com") for number in range(8)]
        body = {"email": EMAIL, "current_password": GOOD_PASSWORD}
        answers = await asyncio.gather(*(api.call("PATCH", ME, body, token=token) for token in tokens))
        assert sorted(answer.outcome for answer in answers) == [(200, "")] + [(409, "email-taken")] * 7
        users = [await api.me(token) for token in tokens]
        assert [user["email"] for user in users].count(EMAIL) == 1

    @pytest.mark.would_have_caught("romm-4635")
    async def test_a_log_in_beside_a_change_of_password_opens_nothing_after_it(self, api: Api) -> None:
        token = await api.sign_up()
        change = {"password": OTHER_PASSWORD, "current_password": GOOD_PASSWORD}
        log_ins = [api.try_log_in() for _ in range(8)]
        later = [api.try_log_in() for _ in range(8)]
        *answers, changed = await asyncio.gather(*log_ins, *later, api.call("PATCH", ME, change, token=token))
        assert changed.status == 200
        for answer in answers:
            assert answer.outcome in {(201, ""), (401, "invalid-credentials")}
            if answer.status == 201:
                assert not await api.opens(answer.json()["access_token"])
        assert len(await api.sessions(token)) == 1

    async def test_of_two_changes_of_password_at_once_one_holds(self, api: Api) -> None:
        tokens = [await api.sign_up(), await api.log_in()]
        passwords = [f"{OTHER_PASSWORD} {number}" for number in range(2)]
        answers = await asyncio.gather(
            *(
                api.call("PATCH", ME, {"password": password, "current_password": GOOD_PASSWORD}, token=token)
                for token, password in zip(tokens, passwords, strict=True)
            )
        )
        # The second one's session is ended by the first, or its proof is out of date.
        first, second = sorted(answer.status for answer in answers)
        assert first == 200
        assert second in {401, 403}
        winner = [answer.status for answer in answers].index(200)
        assert [await api.opens(token) for token in tokens] == [number == winner for number in range(2)]
        assert (await api.try_log_in(EMAIL, passwords[1 - winner])).status == 401
        await api.log_in(EMAIL, passwords[winner])

    @pytest.mark.requirement(33, 45)
    @pytest.mark.would_have_caught("warehouse-deleted")
    async def test_after_a_deletion_nothing_of_the_user_is_left_whatever_was_in_flight(self, api: Api) -> None:
        token = await api.sign_up()
        user = await api.me(token)
        other = await api.log_in()
        in_flight = [
            *(api.call("PATCH", ME, {"name": f"Ada {number}"}, token=other) for number in range(4)),
            *(api.try_log_in() for _ in range(4)),
            *(api.call("GET", ME, token=other) for _ in range(4)),
            api.call("PATCH", ME, {"email": OTHER_EMAIL, "current_password": GOOD_PASSWORD}, token=other),
        ]
        deleted, *answers = await asyncio.gather(api.call("DELETE", ME, token=token), *in_flight)
        assert deleted.status == 204
        assert {answer.status for answer in answers} <= {200, 201, 401}
        tokens = [token, other, *(answer.json()["access_token"] for answer in answers if answer.status == 201)]
        assert [await api.opens(each) for each in tokens] == [False] * len(tokens)
        for email in (EMAIL, OTHER_EMAIL):
            assert (await api.try_log_in(email)).outcome == (401, "invalid-credentials")
            again = await api.register(email=email)
            assert again["id"] != user["id"]
            assert len(await api.sessions(await api.log_in(email))) == 1

    @pytest.mark.requirement(45)
    async def test_of_two_deletions_at_once_one_happens(self, api: Api) -> None:
        tokens = [await api.sign_up(), await api.log_in()]
        answers = await asyncio.gather(*(api.call("DELETE", ME, token=token) for token in tokens))
        assert sorted(answer.outcome for answer in answers) == [(204, ""), (401, "invalid-token")]

    async def test_of_two_log_outs_at_once_one_happens(self, api: Api) -> None:
        token = await api.sign_up()
        answers = await asyncio.gather(*(api.call("DELETE", "/v1/sessions/current", token=token) for _ in range(2)))
        assert sorted(answer.outcome for answer in answers) == [(204, ""), (401, "invalid-token")]

    @pytest.mark.requirement(45)
    async def test_of_many_reauthentications_at_once_one_gets_the_session(self, api: Api) -> None:
        token = await api.sign_up()
        path = "/v1/sessions/current/reauthentication"
        answers = await asyncio.gather(*(api.call("POST", path, {"password": GOOD_PASSWORD}, token=token) for _ in range(6)))
        assert sorted(answer.outcome for answer in answers) == [(200, "")] + [(401, "invalid-token")] * 5
        fresh = next(answer for answer in answers if answer.status == 200).json()["access_token"]
        assert await api.opens(fresh)
        assert not await api.opens(token)
        assert len(await api.sessions(fresh)) == 1

    async def test_many_log_ins_at_once_each_open_a_session(self, api: Api) -> None:
        await api.register()
        tokens = await asyncio.gather(*(api.log_in() for _ in range(24)))
        assert len(await api.sessions(tokens[0])) == 24
        assert await asyncio.gather(*(api.opens(token) for token in tokens)) == [True] * 24

    # Deleting the user

    @pytest.mark.requirement(33)
    async def test_a_deleted_user_is_gone_and_the_address_free(self, api: Api) -> None:
        token = await api.sign_up()
        other = await api.log_in()
        user = await api.me(token)
        assert (await api.call("DELETE", ME, token=token)).status == 204
        assert [await api.opens(each) for each in (token, other)] == [False, False]
        assert (await api.call("DELETE", ME, token=token)).outcome == (401, "invalid-token")
        assert (await api.try_log_in()).outcome == (401, "invalid-credentials")
        again = await api.register(password=OTHER_PASSWORD)
        assert again["id"] != user["id"]
        assert (await api.try_log_in()).outcome == (401, "invalid-credentials")
        assert len(await api.sessions(await api.log_in(EMAIL, OTHER_PASSWORD))) == 1

    @pytest.mark.requirement(37, 43)
    async def test_a_deletion_needs_a_password_proved_within_15_minutes(self, api: Api, clock: FakeClock) -> None:
        token = await api.sign_up()
        clock.advance(timedelta(minutes=15, seconds=1))
        assert (await api.call("DELETE", ME, token=token)).outcome == (403, "reauthentication-required")
        assert await api.opens(token)
        answer = await api.call("POST", "/v1/sessions/current/reauthentication", {"password": GOOD_PASSWORD}, token=token)
        fresh = answer.json()["access_token"]
        clock.advance(timedelta(minutes=15))
        assert (await api.call("DELETE", ME, token=fresh)).status == 204

    async def test_another_sessions_fresh_password_does_not_help(self, api: Api, clock: FakeClock) -> None:
        stale = await api.sign_up()
        clock.advance(timedelta(minutes=16))
        fresh = await api.log_in()
        assert (await api.call("DELETE", ME, token=stale)).outcome == (403, "reauthentication-required")
        assert (await api.call("DELETE", ME, token=fresh)).status == 204

    # Sessions

    @pytest.mark.requirement(31)
    async def test_a_reauthentication_gives_the_same_session_another_token(self, api: Api, clock: FakeClock) -> None:
        token = await api.sign_up()
        before = (await api.call("GET", "/v1/sessions/current", token=token)).json()
        clock.advance(timedelta(hours=1))
        answer = await api.call("POST", "/v1/sessions/current/reauthentication", {"password": GOOD_PASSWORD}, token=token)
        assert answer.status == 200
        content = answer.json()
        assert set(content) == LOG_IN_MEMBERS
        assert content["token_type"] == "Bearer"
        assert content["access_token"] != token
        assert content["session"]["id"] == before["id"]
        assert content["session"]["created_at"] == before["created_at"]
        assert content["session"]["authenticated_at"] == "2026-01-02T04:04:05.678Z"
        assert not await api.opens(token)
        assert await api.me(content["access_token"]) == content["user"]
        assert len(await api.sessions(content["access_token"])) == 1

    @pytest.mark.parametrize("password", [WRONG_PASSWORD, "", "\ud800", f"{GOOD_PASSWORD} ", "\x00"])
    async def test_a_reauthentication_with_a_wrong_password_leaves_the_token_as_it_was(
        self, api: Api, clock: FakeClock, password: str
    ) -> None:
        token = await api.sign_up()
        clock.advance(timedelta(minutes=16))
        answer = await api.call("POST", "/v1/sessions/current/reauthentication", {"password": password}, token=token)
        assert answer.outcome == (403, "wrong-password")
        assert await api.opens(token)
        assert (await api.call("DELETE", ME, token=token)).outcome == (403, "reauthentication-required")

    async def test_a_reauthentication_with_too_long_a_password_is_at_fault(self, api: Api) -> None:
        token = await api.sign_up()
        answer = await api.call("POST", "/v1/sessions/current/reauthentication", {"password": "x" * 257}, token=token)
        assert answer.faults == [("#/password", "password_too_long")]

    @pytest.mark.requirement(36, 40)
    async def test_sessions_are_listed_newest_first_and_the_one_in_use_is_marked(self, api: Api, clock: FakeClock) -> None:
        await api.register()
        tokens = []
        for number in range(4):
            clock.advance(timedelta(seconds=10))
            tokens.append(await api.log_in(User_Agent=f"agent {number}"))
        listed = await api.sessions(tokens[1])
        assert [session["user_agent"] for session in listed] == ["agent 3", "agent 2", "agent 1", "agent 0"]
        assert [session["current"] for session in listed] == [False, False, True, False]
        assert all(set(session) == SESSION_MEMBERS for session in listed)
        assert all(TIME.fullmatch(session[name]) for session in listed for name in session if name.endswith("_at"))
        current = await api.call("GET", "/v1/sessions/current", token=tokens[1])
        assert current.json() == listed[2]

    async def test_the_last_use_is_at_most_a_minute_behind(self, api: Api, clock: FakeClock) -> None:
        token = await api.sign_up()
        clock.advance(timedelta(seconds=30))
        await api.me(token)
        clock.advance(timedelta(seconds=31))
        session = (await api.call("GET", "/v1/sessions/current", token=token)).json()
        assert session["last_used_at"] == "2026-01-02T03:05:06.678Z"
        assert session["expires_at"] == "2026-01-16T03:05:06.678Z"

    @pytest.mark.requirement(32)
    async def test_a_log_out_ends_its_own_session_only(self, api: Api) -> None:
        token = await api.sign_up()
        other = await api.log_in()
        assert (await api.call("DELETE", "/v1/sessions/current", token=token)).status == 204
        assert [await api.opens(each) for each in (token, other)] == [False, True]
        assert len(await api.sessions(other)) == 1

    @pytest.mark.requirement(36)
    async def test_one_session_can_be_ended_from_another(self, api: Api) -> None:
        token = await api.sign_up()
        content = (await api.try_log_in()).json()
        path = f"/v1/sessions/{content['session']['id']}"
        assert (await api.call("DELETE", path, token=token)).status == 204
        assert not await api.opens(content["access_token"])
        assert await api.opens(token)
        assert (await api.call("DELETE", path, token=token)).outcome == (404, "not-found")

    async def test_the_session_in_use_can_be_ended_by_its_id(self, api: Api) -> None:
        token = await api.sign_up()
        session = (await api.call("GET", "/v1/sessions/current", token=token)).json()
        assert (await api.call("DELETE", f"/v1/sessions/{session['id']}", token=token)).status == 204
        assert not await api.opens(token)

    @pytest.mark.parametrize(
        "session_id", [str(UUID(int=7)), "x", "%00", "%ff", "%20", "..%2fcurrent", "x" * 3000, "current%20"]
    )
    async def test_a_session_that_is_not_there_is_not_found(self, api: Api, session_id: str) -> None:
        token = await api.sign_up()
        assert (await api.call("DELETE", f"/v1/sessions/{session_id}", token=token)).outcome == (404, "not-found")
        assert await api.opens(token)

    @pytest.mark.would_have_caught("keycloak-32500")
    async def test_all_sessions_can_be_ended(self, api: Api) -> None:
        tokens = [await api.sign_up(), await api.log_in(), await api.log_in()]
        assert (await api.call("DELETE", "/v1/sessions", token=tokens[1])).status == 204
        assert [await api.opens(token) for token in tokens] == [False] * 3
        await api.log_in()

    @pytest.mark.parametrize(
        "query", ["except=current", "except=current&except=current", "except=current&other=1", "except=%63urrent"]
    )
    async def test_all_sessions_but_the_one_in_use_can_be_ended(self, api: Api, query: str) -> None:
        tokens = [await api.sign_up(), await api.log_in(), await api.log_in()]
        assert (await api.call("DELETE", f"/v1/sessions?{query}", token=tokens[1])).status == 204
        assert [await api.opens(token) for token in tokens] == [False, True, False]

    @pytest.mark.requirement(74)
    @pytest.mark.parametrize(
        "query",
        ["except=others", "except=", "except", "except=Current", "except=current&except=x", "except=current%20", "except=%ff"],
    )
    async def test_another_value_of_except_ends_nothing(self, api: Api, query: str) -> None:
        tokens = [await api.sign_up(), await api.log_in()]
        answer = await api.call("DELETE", f"/v1/sessions?{query}", token=tokens[0])
        assert answer.outcome == (400, "malformed-request")
        assert [await api.opens(token) for token in tokens] == [True, True]

    @pytest.mark.parametrize("query", ["expect=current", "Except=x", "limit=1", "%ff=%ff", "&&&", "=", "a[]=1"])
    async def test_parameters_that_are_not_named_are_ignored(self, api: Api, query: str) -> None:
        token = await api.sign_up()
        for path in (ME, "/v1/sessions", "/v1/sessions/current", "/livez"):
            assert (await api.call("GET", f"{path}?{query}", token=token)).status == 200
        assert (await api.call("DELETE", f"/v1/sessions?{query}", token=token)).status == 204

    @pytest.mark.requirement(38)
    async def test_users_see_nothing_of_each_other(self, api: Api) -> None:
        ada = await api.sign_up()
        grace = await api.sign_up(name="Grace Hopper", email=OTHER_EMAIL, password=OTHER_PASSWORD)
        session = (await api.call("GET", "/v1/sessions/current", token=grace)).json()
        foreign = await api.call(
            "DELETE", f"/v1/sessions/{session['id']}", token=ada, headers={"X-Request-ID": str(UUID(int=1))}
        )
        unknown = await api.call("DELETE", f"/v1/sessions/{UUID(int=7)}", token=ada, headers={"X-Request-ID": str(UUID(int=1))})
        assert foreign.outcome == (404, "not-found")
        assert without_id(foreign) == without_id(unknown)
        assert [each["id"] for each in await api.sessions(ada)] != [session["id"]]
        assert (await api.call("DELETE", "/v1/sessions", token=ada)).status == 204
        again = await api.log_in()
        assert (await api.call("DELETE", ME, token=again)).status == 204
        assert await api.opens(grace)
        assert (await api.me(grace))["name"] == "Grace Hopper"

    @pytest.mark.requirement(27)
    async def test_an_unused_session_ends_after_14_days(self, api: Api, clock: FakeClock) -> None:
        token = await api.sign_up()
        clock.advance(timedelta(days=14) - timedelta(seconds=1))
        assert await api.opens(token)
        clock.advance(timedelta(days=14))
        assert not await api.opens(token)

    @pytest.mark.requirement(27)
    async def test_a_session_in_use_ends_after_30_days(self, api: Api, clock: FakeClock) -> None:
        content = (await api.call("POST", "/v1/users", {"name": NAME, "email": EMAIL, "password": GOOD_PASSWORD})).json()
        token = await api.log_in()
        assert await api.me(token) == content
        for _ in range(3):
            clock.advance(timedelta(days=9))
            assert await api.opens(token)
        answer = await api.call("POST", "/v1/sessions/current/reauthentication", {"password": GOOD_PASSWORD}, token=token)
        token = answer.json()["access_token"]
        assert answer.json()["expires_in"] == 3 * 86400
        clock.advance(timedelta(days=3) - timedelta(milliseconds=1))
        assert await api.opens(token)
        clock.advance(timedelta(milliseconds=1))
        assert not await api.opens(token)

    @pytest.mark.requirement(36)
    async def test_an_expired_session_is_neither_listed_nor_ended(self, api: Api, clock: FakeClock) -> None:
        expired = await api.sign_up()
        session = (await api.call("GET", "/v1/sessions/current", token=expired)).json()
        clock.advance(timedelta(days=14))
        token = await api.log_in()
        assert [each["id"] for each in await api.sessions(token)] != [session["id"]]
        assert len(await api.sessions(token)) == 1
        assert (await api.call("DELETE", f"/v1/sessions/{session['id']}", token=token)).outcome == (404, "not-found")

    @pytest.mark.requirement(28)
    async def test_the_101st_session_ends_the_least_recently_used(self, api: Api, clock: FakeClock) -> None:
        await api.register()
        first = await api.log_in()
        await asyncio.gather(*(api.log_in() for _ in range(99)))
        clock.advance(timedelta(minutes=2))
        assert await api.opens(first)  # and so it is not the least recently used any more
        listed = await api.sessions(first)
        assert len(listed) == 100
        clock.advance(timedelta(minutes=2))
        newest = await api.log_in()
        left = await api.sessions(newest)
        assert len(left) == 100
        gone = {session["id"] for session in listed} - {session["id"] for session in left}
        assert len(gone) == 1
        assert await api.opens(first)
        assert [session["last_used_at"] for session in listed if session["id"] in gone] == ["2026-01-02T03:04:05.678Z"]

    async def test_a_smaller_cap_ends_sessions_in_the_order_of_their_last_use(
        self, accounts: AccountRepository, clock: FakeClock
    ) -> None:
        async with serving(accounts, clock=clock, session_rules=SessionRules(maximum=3)) as api:
            await api.register()
            tokens = []
            for _ in range(3):
                clock.advance(timedelta(minutes=2))
                tokens.append(await api.log_in())
            clock.advance(timedelta(minutes=2))
            assert await api.opens(tokens[0])
            for ended in (1, 2, 0):
                clock.advance(timedelta(minutes=2))
                tokens.append(await api.log_in())
                assert not await api.opens(tokens[ended])
                # Which looks at none of the others, whose use would be noted.
                assert len(await api.sessions(tokens[-1])) == 3

    async def test_times_and_ids_are_in_order(self, api: Api, clock: FakeClock) -> None:
        await api.register()
        seen = []
        for _ in range(5):
            clock.advance(timedelta(milliseconds=7))
            seen.append((await api.try_log_in()).json()["session"])
        for earlier, later in pairwise(seen):
            assert earlier["created_at"] < later["created_at"]
            assert earlier["id"] < later["id"]
