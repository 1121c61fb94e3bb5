"""Handing a user all that is held about them."""

from datetime import datetime

import attrs

from pickguard.domain.model.accounts import Account, Transition
from pickguard.domain.model.errors import InvalidToken, ReauthenticationRequired
from pickguard.domain.model.events import DataExported
from pickguard.domain.model.idempotency import Receipt
from pickguard.domain.model.identifiers import SessionId
from pickguard.domain.model.limits import Limit
from pickguard.domain.model.mail import DataExported as DataExportedNotice
from pickguard.domain.model.sessions import Client, SessionRules, Token
from pickguard.domain.model.tries import Tries
from pickguard.domain.services.changes import AccountChanges
from pickguard.domain.services.counting import Counting
from pickguard.domain.services.letters import Letters
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.clock import Clock
from pickguard.ports.limits import RateLimiter
from pickguard.ports.receipts import Receipts


@attrs.frozen(kw_only=True)
class DataExport:
    """All that is held about a user. The account holds secrets (digests, a hash), which whoever renders this leaves out."""

    account: Account
    """As it was just after the export was noted in it: one consistent state."""
    current: SessionId
    """The session in which this was asked for."""
    at: datetime
    receipt: Receipt | None
    """What is remembered of the registration, for a day, if it named itself."""
    tries: Tries
    """The wrong passwords for the account."""
    mails: tuple[datetime, ...]
    """When mails that anybody can cause were counted for the address."""
    other_mails: tuple[datetime, ...]
    """Those of them that reset no password."""
    exports: tuple[datetime, ...]
    """When exports were counted, this one included."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class DataExports:
    """Exports what is held about a user (GDPR, articles 15 and 20)."""

    _accounts: AccountRepository
    _receipts: Receipts
    _limiter: RateLimiter
    _changes: AccountChanges
    _counting: Counting
    _letters: Letters
    _clock: Clock
    _session_rules: SessionRules

    async def export(self, token: str, *, client: Client | None = None) -> DataExport:
        """Return all that is held about the user whose session this is.

        That it was asked for is noted in the account first, and told by mail where there is any: whoever steals a session must
        not get at everything unnoticed. Raises `InvalidToken`; `ReauthenticationRequired` where the session's last proof of
        the password is too old; `RateLimited`; `Unavailable` in its kinds.
        """
        parsed = Token.parse(token)
        snapshot = await self._accounts.get(parsed.user_id)
        if snapshot is None:
            raise InvalidToken
        self._confirm(snapshot.account, parsed)
        await self._counting.count(Limit.EXPORTS, str(parsed.user_id), client=client)

        def decide(account: Account) -> Transition:
            self._confirm(account, parsed)
            return Transition(account=account, events=(DataExported(user_id=parsed.user_id, at=self._clock.now()),))

        account = await self._changes.apply(parsed.user_id, decide, client=client, first=snapshot)
        user, now = account.user, self._clock.now()
        address = user.email.key
        export = DataExport(
            account=account,
            current=next(session.id for session in account.sessions if session.digest == parsed.digest),
            at=now,
            receipt=None if account.made_by is None else await self._receipts.read(account.made_by, now),
            tries=await self._limiter.read_tries(address),
            mails=await self._limiter.read_count(Limit.MAILS, address),
            other_mails=await self._limiter.read_count(Limit.OTHER_MAILS, address),
            exports=await self._limiter.read_count(Limit.EXPORTS, str(user.id)),
        )
        notice = DataExportedNotice(to=user.email, name=user.name.value, at=now, client=client or Client())
        await self._letters.notify(account, notice)
        return export

    def _confirm(self, account: Account, token: Token) -> None:
        now, rules = self._clock.now(), self._session_rules
        session = account.session(token.digest, now, rules)
        if not session.is_freshly_authenticated(now, rules):
            raise ReauthenticationRequired(rules.reauthentication_window)
