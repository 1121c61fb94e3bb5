"""What stands in front of an adapter and watches how it does: the same port, and nothing of its own."""

import inspect
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar, cast

Port = TypeVar("Port")

Call = Callable[..., Coroutine[Any, Any, Any]]
"""A method of a port that takes its time."""


class Watch(Protocol):
    """Watches the calls of one port."""

    def around(self, operation: str, call: Call) -> Call:
        """Return what does what a method does, and is watched while it does."""


def operations_of(port: object) -> tuple[str, ...]:
    """Return the names of a port's methods that take their time, in order: its coroutines."""
    return tuple(name for name, member in vars(port).items() if inspect.iscoroutinefunction(member))


def observed(target: Port, *, port: object, watches: Sequence[Watch]) -> Port:
    """Return what does what `target` does, with each call of the port's coroutines watched, by the first watch outermost.

    All else is the target's own. Whichever methods a port has, they are watched, so it need not be listed here what it has.
    """
    if not watches:
        return target
    return cast("Port", _Observed(target, operations_of(port), watches))


class _Observed:
    def __init__(self, target: object, operations: Sequence[str], watches: Sequence[Watch]) -> None:
        self._target = target
        for name in operations:
            call: Call = getattr(target, name)
            for watch in reversed(watches):
                call = watch.around(name, call)
            setattr(self, name, call)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)
