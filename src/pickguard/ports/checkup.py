"""What a store says about itself when it is examined: how safely it is set up, and whether what it holds is whole."""

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import attrs


class Verdict(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    WARNING = "warning"
    """Something can go wrong that does not have to."""
    DANGER = "danger"
    """Accounts can be lost, or the store cannot do its work."""
    UNKNOWN = "unknown"
    """It could not be seen."""


@attrs.frozen(kw_only=True)
class Finding:
    """What was found about one setting or state of one server, or of all of them together."""

    id: str
    """A name for programs, which does not change."""
    where: str
    verdict: Verdict
    found: str
    """One sentence for a person."""
    advice: str = ""
    """What to do about it, one sentence; empty where there is nothing to do."""
    durability: bool = True
    """Whether what was acknowledged may be lost over it. A strict start refuses such findings, and lets mere advice pass."""


class Kind(StrEnum):
    """What can be wrong with a key."""

    UNREADABLE_ACCOUNT = "unreadable-account"
    """Half an account, or none that can be decoded."""
    MISSING_CLAIM = "missing-claim"
    """An account whose address nobody has claimed: nobody can log in to it, and anybody can register its address."""
    FOREIGN_CLAIM = "foreign-claim"
    """An account whose address is claimed by another that does not have it. The same consequences."""
    SHARED_ADDRESS = "shared-address"
    """One of several accounts with one address. Which of them it belongs to is for people to find out."""
    ORPHAN_CLAIM = "orphan-claim"
    """A claim without its account, as a crash leaves it. Harmless: whoever wants the address takes it over."""
    PENDING_CLAIM = "pending-claim"
    """A claim without its account that is too young to tell. Not a fault: a registration may be under way."""
    UNREADABLE_CLAIM = "unreadable-claim"
    """A claim that cannot be decoded, or whose key holds something else: its address can be neither used nor registered."""
    UNKNOWN_KEY = "unknown-key"
    """A key of the service's prefix that the service did not write."""
    LASTING_KEY = "lasting-key"
    """A key that should vanish by itself and never will."""
    LASTING_ACCOUNT = "lasting-account"
    """An account that its user has deleted, and whose key will not go when its time is over."""
    VANISHING_ACCOUNT = "vanishing-account"
    """An account that nobody has deleted, and whose key will go by itself all the same."""

    @property
    def verdict(self) -> Verdict:
        """How bad that is."""
        if self is Kind.PENDING_CLAIM:
            return Verdict.OK
        return Verdict.WARNING if self is Kind.ORPHAN_CLAIM else Verdict.DANGER

    @property
    def is_repairable(self) -> bool:
        """Whether a repair mends it."""
        return self in {
            Kind.MISSING_CLAIM,
            Kind.FOREIGN_CLAIM,
            Kind.ORPHAN_CLAIM,
            Kind.LASTING_ACCOUNT,
            Kind.VANISHING_ACCOUNT,
        }


@attrs.frozen(kw_only=True)
class Irregularity:
    """A key that is not as it should be. There is nothing secret in it, and no address of a person."""

    kind: Kind
    key: str
    detail: str
    repaired: bool = False


@attrs.frozen(kw_only=True)
class Inspection:
    """What a look at every key has shown.

    The counts are those of a store in use: what was written or removed meanwhile may be counted or not.
    """

    accounts: int = 0
    deleted: int = 0
    """Accounts that their users have deleted, and that can be restored for a time; they are among the accounts."""
    sessions: int = 0
    claims: int = 0
    receipts: int = 0
    """Keys that remember the outcome of a request, for a time."""
    limits: int = 0
    """Keys that count what is limited, for a time."""
    probes: int = 0
    """Keys that were written to see whether the store takes writes."""
    others: int = 0
    """Keys without the service's prefix."""
    irregularities: tuple[Irregularity, ...] = ()
    """The first of them, up to a limit for each kind."""
    found: dict[Kind, int] = attrs.field(factory=dict)
    """How many there are of each kind."""
    repaired: dict[Kind, int] = attrs.field(factory=dict)
    """How many of these have been repaired."""
    postponed: int = 0
    """Suspicious keys beyond those that one run looks into: another run has to follow."""

    def left(self, kind: Kind) -> int:
        """Return how many of a kind have not been repaired."""
        return self.found.get(kind, 0) - self.repaired.get(kind, 0)


@attrs.frozen(kw_only=True)
class Progress:
    """How far an inspection is, in keys. The total is an estimate; a store in use grows and shrinks."""

    seen: int
    total: int


class Checkup(Protocol):
    """Examines a store. Every method can raise `StoreUnavailable`."""

    async def examine(self) -> tuple[Finding, ...]:
        """Read the settings and the state of every server, and judge them."""

    async def inspect(self, *, repair: bool, progress: Callable[[Progress], None]) -> Inspection:
        """Look at every key, while the service runs; with `repair`, mend what can be mended without a guess."""
