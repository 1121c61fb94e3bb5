"""How a use case changes an account: load, decide, save, and once more where another write came first."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

import attrs

from pickguard.domain.model.accounts import Account, Transition
from pickguard.domain.model.errors import AddressTaken, Conflict, Contended, InvalidToken
from pickguard.domain.model.events import Event
from pickguard.domain.model.identifiers import UserId
from pickguard.ports.accounts import OPERATION_ID_BYTES, AccountRepository, Snapshot
from pickguard.ports.events import EventPublisher
from pickguard.ports.secrets import SecretSource
from pickguard.ports.turns import Turns

ATTEMPTS = 64
"""Those of one process that met a conflict take turns, so this many processes may change one account at once and more."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AccountChanges:
    """Applies decisions to accounts.

    A decision is a pure function of the account and may raise what the use case raises. It is asked again for each state it
    meets, so it never rests on a state that another write has replaced.
    """

    _accounts: AccountRepository
    _events: EventPublisher
    _secrets: SecretSource
    _turns: Turns

    def new_operation(self) -> bytes:
        """Return an id for one write."""
        return self._secrets.random_bytes(OPERATION_ID_BYTES)

    def publish(self, *events: Event) -> None:
        """Tell what happened."""
        for event in events:
            self._events.publish(event)

    async def apply(
        self,
        user_id: UserId,
        decide: Callable[[Account], Transition],
        *,
        first: Snapshot | None = None,
        attempts: int = ATTEMPTS,
    ) -> Account:
        """Change an account as decided and return it as it is then.

        `first` is a snapshot at hand, to be tried before the account is loaded anew. Raises what `decide` raises,
        `InvalidToken` where the account is gone, `Contended` when every attempt met another write, and what the
        repository raises.
        """
        snapshot = first
        for attempt in range(attempts):
            async with self._turn(user_id, attempt):
                snapshot = snapshot or await self._accounts.get(user_id)
                if snapshot is None:
                    raise InvalidToken
                transition = decide(snapshot.account)
                try:
                    if transition.account == snapshot.account:  # perhaps because this was sent, and not acknowledged, before
                        await self._accounts.confirm(snapshot)
                    else:
                        await self._accounts.save(snapshot, transition.account, operation=self.new_operation())
                except Conflict:
                    snapshot = None
                    continue
                except AddressTaken:
                    # The address was looked at after the account was read. The decision and this refusal are of one moment only
                    # if the account has not changed in between: its session may have been revoked before the address was
                    # anybody's.
                    present = await self._accounts.get(user_id)
                    if present is not None and present.version == snapshot.version:
                        raise
                    if present is None:
                        raise InvalidToken from None
                    snapshot = present
                    continue
            self.publish(*transition.events)
            return transition.account
        raise Contended("this account is being changed by too many requests at once")

    async def remove(self, user_id: UserId, decide: Callable[[Account], Event]) -> None:
        """Remove an account, if `decide`, which may raise, lets it. The same errors as `apply`."""
        for attempt in range(ATTEMPTS):
            async with self._turn(user_id, attempt):
                snapshot = await self._accounts.get(user_id)
                if snapshot is None:
                    raise InvalidToken
                event = decide(snapshot.account)
                try:
                    await self._accounts.remove(snapshot, operation=self.new_operation())
                except Conflict:
                    continue
            self.publish(event)
            return
        raise Contended("this account is being changed by too many requests at once")

    def _turn(self, user_id: UserId, attempt: int) -> AbstractAsyncContextManager[None]:
        """Let those who met a conflict try again one after the other, or else they would only meet each other again."""
        return self._turns.of(user_id) if attempt else nullcontext()
