"""What operators do to accounts."""

import attrs

from pickguard.domain.model.errors import AccountNotFound, InvalidToken
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.users import User
from pickguard.domain.services.changes import AccountChanges
from pickguard.ports.clock import Clock


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Administration:
    """Disables and enables accounts. Whoever calls this is trusted to have the right to."""

    _changes: AccountChanges
    _clock: Clock

    async def disable(self, user_id: UserId) -> User:
        """Let nobody log in to an account, whatever they know; its sessions and all that was mailed end with it.

        The answer to a log-in, and to a request to reset the password, is that for an unknown address. Raises
        `AccountNotFound`, and `Unavailable` in its kinds.
        """
        try:
            return (await self._changes.apply(user_id, lambda account: account.disable(self._clock.now()))).user
        except InvalidToken:
            raise AccountNotFound from None

    async def enable(self, user_id: UserId) -> User:
        """Let an account be logged in to again. Raises `AccountNotFound`, and `Unavailable` in its kinds."""
        try:
            return (await self._changes.apply(user_id, lambda account: account.enable(self._clock.now()))).user
        except InvalidToken:
            raise AccountNotFound from None
