"""Showing that an address is its user's."""

from datetime import datetime

import attrs

from pickguard.domain.model.accounts import Account, Transition
from pickguard.domain.model.activity import ActivityKind
from pickguard.domain.model.challenges import ChallengeKind, MailedToken
from pickguard.domain.model.errors import InvalidToken, TokenSpent
from pickguard.domain.model.events import Event, UserDeleted
from pickguard.domain.model.mail import AddressWanted, ConfirmNewAddress, VerifyAddress
from pickguard.domain.model.sessions import Client, SessionRules, Token
from pickguard.domain.model.users import User
from pickguard.domain.services.changes import AccountChanges
from pickguard.domain.services.letters import Letters
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.clock import Clock


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Verification:
    """Verifies addresses by tokens that are mailed to them."""

    _accounts: AccountRepository
    _changes: AccountChanges
    _letters: Letters
    _clock: Clock
    _session_rules: SessionRules

    async def send(self, token: str, *, client: Client | None = None) -> None:
        """Mail another token: to the pending address if there is one, else to the present one unless it is verified.

        The new token voids the one before. Where a pending address has an account by now, its owner is told in place of that,
        after the same work, so that the time does not tell whoever waits for the address. Over the limit of mails nothing is
        sent, and the one before stays good. Raises `InvalidToken`, and `Unavailable` in its kinds.
        """
        parsed = Token.parse(token)
        snapshot = await self._accounts.get(parsed.user_id)
        if snapshot is None:
            raise InvalidToken
        snapshot.account.session(parsed.digest, self._clock.now(), self._session_rules)
        user = snapshot.account.user
        to = user.pending_email or user.email
        if (user.email_verified and user.pending_email is None) or not await self._letters.admit(to.key, client=client):
            return
        owner = await self._other_owner(user)
        mailed = self._letters.new_token(user.id)
        now = self._clock.now()

        def decide(account: Account) -> Transition:
            account.session(parsed.digest, now, self._session_rules)
            if (account.user.pending_email or account.user.email) != to:
                return Transition(account=account)
            kind = ChallengeKind.CHANGE_ADDRESS if account.user.pending_email else ChallengeKind.VERIFY_ADDRESS
            return Transition(account=account.challenge(kind, mailed, now, self._letters.rules))

        account = await self._changes.apply(user.id, decide, client=client, first=snapshot)
        if (account.user.pending_email or account.user.email) != to:
            return
        expires_at = now + self._letters.rules.verification
        if owner is not None:
            client = client or Client()
            self._letters.post(AddressWanted(to=owner.email, name=owner.name.value, at=now, client=client))
        elif account.user.pending_email is None:
            self._letters.post(verification_mail(account, mailed, expires_at))
        else:
            name = account.user.name.value
            self._letters.post(ConfirmNewAddress(to=to, name=name, token=mailed.reveal(), expires_at=expires_at))

    async def _other_owner(self, user: User) -> User | None:
        """Return who else has the pending address, if there is one and somebody has it."""
        owner = None if user.pending_email is None else await self._accounts.find_holder(user.pending_email)
        return owner.user if owner is not None and owner.user.id != user.id else None

    async def confirm(self, token: str, *, client: Client | None = None) -> None:
        """Take a mailed token as proof of the address: it is verified, and takes effect if it was pending.

        Raises `TokenSpent`, also for all but one of many at once; `AddressTaken` where somebody else has confirmed a pending
        address before; `Unavailable` in its kinds.
        """
        parsed = MailedToken.parse(token)
        try:
            await self._changes.apply(
                parsed.user_id, lambda account: account.confirm_address(parsed, self._clock.now()), client=client
            )
        except InvalidToken:  # the account is gone
            raise TokenSpent from None

    async def decline(self, token: str, *, client: Client | None = None) -> None:
        """Remove an account that somebody made with the address of whoever has the token, and never verified: "not me".

        The address is free again at once. Raises `TokenSpent`, also where the address has been verified, and `Unavailable` in
        its kinds.
        """
        parsed = MailedToken.parse(token)

        def decide(account: Account) -> Event:
            now = self._clock.now()
            account.confirm_declinable(parsed, now)
            return UserDeleted(user_id=account.user.id, at=now, declined=True)

        try:
            await self._changes.remove(parsed.user_id, decide, client=client)
        except InvalidToken:
            raise TokenSpent from None


def verification_mail(account: Account, token: MailedToken, expires_at: datetime) -> VerifyAddress:
    """Return the mail that verifies an account's address, and tells who may have made the account."""
    user = account.user
    made = next((each.client for each in account.activity if each.kind is ActivityKind.REGISTERED), Client())
    return VerifyAddress(
        to=user.email,
        name=user.name.value,
        token=token.reveal(),
        expires_at=expires_at,
        at=user.created_at,
        client=made,
    )
