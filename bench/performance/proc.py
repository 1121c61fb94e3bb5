"""What Linux tells of processes: whose processor time it was, and whose memory it is."""

import contextlib
import os
import resource
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import attrs

TICK: Final = os.sysconf("SC_CLK_TCK")
PAGE_MIB: Final = os.sysconf("SC_PAGE_SIZE") / 2**20
PROC: Final = Path("/proc")


@attrs.frozen
class Process:
    """A process at one moment. Its seconds include those of children that have ended and been waited for."""

    pid: int
    parent: int
    session: int
    seconds: float


def parse_stat(text: str) -> Process:
    """Read what is in `/proc/PID/stat`, where the name in parentheses may hold anything, parentheses included."""
    pid = int(text.split(" ", 1)[0])
    fields = text.rpartition(")")[2].split()
    return Process(pid=pid, parent=int(fields[1]), session=int(fields[3]), seconds=sum(map(int, fields[11:15])) / TICK)


def parse_busy(text: str) -> float:
    """Return the seconds for which all cores were kept from us or others, out of the first line of `/proc/stat`.

    What the hypervisor stole counts: it slows a run as much as another process does.
    """
    name, *fields = text.partition("\n")[0].split()
    if name != "cpu":
        raise ValueError(text)
    user, nice, system, _, _, interrupts, soft_interrupts, stolen = map(int, fields[:8])
    return (user + nice + system + interrupts + soft_interrupts + stolen) / TICK


def parse_proportional(text: str) -> float:
    """Return the MiB in `/proc/PID/smaps_rollup`, where a page that n processes share is an nth for each."""
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


def processes() -> Iterator[Process]:
    for entry in os.scandir(PROC):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has just ended
                yield parse_stat((PROC / entry.name / "stat").read_text())


def session_seconds(session: int) -> float:
    """Return the processor time of a service: of all processes of the session that it was started in."""
    return sum(each.seconds for each in processes() if each.session == session)


def resident(session: int) -> float:
    """Return the MiB that a service has in memory. What its processes share is counted for each of them."""
    return sum(int(text.split()[1]) for text in _read(session, "statm")) * PAGE_MIB


def proportional(session: int) -> float:
    """Return the MiB that a service has in memory, with what its processes share counted once."""
    return sum(parse_proportional(text) for text in _read(session, "smaps_rollup"))


def _read(session: int, name: str) -> Iterator[str]:
    for each in processes():
        if each.session == session:
            with contextlib.suppress(OSError):  # it has just ended
                yield (PROC / str(each.pid) / name).read_text()


def descendants(ancestor: int, all_processes: Iterable[Process]) -> Iterator[Process]:
    children = defaultdict(list)
    for each in all_processes:
        children[each.parent].append(each)
    todo = [ancestor]
    while todo:
        for child in children[todo.pop()]:
            yield child
            todo.append(child.pid)


class Foreign:
    """How many cores were busy with what is not ours since this was made: not this process and nothing it started."""

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.perf_counter(), _busy(), _own()

    def cores(self) -> float:
        others = (_busy() - self._busy) - (_own() - self._own)
        return max(0.0, others / (time.perf_counter() - self._began))


def _busy() -> float:
    return parse_busy((PROC / "stat").read_text())


def _own() -> float:
    ended = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    living = descendants(os.getpid(), processes())
    return sum(each.ru_utime + each.ru_stime for each in ended) + sum(each.seconds for each in living)
