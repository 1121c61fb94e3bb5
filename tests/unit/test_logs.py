"""The log in each of its forms: who reads it gets what they can read, and nothing that a client sent can forge a line."""

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from pickguard.adapters.event_log import LoggedEvents
from pickguard.domain.model.events import LogInRefused, SessionEnd, SessionEnded
from pickguard.domain.model.identifiers import SessionId
from pickguard.domain.model.sessions import Client
from pickguard.entrypoints import logs
from pickguard.entrypoints.request_context import CURRENT_REQUEST
from tests.support.strategies import NOW, USER_ID

REQUEST_ID = "019b7d1f-2a0e-4000-8000-000000000001"
SESSION_ID = SessionId(UUID(int=7))
HOSTILE = 'x\r\n{"event": "UserDeleted"}\u2028\x1b[2J'
FIELDS = {"request_id": REQUEST_ID, "method": "GET", "route": "/livez", "status": 200, "ms": 0.4, "ip": None}
_NAMES = ("", "pickguard.events", "aiohttp", "asyncio", "opentelemetry", "urllib3")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _NAMES]
    before = [(each, each.handlers[:], each.propagate, each.level) for each in loggers]
    yield
    for each, handlers, propagate, level in before:
        each.handlers[:], each.propagate = handlers, propagate
        each.setLevel(level)


def written(form: str, *, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    for handler in logging.getLogger().handlers[:]:  # pytest's own, which set_up would close
        logging.getLogger().removeHandler(handler)
    logs.set_up(level=level, form=form, stream=stream)
    return stream


def refuse(source: str = "192.0.2.1") -> None:
    LoggedEvents(request_id=lambda: REQUEST_ID).publish(LogInRefused(user_id=None, at=NOW, client=Client(ip=source)))


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def objects(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(stream)]


def test_mixed_is_lines_for_people_and_events_as_json() -> None:
    stream = written(logs.MIXED)
    logging.getLogger("pickguard.serve").warning("mail is from %s", "nobody")
    refuse()
    plain, event = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING pickguard\.serve mail is from nobody", plain, re.ASCII)
    assert json.loads(event)["event"] == "LogInRefused"


def test_mixed_writes_a_request_as_json_behind_its_time() -> None:
    stream = written(logs.MIXED)
    logging.getLogger("pickguard.http").info("%s", json.dumps(FIELDS), extra={"fields": FIELDS})
    (line,) = lines(stream)
    assert json.loads(line.partition("pickguard.http ")[2]) == FIELDS


def test_human_spells_events_and_requests_out() -> None:
    stream = written(logs.HUMAN)
    refuse()
    LoggedEvents().publish(SessionEnded(user_id=USER_ID, at=NOW, session_id=SESSION_ID, reason=SessionEnd.REVOKED))
    logging.getLogger("pickguard.http").info("%s", json.dumps(FIELDS), extra={"fields": FIELDS})
    refused, ended, request = (line.partition("Z ")[2] for line in lines(stream))
    assert refused == (f"INFO pickguard.events LogInRefused outcome=failure request_id={REQUEST_ID} subject=- source=192.0.2.1")
    assert ended.endswith(f"subject={USER_ID} source=- session_id={SESSION_ID} reason=revoked")
    assert request == (f"INFO pickguard.http request request_id={REQUEST_ID} method=GET route=/livez status=200 ms=0.4 ip=-")


def test_json_is_one_object_on_each_line() -> None:
    stream = written(logs.JSON)
    logging.getLogger("pickguard.store").warning("memory is %d%% full", 91)
    refuse()
    logging.getLogger("pickguard.http").info("%s", json.dumps(FIELDS), extra={"fields": FIELDS})
    plain, event, request = objects(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", plain.pop("time"), re.ASCII)
    assert plain == {"level": "warning", "logger": "pickguard.store", "message": "memory is 91% full"}
    assert {name: event[name] for name in ("level", "logger", "message", "event", "outcome", "source", "request_id")} == {
        "level": "info",
        "logger": "pickguard.events",
        "message": "LogInRefused",
        "event": "LogInRefused",
        "outcome": "failure",
        "source": "192.0.2.1",
        "request_id": REQUEST_ID,
    }
    assert event["time"] == "2026-01-02T03:04:05.678Z", "when it happened, as in the other formats"
    assert request["message"] == "request"
    assert {name: request[name] for name in FIELDS} == FIELDS


def test_json_names_the_request_at_hand() -> None:
    stream = written(logs.JSON)
    before = CURRENT_REQUEST.set(REQUEST_ID)
    logging.getLogger("pickguard.http").error("request failed")
    CURRENT_REQUEST.reset(before)
    logging.getLogger("pickguard.http").error("no request")
    within, without = objects(stream)
    assert within["request_id"] == REQUEST_ID
    assert "request_id" not in without


def test_json_has_a_traceback_as_a_member() -> None:
    stream = written(logs.JSON)
    try:
        int(HOSTILE)
    except ValueError:
        logging.getLogger("pickguard.http").exception("request failed")
    (line,) = lines(stream)
    assert "Traceback" in json.loads(line)["exception"]
    assert line.isascii()
    assert line.isprintable()


@pytest.mark.requirement(77)
@pytest.mark.parametrize("form", logs.FORMATS)
def test_no_source_forges_a_line_in_any_format(form: str) -> None:
    stream = written(form)
    refuse(HOSTILE)
    (line,) = lines(stream)
    assert line.isascii()
    assert line.isprintable()


@pytest.mark.parametrize("form", logs.FORMATS)
def test_the_level_holds_for_events_as_for_all_else(form: str) -> None:
    stream = written(form, level="warning")
    refuse()
    logging.getLogger("pickguard.serve").info("stopping")
    logging.getLogger("pickguard.serve").warning("kept")
    (line,) = lines(stream)
    assert "kept" in line


@pytest.mark.parametrize("form", logs.FORMATS)
def test_libraries_that_quote_clients_are_heard_only_when_they_warn(form: str) -> None:
    stream = written(form, level="debug")
    for name in ("aiohttp.server", "asyncio", "opentelemetry.sdk", "urllib3.connectionpool"):
        logging.getLogger(name).info("of a client")
    assert lines(stream) == []
