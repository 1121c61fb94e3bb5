"""The commands for operators as they are run: on a store of their own, in a terminal and by programs."""

import asyncio
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from click.testing import CliRunner

from pickguard.adapters.engine import Engine
from pickguard.entrypoints.cli import COMMANDS, cli
from pickguard.entrypoints.commands.importing import BATCH, progress_of, report_of
from pickguard.entrypoints.commands.users import command as users
from pickguard.entrypoints.settings import options
from tests.support.engines import PROGRAMS
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD
from tests.support.serving import clean_environment, ended, engine_of, run_to_end, serving, until_gone

ADA: Final = "ada@example.com"
HASH: Final = "$2b$04$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG"
"""Of GOOD_PASSWORD."""
PATIENCE: Final = 60.0


class Seen:
    """How a command ended, and what it said."""

    def __init__(self, status: int, output: str, errors: str) -> None:
        self.status, self.output, self.errors = status, output, errors
        assert "Traceback" not in output + errors
        assert HASH not in errors

    @property
    def document(self) -> Any:
        return json.loads(self.output)

    @property
    def documents(self) -> list[Any]:
        return [json.loads(line) for line in self.output.splitlines()]

    @property
    def line(self) -> str:
        """The one line that says what is wrong."""
        assert self.output == ""
        (line,) = self.errors.splitlines()
        assert line.startswith("pickguard: ")
        return line


Run = Callable[..., Seen]


@pytest.fixture
def store(engines: Callable[[str], Engine]) -> str:
    """An empty store, named by its URL."""
    engine = engines(next(iter(PROGRAMS)))
    with redis.Redis(unix_socket_path=str(engine.socket_path)) as client:
        client.flushall()
    return engine.url


@pytest.fixture
def run(store: str) -> Run:
    """Runs a command on the store, in this process."""

    def run(*args: str | Path, given: str | None = None, **environment: str) -> Seen:
        cleared = {each.variable: None for each in options()}
        settings = {"PICKGUARD_STORE": store, "COLUMNS": "80", **environment}
        outcome = CliRunner(env={**cleared, **settings}).invoke(
            cli, [str(each) for each in args], input=given, catch_exceptions=False
        )
        return Seen(outcome.exit_code, outcome.stdout, outcome.stderr)

    return run


def create(run: Run, email: str = ADA, *more: str, name: str = "Ada Lovelace") -> dict[str, Any]:
    seen = run(
        "users", "create", "--email", email, "--name", name, "--password-stdin", "--json", *more, given=f"{GOOD_PASSWORD}\n"
    )
    assert seen.status == 0, seen.errors
    document: dict[str, Any] = seen.document
    return document


def user(number: int, **more: object) -> str:
    return json.dumps({"name": f"User {number}", "email": f"user{number}@example.com", "password_hash": HASH, **more})


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


# One account.


def test_an_account_is_made_shown_and_deleted(run: Run) -> None:
    made = create(run, ADA, "--verified")
    assert (made["name"], made["email"], made["email_verified"], made["disabled"]) == ("Ada Lovelace", ADA, True, False)
    by_address, by_id = run("users", "show", "ADA@example.com", "--json"), run("users", "show", made["id"], "--json")
    assert by_address.document == by_id.document
    assert by_address.document["user"] == made
    assert by_address.document["obstacles"] == by_address.document["sessions"] == []
    assert [each["kind"] for each in by_address.document["activity"]] == ["registered"]
    shown = run("users", "show", ADA).output
    assert "A log-in with the right password succeeds." in shown
    assert not [line for line in shown.splitlines() if line.endswith(" ")]
    seen = run("users", "delete", ADA, "--yes")
    assert (seen.status, seen.output, seen.errors) == (0, "ada@example.com is deleted\n", "")
    assert run("users", "show", ADA).line == "pickguard: nobody has the address ada@example.com"
    assert run("users", "show", made["id"]).line == f"pickguard: nobody has the id {made['id']}"


def test_an_account_is_disabled_and_enabled(run: Run) -> None:
    create(run)
    seen = run("users", "disable", ADA)
    assert (seen.status, seen.output) == (0, "ada@example.com is disabled; no session ended\n")
    shown = run("users", "show", ADA)
    assert "A log-in fails, also with the right password:" in shown.output
    assert run("users", "show", ADA, "--json").document["obstacles"] == ["disabled"]
    assert run("users", "enable", ADA, "--json").document["disabled"] is False
    assert run("users", "show", ADA, "--json").document["obstacles"] == []


def test_an_account_that_its_user_has_deleted_is_restored(run: Run, tmp_path: Path) -> None:
    file = written(tmp_path / "users.ndjson", user(1, deletes_at="2999-01-01T00:00:00Z"))
    assert run("import", file).status == 0
    deleted = "user1@example.com"
    assert run("users", "show", deleted, "--json").document["obstacles"] == ["deleted"]
    assert "pickguard users restore" in run("users", "show", deleted).output
    assert json.loads(run("export").output)["deletes_at"] == "2999-01-01T00:00:00.000Z"
    assert run("users", "restore", deleted).output == "user1@example.com is restored\n"
    assert run("users", "restore", deleted).output == "user1@example.com had not been deleted\n"
    assert run("users", "show", deleted, "--json").document["obstacles"] == []
    assert run("users", "list", "--json").documents[0]["deletes_at"] is None


def test_it_is_shown_that_an_address_has_to_be_verified_where_the_service_is_private(run: Run) -> None:
    create(run)
    private = {"PICKGUARD_REGISTRATION": "private", "PICKGUARD_MAIL": "console:"}
    assert run("users", "show", ADA, "--json", **private).document["obstacles"] == ["unverified"]
    assert run("users", "show", ADA, "--json").document["obstacles"] == []


def test_nothing_is_destroyed_without_a_yes_or_by_a_dry_run(run: Run) -> None:
    made = create(run)
    for what in ("delete", "revoke-sessions"):
        seen = run("users", what, ADA)
        assert (seen.status, seen.line) == (
            2,
            f"pickguard: {what} asks before it does anything, and nobody can answer here: add --yes",
        )
        dry = run("users", what, ADA, "--dry-run", "--json")
        assert (dry.status, dry.document) == (
            0,
            {"dry_run": True, "would": what, "id": made["id"], "email": ADA, "sessions": 0},
        )
    assert (
        run("users", "delete", ADA, "--dry-run", "--yes").output
        == "would delete ada@example.com (Ada Lovelace) with no session\n"
    )
    assert (
        run("users", "disable", ADA, "--dry-run").output == "would disable ada@example.com (Ada Lovelace) and end no session\n"
    )
    seen = run("users", "set-password", ADA, "--dry-run")
    assert seen.output == "would set the password of ada@example.com (Ada Lovelace) and end no session\n"
    assert run("users", "show", ADA, "--json").document["user"] == made


def test_a_password_is_made_up_and_printed_once(run: Run) -> None:
    for length in ("8", "60"):
        email = f"of{length}@example.com"
        seen = run("users", "create", "--email", email, "--name", "X", "--generate", PICKGUARD_PASSWORD_MIN_LENGTH=length)
        assert seen.status == 0, seen.errors
        (password,) = re.findall(r"^Password: ([a-z2-9]{5}(?:-[a-z2-9]{5}){3,})$", seen.output, re.MULTILINE)
        assert len(password) >= int(length)
    create(run)
    other = run("users", "set-password", ADA, "--generate", "--json").document["password"]
    assert run("users", "set-password", ADA, "--generate", "--json").document["password"] != other
    assert "password" not in run("users", "show", ADA, "--json").document["user"]


def test_an_account_without_a_password_is_said_to_be(run: Run) -> None:
    seen = run("users", "create", "--email", ADA, "--name", "Ada", "--no-password")
    assert (seen.status, "Nobody knows its password" in seen.output) == (0, True)


@pytest.mark.parametrize(
    ("args", "given", "status", "says"),
    [
        ([], None, 2, "nobody can be asked"),
        (["--password-stdin", "--generate"], None, 2, "in one way only"),
        (["--password-stdin"], "", 1, "holds no password"),
        (["--password-stdin"], "one\ntwo\n", 1, "more than one line"),
        (["--password-stdin"], "short\n", 1, "at least 8 characters"),
        (["--password-stdin"], f"{ADA}\n", 1, "not made of your e-mail address"),
        (["--password-stdin"], "x" * 5000, 1, "at most 256 characters"),
        (["--password-file", "/nowhere/at/all"], None, 1, "cannot be read"),
    ],
)
def test_a_password_that_cannot_be_taken_is_refused_in_one_line(
    run: Run, args: list[str], given: str | None, status: int, says: str
) -> None:
    seen = run("users", "create", "--email", ADA, "--name", "Ada", *args, given=given)
    assert seen.status == status
    assert says in seen.line
    assert run("users", "list", "--json").output == ""


def test_a_password_comes_from_a_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(f"{OTHER_PASSWORD}\r\n".encode())
    create(run)
    assert run("users", "set-password", ADA, "--password-file", file).status == 0
    file.write_bytes(b"\xff")
    assert "not text in UTF-8" in run("users", "set-password", ADA, "--password-file", file).line


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["users", "show", "nobody@example.com"], 1, "nobody has the address"),
        (["users", "show", "019b7d1f-2a0e-7000-8000-000000000001"], 1, "nobody has the id"),
        (["users", "show", "ada"], 2, "neither the id of a user nor an e-mail address"),
        (["users", "show", "ada@"], 2, "ada@"),
        (["users", "delete", "nobody@example.com", "--yes"], 1, "nobody has the address"),
        (["users", "enable", "019b7d1f-2a0e-7000-8000-000000000001"], 1, "there is no such account"),
        (["users", "nix"], 2, "No such command 'nix'"),
        (["srve"], 2, "No such command 'srve'. Did you mean 'serve'?"),
        (["--nix"], 2, "No such option"),
        (["users", "show"], 2, "pickguard users show --help` tells what there is."),
        (["users", "list", "--limit", "0"], 2, "--limit"),
        (["import", "/nowhere/users.ndjson"], 1, "cannot be read"),
        (["export", "/nowhere/users.ndjson"], 1, "cannot be written"),
    ],
)
async def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, store: str, args: list[str], status: int, says: str) -> None:
    seen = Seen(*await run_to_end(*args, environment={"PICKGUARD_STORE": store}, cwd=tmp_path))
    assert seen.status == status
    assert says in seen.errors
    assert len([line for line in seen.errors.splitlines() if not line.startswith("pickguard: the export holds")]) == 1


@pytest.mark.parametrize(
    ("settings", "status", "says"),
    [
        ({"PICKGUARD_STORE": "memory:"}, 2, "belongs to one process"),
        ({"PICKGUARD_STORE": "redis://127.0.0.1:1"}, 1, "the store cannot be reached"),
        ({"PICKGUARD_STORE": "", "PICKGUARD_DATA_DIR": "/nowhere"}, 1, "no embedded store"),
        ({"PICKGUARD_STORE": "nonsense"}, 2, "PICKGUARD_STORE"),
    ],
)
def test_a_store_that_cannot_be_used_is_said_so(run: Run, settings: dict[str, str], status: int, says: str) -> None:
    for args in (["users", "list"], ["export"], ["users", "show", ADA]):
        seen = run(*args, **settings)
        assert seen.status == status
        assert says in seen.errors
        assert len(seen.errors.splitlines()) == 1


# Many.


def test_accounts_are_listed_for_people_and_for_programs(run: Run, tmp_path: Path) -> None:
    file = written(
        tmp_path / "users.ndjson",
        *(user(number, created_at="2019-05-06T07:08:09Z", disabled=number == 1) for number in range(3)),
        json.dumps({"name": "日本 太郎", "email": "info@bücher.example", "password_hash": HASH, "email_verified": True}),
    )
    assert run("import", file).status == 0
    head, *lines, foot = run("users", "list", "--email", "EXAMPLE.COM").output.splitlines()
    assert head == "ADDRESS               NAME          REGISTERED  LAST USED   SESSIONS  STATE"
    assert sorted(lines) == [
        "user0@example.com     User 0        2019-05-06  –                  –  unverified",
        "user1@example.com     User 1        2019-05-06  –                  –  disabled",
        "user2@example.com     User 2        2019-05-06  –                  –  unverified",
    ]
    assert foot == "3 accounts."
    documents = run("users", "list", "--json").documents
    assert {each["email"] for each in documents} == {
        *(f"user{number}@example.com" for number in range(3)),
        "info@bücher.example",
    }
    assert all(set(each) >= {"id", "name", "created_at", "sessions", "last_used_at"} for each in documents)
    for args, expected in (
        (["--disabled"], 1),
        (["--unverified"], 3),
        (["--limit", "2"], 2),
        (["--email", "xn--bcher"], 1),
        (["--email", "BÜCHER"], 1),
        (["--email", "nobody"], 0),
    ):
        assert len(run("users", "list", "--json", *args).documents) == expected


def test_what_cannot_be_read_is_named_and_is_a_status_of_its_own(run: Run, store: str, tmp_path: Path) -> None:
    made = create(run)
    create(run, "grace@example.com")
    with redis.Redis(unix_socket_path=store.removeprefix("unix://")) as client:
        client.hset(f"pg:{{{made['id']}}}", "u", b"\xff")
    for args in (["users", "list", "--json"], ["export", "--no-hashes"], ["export", tmp_path / "out"]):
        seen = run(*args)
        assert seen.status == 3
        assert f"the account {made['id']} cannot be read" in seen.errors
        assert len(seen.output.splitlines()) == (args[-1] != tmp_path / "out")


def test_what_is_exported_is_imported_as_it_was(run: Run, store: str, tmp_path: Path) -> None:
    first, second = create(run, ADA, "--verified"), create(run, "info@bücher.example", name="日本 太郎")
    run("users", "disable", ADA)
    out = tmp_path / "out.ndjson"
    seen = run("export", out)
    assert (seen.status, seen.output) == (0, "")
    assert seen.errors.splitlines()[-1] == f"pickguard: 2 accounts exported to {out}"
    assert "keep it as safe as the store" in seen.errors
    assert out.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["out.ndjson"]
    assert run("export", out).line == f"pickguard: {out} is there already: add --force to write over it"
    exported = out.read_bytes()
    assert run("export", out, "--force").status == 0
    assert sorted(out.read_bytes().splitlines()) == sorted(exported.splitlines())
    with redis.Redis(unix_socket_path=store.removeprefix("unix://")) as client:
        client.flushall()
    seen = run("import", out, "--json")
    assert (seen.status, seen.document) == (
        0,
        {"dry_run": False, "lines": 2, "imported": 2, "present": 0, "refused": 0, "report": None},
    )
    again = {each["id"]: each for each in run("users", "list", "--json").documents}
    assert set(again) == {first["id"], second["id"]}
    for before in (first, second):
        after = again[before["id"]]
        assert {name: after[name] for name in ("name", "email", "email_verified", "created_at")} == {
            name: before[name] for name in ("name", "email", "email_verified", "created_at")
        }
    assert again[first["id"]]["disabled"]
    assert sorted(json.loads(line)["password_hash"] for line in run("export").output.splitlines()) == sorted(
        json.loads(line)["password_hash"] for line in exported.splitlines()
    )
    assert "password_hash" not in run("export", "--no-hashes").output


def test_two_exports_to_one_file_do_not_mix(run: Run, tmp_path: Path) -> None:
    create(run)
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    with partial.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        seen = run("export", out)
        assert (seen.status, seen.errors.splitlines()[-1]) == (1, f"pickguard: another export to {out} is under way")
        assert partial.exists()
    # The other one was killed.
    assert run("export", out).status == 0
    assert (out.exists(), partial.exists()) == (True, False)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to(os.devnull)])
def test_an_export_takes_the_place_of_nothing_but_files(run: Run, tmp_path: Path, make: Callable[[Path], object]) -> None:
    out = tmp_path / "out"
    make(out)
    before = out.lstat()
    seen = run("export", out, "--force")
    assert (seen.status, seen.line) == (2, f"pickguard: {out} is no file: for a pipe or a device, export to standard output")
    after = out.lstat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


def test_a_link_is_no_way_to_have_an_export_written_elsewhere(run: Run, tmp_path: Path) -> None:
    create(run)
    (tmp_path / "theirs").write_text("untouched")
    (tmp_path / "out.partial").symlink_to(tmp_path / "theirs")
    assert run("export", tmp_path / "out").status == 0
    assert (tmp_path / "theirs").read_text() == "untouched"


def test_lines_that_are_refused_are_told_and_are_a_status_of_their_own(run: Run, tmp_path: Path) -> None:
    file = written(tmp_path / "users.ndjson", user(1), "nonsense", user(1))
    dry = run("import", file, "--dry-run")
    assert (dry.status, dry.output) == (
        3,
        f"3 lines: 2 can be imported, unless their address has an account\n1 refused: see {report_of(file)}\n",
    )
    assert run("users", "list", "--json").output == ""
    first, second = run("import", file), run("import", file)
    for seen in (first, second):
        assert (seen.status, seen.output) == (3, f"3 lines: 1 imported\n2 refused: see {report_of(file)}\n")
    assert "nothing is left to do" in second.errors
    assert [json.loads(line)["line"] for line in report_of(file).read_text().splitlines()] == [2, 3]
    assert run("import", file, PICKGUARD_STORE="redis://127.0.0.1:1").status == 1


# As processes.


def environment(store: str, **more: str) -> Mapping[str, str]:
    return {**clean_environment(), "PICKGUARD_STORE": store, **more}


def command(*args: str | Path) -> list[str]:
    return [sys.executable, "-m", "pickguard", *map(str, args)]


async def test_commands_work_beside_the_service_and_count_at_once(data_dir: Path) -> None:
    cwd = data_dir.parent
    named = ("--data-dir", str(data_dir))
    async with serving(data_dir, "--no-tls") as service, service.client() as api:
        assert await api.register() == 201
        token = await api.log_in()
        shown = Seen(*await run_to_end("users", "show", ADA, *named, "--json", cwd=cwd))
        assert [each["ip"] for each in shown.document["sessions"]] == ["127.0.0.1"]
        seen = Seen(*await run_to_end("users", "revoke-sessions", ADA, "--yes", *named, cwd=cwd))
        assert (seen.status, seen.output) == (0, "ada@example.com: 1 session ended\n")
        assert await api.me(token) == 401
        await api.log_in()
        password = Seen(*await run_to_end("users", "set-password", ADA, "--generate", "--json", *named, cwd=cwd)).document[
            "password"
        ]
        old = await api.call("POST", "/v1/sessions", {"email": ADA, "password": GOOD_PASSWORD})
        new = await api.call("POST", "/v1/sessions", {"email": ADA, "password": password})
        assert (old[0], new[0]) == (401, 201)
        assert Seen(*await run_to_end("users", "disable", ADA, *named, cwd=cwd)).status == 0
        assert await api.me(new[1]["access_token"]) == 401
        running = engine_of(service)
        assert await service.stop() == 0
    await until_gone(running)
    alone = Seen(*await run_to_end("users", "list", "--json", *named, cwd=cwd))
    assert [each["disabled"] for each in alone.documents] == [True]


async def test_the_service_knows_who_was_imported_and_a_log_in_renews_the_hash(data_dir: Path) -> None:
    file = written(data_dir.parent / "users.ndjson", user(1))
    async with serving(data_dir, "--no-tls") as service, service.client() as api:
        seen = Seen(*await run_to_end("import", str(file), "--data-dir", str(data_dir), cwd=data_dir.parent))
        assert (seen.status, seen.output) == (0, "1 lines: 1 imported\n")
        await api.log_in("user1@example.com")
        seen = Seen(*await run_to_end("export", "--data-dir", str(data_dir), cwd=data_dir.parent))
        assert seen.documents[0]["password_hash"].startswith("$argon2id$")


def without_progress(errors: bytes) -> str:
    """What an import says on standard error, but for how far it is: that takes as long as the machine does."""
    return "".join(line for line in errors.decode().splitlines(keepends=True) if not line.startswith("pickguard: Importing: "))


async def test_an_import_that_is_killed_goes_on_exactly_where_it_was(tmp_path: Path, store: str) -> None:
    number = 2 * BATCH + 500
    lines = [user(each) if each % 50 else f"broken {each}" for each in range(number)]
    file = written(tmp_path / "users.ndjson", *lines)
    kills = 0
    while True:
        process = await asyncio.create_subprocess_exec(
            *command("import", file), env=environment(store), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        before = offset_of(file)
        if kills < 2:
            async with asyncio.timeout(PATIENCE):
                while offset_of(file) == before and process.returncode is None:
                    await asyncio.sleep(0.005)
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
        output, errors = await ended(process)
        if process.returncode != -signal.SIGKILL:
            break
    assert (process.returncode, without_progress(errors)) == (3, "")
    assert kills == 2
    refused = [each + 1 for each in range(number) if each % 50 == 0]
    assert output.decode().splitlines() == [
        f"{number:,} lines: {number - len(refused):,} imported",
        f"{len(refused)} refused: see {report_of(file)}",
    ]
    assert [json.loads(line)["line"] for line in report_of(file).read_text().splitlines()] == refused
    listed = Seen(*await run_to_end("users", "list", "--json", environment={"PICKGUARD_STORE": store}, cwd=tmp_path)).documents
    assert sorted(each["email"] for each in listed) == sorted(f"user{each}@example.com" for each in range(number) if each % 50)


def offset_of(file: Path) -> int:
    try:
        offset: int = json.loads(progress_of(file).read_text())["offset"]
    except FileNotFoundError:
        return 0
    return offset


async def test_an_import_that_is_interrupted_says_how_it_goes_on(tmp_path: Path, store: str) -> None:
    file = written(tmp_path / "more users.ndjson", *map(user, range(3 * BATCH)))
    process = await asyncio.create_subprocess_exec(
        *command("import", file), env=environment(store), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE):
        while not offset_of(file):
            await asyncio.sleep(0.005)
    process.send_signal(signal.SIGINT)
    output, errors = await ended(process)
    assert process.returncode == 130
    assert output == b""
    assert (
        without_progress(errors)
        == f"pickguard: interrupted; what was imported stays, and `pickguard import '{file}'` goes on\n"
    )
    seen = Seen(*await run_to_end("import", str(file), environment={"PICKGUARD_STORE": store}, cwd=tmp_path))
    assert (seen.status, seen.output) == (0, f"{3 * BATCH:,} lines: {3 * BATCH:,} imported\n")


@pytest.mark.parametrize("args", [["users", "list"], ["users", "list", "--json"], ["export"]])
def test_who_stops_reading_hears_no_complaint(run: Run, store: str, tmp_path: Path, args: list[str]) -> None:
    assert run("import", written(tmp_path / "users.ndjson", *map(user, range(1500)))).status == 0
    with subprocess.Popen(
        command(*args), env=environment(store), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read().decode()
        assert process.wait(PATIENCE) == 1
    assert [line for line in said.splitlines() if "hashes of all passwords" not in line] == []


def test_who_does_not_read_the_help_at_all_hears_no_complaint(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(command(), cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (2, b"")


FULL: Final = [
    "export",
    "users list",
    "users list --json",
    "users show ada@example.com",
    "users revoke-sessions ada@example.com --yes",
    "openapi",
    "doctor",
    "doctor --json",
    "completion bash",
    "",
    "users",
    "--help",
    "--version",
]


@pytest.mark.parametrize("args", FULL)
def test_an_output_that_is_full_is_told_in_one_line(run: Run, store: str, tmp_path: Path, args: str) -> None:
    create(run)
    usual = environment(store, PYTHONUNBUFFERED="")  # as where Python writes at the end what nobody has flushed
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command(*args.split()), env=usual, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    said = [line for line in done.stderr.decode().splitlines() if "hashes of all passwords" not in line]
    assert len(said) == 1
    assert said[0].startswith("pickguard: the output cannot be written: No space left on device")


def test_what_cannot_be_said_ends_nothing(run: Run, store: str, tmp_path: Path) -> None:
    create(run)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("export"), env=environment(store), cwd=tmp_path, stdout=subprocess.PIPE, stderr=full, check=False
        )
        assert (done.returncode, json.loads(done.stdout)["email"]) == (0, ADA)
        nobody = command("users", "show", "nobody@example.com")
        assert subprocess.run(nobody, env=environment(store), cwd=tmp_path, stderr=full, check=False).returncode == 1


@pytest.mark.parametrize(
    ("closed", "args", "status", "says"),
    [
        (">&-", "users list", 0, ""),
        (">&-", "export --no-hashes", 0, "pickguard: 1 account exported"),
        (">&-", "users show nobody@example.com", 1, "pickguard: nobody has the address nobody@example.com"),
        ("2>&-", "users list", 0, "ada@example.com"),
        ("2>&-", "users show nobody@example.com", 1, ""),
        ("<&-", "users delete ada@example.com", 2, "nobody can answer here"),
        ("<&-", "users set-password ada@example.com --password-stdin", 1, "standard input holds no password"),
        ("<&- >&- 2>&-", "users list", 0, ""),
    ],
)
def test_streams_that_are_closed_do_no_harm(
    run: Run, store: str, tmp_path: Path, *, closed: str, args: str, status: int, says: str
) -> None:
    create(run)
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *command(*args.split())]
    done = subprocess.run(
        shell, env=environment(store), cwd=tmp_path, capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    said = (done.stdout + done.stderr).decode()
    assert (done.returncode, "Traceback" in said) == (status, False)
    assert says in said
    assert run("users", "show", ADA).status == 0


class Terminal:
    """A command at a terminal: what it prints, and what a person types."""

    def __init__(self, store: str, *args: str, columns: int = 80) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:  # pragma: no cover (the child)
            os.execve(sys.executable, command(*args), {**environment(store), "COLUMNS": str(columns), "TERM": "xterm"})
        self.shown = ""

    def until(self, text: str) -> None:
        while text not in self.shown:
            self._read()

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def interrupt(self) -> int:
        """Press Ctrl-C until it ends: one that comes just before Python waits for a line is only noted until there is one."""
        for _ in range(10):
            self.type("\x03")
            while select.select([self._fd], [], [], 3.0)[0]:
                if not self._read(may_end=True):
                    return self.end()
        raise AssertionError(f"it goes on: {self.shown}")

    def end(self) -> int:
        with_more = True
        while with_more:
            with_more = self._read(may_end=True)
        _, status = os.waitpid(self.pid, 0)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)

    def _read(self, *, may_end: bool = False) -> bool:
        assert select.select([self._fd], [], [], PATIENCE)[0], f"nothing more came: {self.shown}"
        try:
            data = os.read(self._fd, 4096)
        except OSError:  # as Linux says that the other end is gone
            data = b""
        assert data or may_end, f"it ended: {self.shown}"
        self.shown += data.decode()
        return bool(data)


@pytest.fixture
def terminal(store: str) -> Generator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_one(*args: str, **more: int) -> Terminal:
        opened.append(Terminal(store, *args, **more))
        return opened[-1]

    yield open_one
    for each in opened:
        try:
            os.kill(each.pid, signal.SIGKILL)
            os.waitpid(each.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            continue


def test_at_a_terminal_it_asks_before_it_deletes(run: Run, terminal: Callable[..., Terminal]) -> None:
    create(run)
    first = terminal("users", "delete", ADA)
    first.until("Delete ada@example.com (Ada Lovelace) with no session, for good? [y/N]: ")
    first.type("n\n")
    assert first.end() == 1
    assert "pickguard: nothing was done" in first.shown
    second = terminal("users", "delete", ADA)
    second.until("[y/N]: ")
    assert second.interrupt() == 130
    assert "Traceback" not in second.shown
    assert run("users", "show", ADA).status == 0
    third = terminal("users", "delete", ADA)
    third.until("[y/N]: ")
    third.type("y\n")
    assert third.end() == 0
    assert run("users", "show", ADA).status == 1


def test_at_a_terminal_a_password_is_asked_for_twice_and_not_shown(run: Run, terminal: Callable[..., Terminal]) -> None:
    session = terminal("users", "create", "--email", ADA, "--name", "Ada")
    session.until("Password: ")
    session.type(f"{GOOD_PASSWORD}\n")
    session.until("The same again: ")
    session.type(f"{GOOD_PASSWORD}\n")
    assert session.end() == 0
    assert GOOD_PASSWORD not in session.shown
    assert run("users", "show", ADA).status == 0


def test_at_a_terminal_a_long_command_shows_how_far_it_is(run: Run, terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    file = written(tmp_path / "users.ndjson", *map(user, range(BATCH)))
    session = terminal("import", str(file))
    session.until("Importing")
    assert session.end() == 0
    assert "1,000 lines: 1,000 imported" in session.shown
    session = terminal("users", "list", "--limit", "3")
    assert session.end() == 0
    lines = session.shown.split("\r\n")
    assert "3 accounts, where --limit stopped." in session.shown
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= 80 for line in lines)
    assert len(run("users", "list", "--json").documents) == BATCH


# Help and shells.

EVERY: Final = [*([name] for name in COMMANDS if name != "users"), *(["users", name] for name in users.commands)]


@pytest.mark.parametrize("args", EVERY, ids=" ".join)
def test_the_help_of_every_command_ends_with_examples_of_it(args: list[str]) -> None:
    outcome = CliRunner().invoke(cli, [*args, "--help"])
    assert outcome.exit_code == 0
    _, _, examples = outcome.output.partition("\nExamples:\n")
    assert f"pickguard {' '.join(args)}" in examples
    assert max(map(len, examples.splitlines())) <= 80
    for line in examples.splitlines():
        subprocess.run(["sh", "-n", "-c", line], check=True)
        for part in re.findall(r"pickguard ((?:[a-z0-9-]+ )*[a-z0-9-]+)", line):
            words = part.split()
            assert [words[0]] in EVERY or words[:2] in EVERY


def test_the_help_of_all_fits_a_terminal() -> None:
    for args in (["--help"], ["users", "--help"]):
        outcome = CliRunner(env={"COLUMNS": "80"}).invoke(cli, args)
        assert "...\n" not in outcome.output.partition("Commands:")[2]
        assert max(map(len, outcome.output.splitlines())) <= 80


async def test_the_description_of_the_api_is_that_of_the_service(data_dir: Path) -> None:
    plain = Seen(*await run_to_end("openapi", "--no-tls", cwd=data_dir.parent))
    assert plain.status == 0
    async with serving(data_dir, "--no-tls") as service, service.client() as api:
        status, served = await api.call("GET", "/openapi.json")
    assert (status, plain.document) == (200, served)
    mailing = Seen(*await run_to_end("openapi", "--mail", "console:", cwd=data_dir.parent))
    assert set(mailing.document["paths"]) > set(served["paths"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_a_shell_can_read_what_it_needs(tmp_path: Path, shell: str) -> None:
    seen = Seen(*await run_to_end("completion", shell, cwd=tmp_path))
    assert (seen.status, seen.errors) == (0, "")
    assert "_PICKGUARD_COMPLETE" in seen.output
    assert (shell == "fish") == ('string split --max 1 "," $completion' in seen.output)  # so that no description is cut
    program = shutil.which(shell)
    if program:
        process = await asyncio.create_subprocess_exec(program, "-n", stdin=subprocess.PIPE)
        await process.communicate(seen.output.encode())
        assert process.returncode == 0
    else:
        assert shell != "bash"


def test_a_shell_completes_commands_and_options() -> None:
    def completed(words: str, count: int) -> list[str]:
        variables = {"_PICKGUARD_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}
        program = "import sys; sys.argv[0] = 'pickguard'; from pickguard.__main__ import main; main()"
        output = subprocess.run(
            [sys.executable, "-c", program],
            env={**clean_environment(), **variables},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return [line.partition(",")[2] for line in output.splitlines()]

    assert completed("pickguard ", 1) == list(COMMANDS)
    assert completed("pickguard users re", 2) == ["restore", "revoke-sessions"]
    assert "--dry-run" in completed("pickguard users delete --", 3)
    assert completed("pickguard completion ", 2) == ["bash", "zsh", "fish"]
