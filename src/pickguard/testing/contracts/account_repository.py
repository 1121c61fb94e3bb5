"""What every `AccountRepository` must do."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any, TypeVar

import attrs
import pytest
import pytest_asyncio

from pickguard import (
    AccountsError,
    AddressTaken,
    AddressUndecided,
    EmailAddress,
    InvalidCredentials,
    InvalidToken,
    LoggedIn,
    PersonName,
    Services,
    SessionNotFound,
    SessionRules,
    Unavailable,
    WrongPassword,
    build_services,
)
from pickguard.domain.model.accounts import Account
from pickguard.domain.model.challenges import ChallengeKind, ChallengeRules, MailedToken
from pickguard.domain.model.errors import Conflict
from pickguard.domain.model.events import UserRenamed
from pickguard.domain.model.idempotency import KeyDigest
from pickguard.domain.model.sessions import Client, Session
from pickguard.ports.accounts import AccountRepository, Holder, Snapshot
from pickguard.testing.accounts import a_session, an_account, at_address, ending, operation, renamed
from pickguard.testing.contracts.overriding import overridable
from pickguard.testing.fakes import NOW, OTHER_PASSWORD, PASSWORD, FakeClock, NoCommonPasswords, weak_hasher

Result = TypeVar("Result")

SPELLINGS = [
    "info@bücher.example.com",
    "INFO@BÜCHER.example.com",
    "Info@Bücher.EXAMPLE.COM",
    "info@xn--bcher-kva.example.com",
    "INFO@XN--BCHER-KVA.EXAMPLE.COM",
    "iNFO@xn--BCHER-kva.example.COM",
    "info@bu\u0308cher.example.com",
    "InFo@BU\u0308CHER.example.com",
]


ALIKE = [
    "ada_lovelace@example.com",
    "ada%@example.com",
    "%@example.com",
    "*@example.com",
    "ada?lovelace@example.com",
    "ada.lovelace@example.com",
    "adaxlovelace+pg@example.com",
    "adalovelace@example.com",
]
"""Addresses of others than adaxlovelace@example.com, however a database compares with patterns."""


async def outcomes(*calls: Callable[[], Awaitable[Result]]) -> list[Result | AccountsError]:
    """Start all calls at one moment and return what each came to. Anything but an error of the core is raised."""
    barrier = asyncio.Barrier(len(calls))

    async def run(call: Callable[[], Awaitable[Result]]) -> Result | AccountsError:
        await barrier.wait()
        try:
            return await call()
        except AccountsError as error:
            return error

    return await asyncio.gather(*(run(call) for call in calls))


async def while_it_lasts(work: Coroutine[Any, Any, None], look: Callable[[], Awaitable[None]]) -> None:
    """Look again and again, for as long as something goes on. Raise what either of them raises."""
    working = asyncio.ensure_future(work)
    try:
        while not working.done():
            await look()
            await asyncio.sleep(0)  # a store in memory waits for nothing
    finally:
        await working


def failures(results: list[Result | AccountsError]) -> list[type[AccountsError]]:
    """Return the kinds of the errors among what calls came to."""
    return [type(each) for each in results if isinstance(each, AccountsError)]


async def added(accounts: AccountRepository, account: Account) -> Snapshot:
    """Add an account and return it as it is stored."""
    await accounts.add(account, operation=operation())
    return await stored(accounts, account)


async def stored(accounts: AccountRepository, account: Account) -> Snapshot:
    """Return an account as it is stored, which it must be."""
    snapshot = await accounts.get(account.user.id)
    assert snapshot is not None
    return snapshot


async def seen(accounts: AccountRepository, account: Account, email: EmailAddress) -> tuple[object, ...]:
    """Return what is read of an account, by its id, by an address and by its first session."""
    return (
        await accounts.get(account.user.id),
        await accounts.find(email),
        await accounts.find_holder(email),
        await accounts.read_session(account.user.id, account.sessions[0].digest),
    )


def in_state(account: Account, number: int, kept: Session) -> Account:
    """Return the account in one of many states, each part of which tells which it is. It has two sessions, or three if odd."""
    mark = Client(user_agent=f"state {number}")
    others = [each for each in account.sessions if each.digest != kept.digest]
    sessions = [kept, *others, a_session(account)][: 2 + number % 2]
    return attrs.evolve(
        account,
        user=attrs.evolve(account.user, name=PersonName.parse(f"state {number}")),
        credential=attrs.evolve(account.credential, password_hash=f"state {number}"),
        sessions=tuple(attrs.evolve(each, client=mark) for each in sessions),
    )


def marks(account: Account) -> set[str | None]:
    """Return which states the parts of an account are of."""
    sessions = (each.client.user_agent for each in account.sessions)
    return {account.user.name.value, account.credential.password_hash, *sessions}


async def until_gone(accounts: AccountRepository, account: Account) -> None:
    """Wait until an account is gone; it may not be before its end, by as much as two clocks of one machine may differ."""
    async with asyncio.timeout(30):
        while await accounts.get(account.user.id) is not None:  # noqa: ASYNC110 (a store tells nobody)
            await asyncio.sleep(0.02)
    if account.user.deletes_at is not None:
        assert datetime.now(UTC) > account.user.deletes_at - timedelta(milliseconds=100)


async def before_its_end(begin: Callable[[EmailAddress, timedelta], Awaitable[Result]]) -> Result:
    """Do what has to be done with an account before its end, which is so long from now on.

    Where a slow store had no time for it, do it again with another account that ends later.
    """
    clock = asyncio.get_running_loop().time
    for number, seconds in enumerate((1.5, 6)):
        began = clock()
        try:
            return await begin(EmailAddress.parse(f"ends{number}@example.com"), timedelta(seconds=seconds))
        except (AssertionError, Conflict):
            if clock() - began < seconds - 0.1:  # by as much as two clocks of one machine may differ
                raise
    return await begin(EmailAddress.parse("ends@example.com"), timedelta(seconds=25))


class AccountRepositoryContract:
    """Tests of single calls, of races between them, and of the use cases on top. Subclass it as ``Test…``.

    Override the fixture `accounts` with a repository on an empty store. Where several processes share the store, override
    `another` as well, with what another process would have: not the same object, and on another connection.

    ```python
    class TestMyAccounts(AccountRepositoryContract):
        @pytest_asyncio.fixture
        async def accounts(self) -> AsyncGenerator[MyAccounts]:
            async with connected(EMPTY) as accounts:
                yield accounts
    ```

    What passes keeps the promises of `AccountRepository` as far as they can be seen from outside while all works: whole writes
    and whole reads, versions, one account for an address in whatever spelling, and all that under races of 32 tasks behind a
    barrier, on both repositories in turn, and where tasks are cancelled. What these tests cannot show, and an adapter's author
    has to show by other means: that what was acknowledged outlives a crash, a power cut or a fail-over; that a lost answer is
    looked for and no write is sent twice; that a write which failed raises the right one of `StoreUnavailable` and
    `OutcomeUnknown`; and that `find_holder` is as much work for an address that nobody has.
    """

    @overridable
    @pytest.fixture
    def accounts(self) -> AccountRepository:
        """Return the repository to be tested, on a store that has no accounts yet."""
        raise NotImplementedError(f"{type(self).__name__} has to override the fixture `accounts` with a repository to test")

    @overridable
    @pytest.fixture
    def another(self, accounts: AccountRepository) -> AccountRepository:
        """Return a repository on the same store, as another process would have it. This is the same one, unless overridden."""
        return accounts

    # One call after the other

    @pytest.mark.asyncio
    async def test_challenges_activity_and_what_is_pending_are_kept(self, accounts: AccountRepository) -> None:
        before = await added(accounts, an_account())
        token = MailedToken(user_id=before.account.user.id, secret=bytes(32))
        rules, now, client = ChallengeRules(), NOW, Client(ip="2001:db8::1", user_agent="Mozilla/5.0 (test)")
        wanted = before.account.request_address(EmailAddress.parse("ada@bücher.example"), now, token=token, rules=rules)
        event = attrs.evolve(wanted.events[0], client=client)
        after = wanted.account.challenge(ChallengeKind.RESET_PASSWORD, token, now, rules).with_activity([event])
        await accounts.save(before, after, operation=operation())
        kept = await stored(accounts, after)
        assert kept.account == after
        disabled = after.disable(now).account
        await accounts.save(kept, disabled, operation=operation())
        assert (await stored(accounts, after)).account == disabled

    @pytest.mark.asyncio
    async def test_the_activity_is_kept_in_its_order(self, accounts: AccountRepository) -> None:
        account = an_account()
        at = [NOW + timedelta(hours=hours) for hours in (1, 2, 3, 3)]
        events = [UserRenamed(user_id=account.user.id, at=each, client=Client(ip="192.0.2.1")) for each in at]
        places = [attrs.evolve(each, client=Client(ip=f"192.0.2.{number}")) for number, each in enumerate(events)]
        account = account.with_activity(places)
        assert len(account.activity) == 4
        assert (await added(accounts, account)).account.activity == account.activity
        holder = await accounts.find_holder(account.user.email)
        assert holder is not None
        assert tuple(holder.read_activity()) == account.activity

    @pytest.mark.asyncio
    async def test_who_has_an_address_is_found_without_the_sessions(self, accounts: AccountRepository) -> None:
        before = await added(accounts, an_account("Info@bücher.example.com", sessions=3))
        event = UserRenamed(user_id=before.account.user.id, at=NOW, client=Client(ip="192.0.2.1"))
        after = renamed(before.account, "Grace").with_activity([event])
        await accounts.save(before, after, operation=operation())
        for spelling in SPELLINGS:
            found = await accounts.find_holder(EmailAddress.parse(spelling))
            assert found == Holder(user=after.user, credential=after.credential, read_activity=tuple)
            assert found.read_activity() == after.activity
        assert await accounts.find_holder(EmailAddress.parse("nobody@example.com")) is None

    @pytest.mark.asyncio
    async def test_who_has_left_an_address_is_not_found_there(self, accounts: AccountRepository) -> None:
        before = await added(accounts, an_account())
        moved = at_address(before.account, "else@example.com")
        await accounts.save(before, moved, operation=operation())
        assert await accounts.find_holder(before.account.user.email) is None
        found = await accounts.find_holder(moved.user.email)
        assert found is not None
        assert found.user == moved.user
        await accounts.remove(await stored(accounts, moved), operation=operation())
        assert await accounts.find_holder(moved.user.email) is None

    @pytest.mark.asyncio
    async def test_what_was_added_is_returned_unchanged(self, accounts: AccountRepository) -> None:
        account = an_account("Ada.Lovelace+pg@Example.com", name="Ada 👩🏽\u200d💻 Lovelace", sessions=3)
        odd = a_session(account, client=Client(ip=None, user_agent='Mozilla "5" \\ é 日本 \x1b[31m'))
        account = attrs.evolve(account, sessions=(*account.sessions, odd))
        snapshot = await added(accounts, account)
        assert_same(account, snapshot.account)

    @pytest.mark.asyncio
    async def test_nothing_is_found_where_nothing_was_added(self, accounts: AccountRepository) -> None:
        account = an_account(sessions=1)
        assert await accounts.get(account.user.id) is None
        assert await accounts.find(account.user.email) is None
        assert await accounts.read_session(account.user.id, account.sessions[0].digest) is None

    @pytest.mark.parametrize("spelling", SPELLINGS)
    @pytest.mark.asyncio
    async def test_an_account_is_found_by_every_spelling_of_its_address(
        self, accounts: AccountRepository, spelling: str
    ) -> None:
        account = an_account("info@bücher.example.com")
        await added(accounts, account)
        found = await accounts.find(EmailAddress.parse(spelling))
        assert found is not None
        assert_same(account, found.account)

    @pytest.mark.parametrize("spelling", SPELLINGS)
    @pytest.mark.asyncio
    async def test_an_address_is_taken_in_every_spelling(self, accounts: AccountRepository, spelling: str) -> None:
        first = an_account("info@bücher.example.com")
        await added(accounts, first)
        second = an_account(spelling)
        with pytest.raises(AddressTaken):
            await accounts.add(second, operation=operation())
        assert await accounts.get(second.user.id) is None

    @pytest.mark.asyncio
    async def test_an_address_is_no_pattern(self, accounts: AccountRepository) -> None:
        account = an_account("adaxlovelace@example.com")
        await added(accounts, account)
        for email in ALIKE:
            address = EmailAddress.parse(email)
            assert await accounts.find(address) is None
            assert await accounts.find_holder(address) is None
        others = [an_account(email) for email in ALIKE]
        for other in others:
            await added(accounts, other)
        for each in (account, *others):
            found, holder = await accounts.find(each.user.email), await accounts.find_holder(each.user.email)
            assert found is not None
            assert holder is not None
            assert found.account.user.id == holder.user.id == each.user.id

    @pytest.mark.asyncio
    async def test_an_id_has_one_account_however_often_it_is_added(self, accounts: AccountRepository) -> None:
        first = await added(accounts, an_account())
        again = attrs.evolve(first.account, user=an_account("else@example.com").user)
        again = attrs.evolve(again, user=attrs.evolve(again.user, id=first.account.user.id))
        for account in (first.account, again):
            with pytest.raises(Conflict):
                await accounts.add(account, operation=operation())
        assert await stored(accounts, first.account) == first
        # The address that was not had in the end is anybody's.
        await added(accounts, an_account("else@example.com"))
        with pytest.raises(AddressTaken):
            await accounts.add(again, operation=operation())

    @pytest.mark.asyncio
    async def test_a_session_is_read_with_its_user(self, accounts: AccountRepository) -> None:
        account = an_account(sessions=2)
        await added(accounts, account)
        for session in account.sessions:
            assert await accounts.read_session(account.user.id, session.digest) == (account.user, session)

    @pytest.mark.asyncio
    async def test_a_session_of_another_account_is_not_read(self, accounts: AccountRepository) -> None:
        ada, bob = an_account(sessions=1), an_account("bob@example.com", sessions=1)
        await added(accounts, ada)
        await added(accounts, bob)
        assert await accounts.read_session(ada.user.id, bob.sessions[0].digest) is None

    @pytest.mark.asyncio
    async def test_a_save_replaces_user_credential_and_sessions_at_once(self, accounts: AccountRepository) -> None:
        before = await added(accounts, an_account(sessions=3))
        account = renamed(before.account, "Countess")
        fresh = a_session(account)
        account = attrs.evolve(
            account,
            credential=attrs.evolve(account.credential, password_hash="$argon2id$other", epoch=2),
            sessions=(account.sessions[1], fresh),
        )
        await accounts.save(before, account, operation=operation())
        after = await stored(accounts, account)
        assert_same(account, after.account)
        assert after.version > before.version
        ended = before.account.sessions[0]
        assert await accounts.read_session(account.user.id, ended.digest) is None
        assert await accounts.read_session(account.user.id, fresh.digest) == (account.user, fresh)

    @pytest.mark.asyncio
    async def test_a_hundred_sessions_are_kept(self, accounts: AccountRepository) -> None:
        before = await added(accounts, an_account(sessions=100))
        assert len(before.account.sessions) == 100
        emptied = attrs.evolve(before.account, sessions=())
        await accounts.save(before, emptied, operation=operation())
        assert (await stored(accounts, emptied)).account.sessions == ()

    @pytest.mark.asyncio
    async def test_a_save_over_an_older_version_is_a_conflict_and_changes_nothing(self, accounts: AccountRepository) -> None:
        before = await added(accounts, an_account(sessions=1))
        await accounts.save(before, renamed(before.account, "First"), operation=operation())
        present = await stored(accounts, before.account)
        with pytest.raises(Conflict):
            await accounts.save(before, renamed(before.account, "Second"), operation=operation())
        with pytest.raises(Conflict):
            await accounts.save(before, at_address(before.account, "else@example.com"), operation=operation())
        with pytest.raises(Conflict):
            await accounts.remove(before, operation=operation())
        assert await stored(accounts, before.account) == present
        assert await accounts.find(EmailAddress.parse("else@example.com")) is None
        await added(accounts, an_account("else@example.com"))

    @pytest.mark.asyncio
    async def test_many_saves_follow_each_other(self, accounts: AccountRepository) -> None:
        snapshot = await added(accounts, an_account())
        for number in range(20):
            await accounts.save(snapshot, renamed(snapshot.account, f"Name {number}"), operation=operation())
            snapshot = await stored(accounts, snapshot.account)
        assert snapshot.account.user.name.value == "Name 19"

    @pytest.mark.asyncio
    async def test_a_changed_address_is_found_and_the_old_one_is_free(self, accounts: AccountRepository) -> None:
        before = await added(accounts, an_account())
        moved = at_address(before.account, "countess@example.com")
        await accounts.save(before, moved, operation=operation())
        found = await accounts.find(moved.user.email)
        assert found is not None
        assert_same(moved, found.account)
        assert await accounts.find(before.account.user.email) is None
        await added(accounts, an_account())
        with pytest.raises(AddressTaken):
            await accounts.add(an_account("countess@example.com"), operation=operation())

    @pytest.mark.asyncio
    async def test_an_address_can_be_changed_away_and_back(self, accounts: AccountRepository) -> None:
        snapshot = await added(accounts, an_account())
        for email in ("countess@example.com", "ada@example.com", "countess@example.com", "ada@example.com"):
            await accounts.save(snapshot, at_address(snapshot.account, email), operation=operation())
            snapshot = await stored(accounts, snapshot.account)
        found = await accounts.find(EmailAddress.parse("ada@example.com"))
        assert found is not None
        assert found.version == snapshot.version
        await added(accounts, an_account("countess@example.com"))

    @pytest.mark.asyncio
    async def test_another_spelling_of_ones_own_address_is_stored(self, accounts: AccountRepository) -> None:
        before = await added(accounts, an_account("ada@example.com"))
        await accounts.save(before, at_address(before.account, "ADA@example.com"), operation=operation())
        found = await accounts.find(EmailAddress.parse("ada@example.com"))
        assert found is not None
        assert found.account.user.email.value == "ADA@example.com"

    @pytest.mark.asyncio
    async def test_an_address_of_another_account_cannot_be_changed_to(self, accounts: AccountRepository) -> None:
        before = await added(accounts, an_account())
        await added(accounts, an_account("bob@example.com"))
        with pytest.raises(AddressTaken):
            await accounts.save(before, at_address(before.account, "BOB@example.com"), operation=operation())
        assert await stored(accounts, before.account) == before

    @pytest.mark.asyncio
    async def test_a_removed_account_is_gone_and_its_address_free_at_once(self, accounts: AccountRepository) -> None:
        before = await added(accounts, an_account(sessions=2))
        await accounts.remove(before, operation=operation())
        assert await accounts.get(before.account.user.id) is None
        assert await accounts.find(before.account.user.email) is None
        assert await accounts.read_session(before.account.user.id, before.account.sessions[0].digest) is None
        await added(accounts, an_account())

    @pytest.mark.asyncio
    async def test_a_removed_account_is_not_written_again(self, accounts: AccountRepository) -> None:
        before = await added(accounts, an_account(sessions=1))
        await accounts.remove(before, operation=operation())
        for change in (
            accounts.save(before, renamed(before.account, "Ghost"), operation=operation()),
            accounts.save(before, at_address(before.account, "ghost@example.com"), operation=operation()),
            accounts.remove(before, operation=operation()),
        ):
            with pytest.raises(Conflict):
                await change
        assert await accounts.get(before.account.user.id) is None
        await added(accounts, an_account("ghost@example.com"))

    @pytest.mark.asyncio
    async def test_nothing_of_a_removed_account_comes_back_with_its_id(self, accounts: AccountRepository) -> None:
        before = await added(accounts, an_account(sessions=2))
        await accounts.remove(before, operation=operation())
        again = an_account("else@example.com")
        again = attrs.evolve(again, user=attrs.evolve(again.user, id=before.account.user.id))  # as an import may bring it
        assert_same(again, (await added(accounts, again)).account)
        for session in before.account.sessions:
            assert await accounts.read_session(before.account.user.id, session.digest) is None
        assert await accounts.find(before.account.user.email) is None

    @pytest.mark.asyncio
    async def test_an_account_is_gone_at_its_end(self, accounts: AccountRepository) -> None:
        account = an_account(sessions=1)
        before = await added(accounts, account)
        ends = ending(before.account, in_=timedelta(milliseconds=1500))
        await accounts.save(before, ends, operation=operation())
        before = await stored(accounts, account)
        assert_same(ends, before.account)
        # Another write meanwhile changes nothing about that.
        ends = renamed(ends, "Countess")
        await accounts.save(before, ends, operation=operation())
        before = await stored(accounts, account)
        assert_same(ends, before.account)
        with pytest.raises(AddressTaken):
            await accounts.add(an_account(), operation=operation())
        await until_gone(accounts, ends)
        assert await accounts.find(account.user.email) is None
        assert await accounts.find_holder(account.user.email) is None
        assert await accounts.read_session(account.user.id, account.sessions[0].digest) is None
        for change in (
            accounts.save(before, ending(ends, in_=None), operation=operation()),
            accounts.remove(before, operation=operation()),
        ):
            with pytest.raises(Conflict):
                await change
        assert await accounts.get(account.user.id) is None
        # Where claims on addresses are kept apart, one as young as this may have to grow older first; never is it taken.
        with contextlib.suppress(AddressUndecided):
            await added(accounts, an_account())

    @pytest.mark.asyncio
    async def test_an_account_that_was_added_with_an_end_is_gone_then(self, accounts: AccountRepository) -> None:
        async def add(email: EmailAddress, span: timedelta) -> Account:
            account = ending(an_account(email.value, sessions=1), in_=span)
            assert_same(account, (await added(accounts, account)).account)
            return account

        account = await before_its_end(add)
        await until_gone(accounts, account)
        assert await seen(accounts, account, account.user.email) == (None, None, None, None)

    @pytest.mark.asyncio
    async def test_an_end_that_is_put_off_is_the_later_one(self, accounts: AccountRepository) -> None:
        async def put_off(email: EmailAddress, span: timedelta) -> tuple[Account, timedelta]:
            before = await added(accounts, an_account(email.value))
            soon = ending(before.account, in_=span)
            await accounts.save(before, soon, operation=operation())
            later = ending(soon, in_=timedelta(days=1))
            await accounts.save(await stored(accounts, soon), later, operation=operation())
            return later, span

        later, span = await before_its_end(put_off)
        other = ending(an_account("other@example.com"), in_=span + timedelta(milliseconds=100))
        await accounts.add(other, operation=operation())
        await until_gone(accounts, other)  # by then the first would be gone as well
        assert_same(later, (await stored(accounts, later)).account)

    @pytest.mark.asyncio
    async def test_an_account_whose_end_is_called_off_stays(self, accounts: AccountRepository) -> None:
        before = await added(accounts, an_account(sessions=1))
        ends = ending(before.account, in_=timedelta(milliseconds=1200))
        await accounts.save(before, ends, operation=operation())
        stays = ending(ends, in_=None)
        await accounts.save(await stored(accounts, ends), stays, operation=operation())
        other = an_account("other@example.com")
        await accounts.save(
            await added(accounts, other), ending(other, in_=timedelta(milliseconds=1300)), operation=operation()
        )
        await until_gone(accounts, other)  # by then the first would be gone as well
        assert_same(stays, (await stored(accounts, stays)).account)
        found = await accounts.find(stays.user.email)
        assert found is not None
        assert_same(stays, found.account)

    @pytest.mark.asyncio
    async def test_of_an_end_and_its_calling_off_at_once_one_comes_first(self, accounts: AccountRepository) -> None:
        before = await added(accounts, an_account())
        await accounts.save(before, ending(before.account, in_=timedelta(days=1)), operation=operation())
        before = await stored(accounts, before.account)
        stays = ending(before.account, in_=None)
        results = await outcomes(
            *(lambda: accounts.save(before, stays, operation=operation()) for _ in range(4)),
            *(lambda: accounts.remove(before, operation=operation()) for _ in range(4)),
        )
        assert failures(results) == [Conflict] * 7
        kept = await accounts.get(before.account.user.id)
        assert (kept is None) == (results.index(None) >= 4)
        assert kept is None or kept.account == stays

    @pytest.mark.asyncio
    async def test_a_store_that_works_is_writable(self, accounts: AccountRepository) -> None:
        await accounts.check_writable()

    @pytest.mark.asyncio
    async def test_what_was_read_last_can_be_confirmed(self, accounts: AccountRepository) -> None:
        before = await added(accounts, an_account())
        await accounts.confirm(before)
        await accounts.save(before, renamed(before.account, "Countess"), operation=operation())
        await accounts.confirm(await stored(accounts, before.account))

    @pytest.mark.asyncio
    async def test_how_an_account_was_made_and_odd_texts_are_kept(self, accounts: AccountRepository) -> None:
        account = an_account("o'brien+%_@example.com", name="Robert'); DROP TABLE accounts;-- %s {} \\ \u00e9 \U0001f469")
        long = "$argon2id$v=19$m=19456,t=2,p=1$" + "x" * 1000
        credential = attrs.evolve(account.credential, password_hash=long, epoch=2**31 - 1)
        account = attrs.evolve(account, credential=credential, made_by=KeyDigest(bytes(range(240, 256))))
        assert (await added(accounts, account)).account == account

    # On two repositories, as two processes have them

    @pytest.mark.asyncio
    async def test_what_one_process_wrote_the_others_read_at_once(
        self, accounts: AccountRepository, another: AccountRepository
    ) -> None:
        account = an_account(sessions=1)
        before = await added(accounts, account)
        assert await another.get(account.user.id) == before
        assert await another.read_session(account.user.id, account.sessions[0].digest) == (account.user, account.sessions[0])
        moved = attrs.evolve(at_address(before.account, "countess@example.com"), sessions=())
        await another.save(before, moved, operation=operation())
        after = await stored(accounts, moved)
        assert_same(moved, after.account)
        assert await accounts.find(account.user.email) is None
        assert await accounts.find(moved.user.email) == after
        assert await accounts.read_session(account.user.id, account.sessions[0].digest) is None
        with pytest.raises(Conflict):
            await accounts.save(before, renamed(before.account, "Ghost"), operation=operation())
        await accounts.remove(after, operation=operation())
        assert await another.get(account.user.id) is None
        assert await another.find_holder(moved.user.email) is None
        await added(another, an_account("countess@example.com"))

    @pytest.mark.asyncio
    async def test_what_one_process_has_read_before_it_reads_anew(
        self, accounts: AccountRepository, another: AccountRepository
    ) -> None:
        account = an_account(sessions=2)
        old, new = account.user.email, EmailAddress.parse("countess@example.com")
        before = await added(accounts, account)
        for one in (accounts, another):
            assert None not in await seen(one, account, old)
            assert (await seen(one, account, new))[1:3] == (None, None)
        moved = attrs.evolve(at_address(before.account, new.value), sessions=account.sessions[1:])
        await another.save(before, moved, operation=operation())
        for one in (accounts, another):
            after, *found_there = await seen(one, account, old)
            assert found_there == [None, None, None]  # at the old address, and by the session that was ended
            assert isinstance(after, Snapshot)
            assert_same(moved, after.account)
            assert (await seen(one, moved, new))[:2] == (after, after)
            assert await one.read_session(moved.user.id, moved.sessions[0].digest) == (moved.user, moved.sessions[0])
        await accounts.remove(await stored(accounts, moved), operation=operation())
        for one in (accounts, another):
            assert await seen(one, moved, new) == (None, None, None, None)

    # At once

    @pytest.mark.asyncio
    async def test_what_is_read_while_another_writes_is_of_one_moment(
        self, accounts: AccountRepository, another: AccountRepository
    ) -> None:
        account = an_account(sessions=1)
        email, kept = account.user.email, account.sessions[0]
        before = await added(accounts, in_state(account, 0, kept))

        async def write(snapshot: Snapshot) -> None:
            for number in range(1, 33):
                await accounts.save(snapshot, in_state(snapshot.account, number, kept), operation=operation())
                snapshot = await stored(accounts, account)

        async def read() -> None:
            for snapshot in (await another.get(account.user.id), await another.find(email)):
                assert snapshot is not None
                assert len(marks(snapshot.account)) == 1
                number = int(snapshot.account.user.name.value.removeprefix("state "))
                assert len(snapshot.account.sessions) == 2 + number % 2
            holder = await another.find_holder(email)
            assert holder is not None
            assert holder.user.name.value == holder.credential.password_hash
            found = await another.read_session(account.user.id, kept.digest)
            assert found is not None
            assert found[0].name.value == found[1].client.user_agent

        await while_it_lasts(write(before), read)

    @pytest.mark.asyncio
    async def test_a_write_whose_task_is_cancelled_happens_as_a_whole_or_not_at_all(
        self, accounts: AccountRepository, another: AccountRepository
    ) -> None:
        account = an_account(sessions=1)
        kept = account.sessions[0]
        before = await added(accounts, in_state(account, 0, kept))
        for number in range(1, 17):
            write = asyncio.ensure_future(accounts.save(before, in_state(before.account, number, kept), operation=operation()))
            for _ in range(number):  # so that each is further on than the one before
                await asyncio.sleep(0)
            write.cancel()
            with contextlib.suppress(asyncio.CancelledError, Conflict, Unavailable):
                await write
            for one in (another, accounts):
                before = await stored(one, account)
                assert len(marks(before.account)) == 1
        async with asyncio.timeout(30):
            while True:  # one that was cancelled may still be on its way
                with contextlib.suppress(Conflict):
                    await accounts.save(before, renamed(before.account, "Countess"), operation=operation())
                    break
                before = await stored(accounts, account)
        assert (await stored(another, account)).account.user.name.value == "Countess"

    @pytest.mark.asyncio
    async def test_an_account_comes_and_goes_as_a_whole(self, accounts: AccountRepository, another: AccountRepository) -> None:
        coming = [an_account(f"user{number}@example.com", sessions=3) for number in range(16)]

        async def write() -> None:
            for account in coming:
                snapshot = await added(accounts, account)
                await accounts.remove(snapshot, operation=operation())

        async def read() -> None:
            for account in coming:
                found = await another.get(account.user.id)
                if found is not None:
                    assert_same(account, found.account)

        await while_it_lasts(write(), read)

    @pytest.mark.asyncio
    async def test_one_of_32_that_add_one_address_at_once_succeeds(
        self, accounts: AccountRepository, another: AccountRepository
    ) -> None:
        rivals = [an_account(SPELLINGS[number % len(SPELLINGS)]) for number in range(32)]
        both = cycle([accounts, another])
        results = await outcomes(
            *(
                lambda rival=rival, one=one: one.add(rival, operation=operation())
                for rival, one in zip(rivals, both, strict=False)
            )
        )
        assert failures(results) == [AddressTaken] * 31
        winner = rivals[results.index(None)]
        found = await accounts.find(EmailAddress.parse(SPELLINGS[0]))
        assert found is not None
        assert found.account.user.id == winner.user.id
        assert [rival for rival in rivals if await accounts.get(rival.user.id) is not None] == [winner]

    @pytest.mark.asyncio
    async def test_one_of_many_saves_of_one_version_at_once_succeeds(
        self, accounts: AccountRepository, another: AccountRepository
    ) -> None:
        before = await added(accounts, an_account())
        changed = [renamed(before.account, f"Name {number}") for number in range(16)]
        both = cycle([accounts, another])
        results = await outcomes(
            *(
                lambda each=each, one=one: one.save(before, each, operation=operation())
                for each, one in zip(changed, both, strict=False)
            )
        )
        assert failures(results) == [Conflict] * 15
        assert (await stored(accounts, before.account)).account == changed[results.index(None)]

    @pytest.mark.asyncio
    async def test_one_of_many_that_change_to_one_address_at_once_succeeds(
        self, accounts: AccountRepository, another: AccountRepository
    ) -> None:
        befores = [await added(accounts, an_account(f"user{number}@example.com")) for number in range(8)]
        rivals = [at_address(before.account, "wanted@example.com") for before in befores]
        newcomer = an_account("wanted@example.com")
        results = await outcomes(
            *(
                lambda before=before, rival=rival, one=one: one.save(before, rival, operation=operation())
                for before, rival, one in zip(befores, rivals, cycle([another, accounts]), strict=False)
            ),
            lambda: accounts.add(newcomer, operation=operation()),
        )
        assert failures(results) == [AddressTaken] * 8
        winner = [*rivals, newcomer][results.index(None)]
        found = await accounts.find(EmailAddress.parse("wanted@example.com"))
        assert found is not None
        assert found.account.user.id == winner.user.id

    @pytest.mark.asyncio
    async def test_changes_of_one_account_to_one_address_at_once_do_not_lose_it(
        self, accounts: AccountRepository, another: AccountRepository
    ) -> None:
        before = await added(accounts, an_account())
        moved = at_address(before.account, "wanted@example.com")
        results = await outcomes(
            *(lambda one=one: one.save(before, moved, operation=operation()) for one in [accounts, another] * 2)
        )
        assert failures(results) == [Conflict] * 3
        with pytest.raises(AddressTaken):
            await accounts.add(an_account("wanted@example.com"), operation=operation())
        found = await accounts.find(moved.user.email)
        assert found is not None
        assert_same(moved, found.account)

    @pytest.mark.asyncio
    async def test_a_removal_and_a_save_at_once_leave_one_of_their_outcomes(
        self, accounts: AccountRepository, another: AccountRepository
    ) -> None:
        before = await added(accounts, an_account())
        results = await outcomes(
            lambda: accounts.remove(before, operation=operation()),
            lambda: another.save(before, renamed(before.account, "Countess"), operation=operation()),
            lambda: accounts.save(before, at_address(before.account, "else@example.com"), operation=operation()),
        )
        assert failures(results) == [Conflict] * 2
        assert (await accounts.get(before.account.user.id) is None) is (results[0] is None)

    # The use cases on top

    @pytest.fixture
    def clock(self) -> FakeClock:
        """Return the clock of the use cases."""
        return FakeClock()

    @pytest_asyncio.fixture
    async def service(self, accounts: AccountRepository, clock: FakeClock) -> AsyncGenerator[Services]:
        """Return the use cases on the repository. Passwords are hashed in threads, so that there is something to wait for."""
        async with weak_hasher(threads=4) as hasher:
            yield build_services(
                accounts=accounts,
                hasher=hasher,
                clock=clock,
                common_passwords=NoCommonPasswords(),
                session_rules=SessionRules(maximum=20),
            )

    @pytest.mark.asyncio
    async def test_one_of_32_that_register_one_address_at_once_succeeds(self, service: Services) -> None:
        results = await outcomes(
            *(
                lambda number=number: service.registration.register(
                    name=f"User {number}", email=SPELLINGS[number % len(SPELLINGS)], password=PASSWORD
                )
                for number in range(32)
            )
        )
        assert failures(results) == [AddressTaken] * 31
        await log_in(service, SPELLINGS[-1])

    @pytest.mark.asyncio
    async def test_no_session_opened_with_the_old_password_survives_a_change_of_it(self, service: Services) -> None:
        await register(service)
        keeper = await log_in(service)
        results = await outcomes(
            *[lambda: log_in(service)] * 8,
            lambda: change_password(service, keeper),
            *[lambda: log_in(service)] * 8,
        )
        opened = [each for each in results if isinstance(each, LoggedIn)]
        assert {type(each) for each in results if isinstance(each, AccountsError)} <= {InvalidCredentials}
        for each in opened:
            with pytest.raises(InvalidToken):
                await service.authentication.authenticate(each.token.reveal())
        await service.authentication.authenticate(keeper.token.reveal())
        await log_in(service, password=OTHER_PASSWORD)

    @pytest.mark.asyncio
    async def test_one_of_two_changes_of_password_at_once_succeeds(self, service: Services) -> None:
        await register(service)
        keepers = [await log_in(service), await log_in(service)]
        results = await outcomes(*(lambda keeper=keeper: change_password(service, keeper) for keeper in keepers))
        assert len(failures(results)) == 1
        assert failures(results)[0] in {WrongPassword, InvalidToken}

    @pytest.mark.asyncio
    async def test_after_a_deletion_nothing_is_left_whatever_was_in_flight(self, service: Services) -> None:
        await register(service)
        tokens = [(await log_in(service)).token.reveal() for _ in range(4)]
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: service.profiles.delete(tokens[0]),
            lambda: service.profiles.change(tokens[1], name="Ghost"),
            lambda: service.profiles.change(tokens[1], email="ghost@example.com", current_password=PASSWORD),
            lambda: service.authentication.reauthenticate(tokens[2], password=PASSWORD),
            lambda: service.sessions.end_all(tokens[3], keep_current=True),
            lambda: service.authentication.authenticate(tokens[1]),
            *[lambda: log_in(service)] * 4,
        ]
        results = await outcomes(*calls)
        if isinstance(results[0], InvalidToken):  # its session was ended first
            await service.profiles.delete(tokens[3])
        left = [*tokens, *(each.token.reveal() for each in results if isinstance(each, LoggedIn))]
        for token in left:
            with pytest.raises(InvalidToken):
                await service.authentication.authenticate(token)
        for email in ("ada@example.com", "ghost@example.com"):
            with pytest.raises(InvalidCredentials):
                await log_in(service, email)
            await register(service, email)

    @pytest.mark.asyncio
    async def test_two_changes_at_once_are_both_applied(self, service: Services) -> None:
        await register(service)
        token = (await log_in(service)).token.reveal()
        results = await outcomes(
            lambda: service.profiles.change(token, name="Countess"),
            lambda: service.profiles.change(token, email="countess@example.com", current_password=PASSWORD),
        )
        assert failures(results) == []
        user = (await service.authentication.authenticate(token)).user
        assert (user.name.value, user.email.value) == ("Countess", "countess@example.com")

    @pytest.mark.asyncio
    async def test_many_changes_at_once_are_all_applied_in_some_order(self, service: Services) -> None:
        await register(service)
        token = (await log_in(service)).token.reveal()
        names = [f"Name {number}" for number in range(16)]
        results = await outcomes(*(lambda name=name: service.profiles.change(token, name=name) for name in names))
        assert failures(results) == []
        assert (await service.authentication.authenticate(token)).user.name.value in names

    @pytest.mark.asyncio
    async def test_log_ins_at_once_open_no_more_sessions_than_allowed(self, service: Services) -> None:
        await register(service)
        results = await outcomes(*[lambda: log_in(service)] * 30)
        assert failures(results) == []
        live = [each for each in results if isinstance(each, LoggedIn) and await is_live(service, each)]
        assert len(live) == 20

    @pytest.mark.asyncio
    async def test_one_session_more_ends_the_least_recently_used(self, service: Services, clock: FakeClock) -> None:
        await register(service)
        opened = []
        for _ in range(20):
            opened.append(await log_in(service))
            clock.advance(timedelta(minutes=2))
        assert await is_live(service, opened[0])  # and so the second is now the one unused for longest
        opened.append(await log_in(service))
        assert [await is_live(service, each) for each in opened] == [number != 1 for number in range(21)]

    @pytest.mark.asyncio
    async def test_sessions_end_after_their_lifetime_and_when_unused(self, service: Services, clock: FakeClock) -> None:
        await register(service)
        used, unused = await log_in(service), await log_in(service)
        for _ in range(3):
            clock.advance(timedelta(days=7))
            assert await is_live(service, used)
        assert not await is_live(service, unused)
        clock.advance(timedelta(days=9))
        assert not await is_live(service, used)
        assert len((await service.sessions.list((await log_in(service)).token.reveal())).sessions) == 1

    @pytest.mark.asyncio
    async def test_a_session_that_was_ended_is_refused_at_once(self, service: Services) -> None:
        await register(service)
        first, second = await log_in(service), await log_in(service)
        await service.sessions.end(first.token.reveal(), second.session.id)
        assert not await is_live(service, second)
        with pytest.raises(SessionNotFound):
            await service.sessions.end(first.token.reveal(), second.session.id)

    @pytest.mark.asyncio
    async def test_one_of_two_ends_of_one_session_at_once_finds_it(self, service: Services) -> None:
        await register(service)
        first, second = await log_in(service), await log_in(service)
        results = await outcomes(*[lambda: service.sessions.end(first.token.reveal(), second.session.id)] * 2)
        assert failures(results) == [SessionNotFound]

    @pytest.mark.asyncio
    async def test_one_of_two_reauthentications_at_once_gets_the_session(self, service: Services) -> None:
        await register(service)
        token = (await log_in(service)).token.reveal()
        results = await outcomes(*[lambda: service.authentication.reauthenticate(token, password=PASSWORD)] * 2)
        assert failures(results) == [InvalidToken]
        assert [await is_live(service, each) for each in results if isinstance(each, LoggedIn)] == [True]


def assert_same(expected: Account, found: Account) -> None:
    """Compare accounts; the order of their sessions means nothing."""
    assert found.user == expected.user
    assert found.credential == expected.credential
    assert set(found.sessions) == set(expected.sessions)


async def register(service: Services, email: str = "ada@example.com") -> None:
    """Make an account by the use case."""
    await service.registration.register(name="Ada", email=email, password=PASSWORD)


async def log_in(service: Services, email: str = "ada@example.com", *, password: str = PASSWORD) -> LoggedIn:
    """Open a session by the use case."""
    return await service.authentication.log_in(email=email, password=password)


async def change_password(service: Services, session: LoggedIn) -> object:
    """Change the password within a session."""
    return await service.profiles.change(session.token.reveal(), password=OTHER_PASSWORD, current_password=PASSWORD)


async def is_live(service: Services, session: LoggedIn) -> bool:
    """Tell whether a session still opens anything."""
    try:
        await service.authentication.authenticate(session.token.reveal())
    except InvalidToken:
        return False
    return True
