"""Accounts to store, made without a hasher."""

import os
from datetime import UTC, datetime, timedelta

import attrs

from pickguard.domain.model.accounts import Account, register
from pickguard.domain.model.identifiers import UUID7_RANDOM_BYTES, SessionId, UserId, uuid7
from pickguard.domain.model.sessions import TOKEN_SECRET_BYTES, Client, Session, Token
from pickguard.domain.model.users import EmailAddress, PersonName
from pickguard.ports.accounts import OPERATION_ID_BYTES

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


def operation() -> bytes:
    return os.urandom(OPERATION_ID_BYTES)


def an_account(email: str = "ada@example.com", *, name: str = "Ada", sessions: int = 0) -> Account:
    user_id = UserId(uuid7(NOW, os.urandom(UUID7_RANDOM_BYTES)))
    account = register(
        user_id=user_id,
        name=PersonName.parse(name),
        email=EmailAddress.parse(email),
        password_hash="$argon2id$not-a-real-hash",
        now=NOW,
    ).account
    return attrs.evolve(account, sessions=tuple(a_session(account) for _ in range(sessions)))


def a_session(account: Account, *, at: datetime = NOW, client: Client | None = None) -> Session:
    return Session(
        id=SessionId(uuid7(at, os.urandom(UUID7_RANDOM_BYTES))),
        digest=Token(user_id=account.user.id, secret=os.urandom(TOKEN_SECRET_BYTES)).digest,
        created_at=at,
        last_used_at=at,
        authenticated_at=at,
        client=client or Client(ip="192.0.2.1", user_agent="tests/1"),
    )


def at_address(account: Account, email: str) -> Account:
    return account.change_address(EmailAddress.parse(email), NOW + timedelta(seconds=1)).account


def renamed(account: Account, name: str) -> Account:
    return account.rename(PersonName.parse(name), NOW + timedelta(seconds=1)).account


def ending(account: Account, *, in_: timedelta | None) -> Account:
    """Return an account that is gone so long from now on, by the real clock, which stores go by; or one that stays."""
    now = datetime.now(UTC)
    end = None if in_ is None else now.replace(microsecond=now.microsecond // 1000 * 1000) + in_
    return attrs.evolve(account, user=attrs.evolve(account.user, deletes_at=end))
