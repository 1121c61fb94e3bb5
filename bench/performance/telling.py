"""Lines that tell a person how far it is."""

import sys
import time
from typing import Final

BEGAN: Final = time.monotonic()


def say(line: str) -> None:
    """Write a line to standard error, with the minutes and seconds since the start."""
    minutes, seconds = divmod(int(time.monotonic() - BEGAN), 60)
    sys.stderr.write(f"{minutes:3}:{seconds:02}  {line}\n")
    sys.stderr.flush()
