"""Checks what a person typed, all fields at once, so that one answer names every fault."""

from collections.abc import Callable
from typing import TypeVar

import attrs

from pickguard.domain.model.credentials import (
    PasswordRules,
    is_too_long,
    new_password_faults,
    normalise_password,
    too_long_fault,
)
from pickguard.domain.model.errors import Fault, InvalidFields
from pickguard.domain.model.users import EMAIL_MAX_LENGTH, EmailAddress, PersonName, User
from pickguard.ports.passwords import CommonPasswords

Parsed = TypeVar("Parsed")


@attrs.frozen(kw_only=True)
class Examined:
    """What the fields say, as far as they are sound, and every fault that was found. A password is normalised here."""

    name: PersonName | None
    email: EmailAddress | None
    password: str | None = attrs.field(repr=False)
    current_password: str | None = attrs.field(repr=False)
    faults: tuple[Fault, ...]

    def raise_faults(self) -> None:
        """Raise `InvalidFields` if anything was at fault."""
        if self.faults:
            raise InvalidFields(self.faults)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class FieldExaminer:
    """Applies the rules of the fields. Fields that are not given (None) are not examined."""

    _rules: PasswordRules
    _common_passwords: CommonPasswords

    def new_account(self, *, name: str | None, email: str | None, password: str | None) -> Examined:
        """Examine what a registration brings."""
        return self._examine(name=name, email=email, password=password, context=[])

    def changes(
        self, user: User, *, name: str | None, email: str | None, password: str | None, current_password: str | None
    ) -> Examined:
        """Examine what a change of the user brings: another address or password needs the current one as proof."""
        examined = self._examine(name=name, email=email, password=password, context=_words_of(user))
        faults = list(examined.faults)
        if current_password is None:
            if email is not None or password is not None:
                detail = "The current password is needed to change the e-mail address or the password."
                faults.append(Fault(field="current_password", code="required", detail=detail))
        else:
            faults += self.proof_faults(current_password, field="current_password")
            current_password = normalise_password(current_password)
        return attrs.evolve(examined, current_password=current_password, faults=tuple(faults))

    def new_password(self, user: User, password: str) -> Examined:
        """Examine a new password of a user."""
        return self._examine(name=None, email=None, password=password, context=_words_of(user))

    def log_in_faults(self, *, email: str | None, password: str | None) -> tuple[Fault, ...]:
        """Return what is wrong with a log-in before it is tried: the upper lengths only, which bound its cost."""
        faults = []
        if email is not None and len(email) > EMAIL_MAX_LENGTH:
            detail = f"An e-mail address has at most {EMAIL_MAX_LENGTH} characters."
            faults.append(Fault(field="email", code="invalid_email", detail=detail))
        if password is not None:
            faults += self.proof_faults(password, field="password")
        return tuple(faults)

    def proof_faults(self, password: str, *, field: str) -> tuple[Fault, ...]:
        """Return what is wrong with a password that is given as proof: only that it is longer than any can be."""
        return (too_long_fault(field),) if is_too_long(password) else ()

    def _examine(self, *, name: str | None, email: str | None, password: str | None, context: list[str]) -> Examined:
        faults: list[Fault] = []

        def parse(parser: Callable[[str], Parsed], text: str | None) -> Parsed | None:
            if text is None:
                return None
            try:
                return parser(text)
            except InvalidFields as error:
                faults.extend(error.faults)
                return None

        parsed_name = parse(PersonName.parse, name)
        parsed_email = parse(EmailAddress.parse, email)
        if password is not None:
            context = [*context, name or "", email or "", (email or "").rpartition("@")[0]]
            if parsed_email:
                context += [parsed_email.value, parsed_email.key, parsed_email.local_part]
            faults += new_password_faults(
                password,
                rules=self._rules,
                is_common=self._common_passwords.contains,
                context=[word for word in context if word],
            )
            password = normalise_password(password)
        return Examined(name=parsed_name, email=parsed_email, password=password, current_password=None, faults=tuple(faults))


def _words_of(user: User) -> list[str]:
    """Return what somebody who knows a user would try first."""
    return [user.name.value, user.email.value, user.email.key, user.email.local_part]
