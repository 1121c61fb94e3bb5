"""What an error of a use case is to the person who sent a form."""

import math
from http import HTTPStatus
from types import SimpleNamespace

from pickguard.domain.model.errors import (
    AccountsError,
    AddressTaken,
    DeletionPending,
    Fault,
    IdempotencyKeyReused,
    InvalidCredentials,
    InvalidFields,
    RateLimited,
    SessionNotFound,
    TokenSpent,
    WrongPassword,
)
from pickguard.entrypoints.pages.forms import Form
from pickguard.entrypoints.pages.texts import fill, moment_in_words, span_in_words


def refuse(form: Form, error: AccountsError, texts: SimpleNamespace, *, proof: str = "current_password") -> Form:
    """Return the form with what the error says beside the field that it is about. Raises what is about no form.

    `proof` is the field with the password that proves who asks.
    """
    words = texts.refused
    alerts = {
        InvalidCredentials: (words.credentials, HTTPStatus.UNAUTHORIZED),
        IdempotencyKeyReused: (words.again, HTTPStatus.UNPROCESSABLE_ENTITY),
        SessionNotFound: (words.session_not_found, HTTPStatus.NOT_FOUND),
    }
    faults = {
        WrongPassword: (proof, "wrong_password", HTTPStatus.UNPROCESSABLE_ENTITY),
        AddressTaken: ("email", "email_taken", HTTPStatus.CONFLICT),
        TokenSpent: ("token", "token_spent", HTTPStatus.GONE),
    }
    if isinstance(error, DeletionPending):
        alert = fill(words.deletion_pending, at=moment_in_words(error.deletes_at, texts))
        return form.with_values(keep="yes").alerted(alert, HTTPStatus.FORBIDDEN)
    kind = type(error)
    if kind in alerts:
        return form.alerted(*alerts[kind])
    if kind in faults:
        field, code, status = faults[kind]
        form = form.without("token") if kind is TokenSpent else form
        return form.refused(Fault(field=field, code=code, detail=""), status=status)
    if isinstance(error, InvalidFields):
        return form.refused(*error.faults)
    if isinstance(error, RateLimited):
        wait = span_in_words(error.retry_after, texts)
        return form.alerted(fill(words.limited, wait=wait), HTTPStatus.TOO_MANY_REQUESTS)
    raise error


def retry_after(error: AccountsError) -> dict[str, str]:
    """Return the header that says when to try again, where the error does."""
    if not isinstance(error, RateLimited):
        return {}
    return {"Retry-After": str(max(1, math.ceil(error.retry_after.total_seconds())))}
