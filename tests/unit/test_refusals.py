"""Why requests get 503 is logged, and does not flood the log."""

import logging

import pytest

from pickguard.entrypoints.http.refusals import EVERY_SECONDS, Refusals


def test_a_reason_is_logged_at_once_and_then_once_in_a_while_with_its_number(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    now = 1000.0
    refusals = Refusals(lambda: now)
    refusals.note("the store is away")
    for _ in range(5):
        now += 1
        refusals.note("the store is away")
    refusals.note("too many are waiting")
    now += EVERY_SECONDS
    refusals.note("the store is away")
    assert [record.getMessage() for record in caplog.records] == [
        "503 for 1 request: the store is away",
        "503 for 1 request: too many are waiting",
        "503 for 6 requests: the store is away",
    ]
