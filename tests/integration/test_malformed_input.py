"""What no good client sends: malformed requests of every kind, and requests that never end.

Each gets the problem that is named for it, never a 5xx, and the same server goes on answering everybody else.
"""

import asyncio
import contextlib
import gzip
import json
import re
import socket
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pickguard.adapters.memory import MemoryAccounts
from pickguard.entrypoints.http import protocol, requests
from tests.support.fakes import GOOD_PASSWORD
from tests.support.http import EMAIL, JSON, NAME, PATIENCE, Answer, Api, Wire, check_conventions, serving

ME = "/v1/users/me"
REGISTRATION = {"name": NAME, "email": EMAIL, "password": GOOD_PASSWORD}
MALFORMED_BODY = (400, "malformed-body")
MALFORMED_REQUEST = (400, "malformed-request")
UNSUPPORTED = (415, "unsupported-media-type")
TOO_LARGE = (413, "body-too-large")
INVALID = (422, "invalid-body")
NOT_EXPECTED = (417, "expectation-failed")
NOT_FOUND = (404, "not-found")
NOT_ALLOWED = (405, "method-not-allowed")
WITH_BODY = [
    ("POST", "/v1/users"),
    ("POST", "/v1/sessions"),
    ("PATCH", ME),
    ("POST", "/v1/sessions/current/reauthentication"),
]


@pytest.fixture
async def api() -> AsyncGenerator[Api]:
    async with serving(MemoryAccounts()) as api:
        yield api


async def check_alive(api: Api) -> None:
    """Assert that the server still does what it is for."""
    assert (await api.call("GET", "/livez")).status == 200
    token = await api.sign_up(email=f"{uuid4()}@example.com")
    assert await api.opens(token)


def cases(found: Mapping[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", found.values(), ids=found.keys())


def padded(size: int, body: object = REGISTRATION) -> bytes:
    return json.dumps(body).encode().ljust(size)


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def post(
    body: bytes, *fields: bytes, path: bytes = b"/v1/users", kind: bytes | None = JSON.encode(), sized: bool = True
) -> bytes:
    lines = [b"POST %s HTTP/1.1" % path, b"Host: x"]
    if kind is not None:
        lines.append(b"Content-Type: " + kind)
    if sized:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join((*lines, *fields, b"", b"")) + body


def get(*fields: bytes, path: bytes = b"/livez") -> bytes:
    return b"\r\n".join((b"GET %s HTTP/1.1" % path, b"Host: x", *fields, b"", b""))


def hosted(host: bytes) -> bytes:
    return b"GET /livez HTTP/1.1\r\nHost: %s\r\n\r\n" % host


# Bodies that are no JSON, or JSON of a kind that is refused

NO_JSON: dict[str, bytes] = {
    "nothing": b"",
    "spaces": b" \t\r\n ",
    "a brace": b"{",
    "closed twice": b"{}}",
    "closed by another bracket": b'{"name": [}]',
    "two texts": b"{} {}",
    "a text and more": b'{"name":"Ada"} trailing',
    "single quotes": b"{'name': 'Ada'}",
    "key without quotes": b'{name: "Ada"}',
    "key that is a number": b"{1: 2}",
    "comma at the end": b'{"name": "Ada",}',
    "comma at the end of an array": b'{"name": [1,]}',
    "no comma": b'{"name": "Ada" "email": "x"}',
    "no colon": b'{"name" "Ada"}',
    "no value": b'{"name":}',
    "comment": b'{"name": "Ada" /* who else */}',
    "line comment": b'{"name": "Ada"} // who else',
    "Python": b'{"name": None, "email": True}',
    "undefined": b'{"name": undefined}',
    "a form": b"name=Ada&email=ada%40example.com",
    "XML": b"<?xml version='1.0'?><name>Ada</name>",
    "gzip": gzip.compress(b"{}"),
    "NaN": b'{"name": NaN}',
    "Infinity": b'{"name": Infinity}',
    "minus Infinity": b'{"name": [-Infinity]}',
    "NaN alone": b"NaN",
    "1e999": b'{"name": 1e999}',
    "-1e999": b'{"name": -1e999}',
    "1e999 alone": b"1e999",
    "1.8e308": b'{"name": 1.8e308}',
    "integer of 5000 digits": b'{"name": %s}' % (b"9" * 5000),
    "integer of 16000 digits": b"9" * 16_000,
    "negative integer of 5000 digits": b'{"name": -%s}' % (b"9" * 5000),
    "fraction of 5000 digits": b'{"name": 0.%s}' % (b"1" * 5000),
    "exponent of 5000 digits": b'{"name": 1e%s}' % (b"9" * 5000),
    "negative exponent of 5000 digits": b'{"name": 1e-%s}' % (b"9" * 5000),
    "leading zero": b'{"name": 01}',
    "plus": b'{"name": +1}',
    "no digit before the point": b'{"name": .5}',
    "no digit after the point": b'{"name": 1.}',
    "hexadecimal": b'{"name": 0x10}',
    "digits of another script": '{"name": \u0661}'.encode(),
    "raw NUL": b'{"name": "Ada\x00"}',
    "NUL after the text": b"{}\x00",
    "raw line feed in a string": b'{"name": "Ada\nLovelace"}',
    "raw tab in a string": b'{"name": "Ada\tLovelace"}',
    "no-break space between": '{\u00a0"name": "Ada"}'.encode(),
    "bad escape": b'{"name": "\\x41"}',
    "short escape": b'{"name": "\\u12"}',
    "escape with a sign": b'{"name": "\\u+123"}',
    "string without an end": b'{"name": "Ada',
    "escape without an end": b'{"name": "Ada\\"}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "byte order mark within": b'{\xef\xbb\xbf"name": "Ada"}',
    "only a byte order mark": b"\xef\xbb\xbf",
    "UTF-16 with a mark": json.dumps(REGISTRATION).encode("utf-16"),
    "UTF-16 without a mark": json.dumps(REGISTRATION).encode("utf-16-le"),
    "UTF-32": json.dumps(REGISTRATION).encode("utf-32-be"),
    "Latin-1": b'{"name": "Zo\xeb"}',
    "overlong": b'{"name": "\xc0\xaf"}',
    "overlong NUL": b'{"name": "\xc0\x80"}',
    "encoded surrogate": b'{"name": "\xed\xa0\x80"}',
    "beyond Unicode": b'{"name": "\xf4\x90\x80\x80"}',
    "cut off within a letter": b'{"name": "\xe2\x82"}',
    "lone continuation": b'{"name": "\x80"}',
    "0xff": b"\xff" * 100,
    "same key twice": b'{"name": "Ada", "name": "Eve"}',
    "same key and value twice": b'{"name": "Ada", "name": "Ada"}',
    "same key twice, once escaped": b'{"name": "Ada", "\\u006eame": "Eve"}',
    "same key twice deep within": b'{"name": [{"a": 1, "b": 2, "a": 1}]}',
    "17 arrays": b"[" * 17 + b"]" * 17,
    "17 objects": b'{"a":' * 16 + b"{}" + b"}" * 16,
    "17 of both": b'{"a":[' * 8 + b"[]" + b"]}" * 8,
    "17 beside others": b'{"name": "[", "x": %s}' % (b"[" * 16 + b"]" * 16),
    "17 after strings that close": b'{"name": "]]]]", "x": %s}' % (b"[" * 16 + b"]" * 16),
    "17 after an escaped quote": b'{"name": "\\"]]]]\\\\", "x": %s}' % (b"[" * 16 + b"]" * 16),
    "8000 arrays": b"[" * 8000 + b"]" * 8000,
    "16000 open arrays": b"[" * 16_000,
    "2700 open objects": b'{"a":' * 2700,
}


@pytest.mark.requirement(59)
@cases(NO_JSON)
async def test_a_body_that_is_no_acceptable_json_is_malformed_wherever_it_is_sent(api: Api, case: bytes) -> None:
    token = await api.sign_up()
    for method, path in WITH_BODY:
        answer = await api.call(method, path, data=case, token=token)
        assert answer.outcome == MALFORMED_BODY, (method, path)
        assert (case[:40].strip() or b"\x00") not in answer.body or len(case) < 4
    assert (await api.me(token))["name"] == NAME
    await check_alive(api)


ODD_JSON: dict[str, tuple[bytes, tuple[int, str]]] = {
    "16 objects": (b'{"a":' * 15 + b"{}" + b"}" * 15, INVALID),
    "16 of both": (b'{"a":[' * 8 + b"]}" * 8, INVALID),
    "16 in an array": (b"[" * 16 + b"]" * 16, INVALID),
    "brackets in a string": (b'{"name": "%s"}' % (b"[{" * 1000), INVALID),
    "largest double": (b'{"name": 1.7976931348623157e308}', INVALID),
    "smallest double": (b'{"name": 5e-324}', INVALID),
    "underflow": (b'{"name": 1e-999}', INVALID),
    "minus zero": (b'{"name": -0}', INVALID),
    "300 digits": (b'{"name": %s}' % (b"9" * 300), INVALID),
    "member names with lone surrogates": (b'{"\\ud800": 1, "\\udfff\\ud800": 2}', INVALID),
    "member name with NUL": (b'{"\\u0000": 1}', INVALID),
    "member name of 16000": (b'{"%s": 1}' % (b"x" * 16_000), INVALID),
    "2000 unknown members": (json.dumps(dict.fromkeys(map(str, range(1400)), 1)).encode(), INVALID),
    "__proto__": (b'{"__proto__": {"admin": true}, "constructor": 1, "__class__": 1}', INVALID),
    "space around": (b"\r\n\t " + json.dumps(REGISTRATION).encode() + b" \n", (201, "")),
    "escapes": (b'{"na\\u006de":"\\u0041da","email":"ada\\u0040example.com","password":"correct horse \\/ staple"}', (201, "")),
    "escaped pair of surrogates": (b'{"name":"\\ud83e\\udd8a","email":"a@example.com","password":"correct horse"}', (201, "")),
}


@cases(ODD_JSON)
async def test_odd_but_proper_json_is_read(api: Api, case: tuple[bytes, tuple[int, str]]) -> None:
    data, expected = case
    assert (await api.call("POST", "/v1/users", data=data)).outcome == expected
    await check_alive(api)


@pytest.mark.parametrize("escape", [r"\ud800", r"\udbff", r"\udc00", r"\udfff", r"\udc00\ud800", r"a\ud800b"])
@pytest.mark.parametrize(
    ("line", "member", "expected"),
    [
        (("POST", "/v1/users"), "name", "invalid_name"),
        (("POST", "/v1/users"), "email", "invalid_email"),
        (("POST", "/v1/users"), "password", "invalid_password"),
        (("PATCH", ME), "name", "invalid_name"),
        (("PATCH", ME), "email", "invalid_email"),
        (("PATCH", ME), "password", "invalid_password"),
        (("PATCH", ME), "current_password", "wrong-password"),
        (("POST", "/v1/sessions"), "email", "invalid-credentials"),
        (("POST", "/v1/sessions"), "password", "invalid-credentials"),
        (("POST", "/v1/sessions/current/reauthentication"), "password", "wrong-password"),
    ],
)
async def test_a_lone_surrogate_is_refused_in_every_field(
    api: Api, line: tuple[str, str], member: str, expected: str, escape: str
) -> None:
    token = await api.sign_up()
    body: dict[str, str] = {
        ("POST", "/v1/users"): {"name": NAME, "email": "grace@example.com", "password": GOOD_PASSWORD},
        ("POST", "/v1/sessions"): {"email": EMAIL, "password": GOOD_PASSWORD},
        ("PATCH", ME): {
            "name": "Grace",
            "email": "grace@example.com",
            "password": "new phrase",
            "current_password": GOOD_PASSWORD,
        },
        ("POST", "/v1/sessions/current/reauthentication"): {"password": GOOD_PASSWORD},
    }[line]
    surrogate = json.loads(f'"{escape}"')
    answer = await api.call(*line, {**body, member: body[member] + surrogate}, token=token)
    if "_" in expected:
        assert answer.faults == [(f"#/{member}", expected)]
    else:
        assert answer.slug == expected
    assert (await api.me(token))["name"] == NAME


@pytest.mark.requirement(72)
async def test_a_long_body_without_sense_takes_no_longer_than_one_that_makes_sense(api: Api) -> None:
    # A body of 16 KiB that anybody may send must not hold up everybody else. The margin is wide: this is about squares.
    for body in (b'"' + b'\\"' * 8_000, b'{"a":"' + b"\\\\" * 8_000, b'"' * 16_000, b'{"' + b'":"' * 5_000, b"[]" * 8_000):
        began = time.process_time()
        assert (await api.call("POST", "/v1/sessions", data=body)).outcome == MALFORMED_BODY
        assert time.process_time() - began < 0.2


# Sizes


@pytest.mark.parametrize("lengths", [[16_384], [16_383], [1] * 300], ids=["16384", "16383", "bit by bit"])
@pytest.mark.parametrize("in_chunks", [False, True])
async def test_a_body_of_16_kib_is_read(api: Api, lengths: list[int], *, in_chunks: bool) -> None:
    body = padded(sum(lengths))
    if in_chunks:
        pieces = [body[number : number + 1] for number in range(len(lengths))] if len(lengths) > 1 else [body]
        sent = post(b"", b"Transfer-Encoding: chunked", sized=False) + chunked(*pieces)
    else:
        sent = post(body)
    assert (await api.raw(sent)).status == 201


TOO_LARGE_BODIES: dict[str, bytes] = {
    "16385": post(padded(16_385)),
    "16385 in a chunk": post(b"", b"Transfer-Encoding: chunked", sized=False) + chunked(padded(16_385)),
    "16385 in two chunks": post(b"", b"Transfer-Encoding: chunked", sized=False) + chunked(padded(16_384), b" "),
    "chunks without an end": post(b"", b"Transfer-Encoding: chunked", sized=False)
    + chunked(padded(16_384), b" " * 9999, end=b""),
    "a gigabyte announced": post(b"", b"Content-Length: 1073741824", sized=False),
    "16385 announced": post(b"", b"Content-Length: 16385", sized=False),
    "16385 announced, to be continued": post(b"", b"Content-Length: 16385", b"Expect: 100-continue", sized=False),
    "2^63 announced": post(b"", b"Content-Length: 9223372036854775807", sized=False),
}


@pytest.mark.requirement(72, 83)
@cases(TOO_LARGE_BODIES)
async def test_a_larger_body_is_refused_without_waiting_for_the_rest(api: Api, case: bytes) -> None:
    async with api.wire() as wire:
        await wire.send(case)
        answer = await wire.answer("POST")
        assert answer.outcome == TOO_LARGE
        assert wire.interim == []
    await check_alive(api)


async def test_a_body_of_megabytes_is_refused_and_its_sender_reads_why(api: Api) -> None:
    async with api.wire() as wire:
        wire.writer.write(post(b" " * 4_000_000))
        answer = await wire.answer("POST")
        assert answer.outcome == TOO_LARGE
        assert await wire.rest() == b""
    await check_alive(api)


# Kinds of body

UNSUPPORTED_KINDS: dict[str, bytes | None] = {
    "none": None,
    "empty": b"",
    "text": b"text/plain",
    "form": b"application/x-www-form-urlencoded",
    "form in parts": b"multipart/form-data; boundary=x",
    "octets": b"application/octet-stream",
    "json-seq": b"application/json-seq",
    "jsonx": b"application/jsonx",
    "problem+json": b"application/problem+json",
    "json-patch": b"application/json-patch+json",
    "text/json": b"text/json",
    "json alone": b"json",
    "any": b"*/*",
    "any application": b"application/*",
    "two in one": b"application/json, application/json",
    "slash only": b"/",
    "semicolon only": b";",
    "Latin-1": b"application/json; charset=iso-8859-1",
    "UTF-16": b"application/json; charset=utf-16",
    "UTF-7 in quotes": b'application/json; charset="utf-7"',
    "UTF-8 of another kind": b"application/json; charset=utf-8-sig",
    "unknown charset": b"application/json; charset=x",
    "charset without a value": b"application/json; charset",
    "empty charset": b"application/json; charset=",
    "two charsets": b"application/json; charset=utf-8; charset=utf-16",
    "a charset in the form of RFC 2231": b"application/json; charset*=utf-8''utf-8",
    "a charset in pieces": b"application/json; charset*0=utf; charset*1=-8",
    "an open quote": b'application/json;"' + b";" * 8000,
    "many open quotes": b"application/json;" + b'a="' * 2600,
    "invalid UTF-8": b"application/\xff\xfejson",
    "bytes beyond ASCII in the charset": b"application/json; charset=\xff",
    "very long": b"application/" + b"x" * 8000,
}


@pytest.mark.requirement(59, 83)
@cases(UNSUPPORTED_KINDS)
async def test_another_kind_of_body_is_not_supported(api: Api, case: bytes | None) -> None:
    token = await api.sign_up()
    answer = await api.raw(post(padded(200), kind=case))
    assert answer.outcome == UNSUPPORTED
    assert answer.headers["Accept"] == JSON
    field = [] if case is None else [b"Content-Type: " + case]
    change = b"\r\n".join(
        [b"PATCH /v1/users/me HTTP/1.1", b"Host: x", b"Content-Length: 2", *field, b"Authorization: Bearer %s"]
    )
    answer = await api.raw(change % token.encode() + b"\r\n\r\n{}")
    assert answer.outcome == UNSUPPORTED
    assert answer.headers["Accept-Patch"] == "application/json, application/merge-patch+json"
    await check_alive(api)


@pytest.mark.parametrize(
    "kind",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json;charset=UTF-8",
        b'application/json ; charset="utf-8"',
        b"application/json; profile=x",
        b"  application/json  ",
    ],
)
async def test_json_in_utf_8_is_supported_however_it_is_written(api: Api, kind: bytes) -> None:
    assert (await api.raw(post(padded(200), kind=kind))).status == 201


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity", "gzip, gzip", "", "x", "\u00ff"])
async def test_an_encoded_body_is_not_supported(api: Api, coding: str) -> None:
    field = b"Content-Encoding: " + coding.encode("latin-1")
    assert (await api.raw(post(padded(200), field))).outcome == UNSUPPORTED
    assert (await api.raw(post(gzip.compress(padded(200)), field))).outcome == UNSUPPORTED
    await check_alive(api)


# Requests that are no HTTP, or HTTP of a kind that is refused

REFUSED: dict[str, bytes] = {
    "no request": b"this is not HTTP\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 100,
    "SSH": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "NULs": b"\x00" * 100 + b"\r\n\r\n",
    "method that is no token": b"F(O /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "unknown method without a path": b"FOO HTTP/1.1\r\nHost: x\r\n\r\n",
    "unknown method of HTTP/1.0": b"FOO /livez HTTP/1.0\r\nHost: x\r\n\r\n",
    "method of 10000": b"A" * 10_000 + b" /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "method with a control character": b"G\x01T /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "no path": b"GET HTTP/1.1\r\nHost: x\r\n\r\n",
    "path without a slash": b"GET livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "two spaces within the path": b"GET /li vez HTTP/1.1\r\nHost: x\r\n\r\n",
    "fragment": get(path=b"/livez#x"),
    "target of another scheme": get(path=b"ftp://x/livez"),
    "target with a user": get(path=b"http://user:password@x/livez"),
    "target without a host": get(path=b"http:///livez"),
    "asterisk of another method": get(path=b"*"),
    "bytes beyond ASCII in the path": get(path=b"/\xff\xfe"),
    "UTF-8 in the path": get(path="/v1/\u00fcsers".encode()),
    "bytes beyond ASCII in the query": get(path=b"/livez?x=\xff"),
    "NUL in the path": get(path=b"/liv\x00ez"),
    "control character in the path": get(path=b"/liv\x1bez"),
    "broken absolute target": get(path=b"http://[::1/livez"),
    "port out of range": get(path=b"http://x:99999/livez"),
    "version 1.2": b"GET /livez HTTP/1.2\r\nHost: x\r\n\r\n",
    "version 9.9": b"GET /livez HTTP/9.9\r\nHost: x\r\n\r\n",
    "version of letters": b"GET /livez HTTP/x.y\r\nHost: x\r\n\r\n",
    **{
        f"Host {name}": hosted(host)
        for name, host in {
            "that is empty": b"",
            "with a user": b"user@x",
            "with letters for a port": b"x:y",
            "with a port out of range": b"x:65536",
            "with a path": b"x/y",
            "with a scheme": b"http://x",
            "with a space": b"x y",
            "with an open bracket": b"[::1",
            "with bytes beyond ASCII": b"\xff",
            "with a broken escape": b"x%zz",
        }.items()
    },
    "no Host": b"GET /livez HTTP/1.1\r\n\r\n",
    "two Hosts": get(b"Host: y"),
    "NUL in a header": get(b"X: a\x00b"),
    "control character in a header": get(b"X: a\x01b"),
    "DEL in a header": get(b"X: a\x7fb"),
    "NUL in a header's name": get(b"X\x00Y: 1"),
    "space in a header's name": get(b"X Y: 1"),
    "space after a header's name": get(b"X : 1"),
    "bytes beyond ASCII in a header's name": get(b"X\xff: 1"),
    "header without a name": get(b": 1"),
    "header without a colon": get(b"Xyz"),
    "folded header": get(b"X: 1", b" 2"),
    "bare carriage return": get(b"X: 1\rY: 2"),
    "two lengths": post(b"{}", b"Content-Length: 3"),
    "two lengths in one": post(b"{}", b"Content-Length: 2, 2", sized=False),
    "negative length": post(b"{}", b"Content-Length: -2", sized=False),
    "length with a plus": post(b"{}", b"Content-Length: +2", sized=False),
    "length of no digits": post(b"{}", b"Content-Length: two", sized=False),
    "hexadecimal length": post(b"{}", b"Content-Length: 0x2", sized=False),
    "length with an underscore": post(b"{}", b"Content-Length: 1_0", sized=False),
    "length of 30 digits": post(b"{}", b"Content-Length: " + b"9" * 30, sized=False),
    "length and chunks": post(chunked(b"{}"), b"Transfer-Encoding: chunked"),
    "chunks and length": post(chunked(b"{}"), b"Transfer-Encoding: chunked", b"Content-Length: 2", sized=False),
    "chunks under HTTP/1.0": post(chunked(b"{}"), b"Transfer-Encoding: chunked", sized=False).replace(b"1.1", b"1.0", 1),
    "identity": post(b"{}", b"Transfer-Encoding: identity", sized=False),
    "only gzip": post(b"{}", b"Transfer-Encoding: gzip", sized=False),
    "chunked, then identity": post(chunked(b"{}"), b"Transfer-Encoding: chunked, identity", sized=False),
    "chunked twice": post(chunked(b"{}"), b"Transfer-Encoding: chunked, chunked", sized=False),
    "chunked in two headers": post(chunked(b"{}"), b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", sized=False),
    "nearly chunked": post(chunked(b"{}"), b"Transfer-Encoding: xchunked", sized=False),
    "chunked in quotes": post(chunked(b"{}"), b'Transfer-Encoding: "chunked"', sized=False),
    "chunked after a vertical tab": post(chunked(b"{}"), b"Transfer-Encoding: \x0bchunked", sized=False),
    "chunked before a space": post(chunked(b"{}"), b"Transfer-Encoding : chunked", sized=False),
    "two Authorization headers": get(b"Authorization: Bearer x", b"Authorization: Bearer x"),
    "two kinds of Authorization header": get(b"Authorization: Basic eDp5", b"authorization: Bearer x", path=b"/v1/users/me"),
}


@pytest.mark.requirement(56, 59)
@cases(REFUSED)
async def test_what_is_no_proper_request_is_refused(api: Api, case: bytes) -> None:
    answer = await api.raw(case)
    assert answer.outcome == MALFORMED_REQUEST
    await check_alive(api)


TOO_LONG: dict[str, tuple[bytes, tuple[int, str]]] = {
    "path of 10000": (get(path=b"/" + b"x" * 10_000), (414, "target-too-long")),
    "query of 10000": (get(path=b"/livez?" + b"x" * 10_000), (414, "target-too-long")),
    "target of 8001": (get(path=b"/livez?" + b"x" * 7994), (414, "target-too-long")),
    "header of 10000": (get(b"X: " + b"x" * 10_000), (431, "headers-too-large")),
    "header's name of 10000": (get(b"x" * 10_000 + b": 1"), (431, "headers-too-large")),
    "token of 100000": (
        get(b"Authorization: Bearer pg_" + b"x" * 100_000, path=b"/v1/users/me"),
        (431, "headers-too-large"),
    ),
    "1000 headers": (get(*(b"X-%d: 1" % number for number in range(1000))), (431, "headers-too-large")),
    "101 headers": (get(*(b"X-%d: 1" % number for number in range(100))), (431, "headers-too-large")),
    "33 KiB of headers": (get(*(b"X-%d: %s" % (number, b"x" * 3300) for number in range(10))), (431, "headers-too-large")),
    "33 KiB without an end": (
        get(*(b"X-%d: %s" % (number, b"x" * 3300) for number in range(10))).removesuffix(b"\r\n"),
        (431, "headers-too-large"),
    ),
    "1000 headers behind a body in chunks": (
        post(chunked(b"{}", end=b"0\r\n" + b"X: 1\r\n" * 1000 + b"\r\n"), b"Transfer-Encoding: chunked", sized=False),
        (431, "headers-too-large"),
    ),
    "target of 8000": (get(path=b"/livez?" + b"x" * 7993), (200, "")),
    "100 headers": (get(*(b"X-%d: 1" % number for number in range(99))), (200, "")),
    "31 KiB of headers": (get(*(b"X-%d: %s" % (number, b"x" * 3100) for number in range(10))), (200, "")),
}


@cases(TOO_LONG)
async def test_what_is_too_long_is_said_to_be(api: Api, case: tuple[bytes, tuple[int, str]]) -> None:
    sent, expected = case
    async with api.wire() as wire:
        await wire.send(sent)
        assert (await wire.answer()).outcome == expected
        if expected != (200, ""):
            assert await wire.rest() == b""
    await check_alive(api)


@pytest.mark.parametrize("name", ["33 KiB of headers", "33 KiB without an end", "31 KiB of headers", "100 headers"])
async def test_what_is_too_long_is_found_to_be_in_pieces_as_well(api: Api, name: str) -> None:
    sent, expected = TOO_LONG[name]
    async with api.wire() as wire:
        for start in range(0, len(sent), 3400):  # with which only the last piece is too much
            await wire.send(sent[start : start + 3400])
            await asyncio.sleep(0)
        assert (await wire.answer()).outcome == expected
    await check_alive(api)


async def test_requests_that_are_not_too_long_each_may_be_so_together(api: Api) -> None:
    async with api.wire() as wire:
        await wire.send(get(*(b"X-%d: %s" % (number, b"x" * 3000) for number in range(9))) * 3)
        assert [(await wire.answer()).status for _ in range(3)] == [200] * 3


async def test_a_header_without_an_end_does_not_fill_the_memory(api: Api) -> None:
    async with api.wire() as wire:
        await wire.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(ConnectionError):
            for number in range(90):  # less than there may be
                await wire.send(b"X-%d: %s\r\n" % (number, b"x" * 8000))
        assert set(statuses(await wire.rest())) <= {431}


# What somebody in front may read in another way than the service does (RFC 9112, sections 6.3 and 11.2; ASVS 4.2.1)

FRAMED_TWICE: dict[str, bytes] = {
    name: post(b"", *(field for field in fields), sized=False) + body
    for name, fields, body in (
        ("length, then chunks", (b"Content-Length: 4", b"Transfer-Encoding: chunked"), chunked(b"{}")),
        ("chunks, then length", (b"Transfer-Encoding: chunked", b"Content-Length: 4"), chunked(b"{}")),
        ("two lengths", (b"Content-Length: 2", b"Content-Length: 0"), b"{}"),
        ("the same length twice", (b"Content-Length: 2", b"Content-Length: 2"), b"{}"),
        ("a list of lengths", (b"Content-Length: 2, 2",), b"{}"),
        ("two numbers", (b"Content-Length: 2 2",), b"{}"),
        ("a comma before the length", (b"Content-Length: ,2",), b"{}"),
        ("a plus", (b"Content-Length: +2",), b"{}"),
        ("a minus", (b"Content-Length: -0",), b""),
        ("an empty length", (b"Content-Length:",), b"{}"),
        ("a length in other digits", ("Content-Length: \u0662".encode(),), b"{}"),
        ("a length after a vertical tab", (b"Content-Length: \x0b2",), b"{}"),
        ("a length beyond 64 bits", (b"Content-Length: 18446744073709551618",), b"{}"),
        ("a space before the colon", (b"Content-Length : 2",), b"{}"),
        ("a length that is folded", (b"Content-Length:", b" 2"), b"{}"),
        ("chunks that are folded", (b"Transfer-Encoding:", b" chunked"), chunked(b"{}")),
        ("nearly chunked", (b"Transfer-Encoding: xchunked",), chunked(b"{}")),
        ("chunked with a parameter", (b"Transfer-Encoding: chunked;q=1",), chunked(b"{}")),
        ("chunked twice", (b"Transfer-Encoding: chunked, chunked",), chunked(b"{}")),
        ("chunked without a comma", (b"Transfer-Encoding: chunked chunked",), chunked(b"{}")),
        ("a comma before chunked", (b"Transfer-Encoding: , chunked",), chunked(b"{}")),
        ("a comma behind chunked", (b"Transfer-Encoding: chunked,",), chunked(b"{}")),
        ("identity, then chunked", (b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"), chunked(b"{}")),
        ("chunked, then identity", (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), chunked(b"{}")),
        ("gzip, then chunked", (b"Transfer-Encoding: gzip, chunked",), chunked(b"{}")),
        ("no coding", (b"Transfer-Encoding:",), chunked(b"{}")),
        ("bytes beyond ASCII", (b"Transfer-Encoding: chunked\xff",), chunked(b"{}")),
        ("NUL behind chunked", (b"Transfer-Encoding: chunked\x00",), chunked(b"{}")),
        ("an underscore", (b"Transfer_Encoding: chunked",), chunked(b"{}")),
        ("a line that ends in a line feed", (b"X: 1\nTransfer-Encoding: chunked",), chunked(b"{}")),
        ("a line that ends in a carriage return", (b"X: 1\rTransfer-Encoding: chunked",), chunked(b"{}")),
        ("a chunk's size that overflows", (b"Transfer-Encoding: chunked",), b"10000000000000002\r\n{}\r\n0\r\n\r\n"),
        ("a chunk's size with a plus", (b"Transfer-Encoding: chunked",), b"+2\r\n{}\r\n0\r\n\r\n"),
        ("a space after a chunk's size", (b"Transfer-Encoding: chunked",), b"2 \r\n{}\r\n0\r\n\r\n"),
        ("a line feed after a chunk's size", (b"Transfer-Encoding: chunked",), b"2\n{}\r\n0\r\n\r\n"),
        ("a line feed in an extension", (b"Transfer-Encoding: chunked",), b"2;a\nxx\r\n{}\r\n0\r\n\r\n"),
        ("a carriage return in an extension", (b"Transfer-Encoding: chunked",), b"2;a\rxx\r\n{}\r\n0\r\n\r\n"),
        ("a line feed after a chunk", (b"Transfer-Encoding: chunked",), b"2\r\n{}\n0\r\n\r\n"),
        ("a length behind the chunks", (b"Transfer-Encoding: chunked",), chunked(b"{}", end=b"0\r\nContent-Length: 9\r\n\r\n")),
        (
            "a coding behind the chunks",
            (b"Transfer-Encoding: chunked",),
            chunked(b"{}", end=b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ),
        ("a Host behind the chunks", (b"Transfer-Encoding: chunked",), chunked(b"{}", end=b"0\r\nHost: y\r\n\r\n")),
    )
}
FRAMED_TWICE |= {
    "chunks of HTTP/1.0": FRAMED_TWICE["nearly chunked"].replace(b"xchunked", b"chunked").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "chunks and a length of HTTP/1.0": FRAMED_TWICE["length, then chunks"].replace(b"HTTP/1.1", b"HTTP/1.0"),
    "line feeds only": post(b"{}").replace(b"\r\n", b"\n"),
    "HTTP/0.9": b"GET /livez\r\n\r\n",
}


@cases(FRAMED_TWICE)
async def test_a_request_that_ends_in_two_places_is_refused_with_all_that_follows(api: Api, case: bytes) -> None:
    token = await api.sign_up()
    hidden = b"DELETE /v1/sessions/current HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % token.encode()
    async with api.wire() as wire:
        await wire.send(case + hidden)
        assert (await wire.answer()).outcome == MALFORMED_REQUEST
        assert await wire.rest() == b""
    assert await api.opens(token)
    await check_alive(api)


FRAMED_ONCE: dict[str, bytes] = {
    "space around a length": post(b"{}", b"Content-Length:  \t 2 \t ", sized=False),
    "zeros before a length": post(b"{}", b"Content-Length: 002", sized=False),
    "tab before chunked": post(chunked(b"{}"), b"Transfer-Encoding:\tchunked", sized=False),
    "zeros before a chunk's size": post(b"0002\r\n{}\r\n000\r\n\r\n", b"Transfer-Encoding: chunked", sized=False),
    "extensions": post(b'2;a;b=c;d="e;f"\r\n{}\r\n0;x\r\n\r\n', b"Transfer-Encoding: chunked", sized=False),
    "a token behind the chunks": post(
        chunked(b"{}", end=b"0\r\nAuthorization: Bearer x\r\n\r\n"), b"Transfer-Encoding: chunked", sized=False
    ),
    "a request as a body": post(get(path=b"/v1/users/me")),
}


@cases(FRAMED_ONCE)
async def test_a_request_that_ends_in_one_place_gets_one_answer_and_so_does_the_next(api: Api, case: bytes) -> None:
    async with api.wire() as wire:
        await wire.send(case + get(path=b"/nowhere") + get())
        assert [(await wire.answer()).status for _ in range(3)] in ([422, 404, 200], [400, 404, 200])


# Paths and methods in disguise (ASVS 4.1.4, 15.3.7)

PATHS: dict[str, bytes] = {
    "two slashes": b"//v1/users/me",
    "two slashes within": b"/v1//users/me",
    "slash at the end": b"/v1/users/me/",
    "dots": b"/v1/../v1/users/me",
    "a dot": b"/v1/./users/me",
    "escaped dot": b"/v1/%2e/users/me",
    "escaped dots": b"/v1/%2e%2e/v1/users/me",
    "escaped slash": b"/v1%2fusers%2fme",
    "escaped twice": b"/v1/users%252Fme",
    "overlong slash": b"/v1%c0%afusers/me",
    "backslashes": b"/v1\\users\\me",
    "parameters": b"/v1/users/me;x=1",
    "escaped NUL at the end": b"/v1/users/me%00",
    "escaped space at the end": b"/v1/users/me%20",
    "capitals": b"/V1/Users/Me",
    "an ending": b"/v1/users/me.json",
    "a full-width letter": b"/v1/users/m%ef%bd%85",
}


@cases(PATHS)
async def test_a_resource_has_one_path(api: Api, case: bytes) -> None:
    token = await api.sign_up()
    for method in (b"GET", b"DELETE"):
        sent = b"%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % (method, case, token.encode())
        assert (await api.raw(sent)).outcome == NOT_FOUND
    assert await api.opens(token)


@pytest.mark.parametrize("path", ["a%2fb", "..%2fcurrent", "%2e%2e", "current%2f", "current%00", "current;x", "curren%74%20"])
async def test_a_session_is_not_named_in_another_way(api: Api, path: str) -> None:
    token = await api.sign_up()
    sent = f"DELETE /v1/sessions/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    assert (await api.raw(sent.encode())).outcome == NOT_FOUND
    assert await api.opens(token)


@pytest.mark.parametrize(
    "header",
    ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Host"],
)
async def test_no_header_makes_another_request_of_it(api: Api, header: str) -> None:
    token = await api.sign_up()
    for value in ("DELETE", "/v1/sessions/current", "evil.example"):
        answer = await api.call("GET", f"{ME}?_method=DELETE", token=token, headers={header: value})
        assert answer.status == 200
        answer = await api.call("POST", "/v1/users", {**REGISTRATION}, token=token, headers={header: value})
        assert answer.outcome == (409, "email-taken")
        assert "evil" not in str(answer.headers)
    assert await api.opens(token)


@pytest.mark.parametrize(
    "method", ["TRACE", "CONNECT", "PUT", "PROPFIND", "PURGE", "SEARCH", "LINK", "FOO", "get", "DeLeTe", "M-TOKEN!", "X" * 64]
)
async def test_a_method_that_no_resource_has_is_refused_and_echoes_nothing(api: Api, method: str) -> None:
    for path in ("/v1/users", ME, "/v1/sessions", "/livez"):
        answer = await api.raw(f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-Canary: canary\r\n\r\n".encode(), method)
        assert answer.outcome == NOT_ALLOWED
        assert method not in answer.headers["Allow"].split(", ")
        assert b"canary" not in answer.body


async def test_after_a_connect_nothing_is_read(api: Api) -> None:
    for target in (b"example.com:443", b"/livez"):
        async with api.wire() as wire:
            await wire.send(b"CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n" % target + get())
            assert (await wire.answer()).status in {404, 405}
            assert await wire.rest() == b""


async def test_an_unknown_method_at_an_unknown_path_is_refused_for_the_path(api: Api) -> None:
    assert (await api.raw(b"FOO /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")).outcome == NOT_FOUND


async def test_nothing_is_read_of_a_request_with_an_unknown_method(api: Api) -> None:
    token = await api.sign_up()
    hidden = b"DELETE /v1/sessions/current HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % token.encode()
    for body in (b"", hidden):
        async with api.wire() as wire:
            await wire.send(b"FOO /v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body + hidden)
            assert (await wire.answer()).outcome == NOT_ALLOWED
            assert await wire.rest() == b""
    assert await api.opens(token)


async def test_a_body_and_the_next_header_are_not_taken_for_one(api: Api) -> None:
    async with api.wire() as wire:
        for _ in range(2):
            head, body = post(padded(16_000, {})).split(b"\r\n\r\n")
            await wire.send(head + b"\r\n\r\n")
            for start in range(0, len(body), 4000):
                await wire.send(body[start : start + 4000])
                await asyncio.sleep(0)
            assert (await wire.answer()).outcome == INVALID
            large = get(*(b"X-%d: %s" % (number, b"x" * 3000) for number in range(10)))
            await wire.send(large[:20_000])
            await asyncio.sleep(0.02)  # long enough to arrive apart
            await wire.send(large[20_000:])
            assert (await wire.answer()).status == 200


async def test_a_safe_method_changes_nothing_whatever_it_carries(api: Api) -> None:
    # ASVS 3.5.1 to 3.5.3
    token = await api.sign_up()
    user = await api.me(token)
    body = json.dumps({"name": "Eve", "password": "another phrase", "current_password": GOOD_PASSWORD}).encode()
    for method in ("GET", "HEAD", "OPTIONS"):
        for path in (ME, "/v1/users", "/v1/sessions", "/v1/sessions/current", "/v1/sessions?except=current"):
            assert (await api.call(method, path, data=body, token=token)).status < 500
    assert await api.me(token) == user
    assert len(await api.sessions(token)) == 1
    assert (await api.try_log_in()).status == 201


BROKEN_CHUNKS: dict[str, bytes] = {
    "size of no digits": b"zz\r\n{}\r\n0\r\n\r\n",
    "negative size": b"-2\r\n{}\r\n0\r\n\r\n",
    "size with a prefix": b"0x2\r\n{}\r\n0\r\n\r\n",
    "size of 40 digits": b"f" * 40 + b"\r\n{}\r\n0\r\n\r\n",
    "size too small": b"1\r\n{}\r\n0\r\n\r\n",
    "no end of a chunk": b"2\r\n{}0\r\n\r\n",
    "only line feeds": b"2\n{}\n0\n\n",
    "NUL in an extension": b"2;\x00\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.requirement(56)
@cases(BROKEN_CHUNKS)
async def test_broken_chunks_are_refused_or_the_connection_ends(api: Api, case: bytes) -> None:
    async with api.wire() as wire:
        await wire.send(post(b"", b"Transfer-Encoding: chunked", b"Connection: close", sized=False) + case)
        assert set(statuses(await wire.rest())) <= {400}
    await check_alive(api)


ODD: dict[str, tuple[bytes, tuple[int, str]]] = {
    "TRACE": (b"TRACE /v1/users HTTP/1.1\r\nHost: x\r\n\r\n", NOT_ALLOWED),
    "PROPFIND": (b"PROPFIND /v1/users/me HTTP/1.1\r\nHost: x\r\n\r\n", NOT_ALLOWED),
    "CONNECT": (b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n", NOT_FOUND),
    "OPTIONS of the server": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", NOT_FOUND),
    "HTTP/1.0": (b"GET /livez HTTP/1.0\r\n\r\n", (200, "")),
    "absolute target": (get(path=b"http://x/livez"), (200, "")),
    "absolute target of another host": (get(path=b"http://evil.example/livez"), (200, "")),
    "Host with a port": (hosted(b"accounts.example.com:9443"), (200, "")),
    "Host that is an address": (hosted(b"[::1]:9443"), (200, "")),
    "Host with an empty port": (hosted(b"x:"), (200, "")),
    "empty lines before": (b"\r\n\r\n" + get(), (200, "")),
    "no Content-Length": (post(b"", sized=False), MALFORMED_BODY),
    "body of a GET": (get(b"Content-Length: 2", b"Content-Type: text/plain") + b"{}", (200, "")),
    "two Content-Types": (post(padded(200), b"Content-Type: application/json"), MALFORMED_REQUEST),
    "two kinds of Content-Type": (post(padded(200), b"Content-Type: text/plain"), MALFORMED_REQUEST),
    "chunks in capitals": (post(chunked(padded(200)), b"Transfer-Encoding: CHUNKED", sized=False), (201, "")),
    "chunk extension": (post(b"2;x=y\r\n{}\r\n0\r\n\r\n", b"Transfer-Encoding: chunked", sized=False), INVALID),
    "trailer": (post(chunked(b"{}", end=b"0\r\nX: 1\r\n\r\n"), b"Transfer-Encoding: chunked", sized=False), INVALID),
    "continue": (post(b"{}", b"Expect: 100-continue"), INVALID),
    "continue in capitals": (post(b"{}", b"Expect: 100-CONTINUE"), INVALID),
    "nothing expected": (post(b"{}", b"Expect:"), INVALID),
    "another expectation": (post(b"{}", b"Expect: 200-ok"), NOT_EXPECTED),
    "another expectation of a GET": (get(b"Expect: x"), NOT_EXPECTED),
    "another expectation of an explanation": (get(b"Expect: x", path=b"/problems/not-found"), NOT_EXPECTED),
    "another expectation at an unknown path": (get(b"Expect: x", path=b"/nowhere"), NOT_EXPECTED),
    "continue and more": (post(b"{}", b"Expect: 100-continue, x"), NOT_EXPECTED),
    "bytes beyond ASCII expected": (post(b"{}", b"Expect: \xff"), NOT_EXPECTED),
    "continue at an unknown path": (get(b"Expect: 100-continue", path=b"/nowhere"), NOT_FOUND),
    "invalid UTF-8, escaped, in the path": (get(path=b"/%ff%fe"), NOT_FOUND),
    "NUL, escaped, in the path": (get(path=b"/v1/users/me%00"), NOT_FOUND),
    "broken escape in the path": (get(path=b"/%zz%"), NOT_FOUND),
    "escaped slash": (get(path=b"/v1/users%2Fme"), NOT_FOUND),
    "dots": (get(path=b"/v1/users/../../etc/passwd"), NOT_FOUND),
    "escaped dots": (get(path=b"/problems/%2e%2e%2f%2e%2e"), NOT_FOUND),
    "host-like path": (get(path=b"//[::1"), NOT_FOUND),
    "invalid UTF-8, escaped, as a problem": (get(path=b"/problems/%ff"), NOT_FOUND),
    "invalid UTF-8, escaped, in the query": (get(path=b"/livez?%ff=%fe&%00"), (200, "")),
    "invalid UTF-8 in User-Agent": (get(b"User-Agent: \xff\xfe"), (200, "")),
    "invalid UTF-8 in X-Request-ID": (get(b"X-Request-ID: \xff\xfe"), (200, "")),
    "two X-Request-IDs": (get(b"X-Request-ID: 1", b"X-Request-ID: 2"), (200, "")),
    "invalid UTF-8 as a scheme": (get(b"Authorization: \xff\xfe x", path=b"/v1/users/me"), (401, "authentication-required")),
    "invalid UTF-8 as a token": (get(b"Authorization: Bearer \xff\xfe", path=b"/v1/users/me"), (401, "invalid-token")),
    "UTF-8 as a token": (get("Authorization: Bearer pg_\u0661".encode(), path=b"/v1/users/me"), (401, "invalid-token")),
    "token of 8000": (get(b"Authorization: Bearer pg_" + b"x" * 8000, path=b"/v1/users/me"), (401, "invalid-token")),
    "conditions of 8000": (get(b"If-None-Match: " + b'"x",' * 2000, path=b"/v1/users/me"), (401, "authentication-required")),
    "invalid UTF-8 in a cookie": (get(b"Cookie: \xff=\xfe"), (200, "")),
    "websocket": (
        get(b"Upgrade: websocket", b"Connection: upgrade", b"Sec-WebSocket-Key: x", path=b"/v1/users/me"),
        (401, "authentication-required"),
    ),
    "upgrade with a body": (post(b"{}", b"Upgrade: websocket", b"Connection: upgrade"), INVALID),
    "h2c": (post(b"{}", b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABk"), INVALID),
}


@cases(ODD)
async def test_an_odd_but_proper_request_is_answered_for_what_it_is(api: Api, case: tuple[bytes, tuple[int, str]]) -> None:
    sent, expected = case
    answer = await api.raw(sent, sent.partition(b" ")[0].decode())
    assert answer.outcome == expected
    await check_alive(api)


@pytest.mark.parametrize("expectation", [b"200-ok", b"100-continue, x", b"100-continue-please"])
async def test_a_body_is_not_asked_for_under_another_expectation(api: Api, expectation: bytes) -> None:
    async with api.wire() as wire:
        await wire.send(post(b"", b"Content-Length: 100", b"Expect: " + expectation, sized=False))
        assert (await wire.answer()).outcome == NOT_EXPECTED
        assert wire.interim == []


async def test_a_body_that_is_announced_is_asked_for(api: Api) -> None:
    async with api.wire() as wire:
        await wire.send(post(b"", b"Content-Length: 200", b"Expect: 100-continue", sized=False))
        async with asyncio.timeout(PATIENCE):
            assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.send(padded(200))
        assert (await wire.answer()).status == 201


@pytest.mark.parametrize("version", [b" HTTP/2.0", b" HTTP/0.9", b""], ids=["2.0", "0.9", "none"])
async def test_an_answer_is_in_a_version_of_http_that_the_service_speaks(api: Api, version: bytes) -> None:
    # RFC 9110, section 2.5, and RFC 9112, section 2.3: an answer names the version of the server.
    async with api.wire() as wire:
        await wire.send(b"GET /livez" + version + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await wire.rest()
        assert answer.startswith(b"HTTP/1."), answer


async def test_a_transfer_coding_that_is_not_known_is_not_passed_over(api: Api) -> None:
    # RFC 9112, section 6.1. Passing it over would read another body than the one that was sent.
    sent = post(chunked(padded(200)), b"Transfer-Encoding: gzip, chunked", sized=False)
    assert (await api.raw(sent)).status in {400, 415, 501}


TRUNCATED: dict[str, bytes] = {
    "nothing": b"",
    "a letter": b"G",
    "half a request line": b"GET /li",
    "a request line": b"GET /livez HTTP/1.1\r\n",
    "half a header": b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Half",
    "no body": post(b"", b"Content-Length: 50", sized=False),
    "half a body": post(b'{"name":', b"Content-Length: 50", sized=False),
    "half a chunk": post(b'5\r\n{"n', b"Transfer-Encoding: chunked", sized=False),
    "no last chunk": post(b"2\r\n{}\r\n", b"Transfer-Encoding: chunked", sized=False),
    "half a body of a GET": get(b"Content-Length: 50") + b"x",
}


@pytest.mark.requirement(56)
@cases(TRUNCATED)
async def test_a_request_that_breaks_off_does_nothing(api: Api, case: bytes) -> None:
    async with api.wire() as wire:
        await wire.send(case)
        wire.writer.write_eof()
        answer = await wire.rest()
        assert all(status < 500 for status in statuses(answer))
    assert (await api.try_log_in()).status == 401
    await check_alive(api)


async def test_several_requests_sent_at_once_are_answered_in_their_order(api: Api) -> None:
    async with api.wire() as wire:
        await wire.send(get() + get(path=b"/nowhere") + post(b"{}") + post(padded(200)) + get(path=b"/v1/users/me"))
        assert [(await wire.answer()).status for _ in range(5)] == [200, 404, 422, 201, 401]


async def test_a_connection_goes_on_after_a_refusal(api: Api) -> None:
    async with api.wire() as wire:
        for body, expected in (
            (b"{", MALFORMED_BODY),
            (b"{}", INVALID),
            (padded(200), (201, "")),
            (padded(200), (409, "email-taken")),
        ):
            await wire.send(post(body))
            assert (await wire.answer()).outcome == expected


# Whatever bytes and whatever JSON there may be

ENDPOINTS = [
    *WITH_BODY,
    ("GET", ME),
    ("DELETE", "/v1/sessions/x"),
    ("GET", "/v1/sessions"),
    ("GET", "/problems/x"),
    ("GET", "/nowhere"),
    ("PUT", "/v1/users"),
]
TEXTS = st.text(st.characters(codec=None), max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from(["name", "email", "password", "current_password", "", "Name"]) | TEXTS
examples = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def statuses(data: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"^HTTP/\d\.\d (\d{3}) ", data, re.MULTILINE)]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
@given(data=st.data())
@examples
async def test_whatever_bytes_a_body_holds_are_judged(api: Api, method: str, path: str, data: st.DataObject) -> None:
    body = data.draw(st.binary(max_size=300))
    token = await api.sign_up(email=f"{uuid4()}@example.com")
    assert (await api.call(method, path, data=body, token=token)).status < 500


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
@given(data=st.data())
@examples
async def test_whatever_json_a_body_holds_is_judged(api: Api, method: str, path: str, data: st.DataObject) -> None:
    body = data.draw(st.dictionaries(NAMES, VALUES, max_size=5) | VALUES)
    token = await api.sign_up(email=f"{uuid4()}@example.com")
    answer = await api.call(method, path, data=json.dumps(body).encode(), token=token)
    assert answer.status in {200, 201, 401, 403, 409, 422}
    if not isinstance(body, dict):
        assert answer.faults == [("#", "wrong_type")]


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "X-Request-ID",
        "User-Agent",
        "Content-Type",
        "If-Match",
        "If-None-Match",
        "Expect",
        "Accept",
        "Cookie",
        "Host",
    ],
)
@given(value=st.binary(max_size=80))
@examples
async def test_whatever_a_header_holds_is_judged(api: Api, name: str, value: bytes) -> None:
    for start in (b"GET /v1/users/me", b"GET /problems/not-found", b"POST /v1/users"):
        async with api.wire() as wire:
            await wire.send(start + b" HTTP/1.1\r\n%s: %s\r\n" % (name.encode(), value))
            await wire.send(b"Connection: close\r\n\r\n" if name == "Host" else b"Host: x\r\nConnection: close\r\n\r\n")
            answer = await wire.answer()
            assert answer.status < 500


@given(target=st.binary(max_size=60))
@examples
async def test_whatever_a_path_holds_is_judged(api: Api, target: bytes) -> None:
    for start in (
        b"GET /",
        b"DELETE /v1/sessions/",
        b"DELETE /v1/sessions?except=",
        b"GET /problems/",
        b"GET //",
        b"GET http:",
    ):
        async with api.wire() as wire:
            await wire.send(start + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            wire.writer.write_eof()
            answer = await wire.rest()
            assert all(status < 500 for status in statuses(answer)), answer
            assert b"\r\nServer:" not in answer


@pytest.mark.requirement(80)
@given(
    sent=st.lists(
        st.binary(max_size=60) | st.sampled_from([get(), post(b"{}"), post(b"", sized=False), b"\r\n", b"0\r\n\r\n"]),
        max_size=6,
    )
)
@examples
async def test_whatever_is_sent_is_judged_and_others_are_served(api: Api, sent: list[bytes]) -> None:
    async with api.wire() as wire:
        await wire.send(b"".join(sent))
        wire.writer.write_eof()
        answer = await wire.rest()
        assert all(status < 500 for status in statuses(answer)), answer
        assert b"\r\nServer:" not in answer
    assert (await api.call("GET", "/livez")).status == 200


# Clients that are slow, on either kind of event loop that the service runs on

Scenario = Coroutine[Any, Any, None]
LOOPS: dict[str, Callable[[Scenario], None]] = {"asyncio": asyncio.run}

try:
    import uvloop
except ImportError:  # not on every interpreter
    pass
else:
    LOOPS["uvloop"] = uvloop.run

on_each_loop = pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS.keys())
SHORT = 0.15


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make what takes ten seconds short. The time between requests stays long, so that it is not what ends a connection."""
    monkeypatch.setattr(protocol, "HEADER_SECONDS", SHORT)
    monkeypatch.setattr(protocol, "WRITE_SECONDS", SHORT)
    monkeypatch.setattr(protocol, "LINGERING_SECONDS", SHORT)
    monkeypatch.setattr(requests, "BODY_SECONDS", SHORT)


@asynccontextmanager
async def served_meanwhile(api: Api) -> AsyncGenerator[None]:
    """Assert that another client is served for as long as this lasts, and after it."""

    async def go_on() -> int:
        count = 0
        while not over.is_set():
            assert (await api.call("GET", "/livez")).status == 200
            count += 1
        return count

    over = asyncio.Event()
    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        over.set()
        assert await task > 0


async def drip(wire: Wire, data: bytes) -> bytes:
    """Send a byte, wait a little for the end of the connection, and so on; return what came until the end."""
    loop = asyncio.get_running_loop()
    ended = asyncio.create_task(wire.rest())
    for number in range(len(data)):
        if not wire.writer.is_closing():
            wire.writer.write(data[number : number + 1])
        done, _ = await asyncio.wait({ended}, timeout=SHORT / 5)
        if done:
            return ended.result()
    message = f"everything was taken, by {loop.time()}"
    raise AssertionError(message)


SLOW: dict[str, bytes] = {
    "nothing": b"",
    "half a request line": b"GET /li",
    "a request line": b"GET /livez HTTP/1.1\r\n",
    "half a header": b"POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Ty",
    "all but the end": b"GET /livez HTTP/1.1\r\nHost: x\r\n",
    "only empty lines": b"\r\n\r\n",
}


@on_each_loop
@pytest.mark.usefixtures("short_limits")
@cases(SLOW)
def test_a_client_that_does_not_end_its_header_is_cut_off(run: Callable[[Scenario], None], case: bytes) -> None:
    async def scenario() -> None:
        async with serving(MemoryAccounts()) as api, api.wire() as wire, served_meanwhile(api):
            await wire.send(case)
            assert await wire.rest() == b""

    run(scenario())


@on_each_loop
@pytest.mark.usefixtures("short_limits")
def test_a_client_that_sends_its_header_bit_by_bit_is_cut_off(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        async with serving(MemoryAccounts()) as api, served_meanwhile(api):
            async with api.wire() as wire:
                assert await drip(wire, get(b"X: " + b"x" * 200)) == b""
            async with api.wire() as wire:  # and so on its second request
                await wire.send(get())
                assert (await wire.answer()).status == 200
                assert await drip(wire, get(b"X: " + b"x" * 200)) == b""

    run(scenario())


@on_each_loop
@pytest.mark.usefixtures("short_limits")
@pytest.mark.parametrize("apart", [True, False], ids=["after the answer", "with the request before"])
def test_a_client_that_begins_another_request_and_stops_is_cut_off(run: Callable[[Scenario], None], *, apart: bool) -> None:
    async def scenario() -> None:
        async with serving(MemoryAccounts()) as api, api.wire() as wire, served_meanwhile(api):
            await wire.send(get() if apart else get() + b"GET /li")
            assert (await wire.answer()).status == 200
            if apart:
                await wire.send(b"GET /li")
            async with asyncio.timeout(SHORT * 20):
                assert await wire.rest() == b""

    run(scenario())


@on_each_loop
@pytest.mark.parametrize("body", [None, b"{}"], ids=["without a body", "with one"])
def test_a_client_that_has_closed_its_side_after_a_whole_request_is_answered(
    run: Callable[[Scenario], None], body: bytes | None
) -> None:
    async def scenario() -> None:
        async with serving(MemoryAccounts()) as api, api.wire() as wire:
            wire.writer.write(get() if body is None else post(body))
            wire.writer.write_eof()
            assert (await wire.answer()).status == (200 if body is None else 422)
            assert await wire.rest() == b""

    run(scenario())


@on_each_loop
@pytest.mark.usefixtures("short_limits")
@cases({"without bodies": get(), "with bodies": post(b'{"name": 1}'), "with an empty one": post(b"")})
def test_a_client_may_take_its_time_between_requests(run: Callable[[Scenario], None], case: bytes) -> None:
    async def scenario() -> None:
        async with serving(MemoryAccounts()) as api, api.wire() as patient:
            await patient.send(case)
            assert (await patient.answer()).status < 500
            async with api.wire() as silent:  # its end says that the time for a header has gone by
                assert await silent.rest() == b""
            await patient.send(case)
            assert (await patient.answer()).status < 500

    run(scenario())


@on_each_loop
@pytest.mark.usefixtures("short_limits")
@pytest.mark.parametrize("path", [b"/v1/users", b"/v1/sessions"])
@cases({"no body": b"", "half a body": b'{"name":', "nearly all": b" " * 99})
def test_a_client_that_does_not_end_its_body_is_cut_off(run: Callable[[Scenario], None], path: bytes, case: bytes) -> None:
    async def scenario() -> None:
        async with serving(MemoryAccounts()) as api, api.wire() as wire, served_meanwhile(api):
            await wire.send(post(case, b"Content-Length: 100", path=path, sized=False))
            assert (await wire.answer()).outcome == (408, "request-timeout")
            assert await wire.rest() == b""

    run(scenario())


@on_each_loop
@pytest.mark.usefixtures("short_limits")
@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_client_that_sends_its_body_bit_by_bit_is_cut_off(run: Callable[[Scenario], None], *, in_chunks: bool) -> None:
    async def scenario() -> None:
        async with serving(MemoryAccounts()) as api, api.wire() as wire, served_meanwhile(api):
            if in_chunks:
                await wire.send(post(b"", b"Transfer-Encoding: chunked", sized=False))
                answer = await drip(wire, chunked(*[b" "] * 100))
            else:
                await wire.send(post(b"", b"Content-Length: 400", sized=False))
                answer = await drip(wire, b" " * 400)
            assert statuses(answer) == [408]

    run(scenario())


@on_each_loop
@pytest.mark.usefixtures("short_limits")
@cases(
    {
        "unknown path": (post(b"x", b"Content-Length: 100", path=b"/nowhere", sized=False), 404),
        "no token": (post(b"x", b"Content-Length: 100", path=b"/v1/sessions/current/reauthentication", sized=False), 401),
        "GET": (get(b"Content-Length: 100") + b"x", 200),
        "chunks of a GET": (get(b"Transfer-Encoding: chunked") + b"5\r\nx", 200),
        "wrong kind": (post(b"x", b"Content-Length: 100", kind=b"text/plain", sized=False), 415),
        "too large": (post(b"x", b"Content-Length: 100000", sized=False), 413),
    }
)
def test_a_client_does_not_hold_a_connection_by_a_body_that_nobody_reads(
    run: Callable[[Scenario], None], case: tuple[bytes, int]
) -> None:
    async def scenario() -> None:
        sent, expected = case
        async with serving(MemoryAccounts()) as api, api.wire() as wire, served_meanwhile(api):
            await wire.send(sent)
            assert (await wire.answer()).status == expected
            assert await wire.rest() == b""

    run(scenario())


async def ask_for_ever(wire: Wire) -> None:
    while True:
        wire.writer.write(get(path=b"/problems/not-found") * 100)
        await wire.writer.drain()


@on_each_loop
@pytest.mark.usefixtures("short_limits")
def test_answers_that_nobody_reads_do_not_pile_up(run: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "WRITE_SECONDS", 1.0)
    piled = [0]
    watch = protocol.Connection._watch_unread

    def measure(connection: protocol.Connection) -> None:
        if connection.transport is not None:
            piled.append(connection.transport.get_write_buffer_size())
        watch(connection)

    monkeypatch.setattr(protocol.Connection, "_watch_unread", measure)

    async def scenario() -> None:
        async with serving(MemoryAccounts(), send_buffer=8192) as api, api.wire(receive_buffer=4096) as wire:
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(ConnectionError):
                    await ask_for_ever(wire)

    run(scenario())
    # What the event loop takes before it asks for a pause, and the answer that made it ask.
    assert max(piled) < 80 * 1024


@on_each_loop
@pytest.mark.usefixtures("short_limits")
def test_a_client_that_never_reads_its_answers_is_cut_off(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        async with (
            serving(MemoryAccounts(), send_buffer=8192) as api,
            served_meanwhile(api),
            api.wire(receive_buffer=4096) as wire,
        ):
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(ConnectionError):
                    await ask_for_ever(wire)

    run(scenario())


@on_each_loop
@pytest.mark.usefixtures("short_limits")
def test_a_hundred_silent_clients_keep_nobody_waiting(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        async with serving(MemoryAccounts()) as api:
            connections = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(100)]
            try:
                for number, connection in enumerate(connections):
                    connection.setblocking(False)
                    connection.send((b"", b"GET ", post(b"", b"Content-Length: 9", sized=False))[number % 3])
                token = await api.sign_up()
                loop = asyncio.get_running_loop()
                async with asyncio.timeout(PATIENCE):
                    for connection in connections:
                        while await read_some(loop, connection):
                            pass
                assert await api.opens(token)
            finally:
                for connection in connections:
                    connection.close()

    run(scenario())


async def read_some(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bytes:
    try:
        return await loop.sock_recv(connection, 65536)
    except ConnectionError:
        return b""


@pytest.mark.requirement(47, 50, 68, 70)
def test_an_answer_that_breaks_the_conventions_would_be_noticed() -> None:
    # All of the above rests on this function.
    from multidict import CIMultiDict, CIMultiDictProxy  # noqa: PLC0415

    good = {
        "X-Request-ID": str(uuid4()),
        "Cache-Control": "no-store",
        "Content-Type": JSON,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    }

    def check(**headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        found = CIMultiDictProxy(CIMultiDict({**good, **named}))
        check_conventions(Answer(method="GET", status=200, headers=found, body=b'{"status":"ok"}'))

    check()
    for wrong in (
        {"Content_Type": "text/plain"},
        {"Content_Type": "text/html; charset=utf-8"},
        {"Server": "x"},
        {"Access_Control_Allow_Origin": "*"},
        {"Cache_Control": "private"},
        {"X_Request_ID": "1"},
    ):
        with pytest.raises((AssertionError, ValueError)):
            check(**wrong)
