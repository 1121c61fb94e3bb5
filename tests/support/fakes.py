"""Stand-ins for what a test wants to hold in its hand: time, events, and a hasher that costs nothing."""

from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pickguard.adapters.argon2 import Argon2Hasher, Argon2Parameters
from pickguard.adapters.memory_limits import Unlimited
from pickguard.domain.model.events import Event
from pickguard.domain.model.mail import Mail
from pickguard.entrypoints.bootstrap import Services, build_services
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.hashing import PasswordHasher

GOOD_PASSWORD = "correct horse battery staple"
OTHER_PASSWORD = "an entirely different phrase"


SomeMail = TypeVar("SomeMail", bound=Mail)


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> None:
        self._now += by


class RecordedEvents:
    """Keeps what was published."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


class RecordedMail:
    """A mailer that keeps what was posted."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []

    def post(self, mail: Mail) -> None:
        self.mails.append(mail)

    def of(self, kind: type[SomeMail]) -> list[SomeMail]:
        """Return the mails of one kind, in order."""
        return [mail for mail in self.mails if type(mail) is kind]

    def last(self, kind: type[SomeMail]) -> SomeMail:
        return self.of(kind)[-1]


class RecordedPace:
    """Lets no time pass, and keeps what was to be waited."""

    def __init__(self) -> None:
        self.waited: list[timedelta] = []

    async def wait(self, span: timedelta) -> None:
        self.waited.append(span)


class NoCommonPasswords:
    """Lets every password pass, without reading a list."""

    def contains(self, password: str) -> bool:
        del password
        return False


def cheap_hasher(**more: object) -> Argon2Hasher:
    """Argon2id as weak as the library lets it be."""
    return Argon2Hasher(parameters=Argon2Parameters(memory_kib=8, time_cost=1), **more)  # type: ignore[arg-type]


def wired(accounts: AccountRepository, hasher: PasswordHasher) -> Services:
    """Return the use cases on a repository, as one process has them."""
    return build_services(
        accounts=accounts,
        hasher=hasher,
        events=RecordedEvents(),
        limiter=Unlimited(),
        common_passwords=NoCommonPasswords(),
    )
