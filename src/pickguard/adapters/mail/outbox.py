"""What is waiting to be sent."""

import asyncio
import contextlib
import logging
import random
import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Final, Protocol, Self

import attrs

from pickguard.adapters.mail.transports import DeliveryError, MessageTransport
from pickguard.domain.model.mail import AlreadyRegistered, Mail, ResetPassword, TokenMail, VerifyAddress

logger = logging.getLogger("pickguard.mail")

CAPACITY: Final = 1000
AT_ONCE: Final = 4
SPREAD: Final = timedelta(milliseconds=250)
PAUSES: Final = tuple(timedelta(seconds=seconds) for seconds in (2, 10, 60, 300, 900))
"""How long to wait before each further try. Afterwards a mail is given up: its news have grown old."""
_JITTER: Final = 0.25
_VOIDING: Final = ((ResetPassword, AlreadyRegistered), (VerifyAddress,))
"""Mails of which a newer one voids the token of an older one to the same address: the newest must be the last to arrive."""
_CANCEL_SECONDS: Final = 0.1
"""How long to wait for a task to heed that it was cancelled."""


@attrs.define(kw_only=True, eq=False)
class _Letter:
    """A mail on its way, the message that it has become, and how often that was tried.

    It stays one message, with one Message-ID: where the server took it and its answer was lost, it can be seen to be the same.
    """

    mail: Mail
    message: EmailMessage | None = None
    tries: int = 0
    superseded: bool = False


class MailWatch(Protocol):
    """Is told how sending goes."""

    def waiting(self, count: int) -> None:
        """Take note of how many mails are to be sent."""

    def ended(self, kind: str, outcome: str) -> None:
        """Take note that nothing is left to be done about a mail: it was sent, given up, dropped and so on."""


class Outbox:
    """A `Mailer` with a queue in memory. Use it as a context manager: leaving it sends what can be sent within `grace`.

    A few mails are sent at once, in the order in which they were posted, each of them begun at a random moment within `spread`:
    to word one takes a millisecond or two, which neither the answer of whoever caused it nor the next one may show. One that
    fails waits aside for its next try and holds up no other; it is not sent any more if a newer one has made its token void.
    What waits is lost with the process, on purpose: mails hold tokens, and tokens are stored nowhere.
    """

    def __init__(
        self,
        render: Callable[[Mail], EmailMessage],
        transport: MessageTransport,
        *,
        grace: timedelta = timedelta(seconds=3),
        spread: timedelta = SPREAD,
        capacity: int = CAPACITY,
        at_once: int = AT_ONCE,
        pauses: Sequence[timedelta] = PAUSES,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        watch: MailWatch | None = None,
    ) -> None:
        self._watch = watch
        self._render = render
        self._transport = transport
        self._grace = grace
        self._spread = spread.total_seconds()
        self._capacity = capacity
        self._at_once = at_once
        self._pauses = tuple(pauses)
        self._now = now
        self._letters: set[_Letter] = set()
        """All that were posted and are neither sent nor given up."""
        self._posted: deque[_Letter] = deque()
        """Those for which the moment to begin has not come yet, the oldest first."""
        self._ready: deque[_Letter] = deque()
        self._senders: set[asyncio.Task[None]] = set()
        self._aside: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    def post(self, mail: Mail) -> None:
        """See `Mailer.post`."""
        if len(self._letters) >= self._capacity:
            logger.warning("dropped a mail (%s): too many are waiting", _kind(mail))
            self._note_end(mail, "dropped")
            return
        for older in self._letters:
            if _voids(mail, older.mail):
                older.superseded = True
        letter = _Letter(mail=mail)
        self._letters.add(letter)
        self._note_waiting()
        if self._spread:
            self._posted.append(letter)
            self._start(self._wait_posted(random.uniform(0, self._spread)), self._aside)  # noqa: S311 (noise, and no secret)
        else:
            self._ready.append(letter)
            self._begin()

    async def drain(self) -> None:
        """Return when nothing is waiting or on its way."""
        while tasks := {*self._senders, *self._aside}:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)

    async def __aenter__(self) -> Self:
        """Nothing is connected before there is a mail."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Try once more what waits, for as long as the grace lasts, and give up the rest."""
        self._closing.set()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._grace.total_seconds()):
                    await self.drain()
        finally:
            lost = len(self._letters)
            for letter in self._letters:
                self._note_end(letter.mail, "lost")
            tasks = {*self._senders, *self._aside}
            self._letters.clear()
            self._posted.clear()
            self._ready.clear()
            while tasks:
                for task in tasks:
                    task.cancel()
                # The wait_for of Python 3.11 swallows a cancellation that comes together with what is waited for.
                tasks = (await asyncio.wait(tasks, timeout=_CANCEL_SECONDS))[1]
            if lost:
                logger.warning("stopped with %d %s unsent", lost, "mail" if lost == 1 else "mails")

    def _begin(self) -> None:
        while self._ready and len(self._senders) < self._at_once:
            self._start(self._send(self._ready.popleft()), self._senders)

    def _start(self, work: Coroutine[None, None, None], tasks: "set[asyncio.Task[None]]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)

        def end(ended: "asyncio.Task[None]") -> None:
            tasks.discard(ended)
            self._begin()

        task.add_done_callback(end)

    async def _send(self, letter: _Letter) -> None:
        outcome = await self._settle(letter)
        if outcome is not None:
            self._letters.discard(letter)
            self._note_end(letter.mail, outcome)
            self._note_waiting()
        else:
            pause = self._pauses[letter.tries - 1].total_seconds()
            pause *= random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 (no secret)
            self._start(self._wait_aside(letter, pause), self._aside)

    async def _settle(self, letter: _Letter) -> str | None:
        """Try once, and return what has become of the letter; None where it will be tried again."""
        mail = letter.mail
        if letter.superseded:
            logger.info("a mail (%s) is not sent any more: a newer one has been written for it", _kind(mail))
            return "superseded"
        if isinstance(mail, TokenMail) and self._now() >= mail.expires_at:
            logger.warning("gave up a mail (%s): its token has expired", _kind(mail))
            return "expired"
        letter.tries += 1
        try:
            message = letter.message = letter.message or self._render(mail)
            sender = message["From"].addresses[0].addr_spec
            recipient = message["To"].addresses[0].addr_spec
            await self._transport.send(message, sender=sender, recipient=recipient)
        except DeliveryError as error:
            if error.permanent or letter.tries > len(self._pauses) or self._closing.is_set():
                logger.warning("gave up a mail (%s) at try %d: %s", _kind(mail), letter.tries, error)
                return "given_up"
            logger.info("a mail (%s) was not sent and will be tried again: %s", _kind(mail), error)
            return None
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            logger.error("failed to send a mail (%s): %s", _kind(mail), _place(error))  # noqa: TRY400 (an error may quote a token)
            return "failed"
        return "sent"

    def _note_end(self, mail: Mail, outcome: str) -> None:
        if self._watch is not None:
            self._watch.ended(_kind(mail), outcome)

    def _note_waiting(self) -> None:
        if self._watch is not None:
            self._watch.waiting(len(self._letters))

    async def _wait_posted(self, seconds: float) -> None:
        await self._wait(seconds)
        # The moment is this letter's own or that of one posted after it: either way it is a random one, and the order stays.
        self._ready.append(self._posted.popleft())

    async def _wait_aside(self, letter: _Letter, seconds: float) -> None:
        await self._wait(seconds)
        self._ready.append(letter)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()


def _voids(newer: Mail, older: Mail) -> bool:
    """Tell whether the token of one mail is void since the other one was written."""
    return newer.to.key == older.to.key and any(isinstance(newer, kinds) and isinstance(older, kinds) for kinds in _VOIDING)


def _kind(mail: Mail) -> str:
    """Return what a mail is about, in the log's words. Nothing else of it belongs into a log."""
    return type(mail).__name__


def _place(error: BaseException) -> str:
    """Return what failed where, in one line. The error's own words are left out: they may quote a token or an address."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return ", ".join([type(error).__name__, *(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)])
