"""Events as lines of the log."""

import json
import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from pickguard.adapters.event_log import EVERY_SECONDS, MOST, MOST_FROM_ONE, LoggedEvents
from pickguard.domain.model.events import (
    AccountDisabled,
    AccountEnabled,
    AddressChangeCancelled,
    AddressChanged,
    AddressChangeRequested,
    AddressVerified,
    BreachCheckSkipped,
    DataExported,
    DeletionCancelled,
    DeletionScheduled,
    Event,
    FailuresNoted,
    LimitReached,
    LogInRefused,
    Outcome,
    PasswordChanged,
    PasswordRefused,
    PasswordRehashed,
    PasswordReset,
    ResetRequested,
    ServiceRefused,
    SessionEnd,
    SessionEnded,
    SessionOpened,
    SessionReauthenticated,
    UserDeleted,
    UserImported,
    UserRegistered,
    UserRenamed,
)
from pickguard.domain.model.identifiers import SessionId
from pickguard.domain.model.limits import Limit
from pickguard.domain.model.sessions import Client
from tests.support.strategies import NOW, USER_ID

SESSION_ID = SessionId(UUID(int=7))
CLIENT = Client(ip="192.0.2.1", user_agent='evil\r\n{"event": "UserDeleted"}\x1b[2J')
REQUEST_ID = "019b7d1f-2a0e-4000-8000-000000000001"
ALL: dict[type[Event], dict[str, Any]] = {
    UserRegistered: {},
    UserImported: {},
    BreachCheckSkipped: {},
    UserRenamed: {},
    AddressChangeRequested: {},
    AddressChangeCancelled: {},
    AddressChanged: {},
    AddressVerified: {},
    PasswordChanged: {},
    ResetRequested: {},
    PasswordReset: {},
    PasswordRehashed: {},
    DataExported: {},
    DeletionScheduled: {"deletes_at": NOW + timedelta(days=30)},
    DeletionCancelled: {},
    UserDeleted: {"declined": True},
    AccountDisabled: {},
    AccountEnabled: {},
    SessionOpened: {"session_id": SESSION_ID},
    SessionReauthenticated: {"session_id": SESSION_ID},
    SessionEnded: {"session_id": SESSION_ID, "reason": SessionEnd.REVOKED},
    LogInRefused: {},
    PasswordRefused: {"session_id": SESSION_ID},
    ServiceRefused: {},
    FailuresNoted: {"count": 3},
    LimitReached: {"limit": Limit.GUESSES},
}
REFUSED = {LogInRefused, PasswordRefused, ServiceRefused, FailuresNoted}


def line_of(event: Event, caplog: pytest.LogCaptureFixture) -> str:
    with caplog.at_level(logging.INFO, "pickguard.events"):
        LoggedEvents(request_id=lambda: REQUEST_ID).publish(event)
    (message,) = caplog.messages
    return message


def test_every_event_is_tried_here() -> None:
    assert set(ALL) == set(Event.__subclasses__())


@pytest.mark.requirement(76)
@pytest.mark.parametrize("kind", list(ALL))
def test_an_event_is_one_line_of_json(kind: type[Event], caplog: pytest.LogCaptureFixture) -> None:
    line = line_of(kind(user_id=USER_ID, at=NOW, client=CLIENT, **ALL[kind]), caplog)
    outcome = Outcome.FAILURE if kind in REFUSED else Outcome.LIMITED if kind is LimitReached else Outcome.SUCCESS
    content = json.loads(line)
    assert {name: content.pop(name) for name in ("event", "time", "outcome", "request_id", "subject", "source")} == {
        "event": kind.__name__,
        "time": "2026-01-02T03:04:05.678Z",
        "outcome": outcome.value,
        "request_id": REQUEST_ID,
        "subject": str(USER_ID),
        "source": "192.0.2.1",
    }
    assert set(content) == set(ALL[kind])
    if kind is DeletionScheduled:
        assert content["deletes_at"] == "2026-02-01T03:04:05.678Z"
    assert line.isprintable()
    assert line.isascii()


def test_what_an_operator_did_is_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    content = json.loads(line_of(AccountDisabled(user_id=USER_ID, at=NOW, by_operator=True), caplog))
    assert (content["by"], content["source"]) == ("operator", None)


def test_of_a_client_the_address_is_written_and_not_what_it_calls_itself(caplog: pytest.LogCaptureFixture) -> None:
    event = SessionOpened(user_id=USER_ID, at=NOW, session_id=SESSION_ID, client=Client(ip="192.0.2.1", user_agent="geheim"))
    line = line_of(event, caplog)
    assert json.loads(line)["source"] == "192.0.2.1"
    assert "geheim" not in line


@pytest.mark.requirement(77)
def test_no_source_forges_a_line(caplog: pytest.LogCaptureFixture) -> None:
    source = 'x\r\n{"event": "UserDeleted"}\u2028\x1b[2J'
    line = line_of(LogInRefused(user_id=None, at=NOW, client=Client(ip=source)), caplog)
    assert line.isprintable()
    assert line.isascii()
    assert json.loads(line)["source"] == source


def test_the_reason_of_an_end_is_written_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    ended = SessionEnded(user_id=USER_ID, at=NOW, session_id=SESSION_ID, reason=SessionEnd.TOO_MANY)
    assert json.loads(line_of(ended, caplog))["reason"] == "too_many"


def test_an_event_without_an_account_has_no_subject(caplog: pytest.LogCaptureFixture) -> None:
    content = json.loads(line_of(LogInRefused(user_id=None, at=NOW), caplog))
    assert (content["subject"], content["source"]) == (None, None)


def test_nothing_is_written_where_the_log_does_not_want_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "pickguard.events"):
        LoggedEvents().publish(UserRegistered(user_id=USER_ID, at=NOW))
    assert caplog.messages == []


class Ticks:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    caplog.clear()
    return lines


def test_who_is_refused_at_no_cost_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pickguard.events")
    clock = Ticks()
    events = LoggedEvents(clock=clock)

    def flood(times: int, source: str) -> None:
        for _ in range(times):
            events.publish(LimitReached(user_id=None, at=NOW, client=Client(ip=source), limit=Limit.SOURCE))

    flood(1000, "192.0.2.1")
    assert [each.get("left_out") for each in logged(caplog)] == [None] * MOST_FROM_ONE
    # Others are heard beside, and what came between is counted by its kind.
    events.publish(ServiceRefused(user_id=None, at=NOW, client=Client(ip="192.0.2.1")))
    flood(1, "192.0.2.2")
    refused, reached = logged(caplog)
    assert (refused["event"], refused["source"], refused.get("left_out")) == ("ServiceRefused", "192.0.2.1", None)
    assert (reached["source"], reached["left_out"]) == ("192.0.2.2", 1000 - MOST_FROM_ONE)
    for number in range(10 * MOST):
        flood(1, f"2001:db8::{number:x}")
    assert len(logged(caplog)) == MOST - MOST_FROM_ONE - 1
    # What an account has lived through is written whatever else goes on.
    events.publish(UserRegistered(user_id=USER_ID, at=NOW))
    assert [each["event"] for each in logged(caplog)] == ["UserRegistered"]
    clock.now = EVERY_SECONDS
    flood(2, "192.0.2.1")
    assert [each.get("left_out") for each in logged(caplog)] == [10 * MOST - (MOST - MOST_FROM_ONE - 1), None]


def test_a_flood_of_one_kind_hides_none_of_another(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pickguard.events")
    events = LoggedEvents(clock=Ticks())
    for number in range(10 * MOST):
        events.publish(LimitReached(user_id=None, at=NOW, client=Client(ip=f"2001:db8::{number:x}"), limit=Limit.RESETS))
    assert len(logged(caplog)) == MOST
    events.publish(LimitReached(user_id=USER_ID, at=NOW, client=Client(ip="2001:db8::1"), limit=Limit.RUN))
    events.publish(ServiceRefused(user_id=None, at=NOW, client=Client(ip="2001:db8::1")))
    reached, refused = logged(caplog)
    assert (reached["limit"], reached["subject"], reached.get("left_out")) == ("run", str(USER_ID), None)
    assert (refused["event"], refused.get("left_out")) == ("ServiceRefused", None)
