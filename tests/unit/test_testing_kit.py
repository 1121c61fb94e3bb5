"""What `pickguard.testing` hands to other people's tests."""

import asyncio
from datetime import timedelta

import pytest

from pickguard import AddressTaken, Client, InvalidCredentials, InvalidFields, InvalidToken, MemoryAccounts, RateLimited
from pickguard.domain.model.accounts import Account
from pickguard.domain.model.limits import LimitRules
from pickguard.domain.model.mail import NewDevice, ResetPassword, VerifyAddress
from pickguard.domain.services.registration import RegistrationMode
from pickguard.ports.hashing import Purpose
from pickguard.testing import (
    OTHER_PASSWORD,
    PASSWORD,
    AccountService,
    FakeHasher,
    FakeSecrets,
    ReadyUser,
    make_account_service,
)
from pickguard.testing.accounts import CLIENT


@pytest.fixture
def accounts() -> AccountService:
    return make_account_service()


async def test_a_ready_made_user_is_as_one_that_the_use_cases_made(accounts: AccountService) -> None:
    ready = accounts.user("ada@example.com", client=CLIENT)
    made = make_account_service()
    registration = made.services.registration
    await registration.register(name="Ada Lovelace", email="ada@example.com", password=PASSWORD, client=CLIENT)
    await made.services.verification.confirm(made.outbox.token_for("ada@example.com"), client=CLIENT)  # type: ignore[union-attr]
    opened = await made.services.authentication.log_in(email="ada@example.com", password=PASSWORD, client=CLIENT)
    one, other = await accounts.account("ada@example.com"), await made.account("ada@example.com")
    assert one is not None
    assert other is not None
    assert shape(one) == shape(other)
    assert one.user.email_verified
    assert [each.kind for each in one.activity] == [each.kind for each in other.activity if each.kind.value != "email_verified"]
    assert (await accounts.services.authentication.authenticate(ready.token)).session == ready.sessions[0]
    assert len(ready.token) == len(opened.token.reveal())


def shape(account: Account) -> object:
    return (
        account.user.name,
        account.user.email,
        account.user.disabled,
        account.user.created_at,
        account.credential.epoch,
        [(each.created_at, each.last_used_at, each.authenticated_at, each.client) for each in account.sessions],
        account.challenges,
        account.made_by,
    )


async def test_a_ready_made_user_can_log_in_and_nobody_was_told_of_them(accounts: AccountService) -> None:
    ada = accounts.user()
    assert accounts.events.names() == []
    assert accounts.outbox.mails == []
    assert accounts.hasher.purposes == []
    await accounts.services.authentication.log_in(email=ada.email, password=ada.password, client=CLIENT)
    assert accounts.outbox.of(NewDevice) == []  # the session of the user is from there
    await accounts.services.authentication.log_in(email=ada.email, password=ada.password, client=Client(ip="203.0.113.9"))
    assert len(accounts.outbox.of(NewDevice)) == 1


async def test_users_have_addresses_of_their_own_and_as_many_sessions_as_they_should(accounts: AccountService) -> None:
    users = [accounts.user(sessions=count) for count in (0, 1, 3)]
    assert [each.email for each in users] == ["user1@example.com", "user2@example.com", "user3@example.com"]
    assert len({each.id for each in users}) == 3
    assert [len(each.tokens) for each in users] == [0, 1, 3]
    for token in users[2].tokens:
        assert (await accounts.services.authentication.authenticate(token)).user == users[2].user
    assert len((await accounts.services.sessions.list(users[2].token)).sessions) == 3
    with pytest.raises(LookupError, match=r"user1@example\.com was made without a session"):
        _ = users[0].token
    assert users[1].headers == {"Authorization": f"Bearer {users[1].token}"}


async def test_a_user_may_be_disabled_or_not_verified(accounts: AccountService) -> None:
    disabled, new = accounts.user(disabled=True), accounts.user(verified=False, password=OTHER_PASSWORD)
    assert disabled.tokens == ()
    with pytest.raises(InvalidCredentials):
        await accounts.services.authentication.log_in(email=disabled.email, password=disabled.password)
    assert not (await accounts.services.authentication.authenticate(new.token)).user.email_verified
    await accounts.services.administration.enable(disabled.id)
    await accounts.services.authentication.log_in(email=disabled.email, password=disabled.password)
    with pytest.raises(ValueError, match="has no sessions"):
        accounts.user(disabled=True, sessions=1)


def test_a_user_who_cannot_be_is_refused(accounts: AccountService) -> None:
    accounts.user("ada@example.com")
    with pytest.raises(AddressTaken):
        accounts.user("ADA@example.com")
    with pytest.raises(InvalidFields):
        accounts.user("no address")
    with pytest.raises(InvalidFields):
        accounts.user(name="")


class SlowAccounts(MemoryAccounts):
    async def add(self, account: Account, *, operation: bytes) -> None:
        await asyncio.sleep(0)
        await super().add(account, operation=operation)


async def test_a_repository_that_waits_is_added_to_by_waiting() -> None:
    accounts = make_account_service(accounts=SlowAccounts())
    with pytest.raises(TypeError, match=r"SlowAccounts waits for something: use `await service.add_user\(…\)`"):
        accounts.user("ada@example.com")
    ada = await accounts.add_user("ada@example.com")
    assert (await accounts.services.authentication.authenticate(ada.token)).user == ada.user
    with pytest.raises(AddressTaken):
        await accounts.add_user("ada@example.com")


def test_every_test_meets_the_same_ids_and_tokens() -> None:
    assert make_account_service().user() == make_account_service().user()
    assert FakeSecrets(1).random_bytes(32) != FakeSecrets(2).random_bytes(32)


async def test_time_passes_when_the_test_says_so(accounts: AccountService) -> None:
    ada = accounts.user()
    accounts.clock.advance(timedelta(days=14))
    with pytest.raises(InvalidToken):
        await accounts.services.authentication.authenticate(ada.token)


async def test_what_was_mailed_can_be_asked_for(accounts: AccountService) -> None:
    with pytest.raises(LookupError, match=r"no ResetPassword was mailed; there is: nothing"):
        accounts.outbox.last(ResetPassword)
    await accounts.services.registration.register(name="Ada", email="ada@bücher.example", password=PASSWORD)
    recovery = accounts.services.recovery
    assert recovery is not None
    await recovery.request(email="ada@bücher.example")
    await accounts.settle()
    outbox = accounts.outbox
    assert [type(mail) for mail in outbox.to("ADA@xn--bcher-kva.example")] == [VerifyAddress, ResetPassword]
    assert outbox.token_for("ada@bücher.example") == outbox.last(ResetPassword).token
    assert outbox.token_for("ada@bücher.example", VerifyAddress) == outbox.last(VerifyAddress).token
    with pytest.raises(LookupError, match=r"no TokenMail was mailed to eve@example\.com; there is: nothing") as missing:
        outbox.token_for("eve@example.com")
    outbox.clear()
    assert outbox.mails == []
    assert accounts.events.of(type(accounts.events.events[0])) == accounts.events.events[:1]
    assert "pgm_" not in str(missing.value)


async def test_limits_are_there_for_those_who_want_them() -> None:
    for limits, refused in ((None, InvalidCredentials), (LimitRules(), RateLimited)):
        accounts = make_account_service(limits=limits)
        ada = accounts.user()
        for _ in range(10):
            with pytest.raises(InvalidCredentials):
                await accounts.services.authentication.log_in(email=ada.email, password="wrong", client=CLIENT)
        with pytest.raises(refused):
            await accounts.services.authentication.log_in(email=ada.email, password="wrong", client=CLIENT)


async def test_a_private_registration_takes_no_time() -> None:
    accounts = make_account_service(registration_mode=RegistrationMode.PRIVATE)
    await accounts.services.registration.register_privately(name="Ada", email="ada@example.com", password=PASSWORD)
    assert accounts.pace.waited
    assert accounts.outbox.token_for("ada@example.com")


async def test_a_hasher_that_hashes_nothing_tells_passwords_apart_all_the_same() -> None:
    hasher = FakeHasher()
    made = await hasher.hash("a:b:c", purpose=Purpose.LOG_IN)
    assert made != await hasher.hash("a:b:c", purpose=Purpose.LOG_IN)
    assert await hasher.verify(made, "a:b:c", purpose=Purpose.LOG_IN)
    for password_hash, password in ((made, "c"), (None, "a:b:c"), ("$argon2id$x", "x"), ("x:1:1:a", "a")):
        assert not await hasher.verify(password_hash, password, purpose=Purpose.LOG_IN)
    assert not hasher.needs_rehash(made)
    hasher.parameters = "2"
    assert hasher.needs_rehash(made)
    assert hasher.needs_rehash("$argon2id$x")
    assert not hasher.can_verify("$argon2id$x")


def test_secrets_are_in_no_repr(accounts: AccountService) -> None:
    ada = accounts.user()
    assert isinstance(ada, ReadyUser)
    shown = repr((ada, accounts, accounts.hasher, accounts.outbox))
    assert ada.email in shown
    assert ada.token not in shown
    assert ada.password not in shown
