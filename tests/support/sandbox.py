"""The sandbox of a systemd unit, as far as a process can put itself into it without systemd.

``python -m tests.support.sandbox UNIT PROGRAM …`` runs a program with the unit's filter of system calls, without memory that
can be written and executed, without a way to more rights, and with its limit of open files. The groups of system calls are
those that systemd knows, and the filter is made by the library that systemd uses.
"""

import ctypes
import errno
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EPERM
_SET_NO_NEW_PRIVILEGES: Final = 38
_SET_MDWE: Final = 65
_MDWE_REFUSE_EXEC_GAIN: Final = 1


def values(unit: str, name: str) -> list[str]:
    """Return what a unit assigns to a name, in order."""
    return re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)


def value(unit: str, name: str) -> str:
    """Return the one thing that a unit assigns to a name."""
    (found,) = values(unit, name)
    return found


def allowed_calls(unit: str) -> set[str]:
    """Return the system calls that the lines of a unit leave, read from the first to the last."""
    allowed = set(_expand("@default"))  # what systemd adds to every list of what is allowed
    for line in values(unit, "SystemCallFilter"):
        names = {name for word in line.removeprefix("~").split() for name in _expand(word)}
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed


def _expand(word: str) -> Iterator[str]:
    if not word.startswith("@"):
        yield word
        return
    listed = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", word], check=True, capture_output=True, text=True
    )
    for line in listed.stdout.splitlines()[1:]:
        each = line.strip()
        if each and not each.startswith("#"):
            yield from _expand(each)


def enter(unit: str) -> None:
    """Put this process into the sandbox, for good."""
    allowed = allowed_calls(unit)
    limit = int(value(unit, "LimitNOFILE"))
    limit = min(limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1])  # not every test may raise its own
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    os.umask(int(value(unit, "UMask"), 8))
    system = ctypes.CDLL(None, use_errno=True)
    if system.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no new privileges")
    if value(unit, "MemoryDenyWriteExecute") == "yes" and system.prctl(_SET_MDWE, _MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        if number != errno.EINVAL:  # Linux before 6.3
            raise OSError(number, "MDWE")
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(_REFUSE)))
    for name in allowed:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # others are those of other processors
            assert seccomp.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), number, 0) == 0, name
    assert seccomp.seccomp_load(context) == 0


if __name__ == "__main__":
    enter(Path(sys.argv[1]).read_text())
    os.execvp(sys.argv[2], sys.argv[2:])
