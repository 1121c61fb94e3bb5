"""The pytest plugin of Pickguard: fixtures ``pickguard_…``, for the tests of services that stand on it.

It is a module of its own, beside the package, because pytest imports it in every run wherever the package is installed: it
imports nothing of the package before a test asks for one of its fixtures. ``-p no:pickguard`` leaves it out.

The fixtures are plain functions, so they go with any plugin for asynchronous tests in any mode, and with tests that are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from pickguard import Services
    from pickguard.testing import AccountService, FakeClock, Outbox, ReadyUser, RecordedEvents
    from pickguard.testing.http import HttpService

# Not yet imported: so that a failure inside of them shows its values, as one in a test module does.
pytest.register_assert_rewrite("pickguard.testing.contracts", "pickguard.testing.machine")


@pytest.fixture
def pickguard_options() -> dict[str, Any]:
    """What the account service is made with: arguments of `pickguard.testing.make_account_service`. Override it to choose."""
    return {}


@pytest.fixture
def pickguard_accounts(pickguard_options: dict[str, Any]) -> AccountService:
    """An account service of this test alone, in memory: its use cases, clock, outbox, events, and ready-made users."""
    from pickguard.testing import make_account_service

    return make_account_service(**pickguard_options)


@pytest.fixture
def pickguard_services(pickguard_accounts: AccountService) -> Services:
    """The use cases, as `pickguard.build_services` returns them."""
    return pickguard_accounts.services


@pytest.fixture
def pickguard_clock(pickguard_accounts: AccountService) -> FakeClock:
    """The clock of the account service. It stands still until `advance` moves it."""
    return pickguard_accounts.clock


@pytest.fixture
def pickguard_outbox(pickguard_accounts: AccountService) -> Outbox:
    """What the account service has mailed."""
    return pickguard_accounts.outbox


@pytest.fixture
def pickguard_events(pickguard_accounts: AccountService) -> RecordedEvents:
    """What the account service has published."""
    return pickguard_accounts.events


@pytest.fixture
def pickguard_user(pickguard_accounts: AccountService) -> ReadyUser:
    """A user who is there: Ada Lovelace, ada@example.com, verified, with one session."""
    return pickguard_accounts.user("ada@example.com")


@pytest.fixture
def pickguard_token(pickguard_user: ReadyUser) -> str:
    """The bearer token of `pickguard_user`."""
    return pickguard_user.token


@pytest.fixture
def pickguard_http(pickguard_accounts: AccountService) -> Generator[HttpService]:
    """The HTTP API of the account service, on a port of 127.0.0.1, served by a thread. Needs ``pickguard[server]``."""
    try:
        from pickguard.testing.http import serve_over_http
    except ModuleNotFoundError as error:
        pytest.fail(f"pickguard_http needs the package {error.name}: pip install 'pickguard[server]'", pytrace=False)
    with serve_over_http(pickguard_accounts) as service:
        yield service
