"""An account as plain data of the types that JSON has: what an adapter of one's own stores, in whatever database.

```
account     {"format": 1, "user": …, "credential": …, "sessions": [session …], "challenges": [challenge …],
             "activity": [entry …, newest first], "made_by": hex or null}
user        {"id": UUID, "name": text, "email": address, "email_verified": boolean, "created_at": time, "updated_at": time,
             "pending_email": address or null, "disabled": boolean, "deletes_at": time or null}
address     {"value": text, "key": text}; no two accounts have one key
credential  {"password_hash": text, "epoch": integer, "changed_at": time}
session     {"id": UUID, "digest": hex, "created_at": time, "last_used_at": time, "authenticated_at": time, "client": client}
challenge   {"kind": text, "digest": hex, "expires_at": time}
entry       {"kind": text, "at": time, "client": client, "count": integer}
client      {"ip": text or null, "user_agent": text or null}
```

A time is a text of RFC 3339 in UTC, to the microsecond if need be: ``2026-01-02T03:04:05.678000Z``. All are of one length, so
they sort as texts; so do the ids of users and sessions, by the time at which they were made.

What is dumped is loaded again exactly, and each part by itself as well, so an adapter may keep the user, the credential and
each session in places of their own. A later version of this package loads what an earlier one dumped; members may be added to a
part, and none changes its meaning. An earlier version refuses what it does not know with `NotPortable`, rather than lose it
with the next write. The password's hash and the digests are secrets: keep them where a log or an error does not show them.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from pickguard.domain.model.accounts import Account
from pickguard.domain.model.activity import Activity, ActivityKind
from pickguard.domain.model.challenges import Challenge, ChallengeDigest, ChallengeKind
from pickguard.domain.model.credentials import Credential
from pickguard.domain.model.idempotency import KEY_DIGEST_BYTES, KeyDigest
from pickguard.domain.model.identifiers import SessionId, UserId
from pickguard.domain.model.sessions import Client, Session, SessionDigest
from pickguard.domain.model.users import EmailAddress, PersonName, User

FORMAT: Final = 1

_DIGEST_BYTES: Final = 32
"""Of SHA-256."""

Portable = dict[str, Any]
"""Texts, integers, booleans, None, and lists and dictionaries of them."""

_Part = TypeVar("_Part")


class NotPortable(ValueError):
    """This is not what was dumped: something is missing, is of another form, or is of a later version of this package.

    The message names the part and the member, and no value: it may be a secret.
    """


def dump_account(account: Account) -> Portable:
    """Return all of an account."""
    return {
        "format": FORMAT,
        "user": dump_user(account.user),
        "credential": dump_credential(account.credential),
        "sessions": [dump_session(each) for each in account.sessions],
        "challenges": [_dump_challenge(each) for each in account.challenges],
        "activity": dump_activity(account.activity),
        "made_by": None if account.made_by is None else account.made_by.hex(),
    }


def load_account(dumped: Mapping[str, Any]) -> Account:
    """Return the account that was dumped. Raises `NotPortable`."""
    return _load("the account", _account, dumped, _ACCOUNT)


def dump_user(user: User) -> Portable:
    """Return the user of an account."""
    return {
        "id": str(user.id),
        "name": user.name.value,
        "email": _dump_address(user.email),
        "email_verified": user.email_verified,
        "created_at": _dump_time(user.created_at),
        "updated_at": _dump_time(user.updated_at),
        "pending_email": None if user.pending_email is None else _dump_address(user.pending_email),
        "disabled": user.disabled,
        "deletes_at": None if user.deletes_at is None else _dump_time(user.deletes_at),
    }


def load_user(dumped: Mapping[str, Any]) -> User:
    """Return the user that was dumped. Raises `NotPortable`."""
    return _load("the user", _user, dumped, _USER)


def dump_credential(credential: Credential) -> Portable:
    """Return the credential of an account. It holds the password's hash."""
    return {
        "password_hash": credential.password_hash,
        "epoch": credential.epoch,
        "changed_at": _dump_time(credential.changed_at),
    }


def load_credential(dumped: Mapping[str, Any]) -> Credential:
    """Return the credential that was dumped. Raises `NotPortable`."""
    return _load("the credential", _credential, dumped, _CREDENTIAL)


def dump_session(session: Session) -> Portable:
    """Return one session."""
    return {
        "id": str(session.id),
        "digest": session.digest.hex(),
        "created_at": _dump_time(session.created_at),
        "last_used_at": _dump_time(session.last_used_at),
        "authenticated_at": _dump_time(session.authenticated_at),
        "client": _dump_client(session.client),
    }


def load_session(dumped: Mapping[str, Any]) -> Session:
    """Return the session that was dumped. Raises `NotPortable`."""
    return _load("a session", _session, dumped, _SESSION)


def dump_activity(activity: Sequence[Activity]) -> list[Portable]:
    """Return what happened to an account lately, newest first."""
    return [
        {"kind": each.kind.value, "at": _dump_time(each.at), "client": _dump_client(each.client), "count": each.count}
        for each in activity
    ]


def load_activity(dumped: Sequence[Mapping[str, Any]]) -> tuple[Activity, ...]:
    """Return the activity that was dumped. Raises `NotPortable`."""
    return tuple(_load("an entry of the activity", _entry, each, _ENTRY) for each in dumped)


def _dump_challenge(challenge: Challenge) -> Portable:
    return {
        "kind": challenge.kind.value,
        "digest": challenge.digest.hex(),
        "expires_at": _dump_time(challenge.expires_at),
    }


def _dump_address(address: EmailAddress) -> Portable:
    return {"value": address.value, "key": address.key}


def _dump_client(client: Client) -> Portable:
    return {"ip": client.ip, "user_agent": client.user_agent}


def _dump_time(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


# Which members a part has, and with which value those are loaded that an earlier version did not dump.
_MUST: Final = object()
_ACCOUNT: Final = dict.fromkeys(("format", "user", "credential", "sessions", "challenges", "activity", "made_by"), _MUST)
_USER: Final = {
    **dict.fromkeys(("id", "name", "email", "email_verified", "created_at", "updated_at", "pending_email", "disabled"), _MUST),
    "deletes_at": None,
}
_ADDRESS: Final = dict.fromkeys(("value", "key"), _MUST)
_CREDENTIAL: Final = dict.fromkeys(("password_hash", "epoch", "changed_at"), _MUST)
_SESSION: Final = dict.fromkeys(("id", "digest", "created_at", "last_used_at", "authenticated_at", "client"), _MUST)
_CHALLENGE: Final = dict.fromkeys(("kind", "digest", "expires_at"), _MUST)
_ENTRY: Final = dict.fromkeys(("kind", "at", "client", "count"), _MUST)
_CLIENT: Final = dict.fromkeys(("ip", "user_agent"), _MUST)


def _load(what: str, make: Callable[[Portable], _Part], dumped: object, members: Mapping[str, object]) -> _Part:
    if not isinstance(dumped, Mapping):
        raise NotPortable(f"{what} is not an object")
    if unknown := sorted(str(name) for name in dumped.keys() - members.keys()):
        raise NotPortable(f"{what} has members that this version does not know: {', '.join(unknown)}")
    if missing := sorted(name for name, default in members.items() if default is _MUST and name not in dumped):
        raise NotPortable(f"{what} lacks {', '.join(missing)}")
    return make({**members, **dumped})


def _account(dumped: Portable) -> Account:
    if _integer(dumped, "format") != FORMAT:
        raise NotPortable(f"the account is not of the format {FORMAT}, which is all that this version knows")
    made_by = dumped["made_by"]
    return Account(
        user=load_user(dumped["user"]),
        credential=load_credential(dumped["credential"]),
        sessions=tuple(load_session(each) for each in _list(dumped, "sessions")),
        challenges=tuple(_load("a challenge", _challenge, each, _CHALLENGE) for each in _list(dumped, "challenges")),
        activity=load_activity(_list(dumped, "activity")),
        made_by=None if made_by is None else KeyDigest(_bytes(dumped, "made_by", KEY_DIGEST_BYTES)),
    )


def _user(dumped: Portable) -> User:
    pending = dumped["pending_email"]
    return User(
        id=UserId(_uuid(dumped, "id")),
        name=PersonName(_text(dumped, "name")),
        email=_load("an address", _address, dumped["email"], _ADDRESS),
        email_verified=_is(dumped, "email_verified"),
        created_at=_time(dumped, "created_at"),
        updated_at=_time(dumped, "updated_at"),
        pending_email=None if pending is None else _load("an address", _address, pending, _ADDRESS),
        disabled=_is(dumped, "disabled"),
        deletes_at=None if dumped["deletes_at"] is None else _time(dumped, "deletes_at"),
    )


def _address(dumped: Portable) -> EmailAddress:
    return EmailAddress(value=_text(dumped, "value"), key=_text(dumped, "key"))


def _credential(dumped: Portable) -> Credential:
    return Credential(
        password_hash=_text(dumped, "password_hash"), epoch=_integer(dumped, "epoch"), changed_at=_time(dumped, "changed_at")
    )


def _session(dumped: Portable) -> Session:
    return Session(
        id=SessionId(_uuid(dumped, "id")),
        digest=SessionDigest(_bytes(dumped, "digest", _DIGEST_BYTES)),
        created_at=_time(dumped, "created_at"),
        last_used_at=_time(dumped, "last_used_at"),
        authenticated_at=_time(dumped, "authenticated_at"),
        client=_load("a client", _client, dumped["client"], _CLIENT),
    )


def _challenge(dumped: Portable) -> Challenge:
    return Challenge(
        kind=_read(dumped, "kind", ChallengeKind),
        digest=ChallengeDigest(_bytes(dumped, "digest", _DIGEST_BYTES)),
        expires_at=_time(dumped, "expires_at"),
    )


def _entry(dumped: Portable) -> Activity:
    return Activity(
        kind=_read(dumped, "kind", ActivityKind),
        at=_time(dumped, "at"),
        client=_load("a client", _client, dumped["client"], _CLIENT),
        count=_integer(dumped, "count"),
    )


def _client(dumped: Portable) -> Client:
    return Client(
        ip=None if dumped["ip"] is None else _text(dumped, "ip"),
        user_agent=None if dumped["user_agent"] is None else _text(dumped, "user_agent"),
    )


def _read(dumped: Portable, member: str, read: Callable[[Any], _Part]) -> _Part:
    try:
        return read(dumped[member])
    except (ValueError, TypeError, AttributeError):
        raise NotPortable(f"{member} is not of the form that was dumped, or of a later version") from None


def _of(dumped: Portable, member: str, kind: type[_Part]) -> _Part:
    if type(dumped[member]) is not kind:
        raise NotPortable(f"{member} is not of the form that was dumped")
    value: _Part = dumped[member]
    return value


def _text(dumped: Portable, member: str) -> str:
    return _of(dumped, member, str)


def _is(dumped: Portable, member: str) -> bool:
    return _of(dumped, member, bool)


def _list(dumped: Portable, member: str) -> list[Any]:
    return _of(dumped, member, list)


def _integer(dumped: Portable, member: str) -> int:
    # A database may give a number of a type of its own, such as the Decimal of DynamoDB.
    number = _read(dumped, member, int)
    if isinstance(dumped[member], bool | str) or number != dumped[member]:
        raise NotPortable(f"{member} is not of the form that was dumped")
    return number


def _uuid(dumped: Portable, member: str) -> UUID:
    return _read(dumped, member, UUID)


def _bytes(dumped: Portable, member: str, size: int) -> bytes:
    value = _read(dumped, member, bytes.fromhex)
    if len(value) != size:
        raise NotPortable(f"{member} has not the {size} bytes that it is made of")
    return value


def _time(dumped: Portable, member: str) -> datetime:
    moment = _read(dumped, member, datetime.fromisoformat)
    if moment.tzinfo is None:
        raise NotPortable(f"{member} is a time without a zone")
    return moment.astimezone(UTC)
