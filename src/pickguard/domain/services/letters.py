"""What use cases say by mail, and how much of it."""

import attrs

from pickguard.domain.model.accounts import Account
from pickguard.domain.model.challenges import ChallengeRules, MailedToken
from pickguard.domain.model.errors import RateLimited, Unavailable
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.limits import Limit
from pickguard.domain.model.mail import Mail, Notice
from pickguard.domain.model.sessions import Client
from pickguard.domain.model.tokens import SECRET_BYTES
from pickguard.domain.services.counting import Counting
from pickguard.ports.mail import Mailer
from pickguard.ports.secrets import SecretSource


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Letters:
    """Posts mails where a mailer is configured, and sees to it that nobody can be flooded with them.

    Mails that anybody can cause are counted for each recipient (`Limit.MAILS`, ASVS 5.0 2.4.1): those with tokens always,
    notices only while the address has not been verified. Whoever has verified an address is told of everything.
    """

    _mailer: Mailer | None
    _counting: Counting
    _secrets: SecretSource
    rules: ChallengeRules

    @property
    def enabled(self) -> bool:
        """Whether there is mail at all."""
        return self._mailer is not None

    def new_token(self, user_id: UserId) -> MailedToken:
        """Return a token to be mailed."""
        return MailedToken(user_id=user_id, secret=self._secrets.random_bytes(SECRET_BYTES))

    async def admit(self, address_key: str, *, client: Client | None, is_reset: bool = False) -> bool:
        """Count one mail to an address, asked for from there, and tell whether it may be sent. May raise `StoreUnavailable`.

        One of the mails that may be sent is kept for a reset.
        """
        try:
            if not is_reset:
                await self._counting.count(Limit.OTHER_MAILS, address_key, client=client)
            await self._counting.count(Limit.MAILS, address_key, client=client)
        except RateLimited:
            return False
        return True

    def post(self, mail: Mail) -> None:
        """Send a mail later, if there is a mailer."""
        if self._mailer is not None:
            self._mailer.post(mail)

    async def notify(self, account: Account, notice: Notice) -> None:
        """Tell a user what happened to their account. Never fails what has happened already."""
        if self._mailer is None:
            return
        try:
            admitted = account.user.email_verified or await self.admit(account.user.email.key, client=notice.client)
        except Unavailable:
            return  # the address may be anybody's, so in doubt it is left alone
        if admitted:
            self._mailer.post(notice)
