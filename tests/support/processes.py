"""Programs run as a person would run them: in an environment of their own, found ready by what they say, ended by SIGTERM."""

import os
import re
import subprocess
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import attrs

PATIENCE: Final = 60.0
"""Seconds until a test gives up on a program. Nothing waits this long unless it fails."""

_READY = re.compile(r"Pickguard is ready at (https?://\S+)")


@attrs.frozen(kw_only=True)
class Served:
    """A running `pickguard serve`: where it is, and all that it said until it was ready."""

    url: str
    announcement: str

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port


@contextmanager
def serving(command: Sequence[str], environment: Mapping[str, str], directory: Path) -> Generator[Served]:
    """Run a command that ends in `pickguard serve`, with nothing in its environment but what is given.

    It must announce itself, and end with status 0 once it is told to stop.
    """
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "stderr.log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command,
            env=dict(environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            lines: list[str] = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith("Stop with"):
                    break
            announcement = "".join(lines)
            ready = _READY.search(announcement)
            assert ready, f"it did not start: {announcement}{log.read_text()}"
            yield Served(url=ready[1], announcement=announcement)
            process.terminate()
            status = process.wait(PATIENCE)
            assert status == 0, f"it ended with status {status}: {log.read_text()}"
        finally:
            watchdog.cancel()
            if process.poll() is None:
                process.kill()


def run(command: Sequence[str], *, directory: Path, patience: float = PATIENCE, **more: str) -> str:
    """Run a program to its end, which must be a good one, and return what it printed. `more` is added to the environment."""
    done = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
    assert done.returncode == 0, f"{list(command)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout
