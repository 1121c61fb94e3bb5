"""Accounts as plain data: what is dumped comes back, and whatever else is refused without a word of what it was."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, timedelta, timezone
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given

from pickguard.domain.model.accounts import Account
from pickguard.domain.model.activity import Activity, ActivityKind
from pickguard.domain.model.challenges import Challenge, ChallengeDigest, ChallengeKind
from pickguard.domain.model.credentials import Credential
from pickguard.domain.model.idempotency import KeyDigest
from pickguard.domain.model.portable import (
    NotPortable,
    dump_account,
    dump_activity,
    dump_credential,
    dump_session,
    dump_user,
    load_account,
    load_activity,
    load_credential,
    load_session,
    load_user,
)
from pickguard.domain.model.sessions import Client, Session
from pickguard.domain.model.users import EmailAddress, User
from pickguard.testing import NOW
from tests.support.accounts import an_account
from tests.support.strategies import examples
from tests.unit.test_encoding import accounts

SECRET = "$argon2id$a-secret-verifier"
ADDED_LATER = {"deletes_at"}
"""What the first version did not dump."""
DIGEST = ChallengeDigest(b"secret" * 5 + b"!!")


@pytest.fixture
def account() -> Account:
    """An account that has something in every place there is."""
    account = an_account("ada@example.com", sessions=1)
    return attrs.evolve(
        account,
        user=attrs.evolve(account.user, pending_email=EmailAddress.parse("Grace@bücher.example")),
        credential=attrs.evolve(account.credential, password_hash=SECRET),
        challenges=(Challenge(kind=ChallengeKind.RESET_PASSWORD, digest=DIGEST, expires_at=NOW),),
        activity=(Activity(kind=ActivityKind.LOG_INS_FAILED, at=NOW, client=Client(ip="192.0.2.1"), count=3),),
        made_by=KeyDigest(b"secret" * 2 + b"!!!!"),
    )


@given(account=accounts)
@examples(150)
def test_an_account_and_each_of_its_parts_is_loaded_as_it_was_dumped(account: Account) -> None:
    dumped = json.loads(json.dumps(dump_account(account), allow_nan=False))
    assert dumped == dump_account(account)
    assert load_account(dumped) == account
    assert load_user(dumped["user"]) == account.user == load_user(dump_user(account.user))
    assert load_credential(dumped["credential"]) == account.credential == load_credential(dump_credential(account.credential))
    assert tuple(map(load_session, dumped["sessions"])) == account.sessions
    assert [dump_session(each) for each in account.sessions] == dumped["sessions"]
    assert load_activity(dumped["activity"]) == account.activity == load_activity(dump_activity(account.activity))


def test_what_was_dumped_by_the_first_version_is_loaded(account: Account) -> None:
    user_id, session = account.user.id, account.sessions[0]
    dumped = {
        "format": 1,
        "user": {
            "id": str(user_id),
            "name": "Ada",
            "email": {"value": "ada@example.com", "key": "ada@example.com"},
            "email_verified": False,
            "created_at": "2026-01-02T03:04:05.678000Z",
            "updated_at": "2026-01-02T03:04:05.678000Z",
            "pending_email": {"value": "Grace@bücher.example", "key": "grace@xn--bcher-kva.example"},
            "disabled": False,
            "deletes_at": None,
        },
        "credential": {"password_hash": SECRET, "epoch": 1, "changed_at": "2026-01-02T03:04:05.678000Z"},
        "sessions": [
            {
                "id": str(session.id),
                "digest": session.digest.hex(),
                "created_at": "2026-01-02T03:04:05.678000Z",
                "last_used_at": "2026-01-02T03:04:05.678000Z",
                "authenticated_at": "2026-01-02T03:04:05.678000Z",
                "client": {"ip": "192.0.2.1", "user_agent": "tests/1"},
            }
        ],
        "challenges": [{"kind": "reset_password", "digest": DIGEST.hex(), "expires_at": "2026-01-02T03:04:05.678000Z"}],
        "activity": [
            {
                "kind": "log_ins_failed",
                "at": "2026-01-02T03:04:05.678000Z",
                "client": {"ip": "192.0.2.1", "user_agent": None},
                "count": 3,
            }
        ],
        "made_by": account.made_by.hex() if account.made_by else None,
    }
    assert load_account(dumped) == account
    assert dump_account(account) == dumped


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        (Account, lambda dumped: {name: 0 for name in dumped if name != "format"}),
        (User, lambda dumped: dumped["user"]),
        (EmailAddress, lambda dumped: dumped["user"]["email"]),
        (Credential, lambda dumped: dumped["credential"]),
        (Session, lambda dumped: dumped["sessions"][0]),
        (Client, lambda dumped: dumped["sessions"][0]["client"]),
        (Challenge, lambda dumped: dumped["challenges"][0]),
        (Activity, lambda dumped: dumped["activity"][0]),
    ],
)
def test_nothing_that_an_account_has_is_left_out(account: Account, kind: type, part: Callable[[Any], Any]) -> None:
    assert list(part(dump_account(account))) == [field.name for field in attrs.fields(kind)]


def test_a_time_of_another_zone_is_the_same_moment_in_utc(account: Account) -> None:
    dumped = dump_credential(account.credential)
    moved = attrs.evolve(account.credential, changed_at=NOW.astimezone(timezone(timedelta(hours=5, minutes=30))))
    assert dump_credential(moved) == dumped
    loaded = load_credential({**dumped, "changed_at": "2026-01-02T08:34:05.678+05:30"})
    assert loaded == account.credential
    assert loaded.changed_at.tzinfo is UTC
    with pytest.raises(NotPortable, match="without a zone"):
        load_credential({**dumped, "changed_at": "2026-01-02T03:04:05.678"})


def test_a_number_may_come_back_as_the_database_has_it(account: Account) -> None:
    dumped = dump_credential(account.credential)
    assert load_credential({**dumped, "epoch": Decimal(1)}) == account.credential
    with pytest.raises(NotPortable):
        load_credential({**dumped, "epoch": Decimal("1.5")})


def places(dumped: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each member of each part."""
    members = dumped.items() if isinstance(dumped, dict) else enumerate(dumped) if isinstance(dumped, list) else ()
    for name, value in members:
        yield (*path, name)
        yield from places(value, (*path, name))


def inside(dumped: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        dumped = dumped[name]
    return dumped


@pytest.mark.parametrize("wrong", [b"secret", 7.5, "", "secret", [None], {}, True, -1], ids=repr)
def test_what_is_of_another_form_is_refused_without_its_value(account: Account, wrong: object) -> None:
    nothing_wrong = {  # of these places
        "": {"name", "value", "key", "password_hash", "ip", "user_agent"},
        "secret": {"name", "value", "key", "password_hash", "ip", "user_agent"},
        "True": {"email_verified", "disabled"},
        "-1": {"epoch", "count"},
    }
    tried = 0
    for path in places(dump_account(account)):
        if path[-1] in nothing_wrong.get(str(wrong), set()):
            continue
        dumped = dump_account(account)
        inside(dumped, path[:-1])[path[-1]] = wrong
        with pytest.raises(NotPortable) as refused:
            load_account(dumped)
        assert "secret" not in str(refused.value), path
        assert refused.value.__cause__ is None
        tried += 1
    assert tried > 25


def test_what_a_later_version_may_have_added_is_refused_and_not_lost(account: Account) -> None:
    for path in [(), *places(dump_account(account))]:
        dumped = dump_account(account)
        if isinstance(inside(dumped, path), dict):
            inside(dumped, path)["invented"] = SECRET
            with pytest.raises(NotPortable, match="does not know: invented") as refused:
                load_account(dumped)
            assert SECRET not in str(refused.value)
    with pytest.raises(NotPortable, match="format 1"):
        load_account({**dump_account(account), "format": 2})


def test_what_an_earlier_version_did_not_dump_is_loaded_without() -> None:
    account = an_account()
    dumped = dump_account(account)
    for member in ADDED_LATER:
        del dumped["user"][member]
    assert load_account(dumped) == account


def test_what_is_missing_is_named(account: Account) -> None:
    for path in places(dump_account(account)):
        dumped = dump_account(account)
        if isinstance(part := inside(dumped, path[:-1]), dict):
            del part[path[-1]]
            if path[-1] in ADDED_LATER:
                load_account(dumped)
                continue
            with pytest.raises(NotPortable, match=f"lacks {path[-1]}"):
                load_account(dumped)
