"""What every `AccountDirectory` must do."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta

import attrs
import pytest

from pickguard.domain.model.accounts import Account
from pickguard.domain.model.errors import InvalidCursor
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.users import EmailAddress, User
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.directory import AccountDirectory, DirectoryEntry, DirectoryPage
from pickguard.testing.accounts import an_account, ending, operation, renamed
from pickguard.testing.contracts.account_repository import added, before_its_end, stored, until_gone
from pickguard.testing.contracts.overriding import overridable

MOST_PAGES = 10_000


async def pages(
    directory: AccountDirectory, *, limit: int = 7, wanted: Callable[[User], bool] | None = None
) -> AsyncGenerator[DirectoryPage]:
    """Yield all pages, from the first to the last."""
    cursor = None
    for _ in range(MOST_PAGES):
        page = await directory.page(after=cursor, limit=limit, wanted=wanted)
        yield page
        cursor = page.next
        if cursor is None:
            return
    raise AssertionError("the listing does not end")


async def listed(
    directory: AccountDirectory, *, limit: int = 7, wanted: Callable[[User], bool] | None = None
) -> list[DirectoryEntry]:
    """Return all that is listed."""
    return [entry async for page in pages(directory, limit=limit, wanted=wanted) for entry in page.entries]


async def many(accounts: AccountRepository, count: int, *, name: str = "user", sessions: int = 0) -> list[Account]:
    """Store so many accounts and return them."""
    made = [an_account(f"{name}{number}@example.com", sessions=sessions) for number in range(count)]
    await asyncio.gather(*(accounts.add(account, operation=operation()) for account in made))
    return made


class AccountDirectoryContract:
    """Shows that an adapter lists the accounts of its store as `AccountDirectory` promises.

    Subclass it with two fixtures, on one store that is empty for each test: `accounts`, a repository, and `directory`.
    It does not show what happens where the store is lost in between, nor that a listing keeps others waiting.
    """

    @overridable
    @pytest.fixture
    def accounts(self) -> AccountRepository:
        """Return a repository on an empty store. To be overridden."""
        raise NotImplementedError("override the fixture `accounts`: a repository on an empty store")

    @overridable
    @pytest.fixture
    def directory(self) -> AccountDirectory:
        """Return the directory of the same store. To be overridden."""
        raise NotImplementedError("override the fixture `directory`: the directory of the store of `accounts`")

    @pytest.mark.asyncio
    async def test_where_there_is_nobody_nobody_is_listed(self, directory: AccountDirectory) -> None:
        assert await listed(directory) == []

    @pytest.mark.asyncio
    async def test_an_account_is_listed_with_its_user_and_its_sessions(
        self, accounts: AccountRepository, directory: AccountDirectory
    ) -> None:
        account = an_account("Info@bücher.example.com", name="Ada", sessions=3)
        account = attrs.evolve(account, user=attrs.evolve(account.user, disabled=True, email_verified=True))
        await added(accounts, account)
        (entry,) = await listed(directory)
        assert entry.user == account.user
        assert set(entry.sessions) == set(account.sessions)

    @pytest.mark.parametrize("limit", [1, 7, 1000])
    @pytest.mark.asyncio
    async def test_every_account_is_listed(self, accounts: AccountRepository, directory: AccountDirectory, limit: int) -> None:
        made = await many(accounts, 60)
        entries = await listed(directory, limit=limit)
        assert Counter(entry.user.id for entry in entries) == Counter(account.user.id for account in made)

    @pytest.mark.asyncio
    async def test_only_those_who_are_wanted_are_listed(self, accounts: AccountRepository, directory: AccountDirectory) -> None:
        made = await many(accounts, 30, sessions=1)
        entries = await listed(directory, wanted=lambda user: user.email.key.startswith("user2"))
        wanted = [account for account in made if account.user.email.key.startswith("user2")]
        assert {entry.user.email.key: len(entry.sessions) for entry in entries} == {
            account.user.email.key: 1 for account in wanted
        }

    @pytest.mark.asyncio
    async def test_what_is_changed_and_removed_is_listed_as_it_is_then(
        self, accounts: AccountRepository, directory: AccountDirectory
    ) -> None:
        changed, removed = await many(accounts, 2)
        await accounts.save(await stored(accounts, changed), renamed(changed, "Grace"), operation=operation())
        await accounts.remove(await stored(accounts, removed), operation=operation())
        assert [entry.user.name.value for entry in await listed(directory)] == ["Grace"]

    @pytest.mark.asyncio
    async def test_who_is_gone_at_their_end_is_not_listed(
        self, accounts: AccountRepository, directory: AccountDirectory
    ) -> None:
        staying = an_account("staying@example.com")
        await accounts.add(staying, operation=operation())

        async def add(email: EmailAddress, span: timedelta) -> Account:
            account = ending(an_account(email.value, sessions=1), in_=span)
            await accounts.add(account, operation=operation())
            assert {entry.user.id for entry in await listed(directory)} == {staying.user.id, account.user.id}
            return account

        await until_gone(accounts, await before_its_end(add))
        assert [entry.user for entry in await listed(directory)] == [staying.user]

    @pytest.mark.asyncio
    async def test_who_is_there_all_the_while_is_listed_whatever_others_do(
        self, accounts: AccountRepository, directory: AccountDirectory
    ) -> None:
        staying = await many(accounts, 60)
        passing = await many(accounts, 20, name="passing")
        seen: set[UserId] = set()
        async for page in pages(directory, limit=5):
            seen |= {entry.user.id for entry in page.entries}
            await added(accounts, an_account(f"new{len(passing)}@example.com"))
            if passing:
                await accounts.remove(await stored(accounts, passing.pop()), operation=operation())
        assert {account.user.id for account in staying} <= seen

    @pytest.mark.parametrize("cursor", ["", "0", "nonsense", "0123456789abcdef-0-0", "\ud800", "9" * 40, "x" * 5000])
    @pytest.mark.asyncio
    async def test_what_is_no_cursor_is_refused(
        self, accounts: AccountRepository, directory: AccountDirectory, cursor: str
    ) -> None:
        await many(accounts, 3)
        with pytest.raises(InvalidCursor):
            await directory.page(after=cursor, limit=10)
