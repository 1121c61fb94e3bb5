"""Hashes of other systems: each form as the other system writes it, and what is not obeyed or not read."""

import base64
import hashlib
import sys
import time
from collections.abc import Mapping

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pickguard.adapters.argon2 import Argon2Hasher
from pickguard.adapters.foreign_hashes import MAX_LENGTH, MAX_PBKDF2_ITERATIONS, ForeignPasswordHashes
from pickguard.ports.hashing import Purpose
from tests.support.fakes import cheap_hasher
from tests.support.strategies import examples

HASHES = ForeignPasswordHashes()
PASSWORD = "pâté 🍎 horse"

# Made by passlib, from PASSWORD.
MADE: Mapping[str, str] = {
    "bcrypt of crypt_blowfish": "$2y$04$Dc1Tc3snLcITRBm6VFTffO2zVowl40oKo5R7nxhVHcMA8zF9kO/ei",
    "bcrypt of Django": "bcrypt$$2b$04$fh0ypVArTbbsS7d7qFRF1e3amksy0mfeBJo2rCNS6qLtpIi9HtXwK",
    "bcrypt of Django, with SHA-256": "bcrypt_sha256$$2b$04$RLsbMptKJZ6IdyYeJFFkeOR.uRF5yS7Cke/NgH1fGpeExi7uOXKcu",
    "scrypt in PHC form": "$scrypt$ln=4,r=8,p=1$tNaa05qzNqZ0TsnZW2utdQ$uP8xj/mHGiTiORvS9OhRBwxYmJoBJYrAi/tl2F0say8",
    "PBKDF2 of Django": "pbkdf2_sha256$1000$eBAtJAlVEEeK$zdTtyc6mn/GH7aY00QRsivPw41DmcnBJN9rnPPbQnEg=",
    "PBKDF2 of Django, with SHA-1": "pbkdf2_sha1$1000$IfmN2y1ueOxA$4srHZpFSUr5a7KM71FUVloNWYD8=",
    "PBKDF2 of passlib": "$pbkdf2-sha256$1000$vVeq9d6bU8rZu3duLaUUgg$58C2BbrNm5kB8u22LdLSGRcTLbeknKWpnRlm3yQsgmU",
    "PBKDF2 of passlib, with SHA-1": "$pbkdf2$1000$x7hXCsHYGyMEwJhzjnGudQ$uZ.SlVetVav6th2urry2bcrMaJ0",
    "PBKDF2 of passlib, with SHA-512": (
        "$pbkdf2-sha512$1000$DyEk5PwfAyBECOFcSymFcA"
        "$GKeUHLaqoW8mNk6d5XA.CmxtLsJNEvPw67j.yicDr5yl5aumhMV/yVZ/dEZ/.CxHCpbM1coLD/vG.AwHNOxXHQ"
    ),
    "PBKDF2 in PHC form": ("$pbkdf2-sha256$i=1000,l=32$vVeq9d6bU8rZu3duLaUUgg$58C2BbrNm5kB8u22LdLSGRcTLbeknKWpnRlm3yQsgmU"),
}

# Published by those whose forms they are, and by those who specified the functions.
FIREBASE_KEY = "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA=="
PUBLISHED: Mapping[str, tuple[str, str]] = {
    "bcrypt, of John the Ripper": ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
    "bcrypt, more than it takes": (
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789chars after 72 are ignored",
        "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui",
    ),
    "scrypt, of Django's tests": (
        "lètmein",
        "scrypt$16384$seasalt$8$1$Qj3+9PPyRjSJIebHnG81TMjsqtaIGxNQG/aEB/NYafTJ7tibgfYz71m0ldQESkXFRkdVCBhhY8mx7rQwite/Pw==",
    ),
    "scrypt, RFC 7914 section 12": (
        "password",
        "scrypt$1024$NaCl$8$16$/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWIurzDZLiKjiG/xCSedmDDaxyevuUqD7m2DYMvfoswGQA==",
    ),
    "Firebase, of its README": (
        "user1password",
        f"$firescrypt$ln=14,r=8,p=1$42xEC+ixf3L2lw==$lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==$Bw==${FIREBASE_KEY}",
    ),
    "Firebase, without a salt separator": (
        "user1password",
        f"$firescrypt$ln=14,r=8,p=1$42xEC+ixf3L2lw==$NohHtJ2FmkEqzefZ0IHnOlqTzFN8n6vXXd0EW2OIGuUh4rcwvVh7XVRDVs5yOrueoudRPIoimS6jIwf4pMW3rg==$${FIREBASE_KEY}",
    ),
    "PBKDF2, of Django's tests": ("lètmein", "pbkdf2_sha256$260000$seasalt2$UCGMhrOoaq1ghQPArIBK5RkI6IZLRxlIwHWA1dMy7y8="),
    "PBKDF2, RFC 6070 section 2": ("password", "$pbkdf2-sha1$i=4096$c2FsdA$SwB5AbdlSJq+rUnZJvch0GWkKcE"),
    "PBKDF2, RFC 7914 section 11, two blocks": (
        "passwd",
        "$pbkdf2-sha256$i=1,l=64$c2FsdA$VawEblbjCJ/sFpHCJUS2BflBhSFt3gRl5oudV8INrLxJypzM8Xm2RZkWZLOdd+8xfHG4RbHjC9UJESBB06GXgw",
    ),
}
ALL = {**{name: (PASSWORD, stored) for name, stored in MADE.items()}, **PUBLISHED}


def matches(stored: str, password: str) -> bool:
    check = HASHES.recognise(stored)
    return check is not None and check(password.encode())


@pytest.mark.parametrize(("password", "stored"), ALL.values(), ids=ALL)
def test_a_hash_of_another_system_matches_its_password_and_no_other(password: str, stored: str) -> None:
    assert matches(stored, password)
    assert not matches(stored, f"{password[:-1]}X"[:70])
    assert not matches(stored, password.swapcase())
    assert not matches(stored, "")


@pytest.mark.parametrize("version", ["2a", "2b", "2y"])
def test_of_a_password_bcrypt_takes_72_bytes_and_django_with_sha256_all(version: str) -> None:
    secret = ("é" * 36).encode()
    stored = bcrypt.hashpw(secret, bcrypt.gensalt(4)).decode().replace("$2b$", f"${version}$")
    assert matches(stored, "é" * 36 + "and whatever follows")
    assert not matches(stored, "é" * 35 + "e and whatever follows")
    digest = hashlib.sha256(secret + b"more").hexdigest().encode()
    wrapped = f"bcrypt_sha256${bcrypt.hashpw(digest, bcrypt.gensalt(4)).decode()}"
    assert matches(wrapped, "é" * 36 + "more")
    assert not matches(wrapped, "é" * 36 + "more still")


def test_bits_that_belong_to_no_salt_do_not_count() -> None:
    stored = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
    kept = stored.replace("C.E5", "C/E5")
    with pytest.raises(ValueError, match="salt"):
        bcrypt.checkpw(b"U*U", kept.encode())
    assert matches(kept, "U*U")
    assert not matches(kept, "U*V")


@pytest.mark.parametrize("padded", [False, True])
def test_a_phc_form_may_be_padded(padded: bool) -> None:  # noqa: FBT001 (a column of a table)
    salt, digest = b"0123456789", hashlib.scrypt(b"secret", salt=b"0123456789", n=2, r=1, p=1, dklen=32)
    parts = [base64.b64encode(part).decode() for part in (salt, digest)]
    stored = "$".join(["", "scrypt", "ln=1,r=1,p=1", *(part if padded else part.rstrip("=") for part in parts)])
    assert matches(stored, "secret")


# What is not obeyed.

OVER_BOUND = {
    "bcrypt, cost": "$2b$17$Dc1Tc3snLcITRBm6VFTffO2zVowl40oKo5R7nxhVHcMA8zF9kO/ei",
    "bcrypt, most": "$2b$31$Dc1Tc3snLcITRBm6VFTffO2zVowl40oKo5R7nxhVHcMA8zF9kO/ei",
    "bcrypt, too little": "$2b$03$Dc1Tc3snLcITRBm6VFTffO2zVowl40oKo5R7nxhVHcMA8zF9kO/ei",
    "scrypt, memory": "$scrypt$ln=19,r=8,p=1$tNaa05qzNqZ0TsnZW2utdQ$uP8xj/mHGiTiORvS9OhRBwxYmJoBJYrAi/tl2F0say8",
    "scrypt, exponent": "$scrypt$ln=4294967296,r=1,p=1$tNaa05qzNqZ0TsnZW2utdQ$uP8xj/mHGiTiORvS9OhRBwxYmJoBJYrAi/tl2F0say8",
    "scrypt, blocks": "$scrypt$ln=1,r=1048577,p=1$tNaa05qzNqZ0TsnZW2utdQ$uP8xj/mHGiTiORvS9OhRBwxYmJoBJYrAi/tl2F0say8",
    "scrypt, lanes": "$scrypt$ln=14,r=8,p=17$tNaa05qzNqZ0TsnZW2utdQ$uP8xj/mHGiTiORvS9OhRBwxYmJoBJYrAi/tl2F0say8",
    "scrypt, beyond the RFC": "$scrypt$ln=16,r=1,p=1$tNaa05qzNqZ0TsnZW2utdQ$uP8xj/mHGiTiORvS9OhRBwxYmJoBJYrAi/tl2F0say8",
    "scrypt of Django": "scrypt$4194304$seasalt$8$1$uP8xj/mHGiTiORvS9OhRBwxYmJoBJYrAi/tl2F0say8=",
    "scrypt of Django, no power of two": "scrypt$16383$seasalt$8$1$uP8xj/mHGiTiORvS9OhRBwxYmJoBJYrAi/tl2F0say8=",
    "scrypt of Django, one": "scrypt$1$seasalt$8$1$uP8xj/mHGiTiORvS9OhRBwxYmJoBJYrAi/tl2F0say8=",
    "Firebase, memory": PUBLISHED["Firebase, of its README"][1].replace("ln=14", "ln=31"),
    "PBKDF2, iterations": f"pbkdf2_sha256${MAX_PBKDF2_ITERATIONS + 1}$salt$zdTtyc6mn/GH7aY00QRsivPw41DmcnBJN9rnPPbQnEg=",
    "PBKDF2, more digits": "$pbkdf2$99999999999$x7hXCsHYGyMEwJhzjnGudQ$uZ.SlVetVav6th2urry2bcrMaJ0",
    "PBKDF2, blocks": f"$pbkdf2-sha1$i=4000000,l=40$c2FsdA${base64.b64encode(bytes(40)).decode()}",
}


@pytest.mark.requirement(72)
@pytest.mark.would_have_caught("surrealdb-239")
@pytest.mark.parametrize("stored", OVER_BOUND.values(), ids=OVER_BOUND)
def test_parameters_beyond_the_bounds_are_not_obeyed(stored: str) -> None:
    assert HASHES.recognise(stored) is None


WITHIN_BOUND = {
    "bcrypt": "$2b$16$Dc1Tc3snLcITRBm6VFTffO2zVowl40oKo5R7nxhVHcMA8zF9kO/ei",
    "scrypt, OWASP's strongest": "$scrypt$ln=17,r=8,p=1$tNaa05qzNqZ0TsnZW2utdQ$uP8xj/mHGiTiORvS9OhRBwxYmJoBJYrAi/tl2F0say8",
    "PBKDF2": f"pbkdf2_sha256${MAX_PBKDF2_ITERATIONS}$salt$zdTtyc6mn/GH7aY00QRsivPw41DmcnBJN9rnPPbQnEg=",
}


@pytest.mark.parametrize("stored", WITHIN_BOUND.values(), ids=WITHIN_BOUND)
def test_the_strongest_that_is_obeyed_is_read_without_hashing(stored: str) -> None:
    began = time.thread_time()
    assert HASHES.recognise(stored) is not None
    assert time.thread_time() - began < 0.1  # of many seconds that any of them takes


# What is not read.

UNREADABLE = {
    "nothing": "",
    "a word": "password",
    "a digest of the password alone": hashlib.sha256(PASSWORD.encode()).hexdigest(),
    "Django's unusable password": "!RQH0O6xqJcVBqvbWEFrFJn4BHw6ijFhqyHf0o4QM",
    "MD5 of Django": "md5$seasalt$3f86d0d3d465b7b458c231bf3555c0e3",
    "the buggy bcrypt": MADE["bcrypt of crypt_blowfish"].replace("$2y$", "$2x$"),
    "a line feed at the end": MADE["PBKDF2 of Django"] + "\n",
    "a leading zero": MADE["PBKDF2 of Django"].replace("$1000$", "$01000$"),
    "other digits": MADE["PBKDF2 of Django"].replace("$1000$", "$\u0661000$"),
    "not ASCII": MADE["PBKDF2 of Django"].replace("eBAtJ", "sält"),
    "a lone surrogate": MADE["PBKDF2 of Django"].replace("eBAtJ", "\udcff"),
    "bits that stand for nothing": MADE["PBKDF2 of Django"].replace("nEg=", "nEh="),
    "no base64": MADE["scrypt in PHC form"][:-1],
    "a digest cut short": "$scrypt$ln=1,r=8,p=1$tNaa05qzNqZ0TsnZW2utdQ$uP8xj/mHGiTiORvS9OhRBwxYmJoBJYrA",
    "another length": MADE["PBKDF2 in PHC form"].replace("l=32", "l=33"),
    "the beginning of a digest": "$pbkdf2-sha512$i=1000$c2FsdA$58C2BbrNm5kB8u22LdLSGRcTLbeknKWpnRlm3yQsgmU",
    "a digest of one byte": "$pbkdf2-sha256$i=1,l=1$c2FsdA$AA",
    "Firebase, another digest than key": PUBLISHED["Firebase, of its README"][1].replace("lSrfV15c", "lSrf"),
    "Firebase, a salt that is none": PUBLISHED["Firebase, of its README"][1].replace("42xEC+ixf3L2lw==", "42xEC+ixf3L2lx=="),
    "longer than any": f"pbkdf2_sha256$1000${'s' * MAX_LENGTH}$zdTtyc6mn/GH7aY00QRsivPw41DmcnBJN9rnPPbQnEg=",
}


@pytest.mark.parametrize("stored", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_hash_of_a_known_form_is_not_recognised(stored: str) -> None:
    assert HASHES.recognise(stored) is None


CHEAP = [stored for name, stored in MADE.items()]


@examples(150)
@given(st.sampled_from(CHEAP), st.data())
def test_a_hash_that_was_cut_or_garbled_never_matches(stored: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(stored) - 1))
    instead = data.draw(st.one_of(st.just(""), st.sampled_from("$,=+/.!aZ09\0\n"), st.characters()))
    garbled = data.draw(st.sampled_from([stored[:place], stored[:place] + instead + stored[place + 1 :]]))
    same = garbled.rstrip("=") == stored.rstrip("=")  # the padding of base64 may be left out
    of_the_same_meaning = garbled.replace("$2y$", "$2b$").replace("$2a$", "$2b$") == stored.replace("$2y$", "$2b$")
    unused_bits = stored.startswith(("$2", "bcrypt")) and place == stored.rindex("$") + 22
    if not (same or of_the_same_meaning or unused_bits):
        assert not matches(garbled, PASSWORD)


@examples(100)
@given(
    st.text(max_size=80),
    st.sampled_from(["", "$", "$2b$04$", "$scrypt$", "scrypt$", "$firescrypt$", "pbkdf2_sha1$", "$pbkdf2"]),
)
def test_no_text_makes_it_raise(text: str, prefix: str) -> None:
    assert HASHES.recognise(prefix + text) is None or matches(prefix + text, PASSWORD) in {True, False}


@pytest.mark.parametrize("secret", [b"", b"\0", b"a\0b", b"\xed\xa0\x80", b"x" * 1024])
@pytest.mark.parametrize("stored", CHEAP, ids=MADE)
def test_any_bytes_may_be_given_as_a_password(stored: str, secret: bytes) -> None:
    check = HASHES.recognise(stored)
    assert check is not None
    assert not check(secret)


@pytest.mark.parametrize(
    ("module", "stored"),
    [
        ("bcrypt", MADE["bcrypt of Django"]),
        ("cryptography.hazmat.primitives.ciphers", PUBLISHED["Firebase, of its README"][1]),
    ],
)
def test_a_package_that_is_missing_is_named(module: str, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check = HASHES.recognise(stored)
    assert check is not None
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=r"^the package (bcrypt|cryptography) is not installed.*pickguard\[server\]"):
        check(b"password")


# Beside Argon2.


async def test_the_hasher_verifies_what_is_recognised_and_wants_it_rehashed() -> None:
    async with cheap_hasher(foreign=HASHES) as hasher:
        for password, stored in ALL.values():
            assert hasher.can_verify(stored)
            assert hasher.needs_rehash(stored)
            assert await hasher.verify(stored, password, purpose=Purpose.LOG_IN)
            assert not await hasher.verify(stored, "another password", purpose=Purpose.LOG_IN)
        for stored in (*OVER_BOUND.values(), *UNREADABLE.values()):
            assert not hasher.can_verify(stored)
            assert not await hasher.verify(stored, PASSWORD, purpose=Purpose.LOG_IN)


async def test_a_hasher_alone_recognises_no_other_functions() -> None:
    async with cheap_hasher() as hasher:
        stored = MADE["PBKDF2 of Django"]
        assert not hasher.can_verify(stored)
        assert not await hasher.verify(stored, PASSWORD, purpose=Purpose.LOG_IN)


async def test_a_real_hasher_keeps_its_own_hashes() -> None:
    async with Argon2Hasher(threads=1, foreign=HASHES) as hasher:
        stored = await hasher.hash(PASSWORD, purpose=Purpose.REGISTRATION)
        assert hasher.can_verify(stored)
        assert not hasher.needs_rehash(stored)
