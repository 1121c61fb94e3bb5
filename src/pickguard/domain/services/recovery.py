"""Getting back into an account without its password, through the mail of its address."""

from datetime import datetime

import attrs

from pickguard.domain.model.accounts import Account, Transition
from pickguard.domain.model.challenges import ChallengeKind, MailedToken
from pickguard.domain.model.errors import InvalidFields, InvalidToken, NotReplicated, RateLimited, TokenSpent
from pickguard.domain.model.events import ResetRequested
from pickguard.domain.model.limits import Limit
from pickguard.domain.model.mail import AlreadyRegistered, PasswordChanged, ResetPassword
from pickguard.domain.model.sessions import Client
from pickguard.domain.model.users import EmailAddress
from pickguard.domain.services.changes import AccountChanges
from pickguard.domain.services.counting import Counting
from pickguard.domain.services.fields import FieldExaminer
from pickguard.domain.services.letters import Letters
from pickguard.domain.services.password_checks import PasswordChecks
from pickguard.domain.services.screening import PasswordScreen
from pickguard.ports.accounts import AccountRepository, Snapshot
from pickguard.ports.clock import Clock
from pickguard.ports.deferred import Deferred
from pickguard.ports.hashing import PasswordHasher, Purpose


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Recovery:
    """Resets passwords."""

    _accounts: AccountRepository
    _changes: AccountChanges
    _checks: PasswordChecks
    _counting: Counting
    _letters: Letters
    _screen: PasswordScreen
    _deferred: Deferred
    _hasher: PasswordHasher
    _clock: Clock
    _fields: FieldExaminer

    async def request(self, *, email: str, client: Client | None = None) -> None:
        """Mail a token that resets the password, if the address has an account and not too many were mailed to it.

        That goes for an account that awaits its deletion as well: its owner may have forgotten the password to restore it with,
        or it was somebody else who deleted it. What is found is looked for after this has returned, so that neither the answer
        nor its time tells whether there is an account. A newer token voids the older. Beyond `Limit.RESETS` from one source
        nothing more is done, and nothing told. Raises `Unavailable` in its kinds, also for whatever is no address.
        """
        try:
            address = EmailAddress.parse(email)
        except InvalidFields:
            address = None
        # What is no address is one subject, however it is spelled, so that nobody fills the store with it.
        admitted = await self._admits_source(client) and await self._letters.admit(
            address.key if address else "", client=client, is_reset=True
        )
        wanted = address if admitted else None
        self._deferred.submit(lambda: self._mail_token(wanted, client or Client()), what="a reset that was asked for")

    async def _admits_source(self, client: Client | None) -> bool:
        try:
            await self._counting.count_for_source(Limit.RESETS, client)
        except RateLimited:
            return False
        return True

    async def _mail_token(self, address: EmailAddress | None, client: Client) -> None:
        found = None if address is None else await self._accounts.find(address)
        if found is not None and found.account.user.can_reset(self._clock.now()):
            await mail_reset_token(
                self._changes, self._letters, found, now=self._clock.now(), kind=ResetPassword, client=client
            )

    async def reset(self, token: str, *, password: str, client: Client | None = None) -> None:
        """Set a new password for whoever has the token that was mailed.

        The address is verified by that. Every session, whatever else was mailed or pending, and a lock for too many wrong
        passwords end with it. Raises `TokenSpent`; `InvalidFields` for a password that breaks the rules; `Unavailable` in its
        kinds. Only a success spends the token: of many at once, one succeeds.
        """
        # Whether it is made of the user's own words is seen below; the other rules hold whatever the token is worth.
        self._fields.new_account(name=None, email=None, password=password).raise_faults()
        parsed = MailedToken.parse(token)
        snapshot = await self._accounts.get(parsed.user_id)
        if snapshot is None:
            raise TokenSpent
        before = snapshot.account
        before.proved_by(parsed, self._clock.now(), ChallengeKind.RESET_PASSWORD)
        wanted = self._fields.new_password(before.user, password)
        wanted.raise_faults()
        assert wanted.password is not None  # noqa: S101 (it was given)
        began = self._clock.now()
        await self._screen.raise_if_breached(wanted.password, user_id=parsed.user_id)
        spent = self._clock.now() - began
        password_hash = await self._hasher.hash(wanted.password, purpose=Purpose.PROOF, spent=spent)
        # Before the password: whoever has the token owns the account, and a lock must not outlive the reset.
        failures = await self._checks.forgive(before)

        def decide(account: Account) -> Transition:
            reset = account.reset_password(password_hash, parsed, self._clock.now())
            return Transition(account=reset.account, events=(*failures, *reset.events))

        try:
            account = await self._changes.apply(parsed.user_id, decide, client=client, first=snapshot)
        except InvalidToken:  # deleted meanwhile
            raise TokenSpent from None
        notice = PasswordChanged(
            to=account.user.email,
            name=account.user.name.value,
            at=account.credential.changed_at,
            client=client or Client(),
            by_reset=True,
        )
        await self._letters.notify(account, notice)


async def mail_reset_token(
    changes: AccountChanges,
    letters: Letters,
    found: Snapshot,
    *,
    now: datetime,
    kind: type[ResetPassword | AlreadyRegistered],
    client: Client,
) -> None:
    """Give an account a new token that resets its password, and mail it. Nothing where it is disabled or has gone."""
    user_id = found.account.user.id
    token = letters.new_token(user_id)

    def decide(account: Account) -> Transition:
        if not account.user.can_reset(now):
            return Transition(account=account)
        challenged = account.challenge(ChallengeKind.RESET_PASSWORD, token, now, letters.rules)
        return Transition(account=challenged, events=(ResetRequested(user_id=user_id, at=now),))

    user = found.account.user
    try:
        user = (await changes.apply(user_id, decide, client=client, first=found)).user
    except InvalidToken:
        return
    except NotReplicated:  # it is stored, and to try again would only void it by another
        pass
    if user.email.key == found.account.user.email.key and user.can_reset(now):
        expires_at = now + letters.rules.reset
        letters.post(kind(to=user.email, name=user.name.value, token=token.reveal(), expires_at=expires_at))
