"""What other services prove themselves with when they ask whose a token is: a name, and a secret of which a digest is kept."""

import hashlib
import hmac
import re
from typing import Final, NewType, Self

import attrs

from pickguard.domain.model.errors import InvalidServiceCredential
from pickguard.domain.model.tokens import read_checked, write_checked

ServiceDigest = NewType("ServiceDigest", bytes)
"""SHA-256 of a secret: all of it that is kept. It has 264 random bits, so a plain digest cannot be searched through."""

SERVICE_SECRET_PREFIX: Final = "pgs_"  # noqa: S105 (public: secret scanners know a secret by it)
SERVICE_SECRET_BYTES: Final = 33
"""264 bits, which fill 44 characters to the last bit. Made by a generator, never chosen: nobody can guess one."""
_SECRET_LENGTH: Final = 44

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_LINE: Final = re.compile(r"(\S+)[ \t]+sha256:([0-9a-f]{64})", re.ASCII)
NAME_RULE: Final = "1 to 64 of the characters A-Z, a-z, 0-9, '.', '_' and '-', beginning with a letter or a digit"


@attrs.frozen(kw_only=True)
class ServiceSecret:
    """The secret of a service. Its text begins with ``pgs_`` and ends in a checksum."""

    secret: bytes = attrs.field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a secret's text; `InvalidServiceCredential` for anything that is not one."""
        found = read_checked(SERVICE_SECRET_PREFIX, text, _SECRET_LENGTH)
        if found is None:
            raise InvalidServiceCredential
        return cls(secret=found)

    def reveal(self) -> str:
        """Return the text that the service keeps. Whoever has it may ask whose a token is."""
        return write_checked(SERVICE_SECRET_PREFIX, self.secret)

    @property
    def digest(self) -> ServiceDigest:
        """What is kept of the secret, and looked for."""
        return ServiceDigest(hashlib.sha256(self.secret).digest())


def _check_name(_: object, __: object, value: str) -> None:
    if not _NAME.fullmatch(value):
        raise ValueError(f"a service's name has {NAME_RULE}")


@attrs.frozen(kw_only=True)
class ServiceCredential:
    """One secret of one service, as far as it is kept. `ValueError` for a name that is none."""

    name: str = attrs.field(validator=_check_name)
    digest: ServiceDigest = attrs.field(repr=False)

    def line(self) -> str:
        """Return the line of the file of credentials that stands for it."""
        return f"{self.name} sha256:{self.digest.hex()}"


@attrs.frozen
class ServiceCredentials:
    """All that are known. A service may have several secrets, so that a new one can take the place of an old one."""

    known: tuple[ServiceCredential, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a file of them: a line for each, ``NAME sha256:DIGEST``; empty lines and those that begin with # say nothing.

        Raises `ValueError` that names the line at fault, but does not quote it: it may hold a secret by mistake.
        """
        known: dict[ServiceDigest, ServiceCredential] = {}
        for number, line in enumerate(text.split("\n"), 1):
            content = line.strip()
            if not content or content.startswith("#"):
                continue
            found = _LINE.fullmatch(content)
            if found is None or not _NAME.fullmatch(found[1]):
                raise ValueError(f"line {number} is not NAME sha256:DIGEST; `pickguard service-credential NAME` makes one")
            credential = ServiceCredential(name=found[1], digest=ServiceDigest(bytes.fromhex(found[2])))
            if credential.digest in known:
                raise ValueError(f"line {number} has the digest of a line before it: each secret belongs to one service")
            known[credential.digest] = credential
        return cls(tuple(known.values()))

    def identify(self, secret: ServiceSecret, *, name: str | None = None) -> ServiceCredential:
        """Return whose secret this is, in a time that does not depend on how much of which digest is right.

        Where a name is claimed, it must be that service's. Raises `InvalidServiceCredential`, whatever is wrong.
        """
        digest = secret.digest
        found = [each for each in self.known if hmac.compare_digest(each.digest, digest)]
        if not found or (name is not None and found[0].name != name):
            raise InvalidServiceCredential
        return found[0]
