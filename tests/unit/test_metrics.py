"""Metrics: every one counts what it says, by all workers together, and nothing of a user is in any label."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pickguard.adapters.argon2 import Argon2Hasher, Argon2Parameters
from pickguard.adapters.argon2.pool import HashingPool
from pickguard.adapters.mail.outbox import Outbox
from pickguard.adapters.mail.transports import DeliveryError
from pickguard.adapters.memory import MemoryAccounts, MemoryReceipts
from pickguard.adapters.memory_limits import MemoryRateLimiter
from pickguard.adapters.telemetry.board import Board, Family, Kind, every
from pickguard.adapters.telemetry.exposition import Exposer
from pickguard.adapters.telemetry.metrics import MAIL_OUTCOMES, STORE_PORTS, Metrics, Routes, families, names_of
from pickguard.adapters.telemetry.observing import observed, operations_of
from pickguard.domain.model.errors import Conflict, HashingOverloaded, NotReplicated, OutcomeUnknown, StoreUnavailable
from pickguard.domain.model.events import (
    Event,
    LimitReached,
    LogInRefused,
    SessionEnd,
    SessionEnded,
    SessionOpened,
    UserRegistered,
)
from pickguard.domain.model.idempotency import KeyDigest
from pickguard.domain.model.identifiers import SessionId
from pickguard.domain.model.limits import Limit
from pickguard.domain.model.mail import Mail, NewDevice
from pickguard.domain.model.sessions import Client
from pickguard.entrypoints.bootstrap import Services, Store, Telemetry, build_services
from pickguard.entrypoints.http.watching import Watching
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.hashing import Purpose
from tests.support.accounts import an_account
from tests.support.fakes import GOOD_PASSWORD, NoCommonPasswords, RecordedEvents, cheap_hasher
from tests.support.http import EMAIL, NAME, Api, serving
from tests.support.strategies import NOW, USER_ID, examples
from tests.support.telemetry import ROUTES, Measured, key, parsed, parsed_openmetrics

SESSION_ID = SessionId(USER_ID)
REQUESTS = "pickguard_http_requests_total"
TIMES = "pickguard_http_request_duration_seconds"
ME = "/v1/users/me"


@pytest.fixture
def measured() -> Measured:
    return Measured()


# The board.


def a_board(workers: int) -> Board:
    return Board(
        [
            Family(kind=Kind.COUNTER, name="c_total", help="C.", labels=("a",), series=every(["x", "y"])),
            Family(kind=Kind.GAUGE, name="g", help="G."),
            Family(kind=Kind.HISTOGRAM, name="h", help="H.", bounds=(0.1, 1.0)),
        ],
        workers=workers,
    )


def test_what_workers_count_is_read_as_one_number() -> None:
    board = a_board(3)
    for worker, count in enumerate((1, 2, 3)):
        part = board.part(worker)
        for _ in range(count):
            part.counter("c_total").count("y")
        part.gauge("g").show(10)
        part.histogram("h").observe(0.1)
        part.histogram("h").observe(5)
    read = {(sample.family.name, sample.labels): sample for sample in board.read()}
    assert read["c_total", ("x",)].value == 0
    assert read["c_total", ("y",)].value == 6
    assert read["g", ()].value == 30
    assert read["h", ()].buckets == (3, 3, 6)
    assert read["h", ()].value == pytest.approx(15.3)


def test_a_worker_that_takes_the_place_of_another_goes_on_counting_and_shows_what_is_its_own() -> None:
    board = a_board(2)
    first = board.part(1)
    first.counter("c_total").count("x")
    first.gauge("g").show(7)
    second = board.part(1)
    second.counter("c_total").count("x")
    assert board.of(1, "c_total", ("x",)) == 2
    assert board.of(1, "g") == 0


def test_what_another_process_counts_is_seen() -> None:
    board = a_board(2)
    child = os.fork()
    if child == 0:
        board.part(1).counter("c_total").count("x")
        os._exit(0)
    os.waitpid(child, 0)
    assert board.of(1, "c_total", ("x",)) == 1
    assert board.of(0, "c_total", ("x",)) == 0


def test_there_is_nothing_to_count_in_what_was_not_declared() -> None:
    part = a_board(1).part(0)
    with pytest.raises(KeyError):
        part.counter("c_total").count("z")
    with pytest.raises(KeyError):
        part.start_of("c_total", ("z",))
    with pytest.raises(KeyError):
        part.gauge("nothing")


@examples(50)
@given(st.lists(st.floats(min_value=0, max_value=10, allow_nan=False), max_size=20))
def test_a_histogram_counts_each_observation_once_and_never_falls(values: list[float]) -> None:
    board = a_board(1)
    histogram = board.part(0).histogram("h")
    for value in values:
        histogram.observe(value)
    (sample,) = (each for each in board.read() if each.family.name == "h")
    assert sample.buckets == (sum(v <= 0.1 for v in values), sum(v <= 1 for v in values), len(values))
    assert sample.value == pytest.approx(sum(values))


# Names and labels.


def test_names_are_prometheus_names() -> None:
    for family in families(ROUTES):
        assert family.name.startswith("pickguard_")
        assert (family.kind is Kind.COUNTER) == family.name.endswith("_total")
        assert (family.kind is Kind.HISTOGRAM) == family.name.endswith("_seconds")
        assert family.help.endswith(".")
        assert len(set(family.series)) == len(family.series)
        assert all(len(labels) == len(family.labels) for labels in family.series)
        assert list(family.bounds) == sorted(set(family.bounds))


def test_both_formats_can_be_read_and_say_the_same(measured: Measured) -> None:
    measured.metrics.is_run_by(os.getpid())
    measured.metrics.requests.answered("GET", ME, 200, 0.003)
    exposer = Exposer(measured.board)
    plain = exposer.expose("text/plain;version=0.0.4")
    modern = exposer.expose("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert plain.content_type.startswith("text/plain; version=0.0.4")
    assert modern.content_type.startswith("application/openmetrics-text; version=1.0.0")
    one, other = parsed(plain.body.decode()), parsed_openmetrics(modern.body.decode())
    changing = {
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
    }
    assert {k: v for k, v in one.items() if k[0] not in changing} == {k: v for k, v in other.items() if k[0] not in changing}
    assert one[key(REQUESTS, method="GET", route=ME, status="200")] == 1


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=abc",
        "application/openmetrics-text;version=1..0",
        "application/openmetrics-text;version==",
        "application/openmetrics-text; version=1.0.0.\udcff",
        "text/plain;version=1.x.0",
        "text/plain; q=1; version=²",
    ],
)
def test_a_format_of_no_version_is_none_that_is_asked_for(measured: Measured, accept: str) -> None:
    exposer = Exposer(measured.board)
    assert exposer.expose(accept).content_type.startswith("text/plain; version=0.0.4")
    other = exposer.expose(f"{accept}, application/openmetrics-text;version=1.0.0;escaping=underscores")
    assert other.content_type.startswith("application/openmetrics-text; version=1.0.0;")


SMALL = Board((Family(kind=Kind.GAUGE, name="pickguard_worker_pid", help="The process of a worker."),), workers=1)


@given(st.lists(st.sampled_from([*"=;,. 019ab\udcff", "version", "escaping", "application/openmetrics-text", "text/plain"])))
def test_whatever_is_accepted_there_is_an_answer_in_ascii(parts: list[str]) -> None:
    exposed = Exposer(SMALL).expose("".join(parts))
    assert exposed.content_type.isascii()
    assert exposed.body


def test_a_build_and_its_processes_are_told(measured: Measured) -> None:
    assert measured.value("pickguard_workers") == 0
    measured.metrics.is_run_by(os.getpid())
    found = measured.scrape()
    assert found[key("pickguard_workers")] == 1
    assert found[key("process_resident_memory_bytes", worker="0")] > 1_000_000
    assert found[key("process_start_time_seconds", worker="0")] > 1_700_000_000
    (build,) = (labels for name, labels in found if name == "pickguard_build_info")
    assert {name for name, _ in build} == {"version", "python", "implementation"}
    assert not [name for name, _ in found if name == "pickguard_worker_pid"]


def test_a_process_that_is_gone_is_not_counted(measured: Measured) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    measured.metrics.is_run_by(child)
    assert measured.value("pickguard_workers") == 0


# Requests.


@pytest.fixture
async def api(measured: Measured) -> AsyncGenerator[Api]:
    async with serving(MemoryAccounts(), watching=Watching(answered=measured.metrics.requests.answered)) as api:
        yield api


async def test_requests_are_counted_by_method_route_and_status(api: Api, measured: Measured) -> None:
    token = await api.sign_up()
    for _ in range(3):
        await api.me(token)  # the shortest way, around aiohttp's application
    await api.call("GET", ME, token=token, headers={"If-None-Match": "*"})  # the ordinary way
    await api.call("GET", ME, token=f"{token}x")
    await api.call("HEAD", "/livez")
    await api.call("DELETE", f"/v1/sessions/{token}", token=token)
    found = measured.scrape()
    assert {labels: value for (name, labels), value in found.items() if name == REQUESTS} == {
        key("", method="POST", route="/v1/users", status="201")[1]: 1,
        key("", method="POST", route="/v1/sessions", status="201")[1]: 1,
        key("", method="GET", route=ME, status="200")[1]: 3,
        key("", method="GET", route=ME, status="304")[1]: 1,
        key("", method="GET", route=ME, status="401")[1]: 1,
        key("", method="HEAD", route="/livez", status="200")[1]: 1,
        key("", method="DELETE", route="/v1/sessions/{id}", status="404")[1]: 1,
    }
    assert found[key(f"{TIMES}_count", method="GET", route=ME)] == 5
    assert found[key(f"{TIMES}_sum", method="GET", route=ME)] > 0


async def test_what_no_route_is_for_has_one_name(api: Api, measured: Measured) -> None:
    await api.call("GET", "/a-path-of-a-client")
    await api.call("GET", "/another?with=a-query")
    await api.call("PUT", ME)
    await api.raw(b"BREW /coffee HTTP/1.1\r\nHost: x\r\n\r\n")
    await api.raw(b"this is no HTTP\r\n\r\n")
    await api.call("GET", "/livez", headers={"Expect": "a miracle"})
    found = measured.scrape()
    counted = {labels: value for (name, labels), value in found.items() if name == REQUESTS}
    assert counted[key("", method="GET", route="unmatched", status="404")[1]] == 2
    assert {dict(labels)["route"] for labels in counted} == {"unmatched"}
    assert {dict(labels)["status"] for labels in counted} == {"400", "404", "405", "417"}
    assert sum(counted.values()) == 6
    assert not [value for _, labels in found for _, value in labels if "client" in value or "coffee" in value]


@examples(50)
@given(st.text(max_size=20), st.text(max_size=20) | st.none(), st.integers(0, 1000))
def test_no_word_of_a_client_becomes_a_label(method: str, route: str | None, status: int) -> None:
    measured = Measured(routes=Routes(pairs=[("GET", "/a"), ("*", "/b")], statuses=[200, 404]))
    measured.metrics.requests.answered(method, route, status, 0.1)
    ((labels, value),) = [(labels, value) for (name, labels), value in measured.scrape().items() if name == REQUESTS]
    assert value == 1
    found = dict(labels)
    assert found["method"] in {"GET", "OPTIONS", "other"}
    assert found["route"] in {"/a", "/b", "unmatched"}
    assert found["status"] in {"200", "404", "other"}


async def test_time_that_a_client_takes_to_send_its_body_is_its_own(api: Api, measured: Measured) -> None:
    pause = 0.5
    body = b'{"email":"nobody@example.com","password":"none of that"}'
    async with api.wire() as wire:
        began = time.monotonic()
        await wire.send(
            b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        await asyncio.sleep(pause)
        await wire.send(body)
        assert (await wire.answer("POST")).status == 401
        ended = time.monotonic()
    assert measured.value(f"{TIMES}_count", method="POST", route="/v1/sessions") == 1
    took = measured.value(f"{TIMES}_sum", method="POST", route="/v1/sessions")
    assert took is not None
    # However slow the machine is: of the whole time the pause is left out. The tenth is for its timer, which may be early.
    assert took < ended - began - 0.9 * pause


async def test_nobody_is_told_of_requests_where_nobody_asks() -> None:
    async with serving(MemoryAccounts()) as api:
        token = await api.sign_up()
        assert await api.me(token)
    assert Watching().answered is None


# Events.


def counted_events(measured: Measured) -> tuple[Any, RecordedEvents]:
    recorded = RecordedEvents()
    return Telemetry(metrics=measured.metrics).around_events(recorded), recorded


def test_events_are_counted_and_passed_on(measured: Measured) -> None:
    events, recorded = counted_events(measured)
    told: list[Event] = [
        UserRegistered(user_id=USER_ID, at=NOW),
        SessionOpened(user_id=USER_ID, at=NOW, session_id=SESSION_ID),
        SessionOpened(user_id=USER_ID, at=NOW, session_id=SESSION_ID),
        LogInRefused(user_id=None, at=NOW, client=Client(ip="192.0.2.1")),
        SessionEnded(user_id=USER_ID, at=NOW, session_id=SESSION_ID, reason=SessionEnd.REVOKED),
        LimitReached(user_id=None, at=NOW, limit=Limit.GUESSES),
    ]
    for event in told:
        events.publish(event)
    assert recorded.events == told
    found = measured.scrape()
    assert found[key("pickguard_registrations_total")] == 1
    assert found[key("pickguard_sessions_opened_total")] == 2
    assert found[key("pickguard_log_ins_total", outcome="success")] == 2
    assert found[key("pickguard_log_ins_total", outcome="failure")] == 1
    for reason in SessionEnd:
        assert found[key("pickguard_sessions_ended_total", reason=reason.value)] == (reason is SessionEnd.REVOKED)
    for limit in Limit:
        assert found[key("pickguard_limits_hit_total", limit=limit.value)] == (limit is Limit.GUESSES)
    assert found[key("pickguard_events_total", event="SessionOpened")] == 2


def test_every_event_has_a_series(measured: Measured) -> None:
    found = measured.scrape()
    assert names_of(Event)
    for name in names_of(Event):
        assert found[key("pickguard_events_total", event=name)] == 0


# The store.


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StoreUnavailable("down"), "unavailable"),
        (OutcomeUnknown("lost"), "outcome_unknown"),
        (NotReplicated("few"), "not_replicated"),
        (RuntimeError("a fault"), "other"),
        (asyncio.CancelledError(), "cancelled"),
        (Conflict(), None),
    ],
)
async def test_what_the_store_does_not_do_is_counted_and_told(
    error: BaseException, kind: str | None, measured: Measured
) -> None:
    class Broken(MemoryAccounts):
        async def get(self, user_id: object) -> Any:
            del user_id
            raise error

    watched = observed(Broken(), port=AccountRepository, watches=[measured.metrics.store.port("accounts")])
    with pytest.raises(type(error)) as raised:
        await watched.get(USER_ID)
    assert raised.value is error
    found = measured.scrape()
    counted = {dict(labels)["kind"]: value for (name, labels), value in found.items() if name == "pickguard_store_errors_total"}
    assert {name: value for name, value in counted.items() if value} == ({kind: 1} if kind else {})
    assert found[key("pickguard_store_operation_duration_seconds_count", operation="accounts.get")] == 1


async def test_all_that_is_asked_of_a_store_is_watched(measured: Measured) -> None:
    accounts = MemoryAccounts()
    bare = Store(accounts=accounts, directory=accounts, receipts=MemoryReceipts(), limits=MemoryRateLimiter())
    store = Telemetry(metrics=measured.metrics).around_store(bare, system="memory")
    await store.accounts.check_writable()
    await store.directory.page(after=None, limit=1)
    await store.receipts.read(KeyDigest(bytes(32)), NOW)
    await store.limits.forgive(EMAIL)
    found = measured.scrape()
    for operation in ("accounts.check_writable", "directory.page", "receipts.read", "limits.forgive"):
        assert found[key("pickguard_store_operation_duration_seconds_count", operation=operation)] == 1
    assert set(STORE_PORTS) == {field.name for field in attrs.fields(Store)}
    assert operations_of(AccountRepository)[:3] == ("get", "find", "find_holder")


async def test_nobody_watches_where_nobody_asks() -> None:
    accounts = MemoryAccounts()
    assert observed(accounts, port=AccountRepository, watches=[]) is accounts
    hasher, events = cheap_hasher(), RecordedEvents()
    assert Telemetry().around_hasher(hasher) is hasher
    assert Telemetry().around_events(events) is events


async def test_what_a_watched_store_answers_is_what_the_store_answers(measured: Measured) -> None:
    watched = observed(MemoryAccounts(), port=AccountRepository, watches=[measured.metrics.store.port("accounts")])
    account = an_account()
    await watched.add(account, operation=b"12345678")
    found = await watched.get(account.user.id)
    assert found is not None
    assert found.account == account
    assert measured.value("pickguard_store_operation_duration_seconds_count", operation="accounts.add") == 1


# Hashing.


async def test_waits_and_hashes_are_timed_and_the_queue_is_seen(measured: Measured) -> None:
    loop = asyncio.get_running_loop()
    begun, go_on = asyncio.Event(), threading.Event()
    pool = HashingPool(threads=1, wait_budget=timedelta(seconds=60), seconds_each=0.001, watch=measured.metrics.hashing)

    def work() -> str:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(10)
        return "done"

    assert measured.value("pickguard_hash_threads") == 1
    first = asyncio.create_task(pool.run(work, purpose=Purpose.LOG_IN))
    await begun.wait()
    others = [asyncio.create_task(pool.run(work, purpose=purpose)) for purpose in (Purpose.LOG_IN, Purpose.PROOF)]
    await asyncio.sleep(0)
    assert measured.value("pickguard_hash_queue_depth") == 2
    go_on.set()
    assert await asyncio.gather(first, *others) == ["done"] * 3
    pool.close()
    found = measured.scrape()
    assert found[key("pickguard_hash_queue_depth")] == 0
    assert found[key("pickguard_hash_duration_seconds_count", purpose="log-in")] == 2
    assert found[key("pickguard_hash_wait_seconds_count", purpose="proof")] == 1
    assert found[key("pickguard_hash_duration_seconds_count", purpose="registration")] == 0


async def test_those_who_are_refused_or_leave_are_no_longer_in_the_queue(measured: Measured) -> None:
    go_on = threading.Event()
    pool = HashingPool(threads=1, wait_budget=timedelta(seconds=60), seconds_each=1.0, watch=measured.metrics.hashing)
    running = asyncio.create_task(pool.run(lambda: go_on.wait(10), purpose=Purpose.LOG_IN))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(pool.run(lambda: None, purpose=Purpose.REGISTRATION))
    await asyncio.sleep(0)
    assert measured.value("pickguard_hash_queue_depth") == 1
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert measured.value("pickguard_hash_queue_depth") == 0
    with pytest.raises(HashingOverloaded):
        await pool.run(lambda: None, purpose=Purpose.PROOF, spent=timedelta(seconds=60))
    assert measured.value("pickguard_hash_refused_total", purpose="proof") == 1
    go_on.set()
    await running
    pool.close()


# Mail.


class Transport:
    """Delivers, or fails as it is told."""

    def __init__(self, *failures: DeliveryError) -> None:
        self.failures = list(failures)

    async def send(self, message: EmailMessage, *, sender: str, recipient: str) -> None:
        del message, sender, recipient
        if self.failures:
            raise self.failures.pop(0)


def a_mail() -> Mail:
    user = an_account().user
    return NewDevice(to=user.email, name=user.name.value, at=NOW, client=Client())


def rendered(mail: Mail) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = "no-reply@example.com", mail.to.value
    return message


async def test_mails_are_counted_by_what_has_become_of_them(measured: Measured) -> None:
    transport = Transport(DeliveryError("refused", permanent=True))
    async with Outbox(rendered, transport, spread=timedelta(0), capacity=1, watch=measured.metrics.mail) as outbox:
        outbox.post(a_mail())
        outbox.post(a_mail())  # there is no room for it
        assert measured.value("pickguard_mails_waiting") == 1
        await outbox.drain()
        outbox.post(a_mail())
        await outbox.drain()
    found = measured.scrape()
    counted = {
        dict(labels)["outcome"]: value
        for (name, labels), value in found.items()
        if name == "pickguard_mails_total" and ("kind", "NewDevice") in labels and value
    }
    assert counted == {"given_up": 1, "dropped": 1, "sent": 1}
    assert found[key("pickguard_mails_waiting")] == 0


def test_every_mail_and_every_outcome_has_a_series(measured: Measured) -> None:
    found = measured.scrape()
    for kind in set(names_of(Mail)) - {"TokenMail", "Notice"}:
        for outcome in MAIL_OUTCOMES:
            assert found[key("pickguard_mails_total", kind=kind, outcome=outcome)] == 0


# All of it together.


async def test_a_service_in_use_is_measured_throughout(measured: Measured) -> None:
    telemetry = Telemetry(metrics=measured.metrics)
    accounts = MemoryAccounts()
    parameters = Argon2Parameters(memory_kib=8, time_cost=1)
    async with Argon2Hasher(parameters=parameters, watch=measured.metrics.hashing) as hasher:
        services: Services = build_services(
            accounts=observed(accounts, port=AccountRepository, watches=[measured.metrics.store.port("accounts")]),
            directory=accounts,
            hasher=telemetry.around_hasher(hasher),
            events=telemetry.around_events(RecordedEvents()),
            common_passwords=NoCommonPasswords(),
        )
        await services.registration.register(name=NAME, email=EMAIL, password=GOOD_PASSWORD)
        opened = await services.authentication.log_in(email=EMAIL, password=GOOD_PASSWORD)
        await services.authentication.authenticate(opened.token.reveal())
    found = measured.scrape()
    assert found[key("pickguard_hash_duration_seconds_count", purpose="log-in")] == 1
    assert found[key("pickguard_hash_duration_seconds_count", purpose="registration")] == 1
    assert found[key("pickguard_store_operation_duration_seconds_count", operation="accounts.read_session")] == 1
    assert found[key("pickguard_log_ins_total", outcome="success")] == 1


def test_workers_count_apart_and_are_shown_together() -> None:
    measured = Measured(workers=2)
    for worker in measured.workers:
        assert isinstance(worker, Metrics)
        worker.requests.answered("GET", ME, 200, 0.001)
        worker.connections(3)
        worker.admin_request(authenticated=False)
    found = measured.scrape()
    assert found[key(REQUESTS, method="GET", route=ME, status="200")] == 2
    assert found[key(f"{TIMES}_bucket", method="GET", route=ME, le="0.001")] == 2
    assert found[key("pickguard_connections_open")] == 6
    assert found[key("pickguard_admin_requests_total", outcome="unauthenticated")] == 2
