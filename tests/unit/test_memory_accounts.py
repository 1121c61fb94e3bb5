import pytest

from pickguard.adapters.memory import MemoryAccounts
from pickguard.testing.contracts.account_repository import AccountRepositoryContract


class TestMemoryAccounts(AccountRepositoryContract):
    @pytest.fixture
    def accounts(self) -> MemoryAccounts:
        return MemoryAccounts()
