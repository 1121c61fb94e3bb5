"""Credentials of services in a file, which is read again when it has changed."""

import logging
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pickguard.adapters.files.watching import WatchedFiles, raise_unless_file
from pickguard.domain.model.service_credentials import ServiceCredentials

logger = logging.getLogger("pickguard.services")

MAX_BYTES: Final = 1024 * 1024
"""A line has less than 150 bytes, so this is enough for thousands of services. More than this is another file."""


def read_service_credentials(path: Path) -> ServiceCredentials:
    """Read a file of credentials. Raises `ValueError` that says in one line what is wrong with it."""
    try:
        raise_unless_file(path)
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path} is larger than any file of credentials")
    try:
        return ServiceCredentials.parse(content.decode())
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


class ServiceCredentialFile:
    """A `ServiceCredentialSource` in a file, which is watched as `WatchedFiles` says.

    To take a credential back, look that the log does not complain.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Raise `ValueError` where the file cannot be used."""
        self._watched = WatchedFiles(
            [path],
            lambda: read_service_credentials(path),
            renewed=lambda found: logger.info("the credentials of services were read again: %d", len(found.known)),
            failed=lambda error: logger.error(
                "the credentials of services were not read again, and those before hold: %s", error
            ),
            clock=clock,
        )
        if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            logger.warning("others than its owner can write %s, and thereby let services in: chmod go-w", path)

    def current(self) -> ServiceCredentials:
        """See `ServiceCredentialSource.current`."""
        return self._watched.current()
