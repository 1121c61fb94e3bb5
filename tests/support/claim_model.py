"""The claim protocol of `pickguard.adapters.redis.claims` as a model, small enough to visit every state it can be in.

A process carries out one program: it registers, changes or deletes an account, or it schedules or calls off its end. Each of
its steps is one command on one key, a claim or an account, which may lie on different servers. Between any two steps other
processes run, time passes, or the process crashes for good. A process that loses an answer and gives up is a process that
crashes after that step.

An account that has an end goes at any moment, by its server alone, and leaves its claim.

Time is told by the ages of claims, in ticks: saves may rely on a claim up to `DEADLINE`, and from `LEASE` on, which is the very
next tick, it may be taken over. Older than that is all the same, so that time can pass without end in finitely many states.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, TypeVar

import attrs

DEADLINE = 1
LEASE = DEADLINE + 1

Value = TypeVar("Value")
Pairs = tuple[tuple[str, Value], ...]
"""A small mapping that can be hashed, in the order of its keys."""


@attrs.frozen(kw_only=True)
class Rules:
    """The rules of the protocol, by their numbers in `pickguard.adapters.redis.claims`. A mutant lacks one."""

    claim_first: bool = True
    """1: an address is claimed before an account is saved under it."""
    deadline: bool = True
    """2: a save is refused once the claim that it relies on is too old."""
    lease: bool = True
    """3: only an old claim is taken over."""
    check_account: bool = True
    """3: a claim is taken over only where its account is gone or has another address."""
    renew_only_old: bool = True
    """4: a claim of one's own is renewed only past the lease."""
    renew_only_unused: bool = True
    """4: a claim of one's own is not renewed while the account has the address."""
    full_compare: bool = True
    """3 and 5: the whole value is compared, not the user alone."""
    read_first: bool = True
    """5: the claim that a save will make superfluous is read before that save."""
    compared_end: bool = True
    """An end is set or called off by a save like any other, which compares the version: what is gone does not come back."""


PROTOCOL = Rules()


@attrs.frozen(cache_hash=True)
class Program:
    """What a process is to do. Only a registration and a change have an address to go to."""

    kind: Literal["register", "change", "delete", "schedule", "restore"]
    user: str
    address: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kind, self.user, self.address)))


@attrs.frozen(cache_hash=True)
class Claim:
    """The value of a claim. The nonce is the number of the process that made it."""

    user: str
    nonce: int
    age: int = 0

    def aged(self) -> "Claim":
        return self if self.age == LEASE else Claim(self.user, self.nonce, self.age + 1)


@attrs.frozen(cache_hash=True)
class Account:
    """As much of an account as matters here."""

    address: str
    version: int = 1
    ends: bool = False


@attrs.frozen(cache_hash=True)
class Store:
    """What the servers hold: claims by address, accounts by user."""

    claims: Pairs[Claim]
    accounts: Pairs[Account]


Step = Callable[[Store, "Process", Rules], tuple[Store, "Process | None"]]


@attrs.frozen(cache_hash=True)
class Process:
    """A process between two steps: which one is next, and what it remembers."""

    program: Program
    number: int
    step: Step
    before: Account | None = None
    superfluous: Claim | None = None
    claim: Claim | None = None

    def goes_on(self, step: Step, *, claim: Claim | None = None) -> "Process":
        """Return the process before another step. A claim that is not given is of no more use and forgotten."""
        return Process(self.program, self.number, step, self.before, self.superfluous, claim)

    def aged(self) -> "Process":
        """Return the process a tick later: the claims that it remembers grow old with those in the store."""
        superfluous, claim = self.superfluous and self.superfluous.aged(), self.claim and self.claim.aged()
        return Process(self.program, self.number, self.step, self.before, superfluous, claim)


@attrs.frozen(cache_hash=True)
class State:
    """The store and the processes that have not ended."""

    store: Store
    processes: tuple[Process, ...]


Move = tuple[Process | None, str]
"""What leads from one state to the next: a step or the crash of a process, or a tick."""

CameFrom = dict[State, tuple[State, Move] | None]


@attrs.frozen
class Scenario:
    """Who has which address to begin with, and what runs at once."""

    accounts: Mapping[str, str]
    programs: tuple[Program, ...]


def programs(*texts: str) -> tuple[Program, ...]:
    """Return programs from texts such as ``change u1 e`` and ``delete u1``."""
    return tuple(Program(*text.split()) for text in texts)  # type: ignore[arg-type]


@attrs.frozen
class Violation:
    """What does not hold, and how it came to that."""

    message: str
    history: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join((self.message, *self.history))


def find_violation(rules: Rules, scenario: Scenario) -> Violation | None:
    """Visit every state that a scenario can come to; return the first in which something does not hold."""
    first = _first_state(scenario)
    came_from: CameFrom = {first: None}
    settled: set[Store] = set()
    to_visit = [first]
    while to_visit:
        state = to_visit.pop()
        message = _shared_address(state.store)
        if message is None and not state.processes and state.store not in settled:
            settled.add(state.store)
            message = _lost_claim(state.store) or _lost_address(state.store, rules)
        if message is not None:
            return Violation(message, tuple(_history(state, came_from)))
        for what, following in _successors(state, rules):
            if following not in came_from:
                came_from[following] = (state, what)
                to_visit.append(following)
    return None


def _first_state(scenario: Scenario) -> State:
    claims = tuple(sorted((address, Claim(user, -1, LEASE)) for user, address in scenario.accounts.items()))
    accounts = tuple(sorted((user, Account(address)) for user, address in scenario.accounts.items()))
    processes = tuple(Process(program, number, start) for number, program in enumerate(scenario.programs))
    return State(Store(claims, accounts), processes)


def _successors(state: State, rules: Rules) -> Iterator[tuple[Move, State]]:
    store, processes = state.store, state.processes
    for place, process in enumerate(processes):
        others_before, others_after = processes[:place], processes[place + 1 :]
        after, going_on = process.step(store, process, rules)
        left = (*others_before, *([going_on] if going_on else []), *others_after)
        yield (process, process.step.__name__), State(after, left)
        if process.step is not start:  # one that crashes before its first step never was
            yield (process, "crash"), State(store, (*others_before, *others_after))
    for user, account in store.accounts:
        if account.ends:
            yield (None, f"{user} ends"), State(_with_account(store, user, None), processes)
    yield (None, "a tick"), _tick(state)


def _tick(state: State) -> State:
    claims = tuple((address, claim.aged()) for address, claim in state.store.claims)
    return State(Store(claims, state.store.accounts), tuple(process.aged() for process in state.processes))


def _history(state: State, came_from: CameFrom) -> list[str]:
    history = []
    at = came_from[state]
    while at is not None:
        state, (process, what) = at
        history.append(what if process is None else f"{process.number} ({process.program}): {what}")
        at = came_from[state]
    return history[::-1]


# What must hold.


def _shared_address(store: Store) -> str | None:
    addresses = [account.address for _, account in store.accounts]
    return None if len(set(addresses)) == len(addresses) else f"two accounts have one address: {store}"


def _lost_claim(store: Store) -> str | None:
    """When all has ended: every account has its claim, or nobody could log in to it."""
    for user, account in store.accounts:
        claim = _get(store.claims, account.address)
        if claim is None or claim.user != user:
            return f"{user} has no claim on {account.address}: {store}"
    return None


def _lost_address(store: Store, rules: Rules) -> str | None:
    """When all has ended and the lease has passed: an address without an account is anybody's, whatever crashed."""
    used = {account.address for _, account in store.accounts}
    for address in {address for address, _ in store.claims} - used:
        probes = [Program("register", "somebody new", address)]
        probes += [Program("change", user, address) for user, _ in store.accounts]
        for probe in probes:
            account = _get(_run_alone(probe, _all_old(store), rules).accounts, probe.user)
            if account is None or account.address != address:
                return f"nothing comes of {probe}: {store}"
    return None


def _all_old(store: Store) -> Store:
    return Store(tuple((address, Claim(claim.user, claim.nonce, LEASE)) for address, claim in store.claims), store.accounts)


def _run_alone(program: Program, store: Store, rules: Rules) -> Store:
    process: Process | None = Process(program, -2, start)
    while process is not None:
        store, process = process.step(store, process, rules)
    return store


# The steps. Each asks one server one thing, and says what comes next; None for nothing.


def start(store: Store, process: Process, rules: Rules) -> tuple[Store, Process | None]:
    """Load the account, if there is one to change or delete."""
    program = process.program
    if program.kind == "register":
        return store, process.goes_on(claim_address)
    before = _get(store.accounts, program.user)
    if before is None or before.address == program.address:
        return store, None
    if program.kind in {"schedule", "restore"}:
        return store, Process(program, process.number, set_end, before)
    step = read_superfluous if rules.read_first else _writing(program)
    return store, Process(program, process.number, step, before)


def read_superfluous(store: Store, process: Process, _: Rules) -> tuple[Store, Process | None]:
    """Read the claim that the save will make superfluous."""
    return store, Process(
        process.program, process.number, _writing(process.program), process.before, _own_old_claim(store, process)
    )


def _writing(program: Program) -> Step:
    return remove if program.kind == "delete" else claim_address


def _own_old_claim(store: Store, process: Process) -> Claim | None:
    assert process.before is not None
    there = _get(store.claims, process.before.address)
    return there if there is not None and there.user == process.program.user else None


def claim_address(store: Store, process: Process, rules: Rules) -> tuple[Store, Process | None]:
    """Claim an address that has no claim; else be told of the claim that is there."""
    program = process.program
    there = _get(store.claims, program.address)
    if there is not None:
        return store, process.goes_on(judge, claim=there)
    mine = Claim(program.user, process.number)
    if not rules.claim_first:
        return store, process.goes_on(save, claim=mine)
    return _with_claim(store, program.address, mine), process.goes_on(save, claim=mine)


def judge(store: Store, process: Process, rules: Rules) -> tuple[Store, Process | None]:
    """Read the account of the claim that is there. A young one without its account is watched; giving up is a crash."""
    there, program = process.claim, process.program
    assert there is not None
    own = there.user == program.user
    account = _get(store.accounts, there.user)
    in_use = account is not None and account.address == program.address
    if in_use and (rules.renew_only_unused if own else rules.check_account):
        return store, None
    if there.age < LEASE and (rules.renew_only_old if own else rules.lease):
        return store, process.goes_on(claim_address)
    return store, process.goes_on(take_over, claim=there)


def take_over(store: Store, process: Process, rules: Rules) -> tuple[Store, Process | None]:
    """Replace the claim that was judged, if it still is the same."""
    program = process.program
    if not _same(_get(store.claims, program.address), process.claim, rules):
        return store, process.goes_on(claim_address)
    mine = Claim(program.user, process.number)
    return _with_claim(store, program.address, mine), process.goes_on(save, claim=mine)


def save(store: Store, process: Process, rules: Rules) -> tuple[Store, Process | None]:
    """Save the account if it is what was loaded and the claim is not too old; else give the claim back."""
    program, before, claim = process.program, process.before, process.claim
    assert claim is not None
    if _get(store.accounts, program.user) != before or (rules.deadline and claim.age > DEADLINE):
        return store, process.goes_on(give_back, claim=claim)
    version, ends = (before.version + 1, before.ends) if before else (1, False)
    saved = _with_account(store, program.user, Account(program.address, version, ends))
    if not rules.claim_first and _get(saved.claims, program.address) is None:
        saved = _with_claim(saved, program.address, claim)
    return saved, process.goes_on(_releasing(rules)) if before else None


def give_back(store: Store, process: Process, rules: Rules) -> tuple[Store, Process | None]:
    """Release the claim that nothing was saved under."""
    return _without_claim(store, process.program.address, process.claim, rules), None


def remove(store: Store, process: Process, rules: Rules) -> tuple[Store, Process | None]:
    """Remove the account if it is what was loaded."""
    program = process.program
    if _get(store.accounts, program.user) != process.before:
        return store, None
    return _with_account(store, program.user, None), process.goes_on(_releasing(rules))


def set_end(store: Store, process: Process, rules: Rules) -> tuple[Store, Process | None]:
    """Give the account an end, or none any more, if it is what was loaded. It keeps its address, and so its claim."""
    program, before = process.program, process.before
    assert before is not None
    if rules.compared_end and _get(store.accounts, program.user) != before:
        return store, None
    after = Account(before.address, before.version + 1, program.kind == "schedule")
    return _with_account(store, program.user, after), None


def _releasing(rules: Rules) -> Step:
    return release_superfluous if rules.read_first else read_late


def read_late(store: Store, process: Process, _: Rules) -> tuple[Store, Process | None]:
    """Read the superfluous claim when it is superfluous already: what a mutant does."""
    superfluous = _own_old_claim(store, process)
    return store, Process(process.program, process.number, release_superfluous, process.before, superfluous)


def release_superfluous(store: Store, process: Process, rules: Rules) -> tuple[Store, Process | None]:
    """Release the claim on the address that the account had."""
    assert process.before is not None
    return _without_claim(store, process.before.address, process.superfluous, rules), None


def _get(pairs: Pairs[Value], key: str) -> Value | None:
    for name, value in pairs:
        if name == key:
            return value
    return None


def _put(pairs: Pairs[Value], key: str, value: Value | None) -> Pairs[Value]:
    rest = [pair for pair in pairs if pair[0] != key]
    return tuple(sorted([*rest, (key, value)], key=lambda pair: pair[0])) if value is not None else tuple(rest)


def _with_claim(store: Store, address: str, claim: Claim | None) -> Store:
    return Store(_put(store.claims, address, claim), store.accounts)


def _with_account(store: Store, user: str, account: Account | None) -> Store:
    return Store(store.claims, _put(store.accounts, user, account))


def _same(there: Claim | None, read: Claim | None, rules: Rules) -> bool:
    if there is None or read is None:
        return False
    return there == read if rules.full_compare else there.user == read.user


def _without_claim(store: Store, address: str, read: Claim | None, rules: Rules) -> Store:
    return _with_claim(store, address, None) if _same(_get(store.claims, address), read, rules) else store
