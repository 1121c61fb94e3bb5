"""JSON that is taken, JSON that is refused, and what refusing it costs."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pickguard.entrypoints.http.requests import MAX_BODY_BYTES
from pickguard.entrypoints.http.strict_json import MAX_DEPTH, JsonError, parse
from tests.support.strategies import examples, json_values


def nested(levels: int, opening: str = "[", closing: str = "]", core: str = "") -> bytes:
    return (opening * levels + core + closing * levels).encode()


TAKEN: dict[str, tuple[bytes, Any]] = {
    "an object": (b'{"a":1}', {"a": 1}),
    "space around it": (b' \t\r\n{ "a" : [ ] }\n', {"a": []}),
    "a scalar": (b"true", True),
    "a string": ('"é\\u00e9"'.encode(), "éé"),
    "a lone surrogate, escaped": (b'"\\ud800"', "\ud800"),
    "a pair of surrogates, escaped": (b'"\\ud83d\\ude00"', "\N{GRINNING FACE}"),
    "an escaped nul": (b'"\\u0000"', "\0"),
    "the empty key": (b'{"":null}', {"": None}),
    "one key in two objects": (b'[{"a":1},{"a":2}]', [{"a": 1}, {"a": 2}]),
    "keys in two cases": (b'{"a":1,"A":2}', {"a": 1, "A": 2}),
    "brackets in a string": (b'"' + b"[" * 100 + b'"', "[" * 100),
    "brackets and quotes in a string": (b'"\\"' + b"[{" * 50 + b'"', '"' + "[{" * 50),
    "brackets side by side": (b"[" + b"[]," * 100 + b"[]]", [[]] * 101),
    "as deep as may be": (nested(MAX_DEPTH), json.loads(nested(MAX_DEPTH))),
    "objects as deep as may be": (nested(MAX_DEPTH, '{"a":', "}", "1"), json.loads(nested(MAX_DEPTH, '{"a":', "}", "1"))),
    "zero below zero": (b"-0", 0),
    "the largest double": (b"1.7976931348623157e308", 1.7976931348623157e308),
    "what rounds to zero": (b"1e-400", 0.0),
    "a large integer": (b"1" + b"0" * 300, 10**300),
}


@pytest.mark.parametrize(("data", "value"), TAKEN.values(), ids=TAKEN)
def test_json_is_taken(data: bytes, value: object) -> None:
    assert parse(data) == value


REFUSED: dict[str, bytes] = {
    "nothing": b"",
    "space": b" \r\n\t",
    "a byte order mark": b'\xef\xbb\xbf{"a":1}',
    "a byte order mark alone": b"\xef\xbb\xbf",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"a":1}'.encode("utf-16-le"),
    "Latin-1": '"é"'.encode("latin-1"),
    "an overlong form": b'"\xc0\xaf"',
    "a lone surrogate in UTF-8": b'"\xed\xa0\x80"',
    "a cut character": b'"\xe2\x82"',
    "no JSON": b"hello",
    "Python": b"{'a': True}",
    "a comment": b"{} // no",
    "a second text": b"{} {}",
    "a comma too many": b'{"a":1,}',
    "a key without quotes": b"{a:1}",
    "single quotes": b"{'a':1}",
    "an open object": b'{"a":1',
    "an open string": b'{"a":"',
    "closing brackets": b"]]]]",
    "a line break in a string": b'"a\nb"',
    "a nul": b'{"a":1}\0',
    "a nul in a string": b'"\0"',
    "an unknown escape": b'"\\x41"',
    "half an escape": b'"\\u12"',
    "NaN": b"[NaN]",
    "Infinity": b'{"a":Infinity}',
    "-Infinity": b"-Infinity",
    "a leading zero": b"01",
    "a leading plus": b"+1",
    "a hexadecimal number": b"0x10",
    "a point without digits": b"1.",
    "digits of another script": "\N{ARABIC-INDIC DIGIT ONE}".encode(),
    "too large a number": b"[1e309]",
    "too small a number": b"-1e400",
    "a number of thousands of digits": b"1" * 5000,
    "a fraction of thousands of digits": b"0." + b"1" * 5000,
    "an exponent of thousands of digits": b"1e" + b"1" * 5000,
    "a key twice": b'{"a":1,"a":1}',
    "a key twice, once escaped": b'{"a":1,"\\u0061":2}',
    "a key twice, deep inside": b'[[{"b":{"a":1,"a":2}}]]',
    "space that is none": "\u00a0{}".encode(),
    "one level too many": nested(MAX_DEPTH + 1),
    "objects one level too deep": nested(MAX_DEPTH + 1, '{"a":', "}", "1"),
    "deep after a string with a quote": b'["\\"",' + nested(MAX_DEPTH) + b"]",
    "very deep": nested(8000),
    "very deep and open": b"[" * 16_000,
    "very deep behind a quote": b'"' + b"[" * 16_000,
    "very deep behind closing brackets": b"]" * 100 + b"[" * 10_000,
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_is_not_strictly_json_is_refused(data: bytes) -> None:
    with pytest.raises(JsonError) as refused:
        parse(data)
    assert str(refused.value).isascii()
    assert "\n" not in str(refused.value)


def depth(value: object) -> int:
    inner: list[object] = []
    if isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    else:
        return 0
    return 1 + max(map(depth, inner), default=0)


@examples(40)
@given(json_values, st.booleans())
def test_what_json_writes_is_read_as_it_was(value: object, ascii_only: bool) -> None:  # noqa: FBT001
    text = json.dumps(value, ensure_ascii=ascii_only)
    if depth(value) > MAX_DEPTH:
        with pytest.raises(JsonError):
            parse(text.encode("utf-8", "surrogatepass"))
    elif ascii_only or all(not 0xD800 <= ord(char) <= 0xDFFF for char in text):
        assert parse(text.encode()) == value


@examples(40)
@given(st.one_of(st.binary(max_size=40), st.text(alphabet='{}[]",:\\ 01eE.-truefalsn\n', max_size=40).map(str.encode)))
def test_any_bytes_are_json_or_refused_and_nothing_else_happens(data: bytes) -> None:
    try:
        value = parse(data)
    except JsonError:
        return
    assert value == json.loads(data)


COSTLY = {
    "escaped quotes in an open string": b'"' + b'\\"' * (MAX_BODY_BYTES // 2 - 1),
    "escaped quotes and half an escape in an open string": b'"' + b'\\"' * (MAX_BODY_BYTES // 2 - 1) + b"\\",
    "backslashes in an open string": b'"' + b"\\" * (MAX_BODY_BYTES - 2),
    "quotes": b'"' * MAX_BODY_BYTES,
    "opening brackets": b"[" * MAX_BODY_BYTES,
    "digits": b"1" * MAX_BODY_BYTES,
    "pairs of brackets": b"[]" * (MAX_BODY_BYTES // 2),
    "escapes": b'"' + b"\\u0041" * (MAX_BODY_BYTES // 6),
}


@pytest.mark.parametrize("data", COSTLY.values(), ids=COSTLY)
def test_no_body_takes_long_to_be_refused(data: bytes) -> None:
    # A worker answers nobody else meanwhile. Every one of these takes about a millisecond where the time is linear.
    began = time.process_time()
    with pytest.raises(JsonError):
        parse(data)
    assert time.process_time() - began < 0.1
