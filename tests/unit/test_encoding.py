"""What the records in the store say, byte for byte, and that whatever else lies there is refused and not guessed at."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pickguard import StoreUnavailable
from pickguard.adapters.redis.encoding import (
    CREDENTIAL,
    FORMAT,
    MADE_BY,
    USER,
    VERSION,
    UnreadableError,
    claim_mark,
    decode_activity,
    decode_challenges,
    decode_claim,
    decode_credential,
    decode_limit,
    decode_receipt,
    decode_session,
    decode_snapshot,
    decode_tries,
    decode_user,
    encode_account,
    encode_activity,
    encode_challenges,
    encode_changes,
    encode_claim,
    encode_credential,
    encode_receipt,
    encode_session,
    encode_user,
)
from pickguard.domain.model.accounts import Account
from pickguard.domain.model.activity import ACTIVITY_MAXIMUM, Activity, ActivityKind
from pickguard.domain.model.challenges import Challenge, ChallengeDigest, ChallengeKind
from pickguard.domain.model.credentials import Credential
from pickguard.domain.model.idempotency import KEY_DIGEST_BYTES, KeyDigest, Receipt, Refused, Registered
from pickguard.domain.model.identifiers import SessionId, UserId
from pickguard.domain.model.limits import Failures
from pickguard.domain.model.sessions import Client, Session, SessionDigest
from pickguard.domain.model.tries import FromSource, Window
from pickguard.domain.model.users import EmailAddress, PersonName, User
from pickguard.ports.accounts import OPERATION_ID_BYTES, Snapshot
from tests.support.records import HERE, LIMIT, TRIES
from tests.support.strategies import USER_ID, examples

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
DIGEST = SessionDigest(bytes(range(32)))

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
moments = st.one_of(
    st.integers(0, (datetime.max.replace(tzinfo=UTC) - EPOCH) // MILLISECOND),
    st.integers((datetime.min.replace(tzinfo=UTC) - EPOCH) // MILLISECOND, 0),
    st.integers(1_700_000_000_000, 1_900_000_000_000),
    st.sampled_from([0, 1, -1, 2**31 * 1000, 2**32 - 1, 2**32, 2**32 + 1]),
).map(lambda milliseconds: EPOCH + milliseconds * MILLISECOND)
"""Every moment that there is, to the millisecond."""
uuids = st.binary(min_size=16, max_size=16).map(lambda it: UUID(bytes=it))

BROWSERS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.1 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0",
]
parts = [text[start:end] for text in BROWSERS for start in range(0, len(text), 7) for end in (start + 3, start + 20, len(text))]
user_agents = st.one_of(
    st.none(), texts, st.sampled_from(BROWSERS), st.lists(st.sampled_from(parts) | texts, max_size=6).map("".join)
)
ips = st.one_of(st.none(), st.just(""), st.ip_addresses().map(str), texts, st.just("fe80::1%eth0"))

addresses = st.one_of(
    texts.map(lambda value: EmailAddress(value=value, key=value.lower())), st.builds(EmailAddress, value=texts, key=texts)
)
users = st.builds(
    User,
    id=uuids.map(UserId),
    name=texts.map(PersonName),
    email=addresses,
    email_verified=st.booleans(),
    created_at=moments,
    updated_at=moments,
    pending_email=st.none() | addresses,
    disabled=st.booleans(),
    deletes_at=st.none() | moments,
)
in_base64 = st.text("ABCDwxyz0189+/", min_size=21, max_size=23) | st.text("ABCDwxyz0189+/", min_size=42, max_size=44)
hashes = st.one_of(
    texts,
    st.tuples(st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)).map(lambda parts: argon2id(*parts)),
    # All but the usual: a zero in front, numbers that are too large, bits that no base64 has, another length or version.
    st.builds(
        "$argon2id$v={}$m={},t={},p={}${}${}".format,
        st.sampled_from([19, 16, "019"]),
        st.integers(0, 2**34) | st.just("065536"),
        st.integers(0, 2**17),
        st.integers(0, 999) | st.just("01"),
        in_base64,
        in_base64,
    ),
    st.sampled_from(["$2b$12$abc", "$argon2id$v=19$m=19456,t=2,p=1$$", "$scrypt$ln=17,r=8,p=1$aaaa$bbbb", ""]),
    # Of other systems: a hash is stored as it came, whatever is in it and however long.
    st.sampled_from(
        ["argon2$argon2id$v=19$m=102400,t=2,p=8$Y041dExhNkljRUUy$TMa6A8fPJhCAUXRhJXCXdw", f"$firescrypt${'x' * 1000}"]
    ),
    st.text("$./=,+:\0 azAZ09", max_size=1024),
)
credentials = st.builds(Credential, password_hash=hashes, epoch=st.integers(0, 2**32 - 1), changed_at=moments)
sessions = st.builds(
    Session,
    id=uuids.map(SessionId),
    digest=st.binary(min_size=32, max_size=32).map(SessionDigest),
    created_at=moments,
    last_used_at=moments,
    authenticated_at=moments,
    client=st.builds(Client, ip=ips, user_agent=user_agents),
)
clients = st.builds(Client, ip=ips, user_agent=user_agents)
challenges = st.lists(
    st.builds(
        Challenge,
        kind=st.sampled_from(ChallengeKind),
        digest=st.binary(min_size=32, max_size=32).map(ChallengeDigest),
        expires_at=moments,
    ),
    max_size=len(ChallengeKind),
).map(tuple)
activities = st.lists(
    st.builds(Activity, kind=st.sampled_from(ActivityKind), at=moments, client=clients, count=st.integers(1, 0xFFFF)),
    max_size=ACTIVITY_MAXIMUM,
).map(tuple)
receipts = st.builds(
    Receipt,
    fingerprint=texts,
    answer=st.one_of(st.none(), st.just(Refused()), st.builds(Registered, user_id=uuids.map(UserId), at=moments)),
)
claims = st.tuples(uuids.map(UserId), st.binary(min_size=OPERATION_ID_BYTES, max_size=OPERATION_ID_BYTES))


@given(user=users)
@examples(300)
def test_a_user_is_read_as_it_was_written(user: User) -> None:
    assert decode_user(encode_user(user), user.id) == user


@given(credential=credentials)
def test_a_credential_is_read_as_it_was_written(credential: Credential) -> None:
    assert decode_credential(encode_credential(credential)) == credential


@given(session=sessions)
@examples(300)
def test_a_session_is_read_as_it_was_written(session: Session) -> None:
    assert decode_session(encode_session(session), session.digest) == session


@given(written=challenges)
def test_challenges_are_read_as_they_were_written(written: tuple[Challenge, ...]) -> None:
    assert decode_challenges(encode_challenges(written)) == written


@given(written=activities)
@examples(100)
def test_activity_is_read_as_it_was_written(written: tuple[Activity, ...]) -> None:
    assert decode_activity(encode_activity(written)) == written


@given(receipt=receipts)
def test_a_receipt_is_read_as_it_was_written(receipt: Receipt) -> None:
    assert decode_receipt(encode_receipt(receipt)) == receipt


@given(claim=claims, made_at=st.integers(0, 2**48 - 1))
def test_a_claim_is_read_as_it_was_written(claim: tuple[UserId, bytes], made_at: int) -> None:
    user_id, nonce = claim
    record = encode_claim(user_id, nonce, made_at)
    assert decode_claim(record) == (user_id, made_at)
    assert record.startswith(claim_mark(user_id, nonce))


accounts = st.builds(
    Account,
    user=users,
    credential=credentials,
    sessions=st.lists(sessions, max_size=4, unique_by=lambda each: each.digest).map(tuple),
    challenges=challenges,
    activity=activities,
    made_by=st.none() | st.binary(min_size=KEY_DIGEST_BYTES, max_size=KEY_DIGEST_BYTES).map(KeyDigest),
)


@given(account=accounts, version=st.integers(1, 2**53))
@examples(50)
def test_an_account_is_read_as_it_was_written(account: Account, version: int) -> None:
    fields = {VERSION: str(version).encode(), **encode_account(account)}
    assert decode_snapshot(fields, account.user.id) == Snapshot(account=account, version=version)
    assert (MADE_BY in fields) == (account.made_by is not None)


PARTS = ("user", "credential", "sessions", "challenges", "activity", "made_by")


@given(before=accounts, other=accounts, changed=st.sets(st.sampled_from(PARTS)), ended=st.integers(0, 4))
@examples(50)
def test_what_has_changed_is_written_and_nothing_else(before: Account, other: Account, changed: set[str], ended: int) -> None:
    after = attrs.evolve(before, **{name: getattr(other, name) for name in changed - {"sessions"}})
    if "sessions" in changed:  # some of them end, and others begin
        left = {each.digest: each for each in (*other.sessions, *before.sessions[ended:])}
        after = attrs.evolve(after, sessions=tuple(left.values()))
    stored = encode_account(before)
    written, removed = encode_changes(before, after)
    assert {**{name: record for name, record in stored.items() if name not in removed}, **written} == encode_account(after)
    assert all(stored.get(name) != record for name, record in written.items())
    assert stored.keys() >= set(removed)
    assert encode_changes(None, after) == (encode_account(after), [])


def argon2id(salt: bytes, digest: bytes) -> str:
    parts = (base64.b64encode(part).decode().rstrip("=") for part in (salt, digest))
    return "$argon2id$v=19$m=19456,t=2,p=1${}${}".format(*parts)


def test_the_usual_hash_takes_little_more_than_its_bytes() -> None:
    usual = Credential(password_hash=argon2id(bytes(range(16)), bytes(range(32))), epoch=1, changed_at=NOW)
    assert len(encode_credential(usual)) == 14 + 7 + 16 + 32


@pytest.mark.parametrize("browser", BROWSERS)
def test_common_browsers_take_a_few_bytes(browser: str) -> None:
    with_agent, without = (encode_session(a_session(Client(user_agent=agent))) for agent in (browser, None))
    assert len(with_agent) - len(without) < 25


NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
A_USER = User(
    id=USER_ID,
    name=PersonName("Åda"),
    email=EmailAddress(value="Info@Bücher.example", key="info@xn--bcher-kva.example"),
    email_verified=True,
    created_at=NOW,
    updated_at=datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC),
)


def a_session(client: Client) -> Session:
    return Session(
        id=SessionId(UUID("019b7d1f-2a0e-7000-8000-00000000000a")),
        digest=DIGEST,
        created_at=NOW,
        last_used_at=NOW + timedelta(minutes=1),
        authenticated_at=NOW + MILLISECOND,
        client=client,
    )


A_CHALLENGE = Challenge(kind=ChallengeKind.RESET_PASSWORD, digest=ChallengeDigest(bytes(range(32))), expires_at=NOW)


def test_a_record_of_this_format_is_written_like_this_for_good() -> None:
    """Whoever changes what is written gives it another number, and goes on reading this."""
    texts_of_user = "Ådainfo@xn--bcher-kva.exampleInfo@Bücher.example".encode()
    assert encode_user(A_USER) == bytes.fromhex("01 01 0000019b7ca98f2e 0000019b7ca99070 0004 001a") + texts_of_user
    credential = Credential(password_hash="$hash", epoch=7, changed_at=NOW)
    assert encode_credential(credential) == bytes.fromhex("01 00000007 0000019b7ca98f2e 00") + b"$hash"
    packed = attrs.evolve(credential, password_hash=argon2id(bytes(range(16)), bytes(range(32))))
    assert encode_credential(packed) == (
        bytes.fromhex("01 00000007 0000019b7ca98f2e 01 00004c00 0002 01") + bytes(range(16)) + bytes(range(32))
    )
    session = a_session(Client(ip="2001:db8::1", user_agent=BROWSERS[0]))
    assert encode_session(session) == (
        bytes.fromhex("01 019b7d1f2a0e7000800000000000000a 0000019b7ca98f2e 0000019b7caa798e 0000019b7ca98f2f 000b")
        + b"2001:db8::1\x01\x0b\x02142\x04"
    )
    assert encode_claim(USER_ID, b"12345678", 1_767_323_045_678) == bytes.fromhex(
        "01 019b7d1f2a0e70008000000000000001 3132333435363738 019b7ca98f2e"
    )
    wanted = attrs.evolve(A_USER, pending_email=EmailAddress(value="A@b.example", key="a@b.example"), disabled=True)
    assert encode_user(wanted) == (
        bytes.fromhex("01 07 0000019b7ca98f2e 0000019b7ca99070 0004 001a 000b ffff")
        + "Ådainfo@xn--bcher-kva.exampleA@b.exampleInfo@Bücher.example".encode()
    )
    ending = attrs.evolve(A_USER, deletes_at=EPOCH + 1_769_915_045_678 * MILLISECOND)
    assert encode_user(ending) == (
        bytes.fromhex("01 09 0000019b7ca98f2e 0000019b7ca99070 0004 001a 0000019c1728572e") + texts_of_user
    )
    ending = attrs.evolve(wanted, deletes_at=EPOCH + 1_769_915_045_678 * MILLISECOND)
    assert decode_user(encode_user(ending), ending.id) == ending
    assert encode_user(ending).startswith(
        bytes.fromhex("01 0f 0000019b7ca98f2e 0000019b7ca99070 0004 001a 0000019c1728572e 000b ffff")
    )
    assert encode_challenges((A_CHALLENGE,)) == bytes.fromhex("01 01 02 0000019b7ca98f2e") + bytes(range(32))
    done = (
        Activity(kind=ActivityKind.LOGGED_IN, at=NOW, client=Client(ip="192.0.2.1", user_agent=BROWSERS[0])),
        Activity(kind=ActivityKind.LOG_INS_FAILED, at=NOW, client=Client(ip="2001:db8::/64"), count=3),
        Activity(kind=ActivityKind.LOGGED_IN, at=NOW, client=Client(ip="2001:db8::1")),
        Activity(kind=ActivityKind.REGISTERED, at=NOW, client=Client(ip="2001:db8::1")),
    )
    assert encode_activity(done) == (
        bytes.fromhex("01 04")
        + bytes.fromhex("01 0000019b7ca98f2e 0001 0004 0007 c0000201")
        + b"\x01\x0b\x02142\x04"
        + bytes.fromhex("02 0000019b7ca98f2e 0003 002d 0000")
        + b"2001:db8::/64"
        + bytes.fromhex("81 0000019b7ca98f2e 0001")
        + bytes.fromhex("00 0000019b7ca98f2e 0001 0010 0000 20010db8000000000000000000000001")
    )
    receipt = Receipt(fingerprint="$hash", answer=Registered(user_id=USER_ID, at=NOW))
    head = bytes.fromhex("01 01 019b7d1f2a0e70008000000000000001 0000019b7ca98f2e")
    assert encode_receipt(receipt) == head + b"$hash"


# What scripts write; tests/integration/test_redis_limits.py has them write it.


def test_tries_are_read_for_the_account_and_one_source() -> None:
    run = Failures(count=3, last_at=NOW + 2 * MILLISECOND, last_source="198.51.100.7")
    here = FromSource(
        recent=Window((NOW, NOW + MILLISECOND)), run=Failures(count=2, last_at=NOW + MILLISECOND, last_source=None)
    )
    assert decode_tries(TRIES, HERE) == (run, here)
    assert decode_tries(TRIES, "192.0.2.2") == decode_tries(TRIES, None) == (run, FromSource())


def test_what_is_counted_is_read() -> None:
    assert decode_limit(LIMIT) == Window((NOW, NOW + MILLISECOND))


# What cannot be read.

READERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "user": (lambda record: decode_user(record, USER_ID), encode_user(A_USER)),
    "credential": (decode_credential, encode_credential(Credential(password_hash="$hash", epoch=1, changed_at=NOW))),
    "session": (lambda record: decode_session(record, DIGEST), encode_session(a_session(Client(ip="::1", user_agent="me")))),
    "challenge": (decode_challenges, encode_challenges((A_CHALLENGE,))),
    "list of activity": (
        decode_activity,
        encode_activity((Activity(kind=ActivityKind.LOGGED_IN, at=NOW, client=Client(ip="::1", user_agent="test/1")),)),
    ),
    "claim": (decode_claim, encode_claim(USER_ID, b"12345678", 0)),
    "receipt": (decode_receipt, encode_receipt(Receipt(fingerprint="$hash", answer=Refused()))),
    "record of tries": (lambda record: decode_tries(record, HERE), TRIES),
    "limit": (decode_limit, LIMIT),
}
each_record = pytest.mark.parametrize("what", READERS)


@each_record
@given(number=st.integers(0, 255).filter(lambda number: number != FORMAT), rest=st.none() | st.binary(min_size=64))
def test_another_format_is_refused_and_named(what: str, number: int, rest: bytes | None) -> None:
    decode, record = READERS[what]
    with pytest.raises(UnreadableError, match=rf"^a {what} is stored in the format {number}, which"):
        decode(bytes([number]) + (record[1:] if rest is None else rest))


@each_record
@given(noise=st.binary(max_size=100))
@examples(300)
def test_noise_is_read_or_refused_and_nothing_else(what: str, noise: bytes) -> None:
    decode, record = READERS[what]
    for text in (noise, bytes([FORMAT]) + noise, record[: len(noise)] + noise, record + noise):
        try:
            decode(text)
        except UnreadableError:
            continue


@each_record
def test_what_is_too_short_is_refused(what: str) -> None:
    decode, record = READERS[what]
    whole = {"claim", "challenge", "list of activity"}
    texts_at = {
        "user": len(record) - len(A_USER.email.value.encode()),
        "session": len(record) - 2,
        "record of tries": 12 + len("198.51.100.7"),  # which by itself is one without sources
        "limit": 1,
    }
    for length in range(texts_at.get(what, len(record) - len("$hash") * (what not in whole))):
        with pytest.raises(UnreadableError):
            decode(record[:length])


@pytest.mark.parametrize(
    ("what", "record"),
    [
        ("user", encode_user(A_USER)[:-1] + b"\xff"),
        ("user", bytes.fromhex("01 01 0000019b7ca98f2e 0000019b7ca99070 fffe ffff") + bytes(30)),  # a name of -2 bytes
        ("user", bytes.fromhex("01 01 7fffffffffffffff 0000019b7ca99070 0001 ffff") + b"Aa@b.c"),  # a time that there is not
        ("credential", bytes.fromhex("01 00000007 8000000000000000 00") + b"$hash"),
        ("credential", bytes.fromhex("01 00000007 0000019b7ca98f2e 00 ff")),
        ("credential", bytes.fromhex("01 00000007 0000019b7ca98f2e 01") + bytes(54)),  # a byte too few
        ("credential", bytes.fromhex("01 00000007 0000019b7ca98f2e 02") + b"$hash"),  # a hash of a third kind
        ("session", encode_session(a_session(Client()))[:-2] + b"\x00\x01"),  # an IP address of one byte that is not there
        ("session", encode_session(a_session(Client()))[:-2] + b"\xff\xfe"),
        ("session", encode_session(a_session(Client())) + b"\xff"),
        ("user", bytes.fromhex("01 10 0000019b7ca98f2e 0000019b7ca99070 0001 ffff") + b"Aa@b.c"),  # a flag that there is not
        ("user", bytes.fromhex("01 08 0000019b7ca98f2e 0000019b7ca99070 0001 ffff") + b"Aa@b.c"),  # an end that is cut off
        ("user", bytes.fromhex("01 08 0000019b7ca98f2e 0000019b7ca99070 0001 ffff 7fffffffffffffff") + b"Aa@b.c"),
        ("user", bytes.fromhex("01 05 0000019b7ca98f2e 0000019b7ca99070 0001 ffff 00ff ffff") + b"Aa@b.c"),
        ("challenge", READERS["challenge"][1] + bytes(41)),
        ("challenge", bytes.fromhex("01 01 03") + READERS["challenge"][1][3:]),  # a kind that there is not
        ("list of activity", READERS["list of activity"][1] + b"0"),
        ("list of activity", bytes.fromhex("01 01 ff") + READERS["list of activity"][1][3:]),
        ("list of activity", b"\x01\x01\x81" + READERS["list of activity"][1][3:]),  # nobody after it to be the same as
        ("list of activity", b"\x01\x02" + READERS["list of activity"][1][2:]),
        ("claim", READERS["claim"][1] + b"0"),
        ("receipt", b"\x01\x03" + READERS["receipt"][1][2:]),  # an answer of a third kind
        ("receipt", READERS["receipt"][1] + b"\xff"),
        ("record of tries", TRIES[:-1]),
        ("record of tries", TRIES[:-6]),
        ("record of tries", TRIES + b"0"),
        ("record of tries", TRIES.replace(b"198.51", b"\xff98.51")),
        ("record of tries", TRIES.replace(bytes.fromhex("019b7ca98f30"), b"\xff" * 6)),
        ("limit", b""),
        ("limit", LIMIT[:-1]),
        ("limit", LIMIT + b"\xff" * 6),
    ],
)
def test_what_is_damaged_is_refused(what: str, record: bytes) -> None:
    with pytest.raises(UnreadableError, match=rf"^a {what} that is stored cannot be read$"):
        READERS[what][0](record)


FIELDS = {VERSION: b"7", USER: READERS["user"][1], CREDENTIAL: READERS["credential"][1]}


@pytest.mark.parametrize("missing", FIELDS)
def test_half_an_account_is_refused(missing: bytes) -> None:
    with pytest.raises(UnreadableError, match=repr(missing)):
        decode_snapshot({name: value for name, value in FIELDS.items() if name != missing}, USER_ID)


def test_an_account_without_a_version_that_is_a_number_is_refused() -> None:
    with pytest.raises(UnreadableError, match="version"):
        decode_snapshot({**FIELDS, VERSION: b"seven"}, USER_ID)


def test_what_cannot_be_read_is_unavailable_to_the_core() -> None:
    assert issubclass(UnreadableError, StoreUnavailable)
