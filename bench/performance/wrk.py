"""Floods of reads, by wrk."""

import json
import os
import subprocess
from pathlib import Path
from typing import Final

import attrs

from bench.performance.errors import BenchError

SCRIPT: Final = Path(__file__).with_name("wrk.lua")
TIMEOUT_SECONDS: Final = 20


@attrs.frozen(kw_only=True)
class Reads:
    """What wrk saw. Times are in milliseconds; `refused` are answers of 400 and above."""

    requests: int
    seconds: float
    p50: float
    p99: float
    max: float
    refused: int
    broken: int

    @property
    def served(self) -> int:
        return self.requests - self.refused


def parse(output: str) -> Reads:
    """Find the line of JSON among what wrk prints by itself."""
    for line in output.splitlines():
        if line.startswith("{"):
            return Reads(**json.loads(line))
    raise BenchError(f"wrk says nothing of what it did: {output.strip() or 'it printed nothing'}")


@attrs.frozen(kw_only=True)
class Flood:
    """Reads of one resource, each sent when the answer before has come, on so many connections."""

    url: str
    header: str
    values: Path
    connections: int

    def run(self, seconds: float, *, core: int) -> Reads:
        command = [
            *("taskset", "-c", str(core), "wrk", "--threads", "1", "--connections", str(self.connections)),
            *("--duration", f"{max(1, round(seconds))}s", "--timeout", f"{TIMEOUT_SECONDS}s"),
            *("--script", str(SCRIPT), self.url),
        ]
        environment = {**os.environ, "HEADER_NAME": self.header, "HEADER_VALUES": str(self.values)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"wrk failed: {(done.stderr or done.stdout).strip()}")
        return parse(done.stdout)
