"""How often something may be tried: the rates, and what an attempt at a password is counted under."""

import enum
import ipaddress
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

import attrs

_NETWORK_BITS: Final = 64
"""Of an IPv6 address. A single customer is given at least as many addresses as there are in such a network (RFC 6177)."""
_NETWORK_MASK: Final = ~((1 << _NETWORK_BITS) - 1)


class Limit(enum.Enum):
    """What is limited."""

    GUESSES = "guesses"
    """Wrong passwords for one account from one source."""
    SOURCE = "source"
    """Wrong passwords from one source, for all accounts together."""
    RUN = "run"
    """Wrong passwords in a row for one account, from wherever they come."""
    REGISTRATIONS = "registrations"
    """Registrations from one source."""
    MAILS = "mails"
    """Mails to one recipient that anybody can cause."""
    OTHER_MAILS = "other_mails"
    """Those of them that reset no password, so that they alone cannot use up those that do."""
    RESETS = "resets"
    """Requests for resets from one source, whether or not they were mailed."""
    EXPORTS = "exports"
    """Exports of all that is held about one user."""


@attrs.frozen
class Rate:
    """At most so many within any span of so long."""

    most: int
    within: timedelta


@attrs.frozen(kw_only=True)
class LimitRules:
    """The rates, where nothing else is chosen."""

    guesses: Rate = Rate(10, timedelta(minutes=15))
    source: Rate = Rate(100, timedelta(minutes=15))
    run: Rate = Rate(100, timedelta(days=1))
    """NIST SP 800-63B-4, section 3.2.2: no more than 100 in a row. A run is forgotten so long after its last failure, so that
    nobody is locked out for good (ASVS 5.0 6.1.1); a right password or a reset by mail forgets it at once."""
    registrations: Rate = Rate(30, timedelta(hours=1))
    mails: Rate = Rate(5, timedelta(hours=1))
    resets: Rate = Rate(100, timedelta(hours=1))
    exports: Rate = Rate(10, timedelta(hours=1))

    @property
    def other_mails(self) -> Rate:
        """One mail fewer than there may be in all: the others alone cannot use up a reset's."""
        return Rate(max(1, self.mails.most - 1), self.mails.within)

    def of(self, limit: Limit) -> Rate:
        """Return the rate of one limit."""
        rate: Rate = getattr(self, limit.value)
        return rate


@attrs.frozen(kw_only=True)
class Attempt:
    """One try at one account's password.

    `address` is what the account is looked for by (`EmailAddress.key`, or whatever was typed in its place), whether or not
    anybody has it: an unknown address is limited like a known one. `source` comes from `source_of`; None where it is not known,
    and then only what is counted for each account applies. A source is `known` where the account was used from it before: a
    run of failures from elsewhere does not lock its owner out there, and only its own run counts.
    """

    address: str
    source: str | None
    known: bool = False


@attrs.frozen(kw_only=True)
class Failures:
    """The wrong passwords for one account since the last right one."""

    count: int = 0
    last_at: datetime | None = None
    last_source: str | None = None


@lru_cache(maxsize=4096)
def source_of(ip: str | None) -> str | None:
    """Return what a client's address is counted as: an IPv4 address by itself, an IPv6 address by its network of 64 bits.

    An IPv4 address that is written as an IPv6 one (RFC 4291, section 2.5.5.2) is the IPv4 address. What is no address at all is
    counted as it is.
    """
    if ip is None:
        return None
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return f"{ipaddress.IPv6Address(int(address) & _NETWORK_MASK)}/{_NETWORK_BITS}"
        address = address.ipv4_mapped
    return str(address)
