"""The lines of a file to import: read one by one, however long, and understood or refused with a reason.

A line is a JSON object with the members of `Candidate`. What `pickguard export` writes has ``updated_at`` beside, which is not
taken over. Nothing else may be there: a member that is misspelled must not be lost without a word.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import IO, Any, Final
from uuid import UUID

import attrs

from pickguard.domain.model.errors import AccountsError, AddressTaken, Fault, InvalidFields
from pickguard.domain.services.imports import Candidate
from pickguard.entrypoints.http.strict_json import JsonError, parse

LONGEST_LINE: Final = 16 * 1024
"""In bytes, the end of the line left out. Longer ones are refused unread: no account needs a quarter as much."""

_REQUIRED: Final = ("name", "email", "password_hash")
_IGNORED: Final = frozenset({"updated_at"})


@attrs.frozen(kw_only=True)
class Line:
    """One line: its number, counted from 1, where it begins and ends in the file, and what it holds."""

    number: int
    start: int
    end: int
    content: bytes | None = attrs.field(repr=False)
    """Without the end of the line; None where it is longer than `LONGEST_LINE`."""


def read_lines(file: IO[bytes], *, offset: int, number: int) -> Iterator[Line]:
    """Yield the lines that follow an offset; the next one has this number."""
    file.seek(offset)
    while piece := file.readline(LONGEST_LINE + 2):
        start, content = offset, piece.removesuffix(b"\n").removesuffix(b"\r")
        offset += len(piece)
        is_long = len(content) > LONGEST_LINE
        while not piece.endswith(b"\n") and (piece := file.readline(LONGEST_LINE)):
            is_long = True
            offset += len(piece)
        yield Line(number=number, start=start, end=offset, content=None if is_long else content)
        number += 1


def understand(line: Line) -> Candidate:
    """Return what a line says. Raises `InvalidFields` with all that is wrong with its form."""
    if line.content is None:
        raise _refused("line_too_long", f"A line has at most {LONGEST_LINE:,} bytes.")
    if not line.content.strip():
        raise _refused("empty_line", "The line is empty.")
    try:
        document = parse(line.content)
    except JsonError as error:
        raise _refused("malformed_line", f"{str(error)[0].upper()}{str(error)[1:]}.".replace("body", "line")) from None
    if not isinstance(document, dict):
        raise _refused("wrong_type", "A line is a JSON object.")
    faults = [
        Fault(field=name, code="unknown_field", detail="There is no such member.")
        for name in document
        if name not in _READERS and name not in _IGNORED
    ]
    faults += [
        Fault(field=name, code="required", detail="This member is missing.") for name in _REQUIRED if name not in document
    ]
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name in _READERS:
            try:
                values[name] = _READERS[name](value)
            except InvalidFields as error:
                faults += [attrs.evolve(each, field=name) for each in error.faults]
    if faults:
        raise InvalidFields(tuple(faults))
    return Candidate(**values)


def reasons(error: AccountsError) -> list[dict[str, object]]:
    """Return why a line was refused, as the report has it."""
    if isinstance(error, InvalidFields):
        return [{"field": each.field, "code": each.code, "detail": each.detail} for each in error.faults]
    assert isinstance(error, AddressTaken)  # noqa: S101 (whatever else there is refuses no line)
    detail = "Another account has this address; it was left as it is."
    return [{"field": "email", "code": "email_taken", "detail": detail}]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _refused("wrong_type", "This is a string.")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise _refused("wrong_type", "This is true or false.")
    return value


def _moment(value: object, code: str = "invalid_created_at") -> datetime:
    try:
        return datetime.fromisoformat(_text(value))
    except ValueError:
        raise _refused(code, "This is no time as RFC 3339 has it, such as 2019-05-06T07:08:09Z.") from None


def _end(value: object) -> datetime | None:
    return None if value is None else _moment(value, "invalid_deletes_at")


def _id(value: object) -> UUID:
    try:
        return UUID(_text(value))
    except ValueError:
        raise _refused("invalid_id", "This is no UUID.") from None


_READERS: Final[dict[str, Callable[[object], Any]]] = {
    "name": _text,
    "email": _text,
    "password_hash": _text,
    "email_verified": _truth,
    "created_at": _moment,
    "disabled": _truth,
    "deletes_at": _end,
    "id": _id,
}


def _refused(code: str, detail: str) -> InvalidFields:
    return InvalidFields((Fault(field=None, code=code, detail=detail),))
