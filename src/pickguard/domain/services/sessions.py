"""Seeing and ending one's own sessions."""

from collections.abc import Callable

import attrs

from pickguard.domain.model.accounts import Account, Transition
from pickguard.domain.model.errors import InvalidToken
from pickguard.domain.model.events import SessionEnd
from pickguard.domain.model.identifiers import SessionId
from pickguard.domain.model.sessions import Client, Session, SessionRules, Token
from pickguard.domain.services.changes import AccountChanges
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.clock import Clock


@attrs.frozen(kw_only=True)
class SessionList:
    """The live sessions of one user, newest first, and which of them asked."""

    sessions: tuple[Session, ...]
    current: SessionId


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Sessions:
    """Lets a user see and end their sessions. From the moment that an end is acknowledged, its token is refused everywhere."""

    _accounts: AccountRepository
    _changes: AccountChanges
    _clock: Clock
    _session_rules: SessionRules

    async def list(self, token: str) -> SessionList:
        """Return the user's live sessions; `InvalidToken` where the token opens nothing."""
        parsed = Token.parse(token)
        snapshot = await self._accounts.get(parsed.user_id)
        if snapshot is None:
            raise InvalidToken
        now = self._clock.now()
        current = snapshot.account.session(parsed.digest, now, self._session_rules)
        return SessionList(sessions=snapshot.account.live_sessions(now, self._session_rules), current=current.id)

    async def end(self, token: str, session_id: SessionId, *, client: Client | None = None) -> None:
        """End one of the user's sessions; `SessionNotFound` where the user has no live one of that id."""
        await self._end(
            token,
            client,
            lambda account, _: account.end_session(
                session_id, self._clock.now(), self._session_rules, reason=SessionEnd.REVOKED
            ),
        )

    async def log_out(self, token: str, *, client: Client | None = None) -> None:
        """End the session that the token opens."""
        await self._end(
            token,
            client,
            lambda account, current: account.end_session(
                current.id, self._clock.now(), self._session_rules, reason=SessionEnd.LOGGED_OUT
            ),
        )

    async def end_all(self, token: str, *, keep_current: bool = False, client: Client | None = None) -> None:
        """End every session of the user, or every one but that of the token."""
        await self._end(
            token,
            client,
            lambda account, current: account.end_sessions(
                self._clock.now(), keep=current.digest if keep_current else None, reason=SessionEnd.REVOKED
            ),
        )

    async def _end(self, token: str, client: Client | None, change: Callable[[Account, Session], Transition]) -> None:
        parsed = Token.parse(token)

        def decide(account: Account) -> Transition:
            return change(account, account.session(parsed.digest, self._clock.now(), self._session_rules))

        await self._changes.apply(parsed.user_id, decide, client=client)
