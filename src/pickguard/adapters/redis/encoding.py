"""How an account lies in its hash, and what else there is.

```
pg:{<user id>}            HASH; it goes by itself at the user's end, if there is one
  v                       version, a decimal number
  o                       ids of the last operations, newest first, 8 bytes each
  u                       the user
  c                       the credential
  t                       what mailed tokens are to prove, if anything
  a                       what happened lately, newest first
  r                       the digest of the request that made the account, 16 raw bytes, if it named itself
  s:<digest>              one session; the digest is 32 raw bytes

pg:email:<digest>         STRING: the claim on an address;
                          the digest is the beginning of SHA-256 of the address's key, in base64url

pg:request:<digest>       STRING: the receipt of a request; it goes by itself after a day

pg:tries:<digest>         STRING: the wrong passwords for an account, by the digest of its address as in a claim's key;
                          it goes by itself as soon as nothing of it counts any more
pg:limit:<kind>:<digest>  STRING: when something was counted, of the kind source, registrations, mails,
                          other_mails, resets or exports;
                          the digest is that of the source, of the recipient's address or of the user's id; it goes by
                          itself like tries

pg:probe:<number>         STRING: written to see whether that is possible; it goes by itself after a second
```

User, credential, session, challenges, activity, claim, receipt, tries and limit are records of bytes. The first byte is the
number of the record's format, so that another one can be told apart from it. A record begins with parts of a fixed length,
big-endian; texts follow them in UTF-8, all but the last with their lengths in front:

```
user        1, flags 1, created 8, updated 8, length of name 2, length of key 2 | name, key of the address, address
            a length of -1: the key is the address in lower case, and not stored
            flags: 1 verified, 2 disabled, 4 an address is pending, 8 the account ends, at which time its key expires as well;
            with 8, the end 8 follows; then with 4, length of the pending address 2, length of its key 2, and the texts are
            name, key, pending key, pending address, address
credential  1, epoch 4, changed 8, kind of hash 1 | hash
            kinds: 0 text; 1 Argon2id, memory 4, passes 2, lanes 1, salt 16, digest 32
session     1, id 16, created 8, last used 8, authenticated 8, length of IP address 2 | IP address, user agent
            a length of -1: no IP address; an empty user agent: none; phrases in it are packed
challenges  1, number 1 | for each: kind 1, expires 8, digest 32
            kinds: 0 verify an address, 1 change an address, 2 reset a password
activity    1, number 1 | for each: kind 1, at 8, count 2, and unless the kind has the bit 128, which stands for the client
            of the entry after it, length of IP address 2, length of user agent 2 | the two
            the length of an address is 0: none; 4, 16: in binary; 32 and more: text of so many bytes less 32; a user agent
            is packed
claim       1, user id 16, nonce 8, made 6
receipt     1, kind of answer 1, user id 16, time of the answer 8 | fingerprint
            kinds: 0 none yet, 1 registered, 2 refused; without a user the rest is zeros
tries       1, failures in the run 4, time of the last 6, length of its source 1 | its source, then for each source
            digest 12, its failures in the run 4, time of the last 6, number of times 2, the times of its recent failures 6 each
limit       1, times 6 each
```

Times are milliseconds since 1970. The braces make the user's id the hash tag: all of an account lies in one Cluster slot.

What cannot be read is refused with `UnreadableError`, never guessed at: it may be of a newer version.
"""

import base64
import binascii
import hashlib
import ipaddress
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import zip_longest
from typing import Any, Final
from uuid import UUID

from pickguard.domain.model.accounts import Account
from pickguard.domain.model.activity import Activity, ActivityKind
from pickguard.domain.model.challenges import Challenge, ChallengeDigest, ChallengeKind
from pickguard.domain.model.credentials import Credential
from pickguard.domain.model.errors import StoreUnavailable
from pickguard.domain.model.idempotency import Answer, KeyDigest, Receipt, Refused, Registered
from pickguard.domain.model.identifiers import SessionId, UserId
from pickguard.domain.model.limits import Failures, Limit
from pickguard.domain.model.sessions import Client, Session, SessionDigest
from pickguard.domain.model.tries import FromSource, Window
from pickguard.domain.model.users import EmailAddress, PersonName, User
from pickguard.ports.accounts import OPERATION_ID_BYTES, Snapshot

VERSION = b"v"
OPERATIONS = b"o"
USER = b"u"
CREDENTIAL = b"c"
CHALLENGES = b"t"
ACTIVITY = b"a"
MADE_BY = b"r"
SESSION_PREFIX = b"s:"

REMEMBERED = 2048
"""How many users and sessions that were read are kept as objects. What is stored is the key, so they are never out of date."""

FORMAT: Final = 1

ADDRESS_DIGEST_BYTES: Final = 21
"""Two addresses with one digest would be told apart, but take the claim from each other. To find two takes 2^84 attempts."""

SOURCE_DIGEST_BYTES: Final = 12
"""Two sources with one digest would be limited as one. To find one that shares it with a given other takes 2^96 attempts."""

SOURCE_LENGTH: Final = 255
"""The longest source, in bytes, that is kept as that of the last failure. An address has 43 at most, its network included."""

_USER: Final = struct.Struct(">BBqqhh")
_PENDING: Final = struct.Struct(">hh")
_END: Final = struct.Struct(">q")
_VERIFIED, _DISABLED, _HAS_PENDING, _ENDS = 1, 2, 4, 8
_CHALLENGE: Final = struct.Struct(">Bq32s")
_ACTIVITY: Final = struct.Struct(">BqH")
_CLIENT: Final = struct.Struct(">HH")
_SAME_CLIENT: Final = 0x80
_TEXT_FROM: Final = 32
_CREDENTIAL: Final = struct.Struct(">BIqB")
_ARGON2ID: Final = struct.Struct(">IHB16s32s")
_SESSION: Final = struct.Struct(">B16sqqqh")
_CLAIM_MARK: Final = struct.Struct(">B16s8s")
_CLAIM: Final = struct.Struct(">B16s8sHI")
_RECEIPT: Final = struct.Struct(">BB16sq")
_TRIES: Final = struct.Struct(">BIHIB")
_TRIES_FROM_SOURCE: Final = struct.Struct(">12sIHIH")
_MOMENT: Final = struct.Struct(">HI")
_UNANSWERED, _REGISTERED, _REFUSED = range(3)
_TEXT, _PACKED = range(2)

_ARGON2ID_TEXT: Final = re.compile(
    r"\$argon2id\$v=19\$m=([0-9]{1,10}),t=([0-9]{1,5}),p=([0-9]{1,3})\$([A-Za-z0-9+/]{22})\$([A-Za-z0-9+/]{43})"
)

# What user agents have in common, each stored as one control character, of which they have none (see `Client`). The list is
# part of the format: with another list it is another format.
_PHRASES: Final = (
    "Mozilla/5.0 (",
    ") AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
    ".0.0.0 Mobile Safari/537.36",
    ".0.0.0 Safari/537.36",
    ") AppleWebKit/605.1.15 (KHTML, like Gecko) ",
    "Version/",
    " Mobile/15E148",
    " Safari/60",
    ") Gecko/20100101 Firefox/",
    " Edg/",
    "Windows NT 10.0; Win64; x64",
    "Macintosh; Intel Mac OS X 10",
    "X11; Linux x86_64",
    "Linux; Android 10; K",
    "iPhone; CPU iPhone OS ",
    " like Mac OS X",
)
_BY_CODE: Final = dict(enumerate(_PHRASES, start=1))

# A kind is stored as its place here: new ones go to the end.
_CHALLENGE_KINDS: Final = (ChallengeKind.VERIFY_ADDRESS, ChallengeKind.CHANGE_ADDRESS, ChallengeKind.RESET_PASSWORD)
_ACTIVITY_KINDS: Final = (
    ActivityKind.REGISTERED,
    ActivityKind.LOGGED_IN,
    ActivityKind.LOG_INS_FAILED,
    ActivityKind.REAUTHENTICATED,
    ActivityKind.LOGGED_OUT,
    ActivityKind.SESSIONS_ENDED,
    ActivityKind.RENAMED,
    ActivityKind.EMAIL_CHANGE_REQUESTED,
    ActivityKind.EMAIL_CHANGED,
    ActivityKind.EMAIL_VERIFIED,
    ActivityKind.PASSWORD_CHANGED,
    ActivityKind.RESET_REQUESTED,
    ActivityKind.PASSWORD_RESET,
    ActivityKind.DISABLED,
    ActivityKind.ENABLED,
    ActivityKind.DATA_EXPORTED,
    ActivityKind.DELETION_SCHEDULED,
    ActivityKind.DELETION_CANCELLED,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_DAMAGED = (struct.error, ValueError, OverflowError)
"""What reading bytes that are no record raises: too few of them, no UTF-8, no time."""


class UnreadableError(StoreUnavailable):
    """What is stored is no record, or one of a format that this version does not know. It is left as it is."""


def account_key(prefix: str, user_id: UserId) -> str:
    """Return the key of an account's hash."""
    return f"{prefix}:{{{user_id}}}"


def claim_key(prefix: str, address_key: str) -> str:
    """Return the key of the claim on an address."""
    return f"{prefix}:email:{_digest_of(address_key)}"


def receipt_key(prefix: str, request: KeyDigest) -> str:
    """Return the key of a request's receipt."""
    return f"{prefix}:request:{_in_base64(request)}"


def tries_key(prefix: str, address: str) -> str:
    """Return the key of the wrong passwords for whatever was typed as an address."""
    return f"{prefix}:tries:{_digest_of(address)}"


def limit_key(prefix: str, limit: Limit, subject: str) -> str:
    """Return the key of what is counted for a source or a recipient."""
    return f"{prefix}:limit:{limit.value}:{_digest_of(subject)}"


def session_field(digest: SessionDigest) -> bytes:
    """Return the name of a session's field."""
    return SESSION_PREFIX + digest


def encode_account(account: Account) -> dict[bytes, bytes]:
    """Return the fields that hold an account's content (not those that count its versions)."""
    return {name: _encode_part(name, part) for name, part in _parts(account).items()}


def encode_changes(before: Account | None, after: Account) -> tuple[dict[bytes, bytes], list[bytes]]:
    """Return the fields of an account that are to be written, and the names of those to be removed.

    What has stayed the same is not encoded: of an account with many sessions and much activity, that is nearly all.
    """
    old = {} if before is None else _parts(before)
    new = _parts(after)
    written = {name: _encode_part(name, part) for name, part in new.items() if name not in old or old[name] != part}
    return written, [name for name in old if name not in new]


def _parts(account: Account) -> dict[bytes, Any]:
    """Return what is stored of an account, by the names of its fields."""
    parts: dict[bytes, Any] = {USER: account.user, CREDENTIAL: account.credential}
    if account.challenges:
        parts[CHALLENGES] = account.challenges
    if account.activity:
        parts[ACTIVITY] = account.activity
    if account.made_by is not None:
        parts[MADE_BY] = account.made_by
    parts.update((session_field(session.digest), session) for session in account.sessions)
    return parts


def _encode_part(name: bytes, part: Any) -> bytes:
    encode: Callable[[Any], bytes] = _ENCODERS.get(name, encode_session)
    return encode(part)


def decode_snapshot(fields: Mapping[bytes, bytes], user_id: UserId) -> Snapshot:
    """Read an account's whole hash. Raises `UnreadableError`, like everything here that decodes."""
    try:
        version, user, credential = int(fields[VERSION]), fields[USER], fields[CREDENTIAL]
    except KeyError as error:
        raise UnreadableError(f"an account is there by half: the field {error.args[0]!r} is missing") from error
    except ValueError as error:
        raise _damaged("version") from error
    made_by = fields.get(MADE_BY)
    account = Account(
        made_by=None if made_by is None else KeyDigest(made_by),
        user=decode_user(user, user_id),
        credential=decode_credential(credential),
        sessions=tuple(_decode_sessions(fields)),
        challenges=decode_challenges(fields[CHALLENGES]) if CHALLENGES in fields else (),
        activity=decode_activity(fields[ACTIVITY]) if ACTIVITY in fields else (),
    )
    return Snapshot(account=account, version=version)


def has_operation(operations: bytes, operation: bytes) -> bool:
    """Tell whether an operation is among those that a hash remembers."""
    step = OPERATION_ID_BYTES
    return any(operations[start : start + step] == operation for start in range(0, len(operations), step))


def encode_user(user: User) -> bytes:
    """Write a user, without the id, which is in the key."""
    name = user.name.value.encode()
    address, key, key_length = _encode_address(user.email)
    flags = _VERIFIED * user.email_verified | _DISABLED * user.disabled
    end, lengths, pending = b"", b"", b""
    if user.deletes_at is not None:
        flags |= _ENDS
        end = _END.pack(milliseconds(user.deletes_at))
    if user.pending_email is not None:
        flags |= _HAS_PENDING
        pending_address, pending_key, pending_key_length = _encode_address(user.pending_email)
        lengths = _PENDING.pack(len(pending_address), pending_key_length)
        pending = pending_key + pending_address
    created, updated = milliseconds(user.created_at), milliseconds(user.updated_at)
    fixed = _USER.pack(FORMAT, flags, created, updated, len(name), key_length)
    return b"".join((fixed, end, lengths, name, key, pending, address))


@lru_cache(maxsize=REMEMBERED)
def decode_user(record: bytes, user_id: UserId) -> User:
    """Read a user."""
    try:
        number, flags, created, updated, name_length, key_length = _USER.unpack_from(record)
        if number != FORMAT:
            raise _unknown("user", number)
        if flags & ~(_VERIFIED | _DISABLED | _HAS_PENDING | _ENDS):
            raise _damaged("user")
        name_at, pending_length, pending_key_length, deletes_at = _USER.size, 0, -1, None
        if flags & _ENDS:
            (end,) = _END.unpack_from(record, name_at)
            deletes_at = _moment(end)
            name_at += _END.size
        if flags & _HAS_PENDING:
            pending_length, pending_key_length = _PENDING.unpack_from(record, name_at)
            name_at += _PENDING.size
        key_at = name_at + name_length
        pending_key_at = key_at + max(key_length, 0)
        pending_at = pending_key_at + max(pending_key_length, 0)
        address_at = pending_at + pending_length
        if not name_at <= key_at <= pending_key_at <= pending_at <= address_at <= len(record):
            raise _damaged("user")
        created_at = _moment(created)
        pending = None
        if flags & _HAS_PENDING:
            pending = _decode_address(
                record[pending_at:address_at], record[pending_key_at:pending_at], has_key=pending_key_length != -1
            )
        return User(
            id=user_id,
            name=PersonName(str(record[name_at:key_at], "utf-8")),
            email=_decode_address(record[address_at:], record[key_at:pending_key_at], has_key=key_length != -1),
            email_verified=bool(flags & _VERIFIED),
            created_at=created_at,
            updated_at=created_at if updated == created else _moment(updated),
            pending_email=pending,
            disabled=bool(flags & _DISABLED),
            deletes_at=deletes_at,
        )
    except _DAMAGED as error:
        raise _damaged("user") from error


def _encode_address(email: EmailAddress) -> tuple[bytes, bytes, int]:
    """Return the address, its key, and the key's length: -1 where the key is the address in lower case, and not stored."""
    if email.key == email.value.lower():
        return email.value.encode(), b"", -1
    key = email.key.encode()  # an internationalised domain
    return email.value.encode(), key, len(key)


def _decode_address(address: bytes, key: bytes, *, has_key: bool) -> EmailAddress:
    value = str(address, "utf-8")
    return EmailAddress(value=value, key=str(key, "utf-8") if has_key else value.lower())


def encode_credential(credential: Credential) -> bytes:
    """Write a credential."""
    packed = _pack_hash(credential.password_hash)
    kind, password_hash = (_TEXT, credential.password_hash.encode()) if packed is None else (_PACKED, packed)
    return _CREDENTIAL.pack(FORMAT, credential.epoch, milliseconds(credential.changed_at), kind) + password_hash


def decode_credential(record: bytes) -> Credential:
    """Read a credential."""
    try:
        number, epoch, changed, kind = _CREDENTIAL.unpack_from(record)
        if number != FORMAT:
            raise _unknown("credential", number)
        if kind not in {_TEXT, _PACKED}:
            raise _damaged("credential")
        stored = record[_CREDENTIAL.size :]
        password_hash = str(stored, "utf-8") if kind == _TEXT else _unpack_hash(stored)
        return Credential(password_hash=password_hash, epoch=epoch, changed_at=_moment(changed))
    except _DAMAGED as error:
        raise _damaged("credential") from error


def encode_session(session: Session) -> bytes:
    """Write a session, without its digest, which is in the field's name."""
    ip = None if session.client.ip is None else session.client.ip.encode()
    return b"".join(
        (
            _SESSION.pack(
                FORMAT,
                session.id.bytes,
                milliseconds(session.created_at),
                milliseconds(session.last_used_at),
                milliseconds(session.authenticated_at),
                -1 if ip is None else len(ip),
            ),
            ip or b"",
            _pack_user_agent(session.client.user_agent or ""),
        )
    )


@lru_cache(maxsize=REMEMBERED)
def decode_session(record: bytes, digest: SessionDigest) -> Session:
    """Read a session."""
    try:
        number, session_id, created, last_used, authenticated, ip_length = _SESSION.unpack_from(record)
        if number != FORMAT:
            raise _unknown("session", number)
        agent_at = _SESSION.size if ip_length == -1 else _SESSION.size + ip_length
        if not _SESSION.size <= agent_at <= len(record):
            raise _damaged("session")
        created_at = _moment(created)
        return Session(
            id=SessionId(UUID(bytes=session_id)),
            digest=digest,
            created_at=created_at,
            last_used_at=created_at if last_used == created else _moment(last_used),
            authenticated_at=created_at if authenticated == created else _moment(authenticated),
            client=Client(
                ip=None if ip_length == -1 else str(record[_SESSION.size : agent_at], "utf-8"),
                user_agent=_unpack_user_agent(record[agent_at:]),
            ),
        )
    except _DAMAGED as error:
        raise _damaged("session") from error


def encode_challenges(challenges: Sequence[Challenge]) -> bytes:
    """Write what mailed tokens are to prove."""
    parts = (
        _CHALLENGE.pack(_CHALLENGE_KINDS.index(each.kind), milliseconds(each.expires_at), each.digest) for each in challenges
    )
    return bytes([FORMAT, len(challenges)]) + b"".join(parts)


def decode_challenges(record: bytes) -> tuple[Challenge, ...]:
    """Read what mailed tokens are to prove."""
    try:
        if record[0] != FORMAT:
            raise _unknown("challenge", record[0])
        if len(record) != 2 + record[1] * _CHALLENGE.size:
            raise _damaged("challenge")
        return tuple(
            Challenge(kind=_CHALLENGE_KINDS[kind], digest=ChallengeDigest(digest), expires_at=_moment(expires))
            for kind, expires, digest in _CHALLENGE.iter_unpack(record[2:])
        )
    except (*_DAMAGED, IndexError) as error:
        raise _damaged("challenge") from error


def encode_activity(activity: Sequence[Activity]) -> bytes:
    """Write what happened lately."""
    parts = [bytes([FORMAT, len(activity)])]
    for each, before in zip_longest(activity, activity[1:]):
        same = before is not None and before.client == each.client
        kind, count = _ACTIVITY_KINDS.index(each.kind), min(each.count, 0xFFFF)
        parts.append(_ACTIVITY.pack(kind | _SAME_CLIENT * same, milliseconds(each.at), count))
        if not same:
            ip_length, ip = _pack_ip(each.client.ip)
            agent = _pack_user_agent(each.client.user_agent or "")
            parts += [_CLIENT.pack(ip_length, len(agent)), ip, agent]
    return b"".join(parts)


_ENCODERS: Final[Mapping[bytes, Callable[[Any], bytes]]] = {
    USER: encode_user,
    CREDENTIAL: encode_credential,
    CHALLENGES: encode_challenges,
    ACTIVITY: encode_activity,
    MADE_BY: bytes,
}
"""How each field but a session's is written."""


@lru_cache(maxsize=REMEMBERED // 8)
def decode_activity(record: bytes) -> tuple[Activity, ...]:
    """Read what happened lately."""
    found: list[tuple[ActivityKind, datetime, int]] = []
    clients: list[Client] = []
    try:
        if record[0] != FORMAT:
            raise _unknown("list of activity", record[0])
        at = 2
        for _ in range(record[1]):
            kind, moment, count = _ACTIVITY.unpack_from(record, at)
            at += _ACTIVITY.size
            found.append((_ACTIVITY_KINDS[kind & ~_SAME_CLIENT], _moment(moment), count))
            if not kind & _SAME_CLIENT:
                client, at = _read_client(record, at)
                clients += [client] * (len(found) - len(clients))
    except (*_DAMAGED, IndexError) as error:
        raise _damaged("list of activity") from error
    if at != len(record) or len(clients) != len(found):
        raise _damaged("list of activity")
    return tuple(
        Activity(kind=kind, at=moment, client=client, count=count)
        for (kind, moment, count), client in zip(found, clients, strict=True)
    )


def _read_client(record: bytes, at: int) -> tuple[Client, int]:
    """Return the client that is written there, and where it ends."""
    ip_length, agent_length = _CLIENT.unpack_from(record, at)
    ip_at = at + _CLIENT.size
    agent_at = ip_at + (ip_length - _TEXT_FROM if ip_length >= _TEXT_FROM else ip_length)
    end = agent_at + agent_length
    if end > len(record):
        raise _damaged("list of activity")
    client = Client(ip=_unpack_ip(ip_length, record[ip_at:agent_at]), user_agent=_unpack_user_agent(record[agent_at:end]))
    return client, end


def claim_mark(user_id: UserId, nonce: bytes) -> bytes:
    """Return all of a claim but its time, which the server adds as it makes it."""
    return _CLAIM_MARK.pack(FORMAT, user_id.bytes, nonce)


def encode_claim(user_id: UserId, nonce: bytes, made_at: int) -> bytes:
    """Write a claim as the server does. The time is in milliseconds since 1970."""
    return claim_mark(user_id, nonce) + made_at.to_bytes(6, "big")


def decode_claim(record: bytes) -> tuple[UserId, int]:
    """Read whose a claim is, and when it was made."""
    try:
        number, user_id, _, high, low = _CLAIM.unpack_from(record)
    except struct.error as error:
        raise _damaged("claim") from error
    if number != FORMAT:
        raise _unknown("claim", number)
    if len(record) != _CLAIM.size:
        raise _damaged("claim")
    return UserId(UUID(bytes=user_id)), high << 32 | low


def encode_receipt(receipt: Receipt) -> bytes:
    """Write a receipt."""
    kind, user_id, at = _UNANSWERED, bytes(16), 0
    if isinstance(receipt.answer, Registered):
        kind, user_id, at = _REGISTERED, receipt.answer.user_id.bytes, milliseconds(receipt.answer.at)
    elif receipt.answer is not None:
        kind = _REFUSED
    return _RECEIPT.pack(FORMAT, kind, user_id, at) + receipt.fingerprint.encode()


def decode_receipt(record: bytes) -> Receipt:
    """Read a receipt."""
    answer: Answer | None = None
    try:
        number, kind, user_id, at = _RECEIPT.unpack_from(record)
        if number != FORMAT:
            raise _unknown("receipt", number)
        if kind == _REGISTERED:
            answer = Registered(user_id=UserId(UUID(bytes=user_id)), at=_moment(at))
        elif kind == _REFUSED:
            answer = Refused()
        elif kind != _UNANSWERED:
            raise _damaged("receipt")
        return Receipt(fingerprint=str(record[_RECEIPT.size :], "utf-8"), answer=answer)
    except _DAMAGED as error:
        raise _damaged("receipt") from error


def source_digest(source: str) -> bytes:
    """Return what stands for a source within a record of tries."""
    return hashlib.sha256(_in_utf8(source)).digest()[:SOURCE_DIGEST_BYTES]


def encode_source(source: str | None) -> bytes:
    """Write the source of a failure; nothing where it is not known or too long to be an address."""
    text = _in_utf8(source or "")
    return text if len(text) <= SOURCE_LENGTH else b""


def decode_source(text: bytes) -> str | None:
    """Read the source of a failure."""
    return str(text, "utf-8", "surrogatepass") or None


def decode_run(count: int, last: int, source: bytes) -> Failures:
    """Read a run of failures."""
    if not count:
        return Failures()
    try:
        return Failures(count=count, last_at=_moment(last), last_source=decode_source(source))
    except _DAMAGED as error:
        raise _damaged("record of tries") from error


def decode_tries(record: bytes, source: str | None) -> tuple[Failures, FromSource]:
    """Read the run of failures for an account, and what has come from one source."""
    mine = None if source is None else source_digest(source)
    try:
        number, count, high, low, length = _TRIES.unpack_from(record)
        if number != FORMAT:
            raise _unknown("record of tries", number)
        run = decode_run(count, high << 32 | low, record[_TRIES.size : _TRIES.size + length])
        here = FromSource()
        for digest, part in _split_tries(record, _TRIES.size + length):
            if digest == mine:
                here = _decode_from_source(part)
    except _DAMAGED as error:
        raise _damaged("record of tries") from error
    return run, here


def decode_sources(record: bytes) -> list[FromSource]:
    """Read what has come from each source, of a record that `decode_tries` has read."""
    try:
        _, _, _, _, length = _TRIES.unpack_from(record)
        return [_decode_from_source(part) for _, part in _split_tries(record, _TRIES.size + length)]
    except _DAMAGED as error:
        raise _damaged("record of tries") from error


def _split_tries(record: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield each source's digest, and what is written of it."""
    while at < len(record):
        digest, _, _, _, times = _TRIES_FROM_SOURCE.unpack_from(record, at)
        end = at + _TRIES_FROM_SOURCE.size + times * _MOMENT.size
        yield digest, record[at:end]
        at = end
    if at != len(record):
        raise _damaged("record of tries")


def _decode_from_source(part: bytes) -> FromSource:
    _, own, high, low, _ = _TRIES_FROM_SOURCE.unpack_from(part)
    return FromSource(recent=_decode_moments(part[_TRIES_FROM_SOURCE.size :]), run=decode_run(own, high << 32 | low, b""))


def decode_limit(record: bytes) -> Window:
    """Read when something was counted."""
    if record[:1] != bytes([FORMAT]):
        raise _unknown("limit", *record[:1]) if record else _damaged("limit")
    try:
        return _decode_moments(record[1:])
    except _DAMAGED as error:
        raise _damaged("limit") from error


def _decode_moments(times: bytes) -> Window:
    return Window(tuple(_moment(high << 32 | low) for high, low in _MOMENT.iter_unpack(times)))


def _decode_sessions(fields: Mapping[bytes, bytes]) -> Iterator[Session]:
    for name, record in fields.items():
        if name.startswith(SESSION_PREFIX):
            yield decode_session(record, SessionDigest(name[len(SESSION_PREFIX) :]))


def _digest_of(text: str) -> str:
    return _in_base64(hashlib.sha256(_in_utf8(text)).digest()[:ADDRESS_DIGEST_BYTES])


def _in_utf8(text: str) -> bytes:
    """Write any text, also one that nobody can have as an address: what is typed in its place is counted as well."""
    return text.encode("utf-8", "surrogatepass")


def _in_base64(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _pack_hash(text: str) -> bytes | None:
    """Return a password's hash in half the room, if it is of the usual kind and nothing of its text is lost."""
    match = _ARGON2ID_TEXT.fullmatch(text)
    if match is None:
        return None
    memory, passes, lanes = (int(number) for number in match.group(1, 2, 3))
    salt, digest = (binascii.a2b_base64(part + padding) for part, padding in ((match[4], "=="), (match[5], "=")))
    try:
        packed = _ARGON2ID.pack(memory, passes, lanes, salt, digest)
    except struct.error:  # a number that is too large
        return None
    return packed if _unpack_hash(packed) == text else None


def _unpack_hash(packed: bytes) -> str:
    memory, passes, lanes, *parts = _ARGON2ID.unpack(packed)
    salt, digest = (binascii.b2a_base64(part, newline=False).decode().rstrip("=") for part in parts)
    return f"$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${digest}"


# Very many sessions have one of few user agents, and much of an account's activity one of few addresses.


@lru_cache(maxsize=1024)
def _pack_ip(text: str | None) -> tuple[int, bytes]:
    """Return what is written as the length of an address, and the address."""
    if text is None:
        return 0, b""
    try:
        packed = ipaddress.ip_address(text).packed
    except ValueError:
        packed = b""
    if packed and str(ipaddress.ip_address(packed)) == text:
        return len(packed), packed
    told = text.encode()
    return _TEXT_FROM + len(told), told


def _unpack_ip(length: int, packed: bytes) -> str | None:
    if length == 0:
        return None
    return str(packed, "utf-8") if length >= _TEXT_FROM else str(ipaddress.ip_address(packed))


@lru_cache(maxsize=1024)
def _pack_user_agent(text: str) -> bytes:
    for code, phrase in _BY_CODE.items():
        text = text.replace(phrase, chr(code))
    return text.encode()


@lru_cache(maxsize=1024)
def _unpack_user_agent(packed: bytes) -> str | None:
    return str(packed, "utf-8").translate(_BY_CODE) or None


def _unknown(what: str, number: int) -> UnreadableError:
    return UnreadableError(f"a {what} is stored in the format {number}, which this version does not know")


def _damaged(what: str) -> UnreadableError:
    return UnreadableError(f"a {what} that is stored cannot be read")


def milliseconds(moment: datetime) -> int:
    """Return the milliseconds since 1970."""
    return (moment - _EPOCH) // _MILLISECOND


def _moment(milliseconds: int) -> datetime:
    return _EPOCH + milliseconds * _MILLISECOND
