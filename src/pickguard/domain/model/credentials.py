"""Credentials: the stored verifier of a password, and the rules that a new password must keep."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final, Self

import attrs

from pickguard.domain.model.errors import Fault
from pickguard.domain.model.users import MAX_SHRINKAGE

PASSWORD_MAX_LENGTH = 256
"""Longer than the 64 that NIST SP 800-63B-4 asks for at least, short enough that a flood of them costs little."""

SERVICE_NAME = "pickguard"

_LEAST_LETTERS: Final = 3
"""A shorter word counts only where nothing is put around it: a password may well have no letters but those of "Al"."""


@attrs.frozen(kw_only=True)
class Credential:
    """How a user proves who they are: the hash of a password, never the password.

    `epoch` counts the passwords that the account has had. Whoever verified a password compares it before relying on the
    result: a log-in that began with the old password opens no session after a change. Hashing the same password again
    with other parameters leaves it alone.
    """

    password_hash: str = attrs.field(repr=False)
    epoch: int
    changed_at: datetime


# The forms that a verifier may have, as far as they tell how it was made. No group takes a salt or a digest.
_NUMBER: Final = "[0-9]{1,10}"
_PHC: Final = re.compile(
    rf"\$([a-z0-9-]{{1,32}})\$(?:v=({_NUMBER})\$)?([a-z]{{1,16}}={_NUMBER}(?:,[a-z]{{1,16}}={_NUMBER})*)\$.*"
)
_OTHERS: Final[Mapping[re.Pattern[str], tuple[str, ...]]] = {
    re.compile(rf"(?:(?:bcrypt|bcrypt_sha256)\$)?\$(2[aby])\$({_NUMBER})\$.*"): ("cost",),
    re.compile(rf"(scrypt)\$({_NUMBER})\$[^$]*\$({_NUMBER})\$({_NUMBER})\$.*"): ("n", "r", "p"),
    re.compile(rf"\$?(pbkdf2[a-z0-9_-]{{0,16}})\$({_NUMBER})\$.*"): ("i",),
}


@attrs.frozen(kw_only=True)
class HashScheme:
    """How a password was hashed: the function's name, None where it is not known here, and its costs by their short names."""

    algorithm: str | None = None
    parameters: Mapping[str, int] = attrs.field(factory=dict)

    @classmethod
    def of(cls, password_hash: str) -> Self:
        """Read what a verifier says of itself, without its salt and digest. Never raises."""
        if match := _PHC.fullmatch(password_hash):
            pairs = [each.split("=") for each in match[3].split(",")]
            versions = {} if match[2] is None else {"v": int(match[2])}
            return cls(algorithm=match[1], parameters={**versions, **{name: int(value) for name, value in pairs}})
        for form, names in _OTHERS.items():
            if match := form.fullmatch(password_hash):
                numbers = [int(value) for value in match.groups()[1:]]
                return cls(algorithm=match[1], parameters=dict(zip(names, numbers, strict=True)))
        return cls()


@attrs.frozen(kw_only=True)
class PasswordRules:
    """What a new password must satisfy. No composition rules, on purpose (NIST SP 800-63B-4, section 3.1.1.2)."""

    min_length: int = 8
    """In code points after normalisation. ASVS 5.0 6.2.1 asks for 8 at least; NIST for 15 where nothing else protects."""
    service_name: str = SERVICE_NAME
    """What people know the service by (ASVS 5.0 6.2.11). A password made of that is guessable, as one of `SERVICE_NAME` is."""


def normalise_password(text: str) -> str:
    """Return the password in Unicode normalisation form C, otherwise untouched (NIST SP 800-63B-4, section 3.1.1.2).

    What is too long whatever its normalisation is returned as it is: a long run of combining marks takes quadratic time.
    """
    return text if len(text) > MAX_SHRINKAGE * PASSWORD_MAX_LENGTH else unicodedata.normalize("NFC", text)


def is_too_long(text: str) -> bool:
    """Tell whether a password has more code points than one may have, after normalisation."""
    return len(normalise_password(text)) > PASSWORD_MAX_LENGTH


def too_long_fault(field: str) -> Fault:
    """Return the fault of a password that is longer than any can be."""
    detail = f"A password has at most {PASSWORD_MAX_LENGTH} characters."
    return Fault(field=field, code="password_too_long", detail=detail)


def new_password_faults(
    text: str,
    *,
    rules: PasswordRules,
    is_common: Callable[[str], bool],
    context: Iterable[str] = (),
    field: str = "password",
) -> tuple[Fault, ...]:
    """Return every rule that `text` breaks as a new password.

    `is_common` says whether a password is among the commonly used ones. `context` holds what an attacker would try first,
    the e-mail address and the name; see `is_made_of` for what is guessable then. The names of the service are added. A password
    of the wrong length is not looked at further.
    """

    def fault(code: str, detail: str) -> Fault:
        return Fault(field=field, code=code, detail=detail)

    password = normalise_password(text)
    if any("\ud800" <= char <= "\udfff" for char in password):
        return (fault("invalid_password", "A password has no lone surrogates."),)
    if len(password) < rules.min_length:
        detail = f"A password has at least {rules.min_length} characters. A few words that only you would put together do."
        return (fault("password_too_short", detail),)
    if is_too_long(password):
        return (too_long_fault(field),)
    faults = []
    if is_common(password):
        faults.append(fault("password_too_common", "This is one of the passwords that attackers try first."))
    if is_made_of(password, (*context, rules.service_name, SERVICE_NAME)):
        detail = (
            "A password is not made of your e-mail address, your name or the name of this service. "
            "Digits and signs around them are the first thing that is tried."
        )
        faults.append(fault("password_guessable", detail))
    return tuple(faults)


def is_made_of(password: str, context: Iterable[str]) -> bool:
    """Tell whether a password is nothing but words of its context (NIST SP 800-63B-4, section 3.1.1.2; ASVS 5.0 6.2.11).

    The words are those of `context`; of an e-mail address also its local part, and each label of its domain but the last.
    A password is made of them, in any case and in any width of letters (NFKC), where

    - it is one of the words,
    - or its letters and digits are one of the words, once or several times over: ``ada@example.com``, ``adaada``,
    - or its letters are some of the words one after the other, in any order: ``Pickguard123!``, ``2024-ada.example``. Here a
      word counts by its letters, and only if it has three of them.

    A password that has other letters beside is not, whatever words are in it: a phrase may contain one's name.
    """
    words = _words(context)
    folded = _folded(password)
    if folded.strip() in {word.strip() for word in words}:
        return True
    kept = _only(folded, "LMN")
    if any(_is_repeated(kept, _only(word, "LMN")) for word in words):
        return True
    parts = {_only(word, "LM") for word in words}
    return _is_sequence(_only(folded, "LM"), frozenset(part for part in parts if len(part) >= _LEAST_LETTERS))


def _words(context: Iterable[str]) -> set[str]:
    # What is longer than any password can be is no part of one. To normalise it could take quadratic time.
    words = {word for word in context if len(word) <= MAX_SHRINKAGE * PASSWORD_MAX_LENGTH}
    for local_part, at, domain in [word.rpartition("@") for word in words]:
        if at:
            words |= {local_part, *domain.split(".")[:-1]}
    return {_folded(word) for word in words if word.strip()}


def _folded(text: str) -> str:
    """Return what is the same for all spellings of a text: compatibility forms and case do not count."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _only(text: str, kinds: str) -> str:
    """Return the characters of these kinds: L for letters, M for the marks on them, N for digits and other numbers."""
    return "".join(char for char in text if unicodedata.category(char)[0] in kinds)


def _is_repeated(text: str, word: str) -> bool:
    return bool(text and word) and text == word * (len(text) // len(word))


def _is_sequence(text: str, words: frozenset[str]) -> bool:
    """Tell whether a text is some of the words, one after the other. Takes time by its length times the number of words."""
    ends = {0}
    for at in range(len(text)):
        if at in ends:
            ends |= {at + len(word) for word in words if text.startswith(word, at)}
    return bool(text) and len(text) in ends
