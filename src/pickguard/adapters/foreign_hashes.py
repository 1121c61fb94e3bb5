"""Password hashes that other systems made, of functions other than Argon2: read, held against bounds, and verified.

What is read, and of whom:

```
$2b$12$<salt><digest>                                 bcrypt, also $2a$ and $2y$
bcrypt$$2b$…                                          Django's BCryptPasswordHasher
bcrypt_sha256$$2b$…                                   Django's BCryptSHA256PasswordHasher: of the SHA-256 digest in hexadecimal
$scrypt$ln=14,r=8,p=1$<salt>$<digest>                 PHC, and passlib
scrypt$16384$<salt>$8$1$<digest>                      Django's ScryptPasswordHasher
$firescrypt$ln=14,r=8,p=1$<salt>$<digest>$<salt separator>$<signer key>
                                                      Firebase, in the form that Ory Kratos imports
pbkdf2_sha256$600000$<salt>$<digest>                  Django's PBKDF2PasswordHasher, also pbkdf2_sha1
$pbkdf2-sha256$i=600000,l=32$<salt>$<digest>          PHC, also -sha1 and -sha512; without l it is the length of the digest
$pbkdf2-sha256$29000$<salt>$<digest>                  passlib, also -sha512, and $pbkdf2$ for SHA-1
```

The functions are those of OpenSSL (by way of hashlib), bcrypt and cryptography, all of which let go of the interpreter's lock.
passlib, and its maintained fork, read half of these forms; they obey whatever parameters stand there, and with bcrypt 5 they
raise where a password is longer than 72 bytes.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Final

MAX_LENGTH: Final = 1024
"""Characters of a hash that is looked at."""
MAX_BCRYPT_COST: Final = 16
MAX_SCRYPT_BYTES: Final = 256 * 1024 * 1024
"""Of ``128 * N * r * p``: this bounds the memory (``128 * N * r``) and the time. It is twice OWASP's strongest choice."""
MAX_PBKDF2_ITERATIONS: Final = 5_000_000
"""Of all blocks of the digest together. Django 6.0 takes 1,200,000."""

Check = Callable[[bytes], bool]

_BCRYPT_BYTES: Final = 72
"""How much of a password bcrypt takes. The systems whose hashes these are left out the rest, so it is left out here."""
_BCRYPT_ALPHABET: Final = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_DIGEST_BYTES: Final = {"sha1": 20, "sha256": 32, "sha512": 64}
_SHORTEST_DIGEST: Final = 16
_SCRYPT_DIGESTS: Final = range(32, 65)
_AES_KEY_BYTES: Final = 32
_AES_BLOCK_BYTES: Final = 16

_NUMBER: Final = "[1-9][0-9]{0,9}"
_BASE64: Final = "[A-Za-z0-9+/]+={0,2}"
_SALT_AND_DIGEST: Final = rf"\$(?P<salt>{_BASE64})\$(?P<digest>{_BASE64})"
_SCRYPT: Final = f"ln=(?P<ln>{_NUMBER}),r=(?P<r>{_NUMBER}),p=(?P<p>{_NUMBER})"


class ForeignPasswordHashes:
    """A `ForeignHashes` that reads the forms above.

    bcrypt and Firebase's form need the packages bcrypt and cryptography, which are imported when the first of them is
    verified; `ModuleNotFoundError` says so where one is missing.
    """

    def recognise(self, password_hash: str) -> Check | None:
        """See `ForeignHashes.recognise`."""
        if len(password_hash) > MAX_LENGTH or not password_hash.isascii():
            return None
        for form, read in _FORMS.items():
            if match := form.fullmatch(password_hash):
                return read(**match.groupdict())
        return None


# bcrypt


def _bcrypt(*, scheme: str | None, version: str, cost: str, salt: str, digest: str) -> Check | None:
    if not 4 <= int(cost) <= MAX_BCRYPT_COST:  # noqa: PLR2004 (the least that bcrypt has)
        return None
    # Of the last character only two bits belong to the salt. Some systems kept the others, which bcrypt refuses today.
    last = _BCRYPT_ALPHABET[_BCRYPT_ALPHABET.index(salt[-1]) & 0b110000]
    stored = f"${version}${cost}${salt[:-1]}{last}{digest}".encode()

    def check(secret: bytes) -> bool:
        try:
            import bcrypt  # noqa: PLC0415 (where there is such a hash only)
        except ModuleNotFoundError as error:
            raise _missing(error) from None
        if scheme == "bcrypt_sha256":
            secret = hashlib.sha256(secret).hexdigest().encode()
        return bcrypt.checkpw(secret[:_BCRYPT_BYTES], stored)

    return check


# scrypt (RFC 7914)


def _scrypt(n: int, r: int, p: int) -> Callable[[bytes, bytes, int], bytes] | None:
    """Return scrypt with these parameters, from password, salt and length to digest; None where they are beyond the bounds."""
    if n < 2 or n & (n - 1) or n >= 1 << (16 * min(r, 4)) or 128 * n * r * p > MAX_SCRYPT_BYTES:  # noqa: PLR2004 (RFC 7914, section 6)
        return None

    def derive(secret: bytes, salt: bytes, length: int) -> bytes:
        return hashlib.scrypt(secret, salt=salt, n=n, r=r, p=p, dklen=length, maxmem=2 * MAX_SCRYPT_BYTES)

    return derive


def _phc_scrypt(*, ln: str, r: str, p: str, salt: str, digest: str) -> Check | None:
    return _check_scrypt(_power_of_two(ln), r, p, _decoded(salt), _decoded(digest))


def _django_scrypt(*, n: str, salt: str, r: str, p: str, digest: str) -> Check | None:
    return _check_scrypt(int(n), r, p, salt.encode(), _decoded(digest))


def _check_scrypt(n: int, r: str, p: str, salt: bytes | None, digest: bytes | None) -> Check | None:
    derive = _scrypt(n, int(r), int(p))
    if derive is None or salt is None or digest is None or len(digest) not in _SCRYPT_DIGESTS:
        return None
    return lambda secret: hmac.compare_digest(derive(secret, salt, len(digest)), digest)


def _firebase(*, ln: str, r: str, p: str, salt: str, digest: str, separator: str | None, key: str) -> Check | None:
    """Read Firebase's modified scrypt: what scrypt derives encrypts the signer key, by AES-256 in counter mode."""
    derive = _scrypt(_power_of_two(ln), int(r), int(p))
    parts = [_decoded(part) for part in (salt, digest, separator or "", key)]
    if derive is None or None in parts:
        return None
    its_salt, stored, its_separator, signer_key = (part or b"" for part in parts)
    if not len(stored) == len(signer_key) >= _SHORTEST_DIGEST:
        return None

    def check(secret: bytes) -> bool:
        try:
            from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # noqa: PLC0415 (as above)
        except ModuleNotFoundError as error:
            raise _missing(error) from None
        derived = derive(secret, its_salt + its_separator, _AES_KEY_BYTES)
        cipher = Cipher(algorithms.AES256(derived), modes.CTR(bytes(_AES_BLOCK_BYTES))).encryptor()
        return hmac.compare_digest(cipher.update(signer_key) + cipher.finalize(), stored)

    return check


def _power_of_two(exponent: str) -> int:
    """Return the number with this logarithm, or 0 for one that is beyond all bounds."""
    return 1 << int(exponent) if int(exponent) < MAX_SCRYPT_BYTES.bit_length() else 0


# PBKDF2 (RFC 8018)


def _django_pbkdf2(*, function: str, iterations: str, salt: str, digest: str) -> Check | None:
    return _check_pbkdf2(function, iterations, salt.encode(), _decoded(digest), None)


def _phc_pbkdf2(*, function: str, iterations: str, length: str | None, salt: str, digest: str) -> Check | None:
    return _check_pbkdf2(function, iterations, _decoded(salt), _decoded(digest), length)


def _passlib_pbkdf2(*, function: str | None, iterations: str, salt: str, digest: str) -> Check | None:
    its_salt, stored = (_decoded(part.replace(".", "+")) for part in (salt, digest))
    return _check_pbkdf2(function or "sha1", iterations, its_salt, stored, None)


def _check_pbkdf2(function: str, iterations: str, salt: bytes | None, digest: bytes | None, length: str | None) -> Check | None:
    # The beginning of a longer digest is a digest of the same password: what was cut off must not match.
    size = _DIGEST_BYTES[function] if length is None else int(length)
    if salt is None or digest is None or len(digest) != size or size < _SHORTEST_DIGEST:
        return None
    blocks = -(-size // _DIGEST_BYTES[function])
    if int(iterations) * blocks > MAX_PBKDF2_ITERATIONS:
        return None
    return lambda secret: hmac.compare_digest(hashlib.pbkdf2_hmac(function, secret, salt, int(iterations), size), digest)


def _decoded(text: str) -> bytes | None:
    """Read base64, with all of its padding or none. What would be written in another way is no base64."""
    bare = text.rstrip("=")
    try:
        decoded = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except binascii.Error:
        return None
    written = base64.b64encode(decoded).decode()
    return decoded if text in {written, written.rstrip("=")} else None


def _missing(error: ModuleNotFoundError) -> ModuleNotFoundError:
    package = str(error.name).partition(".")[0]
    return ModuleNotFoundError(
        f"the package {package} is not installed: a hash of this form needs pickguard[server]", name=package
    )


_FORMS: Final[dict[re.Pattern[str], Callable[..., Check | None]]] = {
    re.compile("".join(parts)): read
    for read, parts in (
        (
            _bcrypt,
            (
                r"(?:(?P<scheme>bcrypt|bcrypt_sha256)\$)?\$(?P<version>2[aby])\$(?P<cost>[0-9]{2})\$",
                r"(?P<salt>[./A-Za-z0-9]{22})(?P<digest>[./A-Za-z0-9]{31})",
            ),
        ),
        (_phc_scrypt, (r"\$scrypt\$", _SCRYPT, _SALT_AND_DIGEST)),
        (
            _django_scrypt,
            (
                rf"scrypt\$(?P<n>{_NUMBER})\$(?P<salt>[^$]+)\$(?P<r>{_NUMBER})\$(?P<p>{_NUMBER})",
                rf"\$(?P<digest>{_BASE64})",
            ),
        ),
        (
            _firebase,
            (r"\$firescrypt\$", _SCRYPT, _SALT_AND_DIGEST, rf"\$(?P<separator>{_BASE64})?\$(?P<key>{_BASE64})"),
        ),
        (
            _django_pbkdf2,
            (
                rf"pbkdf2_(?P<function>sha1|sha256)\$(?P<iterations>{_NUMBER})",
                rf"\$(?P<salt>[^$]+)\$(?P<digest>{_BASE64})",
            ),
        ),
        (
            _phc_pbkdf2,
            (
                rf"\$pbkdf2-(?P<function>sha1|sha256|sha512)\$i=(?P<iterations>{_NUMBER})(?:,l=(?P<length>{_NUMBER}))?",
                _SALT_AND_DIGEST,
            ),
        ),
        (
            _passlib_pbkdf2,
            (
                rf"\$pbkdf2(?:-(?P<function>sha256|sha512))?\$(?P<iterations>{_NUMBER})",
                r"\$(?P<salt>[A-Za-z0-9./]+)\$(?P<digest>[A-Za-z0-9./]+)",
            ),
        ),
    )
}
