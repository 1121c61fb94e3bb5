"""Stand-ins for what a test wants to hold in its hand: time, randomness, mail, events, and a hasher that costs nothing.

Each fits one of the ports, so any of them can be handed to `pickguard.build_services`. None is for anything but tests.
"""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from pickguard.domain.model.events import Event
from pickguard.domain.model.mail import Mail, TokenMail
from pickguard.domain.model.users import EmailAddress
from pickguard.entrypoints.bootstrap import Argon2Hasher, Argon2Parameters
from pickguard.ports.hashing import ForeignHashes, Purpose

NOW: Final = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
"""What a `FakeClock` shows unless it is told otherwise."""

PASSWORD: Final = "correct horse battery staple"
"""A password that every rule lets pass, with the rules of NIST's profile too."""

OTHER_PASSWORD: Final = "an entirely different phrase"
"""Another one."""

_Mail = TypeVar("_Mail", bound=Mail)
_Event = TypeVar("_Event", bound=Event)


class FakeClock:
    """A `Clock` that stands still until it is moved."""

    def __init__(self, now: datetime = NOW) -> None:
        self._now = now

    def now(self) -> datetime:
        """See `Clock.now`."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Move the clock forward."""
        self._now += by


class FakeSecrets:
    """A `SecretSource` that gives the same bytes in the same order every time: whoever knows the seed knows all of them.

    So the ids and tokens of a test are the same in every run. In a store that is not emptied between tests they would meet
    those of the test before; there, give each test a seed of its own.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 (what is wanted is that it can be foretold)

    def random_bytes(self, size: int) -> bytes:
        """See `SecretSource.random_bytes`."""
        return self._random.randbytes(size)


class FakeHasher:
    """A `PasswordHasher` that hashes nothing: it keeps the password in the clear, at once.

    It notes what was asked of it: `purposes` in order, the hashes that were `verified`, and what the last request had `spent`.
    Set `parameters` to something else, and every hash that was made before needs a rehash.
    """

    def __init__(self) -> None:
        self.parameters = "1"
        self.verified: list[str | None] = []
        self.spent = timedelta(0)
        self.purposes: list[Purpose] = []
        self._salt = 0

    def hash_at_once(self, password: str) -> str:
        """Return what `hash` returns, without a wait or a note."""
        self._salt += 1
        return f"not-hashed:{self.parameters}:{self._salt}:{password}"

    async def hash(self, password: str, *, purpose: Purpose, spent: timedelta = timedelta(0)) -> str:
        """See `PasswordHasher.hash`."""
        self.spent = spent
        self.purposes.append(purpose)
        return self.hash_at_once(password)

    async def verify(
        self, password_hash: str | None, password: str, *, purpose: Purpose, spent: timedelta = timedelta(0)
    ) -> bool:
        """See `PasswordHasher.verify`."""
        self.spent = spent
        self.purposes.append(purpose)
        self.verified.append(password_hash)
        return password_hash is not None and self.can_verify(password_hash) and password_hash.split(":", 3)[3] == password

    def needs_rehash(self, password_hash: str) -> bool:
        """See `PasswordHasher.needs_rehash`."""
        return password_hash.split(":")[1:2] != [self.parameters]

    def can_verify(self, password_hash: str) -> bool:
        """See `PasswordHasher.can_verify`."""
        return password_hash.startswith("not-hashed:") and password_hash.count(":") >= 3  # noqa: PLR2004 (the parts of one)


class Outbox:
    """A `Mailer` that keeps what was posted, as values of `pickguard.domain.model.mail`."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []

    def post(self, mail: Mail) -> None:
        """See `Mailer.post`."""
        self.mails.append(mail)

    def of(self, kind: type[_Mail]) -> list[_Mail]:
        """Return the mails of one kind, in order."""
        return [mail for mail in self.mails if type(mail) is kind]

    def last(self, kind: type[_Mail]) -> _Mail:
        """Return the newest mail of one kind. Raises `LookupError` where there is none."""
        found = self.of(kind)
        if not found:
            raise LookupError(f"no {kind.__name__} was mailed; {self._told(self.mails)}")
        return found[-1]

    def to(self, email: str) -> list[Mail]:
        """Return the mails to one address, in whatever spelling, in order."""
        key = EmailAddress.parse(email).key
        return [mail for mail in self.mails if mail.to.key == key]

    def token_for(self, email: str, kind: type[TokenMail] = TokenMail) -> str:
        """Return the token in the newest mail to an address that has one, or the newest of one kind.

        Raises `LookupError` where there is none. A reset that was asked for is mailed after the answer:
        `await AccountService.settle()` comes first.
        """
        mails = self.to(email)
        tokens = [mail.token for mail in mails if isinstance(mail, kind)]
        if not tokens:
            raise LookupError(f"no {kind.__name__} was mailed to {email}; {self._told(mails)}")
        return tokens[-1]

    def clear(self) -> None:
        """Forget what was posted."""
        self.mails.clear()

    def _told(self, mails: Sequence[Mail]) -> str:
        return f"there is: {', '.join(type(mail).__name__ for mail in mails) or 'nothing'}"


class RecordedEvents:
    """An `EventPublisher` that keeps what was published."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        """See `EventPublisher.publish`."""
        self.events.append(event)

    def names(self) -> list[str]:
        """Return the names of the events, in order: ``["UserRegistered", "SessionOpened"]``."""
        return [type(event).__name__ for event in self.events]

    def of(self, kind: type[_Event]) -> list[_Event]:
        """Return the events of one kind, in order."""
        return [event for event in self.events if type(event) is kind]

    def clear(self) -> None:
        """Forget what was published."""
        self.events.clear()


class RecordedPace:
    """A `Pace` that lets no time pass, and keeps what was to be waited."""

    def __init__(self) -> None:
        self.waited: list[timedelta] = []

    async def wait(self, span: timedelta) -> None:
        """See `Pace.wait`."""
        self.waited.append(span)


class NoCommonPasswords:
    """`CommonPasswords` without any, so that no list is read."""

    def contains(self, password: str) -> bool:
        """See `CommonPasswords.contains`."""
        del password
        return False


def weak_hasher(
    *,
    threads: int | None = None,
    wait_budget: timedelta = timedelta(seconds=2),
    foreign: ForeignHashes | None = None,
) -> Argon2Hasher:
    """Return a real hasher, as weak as Argon2id can be: for tests that are to meet its threads and its waits."""
    return Argon2Hasher(
        parameters=Argon2Parameters(memory_kib=8, time_cost=1), threads=threads, wait_budget=wait_budget, foreign=foreign
    )
