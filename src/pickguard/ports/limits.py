"""How often something is tried, counted for all processes together."""

from datetime import datetime
from typing import Protocol

from pickguard.domain.model.limits import Attempt, Failures, Limit
from pickguard.domain.model.tries import Standing, Tries


class RateLimiter(Protocol):
    """Counts, and refuses what is too often. The rates (`LimitRules`) are the adapter's.

    What every adapter promises, under any concurrency of tasks and processes:

    - Each call is atomic for each of the limits it touches: of any number of calls at once, no more pass than if they had come
      one after the other.
    - `RateLimited` where a limit is reached, with the time until another try has a chance. What is refused is not counted.
    - What is counted is forgotten by itself, and takes a bounded room for each account and each source.
    - Every method raises `StoreUnavailable` where it cannot be known whether a limit is reached: the gate stays shut. What was
      to be counted may then have been counted.

    A password is checked in three steps. `check` comes first and refuses early, before anything costly is done. Then the
    password is verified. Its outcome is told only if the third step, `fail` or `succeed`, does not raise: so guesses that run
    side by side pass the limit no more often than guesses in a row, however many of them were verified meanwhile.

    `now` is the moment of the call. The limits `GUESSES`, `SOURCE` and `RUN` apply to attempts; for a known source the
    account's run counts only what has come from that source itself.
    """

    async def check(self, attempt: Attempt, now: datetime) -> None:
        """Return if the attempt may go on; `RateLimited` if not. Counts nothing."""

    async def fail(self, attempt: Attempt, now: datetime) -> None:
        """Count a wrong password. Raises `RateLimited` where a limit had been reached before.

        Where only the source's limit was reached, it may have been counted for the account.
        """

    async def succeed(self, attempt: Attempt, now: datetime) -> Failures:
        """Let a right password pass: it is not counted. Raises `RateLimited` where a limit has been reached.

        Forgets what was counted for the account from this source, and the account's run, and returns that run. What was counted
        for the source over all accounts stays: whoever has an account of their own could reset it at will.
        """

    async def forgive(self, address: str) -> Failures:
        """Forget all wrong passwords for an account, from whatever source, because its owner has shown who they are."""

    async def review(self, address: str, now: datetime) -> Standing:
        """Return how the wrong passwords for an account stand. Counts nothing, and refuses nothing."""

    async def count(self, limit: Limit, subject: str, now: datetime) -> None:
        """Count one thing of a kind: `REGISTRATIONS` and `RESETS` by source, mails by recipient, `EXPORTS` by the user's id.

        Raises `RateLimited` where as many as may be have been counted already; one that is refused is not counted.
        """

    async def read_tries(self, address: str) -> Tries:
        """Return what is kept of the wrong passwords for an account, to be shown to its owner. Counts nothing."""

    async def read_count(self, limit: Limit, subject: str) -> tuple[datetime, ...]:
        """Return when things of a kind were counted, as far as that is kept, oldest first. Counts nothing."""
