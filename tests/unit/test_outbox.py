"""The outbox: what is posted is sent later, again where that fails, and given up in the end; the log holds no secret."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from email.message import EmailMessage

import attrs
import pytest

from pickguard.adapters.mail.outbox import PAUSES, Outbox
from pickguard.adapters.mail.transports import DeliveryError
from pickguard.domain.model.mail import AlreadyRegistered, ConfirmNewAddress, Mail, NewDevice, ResetPassword, VerifyAddress
from pickguard.domain.model.sessions import Client
from pickguard.domain.model.users import EmailAddress
from tests.support.fakes import FakeClock

SECRET = "pgm_geheim"
NO_PAUSES = (timedelta(0),) * 5
LONG = (timedelta(hours=1),) * 5
REFUSED = DeliveryError("the server refuses it (450)")
FOR_GOOD = DeliveryError("the server refuses it (550)", permanent=True)


def mail(name: str, *, lives: timedelta = timedelta(minutes=10)) -> ResetPassword:
    address = EmailAddress.parse(f"{name}@geheim.example")
    return ResetPassword(to=address, name="Geheim", token=SECRET, expires_at=FakeClock().now() + lives)


def render(posted: Mail) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = "no-reply@example.com", posted.to.value
    message.set_content(f"geheim {SECRET}")
    return message


@attrs.define
class FakeTransport:
    """Hands over to nobody, when the gate is open. `outcomes` are, for each recipient, what becomes of its tries in turn."""

    outcomes: Mapping[str, Iterable[BaseException | None]] = attrs.field(factory=dict)
    gate: asyncio.Event = attrs.field(factory=asyncio.Event)
    begun: list[str] = attrs.field(factory=list)
    sent: list[str] = attrs.field(factory=list)
    messages: list[EmailMessage] = attrs.field(factory=list)
    at_once: int = 0
    most_at_once: int = 0
    _turns: dict[str, Iterator[BaseException | None]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._turns = {name: iter(outcomes) for name, outcomes in self.outcomes.items()}

    async def send(self, message: EmailMessage, *, sender: str, recipient: str) -> None:
        assert sender == "no-reply@example.com"
        assert message["To"] == recipient
        name = recipient.partition("@")[0]
        self.begun.append(name)
        self.messages.append(message)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
        finally:
            self.at_once -= 1
        if (outcome := next(self._turns.get(name, iter(())), None)) is not None:
            raise outcome
        self.sent.append(name)


def opened(outcomes: Mapping[str, Iterable[BaseException | None]] | None = None) -> FakeTransport:
    """Return a transport whose gate is open."""
    transport = FakeTransport(outcomes or {})
    transport.gate.set()
    return transport


def outbox(
    transport: FakeTransport,
    *,
    pauses: Sequence[timedelta] = NO_PAUSES,
    capacity: int = 1000,
    at_once: int = 4,
    grace: timedelta = timedelta(seconds=20),
    spread: timedelta = timedelta(0),
    clock: FakeClock | None = None,
    render: Callable[[Mail], EmailMessage] = render,
) -> Outbox:
    clock = clock or FakeClock()
    return Outbox(
        render, transport, grace=grace, spread=spread, capacity=capacity, at_once=at_once, pauses=pauses, now=clock.now
    )


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log, which must hold nothing of a mail, whatever happens to it."""
    caplog.set_level(logging.DEBUG)
    yield caplog
    assert "geheim" not in caplog.text.lower()


def lines(log: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in log.records if record.name == "pickguard.mail"]


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until a condition holds."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not come to that")


# Sending


async def test_posting_returns_at_once_and_does_nothing_yet() -> None:
    rendered: list[Mail] = []

    def note(posted: Mail) -> EmailMessage:
        rendered.append(posted)
        return render(posted)

    transport = opened()
    async with outbox(transport, render=note) as box:
        box.post(mail("ada"))
        assert (rendered, transport.begun) == ([], [])
        await box.drain()
        assert rendered == [mail("ada")]
        assert transport.sent == ["ada"]


@pytest.mark.requirement(17)
async def test_a_mail_is_worded_at_a_random_moment_that_no_answer_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, float]] = []

    def last(least: float, most: float) -> float:
        drawn.append((least, most))
        return most

    monkeypatch.setattr("pickguard.adapters.mail.outbox.random.uniform", last)
    transport = opened()
    async with outbox(transport, spread=timedelta(hours=1)) as box:
        box.post(mail("ada"))
        for _ in range(100):
            await asyncio.sleep(0)
        assert transport.begun == []
    assert transport.sent == ["ada"]  # leaving waits for no random moment
    assert drawn == [(0, 3600)]
    async with outbox(transport, spread=timedelta(milliseconds=1)) as box:
        box.post(mail("eve"))
        await box.drain()
        assert transport.sent == ["ada", "eve"]


@pytest.mark.parametrize("spread", [timedelta(0), timedelta(milliseconds=20)])
async def test_mails_leave_in_the_order_in_which_they_were_posted(spread: timedelta) -> None:
    """Of two mails with a token, the newer one has the token that is good."""
    names = [f"user{number:02}" for number in range(20)]
    transport = opened()
    async with outbox(transport, spread=spread) as box:
        for name in names:
            box.post(mail(name))
        await box.drain()
    assert transport.begun == transport.sent == names


@pytest.mark.parametrize("newer", [ResetPassword, AlreadyRegistered])
async def test_a_mail_that_waits_is_not_sent_after_a_newer_one_whose_token_voids_its_own(
    newer: type[ResetPassword | AlreadyRegistered], log: pytest.LogCaptureFixture
) -> None:
    transport = opened({"ada": [REFUSED]})
    async with outbox(transport, pauses=LONG) as box:
        box.post(mail("ada"))
        box.post(mail("eve"))
        await until(lambda: transport.sent == ["eve"])
        newest = newer(**attrs.asdict(mail("ada"), recurse=False))
        box.post(newest)
        await until(lambda: transport.sent == ["eve", "ada"])
    assert transport.begun == ["ada", "eve", "ada"]
    assert lines(log)[1:] == [("INFO", "a mail (ResetPassword) is not sent any more: a newer one has been written for it")]


def verification(name: str) -> VerifyAddress:
    return VerifyAddress(**attrs.asdict(mail(name), recurse=False), at=FakeClock().now(), client=Client())


async def test_a_mail_that_verifies_an_address_voids_the_older_one_and_nothing_else() -> None:
    transport = opened({"ada": [REFUSED] * 3})
    async with outbox(transport, pauses=LONG) as box:
        for posted in (mail("ada"), verification("ada"), verification("ada")):
            box.post(posted)
        await until(lambda: len(box._aside) == 2)
    assert transport.begun == ["ada"] * 4


async def test_an_address_in_another_spelling_is_the_same() -> None:
    older = mail("ada")
    newer = attrs.evolve(older, to=EmailAddress.parse("Ada@GEHEIM.example"))
    transport = opened({"ada": [REFUSED]})
    async with outbox(transport, pauses=LONG) as box:
        box.post(older)
        await until(lambda: len(box._aside) == 1)
        box.post(newer)
    assert (transport.begun, transport.sent) == (["ada", "Ada"], ["Ada"])


async def test_a_mail_stays_one_message_however_often_it_is_tried() -> None:
    """So that who has got it twice can see that it is one: it has one Message-ID."""
    transport = opened({"ada": [REFUSED, REFUSED]})
    async with outbox(transport) as box:
        box.post(mail("ada"))
        await box.drain()
    assert len(transport.messages) == 3
    assert len({id(message) for message in transport.messages}) == 1


class Watch:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.ends: list[tuple[str, str]] = []

    def waiting(self, count: int) -> None:
        self.counts.append(count)

    def ended(self, kind: str, outcome: str) -> None:
        self.ends.append((kind, outcome))


async def test_whoever_watches_is_told_what_waits_and_what_becomes_of_it() -> None:
    watch = Watch()
    transport = opened()
    async with Outbox(
        render, transport, grace=timedelta(0), spread=timedelta(0), pauses=LONG, now=FakeClock().now, watch=watch
    ) as box:
        box.post(mail("ada"))
        await box.drain()
        assert (watch.counts, watch.ends) == ([1, 0], [("ResetPassword", "sent")])
        transport.gate.clear()
        box.post(mail("eve"))
        await until(lambda: transport.begun == ["ada", "eve"])
    assert watch.counts[2] == 1
    assert watch.ends[1:] == [("ResetPassword", "lost")]


async def test_a_mail_is_sent_although_a_newer_one_goes_to_the_same_address_for_something_else() -> None:
    """Two accounts may wait for one address, and each has a token of its own."""
    transport = opened()
    async with outbox(transport) as box:
        one = mail("ada")
        for kind in (ResetPassword, ConfirmNewAddress, ConfirmNewAddress):
            box.post(kind(**attrs.asdict(one, recurse=False)))
        await box.drain()
    assert transport.sent == ["ada"] * 3


async def test_only_a_few_are_sent_at_once() -> None:
    transport = FakeTransport()
    async with outbox(transport, at_once=3) as box:
        for number in range(10):
            box.post(mail(f"user{number}"))
        await until(lambda: transport.at_once == 3)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(transport.begun) == 3
        transport.gate.set()
        await box.drain()
    assert transport.most_at_once == 3
    assert len(transport.sent) == 10


async def test_what_fails_waits_aside_and_holds_up_no_other() -> None:
    transport = opened({f"slow{number}": [REFUSED] for number in range(10)})
    async with outbox(transport, pauses=LONG) as box:
        for number in range(10):
            box.post(mail(f"slow{number}"))
        for number in range(10):
            box.post(mail(f"user{number}"))
        await until(lambda: len(transport.sent) == 10)
        assert transport.sent == [f"user{number}" for number in range(10)]
    assert len(transport.sent) == 20  # those aside had a last try


# Trying again


async def test_what_fails_is_tried_again_until_it_is_sent_once(log: pytest.LogCaptureFixture) -> None:
    transport = opened({"ada": [REFUSED, REFUSED, None]})
    async with outbox(transport) as box:
        box.post(mail("ada"))
        await box.drain()
        assert transport.begun == ["ada"] * 3
        assert transport.sent == ["ada"]
    again = "a mail (ResetPassword) was not sent and will be tried again: the server refuses it (450)"
    assert lines(log) == [("INFO", again)] * 2


async def test_what_keeps_failing_is_given_up_after_the_last_pause(log: pytest.LogCaptureFixture) -> None:
    transport = opened({"ada": [REFUSED] * 100})
    async with outbox(transport) as box:
        box.post(mail("ada"))
        await box.drain()
        assert len(transport.begun) == 6
    assert lines(log)[-1] == ("WARNING", "gave up a mail (ResetPassword) at try 6: the server refuses it (450)")


async def test_what_is_refused_for_good_is_not_tried_again(log: pytest.LogCaptureFixture) -> None:
    transport = opened({"ada": [FOR_GOOD]})
    async with outbox(transport) as box:
        box.post(mail("ada"))
        await box.drain()
    assert transport.begun == ["ada"]
    assert lines(log) == [("WARNING", "gave up a mail (ResetPassword) at try 1: the server refuses it (550)")]


async def test_pauses_grow_and_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    timeout = asyncio.timeout

    def at_once(delay: float) -> asyncio.Timeout:
        waited.append(delay)
        return timeout(0)

    monkeypatch.setattr("pickguard.adapters.mail.outbox.asyncio.timeout", at_once)
    transport = opened({"ada": [REFUSED] * 100})
    box = outbox(transport, pauses=PAUSES)
    box.post(mail("ada", lives=timedelta(days=1)))
    await box.drain()
    assert len(waited) == len(PAUSES)
    for seconds, pause in zip(waited, PAUSES, strict=True):
        assert 0.75 <= seconds / pause.total_seconds() <= 1.25
    assert waited == sorted(waited)


async def test_an_expired_token_is_not_sent(log: pytest.LogCaptureFixture) -> None:
    transport, clock = opened(), FakeClock()
    async with outbox(transport, clock=clock) as box:
        box.post(mail("ada", lives=timedelta(minutes=10)))
        box.post(mail("eve", lives=timedelta(minutes=11)))
        notice = NewDevice(to=EmailAddress.parse("ida@geheim.example"), name="Geheim", at=clock.now(), client=Client())
        box.post(notice)
        clock.advance(timedelta(minutes=10))
        await box.drain()
    assert transport.sent == ["eve", "ida"]
    assert lines(log) == [("WARNING", "gave up a mail (ResetPassword): its token has expired")]


async def test_a_token_that_expires_while_its_mail_waits_is_not_sent() -> None:
    transport, clock = opened({"ada": [REFUSED]}), FakeClock()
    async with outbox(transport, clock=clock, pauses=LONG) as box:
        box.post(mail("ada"))
        await until(lambda: bool(box._aside))
        clock.advance(timedelta(minutes=10))
    assert transport.begun == ["ada"]


# Faults


async def test_a_mail_that_cannot_be_rendered_is_told_by_its_place_and_the_others_go_on(log: pytest.LogCaptureFixture) -> None:
    def fail(posted: Mail) -> EmailMessage:
        if posted.to.local_part == "ada":
            raise ValueError(f"invalid literal: {SECRET}")
        return render(posted)

    transport = opened()
    async with outbox(transport, render=fail) as box:
        for name in ("ada", "eve"):
            box.post(mail(name))
        await box.drain()
    assert transport.sent == ["eve"]
    ((level, message),) = lines(log)
    assert level == "ERROR"
    assert message.startswith("failed to send a mail (ResetPassword): ValueError, outbox.py:")
    assert "test_outbox.py:" in message
    assert not any(record.exc_info for record in log.records)


@pytest.mark.parametrize("fault", [RuntimeError(f"geheim {SECRET}"), UnicodeError("geheim"), asyncio.CancelledError("geheim")])
async def test_whatever_a_transport_raises_ends_its_own_mail_only(fault: BaseException, log: pytest.LogCaptureFixture) -> None:
    transport = opened({"ada": [fault]})
    async with outbox(transport, at_once=1) as box:
        for name in ("ada", "eve"):
            box.post(mail(name))
        await box.drain()
        assert transport.sent == ["eve"]
    assert [level for level, _ in lines(log)] == ["ERROR"]


# Bounds


async def test_there_is_room_for_so_many_and_what_comes_later_is_dropped(log: pytest.LogCaptureFixture) -> None:
    transport = FakeTransport()
    async with outbox(transport, capacity=5, at_once=2) as box:
        for number in range(7):
            box.post(mail(f"user{number}"))
        assert lines(log) == [("WARNING", "dropped a mail (ResetPassword): too many are waiting")] * 2
        transport.gate.set()
        await box.drain()
        assert len(transport.sent) == 5
        box.post(mail("later"))
        await box.drain()
        assert transport.sent[-1] == "later"


async def test_what_waits_aside_takes_room_until_it_is_settled(log: pytest.LogCaptureFixture) -> None:
    transport = opened({"ada": [REFUSED, FOR_GOOD], "ida": [REFUSED]})
    async with outbox(transport, capacity=2, pauses=LONG) as box:
        box.post(mail("ada"))
        box.post(mail("ida"))
        await until(lambda: len(box._aside) == 2)
        box.post(mail("eve"))
    assert transport.sent == ["ida"]
    assert [message for level, message in lines(log) if level == "WARNING"] == [
        "dropped a mail (ResetPassword): too many are waiting",
        "gave up a mail (ResetPassword) at try 2: the server refuses it (550)",
    ]


async def test_all_that_is_posted_is_sent_or_told_of_however_tries_and_pauses_interleave(
    log: pytest.LogCaptureFixture,
) -> None:
    outcomes = {f"user{number}": [REFUSED] * (number % 8) for number in range(64)}
    transport = opened(outcomes)
    pauses = [timedelta(microseconds=microseconds) for microseconds in (0, 500, 0, 1000, 100)]
    async with outbox(transport, at_once=2, pauses=pauses) as box:
        for name in outcomes:
            box.post(mail(name))
        await box.drain()
        assert not box._letters
        assert not box._ready
    assert sorted(transport.sent) == sorted(name for name, failures in outcomes.items() if len(failures) < 6)
    assert [level for level, _ in lines(log)].count("WARNING") == 16


# The end


async def test_leaving_sends_what_is_waiting() -> None:
    transport = FakeTransport()
    async with outbox(transport) as box:
        for number in range(10):
            box.post(mail(f"user{number}"))
        asyncio.get_running_loop().call_soon(transport.gate.set)
    assert len(transport.sent) == 10


async def test_leaving_wakes_what_waits_aside_for_one_last_try(log: pytest.LogCaptureFixture) -> None:
    transport = opened({"ada": [REFUSED, REFUSED], "eve": [REFUSED]})
    async with outbox(transport, pauses=LONG) as box:
        for name in ("ada", "eve"):
            box.post(mail(name))
        await until(lambda: len(box._aside) == 2)
    assert transport.sent == ["eve"]
    assert lines(log)[-1] == ("WARNING", "gave up a mail (ResetPassword) at try 2: the server refuses it (450)")


@pytest.mark.parametrize("grace", [timedelta(0), timedelta(milliseconds=20)])
async def test_leaving_gives_up_what_takes_longer_than_the_grace(grace: timedelta, log: pytest.LogCaptureFixture) -> None:
    transport = FakeTransport()
    async with outbox(transport, grace=grace, at_once=2) as box:
        for number in range(5):
            box.post(mail(f"user{number}"))
        await until(lambda: transport.at_once == 2)
    assert transport.at_once == 0
    assert transport.sent == []
    assert lines(log) == [("WARNING", "stopped with 5 mails unsent")]
    assert len(asyncio.all_tasks()) == 1


async def test_a_mail_that_waits_aside_is_told_of_once_when_there_is_no_grace(log: pytest.LogCaptureFixture) -> None:
    transport = opened({"ada": [REFUSED] * 9})
    async with outbox(transport, pauses=LONG, grace=timedelta(0)) as box:
        box.post(mail("ada"))
        await until(lambda: bool(box._aside))
    assert [level for level, _ in lines(log)] == ["INFO", "WARNING"]
    assert not asyncio.all_tasks() - {asyncio.current_task()}


async def test_a_transport_that_misses_that_it_was_cancelled_does_not_keep_the_service_from_ending() -> None:
    class Deaf(FakeTransport):
        async def send(self, message: EmailMessage, *, sender: str, recipient: str) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await self.gate.wait()
            await super().send(message, sender=sender, recipient=recipient)

    transport = Deaf()
    async with asyncio.timeout(10):
        async with outbox(transport, grace=timedelta(0)) as box:
            box.post(mail("ada"))
            await asyncio.sleep(0)
    assert not asyncio.all_tasks() - {asyncio.current_task()}


async def test_whoever_is_cancelled_while_leaving_leaves_nothing_running() -> None:
    transport = FakeTransport()

    async def run() -> None:
        async with outbox(transport) as box:
            box.post(mail("ada"))
            await until(lambda: transport.at_once == 1)

    task = asyncio.create_task(run())
    await until(lambda: transport.at_once == 1)
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert transport.at_once == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
