"""All that is held about a user, as the JSON document that they are given."""

from collections.abc import Mapping
from typing import Annotated, Final, TypedDict

import orjson

from pickguard.domain.model.challenges import ChallengeKind
from pickguard.domain.model.credentials import HashScheme
from pickguard.domain.model.idempotency import Registered
from pickguard.domain.model.limits import Failures
from pickguard.domain.model.sessions import SessionRules
from pickguard.domain.model.tries import FromSource
from pickguard.domain.services.exports import DataExport
from pickguard.entrypoints.http.problems import time_text
from pickguard.entrypoints.http.schemas import (
    ShownEntry,
    ShownSession,
    ShownWholeUser,
    shown_entry,
    shown_session,
    shown_whole_user,
)
from pickguard.entrypoints.http.shapes import TIME, described

FORMAT: Final = 1
"""Grows where a member of an export changes its meaning or goes. New members do not count."""

WITHHELD: Final[Mapping[str, str]] = {
    "password.hash": "The hash of the password, with its salt: whoever has it can try passwords without end.",
    "sessions.token_digest": "The SHA-256 digest of each session's token: it is of use to the service only.",
    "mailed_tokens.digest": "The SHA-256 digest of each mailed token: it is of use to the service only.",
    "registration.digests": (
        "A digest of the Idempotency-Key of the registration, and a hash of what was asked, the password included."
    ),
    "limits.sources": "Digests of the addresses that wrong passwords came from, where the address itself is not kept.",
    "claim": "That the e-mail address is this account's: a digest of the address, the user's id, and a time.",
    "versions": "How often the account was written, and random ids of the last 8 writes.",
}
"""What is held about a user and is not in an export, and why."""

_NOW: Final = "2026-11-22T17:55:06.530Z"


class ShownExportedUser(ShownWholeUser):
    """The user, with all that is kept about them."""


class ShownHashing(TypedDict):
    """How the password was hashed."""

    algorithm: Annotated[str | None, described("The function, as the stored hash names it.", example="argon2id")]
    parameters: Annotated[
        dict[str, int], described("Its costs, by their short names.", example={"v": 19, "m": 19456, "t": 2, "p": 1})
    ]


class ShownPassword(TypedDict):
    """What is kept of the password, but for its hash."""

    set_at: Annotated[str, described("When it was set, in UTC.", **TIME, example=_NOW)]
    number: Annotated[int, described("Which password of the account it is, from 1 on.", example=1)]
    hashed_with: ShownHashing


class ShownMailedToken(TypedDict):
    """A token that was mailed and not used yet."""

    purpose: Annotated[str, described("What it proves.", enum=[kind.value for kind in ChallengeKind], example="verify_address")]
    expires_at: Annotated[str, described("Until when, in UTC.", **TIME, example=_NOW)]


class ShownRegistration(TypedDict):
    """What is kept of the request that made the account."""

    named_itself: Annotated[bool, described("Whether it had an Idempotency-Key.", example=True)]
    remembered: Annotated[bool, described("Whether that is still remembered, which it is for a day.", example=False)]
    registered_at: Annotated[str | None, described("The answer that is remembered, in UTC.", **TIME, example=_NOW)]


class ShownTriesFromSource(TypedDict):
    """Wrong passwords from one client address."""

    in_a_row: Annotated[int, described("How many, since the last right one.", example=2)]
    last_at: Annotated[str | None, described("When the last of these was, in UTC.", **TIME, example=_NOW)]
    last_ip: Annotated[str | None, described("From which address, where that is kept.", example="192.0.2.7")]
    recent: Annotated[list[str], described("When each of the recent ones was, in UTC.", example=[_NOW])]


class ShownTries(TypedDict):
    """The wrong passwords for the account, as far as they are counted."""

    in_a_row: Annotated[int, described("How many, since the last right one.", example=2)]
    last_at: Annotated[str | None, described("When the last of these was, in UTC.", **TIME, example=_NOW)]
    last_ip: Annotated[str | None, described("From which address it came.", example="192.0.2.7")]
    from_sources: list[ShownTriesFromSource]


class ShownLimits(TypedDict):
    """What is counted for the user, to be limited."""

    wrong_passwords: ShownTries
    mails: Annotated[list[str], described("When mails to the address were counted, in UTC.", example=[_NOW])]
    mails_that_reset_nothing: Annotated[list[str], described("Those that reset no password.", example=[_NOW])]
    exports: Annotated[list[str], described("When exports were counted, in UTC.", example=[_NOW])]


class ShownExport(TypedDict):
    """All that is held about a user, but for what is named in withheld."""

    format: Annotated[int, described("Grows where a member changes its meaning or goes.", const=FORMAT, example=FORMAT)]
    exported_at: Annotated[str, described("When this was put together, in UTC.", **TIME, example=_NOW)]
    user: ShownExportedUser
    password: ShownPassword
    sessions: list[ShownSession]
    activity: list[ShownEntry]
    mailed_tokens: list[ShownMailedToken]
    registration: ShownRegistration
    limits: ShownLimits
    withheld: Annotated[dict[str, str], described("What else is kept, and why it is not shown.", example=dict(WITHHELD))]


def render_export(export: DataExport, rules: SessionRules) -> bytes:
    """Return all that is held about a user as JSON, indented for people. The same data has the same bytes."""
    account = export.account
    scheme = HashScheme.of(account.credential.password_hash)
    sessions = sorted(account.sessions, key=lambda session: (session.created_at, session.id), reverse=True)
    answer = export.receipt.answer if export.receipt else None
    shown: ShownExport = {
        "format": FORMAT,
        "exported_at": time_text(export.at),
        "user": shown_whole_user(account.user),
        "password": {
            "set_at": time_text(account.credential.changed_at),
            "number": account.credential.epoch,
            "hashed_with": {"algorithm": scheme.algorithm, "parameters": dict(scheme.parameters)},
        },
        "sessions": [shown_session(each, rules, export.current) for each in sessions],
        "activity": [shown_entry(each) for each in account.activity],
        "mailed_tokens": [
            {"purpose": each.kind.value, "expires_at": time_text(each.expires_at)}
            for each in sorted(account.challenges, key=lambda challenge: challenge.kind.value)
        ],
        "registration": {
            "named_itself": account.made_by is not None,
            "remembered": export.receipt is not None,
            "registered_at": time_text(answer.at) if isinstance(answer, Registered) else None,
        },
        "limits": {
            "wrong_passwords": {
                **_failures(export.tries.run),
                "from_sources": [
                    _from_source(each) for each in sorted(export.tries.sources, key=lambda source: source.recent.moments)
                ],
            },
            "mails": [time_text(moment) for moment in export.mails],
            "mails_that_reset_nothing": [time_text(moment) for moment in export.other_mails],
            "exports": [time_text(moment) for moment in export.exports],
        },
        "withheld": dict(WITHHELD),
    }
    return orjson.dumps(shown, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


class _ShownFailures(TypedDict):
    in_a_row: int
    last_at: str | None
    last_ip: str | None


def _failures(run: Failures) -> _ShownFailures:
    last_at = None if run.last_at is None else time_text(run.last_at)
    return {"in_a_row": run.count, "last_at": last_at, "last_ip": run.last_source}


def _from_source(source: FromSource) -> ShownTriesFromSource:
    return {**_failures(source.run), "recent": [time_text(moment) for moment in source.recent.moments]}
