"""For the tests of services that stand on Pickguard, and of adapters that Pickguard is to stand on.

- `make_account_service`: the use cases in memory, with a clock that is moved by hand, an outbox, the events, and users who are
  there in microseconds. The fixtures ``pickguard_…`` of the pytest plugin hand out the same.
- `pickguard.testing.contracts`: what every adapter of a port must do, as classes of tests to subclass.
- `pickguard.testing.machine`: any sequence of use cases against a model of them, found by hypothesis.
- `pickguard.testing.http`: the HTTP API on a port of its own.

This module needs neither pytest nor hypothesis; ``pip install 'pickguard[testing]'`` brings what the others need. Nothing in
here is for anything but tests: the hasher keeps passwords in the clear, and all that is secret can be foretold.
"""

from pickguard.testing.fakes import (
    NOW,
    OTHER_PASSWORD,
    PASSWORD,
    FakeClock,
    FakeHasher,
    FakeSecrets,
    NoCommonPasswords,
    Outbox,
    RecordedEvents,
    RecordedPace,
    weak_hasher,
)
from pickguard.testing.service import AccountService, ReadyUser, make_account_service

__all__ = [
    "NOW",
    "OTHER_PASSWORD",
    "PASSWORD",
    "AccountService",
    "FakeClock",
    "FakeHasher",
    "FakeSecrets",
    "NoCommonPasswords",
    "Outbox",
    "ReadyUser",
    "RecordedEvents",
    "RecordedPace",
    "make_account_service",
    "weak_hasher",
]
