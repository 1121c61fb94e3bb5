"""What is kept of what happened, and which devices and sources are known by it."""

from datetime import timedelta
from typing import Any

import attrs
import pytest

from pickguard.domain.model.activity import ACTIVITY_MAXIMUM, Activity, ActivityKind, is_same_device, knows_source, with_events
from pickguard.domain.model.events import (
    Event,
    PasswordChanged,
    PasswordRehashed,
    PasswordReset,
    ResetRequested,
    SessionEnd,
    SessionEnded,
    SessionOpened,
    UserRegistered,
    UserRenamed,
)
from pickguard.domain.model.identifiers import SessionId
from pickguard.domain.model.limits import source_of
from pickguard.domain.model.sessions import Client
from tests.support.strategies import NOW, USER_ID, new_account, session

HOME = Client(ip="192.0.2.1", user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0")
AWAY = Client(ip="198.51.100.1", user_agent="curl/8.1.2")


def event(kind: type[Event], *, client: Client = HOME, minutes: int = 0, **more: Any) -> Event:
    return kind(user_id=USER_ID, at=NOW + timedelta(minutes=minutes), client=client, **more)


def ended(reason: SessionEnd, number: int = 1) -> Event:
    return event(SessionEnded, session_id=session(number).id, reason=reason)


def opened(client: Client = HOME) -> Event:
    return event(SessionOpened, client=client, session_id=SessionId(session(1).id))


def kinds(*events: Event) -> list[tuple[ActivityKind, int]]:
    return [(entry.kind, entry.count) for entry in with_events((), events)]


def test_what_happened_together_is_kept_newest_first() -> None:
    entries = with_events(with_events((), [event(UserRegistered)]), [event(UserRenamed, minutes=1, client=AWAY)])
    assert entries == (
        Activity(kind=ActivityKind.RENAMED, at=NOW + timedelta(minutes=1), client=AWAY),
        Activity(kind=ActivityKind.REGISTERED, at=NOW, client=HOME),
    )


def test_what_follows_from_something_else_is_no_entry() -> None:
    followed = [ended(reason) for reason in (SessionEnd.EXPIRED, SessionEnd.TOO_MANY, SessionEnd.PASSWORD_CHANGED)]
    assert kinds(*followed, event(PasswordRehashed)) == []


def test_sessions_that_were_ended_together_are_one_entry() -> None:
    assert kinds(*(ended(SessionEnd.REVOKED, number) for number in range(3))) == [(ActivityKind.SESSIONS_ENDED, 3)]
    assert kinds(ended(SessionEnd.LOGGED_OUT)) == [(ActivityKind.LOGGED_OUT, 1)]


def test_resets_that_anybody_can_ask_for_push_nothing_out() -> None:
    entries = with_events((), [event(UserRegistered), opened()])
    for number in range(2 * ACTIVITY_MAXIMUM):
        entries = with_events(entries, [event(ResetRequested, client=AWAY, minutes=number)])
    assert [(entry.kind, entry.count) for entry in entries] == [
        (ActivityKind.RESET_REQUESTED, 2 * ACTIVITY_MAXIMUM),
        (ActivityKind.LOGGED_IN, 1),
        (ActivityKind.REGISTERED, 1),
    ]


def test_the_oldest_goes_first() -> None:
    entries = with_events((), [event(UserRenamed, minutes=number) for number in range(ACTIVITY_MAXIMUM + 5)])
    assert len(entries) == ACTIVITY_MAXIMUM
    assert entries[0].at == NOW + timedelta(minutes=ACTIVITY_MAXIMUM + 4)
    assert entries[-1].at == NOW + timedelta(minutes=5)


def test_of_the_older_half_what_proves_use_is_kept_longest() -> None:
    entries = with_events((), [event(UserRegistered), opened(AWAY)])
    for number in range(3 * ACTIVITY_MAXIMUM):
        entries = with_events(entries, [event(UserRenamed, minutes=number)])
    assert len(entries) == ACTIVITY_MAXIMUM
    assert [entry.kind for entry in entries[-2:]] == [ActivityKind.LOGGED_IN, ActivityKind.REGISTERED]
    assert entries[0].at == NOW + timedelta(minutes=3 * ACTIVITY_MAXIMUM - 1)
    for number in range(2 * ACTIVITY_MAXIMUM):
        entries = with_events(entries, [event(SessionOpened, minutes=number, session_id=session(1).id)])
    assert {entry.kind for entry in entries} == {ActivityKind.LOGGED_IN}


@pytest.mark.parametrize(
    ("newer", "goes"), [(ACTIVITY_MAXIMUM // 2 - 1, "the oldest"), (ACTIVITY_MAXIMUM // 2, "the renaming")]
)
def test_what_proves_no_use_goes_first_as_soon_as_it_is_in_the_older_half(newer: int, goes: str) -> None:
    log_in = Activity(kind=ActivityKind.LOGGED_IN, at=NOW, client=HOME)
    renamed, oldest = attrs.evolve(log_in, kind=ActivityKind.RENAMED), attrs.evolve(log_in, client=AWAY)
    before = [*[log_in] * newer, renamed, *[log_in] * (ACTIVITY_MAXIMUM - newer - 2), oldest]
    after = with_events(before, [opened()])
    assert len(after) == ACTIVITY_MAXIMUM
    assert (renamed in after, oldest in after) == ((True, False) if goes == "the oldest" else (False, True))


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (HOME, True),
        (attrs.evolve(HOME, user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:146.1) Gecko/20100101 Firefox/146.1"), True),
        (attrs.evolve(HOME, user_agent="Mozilla/5.0 (Windows NT 10.0) Gecko/20100101 Firefox/145.0"), False),
        (attrs.evolve(HOME, ip="192.0.2.2"), False),
        (attrs.evolve(HOME, user_agent=None), False),
        (attrs.evolve(HOME, ip=None), False),
    ],
)
def test_a_device_is_a_source_and_a_program_in_whatever_version(other: Client, *, same: bool) -> None:
    assert is_same_device(HOME, other) is same
    assert is_same_device(other, HOME) is same


def test_one_network_of_ipv6_is_one_source() -> None:
    one, other = Client(ip="2001:db8:1:2::1"), Client(ip="2001:db8:1:2:3:4:5:6")
    assert is_same_device(one, other)
    assert not is_same_device(one, Client(ip="2001:db8:1:3::1"))


@pytest.mark.parametrize("renewal", [PasswordChanged, PasswordReset])
def test_who_used_the_account_before_its_present_password_is_not_known(renewal: type[Event]) -> None:
    account = new_account().with_activity([event(UserRegistered), opened(AWAY), event(renewal)])
    assert knows_source(account.activity, source_of(HOME.ip))
    assert account.knows_device(HOME)
    assert not knows_source(account.activity, source_of(AWAY.ip))
    assert not account.knows_device(AWAY)


def test_a_session_makes_its_client_known() -> None:
    account = attrs.evolve(new_account(), sessions=(attrs.evolve(session(1), client=AWAY),))
    assert account.knows_device(AWAY)
    assert not account.knows_device(HOME)


def test_who_only_asked_for_a_reset_is_not_known() -> None:
    account = new_account().with_activity([event(ResetRequested, client=AWAY), event(UserRenamed, client=AWAY)])
    assert not knows_source(account.activity, source_of(AWAY.ip))


def test_where_no_source_is_known_none_is() -> None:
    account = new_account().with_activity([event(UserRegistered, client=Client())])
    assert not knows_source(account.activity, None)
