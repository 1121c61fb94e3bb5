"""Verification, changes of address, resets and private registration, as a library's user calls them, on the store in memory."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import attrs
import pytest

from pickguard.adapters.memory_limits import MemoryRateLimiter
from pickguard.domain.model.accounts import Account
from pickguard.domain.model.activity import ActivityKind
from pickguard.domain.model.challenges import ChallengeRules, MailedToken
from pickguard.domain.model.errors import (
    AddressTaken,
    InvalidCredentials,
    InvalidFields,
    InvalidToken,
    NotReplicated,
    OutcomeUnknown,
    PreconditionFailed,
    RateLimited,
    RegistrationClosed,
    StoreUnavailable,
    TokenSpent,
    Unavailable,
)
from pickguard.domain.model.events import UserDeleted
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.limits import LimitRules, Rate
from pickguard.domain.model.mail import (
    AddressChangeRequested,
    AddressWanted,
    AlreadyRegistered,
    ConfirmNewAddress,
    NewDevice,
    PasswordChanged,
    ResetPassword,
    VerifyAddress,
)
from pickguard.domain.model.sessions import Client
from pickguard.domain.model.users import EmailAddress
from pickguard.domain.services.registration import PACE, RegistrationMode
from pickguard.ports.accounts import Snapshot
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD
from tests.support.wiring import ADA, ATTACKER, LAPTOP, PHONE, Wired, wire

EVE = "eve@example.com"
RULES = ChallengeRules()
PARALLEL = 32


async def succeeded(*calls: "asyncio.Future[None] | asyncio.Task[None]") -> int:
    """Return how many of these succeed; the others must say that the token is spent."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each) for each in results} <= {type(None), TokenSpent}
    return results.count(None)


@pytest.fixture
async def wired() -> Wired:
    return wire()


# Verification


async def test_registering_mails_a_token_that_verifies_the_address(wired: Wired) -> None:
    user = await wired.register("Ada@Example.com")
    (mail,) = wired.mail.mails
    assert isinstance(mail, VerifyAddress)
    assert (mail.to.value, mail.name, mail.expires_at) == ("Ada@example.com", "Ada", wired.clock.now() + RULES.verification)
    assert not user.email_verified
    await wired.verification.confirm(mail.token, client=LAPTOP)
    assert (await wired.present()).user.email_verified


async def test_a_token_with_space_around_it_is_the_token(wired: Wired) -> None:
    await wired.register()
    await wired.verification.confirm(f"  {wired.mail.last(VerifyAddress).token}\r\n")
    assert (await wired.present()).user.email_verified


async def test_of_many_confirmations_at_once_one_succeeds(wired: Wired) -> None:
    await wired.register()
    token = wired.mail.last(VerifyAddress).token
    assert await succeeded(*(asyncio.create_task(wired.verification.confirm(token)) for _ in range(PARALLEL))) == 1
    with pytest.raises(TokenSpent):
        await wired.verification.confirm(token)


async def test_a_token_lives_until_its_time_is_over_and_no_longer(wired: Wired) -> None:
    await wired.register()
    await wired.register(EVE)
    ada, eve = (mail.token for mail in wired.mail.of(VerifyAddress))
    wired.clock.advance(RULES.verification - timedelta(milliseconds=1))
    await wired.verification.confirm(ada)
    wired.clock.advance(timedelta(milliseconds=1))
    with pytest.raises(TokenSpent):
        await wired.verification.confirm(eve)


async def test_a_newer_token_voids_the_older(wired: Wired) -> None:
    await wired.register()
    await wired.verification.send(await wired.token())
    older, newer = (mail.token for mail in wired.mail.of(VerifyAddress))
    with pytest.raises(TokenSpent):
        await wired.verification.confirm(older)
    await wired.verification.confirm(newer)


async def test_nothing_is_mailed_to_an_address_that_is_verified(wired: Wired) -> None:
    await wired.register()
    await wired.verification.confirm(wired.mail.last(VerifyAddress).token)
    await wired.verification.send(await wired.token())
    assert len(wired.mail.mails) == 1


async def test_a_token_is_good_for_its_own_account_and_purpose_only(wired: Wired) -> None:
    for email in (ADA, EVE):
        await wired.register(email)
    ada, eve = (MailedToken.parse(mail.token) for mail in wired.mail.of(VerifyAddress))
    reset = await wired.reset_token()
    for garbled in (attrs.evolve(ada, user_id=eve.user_id), attrs.evolve(ada, secret=eve.secret)):
        with pytest.raises(TokenSpent):
            await wired.verification.confirm(garbled.reveal())
    for confirm in (wired.verification.confirm, wired.verification.decline):
        with pytest.raises(TokenSpent):
            await confirm(reset)
    with pytest.raises(TokenSpent):
        await wired.recovery.reset(ada.reveal(), password=OTHER_PASSWORD)
    session = await wired.token()
    for text in (session, "", "pgm_", ada.reveal()[:-1], ada.reveal() + "0", "\ud800", "é" * 76):
        with pytest.raises(TokenSpent):
            await wired.verification.confirm(text)


async def test_a_mailed_token_opens_no_session(wired: Wired) -> None:
    await wired.register()
    with pytest.raises(InvalidToken):
        await wired.services.authentication.authenticate(wired.mail.last(VerifyAddress).token)


async def test_a_token_for_an_account_that_is_gone_is_spent(wired: Wired) -> None:
    await wired.register()
    token, reset = wired.mail.last(VerifyAddress).token, await wired.reset_token()
    await wired.services.profiles.delete(await wired.token())
    for use in (wired.verification.confirm, wired.verification.decline):
        with pytest.raises(TokenSpent):
            await use(token)
    with pytest.raises(TokenSpent):
        await wired.recovery.reset(reset, password=OTHER_PASSWORD)


async def test_a_new_password_voids_resets_and_no_verification(wired: Wired) -> None:
    await wired.register()
    verify, reset = wired.mail.last(VerifyAddress).token, await wired.reset_token()
    await wired.services.profiles.change(await wired.token(), password=OTHER_PASSWORD, current_password=GOOD_PASSWORD)
    with pytest.raises(TokenSpent):
        await wired.recovery.reset(reset, password="a third phrase altogether")
    await wired.verification.confirm(verify)


# Declining


@pytest.mark.would_have_caught("pre-hijacking")
async def test_whoever_did_not_make_the_account_has_it_removed_and_the_address_freed(wired: Wired) -> None:
    await wired.register(client=ATTACKER)
    attackers = await wired.token(client=ATTACKER)
    await wired.verification.decline(wired.mail.last(VerifyAddress).token)
    assert await wired.account() is None
    with pytest.raises(InvalidToken):
        await wired.services.authentication.authenticate(attackers)
    await wired.register(password=OTHER_PASSWORD)
    assert "UserDeleted" in wired.events.names()
    assert [event.declined for event in wired.events.of(UserDeleted)] == [True]


async def test_a_verified_account_cannot_be_declined(wired: Wired) -> None:
    await wired.register()
    token = wired.mail.last(VerifyAddress).token
    await wired.verification.confirm(token)
    with pytest.raises(TokenSpent):
        await wired.verification.decline(token)
    await wired.services.profiles.change(await wired.token(), email=EVE, current_password=GOOD_PASSWORD)
    with pytest.raises(TokenSpent):
        await wired.verification.decline(wired.mail.last(ConfirmNewAddress).token)
    assert await wired.account() is not None


async def test_of_a_confirmation_and_a_decline_at_once_one_succeeds(wired: Wired) -> None:
    await wired.register()
    token = wired.mail.last(VerifyAddress).token
    uses = [wired.verification.confirm, wired.verification.decline] * 8
    assert await succeeded(*(asyncio.create_task(use(token)) for use in uses)) == 1


# Changes of address


async def change_address(wired: Wired, email: str, token: str, **more: str) -> None:
    await wired.services.profiles.change(token, email=email, current_password=GOOD_PASSWORD, **more)  # type: ignore[arg-type]


async def test_a_new_address_takes_effect_when_it_confirms(wired: Wired) -> None:
    await wired.register()
    await wired.verification.confirm(wired.mail.last(VerifyAddress).token)
    token = await wired.token()
    before = (await wired.present()).user
    await wired.services.profiles.change(token, email="Eve@example.com", current_password=GOOD_PASSWORD, client=LAPTOP)
    pending = (await wired.present()).user
    assert (pending.email, pending.email_verified) == (before.email, True)
    assert pending.pending_email is not None
    assert pending.pending_email.value == "Eve@example.com"
    assert pending.updated_at > before.updated_at
    mail, notice = wired.mail.mails[-2:]
    assert isinstance(mail, ConfirmNewAddress)
    assert (mail.to.value, mail.expires_at) == ("Eve@example.com", wired.clock.now() + RULES.verification)
    assert notice == AddressChangeRequested(
        to=before.email, name="Ada", at=wired.clock.now(), client=LAPTOP, new_address=pending.pending_email
    )
    await wired.verification.confirm(mail.token)
    assert await wired.account() is None
    user = (await wired.present(EVE)).user
    assert (user.email.value, user.email_verified, user.pending_email) == ("Eve@example.com", True, None)
    await wired.services.authentication.authenticate(token)
    await wired.register()  # the address that was left is free


async def test_a_pending_address_is_no_claim_on_it(wired: Wired) -> None:
    await wired.register()
    await change_address(wired, EVE, await wired.token())
    await wired.register(EVE, password=OTHER_PASSWORD)
    with pytest.raises(AddressTaken):
        await wired.verification.confirm(wired.mail.of(ConfirmNewAddress)[0].token)
    assert (await wired.present()).user.email.value == ADA


async def test_of_two_who_wait_for_one_address_the_first_to_confirm_has_it(wired: Wired) -> None:
    for email in (ADA, EVE):
        await wired.register(email)
        await change_address(wired, "new@example.com", await wired.token(email))
    one, other = (mail.token for mail in wired.mail.of(ConfirmNewAddress))
    await wired.verification.confirm(other)
    with pytest.raises(AddressTaken):
        await wired.verification.confirm(one)
    assert (await wired.present("new@example.com")).user.id == MailedToken.parse(other).user_id


async def test_an_address_that_has_an_account_is_refused_at_once(wired: Wired) -> None:
    await wired.register()
    await wired.register(EVE)
    with pytest.raises(AddressTaken):
        await change_address(wired, EVE, await wired.token())
    assert not wired.mail.of(ConfirmNewAddress)


async def test_the_present_address_calls_a_change_off(wired: Wired) -> None:
    await wired.register()
    token = await wired.token()
    await change_address(wired, EVE, token)
    await change_address(wired, ADA, token)
    assert (await wired.present()).user.pending_email is None
    with pytest.raises(TokenSpent):
        await wired.verification.confirm(wired.mail.last(ConfirmNewAddress).token)


async def test_another_pending_address_voids_the_first(wired: Wired) -> None:
    await wired.register()
    token = await wired.token()
    await change_address(wired, EVE, token)
    await change_address(wired, "new@example.com", token)
    first, second = (mail.token for mail in wired.mail.of(ConfirmNewAddress))
    with pytest.raises(TokenSpent):
        await wired.verification.confirm(first)
    await wired.verification.confirm(second)
    assert (await wired.present("new@example.com")).user.email_verified


async def test_a_new_password_calls_a_change_of_address_off(wired: Wired) -> None:
    """Whoever stole the old password may have asked for the change, and reads what is mailed there."""
    await wired.register()
    await change_address(wired, EVE, await wired.token(client=ATTACKER))
    await wired.services.profiles.change(await wired.token(), password=OTHER_PASSWORD, current_password=GOOD_PASSWORD)
    assert (await wired.present()).user.pending_email is None
    with pytest.raises(TokenSpent):
        await wired.verification.confirm(wired.mail.last(ConfirmNewAddress).token)


async def test_a_new_password_and_a_new_address_at_once_leave_the_address_pending(wired: Wired) -> None:
    await wired.register()
    await change_address(wired, EVE, await wired.token(), password=OTHER_PASSWORD)
    await wired.verification.confirm(wired.mail.last(ConfirmNewAddress).token)
    await wired.log_in(EVE, password=OTHER_PASSWORD)


async def test_a_token_is_mailed_again_to_the_pending_address(wired: Wired) -> None:
    await wired.register()
    token = await wired.token()
    await change_address(wired, EVE, token)
    await wired.verification.send(token)
    first, second = (mail.token for mail in wired.mail.of(ConfirmNewAddress))
    with pytest.raises(TokenSpent):
        await wired.verification.confirm(first)
    await wired.verification.confirm(second)


@pytest.mark.requirement(24)
async def test_what_was_mailed_to_an_address_that_was_left_proves_nothing(wired: Wired) -> None:
    await wired.register()
    verify, reset = wired.mail.last(VerifyAddress).token, await wired.reset_token()
    await change_address(wired, EVE, await wired.token())
    await wired.verification.confirm(wired.mail.last(ConfirmNewAddress).token)
    with pytest.raises(TokenSpent):
        await wired.recovery.reset(reset, password=OTHER_PASSWORD)
    with pytest.raises(TokenSpent):
        await wired.verification.confirm(verify)


async def test_without_mail_a_new_address_takes_effect_at_once() -> None:
    wired = wire(has_mail=False)
    await wired.register()
    await change_address(wired, EVE, await wired.token())
    user = (await wired.present(EVE)).user
    assert (user.email_verified, user.pending_email) == (False, None)
    assert wired.services.verification is None
    assert wired.services.recovery is None


# Resets


@pytest.mark.would_have_caught("keycloak-8920")
async def test_a_reset_sets_the_password_and_ends_everything_that_was_open(wired: Wired) -> None:
    await wired.register(client=ATTACKER)
    attackers = await wired.token(client=ATTACKER)
    await change_address(wired, EVE, attackers)
    pending, verify = wired.mail.last(ConfirmNewAddress).token, wired.mail.last(VerifyAddress).token
    await wired.recovery.reset(await wired.reset_token(), password=OTHER_PASSWORD, client=LAPTOP)
    user = (await wired.present()).user
    assert (user.email_verified, user.pending_email) == (True, None)
    with pytest.raises(InvalidToken):
        await wired.services.authentication.authenticate(attackers)
    with pytest.raises(InvalidCredentials):
        await wired.log_in()
    for token in (pending, verify):
        with pytest.raises(TokenSpent):
            await wired.verification.confirm(token)
    await wired.log_in(password=OTHER_PASSWORD)
    notice = wired.mail.last(PasswordChanged)
    assert (notice.by_reset, notice.client) == (True, LAPTOP)


@pytest.mark.would_have_caught("kratos-codes", "keycloak-26106")
async def test_of_many_resets_at_once_one_succeeds(wired: Wired) -> None:
    await wired.register()
    token = await wired.reset_token()
    passwords = [f"phrase number {number} of many" for number in range(PARALLEL)]
    tries = (asyncio.create_task(wired.recovery.reset(token, password=each)) for each in passwords)
    assert await succeeded(*tries) == 1
    assert (await wired.present()).credential.epoch == 2


async def test_only_a_success_spends_the_token(wired: Wired) -> None:
    await wired.register()
    token = await wired.reset_token()
    for bad in ("short", ADA, "x" * 257):
        with pytest.raises(InvalidFields):
            await wired.recovery.reset(token, password=bad)
    await wired.recovery.reset(token, password=OTHER_PASSWORD)
    with pytest.raises(TokenSpent):
        await wired.recovery.reset(token, password=OTHER_PASSWORD)


async def test_a_reset_token_lives_ten_minutes(wired: Wired) -> None:
    await wired.register()
    token = await wired.reset_token()
    assert wired.mail.last(ResetPassword).expires_at == wired.clock.now() + timedelta(minutes=10)
    wired.clock.advance(timedelta(minutes=10))
    with pytest.raises(TokenSpent):
        await wired.recovery.reset(token, password=OTHER_PASSWORD)


@pytest.mark.would_have_caught("romm-4635")
async def test_a_log_in_that_began_before_a_reset_opens_nothing_after_it(wired: Wired) -> None:
    await wired.register()
    token = await wired.reset_token()
    reached, go_on = asyncio.Event(), asyncio.Event()
    verify = wired.hasher.verify

    async def pausing(*args: object, **more: object) -> bool:
        result = await verify(*args, **more)  # type: ignore[arg-type]
        reached.set()
        await go_on.wait()
        return result

    wired.hasher.verify = pausing  # type: ignore[method-assign]
    late = asyncio.create_task(wired.log_in(client=ATTACKER))
    await reached.wait()
    await wired.recovery.reset(token, password=OTHER_PASSWORD)
    go_on.set()
    with pytest.raises(InvalidCredentials):
        await late
    assert not (await wired.present()).sessions


@pytest.mark.parametrize("email", ["nobody@example.com", "no address", "", "x" * 10_000, "\ud800"])
async def test_a_reset_for_nobody_is_answered_alike_and_mails_nothing(wired: Wired, email: str) -> None:
    await wired.recovery.request(email=email)
    await wired.deferred.drain()
    assert wired.mail.mails == []


@pytest.mark.requirement(17)
async def test_nothing_is_looked_up_before_a_reset_is_answered(wired: Wired) -> None:
    await wired.register()
    await wired.recovery.request(email=ADA)
    assert not wired.mail.of(ResetPassword)
    assert not (await wired.present()).challenges[1:]
    await wired.deferred.drain()
    assert wired.mail.of(ResetPassword)


async def test_a_store_that_is_down_for_a_while_delays_a_reset_and_loses_it_not() -> None:
    class Restless:
        """Fails a few times."""

        def __init__(self) -> None:
            self.left = 2

    wired = wire()
    await wired.register()
    restless, find = Restless(), wired.accounts.find

    async def failing(email: object) -> object:
        if restless.left:
            restless.left -= 1
            raise StoreUnavailable("down")
        return await find(email)  # type: ignore[arg-type]

    wired.accounts.find = failing  # type: ignore[method-assign, assignment]
    wired.deferred._pauses = (timedelta(0),) * 3
    await wired.recovery.request(email=ADA)
    await wired.deferred.drain()
    assert wired.mail.of(ResetPassword)


async def test_where_too_much_waits_a_reset_is_refused_for_everybody(wired: Wired) -> None:
    await wired.register()
    wired.deferred._most_waiting = 0
    for email in (ADA, "nobody@example.com", "no address"):
        with pytest.raises(Unavailable):
            await wired.recovery.request(email=email)


async def disable(wired: Wired) -> None:
    await wired.services.administration.disable((await wired.present()).user.id)


async def delete(wired: Wired) -> None:
    await wired.services.administration.delete((await wired.present()).user.id)


async def move(wired: Wired) -> None:
    await change_address(wired, EVE, await wired.token())
    await wired.verification.confirm(wired.mail.last(ConfirmNewAddress).token)


@pytest.mark.parametrize("meanwhile", [disable, delete, move])
async def test_no_reset_is_mailed_to_who_has_no_such_account_by_then(
    wired: Wired, meanwhile: Callable[[Wired], Awaitable[None]]
) -> None:
    await wired.register()
    find, left = wired.accounts.find, 1

    async def then_changed(email: EmailAddress) -> object:
        nonlocal left
        found = await find(email)
        left -= 1
        if left == 0:
            await meanwhile(wired)
        return found

    wired.accounts.find = then_changed  # type: ignore[method-assign, assignment]
    await wired.recovery.request(email=ADA)
    await wired.deferred.drain()
    assert not wired.mail.of(ResetPassword)
    assert ("ResetRequested" in wired.events.names()) is (meanwhile is move)  # whose account it still is


async def test_a_reset_whose_token_is_stored_is_mailed_though_replicas_are_behind(wired: Wired) -> None:
    await wired.register()
    save = wired.accounts.save

    async def behind(before: Snapshot, after: Account, *, operation: bytes) -> None:
        await save(before, after, operation=operation)
        raise NotReplicated("no replica has confirmed it")

    wired.accounts.save = behind  # type: ignore[method-assign]
    token = await wired.reset_token()
    assert len(wired.mail.of(ResetPassword)) == 1
    wired.accounts.save = save  # type: ignore[method-assign]
    await wired.recovery.reset(token, password=OTHER_PASSWORD)


async def test_a_reset_of_an_account_that_is_deleted_meanwhile_is_spent(wired: Wired) -> None:
    await wired.register()
    token = await wired.reset_token()
    make = wired.hasher.hash

    async def then_deleted(*args: Any, **more: Any) -> str:
        await delete(wired)
        return await make(*args, **more)

    wired.hasher.hash = then_deleted  # type: ignore[method-assign]
    with pytest.raises(TokenSpent):
        await wired.recovery.reset(token, password=OTHER_PASSWORD)
    assert await wired.account() is None


@pytest.mark.requirement(12)
async def test_a_token_that_proves_nothing_ends_no_lock_and_costs_no_hash() -> None:
    wired = wire(limits=LimitRules(run=Rate(3, timedelta(days=1))))
    user = await wired.register()
    for _ in range(3):
        with pytest.raises(InvalidCredentials):
            await wired.log_in(password="a wrong phrase", client=ATTACKER)
    wired.hasher.purposes.clear()
    with pytest.raises(TokenSpent):
        await wired.recovery.reset(MailedToken(user_id=user.id, secret=bytes(32)).reveal(), password=OTHER_PASSWORD)
    assert wired.hasher.purposes == []
    with pytest.raises(RateLimited):
        await wired.log_in(client=PHONE)


# Private and closed registration


async def test_private_registration_tells_only_the_owner_by_mail() -> None:
    wired = wire(mode=RegistrationMode.PRIVATE)
    private = wired.services.registration.register_privately
    assert await private(name="Ada", email=ADA, password=GOOD_PASSWORD, client=LAPTOP) is None  # type: ignore[func-returns-value]
    assert await private(name="Eve", email="ADA@example.com", password=OTHER_PASSWORD, client=ATTACKER) is None  # type: ignore[func-returns-value]
    await wired.deferred.drain()
    first, second = wired.mail.mails
    assert isinstance(first, VerifyAddress)
    assert isinstance(second, AlreadyRegistered)
    assert (second.to.value, second.name) == (ADA, "Ada")
    with pytest.raises(InvalidCredentials):
        await wired.log_in()  # the password is right, and the address not verified
    await wired.verification.confirm(first.token)
    await wired.log_in()
    await wired.recovery.reset(second.token, password=OTHER_PASSWORD)
    await wired.log_in(password=OTHER_PASSWORD)


@pytest.mark.requirement(17)
async def test_private_registration_takes_a_whole_number_of_paces() -> None:
    wired = wire(mode=RegistrationMode.PRIVATE)
    hash_ = wired.hasher.hash

    async def slow(*args: object, **more: object) -> str:
        wired.clock.advance(timedelta(milliseconds=40))
        return await hash_(*args, **more)  # type: ignore[arg-type]

    wired.hasher.hash = slow  # type: ignore[method-assign]
    for _ in range(2):
        await wired.services.registration.register_privately(name="Ada", email=ADA, password=GOOD_PASSWORD)
    assert wired.pace.waited == [PACE - timedelta(milliseconds=40)] * 2


async def test_private_registration_names_itself_and_is_repeated_like_an_open_one() -> None:
    wired = wire(mode=RegistrationMode.PRIVATE)
    for _ in range(3):
        await wired.services.registration.register_privately(
            name="Ada", email=ADA, password=GOOD_PASSWORD, idempotency_key="a key"
        )
    await wired.deferred.drain()
    assert [type(mail) for mail in wired.mail.mails] == [VerifyAddress]


async def test_a_repeat_of_a_private_registration_tells_the_owner_once() -> None:
    wired = wire(mode=RegistrationMode.PRIVATE)
    private = wired.services.registration.register_privately
    await private(name="Ada", email=ADA, password=GOOD_PASSWORD, client=LAPTOP)
    for _ in range(3):
        await private(name="Eve", email=ADA, password=OTHER_PASSWORD, idempotency_key="a key", client=ATTACKER)
    await wired.deferred.drain()
    assert [type(mail) for mail in wired.mail.mails] == [VerifyAddress, AlreadyRegistered]


async def test_a_notice_that_has_to_be_tried_again_is_counted_once() -> None:
    wired = wire(mode=RegistrationMode.PRIVATE)
    wired.deferred._pauses = (timedelta(0),) * 3
    private = wired.services.registration.register_privately
    await private(name="Ada", email=ADA, password=GOOD_PASSWORD, client=LAPTOP)
    find, left = wired.accounts.find, 3

    async def failing(email: EmailAddress) -> object:
        nonlocal left
        left -= 1
        if left >= 0:
            raise StoreUnavailable("down")
        return await find(email)

    wired.accounts.find = failing  # type: ignore[method-assign, assignment]
    await private(name="Eve", email=ADA, password=OTHER_PASSWORD, client=ATTACKER)
    await wired.deferred.drain()
    for _ in range(3):  # of the five mails an hour one verified the address, and one told its owner
        await wired.recovery.request(email=ADA)
    await wired.deferred.drain()
    assert len(wired.mail.of(ResetPassword)) == 3


async def test_a_repeat_after_a_lost_answer_mails_the_token_that_was_lost_with_it() -> None:
    wired = wire()
    post = wired.mail.post
    wired.mail.post = lambda mail: None  # type: ignore[method-assign] # noqa: ARG005
    receipts = wired.services.registration._receipts
    close = receipts.close

    async def lost(*_: object) -> object:
        raise StoreUnavailable("the answer was lost")

    receipts.close = lost  # type: ignore[method-assign, assignment]
    with pytest.raises(OutcomeUnknown):
        await wired.services.registration.register(name="Ada", email=ADA, password=GOOD_PASSWORD, idempotency_key="a key")
    receipts.close, wired.mail.post = close, post  # type: ignore[method-assign]
    for _ in range(2):
        await wired.services.registration.register(name="Ada", email=ADA, password=GOOD_PASSWORD, idempotency_key="a key")
    assert [type(mail) for mail in wired.mail.mails] == [VerifyAddress]
    await wired.verification.confirm(wired.mail.last(VerifyAddress).token)


@pytest.mark.requirement(17)
async def test_where_users_are_concealed_a_taken_address_can_be_asked_for_and_its_owner_is_told() -> None:
    wired = wire(mode=RegistrationMode.PRIVATE)
    for email in (ADA, EVE):
        await wired.services.registration.register_privately(name="Ada", email=email, password=GOOD_PASSWORD)
        await wired.verification.confirm(wired.mail.last(VerifyAddress).token)
    token = await wired.token()
    await change_address(wired, EVE, token)
    assert (await wired.present()).user.pending_email is not None
    assert not wired.mail.of(ConfirmNewAddress)
    assert wired.mail.last(AddressWanted).to.value == EVE
    told = len(wired.mail.of(AddressWanted))
    await wired.verification.send(token, client=ATTACKER)
    assert not wired.mail.of(ConfirmNewAddress)
    assert len(wired.mail.of(AddressWanted)) == told + 1
    assert (wired.mail.last(AddressWanted).to.value, wired.mail.last(AddressWanted).client) == (EVE, ATTACKER)


async def test_asking_for_a_mail_again_does_as_much_for_a_pending_address_that_somebody_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or else the time would tell who waits for an address whether it has an account."""
    wired = wire(mode=RegistrationMode.PRIVATE)
    for email in (ADA, EVE):
        await wired.services.registration.register_privately(name="Ada", email=email, password=GOOD_PASSWORD)
        await wired.verification.confirm(wired.mail.last(VerifyAddress).token)
    token = await wired.token()
    asked: list[str] = []
    for name in ("get", "find_holder", "save", "confirm"):
        method = getattr(wired.accounts, name)

        def counted(*args: object, name: str = name, method: Any = method, **more: object) -> Any:
            asked.append(name)
            return method(*args, **more)

        monkeypatch.setattr(wired.accounts, name, counted)
    done = []
    for email in (EVE, "nobody@example.com"):
        await change_address(wired, email, token)
        mails = len(wired.mail.mails)
        asked.clear()
        await wired.verification.send(token)
        done.append(([*asked], len(wired.mail.mails) - mails))
    assert done == [(["get", "find_holder", "save"], 1)] * 2


@pytest.mark.parametrize("mode", RegistrationMode)
async def test_each_way_to_register_is_there_in_its_mode_only(mode: RegistrationMode) -> None:
    wired = wire(mode=mode)
    person: dict[str, Any] = {"name": "Ada", "email": ADA, "password": GOOD_PASSWORD}
    ways = {
        RegistrationMode.OPEN: wired.services.registration.register,
        RegistrationMode.PRIVATE: wired.services.registration.register_privately,
    }
    for its_mode, way in ways.items():
        if its_mode is not mode:
            with pytest.raises(RegistrationClosed):
                await way(**person)
    assert await wired.account() is None


# Notices


async def test_a_new_password_is_told(wired: Wired) -> None:
    await wired.register()
    token = await wired.token()
    await wired.services.profiles.change(token, password=OTHER_PASSWORD, current_password=GOOD_PASSWORD, client=PHONE)
    notice = wired.mail.last(PasswordChanged)
    assert (notice.to.value, notice.client, notice.by_reset, notice.at) == (ADA, PHONE, False, wired.clock.now())


async def test_a_log_in_from_a_new_device_is_told_once(wired: Wired) -> None:
    await wired.register()
    await wired.log_in()  # from where it was registered
    assert not wired.mail.of(NewDevice)
    for _ in range(2):
        await wired.log_in(client=PHONE)
    (notice,) = wired.mail.of(NewDevice)
    assert (notice.to.value, notice.client, notice.at) == (ADA, PHONE, wired.clock.now())
    newer = Client(ip=PHONE.ip, user_agent="Phone/10.0.1")
    await wired.log_in(client=newer)
    assert len(wired.mail.of(NewDevice)) == 1
    await wired.log_in(client=ATTACKER)
    assert len(wired.mail.of(NewDevice)) == 2


async def test_a_device_is_still_known_when_its_session_has_ended(wired: Wired) -> None:
    await wired.register()
    for _ in range(2):
        await wired.services.sessions.log_out(await wired.token(client=PHONE), client=PHONE)
    assert len(wired.mail.of(NewDevice)) == 1


@pytest.mark.requirement(12)
async def test_a_new_password_is_a_new_beginning_of_trust(wired: Wired) -> None:
    await wired.register()
    await wired.log_in(client=ATTACKER)
    await wired.recovery.reset(await wired.reset_token(), password=OTHER_PASSWORD, client=LAPTOP)
    before = len(wired.mail.of(NewDevice))
    await wired.log_in(client=LAPTOP, password=OTHER_PASSWORD)
    assert len(wired.mail.of(NewDevice)) == before
    await wired.log_in(client=ATTACKER, password=OTHER_PASSWORD)
    assert len(wired.mail.of(NewDevice)) == before + 1


async def test_who_has_verified_nothing_is_told_no_more_than_anybody_can_cause() -> None:
    """Somebody may have registered the address of somebody else, to have them told of many things."""
    wired = wire(limits=LimitRules(mails=Rate(3, timedelta(hours=1))))
    await wired.register()
    for number in range(10):
        await wired.log_in(client=Client(ip=f"192.0.2.{number + 10}"))
    assert len(wired.mail.mails) == 2  # one is kept for a reset
    await wired.reset_token()


async def test_who_has_verified_the_address_is_told_of_everything() -> None:
    wired = wire(limits=LimitRules(mails=Rate(1, timedelta(hours=1))))
    await wired.register()
    await wired.verification.confirm(wired.mail.last(VerifyAddress).token)
    for number in range(10):
        await wired.log_in(client=Client(ip=f"192.0.2.{number + 10}"))
    assert len(wired.mail.of(NewDevice)) == 10


# Limits on mail


async def test_over_the_limit_nothing_is_mailed_and_what_was_mailed_stays_good(wired: Wired) -> None:
    await wired.register()
    await wired.verification.confirm(wired.mail.last(VerifyAddress).token)
    for _ in range(20):
        await wired.recovery.request(email=ADA, client=ATTACKER)
    await wired.deferred.drain()
    assert len(wired.mail.mails) == 5
    assert "LimitReached" in wired.events.names()
    await wired.recovery.reset(wired.mail.last(ResetPassword).token, password=OTHER_PASSWORD)


async def test_over_the_limit_no_verification_is_mailed_again_and_the_last_one_stays_good(wired: Wired) -> None:
    await wired.register()
    token = await wired.token()
    for _ in range(20):
        await wired.verification.send(token)
    assert len(wired.mail.of(VerifyAddress)) == 4
    await wired.verification.confirm(wired.mail.last(VerifyAddress).token)


async def test_the_limit_is_of_the_address_that_gets_the_mail_whoever_causes_it(wired: Wired) -> None:
    for email in ("one@example.com", "two@example.com", "three@example.com"):
        await wired.register(email)
        token = await wired.token(email)
        await change_address(wired, EVE, token)
        for _ in range(10):
            await wired.verification.send(token)
    assert len(wired.mail.to(EVE)) == 4


async def test_who_is_logged_out_has_nothing_mailed_and_uses_up_no_limit(wired: Wired) -> None:
    await wired.register()
    gone, token = await wired.token(), await wired.token()
    await wired.services.sessions.log_out(gone)
    for _ in range(20):
        with pytest.raises(InvalidToken):
            await wired.verification.send(gone)
    await wired.verification.send(token)
    assert len(wired.mail.of(VerifyAddress)) == 2
    await wired.verification.confirm(wired.mail.last(VerifyAddress).token)
    with pytest.raises(InvalidToken):
        await wired.verification.send(gone)


async def test_no_token_for_a_new_address_is_mailed_to_the_one_that_was_called_off_meanwhile(wired: Wired) -> None:
    await wired.register()
    token = await wired.token()
    await change_address(wired, EVE, token)
    get, left = wired.accounts.get, 1

    async def then_changed(user_id: UserId) -> Snapshot | None:
        nonlocal left
        found = await get(user_id)
        left -= 1
        if left == 0:
            await change_address(wired, "new@example.com", token)
        return found

    wired.accounts.get = then_changed  # type: ignore[method-assign]
    await wired.verification.send(token)
    assert [mail.to.value for mail in wired.mail.of(ConfirmNewAddress)] == [EVE, "new@example.com"]
    await wired.verification.confirm(wired.mail.last(ConfirmNewAddress).token)


async def test_a_mail_that_verifies_tells_who_made_the_account_and_not_who_used_it(wired: Wired) -> None:
    await wired.register(client=ATTACKER)
    await wired.verification.send(await wired.token(client=LAPTOP), client=LAPTOP)
    assert [mail.client for mail in wired.mail.of(VerifyAddress)] == [ATTACKER, ATTACKER]


async def test_who_is_logged_out_meanwhile_has_nothing_mailed(wired: Wired) -> None:
    await wired.register()
    token = await wired.token()
    get, left = wired.accounts.get, 1

    async def then_logged_out(user_id: UserId) -> Snapshot | None:
        nonlocal left
        found = await get(user_id)
        left -= 1
        if left == 0:
            await wired.services.sessions.log_out(token)
        return found

    wired.accounts.get = then_logged_out  # type: ignore[method-assign]
    with pytest.raises(InvalidToken):
        await wired.verification.send(token)
    assert len(wired.mail.of(VerifyAddress)) == 1


async def test_the_limit_is_of_the_address_however_it_is_spelled(wired: Wired) -> None:
    await wired.register()
    for number in range(20):
        await wired.recovery.request(email=ADA.upper() if number % 2 else ADA)
    await wired.deferred.drain()
    assert len(wired.mail.mails) == 5


async def test_whoever_causes_other_mails_cannot_keep_a_reset_from_the_owner(wired: Wired) -> None:
    """Somebody else has registered the address, and does all that causes mails to it."""
    await wired.register(client=ATTACKER)
    token = await wired.token(client=ATTACKER)
    for _ in range(10):
        await wired.verification.send(token, client=ATTACKER)
    await wired.services.profiles.change(token, password=OTHER_PASSWORD, current_password=GOOD_PASSWORD, client=ATTACKER)
    await wired.verification.decline(wired.mail.last(VerifyAddress).token)  # "this was not me" is not for them to void
    await wired.register(client=ATTACKER)
    await wired.recovery.reset(await wired.reset_token(), password="the owner's own phrase")


async def test_one_source_asks_for_so_many_resets_and_no_more_and_is_told_nothing() -> None:
    wired = wire(limits=LimitRules(resets=Rate(3, timedelta(hours=1))))
    for number in range(5):
        await wired.register(f"user{number}@example.com", client=PHONE)
    for number in range(5):
        await wired.recovery.request(email=f"user{number}@example.com", client=ATTACKER)
    await wired.deferred.drain()
    assert len(wired.mail.of(ResetPassword)) == 3
    await wired.recovery.request(email="user4@example.com", client=LAPTOP)
    await wired.deferred.drain()
    assert len(wired.mail.of(ResetPassword)) == 4


async def test_what_is_no_address_takes_no_room_of_its_own() -> None:
    limiter = MemoryRateLimiter()
    wired = wire(limiter=limiter)
    for number in range(100):
        await wired.recovery.request(email=f"no address {number}")
    assert len(limiter) == 1


async def test_changes_to_addresses_of_others_are_counted_as_registrations_are() -> None:
    wired = wire(limits=LimitRules(registrations=Rate(10, timedelta(hours=1))))
    await wired.register(client=PHONE)
    token = await wired.token(client=PHONE)
    for number in range(10):
        await wired.services.profiles.change(
            token, email=f"user{number}@example.com", current_password=GOOD_PASSWORD, client=ATTACKER
        )
    with pytest.raises(RateLimited):
        await wired.services.profiles.change(token, email=EVE, current_password=GOOD_PASSWORD, client=ATTACKER)
    assert len(wired.mail.of(ConfirmNewAddress)) == 10


async def test_a_change_whose_condition_does_not_hold_mails_nobody(wired: Wired) -> None:
    await wired.register()
    with pytest.raises(PreconditionFailed):
        await wired.services.profiles.change(
            await wired.token(), email=EVE, current_password=GOOD_PASSWORD, precondition=lambda _: False
        )
    assert not wired.mail.of(ConfirmNewAddress)
    for _ in range(5):
        await wired.recovery.request(email=EVE)
    await wired.deferred.drain()


async def test_a_registration_over_the_limit_of_mails_is_a_registration(wired: Wired) -> None:
    for _ in range(5):
        await wired.recovery.request(email=ADA)
    await wired.register()
    assert not wired.mail.mails
    await wired.log_in()


# Disabled accounts


@pytest.mark.requirement(17, 33)
async def test_a_disabled_account_is_like_none_from_outside(wired: Wired) -> None:
    user = await wired.register()
    token, reset, verify = await wired.token(), await wired.reset_token(), wired.mail.last(VerifyAddress).token
    assert (await wired.services.administration.disable(user.id)).disabled
    with pytest.raises(InvalidToken):
        await wired.services.authentication.authenticate(token)
    with pytest.raises(InvalidCredentials):
        await wired.log_in()
    with pytest.raises(TokenSpent):
        await wired.recovery.reset(reset, password=OTHER_PASSWORD)
    with pytest.raises(TokenSpent):
        await wired.verification.confirm(verify)
    mails = len(wired.mail.mails)
    await wired.recovery.request(email=ADA)
    await wired.deferred.drain()
    assert len(wired.mail.mails) == mails
    with pytest.raises(AddressTaken):
        await wired.register()
    assert not (await wired.services.administration.enable(user.id)).disabled
    await wired.log_in()


async def test_what_a_disabled_account_had_open_stays_void_when_it_is_enabled(wired: Wired) -> None:
    user = await wired.register()
    reset = await wired.reset_token()
    await wired.services.administration.disable(user.id)
    await wired.services.administration.enable(user.id)
    with pytest.raises(TokenSpent):
        await wired.recovery.reset(reset, password=OTHER_PASSWORD)


# Activity


async def kinds(wired: Wired, token: str) -> list[ActivityKind]:
    return [each.kind for each in await wired.services.profiles.activity(token)]


async def test_a_user_sees_what_happened_to_the_account_newest_first(wired: Wired) -> None:
    await wired.register()
    await wired.verification.confirm(wired.mail.last(VerifyAddress).token, client=PHONE)
    token = await wired.token()
    await wired.log_in(client=PHONE)
    await wired.services.profiles.change(token, name="Grace", client=LAPTOP)
    await change_address(wired, EVE, token)
    await wired.services.sessions.end_all(token, keep_current=True, client=LAPTOP)
    await wired.reset_token()
    await wired.reset_token()
    activity = await wired.services.profiles.activity(token)
    assert [each.kind for each in activity] == [
        ActivityKind.RESET_REQUESTED,
        ActivityKind.SESSIONS_ENDED,
        ActivityKind.EMAIL_CHANGE_REQUESTED,
        ActivityKind.RENAMED,
        ActivityKind.LOGGED_IN,
        ActivityKind.LOGGED_IN,
        ActivityKind.EMAIL_VERIFIED,
        ActivityKind.REGISTERED,
    ]
    assert (activity[0].count, activity[4].client, activity[5].client) == (2, PHONE, LAPTOP)
    assert all(each.at == wired.clock.now() for each in activity)


async def test_wrong_passwords_are_shown_when_the_right_one_comes(wired: Wired) -> None:
    await wired.register()
    for _ in range(3):
        with pytest.raises(InvalidCredentials):
            await wired.log_in(client=ATTACKER, password="wrong wrong")
        wired.clock.advance(timedelta(seconds=1))
    token = await wired.token()
    logged_in, failed = (await wired.services.profiles.activity(token))[:2]
    assert (logged_in.kind, failed.kind) == (ActivityKind.LOGGED_IN, ActivityKind.LOG_INS_FAILED)
    assert (failed.count, failed.client.ip) == (3, ATTACKER.ip)
    assert failed.at == wired.clock.now() - timedelta(seconds=1)
    await wired.log_in()
    assert (await kinds(wired, token)).count(ActivityKind.LOG_INS_FAILED) == 1


async def test_nobody_pushes_out_the_activity_of_somebody_else() -> None:
    wired = wire(limits=LimitRules(mails=Rate(1000, timedelta(hours=1))))
    await wired.register()
    token = await wired.token()
    for _ in range(100):
        await wired.recovery.request(email=ADA, client=ATTACKER)
    for _ in range(9):
        with pytest.raises(InvalidCredentials):
            await wired.log_in(client=ATTACKER, password="wrong wrong")
    await wired.deferred.drain()
    assert await kinds(wired, token) == [ActivityKind.RESET_REQUESTED, ActivityKind.LOGGED_IN, ActivityKind.REGISTERED]


async def test_activity_is_bounded(wired: Wired) -> None:
    await wired.register()
    for _ in range(50):
        await wired.log_in()
    assert len(await kinds(wired, await wired.token())) == 32


async def test_activity_is_for_who_is_logged_in(wired: Wired) -> None:
    await wired.register()
    token = await wired.token()
    await wired.services.sessions.log_out(token)
    with pytest.raises(InvalidToken):
        await wired.services.profiles.activity(token)
