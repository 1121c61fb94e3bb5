"""What the pages say: every text in one file, which a file of one's own can replace in part or as a whole."""

import math
import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

FILE: Final = "texts.toml"
_OWN: Final = Path(__file__).with_name(FILE)
_PLACE: Final = re.compile(r"\{([a-z_]+)\}")


class TextsError(ValueError):
    """A file of texts cannot be used. The message is one line for a person, and names the text."""


def load_texts(directory: Path | None) -> SimpleNamespace:
    """Return the texts as attributes, each section an attribute of its own. Raises `TextsError`.

    A text of one's own may leave out what stands in braces, but not use what the text here does not have.
    """
    texts = _read(_OWN)
    file = None if directory is None else directory / FILE
    if file is not None and file.exists():
        texts = _merged(texts, _read(file), "")
    return _as_attributes(texts)


def fill(text: str, **values: object) -> str:
    """Put values in the places of a text. What a value says is never looked at for places again."""
    return _PLACE.sub(lambda place: str(values.get(place[1], place[0])), text)


def moment_in_words(at: datetime, texts: SimpleNamespace, form: str | None = None) -> str:
    """Write a time in UTC, in the form of the texts for a moment or in another one of theirs."""
    at = at.astimezone(UTC)
    return fill(
        texts.time.format if form is None else form,
        day=at.day,
        month=texts.time.months[at.month - 1],
        year=at.year,
        hour=f"{at:%H}",
        minute=f"{at:%M}",
    )


def span_in_words(span: timedelta, texts: SimpleNamespace) -> str:
    """Write how long something takes, rounded up to a unit of which it has more than two."""
    words = texts.wait
    units = ((timedelta(days=1), words.days), (timedelta(hours=1), words.hours), (timedelta(minutes=1), words.minutes))
    unit, text = next((each for each in units if span > 2 * each[0]), (timedelta(seconds=1), words.seconds))
    return fill(text, number=max(2, math.ceil(span / unit)))


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise TextsError(f"{FILE} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TextsError(f"{FILE} is not text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise TextsError(" ".join(f"{FILE}: {error}".split())) from None


def _merged(texts: Mapping[str, Any], given: Mapping[str, Any], section: str) -> dict[str, Any]:
    found = dict(texts)
    for name, value in given.items():
        where = f"{section}{name}"
        if name not in texts:
            raise TextsError(f"{FILE}: there is no text {where}")
        known = texts[name]
        if isinstance(known, dict) and isinstance(value, dict):
            found[name] = _merged(known, value, f"{where}.")
            continue
        _check(where, known, value)
        found[name] = value
    return found


def _check(where: str, known: object, value: object) -> None:
    if isinstance(known, list):
        if not isinstance(value, list) or len(value) != len(known) or not all(isinstance(each, str) for each in value):
            raise TextsError(f"{FILE}: {where} must be a list of {len(known)} texts")
        return
    if isinstance(known, dict) or not isinstance(value, str):
        raise TextsError(f"{FILE}: {where} must be a {'section' if isinstance(known, dict) else 'text'}")
    strange = sorted(set(_PLACE.findall(value)) - {"service"} - set(_PLACE.findall(str(known))))
    if strange:
        raise TextsError(f"{FILE}: {where} has no {{{strange[0]}}} to show")


def _as_attributes(texts: Mapping[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(
        **{name: _as_attributes(value) if isinstance(value, dict) else value for name, value in texts.items()}
    )
