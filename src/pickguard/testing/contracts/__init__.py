"""What every adapter of a port must do, as classes of tests: subclass one, bring an adapter, and pytest proves it.

Each works with pytest-asyncio in whatever mode, needs no fixture from elsewhere, and shows what was compared where it fails.
See each class for what it shows and what it does not.
"""

import pytest

# Before they are imported, so that a failure inside of them shows its values, as one in a test module does.
pytest.register_assert_rewrite(
    *(f"{__name__}.{name}" for name in ("account_directory", "account_repository", "rate_limiter", "receipts"))
)

from pickguard.testing.contracts.account_directory import AccountDirectoryContract  # noqa: E402
from pickguard.testing.contracts.account_repository import AccountRepositoryContract  # noqa: E402
from pickguard.testing.contracts.rate_limiter import Limiters, RateLimiterContract  # noqa: E402
from pickguard.testing.contracts.receipts import ReceiptsContract  # noqa: E402

__all__ = ["AccountDirectoryContract", "AccountRepositoryContract", "Limiters", "RateLimiterContract", "ReceiptsContract"]
