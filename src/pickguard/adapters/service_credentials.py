"""Credentials of services in a file, which is read again when it has changed."""

import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pickguard.domain.model.service_credentials import ServiceCredentials

logger = logging.getLogger("pickguard.services")

LOOK_SECONDS: Final = 1.0
"""How long a change of the file may go unseen."""
MAX_BYTES: Final = 1024 * 1024
"""A line has less than 150 bytes, so this is enough for thousands of services. More than this is another file."""


def read_service_credentials(path: Path) -> ServiceCredentials:
    """Read a file of credentials. Raises `ValueError` that says in one line what is wrong with it."""
    return _read(path)[0]


def _read(path: Path) -> tuple[ServiceCredentials, tuple[int, ...]]:
    try:
        # Looked at before it is read: what changes meanwhile is seen the next time. A pipe would never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(f"{path} is no file")
        with path.open("rb") as file:
            mark = _mark(os.fstat(file.fileno()))
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path} is larger than any file of credentials")
    try:
        return ServiceCredentials.parse(content.decode()), mark
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _mark(found: os.stat_result) -> tuple[int, ...]:
    """Return what is another for another content, as far as the file system tells."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class ServiceCredentialFile:
    """A `ServiceCredentialSource` in a file. A change counts within a second, and no signal is needed for it.

    Where the file has become unreadable or wrong, the log says so once, and what was known before holds: a slip of the hand
    must not shut out every service. To take a credential back, look that the log does not complain.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Raise `ValueError` where the file cannot be used."""
        self._path = path
        self._clock = clock
        self._known, self._mark = _read(path)
        self._look_at = clock() + LOOK_SECONDS
        if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            logger.warning("others than its owner can write %s, and thereby let services in: chmod go-w", path)

    def current(self) -> ServiceCredentials:
        """See `ServiceCredentialSource.current`."""
        now = self._clock()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._look()
        return self._known

    def _look(self) -> None:
        try:
            mark = _mark(self._path.stat())
        except OSError:
            mark = ()
        if mark == self._mark:
            return
        self._mark = mark  # whatever comes of it: a fault is told once
        try:
            self._known, self._mark = _read(self._path)
        except ValueError as error:
            logger.error("the credentials of services were not read again, and those before hold: %s", error)  # noqa: TRY400 (says it all)
        else:
            logger.info("the credentials of services were read again: %d", len(self._known.known))
