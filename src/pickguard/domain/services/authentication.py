"""Proving who one is: by password to log in and to reauthenticate, by token for everything else."""

from contextlib import suppress
from datetime import datetime

import attrs

from pickguard.domain.model.accounts import Account, Transition
from pickguard.domain.model.credentials import normalise_password
from pickguard.domain.model.errors import (
    AccountsError,
    DeletionPending,
    HashingOverloaded,
    InvalidCredentials,
    InvalidFields,
    InvalidToken,
    WrongPassword,
)
from pickguard.domain.model.events import FailuresNoted, LogInRefused, PasswordRefused
from pickguard.domain.model.identifiers import UUID7_RANDOM_BYTES, SessionId, UserId, uuid7
from pickguard.domain.model.limits import source_of
from pickguard.domain.model.mail import AccountRestored, NewDevice
from pickguard.domain.model.sessions import TOKEN_SECRET_BYTES, Client, Session, SessionRules, Token
from pickguard.domain.model.users import EmailAddress, User
from pickguard.domain.services.changes import AccountChanges
from pickguard.domain.services.fields import FieldExaminer
from pickguard.domain.services.letters import Letters
from pickguard.domain.services.password_checks import PasswordChecks
from pickguard.ports.accounts import AccountRepository, Holder
from pickguard.ports.clock import Clock
from pickguard.ports.hashing import PasswordHasher, Purpose
from pickguard.ports.secrets import SecretSource


@attrs.frozen(kw_only=True)
class Principal:
    """Who makes a request: a user, within one of their sessions."""

    user: User
    session: Session


@attrs.frozen(kw_only=True)
class LoggedIn:
    """A session with its token. The token is known only here and to the client: keep it out of logs."""

    token: Token = attrs.field(repr=False)
    user: User
    session: Session


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Authentication:
    """Checks passwords and tokens."""

    _accounts: AccountRepository
    _changes: AccountChanges
    _checks: PasswordChecks
    _letters: Letters
    _hasher: PasswordHasher
    _clock: Clock
    _secrets: SecretSource
    _fields: FieldExaminer
    _session_rules: SessionRules
    _verified_only: bool = False
    """Whether nobody can log in before the address is verified."""

    async def log_in(self, *, email: str, password: str, client: Client | None = None) -> LoggedIn:
        """Open a session.

        Raises `InvalidCredentials` for an address without an account and for a wrong password, after the same work;
        `RateLimited` where wrong ones were too many; `InvalidFields` only for what is longer than any address or password can
        be. A session is opened only while the password that was verified is the account's: a log-in that began before a change
        of password fails after it. `DeletionPending` for the right password of an account that its user has deleted and can
        still restore. The user is told by mail of a log-in from what seems to be a new device.
        """
        return await self._enter(email, password, client, restoring=False)

    async def restore(self, *, email: str, password: str, client: Client | None = None) -> LoggedIn:
        """Restore an account that awaits its deletion, and open a session; in one step, and told to the user by mail.

        It is a log-in in everything else, with the same work, limits and errors. An account that does not await its deletion
        is logged in to: so a request whose answer was lost can be sent again.
        """
        return await self._enter(email, password, client, restoring=True)

    async def _enter(self, email: str, password: str, client: Client | None, *, restoring: bool) -> LoggedIn:
        faults = self._fields.log_in_faults(email=email, password=password)
        if faults:
            raise InvalidFields(faults)
        client = client or Client()
        password = normalise_password(password)
        address = _parse_address(email)
        found = None if address is None else await self._accounts.find_holder(address)
        began = self._clock.now()
        try:
            failures = await self._checks.check(
                found,
                password,
                # What is no address is nobody's, and limited all the same.
                address=address.key if address else email.strip().lower(),
                client=client,
                purpose=Purpose.LOG_IN,
                admitted=found is not None and self._admits(found.user),
            )
            if found is None or address is None:
                raise InvalidCredentials  # noqa: TRY301 (refused as in the use case's other steps, and told once)
            rehashed = await self._rehash(found.credential.password_hash, password, began)
            return await self._open_session(found, address, rehashed, client, failures, restoring=restoring)
        except (WrongPassword, InvalidCredentials, DeletionPending) as error:
            user_id = found.user.id if found else None
            self._changes.publish(LogInRefused(user_id=user_id, at=self._clock.now(), client=client))
            if isinstance(error, DeletionPending):
                raise
            raise InvalidCredentials from None

    def _admits(self, user: User) -> bool:
        return not user.disabled and (user.email_verified or not self._verified_only)

    async def authenticate(self, token: str) -> Principal:
        """Return whom a bearer token stands for; `InvalidToken` where it opens nothing. One read of the store.

        The use of the session is noted at most once in `SessionRules.touch_interval`, as well as it can be: where that
        write fails the answer is still right.
        """
        parsed = Token.parse(token)
        read = await self._accounts.read_session(parsed.user_id, parsed.digest)
        now = self._clock.now()
        if read is None or not read[1].is_live(now, self._session_rules):
            raise InvalidToken
        user, session = read
        if session.is_due_for_touch(now, self._session_rules):
            session = await self._touch(parsed, session)
        return Principal(user=user, session=session)

    async def reauthenticate(self, token: str, *, password: str, client: Client | None = None) -> LoggedIn:
        """Prove the password again within a session: the same session, fresh, under a new token; the old one is refused.

        Raises `InvalidToken`, `WrongPassword`, `RateLimited`, and `InvalidFields` for a password longer than any can be.
        """
        parsed = Token.parse(token)
        faults = self._fields.proof_faults(password, field="password")
        if faults:
            raise InvalidFields(faults)
        password = normalise_password(password)
        snapshot = await self._accounts.get(parsed.user_id)
        if snapshot is None:
            raise InvalidToken
        session = snapshot.account.session(parsed.digest, self._clock.now(), self._session_rules)
        failures = await self.prove(snapshot.account, session, password, client=client)
        epoch = snapshot.account.credential.epoch
        fresh = self._new_token(parsed.user_id)

        def decide(account: Account) -> Transition:
            proved = account.reauthenticate_session(
                parsed.digest, fresh.digest, epoch=epoch, now=self._clock.now(), rules=self._session_rules
            )
            return Transition(account=proved.account, events=(*failures, *proved.events))

        account = await self._changes.apply(parsed.user_id, decide, client=client, first=snapshot)
        return LoggedIn(token=fresh, user=account.user, session=_session_of(account, session.id))

    async def prove(
        self, account: Account, session: Session, password: str, *, client: Client | None
    ) -> tuple[FailuresNoted, ...]:
        """Return if the (normalised) password is the account's, with the wrong ones before it.

        Raises `WrongPassword` if not, and `RateLimited` where wrong ones were too many.
        """
        client = client or Client()
        try:
            holder = Holder(user=account.user, credential=account.credential, read_activity=lambda: account.activity)
            return await self._checks.check(
                holder,
                password,
                address=account.user.email.key,
                client=client,
                purpose=Purpose.PROOF,
                also_known={source_of(each.client.ip) for each in account.sessions} - {None},
            )
        except WrongPassword:
            now = self._clock.now()
            event = PasswordRefused(user_id=account.user.id, at=now, client=client, session_id=session.id)
            self._changes.publish(event)
            raise

    async def _open_session(
        self,
        found: Holder,
        address: EmailAddress,
        rehashed: str | None,
        client: Client,
        failures: tuple[FailuresNoted, ...],
        *,
        restoring: bool,
    ) -> LoggedIn:
        credential = found.credential
        now = self._clock.now()
        token = self._new_token(found.user.id)
        session = Session(
            id=SessionId(uuid7(now, self._secrets.random_bytes(UUID7_RANDOM_BYTES))),
            digest=token.digest,
            created_at=now,
            last_used_at=now,
            authenticated_at=now,
            client=client,
        )
        is_new_device = is_restored = False

        def decide(account: Account) -> Transition:
            nonlocal is_new_device, is_restored
            is_new_device = not account.knows_device(client)
            is_restored = restoring and account.user.deletes_at is not None
            kept = account.restore(self._clock.now()) if restoring else Transition(account=account)
            opened = kept.account.open_session(
                session, email=address, epoch=credential.epoch, now=now, rules=self._session_rules
            )
            opened = Transition(account=opened.account, events=(*failures, *kept.events, *opened.events))
            # Only over the very hash that was verified: another log-in may have rehashed it meanwhile.
            if rehashed is None or account.credential.password_hash != credential.password_hash:
                return opened
            again = opened.account.rehash_password(rehashed, now)
            return Transition(account=again.account, events=(*opened.events, *again.events))

        try:
            account = await self._changes.apply(found.user.id, decide, client=client)
        except InvalidToken:  # deleted meanwhile: to somebody who logs in, that is an unknown address
            raise InvalidCredentials from None
        except DeletionPending:
            await self._note(found, failures)
            raise
        if is_restored or (is_new_device and client != Client()):
            kind = AccountRestored if is_restored else NewDevice
            notice = kind(to=account.user.email, name=account.user.name.value, at=now, client=client)
            await self._letters.notify(account, notice)
        return LoggedIn(token=token, user=account.user, session=session)

    async def _note(self, found: Holder, failures: tuple[FailuresNoted, ...]) -> None:
        """Keep for the user what the limits have just forgotten, where no session is opened that would tell of it."""
        if failures:
            with suppress(AccountsError):  # a failure here tells nothing about the log-in
                await self._changes.apply(found.user.id, lambda account: Transition(account=account, events=failures))

    async def _rehash(self, password_hash: str, password: str, began: datetime) -> str | None:
        if not self._hasher.needs_rehash(password_hash):
            return None
        try:
            return await self._hasher.hash(password, purpose=Purpose.LOG_IN, spent=self._clock.now() - began)
        except HashingOverloaded:  # not worth refusing a log-in for; the next one tries again
            return None

    async def _touch(self, token: Token, session: Session) -> Session:
        def decide(account: Account) -> Transition:
            return account.touch_session(token.digest, self._clock.now(), self._session_rules)

        try:
            account = await self._changes.apply(token.user_id, decide, attempts=1)
        except InvalidToken:
            raise
        except AccountsError:
            return session
        return _session_of(account, session.id)

    def _new_token(self, user_id: UserId) -> Token:
        return Token(user_id=user_id, secret=self._secrets.random_bytes(TOKEN_SECRET_BYTES))


def _session_of(account: Account, session_id: SessionId) -> Session:
    return next(session for session in account.sessions if session.id == session_id)


def _parse_address(text: str) -> EmailAddress | None:
    try:
        return EmailAddress.parse(text)
    except InvalidFields:
        return None
