"""Accounts as values, made without a use case and without a hasher: what the contract suites store."""

import os
from datetime import UTC, datetime, timedelta
from typing import Final

import attrs

from pickguard.domain.model.accounts import Account, register
from pickguard.domain.model.identifiers import UUID7_RANDOM_BYTES, SessionId, UserId, uuid7
from pickguard.domain.model.sessions import TOKEN_SECRET_BYTES, Client, Session, Token
from pickguard.domain.model.users import EmailAddress, PersonName
from pickguard.ports.accounts import OPERATION_ID_BYTES
from pickguard.testing.fakes import NOW

CLIENT: Final = Client(ip="192.0.2.1", user_agent="tests/1")
"""Where the sessions of these accounts were opened from (RFC 5737: an address of nobody)."""


def operation() -> bytes:
    """Return an id for one write, as `AccountRepository` asks for."""
    return os.urandom(OPERATION_ID_BYTES)


def an_account(email: str = "ada@example.com", *, name: str = "Ada", sessions: int = 0) -> Account:
    """Return a new account, with so many sessions. Nobody can log in to it: its password's hash is none."""
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
    """Return a new session of an account, which is not among those of the account yet."""
    return Session(
        id=SessionId(uuid7(at, os.urandom(UUID7_RANDOM_BYTES))),
        digest=Token(user_id=account.user.id, secret=os.urandom(TOKEN_SECRET_BYTES)).digest,
        created_at=at,
        last_used_at=at,
        authenticated_at=at,
        client=client or CLIENT,
    )


def at_address(account: Account, email: str) -> Account:
    """Return the account with another address."""
    return account.change_address(EmailAddress.parse(email), NOW + timedelta(seconds=1)).account


def renamed(account: Account, name: str) -> Account:
    """Return the account with another name of its user."""
    return account.rename(PersonName.parse(name), NOW + timedelta(seconds=1)).account


def ending(account: Account, *, in_: timedelta | None) -> Account:
    """Return the account as one that is gone so long from now on, or as one that stays. The clock is the real one."""
    now = datetime.now(UTC)
    end = None if in_ is None else now.replace(microsecond=now.microsecond // 1000 * 1000) + in_
    return attrs.evolve(account, user=attrs.evolve(account.user, deletes_at=end))
