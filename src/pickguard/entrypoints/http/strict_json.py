"""JSON as RFC 8259 has it, and no more than that.

The standard library's parser does the work, with its extensions closed: it would take the last of two equal keys, NaN and
Infinity, and any depth. A parser that refuses lone surrogates in strings, as orjson does, is no choice here: such a string is
JSON, and which field may not hold it is for the field's own rule to say.
"""

import json
import math
import re
from typing import Any, NoReturn

MAX_DEPTH = 16
MAX_NUMBER_LENGTH = 308
"""Digits of the largest power of ten that a double can hold; a number written longer than that helps nobody."""

# A string may lack its closing quote: a pattern that then failed would be tried again at every quote, in quadratic time.
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


class JsonError(ValueError):
    """The text is not JSON, or JSON of a kind that is refused. The message says what is wrong, without quoting the text."""


def parse(data: bytes) -> Any:
    """Return what a JSON text in UTF-8 says; `JsonError` if it is none.

    Refused: a byte order mark, duplicate keys, NaN and Infinity, numbers that overflow a double or have hundreds of digits,
    and more than `MAX_DEPTH` levels, of which the outermost array or object is the first.
    """
    if not data.strip(b" \t\r\n"):
        raise JsonError("the body is empty")
    if data.startswith(b"\xef\xbb\xbf"):
        raise JsonError("the body starts with a byte order mark")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonError(f"the body is not UTF-8: byte {error.start} does not belong there") from None
    _check_depth(text)
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except json.JSONDecodeError as error:
        raise JsonError(f"the body is not JSON: line {error.lineno}, column {error.colno}") from None


def _check_depth(text: str) -> None:
    depth = 0
    for match in _TOKENS.finditer(text):
        sign = match[0]
        if sign in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise JsonError(f"the body is nested more than {MAX_DEPTH} levels deep")
        elif sign in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise JsonError("an object in the body has the same key twice")
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise JsonError("the body holds NaN or Infinity, which JSON has not")


def _float(text: str) -> float:
    value = float(text) if len(text) <= MAX_NUMBER_LENGTH else math.inf
    if math.isinf(value):
        raise JsonError("a number in the body is too large or too long")
    return value


def _int(text: str) -> int:
    if len(text) > MAX_NUMBER_LENGTH:
        raise JsonError("a number in the body is too large or too long")
    return int(text)
