"""How a use case changes an account: load, decide, save, and once more where another write came first."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

import attrs

from pickguard.domain.model.accounts import Account, Transition
from pickguard.domain.model.errors import AddressTaken, Conflict, Contended, InvalidToken
from pickguard.domain.model.events import Event, FailuresNoted
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.sessions import Client
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

    def publish(self, *events: Event, client: Client | None = None) -> None:
        """Tell what happened, and from where it was caused."""
        for event in _caused_by(client, events):
            self._events.publish(event)

    async def add(self, account: Account, events: Sequence[Event], *, client: Client | None = None) -> Account:
        """Store a new account with what happened to it, and return it. Raises what the repository raises."""
        told = _caused_by(client, events)
        account = account.with_activity(told)
        await self._accounts.add(account, operation=self.new_operation())
        self.publish(*told)
        return account

    async def confirmed(self, user_id: UserId) -> Account | None:
        """Return an account that is kept as safely as what a write acknowledges; None where there is none."""
        for _ in range(ATTEMPTS):
            snapshot = await self._accounts.get(user_id)
            if snapshot is None:
                return None
            try:
                await self._accounts.confirm(snapshot)
            except Conflict:
                continue
            return snapshot.account
        raise Contended("this account is being changed by too many requests at once")

    async def apply(
        self,
        user_id: UserId,
        decide: Callable[[Account], Transition],
        *,
        client: Client | None = None,
        first: Snapshot | None = None,
        attempts: int = ATTEMPTS,
    ) -> Account:
        """Change an account as decided and return it as it is then. What happened is stored with it, in the same write.

        `client` is where the change was asked for. `first` is a snapshot at hand, to be tried before the account is loaded
        anew. Raises what `decide` raises, `InvalidToken` where the account is gone, `Contended` when every attempt met
        another write, and what the repository raises.
        """
        snapshot = first
        for attempt in range(attempts):
            async with self._turn(user_id, attempt):
                snapshot = snapshot or await self._accounts.get(user_id)
                if snapshot is None:
                    raise InvalidToken
                transition = decide(snapshot.account)
                events = _caused_by(client, transition.events)
                account = transition.account.with_activity(events) if events else transition.account
                try:
                    if account == snapshot.account:  # perhaps because this was sent, and not acknowledged, before
                        await self._accounts.confirm(snapshot)
                    else:
                        await self._accounts.save(snapshot, account, operation=self.new_operation())
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
            self.publish(*events)
            return account
        raise Contended("this account is being changed by too many requests at once")

    async def remove(self, user_id: UserId, decide: Callable[[Account], Event], *, client: Client | None = None) -> None:
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
            self.publish(event, client=client)
            return
        raise Contended("this account is being changed by too many requests at once")

    def _turn(self, user_id: UserId, attempt: int) -> AbstractAsyncContextManager[None]:
        """Let those who met a conflict try again one after the other, or else they would only meet each other again."""
        return self._turns.of(user_id) if attempt else nullcontext()


def _caused_by(client: Client | None, events: Sequence[Event]) -> tuple[Event, ...]:
    """Return the events with where they were caused; those that were caused by somebody else before keep that."""
    if client is None:
        return tuple(events)
    return tuple(each if isinstance(each, FailuresNoted) else attrs.evolve(each, client=client) for each in events)
