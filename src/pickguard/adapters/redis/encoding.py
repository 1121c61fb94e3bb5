"""How an account lies in its hash.

```
pg:{<user id>}            HASH
  v                       version, a decimal number
  o                       ids of the last operations, newest first, 8 bytes each
  u                       the user, JSON
  c                       the credential, JSON
  r                       the digest of the request that made the account, 16 raw bytes, if it named itself
  s:<digest>              one session, JSON; the digest is 32 raw bytes

pg:email:<digest>         STRING: <user id> <nonce> <time in ms>, the claim on an address;
                          the digest is SHA-256 of the address's key, in unpadded base64url

pg:request:<digest>       STRING: JSON, the receipt of a request; it goes by itself after a day

pg:probe:<number>         STRING: written to see whether that is possible; it goes by itself after a second
```

Times are milliseconds since 1970. The braces make the user's id the hash tag: all of an account lies in one Cluster slot.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from uuid import UUID

import orjson

from pickguard.domain.model.accounts import Account
from pickguard.domain.model.credentials import Credential
from pickguard.domain.model.idempotency import Answer, KeyDigest, Receipt, Refused, Registered
from pickguard.domain.model.identifiers import SessionId, UserId
from pickguard.domain.model.sessions import Client, Session, SessionDigest
from pickguard.domain.model.users import EmailAddress, PersonName, User
from pickguard.ports.accounts import OPERATION_ID_BYTES, Snapshot

VERSION = b"v"
OPERATIONS = b"o"
USER = b"u"
CREDENTIAL = b"c"
MADE_BY = b"r"
SESSION_PREFIX = b"s:"

REMEMBERED = 2048
"""How many users and sessions that were read are kept as objects. What is stored is the key, so they are never out of date."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def account_key(prefix: str, user_id: UserId) -> str:
    """Return the key of an account's hash."""
    return f"{prefix}:{{{user_id}}}"


def claim_key(prefix: str, address_key: str) -> str:
    """Return the key of the claim on an address."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(address_key.encode()).digest()).rstrip(b"=").decode()
    return f"{prefix}:email:{digest}"


def receipt_key(prefix: str, request: KeyDigest) -> str:
    """Return the key of a request's receipt."""
    return f"{prefix}:request:{base64.urlsafe_b64encode(request).rstrip(b'=').decode()}"


def session_field(digest: SessionDigest) -> bytes:
    """Return the name of a session's field."""
    return SESSION_PREFIX + digest


def encode_account(account: Account) -> dict[bytes, bytes]:
    """Return the fields that hold an account's content (not those that count its versions)."""
    fields = {USER: encode_user(account.user), CREDENTIAL: encode_credential(account.credential)}
    if account.made_by is not None:
        fields[MADE_BY] = account.made_by
    fields.update((session_field(session.digest), encode_session(session)) for session in account.sessions)
    return fields


def decode_snapshot(fields: Mapping[bytes, bytes], user_id: UserId) -> Snapshot:
    """Read an account's whole hash."""
    made_by = fields.get(MADE_BY)
    account = Account(
        made_by=None if made_by is None else KeyDigest(made_by),
        user=decode_user(fields[USER], user_id),
        credential=decode_credential(fields[CREDENTIAL]),
        sessions=tuple(_decode_sessions(fields)),
    )
    return Snapshot(account=account, version=int(fields[VERSION]))


def has_operation(operations: bytes, operation: bytes) -> bool:
    """Tell whether an operation is among those that a hash remembers."""
    step = OPERATION_ID_BYTES
    return any(operations[start : start + step] == operation for start in range(0, len(operations), step))


def encode_user(user: User) -> bytes:
    """Write a user, without the id, which is in the key."""
    content: dict[str, object] = {
        "n": user.name.value,
        "e": user.email.value,
        "v": user.email_verified,
        "c": _milliseconds(user.created_at),
        "u": _milliseconds(user.updated_at),
    }
    if user.email.key != user.email.value.lower():  # an internationalised domain
        content["k"] = user.email.key
    return orjson.dumps(content)


@lru_cache(maxsize=REMEMBERED)
def decode_user(text: bytes, user_id: UserId) -> User:
    """Read a user."""
    content = orjson.loads(text)
    email = content["e"]
    return User(
        id=user_id,
        name=PersonName(content["n"]),
        email=EmailAddress(value=email, key=content.get("k") or email.lower()),
        email_verified=content["v"],
        created_at=_moment(content["c"]),
        updated_at=_moment(content["u"]),
    )


def encode_credential(credential: Credential) -> bytes:
    """Write a credential."""
    changed = _milliseconds(credential.changed_at)
    return orjson.dumps({"h": credential.password_hash, "e": credential.epoch, "c": changed})


def decode_credential(text: bytes) -> Credential:
    """Read a credential."""
    content = orjson.loads(text)
    return Credential(password_hash=content["h"], epoch=content["e"], changed_at=_moment(content["c"]))


def encode_session(session: Session) -> bytes:
    """Write a session, without its digest, which is in the field's name."""
    content: dict[str, object] = {
        "i": session.id.hex,
        "c": _milliseconds(session.created_at),
        "l": _milliseconds(session.last_used_at),
        "a": _milliseconds(session.authenticated_at),
    }
    if session.client.user_agent is not None:
        content["g"] = session.client.user_agent
    if session.client.ip is not None:
        content["p"] = session.client.ip
    return orjson.dumps(content)


@lru_cache(maxsize=REMEMBERED)
def decode_session(text: bytes, digest: SessionDigest) -> Session:
    """Read a session."""
    content = orjson.loads(text)
    return Session(
        id=SessionId(UUID(hex=content["i"])),
        digest=digest,
        created_at=_moment(content["c"]),
        last_used_at=_moment(content["l"]),
        authenticated_at=_moment(content["a"]),
        client=Client(ip=content.get("p"), user_agent=content.get("g")),
    )


def encode_receipt(receipt: Receipt) -> bytes:
    """Write a receipt."""
    content: dict[str, object] = {"f": receipt.fingerprint}
    if isinstance(receipt.answer, Registered):
        content |= {"i": receipt.answer.user_id.hex, "c": _milliseconds(receipt.answer.at)}
    elif receipt.answer is not None:
        content["t"] = True
    return orjson.dumps(content)


def decode_receipt(text: bytes) -> Receipt:
    """Read a receipt."""
    content = orjson.loads(text)
    answer: Answer | None = None
    if "i" in content:
        answer = Registered(user_id=UserId(UUID(hex=content["i"])), at=_moment(content["c"]))
    elif "t" in content:
        answer = Refused()
    return Receipt(fingerprint=content["f"], answer=answer)


def _decode_sessions(fields: Mapping[bytes, bytes]) -> Iterator[Session]:
    for name, text in fields.items():
        if name.startswith(SESSION_PREFIX):
            yield decode_session(text, SessionDigest(name[len(SESSION_PREFIX) :]))


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _moment(milliseconds: int) -> datetime:
    return _EPOCH + milliseconds * _MILLISECOND
