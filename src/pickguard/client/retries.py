"""When a request is sent again, and after which pause: one pure function."""

import enum
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import attrs


class Failure(enum.Enum):
    """What is known of a request that failed."""

    NOT_SENT = "not sent"
    """There was no connection."""
    NOTHING_DONE = "nothing done"
    """The service has refused it before it did anything: 429 and 503 ``overloaded``."""
    UNKNOWN = "unknown"
    """It was sent, and may have been carried out or not."""


@attrs.frozen(kw_only=True)
class RetryRules:
    """How stubborn the client is."""

    tries: int = 5
    """How often one request is sent at most; 1 sends nothing again."""
    budget: timedelta = timedelta(seconds=10)
    """How long one call takes at most, all tries and pauses together. It is not overdrawn: where `Retry-After` asks for a
    longer pause than is left, the error is raised at once, with its `retry_after`."""
    first_pause: timedelta = timedelta(milliseconds=100)
    """The pause after the first try, doubled with each."""
    longest_pause: timedelta = timedelta(seconds=2)

    def __attrs_post_init__(self) -> None:
        if self.tries < 1 or self.budget <= timedelta(0) or min(self.first_pause, self.longest_pause) < timedelta(0):
            raise ValueError("there is at least one try, some time for it, and no negative pause")


def pause_before_next(
    rules: RetryRules,
    failure: Failure,
    *,
    repeatable: bool,
    tries: int,
    spent: timedelta,
    chance: float,
    retry_after: timedelta | None = None,
) -> timedelta | None:
    """Return how long to wait before the request is sent again; None where it must not be, or where that would be in vain.

    What may have been carried out is sent again only if it is `repeatable`: if it is safe, or does the same when it is done
    twice (RFC 9110, section 9.2.2). `tries` counts those made, `spent` is the time since the first began.
    `chance`, from 0 to 1, spreads clients that failed together: over the second half of the pause, or after `retry_after`,
    which is never cut short.
    """
    if tries >= rules.tries or (failure is Failure.UNKNOWN and not repeatable):
        return None
    pause = min(rules.first_pause * 2 ** min(tries - 1, 30), rules.longest_pause)
    pause = pause * (1 + chance) / 2 if retry_after is None else retry_after + pause * chance
    return pause if spent + pause < rules.budget else None


def read_retry_after(text: str | None, now: datetime) -> timedelta | None:
    """Read the header ``Retry-After``: seconds, or a date (RFC 9110, section 10.2.3). None for what is neither."""
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        return timedelta(seconds=int(text))
    try:
        moment = parsedate_to_datetime(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(moment - now, timedelta(0))
    except (ValueError, OverflowError):
        return None
