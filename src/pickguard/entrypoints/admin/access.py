"""Who may administer: whoever has one of the tokens that the operator of the service wrote into a file."""

import enum
import hashlib
import hmac
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs
from aiohttp import hdrs

from pickguard.entrypoints.admin.address import AdminAddress
from pickguard.entrypoints.http.problems import CHALLENGE, ProblemError, problem

logger = logging.getLogger("pickguard.admin")

LEAST_CHARACTERS: Final = 32
"""In a token: as many hexadecimal digits as 128 bits have, which nobody guesses however often they may try."""
EVERY_SECONDS: Final = 10.0
"""The least time between two lines of the log about requests without a valid token."""
_LINE: Final = re.compile(r"(?:([A-Za-z0-9_.-]{1,64}):)?([A-Za-z0-9._~+/-]+=*)", re.ASCII)
"""A name, if there is one, and a token as it can stand in a header (RFC 6750, section 2.1)."""


class Right(enum.Enum):
    """What a token lets one do."""

    EVERYTHING = "everything"
    METRICS = "metrics"


class TokensError(ValueError):
    """A file of tokens is of no use. The message is one line for a person and quotes nothing of it."""


@attrs.frozen(kw_only=True)
class Operator:
    """Who has a token: a name for the log, and what they may do."""

    name: str
    right: Right


@attrs.frozen(kw_only=True)
class TokenFile:
    """A file of tokens, what they let one do, and the option that names it."""

    path: Path
    right: Right
    flag: str


@attrs.frozen(kw_only=True)
class Token:
    """A token, of which only a digest is kept."""

    operator: Operator
    digest: bytes = attrs.field(repr=False)


def read_token_files(files: Sequence[TokenFile]) -> tuple[Token, ...]:
    """Read several files. Raises `TokensError`, also for a token in two of them: nobody could say what it is for."""
    found: dict[bytes, TokenFile] = {}
    tokens: list[Token] = []
    for file in files:
        for token in read_tokens(file.path, right=file.right, flag=file.flag):
            other = found.setdefault(token.digest, file)
            if other is not file:
                raise TokensError(
                    f"{file.flag}: {file.path} has a token that is one of {other.flag}, too: give each file tokens of its own"
                )
            tokens.append(token)
    return tuple(tokens)


def read_tokens(path: Path, *, right: Right, flag: str) -> tuple[Token, ...]:
    """Read a file that has a token on each line, with a name and a colon before it where there are several people.

    Empty lines, and those that begin with #, are left out. Raises `TokensError`.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise TokensError(f"{flag}: {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise TokensError(f"{flag}: {path} is not text in UTF-8") from None
    tokens = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        if match is None or len(match[2]) < LEAST_CHARACTERS:
            raise TokensError(
                f"{flag}: line {number} of {path} is no token: give at least {LEAST_CHARACTERS} random characters, as "
                "openssl rand -hex 32 prints, with NAME: before them if you like"
            )
        operator = Operator(name=match[1] or ("metrics" if right is Right.METRICS else "admin"), right=right)
        tokens.append(Token(operator=operator, digest=_digest(match[2])))
    if not tokens:
        raise TokensError(f"{flag}: {path} has no token")
    return tuple(tokens)


def note_renewal(tokens: Sequence[Token]) -> None:
    """Log that the files were read again, and how many tokens hold now."""
    logger.info("the tokens of operators were read again: %d", len(tokens))


def note_fault(error: ValueError) -> None:
    """Log why the files were not read again."""
    logger.error("the tokens of operators were not read again, and those before hold: %s", error)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()  # as aiohttp reads what is not UTF-8


class Gate:
    """Lets operators in. Where there are no tokens, which is for Unix sockets only, whoever can connect is one."""

    def __init__(
        self, tokens: Callable[[], Sequence[Token]], address: AdminAddress, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`tokens` returns those that hold now."""
        self._tokens = tokens
        self._hosts = _hosts_of(address)
        self._clock = clock
        self._logged_at = -EVERY_SECONDS
        self._since = 0

    def check_host(self, host: str) -> None:
        """Refuse a request that a browser was made to send here by a name that somebody else gave this address.

        That is DNS rebinding: on the loopback interface the name in Host must be one that this machine has for it. Where others
        may connect the names are not known; there, the certificate is of no use to anybody else's name.
        """
        if self._hosts is not None and _name_of(host) not in self._hosts:
            raise ProblemError(problem("malformed-request", f"The Host header must name {', '.join(sorted(self._hosts))}."))

    def admit(self, headers: Mapping[str, str], needed: Right) -> Operator:
        """Return who asks. Raises a problem where that cannot be told, or they may not do it."""
        tokens = self._tokens()
        if not tokens:
            return Operator(name="local", right=Right.EVERYTHING)
        scheme, _, given = headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        token = given.strip(" ")
        if scheme.lower() != "bearer" or not token:
            raise ProblemError(
                problem(
                    "authentication-required",
                    "Send a token of the operators in the header Authorization: Bearer TOKEN.",
                    headers={hdrs.WWW_AUTHENTICATE: CHALLENGE},
                )
            )
        digest = _digest(token)
        found: Operator | None = None
        for each in tokens:  # all of them, and each in the same time
            if hmac.compare_digest(each.digest, digest):
                found = each.operator
        if found is None or found.right not in {Right.EVERYTHING, needed}:
            raise ProblemError(
                problem(
                    "invalid-token",
                    "This is no token of the operators, or one for metrics only.",
                    headers={hdrs.WWW_AUTHENTICATE: f'{CHALLENGE}, error="invalid_token"'},
                )
            )
        return found

    def note_refusal(self) -> None:
        """Log that somebody without a valid token was refused, once in a while."""
        self._since += 1
        now = self._clock()
        if now - self._logged_at >= EVERY_SECONDS:
            logger.warning("refused at the listener for administration, without a valid token: %d", self._since)
            self._logged_at, self._since = now, 0


def _hosts_of(address: AdminAddress) -> frozenset[str] | None:
    if address.path is not None or not address.is_local:
        return None
    own = f"[{address.host}]" if ":" in address.host else address.host.lower()
    return frozenset({"localhost", "127.0.0.1", "[::1]", own})


def _name_of(host: str) -> str:
    """Return what stands before the port."""
    end = host.find("]") + 1
    return (host[:end] if end else host.partition(":")[0]).lower()
