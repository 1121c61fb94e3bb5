import pytest

from pickguard.adapters.memory import MemoryAccounts, NoDirectory
from pickguard.domain.model.errors import StoreUnavailable
from pickguard.testing.contracts.account_directory import AccountDirectoryContract
from pickguard.testing.contracts.account_repository import AccountRepositoryContract


class TestMemoryAccounts(AccountRepositoryContract):
    @pytest.fixture
    def accounts(self) -> MemoryAccounts:
        return MemoryAccounts()


class TestMemoryDirectory(AccountDirectoryContract):
    @pytest.fixture
    def accounts(self) -> MemoryAccounts:
        return MemoryAccounts()

    @pytest.fixture
    def directory(self, accounts: MemoryAccounts) -> MemoryAccounts:
        return accounts


async def test_a_store_that_lists_nothing_says_so() -> None:
    with pytest.raises(StoreUnavailable, match="directory"):
        await NoDirectory().page(after=None, limit=10)
