"""The text of tokens: whose account they are for, a secret, and a checksum.

A prefix, unpadded base64url (RFC 4648, section 5) of the content, and the CRC-32 of all before it in 8 hexadecimal digits. The
content of a token is the user's id and the secret: 48 bytes, which fill 64 characters to the last bit, so there is one text
for one token; the checksum refuses garbage and slips of the hand without asking the store. It is no protection: that is the
secret's part.
"""

import binascii
import zlib
from typing import Final
from uuid import UUID

from pickguard.domain.model.identifiers import UserId

SECRET_BYTES: Final = 32
"""256 bits, which nobody can guess or search through (ASVS 5.0 7.2.3 and 11.5.1 ask for 128 at least)."""

USER_ID_BYTES: Final = 16
BODY_LENGTH: Final = 64
_CHECKSUM_LENGTH: Final = 8
_STANDARD_ALPHABET: Final = bytes.maketrans(b"-_+/=", b"+/!!!")  # what is only in the other alphabet is in none
_URL_ALPHABET: Final = str.maketrans("+/", "-_")


def write_token(prefix: str, user_id: UserId, secret: bytes) -> str:
    """Return the text of a token. Its prefix is public: scanners for secrets know it by that."""
    return write_checked(prefix, user_id.bytes + secret)


def read_token(prefix: str, text: str) -> tuple[UserId, bytes] | None:
    """Return whose account a token is for, and its secret; None for anything that is not a token of this prefix."""
    content = read_checked(prefix, text, BODY_LENGTH)
    if content is None:
        return None
    return UserId(UUID(bytes=content[:USER_ID_BYTES])), content[USER_ID_BYTES:]


def write_checked(prefix: str, content: bytes) -> str:
    """Return the text for a content, whose size is a multiple of 3 bytes: another one would have several texts."""
    body = prefix + binascii.b2a_base64(content, newline=False).decode().translate(_URL_ALPHABET)
    return f"{body}{zlib.crc32(body.encode()):08x}"


def read_checked(prefix: str, text: str, length: int) -> bytes | None:
    """Return the content of a text, which takes so many characters; None for anything that was not written like that."""
    if len(text) != len(prefix) + length + _CHECKSUM_LENGTH or not text.startswith(prefix) or not text.isascii():
        return None
    body, checksum = text[:-_CHECKSUM_LENGTH].encode(), text[-_CHECKSUM_LENGTH:]
    if f"{zlib.crc32(body):08x}" != checksum:
        return None
    try:
        return binascii.a2b_base64(body[len(prefix) :].translate(_STANDARD_ALPHABET), strict_mode=True)
    except binascii.Error:
        return None
