"""What is read from files, and read again when one of them has changed."""

import contextlib
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

_Content = TypeVar("_Content")

LOOK_SECONDS: Final = 1.0
"""How long a change of a file may go unseen."""


class WatchedFiles(Generic[_Content]):
    """What some files hold, all together. A change counts within a second, and no signal is needed for it.

    They are looked at when somebody asks, so nothing is told of a change before somebody does.

    Where a file has become unreadable or wrong, that is told once, and what was known before holds: a slip of the hand must not
    shut everybody out.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        read: Callable[[], _Content],
        *,
        renewed: Callable[[_Content], None],
        failed: Callable[[ValueError], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raise what `read` raises, which is to be a `ValueError` that says in one line what is wrong with a file.

        Later, `renewed` is told what was read again, and `failed` why something was not.
        """
        self._paths = tuple(paths)
        self._read = read
        self._renewed = renewed
        self._failed = failed
        self._clock = clock
        # Looked at before they are read: what changes meanwhile is seen the next time.
        self._marks = self._look()
        self._known = read()
        self._look_at = clock() + LOOK_SECONDS

    def current(self) -> _Content:
        """Return what the files hold. Does not raise."""
        now = self._clock()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._renew()
        return self._known

    def _renew(self) -> None:
        marks = self._look()
        if marks == self._marks:
            return
        self._marks = marks  # whatever comes of it: a fault is told once
        try:
            for path in self._paths:
                with contextlib.suppress(OSError):  # of what cannot be looked at, whoever reads it says why
                    raise_unless_file(path)
            self._known = self._read()
        except ValueError as error:
            self._failed(error)
        else:
            self._renewed(self._known)

    def _look(self) -> tuple[tuple[int, ...], ...]:
        return tuple(map(_mark, self._paths))


def raise_unless_file(path: Path) -> None:
    """Raise `ValueError` for what is no file, such as a pipe, which would be waited for; `OSError` as `Path.stat` does."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path} is no file")


def _mark(path: Path) -> tuple[int, ...]:
    """Return what is another for another content, as far as the file system tells."""
    try:
        found = path.stat()
    except OSError:
        return ()
    if not stat.S_ISREG(found.st_mode):
        return found.st_dev, found.st_ino
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
