"""What is told by mail: facts and links, without their wording."""

from datetime import datetime

import attrs

from pickguard.domain.model.sessions import Client
from pickguard.domain.model.users import EmailAddress


@attrs.frozen(kw_only=True)
class Mail:
    """A mail to one person. `to` is an address as it is stored, never one taken from the request at hand."""

    to: EmailAddress
    name: str
    """What the recipient wants to be called, as they or somebody else wrote it: to be escaped like anything of a client."""


@attrs.frozen(kw_only=True)
class TokenMail(Mail):
    """A mail with a token that proves who reads it."""

    token: str = attrs.field(repr=False)
    expires_at: datetime


@attrs.frozen(kw_only=True)
class VerifyAddress(TokenMail):
    """Somebody made an account with this address: confirm that, or decline it, which deletes the account.

    Says plainly what is confirmed, and when and from where the account was made: it may be somebody else's attempt to get hold
    of the address beforehand, and its owner may have made one of their own at another time.
    """

    at: datetime
    client: Client


@attrs.frozen(kw_only=True)
class ConfirmNewAddress(TokenMail):
    """An account is to be reached at this address from now on: confirm that. Without it, nothing changes."""


@attrs.frozen(kw_only=True)
class ResetPassword(TokenMail):
    """Somebody asked to set a new password for the account with this address."""


@attrs.frozen(kw_only=True)
class AlreadyRegistered(TokenMail):
    """Somebody tried to register this address, which has an account. The token resets the password, should it be forgotten."""


@attrs.frozen(kw_only=True)
class Notice(Mail):
    """Word of something that happened to an account: when, and from where as far as it is known. Nothing needs to be done."""

    at: datetime
    client: Client


@attrs.frozen(kw_only=True)
class AddressChangeRequested(Notice):
    """To the present address: the account is to be reached at another one, once that has confirmed it."""

    new_address: EmailAddress


@attrs.frozen(kw_only=True)
class AddressWanted(Notice):
    """Somebody asked for their account to be reached at this address, which has an account of its own: nothing was changed."""


@attrs.frozen(kw_only=True)
class PasswordChanged(Notice):
    """The account has a new password, set by whoever knew the old one, by a reset or by an operator."""

    by_reset: bool
    by_operator: bool = False


@attrs.frozen(kw_only=True)
class DeletionScheduled(Notice):
    """The account was deleted, and can be restored until `deletes_at`."""

    deletes_at: datetime


@attrs.frozen(kw_only=True)
class AccountRestored(Notice):
    """The account was restored before its time was over, by whoever knew the password or by an operator."""


@attrs.frozen(kw_only=True)
class DataExported(Notice):
    """All that is held about the user was handed out, to whoever proved the password shortly before."""


@attrs.frozen(kw_only=True)
class NewDevice(Notice):
    """Somebody logged in with the right password from where the account was not used before."""
