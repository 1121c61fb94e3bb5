"""Credentials: the stored verifier of a password, and the rules that a new password must keep."""

import unicodedata
from collections.abc import Callable, Iterable
from datetime import datetime

import attrs

from pickguard.domain.model.errors import Fault
from pickguard.domain.model.users import MAX_SHRINKAGE

PASSWORD_MAX_LENGTH = 256
"""Longer than the 64 that NIST SP 800-63B-4 asks for at least, short enough that a flood of them costs little."""

SERVICE_NAME = "pickguard"


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


@attrs.frozen(kw_only=True)
class PasswordRules:
    """What a new password must satisfy. No composition rules, on purpose (NIST SP 800-63B-4, section 3.1.1.2)."""

    min_length: int = 8
    """In code points after normalisation. ASVS 5.0 6.2.1 asks for 8 at least; NIST for 15 where nothing else protects."""


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

    `is_common` says whether a password is among the commonly used ones. `context` holds what an attacker would try first:
    the e-mail address, its local part, the name; a password equal to one of them in any case is guessable, and so is the
    name of the service. A password of the wrong length is not looked at further.
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
    folded = password.casefold()
    if any(folded == normalise_password(word).strip().casefold() for word in (*context, SERVICE_NAME)):
        detail = "A password is not your e-mail address, your name or the name of this service."
        faults.append(fault("password_guessable", detail))
    return tuple(faults)
