"""An export holds all that is held about a user, and no secret."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import attrs
import pytest

from pickguard.domain.model.accounts import Account
from pickguard.domain.model.activity import Activity, ActivityKind
from pickguard.domain.model.challenges import Challenge, ChallengeDigest, ChallengeKind
from pickguard.domain.model.credentials import Credential, HashScheme
from pickguard.domain.model.errors import InvalidCredentials, InvalidToken, RateLimited, ReauthenticationRequired
from pickguard.domain.model.events import LimitReached
from pickguard.domain.model.idempotency import KeyDigest, Receipt, Registered
from pickguard.domain.model.identifiers import SessionId, UserId
from pickguard.domain.model.limits import Failures, LimitRules
from pickguard.domain.model.mail import DataExported
from pickguard.domain.model.sessions import Client, Session, SessionDigest, SessionRules
from pickguard.domain.model.tries import FromSource, Tries, Window
from pickguard.domain.model.users import EmailAddress, PersonName, User
from pickguard.domain.services.exports import DataExport
from pickguard.entrypoints.http.exported import WITHHELD, render_export
from pickguard.entrypoints.http.problems import time_text
from tests.support.fakes import OTHER_PASSWORD
from tests.support.wiring import LAPTOP, wire

SECRETS: Final = {
    "credential.password_hash": "password.hash",
    "sessions.digest": "sessions.token_digest",
    "challenges.digest": "mailed_tokens.digest",
    "made_by": "registration.digests",
    "user.email.key": "claim",  # the address in small letters
    "user.pending_email.key": "claim",
}
"""What is withheld of an account, by the path of its attribute, and where the export says so."""


def moment(number: int) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)


USER: Final = User(
    id=UserId(UUID(int=1)),
    name=PersonName("Ada Lovelace"),
    email=EmailAddress(value="Ada@Example.com", key="key-of-the-address"),
    email_verified=True,
    created_at=moment(1),
    updated_at=moment(2),
    pending_email=EmailAddress(value="New@Example.com", key="key-of-the-pending-address"),
    disabled=True,
    deletes_at=moment(3),
)
ACCOUNT: Final = Account(
    user=USER,
    credential=Credential(
        password_hash=f"$argon2id$v=19$m=19456,t=2,p=1${'S' * 22}${'D' * 43}", epoch=123_457, changed_at=moment(4)
    ),
    sessions=(
        Session(
            id=SessionId(UUID(int=2)),
            digest=SessionDigest(b"digest of a session" + bytes(13)),
            created_at=moment(5),
            last_used_at=moment(6),
            authenticated_at=moment(7),
            client=Client(ip="192.0.2.1", user_agent="Session/1"),
        ),
    ),
    challenges=(
        Challenge(
            kind=ChallengeKind.RESET_PASSWORD,
            digest=ChallengeDigest(b"digest of a challenge" + bytes(11)),
            expires_at=moment(8),
        ),
    ),
    activity=(
        Activity(
            kind=ActivityKind.LOG_INS_FAILED, at=moment(9), client=Client(ip="192.0.2.2", user_agent="Guess/1"), count=123_458
        ),
    ),
    made_by=KeyDigest(b"digest of a key."),
)


def an_export(account: Account = ACCOUNT, **more: Any) -> DataExport:
    given: dict[str, Any] = {
        "current": SessionId(UUID(int=2)),
        "at": moment(20),
        "receipt": Receipt(fingerprint="fingerprint", answer=Registered(user_id=USER.id, at=moment(10))),
        "tries": Tries(
            run=Failures(count=123_459, last_at=moment(11), last_source="192.0.2.3"),
            sources=(FromSource(recent=Window((moment(12),)), run=Failures(count=123_460, last_at=moment(13))),),
        ),
        "mails": (moment(14),),
        "other_mails": (moment(15),),
        "exports": (moment(16),),
    }
    return DataExport(account=account, **given | more)


def values(held: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield every value in a structure of attrs classes with the path of its attribute. A sequence adds nothing to the path."""
    if isinstance(held, tuple):
        for each in held:
            yield from values(each, path)
    elif attrs.has(type(held)):
        for field in attrs.fields(type(held)):  # type: ignore[arg-type]
            # A value class of one value is that value.
            name = "" if isinstance(held, PersonName) else field.name
            yield from values(getattr(held, field.name), ".".join(filter(None, (path, name))))
    else:
        yield path, held


def texts(value: object) -> set[str]:
    """Return how a value may be written in JSON."""
    if isinstance(value, datetime):
        return {json.dumps(time_text(value))}
    if isinstance(value, Enum):
        return {json.dumps(value.value)}
    if isinstance(value, bytes):
        return {value.hex(), repr(value)[2:-1].split("\\x")[0]}
    return {json.dumps(str(value)) if isinstance(value, (UUID, str)) else json.dumps(value)}


def attributes(kind: Any) -> Iterator[tuple[type, str]]:
    """Yield every attribute of a class and of the classes of its attributes."""
    if get_origin(kind) in {Union, UnionType, tuple}:
        for each in get_args(kind):
            yield from attributes(each)
    elif isinstance(kind, type) and attrs.has(kind):
        hints = get_type_hints(kind)
        for field in attrs.fields(kind):
            yield kind, field.name
            yield from attributes(hints[field.name])


def test_the_account_that_is_tried_here_has_a_value_of_its_own_in_every_attribute() -> None:
    found = dict(values(ACCOUNT))
    assert None not in found.values()
    told = [value for value in found.values() if not isinstance(value, bool)]
    assert len(set(map(str, told))) == len(told)
    reached = {(type(each), field.name) for each in parts(ACCOUNT) for field in attrs.fields(type(each))}
    assert reached == set(attributes(Account))


def parts(held: object) -> Iterator[Any]:
    if isinstance(held, tuple):
        for each in held:
            yield from parts(each)
    elif attrs.has(type(held)):
        yield held
        for field in attrs.fields(type(held)):  # type: ignore[arg-type]
            yield from parts(getattr(held, field.name))


@pytest.mark.parametrize("path", sorted(dict(values(ACCOUNT))))
def test_every_attribute_of_an_account_is_exported_or_withheld_on_purpose(path: str) -> None:
    text = render_export(an_export(), SessionRules()).decode()
    value = dict(values(ACCOUNT))[path]
    found = any(each in text for each in texts(value))
    if path in SECRETS:
        assert not found
        assert SECRETS[path] in WITHHELD
        assert SECRETS[path] in json.loads(text)["withheld"]
    elif isinstance(value, bool):  # which many members are
        changed: dict[str, Any] = {path.removeprefix("user."): not value}
        other = attrs.evolve(ACCOUNT, user=attrs.evolve(USER, **changed))
        assert render_export(an_export(other), SessionRules()).decode() != text
    else:
        assert found


def test_what_is_held_beside_the_account_is_exported() -> None:
    text = render_export(an_export(), SessionRules()).decode()
    for number in range(10, 17):
        assert time_text(moment(number)) in text
    for each in ("123459", "123460", "192.0.2.3"):
        assert each in text
    assert "fingerprint" not in text
    assert "S" * 22 not in text
    assert "D" * 43 not in text


def test_an_account_with_nothing_more_is_exported() -> None:
    bare = attrs.evolve(
        ACCOUNT,
        user=attrs.evolve(USER, pending_email=None, deletes_at=None),
        challenges=(),
        activity=(),
        made_by=None,
    )
    content = json.loads(
        render_export(an_export(bare, receipt=None, tries=Tries(), mails=(), other_mails=(), exports=()), SessionRules())
    )
    assert content["user"]["pending_email"] is content["user"]["deletes_at"] is None
    assert content["registration"] == {"named_itself": False, "remembered": False, "registered_at": None}
    assert content["limits"]["wrong_passwords"] == {"in_a_row": 0, "last_at": None, "last_ip": None, "from_sources": []}


SALT, DIGEST = "c2FsdHNhbHRzYWx0c2FsdA", "ZGlnZXN0ZGlnZXN0ZGlnZXN0ZGlnZXN0ZGlnZXN0ZGk"
BCRYPT = "abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234"


@pytest.mark.parametrize(
    ("password_hash", "algorithm", "parameters"),
    [
        (f"$argon2id$v=19$m=19456,t=2,p=1${SALT}${DIGEST}", "argon2id", {"v": 19, "m": 19456, "t": 2, "p": 1}),
        (f"$argon2i$m=65536,t=3,p=4${SALT}${DIGEST}", "argon2i", {"m": 65536, "t": 3, "p": 4}),
        (f"$2b$12${BCRYPT}", "2b", {"cost": 12}),
        (f"bcrypt_sha256$$2b$10${BCRYPT}", "2b", {"cost": 10}),
        (f"$scrypt$ln=14,r=8,p=1${SALT}${DIGEST}", "scrypt", {"ln": 14, "r": 8, "p": 1}),
        (f"scrypt$16384${SALT}$8$1${DIGEST}", "scrypt", {"n": 16384, "r": 8, "p": 1}),
        (f"$firescrypt$ln=14,r=8,p=1${SALT}${DIGEST}${SALT}${DIGEST}", "firescrypt", {"ln": 14, "r": 8, "p": 1}),
        (f"pbkdf2_sha256$600000${SALT}${DIGEST}", "pbkdf2_sha256", {"i": 600000}),
        (f"$pbkdf2-sha256$i=600000,l=32${SALT}${DIGEST}", "pbkdf2-sha256", {"i": 600000, "l": 32}),
        (f"$pbkdf2-sha512$29000${SALT}${DIGEST}", "pbkdf2-sha512", {"i": 29000}),
        (f"$pbkdf2$131000${SALT}${DIGEST}", "pbkdf2", {"i": 131000}),
        ("plain", None, {}),
        ("", None, {}),
        (f"$argon2id$v=19$m=99999999999,t=2,p=1${SALT}${DIGEST}", "argon2id", {"v": 19}),
        (f"$argon2id${SALT}${DIGEST}", None, {}),
    ],
)
def test_of_a_hash_only_the_function_and_its_costs_are_told(
    password_hash: str, algorithm: str | None, parameters: dict[str, int]
) -> None:
    scheme = HashScheme.of(password_hash)
    assert (scheme.algorithm, dict(scheme.parameters)) == (algorithm, parameters)
    for secret in (SALT, DIGEST, BCRYPT):
        assert secret not in str(scheme)


# The use case


async def test_an_export_is_of_the_state_in_which_it_is_noted() -> None:
    wired = wire()
    await wired.register()
    token = await wired.token()
    export = await wired.services.exports.export(token, client=LAPTOP)
    assert export.account == await wired.present()
    assert export.account.activity[0] == Activity(kind=ActivityKind.DATA_EXPORTED, at=wired.clock.now(), client=LAPTOP)
    assert wired.events.names().count("DataExported") == 1
    assert wired.mail.last(DataExported).client == LAPTOP


async def test_who_has_no_session_or_an_old_proof_exports_nothing() -> None:
    wired = wire()
    await wired.register()
    token = await wired.token()
    with pytest.raises(InvalidToken):
        await wired.services.exports.export("pg_nonsense")
    wired.clock.advance(timedelta(minutes=15, milliseconds=1))
    with pytest.raises(ReauthenticationRequired):
        await wired.services.exports.export(token)
    await wired.services.sessions.log_out(token)
    with pytest.raises(InvalidToken):
        await wired.services.exports.export(token)
    account = await wired.present()
    assert ActivityKind.DATA_EXPORTED not in {each.kind for each in account.activity}
    assert not wired.mail.of(DataExported)


async def test_a_session_that_ends_while_an_export_begins_gets_nothing() -> None:
    wired = wire()
    await wired.register()
    token, other = await wired.token(), await wired.token()
    before = await wired.present()
    count = wired.services.exports._limiter.count

    async def meanwhile(*args: Any) -> None:
        await wired.services.sessions.end_all(other, keep_current=True)
        await count(*args)

    limiter = wired.services.exports._counting._limiter
    object.__setattr__(limiter, "count", meanwhile)
    with pytest.raises(InvalidToken):
        await wired.services.exports.export(token)
    assert len((await wired.present()).sessions) == len(before.sessions) - 1


async def test_exports_are_limited_whatever_the_session() -> None:
    wired = wire()
    await wired.register()
    for _ in range(LimitRules().exports.most):
        await wired.services.exports.export(await wired.token())
    with pytest.raises(RateLimited):
        await wired.services.exports.export(await wired.token())
    assert isinstance(wired.events.events[-1], LimitReached)
    wired.clock.advance(LimitRules().exports.within)
    await wired.services.exports.export(await wired.token())


async def test_the_wrong_passwords_of_others_are_not_in_it() -> None:
    wired = wire()
    await wired.register()
    await wired.register("grace@example.com")
    for _ in range(2):
        with pytest.raises(InvalidCredentials):
            await wired.log_in("grace@example.com", password=OTHER_PASSWORD)
    export = await wired.services.exports.export(await wired.token())
    assert export.tries == Tries()
