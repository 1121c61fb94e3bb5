"""Stand-ins for what a test wants to hold in its hand: those of `pickguard.testing`, under the names they have here."""

from pickguard.adapters.memory_limits import Unlimited
from pickguard.entrypoints.bootstrap import Services, build_services
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.hashing import PasswordHasher
from pickguard.testing import OTHER_PASSWORD, FakeClock, NoCommonPasswords, RecordedEvents, RecordedPace
from pickguard.testing import PASSWORD as GOOD_PASSWORD
from pickguard.testing import Outbox as RecordedMail
from pickguard.testing import weak_hasher as cheap_hasher

__all__ = [
    "GOOD_PASSWORD",
    "OTHER_PASSWORD",
    "FakeClock",
    "NoCommonPasswords",
    "RecordedEvents",
    "RecordedMail",
    "RecordedPace",
    "cheap_hasher",
    "wired",
]


def wired(accounts: AccountRepository, hasher: PasswordHasher) -> Services:
    """Return the use cases on a repository, as one process has them."""
    return build_services(
        accounts=accounts,
        hasher=hasher,
        events=RecordedEvents(),
        limiter=Unlimited(),
        common_passwords=NoCommonPasswords(),
    )
