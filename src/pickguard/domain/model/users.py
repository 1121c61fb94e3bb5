"""Users: who they are and at which address they are reached."""

import unicodedata
from datetime import datetime, timedelta
from typing import Self

import attrs
from email_validator import EmailNotValidError, validate_email

from pickguard.domain.model.errors import Fault, InvalidFields
from pickguard.domain.model.identifiers import UserId

NAME_MAX_LENGTH = 100
MAX_SHRINKAGE = 4
"""How many code points at most become one in normalisation form C: the longest canonical decomposition has as many."""
EMAIL_MAX_LENGTH = 254
"""RFC 5321, section 4.5.3.1.3: a path of 256 octets, less its two angle brackets."""

# Embeddings, overrides, isolates and the two marks that end them (Unicode Standard Annex 9, sections 2.1 to 2.5).
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Control characters, lone surrogates, line and paragraph separators.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


@attrs.frozen
class PersonName:
    """What a person wants to be called: 1 to 100 characters, in Unicode normalisation form C, without space at the ends."""

    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Normalise and check; `InvalidFields` names the rule that does not hold (code ``invalid_name``)."""
        value = text.strip()
        if len(value) <= MAX_SHRINKAGE * NAME_MAX_LENGTH:  # a long run of combining marks takes quadratic time
            value = unicodedata.normalize("NFC", value).strip()
        if not value:
            raise _invalid("name", "invalid_name", "A name needs at least one character that is not a space.")
        if len(value) > NAME_MAX_LENGTH:
            raise _invalid("name", "invalid_name", f"A name has at most {NAME_MAX_LENGTH} characters.")
        if any(unicodedata.category(char) in _REFUSED_CATEGORIES or char in _BIDI_CONTROLS for char in value):
            detail = "A name has no control characters, no lone surrogates and no marks that change the direction of text."
            raise _invalid("name", "invalid_name", detail)
        return cls(value)


@attrs.frozen
class EmailAddress:
    """An e-mail address as it is shown and mailed to, and the form in which it is compared.

    `value` keeps the local part as it was given and shows an internationalised domain in Unicode. `key` is the same for
    all spellings of one address: lower case, the domain in its ``xn--`` form.
    """

    value: str
    key: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Normalise and check; `InvalidFields` with code ``invalid_email`` where the syntax is not that of an address.

        The local part is ASCII only. RFC 6531 would allow more; leaving it out closes the whole class of take-overs by
        look-alike letters and by letters that change under case mapping. Quoted local parts and address literals are
        refused as well. Nothing is looked up in the DNS.
        """
        if len(text) > EMAIL_MAX_LENGTH:
            raise _invalid("email", "invalid_email", f"An e-mail address has at most {EMAIL_MAX_LENGTH} characters.")
        try:
            checked = validate_email(text, allow_smtputf8=False, check_deliverability=False)
        except ValueError as error:  # EmailNotValidError, and what its IDNA codec raises
            raise _invalid("email", "invalid_email", _sentence(error)) from None
        if checked.ascii_email is None or len(checked.normalized) > EMAIL_MAX_LENGTH:
            raise _invalid("email", "invalid_email", "This is not an e-mail address that mail can be sent to.")
        return cls(value=checked.normalized, key=checked.ascii_email.lower())

    @property
    def local_part(self) -> str:
        """What stands before the at sign."""
        return self.value.rpartition("@")[0]


@attrs.frozen(kw_only=True)
class User:
    """A user as others see it. Times are in UTC, to the millisecond; `updated_at` grows with every change."""

    id: UserId
    name: PersonName
    email: EmailAddress
    email_verified: bool
    created_at: datetime
    updated_at: datetime
    pending_email: EmailAddress | None = None
    """The address that is to take the place of `email` as soon as it has confirmed that. It is no claim on the address."""
    disabled: bool = False
    """Whether nobody can log in to the account, whatever they know."""
    deletes_at: datetime | None = None
    """When the account goes for good, unless it is restored before; None where nobody has asked for that."""

    def is_gone(self, now: datetime) -> bool:
        """Tell whether the time to restore the account is over. A store erases it at that moment by itself."""
        return self.deletes_at is not None and now >= self.deletes_at

    def can_reset(self, now: datetime) -> bool:
        """Tell whether the password can be reset by mail: also while the account can be restored, but not once it is gone."""
        return not self.disabled and not self.is_gone(now)

    def later(self, now: datetime) -> datetime:
        """Return the `updated_at` of a change: later than the last, also where the clock did not move between."""
        return max(now, self.updated_at + timedelta(milliseconds=1))


def _invalid(field: str, code: str, detail: str) -> InvalidFields:
    return InvalidFields((Fault(field=field, code=code, detail=detail),))


def _sentence(error: ValueError) -> str:
    # email-validator's messages are written for people; anything else that it lets through is not.
    text = str(error) if isinstance(error, EmailNotValidError) else "The domain is not a valid one."
    return text.encode("ascii", "backslashreplace").decode()
