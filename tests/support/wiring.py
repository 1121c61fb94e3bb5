"""The use cases on doubles that a test holds in its hand, with mail."""

from datetime import timedelta

import attrs

from pickguard.adapters.background import LoopDeferred
from pickguard.adapters.memory import MemoryAccounts
from pickguard.adapters.memory_limits import MemoryRateLimiter
from pickguard.domain.model.accounts import Account
from pickguard.domain.model.limits import LimitRules
from pickguard.domain.model.mail import ResetPassword
from pickguard.domain.model.sessions import Client
from pickguard.domain.model.users import EmailAddress, User
from pickguard.domain.services.authentication import LoggedIn
from pickguard.domain.services.recovery import Recovery
from pickguard.domain.services.registration import RegistrationMode
from pickguard.domain.services.verification import Verification
from pickguard.entrypoints.bootstrap import Services, build_services
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.breaches import BreachedPasswords
from pickguard.ports.limits import RateLimiter
from tests.support.fakes import GOOD_PASSWORD, FakeClock, NoCommonPasswords, RecordedEvents, RecordedMail, RecordedPace
from tests.support.strategies import InstantHasher

ADA = "ada@example.com"
LAPTOP = Client(ip="192.0.2.1", user_agent="Laptop/1.0")
PHONE = Client(ip="198.51.100.7", user_agent="Phone/9.9")
ATTACKER = Client(ip="203.0.113.66", user_agent="Laptop/1.0")


@attrs.define(kw_only=True)
class Wired:
    """One service with mail, and what it was wired from."""

    services: Services
    accounts: AccountRepository
    hasher: InstantHasher
    clock: FakeClock
    events: RecordedEvents
    mail: RecordedMail
    pace: RecordedPace
    deferred: LoopDeferred

    @property
    def verification(self) -> Verification:
        assert self.services.verification is not None
        return self.services.verification

    @property
    def recovery(self) -> Recovery:
        assert self.services.recovery is not None
        return self.services.recovery

    async def register(self, email: str = ADA, *, client: Client = LAPTOP, password: str = GOOD_PASSWORD) -> User:
        return await self.services.registration.register(name="Ada", email=email, password=password, client=client)

    async def log_in(self, email: str = ADA, *, client: Client = LAPTOP, password: str = GOOD_PASSWORD) -> LoggedIn:
        return await self.services.authentication.log_in(email=email, password=password, client=client)

    async def token(self, email: str = ADA, *, client: Client = LAPTOP, password: str = GOOD_PASSWORD) -> str:
        return (await self.log_in(email, client=client, password=password)).token.reveal()

    async def account(self, email: str = ADA) -> Account | None:
        found = await self.accounts.find(EmailAddress.parse(email))
        return None if found is None else found.account

    async def present(self, email: str = ADA) -> Account:
        """Return the account that has this address, which must be there."""
        account = await self.account(email)
        assert account is not None
        return account

    async def reset_token(self, email: str = ADA, *, client: Client = LAPTOP) -> str:
        """Ask for a reset, and return the token that was mailed."""

        await self.recovery.request(email=email, client=client)
        await self.deferred.drain()
        return self.mail.last(ResetPassword).token


def wire(
    *,
    mode: RegistrationMode = RegistrationMode.OPEN,
    limits: LimitRules | None = None,
    accounts: AccountRepository | None = None,
    limiter: RateLimiter | None = None,
    has_mail: bool = True,
    hasher: InstantHasher | None = None,
    deferred: LoopDeferred | None = None,
    grace: timedelta = timedelta(0),
    breaches: BreachedPasswords | None = None,
) -> Wired:
    clock, events, mail, pace = FakeClock(), RecordedEvents(), RecordedMail(), RecordedPace()
    accounts, hasher, later = (
        accounts or MemoryAccounts(now=clock.now),
        hasher or InstantHasher(),
        deferred or LoopDeferred(spread=timedelta(0)),
    )
    services = build_services(
        accounts=accounts,
        hasher=hasher,
        clock=clock,
        events=events,
        limiter=MemoryRateLimiter(limits) if limiter is None else limiter,
        mailer=mail if has_mail else None,
        deferred=later,
        pace=pace,
        common_passwords=NoCommonPasswords(),
        breaches=breaches,
        registration_mode=mode,
        deletion_grace=grace,
    )
    return Wired(
        services=services,
        accounts=accounts,
        hasher=hasher,
        clock=clock,
        events=events,
        mail=mail,
        pace=pace,
        deferred=later,
    )
