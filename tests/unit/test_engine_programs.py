"""Which servers tests run on is said by the environment, and by nothing that is easily mistaken."""

from pathlib import Path

import pytest

from tests.support.engines import VARIABLE, programs


def test_the_packaged_server_and_an_installed_one_are_the_rule() -> None:
    assert programs({}, redis_server="/usr/bin/redis-server") == {"valkey": None, "redis": Path("/usr/bin/redis-server")}
    assert programs({VARIABLE: ""}, redis_server=None) == {"valkey": None}


def test_ci_does_without_none() -> None:
    with pytest.raises(RuntimeError, match="redis-server"):
        programs({"CI": "true"}, redis_server=None)


def test_named_programs_take_the_place_of_the_rule(tmp_path: Path) -> None:
    old, new = program(tmp_path / "old"), program(tmp_path / "new")
    named = {VARIABLE: f"redis-6.2.5={old}, valkey-9.1.2={new}"}
    assert programs(named, redis_server="/usr/bin/redis-server") == {"redis-6.2.5": old, "valkey-9.1.2": new}
    assert programs({**named, "CI": "true"}, redis_server=None) == {"redis-6.2.5": old, "valkey-9.1.2": new}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{there}", "takes name=/path/to/program"),
        ("a={there},", "takes name=/path/to/program"),
        ("={there}", "'' is no name"),
        ("a b={there}", "'a b' is no name"),
        ("a={there},a={there}", "has a twice"),
        ("a=", "'' is not the absolute path of a program"),
        ("a=there", "'there' is not the absolute path of a program"),
        ("a={there}/gone", "gone' is not the absolute path of a program"),
        ("a={folder}", "is not the absolute path of a program"),
        ("a={text}", "is not the absolute path of a program"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    there = program(tmp_path / "there")
    no_program = tmp_path / "text"
    no_program.touch(0o600)
    given = text.format(there=there, folder=tmp_path, text=no_program)
    with pytest.raises(ValueError, match=message) as caught:
        programs({VARIABLE: given}, redis_server=None)
    assert VARIABLE in str(caught.value)


def program(path: Path) -> Path:
    path.touch(0o700)
    return path
