"""The socket at which operators are listened to."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pickguard.entrypoints.admin.address import AdminAddress

BACKLOG: Final = 64
_OWNER_ALONE: Final = 0o177
"""What is taken from the permissions of a new socket, so that only its owner can connect."""


class AdminListeningError(Exception):
    """The address cannot be had. The message is one line for a person."""


@contextmanager
def listening(address: AdminAddress) -> Generator[socket.socket]:
    """Yield a socket that listens, for as long as the context lasts. Raises `AdminListeningError`."""
    if address.path is None:
        with _open_port(address) as made:
            yield made
        return
    with _open_path(address.path) as made:
        identity = _identity(address.path)
        try:
            yield made
        finally:
            # It may be another's by now, who took it for stale.
            if _identity(address.path) == identity:
                with contextlib.suppress(FileNotFoundError):
                    address.path.unlink()


def _open_port(address: AdminAddress) -> socket.socket:
    try:
        family, _, _, _, found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise AdminListeningError(f"--admin-listen {address.host}: there is no such address") from None
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(found)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            raise AdminListeningError(
                f"--admin-listen: {address.host} port {address.port} is in use by another program; choose another port"
            ) from None
        raise AdminListeningError(
            f"--admin-listen: {address.host} port {address.port} cannot be opened: {error.strerror}"
        ) from None
    made.setblocking(False)
    return made


def _open_path(path: Path) -> socket.socket:
    _remove_stale(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(_OWNER_ALONE)
    try:
        made.bind(str(path))
    except OSError as error:
        made.close()
        raise AdminListeningError(f"--admin-listen: the socket {path} cannot be made: {error.strerror}") from None
    finally:
        os.umask(before)
    made.listen(BACKLOG)
    made.setblocking(False)
    return made


def _remove_stale(path: Path) -> None:
    """Remove a socket that a service left behind. Raises `AdminListeningError` where it is in use, or anything else."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return  # there is nothing, or binding will say what is wrong
    if not is_socket:
        raise AdminListeningError(f"--admin-listen: {path} is there already and no socket; choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # Who listens and accepts nobody is there all the same, and would keep this waiting.
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            pass
        except ConnectionRefusedError:
            with contextlib.suppress(OSError):
                path.unlink()
            return
        except OSError as error:
            raise AdminListeningError(f"--admin-listen: the socket {path} cannot be used: {error.strerror}") from None
    raise AdminListeningError(f"--admin-listen: the socket {path} is in use by another program; choose another path")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
