"""The README does what it says: its commands and programs are run as they are written, its table is the one of the settings."""

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Final

import pytest
import redis

from tests.support.code_blocks import CURLS, Block, blocks_under, pages, paste, without_what_varies
from tests.support.code_blocks import blocks as all_blocks
from tests.support.engines import PROGRAMS, running_engine
from tests.support.processes import run, serving
from tests.support.redis_servers import SYSTEM_OF_RECORD, Server
from tests.support.serving import run_to_end
from tests.support.settings_table import settings_table

ROOT: Final = Path(__file__).parents[2]
README: Final = (ROOT / "README.md").read_text()
SERVE: Final = [str(Path(sys.executable).with_name("pickguard")), "serve", "--port", "0"]


def blocks(heading: str) -> list[Block]:
    return blocks_under("README.md", heading)


WALK: Final = "A walk through the API"
WALK_WITH_MAIL: Final = "With mail"


@pytest.mark.parametrize("curl", CURLS)
def test_the_walk_through_the_api_goes_as_it_is_printed(tmp_path: Path, curl: str) -> None:
    walk(blocks(WALK), tmp_path, CURLS[curl])


@pytest.mark.parametrize("curl", CURLS)
def test_the_walk_with_mail_goes_as_it_is_printed(tmp_path: Path, curl: str) -> None:
    start, *steps = blocks(WALK_WITH_MAIL)
    found = re.fullmatch(r"make serve ARGS='([^']*)'\n", start.text)
    assert found is not None
    walk(steps, tmp_path, CURLS[curl], *shlex.split(found[1]))
    left = [file.name for file in (tmp_path / "pickguard-mail").iterdir()]
    assert left == [], "a mail that the walk does not show"


def walk(steps: list[Block], directory: Path, curl: list[str], *options: str) -> None:
    """Take a walk: a block that prints nothing, then pairs of what is pasted and what is printed."""
    assert [block.language for block in steps] == ["sh", *["sh", "text"] * (len(steps) // 2)]
    commands = [block.text for block in steps if block.language == "sh"]
    printed = [block.text for block in steps if block.language == "text"]
    with serving([*SERVE, "--data-dir", "data", *options], {"PATH": os.environ["PATH"]}, directory) as served:
        script = "".join(commands)
        assert "9443" in script
        assert "pickguard-data" in script
        told = paste(commands, directory, ports={"9443": served.port}, curl=curl, data="data")
    assert told.pop(0) == ""
    assert [without_what_varies(text) for text in told] == [without_what_varies(text) for text in printed]


def test_the_walk_leaves_no_resource_out() -> None:
    from pickguard.entrypoints.http.routes import MAIL_ROUTES, ROUTES, routes  # noqa: PLC0415
    from pickguard.entrypoints.settings import Settings  # noqa: PLC0415

    table = re.findall(r"^\| (`[A-Z]+ /.*?) \|", README, re.MULTILINE)
    listed = {tuple(each.split(" ")) for row in table for each in re.findall(r"`([A-Z]+ /[^`]*)`", row)}
    assert listed == {(method, path) for method, path, _ in routes(Settings(mail="console:"))} - {("GET", "/docs/{file}")}
    walk = "".join(block.text for block in (*blocks(WALK), *blocks(WALK_WITH_MAIL)) if block.language == "sh")
    for method, path, _ in (*ROUTES, *MAIL_ROUTES):
        shown = path.replace("{id}", "$other")
        requests = [line for line in walk.splitlines() if re.search(rf'"\$api{re.escape(shown)}[?"]', line)]
        assert any(_method(line) == method for line in requests) or path == "/livez", (method, path)


def _method(line: str) -> str:
    if chosen := re.search(r"-X ([A-Z]+)", line):
        return chosen[1]
    return "POST" if " -d " in line else "GET"


@pytest.mark.parametrize("store", ["memory:", *PROGRAMS])
def test_the_example_of_the_library_prints_what_it_says(tmp_path: Path, store: str) -> None:
    _, example, printed = blocks("As a library")
    program = tmp_path / "example.py"
    program.write_text(example.text)
    command = [sys.executable, "-X", "dev", "-W", "error", str(program)]
    if store == "memory:":
        assert run(command, directory=tmp_path) == printed.text
        return
    with running_engine(tmp_path / "data", store) as engine:
        assert run(command, directory=tmp_path, PICKGUARD_STORE=engine.url) == printed.text


def test_the_example_of_a_test_passes(tmp_path: Path) -> None:
    (example,) = blocks("In fast tests")
    (tmp_path / "test_example.py").write_text(example.text)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    told = run(command, directory=tmp_path, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTEST_ADDOPTS="")
    assert re.search(r"^2 passed", told, re.MULTILINE), told


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_redis_user_of_the_readme_may_do_what_is_needed(tmp_path: Path, name: str) -> None:
    _, example, _ = blocks("As a library")
    (line,) = (block.text for block in blocks("On a Redis of yours") if block.text.startswith("user "))
    _, user, *rules = line.split()
    with running_engine(tmp_path / "data", name) as engine:
        with redis.Redis(unix_socket_path=str(engine.socket_path)) as admin:
            admin.execute_command("ACL", "SETUSER", user, *rules)
        store = engine.url.replace("unix://", f"unix://{user}:PASSWORD@")
        run([sys.executable, "-c", example.text], directory=tmp_path, PICKGUARD_STORE=store)


async def test_the_redis_of_the_readme_keeps_what_it_acknowledges(tmp_path: Path) -> None:
    (lines,) = (block.text for block in blocks("On a Redis of yours") if block.text.startswith("appendonly "))
    options = dict(line.split(" ", 1) for line in lines.splitlines())
    assert set(SYSTEM_OF_RECORD) - set(options) == {"save"}, "what the test's server has beside these lines"
    async with Server(tmp_path / "server", options) as server:
        command = ["doctor", "--json", "--strict-durability", "--store", server.url]
        status, output, _ = await run_to_end(*command, cwd=tmp_path)
        assert status == 0, output


def test_the_table_of_settings_is_that_of_the_settings() -> None:
    (table,) = re.findall(r"^\| Option \|.*\n(?:\|.*\n)+", README, re.MULTILINE)
    assert table == f"{settings_table()}\n", "python -m tests.support.settings_table prints what belongs there"


def test_the_two_commands_come_first_each_on_a_line_of_its_own() -> None:
    first, second, *_ = all_blocks("README.md")
    assert (first.text, second.text) == ("make serve\n", "make test\n")


@pytest.mark.parametrize("page", pages())
def test_every_link_leads_somewhere(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, target
