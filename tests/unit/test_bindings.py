"""What the doctor says about the compiled part of Argon2."""

import re
from importlib.metadata import PackageNotFoundError
from typing import NoReturn

import attrs
import pytest

from pickguard.adapters.argon2 import bindings
from pickguard.adapters.argon2.bindings import examine_bindings
from pickguard.ports.checkup import Verdict

PUBLISHED = "Wheel-Version: 1.0\nTag: cp310-abi3-manylinux_2_26_x86_64\nTag: cp310-abi3-manylinux_2_28_x86_64\n"
FROM_SOURCE = "Wheel-Version: 1.0\nTag: cp310-abi3-linux_x86_64\n"
# As GCC writes them, which resolves -march=native, and as Clang does.
FLAGS = b"\0GNU C17 12.2.0 -march=x86-64 -march=znver3 -mavx2 --param=l1-cache-size=32 -O3 -fPIC\0"
OTHER_FLAGS = b"\0/usr/bin/clang -O3 -march=x86-64-v3 -c core.c\0"
NONE = b"\x7fELF and code that has no -march in it"


@attrs.frozen
class Installed:
    wheel: str | None

    def read_text(self, name: str) -> str | None:
        assert name == "WHEEL"
        return self.wheel


@pytest.mark.parametrize(
    ("library", "wheel", "found", "is_advised"),
    [
        (FLAGS, FROM_SOURCE, "Argon2 is built for znver3, by the flags in its library.", False),
        (OTHER_FLAGS, FROM_SOURCE, "Argon2 is built for x86-64-v3, by the flags in its library.", False),
        (FLAGS, None, "Argon2 is built for znver3, by the flags in its library.", False),
        (NONE, PUBLISHED, "Argon2 is the published build, for any processor of its family.", True),
        (
            NONE,
            PUBLISHED.replace("manylinux", "musllinux"),
            "Argon2 is the published build, for any processor of its family.",
            True,
        ),
        (NONE, FROM_SOURCE, "Argon2 was built from source, with flags that its library does not tell.", True),
        (NONE, None, "Argon2 does not tell how it was built.", True),
        (b"", "Tag: cp310-abi3-macosx_11_0_arm64\n", "Argon2 does not tell how it was built.", True),
    ],
)
def test_a_build_is_known_by_its_flags_else_by_its_tag(
    library: bytes, wheel: str | None, found: str, *, is_advised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bindings, "_library", lambda: library)
    monkeypatch.setattr(bindings, "distribution", lambda _: Installed(wheel))
    finding = examine_bindings()
    assert (finding.id, finding.verdict, finding.durability) == ("argon2", Verdict.OK, False)
    assert re.fullmatch(rf"{re.escape(found)} One verification takes \d+\.\d ms of processor time\.", finding.found)
    assert bool(finding.advice) is is_advised


def test_bindings_that_no_installer_has_noted_are_examined_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> NoReturn:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(bindings, "distribution", fail)
    monkeypatch.setattr(bindings, "find_spec", lambda _: None)
    assert examine_bindings().found.startswith("Argon2 does not tell how it was built.")


def test_the_bindings_that_run_here_are_examined() -> None:
    assert bindings._library()[:4] in {b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"}
    assert bindings._platforms()
    assert examine_bindings().where == "this machine"
