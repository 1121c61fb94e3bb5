"""Events as lines of the log."""

import json
import logging
from typing import Any
from uuid import UUID

import pytest

from pickguard.adapters.event_log import LoggedEvents
from pickguard.domain.model.events import (
    AddressChanged,
    BreachCheckSkipped,
    Event,
    LogInRefused,
    PasswordChanged,
    PasswordRefused,
    PasswordRehashed,
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
from pickguard.domain.model.sessions import Client
from tests.support.strategies import NOW, USER_ID

SESSION_ID = SessionId(UUID(int=7))
CLIENT = Client(ip="192.0.2.1", user_agent='evil\r\n{"event": "UserDeleted"}\x1b[2J')
ALL: dict[type[Event], dict[str, Any]] = {
    UserRegistered: {},
    UserImported: {},
    BreachCheckSkipped: {},
    UserRenamed: {},
    AddressChanged: {},
    PasswordChanged: {},
    PasswordRehashed: {},
    UserDeleted: {},
    SessionOpened: {"session_id": SESSION_ID, "client": CLIENT},
    SessionReauthenticated: {"session_id": SESSION_ID},
    SessionEnded: {"session_id": SESSION_ID, "reason": SessionEnd.REVOKED},
    LogInRefused: {"client": CLIENT},
    PasswordRefused: {"session_id": SESSION_ID},
}


def line_of(event: Event, caplog: pytest.LogCaptureFixture) -> str:
    with caplog.at_level(logging.INFO, "pickguard.events"):
        LoggedEvents().publish(event)
    (message,) = caplog.messages
    return message


def test_every_event_is_tried_here() -> None:
    assert set(ALL) == set(Event.__subclasses__())


@pytest.mark.parametrize("kind", list(ALL))
def test_an_event_is_one_line_of_json(kind: type[Event], caplog: pytest.LogCaptureFixture) -> None:
    line = line_of(kind(user_id=USER_ID, at=NOW, **ALL[kind]), caplog)
    content = json.loads(line)
    assert (content["event"], content["user_id"], content["at"]) == (kind.__name__, str(USER_ID), "2026-01-02T03:04:05.678Z")
    assert set(content) == {"event", "user_id", "at", *ALL[kind]}
    assert line.isprintable()
    assert line.isascii()


def test_of_a_client_the_address_is_written_and_not_what_it_calls_itself(caplog: pytest.LogCaptureFixture) -> None:
    event = SessionOpened(user_id=USER_ID, at=NOW, session_id=SESSION_ID, client=Client(ip="192.0.2.1", user_agent="geheim"))
    line = line_of(event, caplog)
    assert json.loads(line)["client"] == {"ip": "192.0.2.1"}
    assert "geheim" not in line


def test_the_reason_of_an_end_is_written_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    ended = SessionEnded(user_id=USER_ID, at=NOW, session_id=SESSION_ID, reason=SessionEnd.TOO_MANY)
    assert json.loads(line_of(ended, caplog))["reason"] == "too_many"


def test_an_event_without_an_account_has_no_user(caplog: pytest.LogCaptureFixture) -> None:
    assert json.loads(line_of(LogInRefused(user_id=None, at=NOW, client=Client()), caplog))["user_id"] is None


def test_nothing_is_written_where_the_log_does_not_want_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "pickguard.events"):
        LoggedEvents().publish(UserRegistered(user_id=USER_ID, at=NOW))
    assert caplog.messages == []
