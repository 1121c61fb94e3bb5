"""Deletions that can be taken back: the rules of the account, and the use cases on the store in memory."""

from datetime import datetime, timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pickguard.domain.model.accounts import Account
from pickguard.domain.model.activity import ActivityKind
from pickguard.domain.model.challenges import ChallengeKind, ChallengeRules, MailedToken
from pickguard.domain.model.errors import (
    AccountNotFound,
    DeletionPending,
    InvalidCredentials,
    InvalidToken,
    ReauthenticationRequired,
    TokenSpent,
)
from pickguard.domain.model.events import DeletionCancelled, DeletionScheduled, SessionEnd, SessionEnded
from pickguard.domain.model.mail import AccountRestored, AlreadyRegistered, ResetPassword
from pickguard.domain.model.mail import DeletionScheduled as DeletionNotice
from pickguard.domain.services.administration import Obstacle
from pickguard.domain.services.registration import RegistrationMode
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD
from tests.support.strategies import NOW, RULES, Step, email, examples, live_out, new_account, session, steps
from tests.support.wiring import ADA, ATTACKER, LAPTOP, Wired, wire

GRACE = timedelta(days=30)
MILLISECOND = timedelta(milliseconds=1)


def comparable(account: Account) -> Account:
    """Return what a deletion that is taken back must not change."""
    user = attrs.evolve(account.user, updated_at=NOW)
    return attrs.evolve(account, user=user, sessions=(), challenges=())


def an_account() -> Account:
    account = new_account()
    account = attrs.evolve(account, sessions=(session(1), session(2)))
    token = MailedToken(user_id=account.user.id, secret=bytes(32))
    return account.challenge(ChallengeKind.RESET_PASSWORD, token, NOW, ChallengeRules())


@given(planned=steps, grace=st.integers(1, 10**10).map(lambda ms: ms * MILLISECOND), early=st.integers(1, 10**10))
@examples(200)
def test_what_is_restored_is_the_account_without_its_sessions(planned: list[Step], grace: timedelta, early: int) -> None:
    changes = list(live_out([step for step in planned if step.kind not in {"schedule deletion", "restore"}]))
    before = changes[-1].before if changes[-1:] else new_account()
    now = changes[-1].now if changes[-1:] else NOW
    scheduled = before.schedule_deletion(now, grace).account
    assert not scheduled.sessions
    assert not scheduled.challenges
    assert scheduled.user.deletes_at == now + grace
    restored = scheduled.restore(now + grace - min(early * MILLISECOND, grace)).account
    assert comparable(restored) == comparable(before)
    assert restored.user.updated_at > scheduled.user.updated_at > before.user.updated_at


def test_a_deletion_is_told_and_ends_all_that_was_open() -> None:
    account = an_account()
    scheduled = account.schedule_deletion(NOW, GRACE)
    first, *ended = scheduled.events
    assert first == DeletionScheduled(user_id=account.user.id, at=NOW, deletes_at=NOW + GRACE)
    assert [type(each) for each in ended] == [SessionEnded] * 2
    assert {each.reason for each in ended if isinstance(each, SessionEnded)} == {SessionEnd.DELETED}
    restored = scheduled.account.restore(NOW + GRACE - MILLISECOND)
    assert restored.events == (DeletionCancelled(user_id=account.user.id, at=NOW + GRACE - MILLISECOND),)


def test_to_delete_what_is_deleted_and_to_restore_what_is_not_changes_nothing() -> None:
    account = an_account()
    assert account.restore(NOW).account is account
    scheduled = account.schedule_deletion(NOW, GRACE).account
    again = scheduled.schedule_deletion(NOW + GRACE / 2, GRACE)
    assert (again.account, again.events) == (scheduled, ())


@pytest.mark.parametrize(("late", "is_gone"), [(-MILLISECOND, False), (timedelta(0), True), (GRACE, True)])
def test_an_account_is_gone_from_its_end_on(late: timedelta, *, is_gone: bool) -> None:
    scheduled = an_account().schedule_deletion(NOW, GRACE).account
    now = NOW + GRACE + late
    assert scheduled.user.is_gone(now) == is_gone
    assert scheduled.user.can_reset(now) != is_gone
    with pytest.raises(InvalidCredentials if is_gone else DeletionPending):
        scheduled.open_session(session(3), email=email(ADA), epoch=1, now=now, rules=RULES)
    if is_gone:
        with pytest.raises(InvalidToken):
            scheduled.restore(now)
    else:
        assert scheduled.restore(now).account.user.deletes_at is None


def test_whoever_verified_another_password_or_address_is_not_told_of_the_deletion() -> None:
    scheduled = an_account().schedule_deletion(NOW, GRACE).account
    for address, epoch in (("other@example.com", 1), (ADA, 2)):
        with pytest.raises(InvalidCredentials):
            scheduled.open_session(session(3), email=email(address), epoch=epoch, now=NOW, rules=RULES)
    disabled = scheduled.disable(NOW).account
    with pytest.raises(InvalidCredentials):
        disabled.open_session(session(3), email=email(ADA), epoch=1, now=NOW, rules=RULES)
    assert disabled.user.deletes_at == scheduled.user.deletes_at


# The use cases


@pytest.fixture
async def wired() -> Wired:
    wired = wire(grace=GRACE)
    await wired.register()
    return wired


async def delete(wired: Wired) -> datetime:
    deletes_at = await wired.services.profiles.delete(await wired.token(), client=LAPTOP)
    assert deletes_at is not None
    return deletes_at


async def restore(wired: Wired, password: str = GOOD_PASSWORD) -> str:
    return (await wired.services.authentication.restore(email=ADA, password=password, client=LAPTOP)).token.reveal()


async def test_a_log_in_that_began_before_a_deletion_opens_no_session_after_it(wired: Wired) -> None:
    token = await wired.token()
    verify = wired.hasher.verify

    async def meanwhile(*args: object, **more: object) -> bool:
        is_right = await verify(*args, **more)  # type: ignore[arg-type]
        if (await wired.present()).user.deletes_at is None:
            await wired.services.profiles.delete(token)
        return is_right

    wired.hasher.verify = meanwhile  # type: ignore[method-assign]
    with pytest.raises(DeletionPending):
        await wired.log_in()
    assert (await wired.present()).sessions == ()


async def test_a_restoration_that_began_before_the_end_and_comes_after_it_finds_nothing(wired: Wired) -> None:
    await delete(wired)
    verify = wired.hasher.verify

    async def slowly(*args: object, **more: object) -> bool:
        is_right = await verify(*args, **more)  # type: ignore[arg-type]
        wired.clock.advance(GRACE)
        return is_right

    wired.hasher.verify = slowly  # type: ignore[method-assign]
    with pytest.raises(InvalidCredentials):
        await restore(wired)
    assert await wired.account() is None
    await wired.register()


async def test_an_account_is_erased_at_its_end_whatever_is_asked_first(wired: Wired) -> None:
    user = (await wired.present()).user
    wired.clock.advance(await delete(wired) - wired.clock.now() - MILLISECOND)
    assert await wired.accounts.get(user.id) is not None
    wired.clock.advance(MILLISECOND)
    assert await wired.accounts.get(user.id) is None
    assert await wired.account() is None
    with pytest.raises(AccountNotFound):
        await wired.services.administration.show(user.id)
    assert (await wired.services.administration.page()).entries == ()
    assert (await wired.register()).id != user.id


async def test_what_is_told_of_a_deletion_and_a_restoration(wired: Wired) -> None:
    deletes_at = await delete(wired)
    notice = wired.mail.last(DeletionNotice)
    assert (notice.deletes_at, notice.at, notice.client) == (deletes_at, deletes_at - GRACE, LAPTOP)
    await restore(wired)
    assert wired.mail.last(AccountRestored).client == LAPTOP
    kinds = [each.kind for each in (await wired.present()).activity]
    assert kinds[:3] == [ActivityKind.LOGGED_IN, ActivityKind.DELETION_CANCELLED, ActivityKind.DELETION_SCHEDULED]


async def test_wrong_passwords_before_the_right_one_are_told_although_no_session_is_opened(wired: Wired) -> None:
    await delete(wired)
    for _ in range(2):
        with pytest.raises(InvalidCredentials):
            await wired.log_in(password=OTHER_PASSWORD, client=ATTACKER)
    with pytest.raises(DeletionPending):
        await wired.log_in()
    first = (await wired.present()).activity[0]
    assert (first.kind, first.count, first.client.ip) == (ActivityKind.LOG_INS_FAILED, 2, ATTACKER.ip)


async def test_an_old_proof_of_the_password_deletes_nothing(wired: Wired) -> None:
    token = await wired.token()
    wired.clock.advance(timedelta(minutes=16))
    with pytest.raises(ReauthenticationRequired):
        await wired.services.profiles.delete(token)
    assert (await wired.present()).user.deletes_at is None


async def test_an_account_whose_address_is_not_verified_can_be_declined_while_it_awaits_its_deletion(wired: Wired) -> None:
    await delete(wired)
    with pytest.raises(TokenSpent):  # what was mailed before is void
        await wired.verification.decline(wired.mail.mails[0].token)  # type: ignore[attr-defined]


async def test_in_private_registration_the_owner_of_a_deleted_account_is_told_and_can_reset() -> None:
    wired = wire(grace=GRACE, mode=RegistrationMode.PRIVATE)
    asked = {"name": "Ada", "email": ADA, "password": GOOD_PASSWORD}
    await wired.services.registration.register_privately(**asked, client=LAPTOP)
    await wired.recovery.reset(await wired.reset_token(), password=GOOD_PASSWORD)
    await delete(wired)
    await wired.services.registration.register_privately(**asked, client=LAPTOP)
    await wired.deferred.drain()
    await wired.recovery.reset(wired.mail.last(AlreadyRegistered).token, password=OTHER_PASSWORD)
    assert await restore(wired, OTHER_PASSWORD)


async def test_a_reset_that_was_asked_for_when_the_account_is_gone_mails_nothing(wired: Wired) -> None:
    await delete(wired)
    mailed = await wired.reset_token()
    count = len(wired.mail.of(ResetPassword))
    wired.clock.advance(GRACE)
    with pytest.raises(TokenSpent):
        await wired.recovery.reset(mailed, password=OTHER_PASSWORD)
    await wired.recovery.request(email=ADA, client=LAPTOP)
    await wired.deferred.drain()
    assert len(wired.mail.of(ResetPassword)) == count


# Operators


async def test_an_operator_sees_and_restores_a_deleted_account(wired: Wired) -> None:
    await delete(wired)
    operators = wired.services.administration
    user = await operators.find(ADA)
    assert (await operators.show(user.id)).obstacles == (Obstacle.DELETED,)
    assert (await operators.restore(user.id)).deletes_at is None
    assert (await operators.show(user.id)).obstacles == ()
    cancelled = next(each for each in wired.events.events if isinstance(each, DeletionCancelled))
    assert cancelled.by_operator
    assert len(wired.mail.of(AccountRestored)) == 1
    await wired.log_in()
    await operators.restore(user.id)  # once more: nothing to do, and nothing to tell
    assert len(wired.mail.of(AccountRestored)) == 1


async def test_an_operator_restores_nothing_that_is_gone(wired: Wired) -> None:
    user = (await wired.present()).user
    await delete(wired)
    wired.clock.advance(GRACE)
    with pytest.raises(AccountNotFound):
        await wired.services.administration.restore(user.id)


async def test_an_operator_deletes_at_once(wired: Wired) -> None:
    user = (await wired.present()).user
    await delete(wired)
    await wired.services.administration.delete(user.id)
    assert await wired.account() is None
    await wired.register()


async def test_a_disabled_account_is_not_restored_by_its_user(wired: Wired) -> None:
    user = (await wired.present()).user
    await delete(wired)
    await wired.services.administration.disable(user.id)
    with pytest.raises(InvalidCredentials):
        await restore(wired)
    await wired.services.administration.enable(user.id)
    assert await restore(wired)
