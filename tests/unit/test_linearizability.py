"""The search for an order of a concurrent history, and the model of accounts: what they take and what they refuse."""

import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import attrs
import pytest
from aiohttp import web
from fakeredis import FakeAsyncRedis
from hypothesis import given
from hypothesis import strategies as st
from pytest_aiohttp import AiohttpServer

from pickguard.adapters.memory import MemoryAccounts
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.domain.model import errors
from pickguard.entrypoints.http.problems import UNKNOWN_OUTCOME, for_error
from pickguard.ports.accounts import AccountRepository
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, wired
from tests.support.histories import (
    ANSWERS,
    AccountsModel,
    Action,
    Answer,
    InProcess,
    LostError,
    OverHttp,
    Profile,
    Recorder,
    Reply,
    UnsteadyClient,
    is_decided,
    look_at_all,
    run_clients,
    touched,
)
from tests.support.linearizability import Model, Operation, Verdict, check, partition
from tests.support.strategies import InstantHasher, examples

# A register: what can be seen of the search with it


@attrs.frozen
class Access:
    """A write, a read, or a write of `value` where `expected` stood, which was refused or not."""

    kind: str
    value: int
    expected: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"


class Register:
    """One number, 0 at first."""

    initial = 0

    def step(self, state: int, action: Access) -> Iterator[int]:
        if action.kind == "write" or (action.kind == "swap" and state == action.expected):
            yield action.value
        elif (action.kind == "read" and state == action.value) or (action.kind == "refused" and state != action.expected):
            yield state
        elif action.kind == "add":  # one or two, nobody says which
            yield state + 1
            yield state + 2

    def may_change(self, action: Access) -> bool:
        return action.kind in {"write", "swap", "add"}


def operation(invoked: int, returned: int | None, kind: str, value: int, expected: int = 0) -> Operation[Access]:
    return Operation(client=f"c{invoked}", action=Access(kind, value, expected), invoked=invoked, returned=returned)


def outcome(*history: Operation[Access], limit: int = 1000) -> str:
    return check(history, Register(), limit=limit).outcome


def test_a_read_sees_the_write_before_it_and_may_see_one_at_the_same_time() -> None:
    assert outcome(operation(1, 2, "write", 5), operation(3, 4, "read", 5)) == "linearizable"
    assert outcome(operation(1, 4, "write", 5), operation(2, 3, "read", 5)) == "linearizable"
    assert outcome(operation(1, 4, "write", 5), operation(2, 3, "read", 0)) == "linearizable"


def test_a_stale_read_is_found() -> None:
    assert outcome(operation(1, 2, "write", 5), operation(3, 4, "read", 0)) == "violation"


def test_reads_that_disagree_on_the_order_of_two_writes_are_found() -> None:
    writes = operation(1, 10, "write", 5), operation(2, 11, "write", 6)
    assert outcome(*writes, operation(3, 4, "read", 5), operation(5, 6, "read", 6)) == "linearizable"
    back = operation(3, 4, "read", 5), operation(5, 6, "read", 6), operation(7, 8, "read", 5)
    assert outcome(*writes, *back) == "violation"


def test_a_lost_update_is_found() -> None:
    both = operation(1, 3, "swap", 5), operation(2, 4, "swap", 6)
    assert outcome(*both) == "violation"
    assert outcome(both[0], operation(2, 4, "refused", 6)) == "linearizable"


def test_an_operation_of_unknown_outcome_happens_late_or_never_but_not_before_it_was_invoked_and_not_twice() -> None:
    unknown = operation(3, None, "write", 5)
    assert outcome(unknown, operation(4, 5, "read", 0)) == "linearizable"
    assert outcome(unknown, operation(4, 5, "read", 0), operation(6, 7, "read", 5)) == "linearizable"
    assert outcome(unknown, operation(4, 5, "read", 5), operation(6, 7, "read", 0)) == "violation"
    assert outcome(operation(1, 2, "read", 5), unknown) == "violation"
    rewritten = operation(4, 5, "read", 5), operation(6, 7, "write", 6), operation(8, 9, "read", 5)
    assert outcome(unknown, *rewritten) == "violation"


def test_what_would_change_nothing_now_may_be_needed_later() -> None:
    assert outcome(operation(1, 10, "write", 0), operation(2, 3, "write", 5), operation(4, 5, "read", 0)) == "linearizable"


def test_every_state_that_a_step_may_lead_to_is_tried() -> None:
    adds = operation(1, 2, "add", 0), operation(3, 4, "add", 0)
    assert [outcome(*adds, operation(5, 6, "read", value)) for value in range(1, 6)] == [
        "violation",
        *["linearizable"] * 3,
        "violation",
    ]


def test_a_search_that_takes_too_long_is_undecided_which_is_not_linearizable() -> None:
    history = [*(operation(number, 100 + number, "write", number) for number in range(1, 9)), operation(200, 201, "read", 99)]
    verdict = check(history, Register(), limit=100)
    assert (verdict.outcome, verdict.linearizable) == ("undecided", False)
    assert str(verdict).startswith("UNDECIDED: given up at 101 points; of 9 operations, 8 had a place")
    assert check(history, Register()).outcome == "violation"


def test_what_was_searched_before_is_not_searched_again() -> None:
    # There are 9! orders, but no more than 2 ** 9 sets, each with at most 9 last writes.
    history = [*(operation(number, 100 + number, "write", number) for number in range(1, 10)), operation(200, 201, "read", 99)]
    assert check(history, Register()).explored < 9 * 2**9


def test_a_report_shows_the_order_found_and_what_has_no_place() -> None:
    history = (
        operation(1, 2, "write", 5),
        operation(3, 6, "write", 6),
        operation(4, 5, "read", 5),
        operation(7, 8, "read", 5),
        operation(9, None, "write", 7),
    )
    assert str(check(history, Register())).splitlines() == [
        "NOT linearizable: of 4 operations, no more than 3 can have a place",
        "Numbers are places in that order. One of those marked ! had to be the next, and none can be.",
        "",
        "   1  c1     |-----|                                            write 5",
        "   3  c3                 |----------------|                     write 6",
        "   2  c4                       |-----|                          read 5",
        "   !  c7                                        |-----|         read 5",
        "      (1 others are not shown)",
        "",
        "State after place 3: 6",
    ]


accesses = st.builds(Access, st.sampled_from(["write", "read", "swap", "refused", "add"]), st.integers(0, 2), st.integers(0, 2))


@st.composite
def concurrent_histories(draw: st.DrawFn) -> list[Operation[Access]]:
    """Any operations, in any overlap."""
    actions = draw(st.lists(accesses, min_size=1, max_size=5))
    events = draw(st.permutations([index for index in range(len(actions)) for _ in range(2)]))
    moments = {index: [at for at, event in enumerate(events) if event == index] for index in range(len(actions))}
    return [
        Operation(client="", action=action, invoked=moments[i][0], returned=None if draw(st.booleans()) else moments[i][1])
        for i, action in enumerate(actions)
    ]


def by_trying_every_order(history: Sequence[Operation[Any]], model: Model[Any, Any]) -> bool:
    known = [each for each in history if each.returned is not None]
    unknown = [each for each in history if each.returned is None]
    for count in range(len(unknown) + 1):
        for happened in itertools.combinations(unknown, count):
            for order in itertools.permutations([*known, *happened]):
                pairs = itertools.combinations(order, 2)
                if all(after.returned is None or after.returned > before.invoked for before, after in pairs):
                    states = {model.initial}
                    for each in order:
                        states = {following for state in states for following in model.step(state, each.action)}
                    if states:
                        return True
    return False


@examples(150)
@given(concurrent_histories())
def test_the_search_finds_what_trying_every_order_finds(history: list[Operation[Access]]) -> None:
    assert check(history, Register()).linearizable == by_trying_every_order(history, Register())


@examples(50)
@given(concurrent_histories())
def test_an_order_that_was_found_is_one(history: list[Operation[Access]]) -> None:
    verdict = check(history, Register())
    order = [verdict.operations[index] for index in verdict.order]
    assert len(set(verdict.order)) == len(order)
    assert all(after.returned is None or after.returned > before.invoked for before, after in itertools.combinations(order, 2))
    states = {0}
    for each in order:
        states = {following for state in states for following in Register().step(state, each.action)}
    assert verdict.state in states


@examples(50)
@given(st.lists(accesses, max_size=12), st.data())
def test_a_sequential_history_stays_linearizable_however_its_intervals_are_stretched(
    actions: list[Access], data: st.DataObject
) -> None:
    state, history = 0, []
    for number, action in enumerate(actions):
        following = list(Register().step(state, action))
        if following:
            state = data.draw(st.sampled_from(following))
            before, after = data.draw(st.integers(0, 40)), data.draw(st.integers(0, 40))
            history.append(operation(10 * number - before, 10 * number + 1 + after, action.kind, action.value, action.expected))
    assert outcome(*history) == "linearizable"


def test_a_history_is_split_only_where_nothing_connects_its_parts() -> None:
    def keyed(*keys: str) -> Operation[tuple[str, ...]]:
        return Operation(client="", action=keys, invoked=0, returned=1)

    history = [keyed("a"), keyed("b"), keyed("c", "d"), keyed("a", "e"), keyed("e", "b"), keyed("d")]
    parts = partition(history, lambda keys: keys)
    assert sorted(sorted(each.action for each in part) for part in parts) == [
        [("a",), ("a", "e"), ("b",), ("e", "b")],
        [("c", "d"), ("d",)],
    ]


# The model of accounts

BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ADA, GRACE = "ada@example.com", "grace@example.com"


def profile(name: str = "Ada", email: str = ADA, *, user: str = "u1", change: int = 0) -> Profile:
    return Profile(user=user, name=name, email=email, updated_at=BEGAN + timedelta(seconds=change))


def register(status: int | None = 201, seen: Profile | None = None, **more: Any) -> Action:
    seen = seen or profile()
    answer = None if status is None else Answer(status=status, profile=seen if status == 201 else None)
    return Action(
        **{"kind": "register", "name": seen.name, "email": seen.email, "password": GOOD_PASSWORD, "answer": answer, **more}
    )


def log_in(session: str | None, seen: Profile | None = None, *, password: str = GOOD_PASSWORD, email: str = ADA) -> Action:
    if session is None:
        return Action(kind="log in", email=email, password=password, answer=Answer(status=401))
    seen = seen or profile()
    return Action(kind="log in", email=seen.email, password=password, answer=Answer(status=201, profile=seen, session=session))


def act(kind: str, status: int | None, *, session: str = "s1", seen: Profile | None = None, **more: Any) -> Action:
    return Action(kind=kind, session=session, answer=None if status is None else Answer(status=status, profile=seen), **more)


def one_after_the_other(*actions: Action, lossy: bool = False) -> Verdict[Any, Action]:
    history = [
        Operation(client="a", action=each, invoked=2 * at, returned=None if each.answer is None else 2 * at + 1)
        for at, each in enumerate(actions)
    ]
    return check(history, AccountsModel.of(history, lossy=lossy))


START = (register(), log_in("s1"), log_in("s2"))
RENAMED, MOVED = profile("Countess", change=1), profile(email=GRACE, change=1)
PASSWORD_CHANGE: dict[str, Any] = {"password": OTHER_PASSWORD, "proof": GOOD_PASSWORD}
MOVE: dict[str, Any] = {"email": GRACE, "proof": GOOD_PASSWORD}

GOOD_ENDINGS = {
    "a rename is seen": (act("change", 200, name="Countess", seen=RENAMED), act("me", 200, seen=RENAMED)),
    "a move frees the address": (
        act("change", 200, seen=MOVED, **MOVE),
        log_in(None),
        register(seen=profile("Eve", user="u2")),
        log_in("s3", MOVED),
    ),
    "a new password ends the other sessions": (
        act("change", 200, seen=profile(change=1), **PASSWORD_CHANGE),
        act("me", 401, session="s2"),
        act("me", 200, seen=profile(change=1)),
        log_in(None),
        log_in("s3", profile(change=1), password=OTHER_PASSWORD),
    ),
    "the same password is no change": (
        act("change", 200, seen=profile(), password=GOOD_PASSWORD, proof=GOOD_PASSWORD),
        act("me", 200, session="s2", seen=profile()),
    ),
    "an ended session is refused": (act("end", 204, target="s2"), act("me", 401, session="s2"), act("end", 404, target="s2")),
    "the others end": (act("end others", 204), act("me", 401, session="s2"), act("me", 200, seen=profile())),
    "a deletion frees the address": (act("delete", 204), act("me", 401), log_in(None), register(seen=profile(user="u2"))),
    "a condition that holds no more": (
        act("change", 200, name="Countess", seen=RENAMED),
        act("delete", 412, condition=profile()),
        act("delete", 204, condition=RENAMED),
    ),
    "a lost rename has happened": (act("change", None, name="Countess"), act("me", 200, seen=RENAMED)),
    "a lost rename has not happened": (act("change", None, name="Countess"), act("me", 200, seen=profile())),
    "a lost deletion has happened": (act("delete", None), act("me", 401), register(seen=profile(user="u2"))),
    "a lost registration has happened": (
        register(None, profile("Eve", GRACE)),
        register(409, profile("Eve", GRACE)),
        log_in("s3", profile("Eve", GRACE, user="u2")),
    ),
    "a session that nobody knows is listed": (
        attrs.evolve(act("list", 200), answer=Answer(status=200, sessions=frozenset({"s1", "s2", "s7"}))),
    ),
    "a lost change of password makes a condition fail": (
        act("change", None, **PASSWORD_CHANGE),
        log_in(None),
        act("delete", 412, condition=profile()),
    ),
    "503 says nothing": (act("change", 503, name="Countess"), act("me", 200, seen=profile()), log_in("s3")),
}

BAD_ENDINGS = {
    "an address is registered twice": (register(seen=profile(user="u2")),),
    "a false refusal of an address": (register(409, profile(email=GRACE)),),
    "a false refusal of a move": (act("change", 409, **MOVE),),
    "a false refusal of a log-in": (log_in(None),),
    "a false refusal of a password": (act("change", 403, **MOVE),),
    "a false refusal of a condition": (act("delete", 412, condition=profile()),),
    "a token is refused for no reason": (act("me", 401),),
    "a session is not found for no reason": (act("end", 404, target="s2"),),
    "a wrong password opens a session": (log_in("s3", password=OTHER_PASSWORD),),
    "a session of somebody else": (log_in("s3", profile(user="u2")),),
    "a session is given twice": (log_in("s2"),),
    "a revoked token is taken": (act("end", 204, target="s2"), act("me", 200, session="s2", seen=profile())),
    "a token is taken after the end of all": (act("end all", 204), act("me", 200, seen=profile())),
    "a token is taken after another's change of password": (
        act("change", 200, seen=profile(change=1), **PASSWORD_CHANGE),
        act("me", 200, session="s2", seen=profile(change=1)),
    ),
    "the old password opens a session": (
        act("change", 200, seen=profile(change=1), **PASSWORD_CHANGE),
        log_in("s3", profile(change=1)),
    ),
    "a rename is lost": (act("change", 200, name="Countess", seen=RENAMED), act("me", 200, seen=profile())),
    "a rename is lost, and its time is not": (
        act("change", 200, name="Countess", seen=RENAMED),
        act("me", 200, seen=profile(change=1)),
    ),
    "a change leaves updated_at alone": (act("change", 200, name="Countess", seen=profile("Countess")),),
    "what is no change moves updated_at": (act("change", 200, name="Ada", seen=profile(change=1)),),
    "a change happens against its condition": (
        act("change", 200, name="Countess", seen=RENAMED),
        act("change", 200, name="Lady", condition=profile(), seen=profile("Lady", change=2)),
    ),
    "an old address still opens a session": (act("change", 200, seen=MOVED, **MOVE), log_in("s3")),
    "an address is lost": (act("change", 200, seen=MOVED, **MOVE), register(409)),
    "half of a change": (
        act("change", 200, name="Countess", seen=profile("Countess", GRACE, change=1), **MOVE),
        act("me", 200, seen=profile("Countess", change=1)),
    ),
    "a session is listed that has ended": (
        act("end", 204, target="s2"),
        attrs.evolve(act("list", 200), answer=Answer(status=200, sessions=frozenset({"s1", "s2"}))),
    ),
    "a session is not listed": (attrs.evolve(act("list", 200), answer=Answer(status=200, sessions=frozenset({"s1"}))),),
    "a token outlives its account": (act("delete", 204), act("me", 200, seen=profile())),
    "an account is deleted twice": (act("delete", 204), act("delete", 204, session="s2")),
    "nothing was done, but it was": (act("change", 503, name="Countess"), act("me", 200, seen=RENAMED)),
    "nothing was done, but the account is gone": (act("delete", 503), log_in(None)),
    "a lost rename comes and goes": (
        act("change", None, name="Countess"),
        act("me", 200, seen=RENAMED),
        act("me", 200, seen=profile()),
    ),
    "a lost rename happens at two times": (
        act("change", None, name="Countess"),
        act("me", 200, seen=RENAMED),
        act("me", 200, seen=profile("Countess", change=2)),
    ),
    "a user is registered at two addresses": (register(seen=profile(email=GRACE)),),
    "a lost registration is of a user who was registered before": (
        act("delete", 204),
        register(None, profile("Ada", GRACE)),
        log_in("s3", profile("Ada", GRACE)),
    ),
    "two lost registrations are of one user": (
        register(None, profile("Eve", GRACE)),
        register(None, profile("Eve", "eve@example.com")),
        log_in("s3", profile("Eve", GRACE, user="u2")),
        log_in("s4", profile("Eve", "eve@example.com", user="u2")),
    ),
    "a success has the wrong status": (act("me", 204, seen=profile()),),
}


@pytest.mark.parametrize("ending", GOOD_ENDINGS.values(), ids=GOOD_ENDINGS)
def test_the_model_takes(ending: tuple[Action, ...]) -> None:
    verdict = one_after_the_other(*START, *ending)
    assert verdict.linearizable, verdict


@pytest.mark.parametrize("ending", BAD_ENDINGS.values(), ids=BAD_ENDINGS)
def test_the_model_refuses(ending: tuple[Action, ...]) -> None:
    assert one_after_the_other(*START, *ending).outcome == "violation"


def test_only_where_answers_get_lost_may_two_have_deleted_one_account() -> None:
    both = (*START, act("delete", 204), act("delete", 204, session="s2"))
    assert one_after_the_other(*both, lossy=True).linearizable
    deleted_first = (*START, act("delete", 204), register(seen=profile(user="u2")), act("delete", 204, session="s2"))
    assert one_after_the_other(*deleted_first, lossy=True).linearizable
    logged_out = (*START, act("log out", 204), act("delete", 204))
    assert one_after_the_other(*logged_out, lossy=True).outcome == "violation"


def test_a_report_has_no_secret_in_it() -> None:
    report = str(one_after_the_other(*START, *BAD_ENDINGS["the old password opens a session"]))
    assert "s3 u1 Ada" in report
    assert "password 1" in report
    assert GOOD_PASSWORD not in report + repr(START)
    assert OTHER_PASSWORD not in report + repr(START)


# The recorder


def in_process(accounts: AccountRepository) -> InProcess:
    return InProcess(wired(accounts, InstantHasher()))


async def one_client(seed: int, actions: int = 60) -> Recorder:
    recorder = Recorder()
    service = in_process(MemoryAccounts())
    await run_clients(recorder, [service], addresses=(ADA, GRACE), seed=seed, actions=actions)
    return recorder


async def test_the_model_agrees_with_the_use_cases_on_the_store_in_memory() -> None:
    answered = set()
    for seed in range(30):
        recorder = await one_client(seed)
        for verdict in recorder.check(lossy=False):
            assert verdict.linearizable, verdict
        answered |= {(each.action.kind, each.action.answer.status) for each in recorder.history if each.action.answer}
    assert answered == {(kind, status) for kind, statuses in ANSWERS.items() for status in statuses}


def wrong_answers(action: Action) -> Iterator[Answer]:
    """What the answer to an action cannot have been instead."""
    right = action.answer
    assert right is not None
    succeeded = right.status < 300
    for status in ANSWERS[action.kind]:
        # Of several reasons to refuse a change any may be given.
        if status >= 300 and status != right.status and (succeeded or action.kind != "change"):
            yield Answer(status=status)
    if not succeeded:
        success = min(ANSWERS[action.kind])
        yield Answer(status=success, profile=profile(), session="s0", sessions=frozenset())
    if right.profile is not None:
        for wrong in (attrs.evolve(right.profile, name="Eve"), attrs.evolve(right.profile, email="eve@example.com")):
            yield attrs.evolve(right, profile=wrong)
        if action.kind != "register":  # that somebody else was registered shows only later
            yield attrs.evolve(right, profile=attrs.evolve(right.profile, user="u0"))
    if right.sessions is not None:
        yield attrs.evolve(right, sessions=right.sessions - {action.session})


async def test_every_answer_of_a_sequential_history_matters() -> None:
    history = (await one_client(3, actions=40)).history
    tried = 0
    for index, each in enumerate(history):
        for answer in wrong_answers(each.action):
            wrong = attrs.evolve(each, action=attrs.evolve(each.action, answer=answer))
            changed = [*history[:index], wrong]
            verdict = check(changed, AccountsModel.of(changed, lossy=False))
            assert verdict.outcome == "violation", (index, answer, str(verdict))
            tried += 1
    assert tried > 60


async def test_a_concurrent_history_stays_linearizable_when_answers_are_forgotten(fake_redis: FakeAsyncRedis) -> None:
    for seed in range(6):
        await fake_redis.flushall()
        recorder, random = Recorder(), Random(seed)
        services = [in_process(RedisAccounts(UnsteadyClient(fake_redis, random))) for _ in range(4)]
        await run_clients(recorder, services, addresses=(ADA, GRACE), seed=seed, actions=10)
        await look_at_all(recorder, services[0], (ADA, GRACE))
        for verdict in recorder.check(lossy=False):
            assert verdict.linearizable, verdict
        forgotten = [
            attrs.evolve(each, returned=None, action=attrs.evolve(each.action, answer=None))
            if each.action.kind in {"register", "change", "end", "delete"} and random.random() < 0.3
            else each
            for each in recorder.history
        ]
        verdict = check(forgotten, AccountsModel.of(forgotten, lossy=False))
        assert verdict.linearizable, verdict


async def test_parts_of_a_history_have_the_verdict_of_the_whole() -> None:
    recorder = Recorder()
    service = in_process(MemoryAccounts())
    for number in range(3):
        addresses = (f"a{number}@example.com", f"b{number}@example.com")
        await run_clients(recorder, [service], addresses=addresses, seed=number, actions=15)
        # Sessions of before would connect the parts.
        recorder.sessions.clear()
        recorder.live.clear()
    parts = partition(recorder.history, touched)
    assert len(parts) >= 3
    whole = recorder.history
    assert all(verdict.linearizable for verdict in recorder.check(lossy=False))
    assert check(whole, AccountsModel.of(whole, lossy=False)).linearizable
    first = next(each for each in whole if each.action.kind == "register" and each.action.answer == Answer(status=409))
    whole.remove(first)
    whole.append(attrs.evolve(first, action=attrs.evolve(first.action, answer=Answer(status=201, profile=profile(user="u0")))))
    assert not all(verdict.linearizable for verdict in recorder.check(lossy=False))
    assert not check(whole, AccountsModel.of(whole, lossy=False)).linearizable


REFUSED = [(kind, status) for kind, statuses in ANSWERS.items() for status in statuses if status >= 300]


@pytest.mark.parametrize(("kind", "status"), REFUSED)
def test_a_refusal_is_decided(kind: str, status: int) -> None:
    assert is_decided(kind, status, {"detail": "whether this is unknown does not matter"})


DONE_NOTHING = [errors.StoreUnavailable, errors.AddressUndecided, errors.HashingOverloaded, errors.Contended, errors.Conflict]


@pytest.mark.parametrize("error", DONE_NOTHING)
def test_a_503_is_a_promise_that_nothing_was_done(error: type[errors.AccountsError]) -> None:
    problem = for_error(error("why"))
    assert is_decided("change", problem.type.status, {"detail": problem.detail})


def test_a_503_that_calls_the_outcome_unknown_is_not_decided() -> None:
    assert not is_decided("change", 503, {"detail": for_error(errors.OutcomeUnknown("why")).detail})


@pytest.mark.parametrize("status", [200, 400, 404, 422, 500, 502])
def test_an_answer_that_nobody_should_get_fails(status: int) -> None:
    with pytest.raises(AssertionError):
        is_decided("register", status, {"detail": ""})


class Scripted:
    """A service that gives what it was told to give."""

    def __init__(self, *replies: Reply | Exception) -> None:
        self._replies = list(replies)

    async def send(self, action: Action, *, token: str, target: str, tag: str) -> Reply:
        del action, token, target, tag
        reply = self._replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


async def test_what_is_recorded_of_refusals_losses_and_promises() -> None:
    recorder = Recorder()
    lost = Reply(status=503, body={"detail": UNKNOWN_OUTCOME})
    service = Scripted(Reply(status=409), LostError(), lost, Reply(status=503, body={"detail": "Nothing was done."}))
    asked = Action(kind="register", name="Ada", email=ADA, password=GOOD_PASSWORD)
    for _ in range(4):
        await recorder.perform("a", service, asked)
    answers = [each.action.answer for each in recorder.history]
    assert answers == [Answer(status=409), None, None, Answer(status=503)]
    assert [(each.invoked, each.returned) for each in recorder.history] == [(1, 2), (3, None), (5, None), (7, 8)]
    assert recorder.unknowns == 2


async def test_looking_and_logging_in_without_an_answer_leave_no_trace_but_are_counted() -> None:
    recorder = Recorder()
    service = Scripted(LostError(), LostError(), LostError())
    for kind in ("log in", "me", "list"):
        await recorder.perform("a", service, Action(kind=kind, session="s1"))
    assert (recorder.history, recorder.unknowns) == ([], 3)


async def test_a_service_that_hangs_up_gives_no_answer_and_one_that_is_not_there_does_nothing(
    aiohttp_server: AiohttpServer,
) -> None:
    asked = []

    async def hang_up(request: web.Request) -> web.Response:
        asked.append(request.method)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/v1/users/me", hang_up)
    server = await aiohttp_server(app)
    async with OverHttp.at(str(server.make_url("/"))) as service:
        for kind in ("delete", "me"):
            with pytest.raises(LostError):
                await service.send(Action(kind=kind, session="s1"), token="", target="", tag="")
        assert asked == ["DELETE", "GET"]
        await server.close()
        reply = await service.send(Action(kind="delete", session="s1"), token="", target="", tag="")
        assert is_decided("delete", reply.status, reply.body)
