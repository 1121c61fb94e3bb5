"""Power cuts: what a server has written and not yet synced is gone, which after a mere kill it is not.

A process that is killed leaves what it wrote to the kernel, which still writes it to disk. With a power cut the kernel dies
too. `powercut.c` keeps account of what was synced; a cut kills the server and takes the rest of its files away. Of a file's end
that was not synced a part may have reached the disk all the same, so a cut can leave a beginning of it. That files were renamed
is taken to be on disk at once.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import attrs

from tests.support.redis_servers import Server

_SOURCE: Final = Path(__file__).with_name("powercut.c")


@attrs.frozen
class Loss:
    """What a power cut took: bytes that were written and not synced, and how many of those it left."""

    unsynced: int
    left: int


def can_be_cut(program: Path) -> bool:
    """Say whether a server's program loads libraries, and with them `powercut.c`: one that is linked statically does not."""
    traced = subprocess.run(
        [program, "--version"],
        env={**os.environ, "LD_TRACE_LOADED_OBJECTS": "1"},  # the loader, where there is one, names the libraries and ends
        capture_output=True,
        check=True,
        text=True,
    )
    return "=>" in traced.stdout


class Power:
    """The power supply of a server: give it `env`, and cut it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        library = directory / "powercut.so"
        subprocess.run(
            [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", library, _SOURCE, "-ldl"],
            check=True,
        )
        self._journal = directory / "synced"
        self.env = {"LD_PRELOAD": str(library), "PICKGUARD_SYNCED": str(self._journal)}

    def cut(self, server: Server, keep: Callable[[int], int] = lambda _: 0) -> Loss:
        """Cut the power. Of so many unsynced bytes at a file's end as many stay as `keep` says."""
        server.kill()
        assert self._synced(), "the server does not run with the power's env"
        unsynced, left = 0, 0
        for path, size in self._unsynced(server):
            kept = keep(size)
            os.truncate(path, path.stat().st_size - size + kept)
            # What is there when the power is back is on disk: it can be read and relied on, and another cut does not take it.
            about = path.stat()
            with self._journal.open("a") as journal:
                journal.write(f"{about.st_dev} {about.st_ino} {about.st_size}\n")
            unsynced += size
            left += kept
        return Loss(unsynced, left)

    def at_stake(self, server: Server) -> int:
        """Return how many bytes a cut would take now."""
        return sum(size for _, size in self._unsynced(server))

    def _unsynced(self, server: Server) -> Iterator[tuple[Path, int]]:
        synced = self._synced()
        for path in server.directory.rglob("*"):
            if path.is_file() and path.suffix not in {".log", ".conf"}:
                about = path.stat()
                yield path, max(0, about.st_size - synced.get((about.st_dev, about.st_ino), 0))

    def _synced(self) -> dict[tuple[int, int], int]:
        """Return how much of each file was synced; its last line counts."""
        found: dict[tuple[int, int], int] = {}
        if not self._journal.exists():  # nothing was synced so far
            return found
        for line in self._journal.read_text().splitlines():
            device, inode, size = map(int, line.split())
            found[device, inode] = size
        return found
