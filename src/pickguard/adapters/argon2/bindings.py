"""How the compiled part of Argon2 was built, and how fast it is here."""

import re
import time
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import argon2

from pickguard.adapters.argon2.hasher import Argon2Parameters
from pickguard.ports.checkup import Finding, Verdict

_PACKAGE: Final = "argon2-cffi-bindings"
_TIMES: Final = 3


def examine_bindings() -> Finding:
    """Say how the bindings were built and what one verification at the default cost takes.

    What they are built for is read in the library itself, where the compiler left its flags; a file beside it could be of
    another build. Where it left none, the tag of the wheel tells a published build from one made from source.
    """
    architecture = _architecture(_library())
    found = _built(architecture, _platforms())
    return Finding(
        id="argon2",
        where="this machine",
        verdict=Verdict.OK,
        found=f"{found} One verification takes {_seconds_each() * 1000:.1f} ms of processor time.",
        advice=_advice(architecture),
        durability=False,
    )


def _built(architecture: str | None, platforms: frozenset[str]) -> str:
    if architecture is not None:
        return f"Argon2 is built for {architecture}, by the flags in its library."
    if any(platform.startswith(("manylinux", "musllinux")) for platform in platforms):
        return "Argon2 is the published build, for any processor of its family."
    if any(platform.startswith("linux") for platform in platforms):
        return "Argon2 was built from source, with flags that its library does not tell."
    return "Argon2 does not tell how it was built."


def _advice(architecture: str | None) -> str:
    if architecture is not None:
        return ""
    return "Where log-ins are many, build it for the processor (make native, or ARGON2_CFLAGS of the Dockerfile)."


def _architecture(library: bytes) -> str | None:
    """Return the last -march among the flags that GCC or Clang recorded (-frecord-gcc-switches)."""
    found = re.findall(rb"(?<=-march=)[a-z0-9._+-]+", library)
    return found[-1].decode() if found else None


def _library() -> bytes:
    """Return the library that is loaded when Argon2 is; nothing where it is no file."""
    spec = find_spec("_argon2_cffi_bindings._ffi")
    return Path(spec.origin).read_bytes() if spec and spec.origin else b""


def _platforms() -> frozenset[str]:
    """Return the platforms in the tags of the wheel (PEP 425); none where it was installed in another way."""
    try:
        wheel = distribution(_PACKAGE).read_text("WHEEL") or ""
    except PackageNotFoundError:
        wheel = ""
    return frozenset(re.findall(r"^Tag: [^-\n]+-[^-\n]+-(\S+)$", wheel, re.MULTILINE))


def _seconds_each() -> float:
    """Return what the quickest of a few verifications took. Time that others had the processor does not count."""
    parameters = Argon2Parameters()
    hasher = argon2.PasswordHasher(
        time_cost=parameters.time_cost, memory_cost=parameters.memory_kib, parallelism=parameters.parallelism
    )
    stored = hasher.hash("")

    def verify() -> float:
        began = time.thread_time()
        hasher.verify(stored, "")
        return time.thread_time() - began

    return min(verify() for _ in range(_TIMES))
