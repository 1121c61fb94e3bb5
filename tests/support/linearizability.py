"""Whether a concurrent history could have come from an object that does one thing at a time (Herlihy and Wing 1990).

An operation takes effect at one moment between its invocation and its return, so the question is whether there is an order of
the operations, each before all that were invoked after its return, in which every answer is what a sequential model gives. The
search is that of Wing and Gong (1993), with the memory that Lowe (2017) added: where the same operations have led to the same
state once before, there is nothing new to be found. Porcupine and Knossos, which are not for Python, search in the same way.

An operation whose outcome nobody knows may take effect at any moment after its invocation, or never.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Final, Generic, Literal, Protocol, TypeVar

import attrs

LIMIT: Final = 200_000
"""How many points a search may come to before it gives up."""

State = TypeVar("State", bound=Hashable)
Action = TypeVar("Action")
Action_contra = TypeVar("Action_contra", contravariant=True)


@attrs.frozen(kw_only=True)
class Operation(Generic[Action]):
    """What one client did. Moments are numbers that grow, and no two events of a history have the same."""

    client: str
    action: Action
    """What was asked and what was answered, in the model's terms and, as a text, in those of a person."""
    invoked: int
    returned: int | None
    """None where nobody knows whether it happened."""


class Model(Protocol[State, Action_contra]):
    """The object, one operation at a time."""

    @property
    def initial(self) -> State:
        """The state before all operations."""

    def step(self, state: State, action: Action_contra) -> Iterable[State]:
        """Return the states that the action can lead to, with the answer that it got: none where that answer is wrong.

        For an action of unknown outcome, the states in which it has happened.
        """

    def may_change(self, action: Action_contra) -> bool:
        """Tell whether there is a state that the action, with this answer, changes.

        An action that only sees may make the state known in more detail, if all that can follow could have followed before.
        """


@attrs.frozen(kw_only=True)
class Verdict(Generic[State, Action]):
    """What a search has found. Its text is a report for a person."""

    outcome: Literal["linearizable", "violation", "undecided"]
    operations: Sequence[Operation[Action]]
    order: Sequence[int]
    """Which operations, by their index, have found a place, in order: all that have returned, or as many as possible."""
    state: State
    """The state after them."""
    stuck: Sequence[int]
    """Those that returned and of which, in real time, one had to be the next."""
    explored: int

    @property
    def linearizable(self) -> bool:
        """Whether an order was found. A search that was given up has found none."""
        return self.outcome == "linearizable"

    def __str__(self) -> str:
        returned = sum(each.returned is not None for each in self.operations)
        placed = sum(self.operations[index].returned is not None for index in self.order)
        head = {
            "linearizable": f"linearizable: {placed} operations have a place",
            "violation": f"NOT linearizable: of {returned} operations, no more than {placed} can have a place",
            "undecided": f"UNDECIDED: given up at {self.explored} points; of {returned} operations, {placed} had a place",
        }
        lines = [head[self.outcome]]
        if not self.linearizable:
            lines += ["Numbers are places in that order. One of those marked ! had to be the next, and none can be.", ""]
            lines += self._timeline()
            lines += ["", f"State after place {len(self.order)}: {self.state}"]
        return "\n".join(lines)

    def _timeline(self, width: int = 48, context: int = 16) -> Iterator[str]:
        """Show what came just before, what is stuck, and what went on at the same time."""
        places = {index: str(place) for place, index in enumerate(self.order, 1)}
        places.update((index, "!") for index in self.stuck)
        until = max((_returned(self.operations[index]) for index in self.stuck), default=math.inf)
        left = [index for index, each in enumerate(self.operations) if index not in places and each.invoked <= until]
        shown = {index: self.operations[index] for index in sorted({*self.order[-context:], *self.stuck, *left[:context]})}
        moments = sorted({at for each in shown.values() for at in (each.invoked, each.returned) if at is not None})
        column = {moment: round(number * (width - 1) / len(moments)) for number, moment in enumerate(moments)}
        for index, each in shown.items():
            start, end = column[each.invoked], width if each.returned is None else column[each.returned]
            bar = "|" + "-" * (end - start - 1) + ("?" if each.returned is None else "|")
            yield f"{places.get(index, ''):>4}  {each.client:6} {' ' * start}{bar:{width + 2 - start}} {each.action}".rstrip()
        yield f"      ({len(self.operations) - len(shown)} others are not shown)"


Path = tuple["Path", int] | None


def check(history: Iterable[Operation[Action]], model: Model[State, Action], *, limit: int = LIMIT) -> Verdict[State, Action]:
    """Look for an order in which the model gives every answer of the history.

    A search that comes to more than `limit` points ends undecided.
    """
    operations = sorted(
        (each for each in history if each.returned is not None or model.may_change(each.action)), key=lambda each: each.invoked
    )
    steady = [not model.may_change(each.action) for each in operations]
    required = sum(1 << index for index, each in enumerate(operations) if each.returned is not None)
    seen: set[tuple[int, State]] = set()
    explored = 0
    best: tuple[int, Path, int, State] = (-1, None, 0, model.initial)
    todo: list[tuple[int, State, Path]] = [(0, model.initial, None)]

    def verdict(outcome: Literal["linearizable", "violation", "undecided"]) -> Verdict[State, Action]:
        _, path, done, state = best
        return Verdict(
            outcome=outcome,
            operations=operations,
            order=_unwind(path),
            state=state,
            stuck=[] if outcome == "linearizable" else [i for i in _next(operations, done) if required >> i & 1],
            explored=explored,
        )

    while todo:
        done, state, path = todo.pop()
        # What only sees, and sees this very state, can have its place here: putting it off would open no other way.
        while True:
            candidates = _next(operations, done)
            settled = [i for i in candidates if steady[i] and list(model.step(state, operations[i].action)) == [state]]
            if not settled:
                break
            for index in settled:
                done, path = done | 1 << index, (path, index)
        if (done, state) in seen:
            continue
        seen.add((done, state))
        explored += 1
        placed = (done & required).bit_count()
        if placed > best[0]:
            best = (placed, path, done, state)
        if done & required == required:
            return verdict("linearizable")
        if explored > limit:
            return verdict("undecided")
        # The last of these is tried first: the one that returned first. Those that may never have happened come last.
        candidates.sort(key=lambda index: _returned(operations[index]), reverse=True)
        todo += [
            (done | 1 << index, following, (path, index))
            for index in candidates
            for following in model.step(state, operations[index].action)
        ]
    return verdict("violation")


def partition(
    history: Iterable[Operation[Action]], keys: Callable[[Action], Iterable[Hashable]]
) -> list[list[Operation[Action]]]:
    """Split a history into parts that have no key in common, not even by way of others.

    Where a model's state is made of independent pieces, and `keys` names all pieces that an action touches, a history is
    linearizable if and only if each part is (Herlihy and Wing call it locality).
    """
    parts: list[tuple[set[Hashable], list[Operation[Action]]]] = []
    for operation in history:
        touched, together = set(keys(operation.action)), [operation]
        apart = []
        for part in parts:
            if touched.isdisjoint(part[0]):
                apart.append(part)
            else:
                touched |= part[0]
                together = part[1] + together
        parts = [*apart, (touched, together)]
    return [operations for _, operations in parts]


def _next(operations: Sequence[Operation[Action]], done: int) -> list[int]:
    """Return which operations can be the next: those invoked before any other that is left has returned."""
    found = []
    horizon: float = math.inf
    first = (~done & (done + 1)).bit_length() - 1
    for index in range(first, len(operations)):
        operation = operations[index]
        if operation.invoked > horizon:
            break
        if not done >> index & 1:
            found.append(index)
            horizon = min(horizon, _returned(operation))
    return found


def _returned(operation: Operation[Action]) -> float:
    return math.inf if operation.returned is None else operation.returned


def _unwind(path: Path) -> list[int]:
    order = []
    while path is not None:
        path, index = path
        order.append(index)
    return order[::-1]
