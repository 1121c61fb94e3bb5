"""The account's transitions: what holds after any sequence of changes, at any pace."""

from datetime import timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pickguard.domain.model.accounts import Account, Transition, register
from pickguard.domain.model.errors import (
    DeletionPending,
    InvalidCredentials,
    InvalidToken,
    SessionNotFound,
    WrongPassword,
)
from pickguard.domain.model.events import (
    AddressChanged,
    DeletionCancelled,
    DeletionScheduled,
    Event,
    PasswordChanged,
    PasswordRehashed,
    SessionEnd,
    SessionEnded,
    SessionOpened,
    SessionReauthenticated,
    UserRegistered,
    UserRenamed,
)
from pickguard.domain.model.identifiers import SessionId
from pickguard.domain.model.sessions import Client, SessionDigest, SessionRules
from pickguard.domain.model.users import PersonName
from tests.support.strategies import (
    NOW,
    RULES,
    USER_ID,
    Change,
    Step,
    digest,
    email,
    examples,
    live_out,
    new_account,
    session,
    steps,
)

MOMENT = timedelta(milliseconds=1)


def of_kind(kind: str, planned: list[Step]) -> list[Change]:
    """Return the changes of one kind that were made, of all that a plan leads to."""
    return [change for change in live_out(planned) if change.step.kind == kind]


def with_sessions(*numbers: int) -> Account:
    return attrs.evolve(new_account(), sessions=tuple(session(number) for number in numbers))


@examples(15)
@given(steps)
def test_a_session_that_ended_or_expired_never_opens_anything_again(planned: list[Step]) -> None:
    dead: set[SessionDigest] = set()
    for change in live_out(planned):
        live = {each.digest for each in change.after.live_sessions(change.now, RULES)}
        assert not live & dead
        dead |= {each.digest for each in (*change.before.sessions, *change.after.sessions)} - live
        for gone in dead:
            with pytest.raises(InvalidToken):
                change.after.session(gone, change.now, RULES)


@examples(15)
@given(steps)
def test_an_account_never_has_more_sessions_than_the_maximum(planned: list[Step]) -> None:
    assert all(len(change.after.sessions) <= RULES.maximum for change in live_out(planned))


@examples(15)
@given(steps)
def test_no_two_sessions_have_one_id_or_one_digest(planned: list[Step]) -> None:
    for change in live_out(planned):
        found = change.after.sessions
        assert len({each.id for each in found}) == len({each.digest for each in found}) == len(found)


@examples(15)
@given(steps)
def test_a_log_in_beyond_the_maximum_ends_the_least_recently_used_and_never_the_new_one(planned: list[Step]) -> None:
    for change in of_kind("open", planned):
        if change.before.user.deletes_at is not None:
            is_gone = change.before.user.is_gone(change.now)
            assert isinstance(change.refusal, InvalidCredentials if is_gone else DeletionPending)
            continue
        assert change.transition is not None
        opened = next(event for event in change.transition.events if isinstance(event, SessionOpened))
        assert opened.session_id in {each.id for each in change.after.sessions}
        left = [each.last_used_at for each in change.after.sessions if each.id != opened.session_id]
        surplus = {
            event.session_id
            for event in change.transition.events
            if isinstance(event, SessionEnded) and event.reason is SessionEnd.TOO_MANY
        }
        live_before = [each for each in change.before.sessions if each.is_live(change.now, RULES)]
        assert len(surplus) == max(0, len(live_before) + 1 - RULES.maximum)
        ended = [each.last_used_at for each in live_before if each.id in surplus]
        assert all(stale <= fresh for stale in ended for fresh in left)


def test_an_old_session_in_use_outlives_a_newer_one_that_is_not() -> None:
    later = NOW + RULES.touch_interval
    account = with_sessions(1)
    for number in (2, 3):
        account = attrs.evolve(account, sessions=(*account.sessions, session(number, NOW + number * MOMENT)))
    account = account.touch_session(digest(1), later, RULES).account
    opened = account.open_session(session(4, later), email=account.user.email, epoch=1, now=later, rules=RULES)
    assert {each.digest for each in opened.account.sessions} == {digest(1), digest(3), digest(4)}


@given(st.integers(1, 5), st.integers(0, 8))
@examples(20)
def test_a_maximum_that_was_lowered_is_kept_from_the_next_log_in_on(maximum: int, present: int) -> None:
    account = with_sessions(*range(1, present + 1))
    opened = account.open_session(session(99), email=account.user.email, epoch=1, now=NOW, rules=SessionRules(maximum=maximum))
    assert len(opened.account.sessions) == min(present + 1, maximum)
    assert session(99) in opened.account.sessions


@examples(15)
@given(steps)
def test_a_change_of_password_keeps_exactly_the_one_session_and_raises_the_epoch(planned: list[Step]) -> None:
    for change in of_kind("change password", planned):
        keep = change.chosen if change.step.choice else None
        assert change.after.sessions == tuple(each for each in change.before.sessions if each.digest == keep)
        assert change.after.credential.epoch == change.before.credential.epoch + 1
        assert change.after.credential.changed_at == change.now
        assert change.after.credential.password_hash != change.before.credential.password_hash


@examples(15)
@given(steps)
def test_only_a_change_of_password_changes_the_epoch(planned: list[Step]) -> None:
    for change in live_out(planned):
        grew = change.after.credential.epoch != change.before.credential.epoch
        assert grew == (change.step.kind == "change password")


@examples(15)
@given(steps)
def test_a_touch_moves_the_last_use_of_a_live_session_and_nothing_else(planned: list[Step]) -> None:
    for change in of_kind("touch", planned):
        touched = next((each for each in change.before.sessions if each.digest == change.chosen), None)
        if touched is None or not touched.is_live(change.now, RULES):
            assert isinstance(change.refusal, InvalidToken)
            continue
        due = change.now - touched.last_used_at >= RULES.touch_interval
        expected = attrs.evolve(touched, last_used_at=change.now) if due else touched
        others = [each for each in change.before.sessions if each is not touched]
        assert [each for each in change.after.sessions if each.id != touched.id] == others
        assert expected in change.after.sessions
        assert attrs.evolve(change.after, sessions=()) == attrs.evolve(change.before, sessions=())


@pytest.mark.would_have_caught("better-auth-11073")
def test_a_touch_never_revives_a_session() -> None:
    account = with_sessions(1)
    for gone in (account.end_sessions(NOW, reason=SessionEnd.REVOKED).account, account):
        with pytest.raises(InvalidToken):
            gone.touch_session(digest(1), NOW + RULES.idle, RULES)


def test_a_touch_keeps_a_session_from_idling_but_not_beyond_its_lifetime() -> None:
    account, now = with_sessions(1), NOW
    while now + RULES.idle - MOMENT < NOW + RULES.lifetime:
        now += RULES.idle - MOMENT
        account = account.touch_session(digest(1), now, RULES).account
    with pytest.raises(InvalidToken):
        account.touch_session(digest(1), NOW + RULES.lifetime, RULES)


@examples(15)
@given(steps)
def test_a_log_in_whose_password_was_changed_since_opens_nothing(planned: list[Step]) -> None:
    for change in of_kind("open after a change", planned):
        assert isinstance(change.refusal, InvalidCredentials)


def test_a_log_in_whose_address_was_changed_since_opens_nothing() -> None:
    account = new_account()
    with pytest.raises(InvalidCredentials):
        account.open_session(session(1), email=email("grace@example.com"), epoch=1, now=NOW, rules=RULES)


def test_a_log_in_does_not_care_how_the_address_is_spelled() -> None:
    opened = new_account().open_session(session(1), email=email("ADA@EXAMPLE.COM"), epoch=1, now=NOW, rules=RULES)
    assert opened.account.sessions == (session(1),)


@examples(15)
@given(steps)
def test_updated_at_strictly_grows_with_every_change_of_the_user_and_with_nothing_else(planned: list[Step]) -> None:
    for change in live_out(planned):
        before, after = change.before.user, change.after.user
        changed = (
            change.before.credential.epoch != change.after.credential.epoch
            or attrs.evolve(after, updated_at=before.updated_at) != before
        )
        assert (after.updated_at > before.updated_at) == changed
        assert after.updated_at == before.updated_at or after.updated_at >= change.now
        assert (after.id, after.created_at) == (before.id, before.created_at)


@examples(15)
@given(steps)
def test_a_change_that_changes_nothing_returns_the_same_account_and_no_events(planned: list[Step]) -> None:
    for change in live_out(planned):
        if change.transition is not None and change.transition.account == change.before:
            assert change.transition.account is change.before
            assert not change.transition.events


@examples(15)
@given(steps)
def test_pruning_drops_the_expired_sessions_and_only_these(planned: list[Step]) -> None:
    for change in of_kind("prune", planned):
        assert change.after.sessions == tuple(each for each in change.before.sessions if each.is_live(change.now, RULES))


@examples(15)
@given(steps)
def test_reauthentication_replaces_the_digest_and_keeps_the_session(planned: list[Step]) -> None:
    for change in of_kind("reauthenticate", planned):
        old = next((each for each in change.before.sessions if each.digest == change.chosen), None)
        if old is None or not old.is_live(change.now, RULES):
            assert isinstance(change.refusal, InvalidToken)
            continue
        new = next(each for each in change.after.sessions if each.id == old.id)
        assert new.digest != old.digest
        assert (new.authenticated_at, new.last_used_at) == (change.now, change.now)
        assert (new.created_at, new.client) == (old.created_at, old.client)
        with pytest.raises(InvalidToken):
            change.after.session(old.digest, change.now, RULES)


def test_reauthentication_with_a_password_that_was_changed_since_is_refused() -> None:
    account = with_sessions(1).change_password("another", NOW, keep=digest(1)).account
    with pytest.raises(WrongPassword):
        account.reauthenticate_session(digest(1), digest(2), epoch=1, now=NOW, rules=RULES)


def test_reauthentication_within_a_session_that_ended_is_an_invalid_token_whatever_the_password() -> None:
    account = with_sessions(1).change_password("another", NOW, keep=None).account
    with pytest.raises(InvalidToken):
        account.reauthenticate_session(digest(1), digest(2), epoch=1, now=NOW, rules=RULES)


@examples(15)
@given(steps)
def test_a_rehash_changes_the_hash_and_nothing_else(planned: list[Step]) -> None:
    for change in of_kind("rehash", planned):
        before, after = change.before.credential, change.after.credential
        assert before.password_hash != after.password_hash
        assert attrs.evolve(after, password_hash=before.password_hash) == before
        assert attrs.evolve(change.after, credential=before) == change.before


@examples(40)
@given(steps)
def test_events_say_what_changed_and_no_more(planned: list[Step]) -> None:
    for change in live_out(planned):
        if change.transition is not None:
            before, after, events = change.before, change.after, change.transition.events
            assert {type(event) for event in events} == expected_kinds(before, after)
            assert all(event.at == change.now and event.user_id == USER_ID for event in events)
            assert ids_of(events, SessionEnded) == sorted(
                {each.id for each in before.sessions} - {each.id for each in after.sessions}
            )
            assert ids_of(events, SessionOpened) == sorted(
                {each.id for each in after.sessions} - {each.id for each in before.sessions}
            )


def expected_kinds(before: Account, after: Account) -> set[type[Event]]:
    old, new = ({each.id: each.digest for each in account.sessions} for account in (before, after))
    same_epoch = before.credential.epoch == after.credential.epoch
    kinds: dict[type[Event], bool] = {
        UserRenamed: before.user.name != after.user.name,
        AddressChanged: before.user.email != after.user.email,
        PasswordChanged: not same_epoch,
        DeletionScheduled: before.user.deletes_at is None and after.user.deletes_at is not None,
        DeletionCancelled: before.user.deletes_at is not None and after.user.deletes_at is None,
        PasswordRehashed: same_epoch and before.credential.password_hash != after.credential.password_hash,
        SessionOpened: bool(new.keys() - old.keys()),
        SessionEnded: bool(old.keys() - new.keys()),
        SessionReauthenticated: any(old[each] != new[each] for each in old.keys() & new.keys()),
    }
    return {kind for kind, happened in kinds.items() if happened}


def ids_of(events: tuple[Event, ...], kind: type[SessionEnded | SessionOpened]) -> list[SessionId]:
    return sorted(event.session_id for event in events if isinstance(event, kind))


@examples(15)
@given(steps)
def test_each_end_of_a_session_has_the_reason_that_fits(planned: list[Step]) -> None:
    for change in live_out(planned):
        live = {each.id for each in change.before.sessions if each.is_live(change.now, RULES)}
        for event in change.transition.events if change.transition else ():
            if isinstance(event, SessionEnded):
                fitting = {
                    "prune": {SessionEnd.EXPIRED},
                    "open": {SessionEnd.EXPIRED, SessionEnd.TOO_MANY},
                    "change password": {SessionEnd.PASSWORD_CHANGED},
                    "schedule deletion": {SessionEnd.DELETED},
                }.get(change.step.kind, {SessionEnd.REVOKED})
                assert event.reason in fitting
                assert event.reason is not SessionEnd.TOO_MANY or event.session_id in live
                assert event.reason is not SessionEnd.EXPIRED or event.session_id not in live


def test_a_log_in_tells_from_where_it_came() -> None:
    client = Client(ip="192.0.2.1", user_agent="test")
    account = new_account()
    made = attrs.evolve(session(1), client=client)
    opened = account.open_session(made, email=account.user.email, epoch=1, now=NOW, rules=RULES)
    assert opened.events == (SessionOpened(user_id=USER_ID, at=NOW, session_id=made.id),)
    assert opened.account.knows_device(client)


def test_live_sessions_come_newest_first_and_without_the_expired() -> None:
    sessions = [session(number, NOW - number * RULES.touch_interval) for number in (3, 1, 2)]
    expired = session(4, NOW - RULES.idle)
    account = attrs.evolve(new_account(), sessions=(*sessions, expired))
    assert [each.digest for each in account.live_sessions(NOW, RULES)] == [digest(1), digest(2), digest(3)]


@pytest.mark.parametrize("wait", [timedelta(0), RULES.idle])
def test_ending_a_session_that_is_not_there_or_expired_is_refused(wait: timedelta) -> None:
    account = with_sessions(1)
    wanted = session(2) if not wait else session(1)
    with pytest.raises(SessionNotFound):
        account.end_session(wanted.id, NOW + wait, RULES, reason=SessionEnd.REVOKED)


def test_another_spelling_of_the_address_is_a_change_that_needs_verifying_anew() -> None:
    account = attrs.evolve(new_account(), user=attrs.evolve(new_account().user, email_verified=True))
    changed = account.change_address(email("Ada@example.com"), NOW)
    assert (changed.account.user.email.value, changed.account.user.email_verified) == ("Ada@example.com", False)
    assert account.rename(PersonName("Grace"), NOW).account.user.email_verified


def test_a_new_account_has_no_sessions_and_no_verified_address() -> None:
    account = new_account()
    assert account.sessions == ()
    assert not account.user.email_verified
    assert account.user.created_at == account.user.updated_at == account.credential.changed_at == NOW


def test_registering_is_an_event() -> None:
    made = register(user_id=USER_ID, name=PersonName("Ada"), email=email("ada@example.com"), password_hash="", now=NOW)
    assert made == Transition(account=made.account, events=(UserRegistered(user_id=USER_ID, at=NOW),))


def test_a_change_names_the_password_as_wrong_only_after_another_password_was_set() -> None:
    account = new_account()
    account.confirm_epoch(1)
    rehashed = account.rehash_password("again", NOW).account
    rehashed.confirm_epoch(1)
    with pytest.raises(WrongPassword):
        account.change_password("another", NOW, keep=None).account.confirm_epoch(1)
