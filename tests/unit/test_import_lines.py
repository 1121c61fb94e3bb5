"""The lines of a file to import: whatever they hold, each is understood or refused for reasons."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pickguard.domain.model.errors import AddressTaken, InvalidFields
from pickguard.domain.services.imports import Candidate
from pickguard.entrypoints.commands.lines import LONGEST_LINE, Line, read_lines, reasons, understand
from tests.support.strategies import examples

LEAST = {"name": "Ada", "email": "ada@example.com", "password_hash": "$2b$…"}
ALL = {
    **LEAST,
    "id": "016a8b5f-0000-7000-8000-000000000001",
    "email_verified": True,
    "disabled": True,
    "created_at": "2019-05-06T07:08:09.123Z",
    "updated_at": "whatever",
}


def line_of(content: bytes | None) -> Line:
    return Line(number=1, start=0, end=0, content=content)


def understood(document: object) -> Candidate:
    return understand(line_of(json.dumps(document).encode()))


def codes(content: bytes | None) -> list[tuple[str | None, str]]:
    with pytest.raises(InvalidFields) as refused:
        understand(line_of(content))
    told = reasons(refused.value)
    assert all(set(each) == {"field", "code", "detail"} and each["detail"] for each in told)
    return [(fault.field, fault.code) for fault in refused.value.faults]


def test_a_line_is_a_candidate() -> None:
    assert understood(LEAST) == Candidate(name="Ada", email="ada@example.com", password_hash="$2b$…")
    assert understood(ALL) == Candidate(
        name="Ada",
        email="ada@example.com",
        password_hash="$2b$…",
        email_verified=True,
        disabled=True,
        created_at=datetime(2019, 5, 6, 7, 8, 9, 123000, tzinfo=UTC),
        id=UUID("016a8b5f-0000-7000-8000-000000000001"),
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, [(None, "line_too_long")]),
        (b"", [(None, "empty_line")]),
        (b" \t", [(None, "empty_line")]),
        (b"\xef\xbb\xbf{}", [(None, "malformed_line")]),
        (b'{"name": "\xff"}', [(None, "malformed_line")]),
        (b'{"name": "Ada", "name": "Eve"}', [(None, "malformed_line")]),
        (b'{"name": "Ada"', [(None, "malformed_line")]),
        (b"[" * 5000, [(None, "malformed_line")]),
        (b'{"name": NaN}', [(None, "malformed_line")]),
        (b"[]", [(None, "wrong_type")]),
        (b'"ada"', [(None, "wrong_type")]),
        (b"{}", [("name", "required"), ("email", "required"), ("password_hash", "required")]),
        (json.dumps({**LEAST, "e_mail": 1}).encode(), [("e_mail", "unknown_field")]),
        (json.dumps({**LEAST, "name": None, "disabled": "no"}).encode(), [("name", "wrong_type"), ("disabled", "wrong_type")]),
        (json.dumps({**LEAST, "id": 7}).encode(), [("id", "wrong_type")]),
        (json.dumps({**LEAST, "id": "7"}).encode(), [("id", "invalid_id")]),
        (json.dumps({**LEAST, "created_at": "yesterday"}).encode(), [("created_at", "invalid_created_at")]),
        (json.dumps({**LEAST, "created_at": 12}).encode(), [("created_at", "wrong_type")]),
    ],
)
def test_what_is_no_candidate_is_refused_for_reasons(content: bytes | None, expected: list[tuple[str | None, str]]) -> None:
    assert codes(content) == expected


def test_a_line_that_is_refused_is_not_quoted() -> None:
    with pytest.raises(InvalidFields) as refused:
        understand(line_of(b'{"password_hash": "$2b$secret", "name": 1}'))
    assert "secret" not in str(reasons(refused.value))


def test_an_address_that_is_taken_is_a_reason() -> None:
    assert [each["code"] for each in reasons(AddressTaken())] == ["email_taken"]


def reasons_of(call: Callable[[], Candidate]) -> str:
    """Return why something is refused, in JSON; nothing where it is not."""
    try:
        call()
    except InvalidFields as error:
        return json.dumps(reasons(error))
    return ""


@given(st.one_of(st.binary(max_size=200), st.text().map(lambda text: json.dumps({**LEAST, "created_at": text}).encode())))
@examples(300)
def test_any_bytes_are_understood_or_refused(content: bytes) -> None:
    reasons_of(lambda: understand(line_of(content.replace(b"\n", b""))))


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
)


@given(st.dictionaries(st.one_of(st.sampled_from(sorted(ALL)), st.text()), json_values))
@examples(300)
def test_any_object_is_understood_or_refused(document: dict[str, object]) -> None:
    reasons_of(lambda: understood(document))


lines = st.one_of(
    st.binary(max_size=20).map(lambda content: content.replace(b"\n", b"").replace(b"\r", b"")),
    st.integers(LONGEST_LINE - 2, LONGEST_LINE + 3).map(lambda size: b"x" * size),
    st.integers(2 * LONGEST_LINE, 2 * LONGEST_LINE + 3).map(lambda size: b"x" * size),
)


@given(st.lists(lines, max_size=6), st.sampled_from([b"\n", b"\r\n"]), st.booleans(), st.integers(0, 6))
@examples(200)
def test_every_line_is_read_once_from_wherever_one_begins(
    contents: list[bytes],
    end: bytes,
    ended: bool,  # noqa: FBT001
    skipped: int,
) -> None:
    data = b"".join(content + end for content in contents)
    if contents and contents[-1] and not ended:
        data = data.removesuffix(end)
    found = list(read_lines(io.BytesIO(data), offset=0, number=1))
    assert [line.number for line in found] == list(range(1, len(contents) + 1))
    assert [line.content for line in found] == [content if len(content) <= LONGEST_LINE else None for content in contents]
    assert [line.start for line in found] == [0, *(line.end for line in found)][: len(found)]
    if found:
        assert found[-1].end == len(data)
        begin = min(skipped, len(found) - 1)
        rest = list(read_lines(io.BytesIO(data), offset=found[begin].start, number=begin + 1))
        assert rest == found[begin:]
