"""Every code block of README.md and docs/ is run, or read by the tool that it is for."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
import kubernetes_validate
import pytest
import yaml

from pickguard.entrypoints.cli import cli
from tests.support.code_blocks import (
    RUN,
    Block,
    blocks,
    blocks_for,
    pages,
    paste,
    printed_by,
    read_blocks,
    session,
    without_what_varies,
    wrong_with,
)
from tests.support.nginx import Nginx
from tests.support.processes import PATIENCE, run

ROOT: Final = Path(__file__).parents[2]
ALL: Final = [block for page in pages() for block in blocks(page)]
LEFT_TO_THIS: Final = [
    block for block in ALL if not (block.tested_by or block.not_run or block.checked_only or block.is_output)
]

for program in ("nginx", "redis-server", "systemd-analyze"):
    if not shutil.which(program) and os.environ.get("CI") == "true":
        raise RuntimeError(f"CI reads configurations with {program}, and there is none; .ci/run installs it")


@pytest.mark.parametrize("page", pages())
def test_every_block_is_run_by_somebody(page: str) -> None:
    wrong = [f"{block} {why}" for block in blocks(page) if (why := wrong_with(block))]
    assert wrong == [], "docs/contributing.md tells how blocks are run"


@pytest.mark.parametrize("page", [page for page in pages() if session(page)])
def test_what_is_pasted_from_a_page_prints_what_the_page_says(page: str, tmp_path: Path) -> None:
    pasted = [block for block in session(page) if block.language == "sh"]
    if any("redis-server" in block.text for block in pasted) and not shutil.which("redis-server"):
        pytest.skip("there is no redis-server")
    told = paste([block.text for block in pasted], tmp_path)
    for block, text in zip(pasted, told, strict=True):
        if expected := printed_by(block):
            assert without_what_varies(text) == without_what_varies(expected.text), str(block)


def run_program(block: Block, directory: Path) -> None:
    """Run a program, or the tests in it."""
    program = directory / "test_example.py"
    program.write_text(block.text)
    if block.is_a_test:
        (directory / "pytest.ini").write_text(
            "[pytest]\nfilterwarnings = error\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
        )
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", str(program)]
        assert re.search(r"^\d+ passed", run(command, directory=directory, PYTEST_ADDOPTS=""), re.MULTILINE)
        return
    told = run([sys.executable, "-X", "dev", "-W", "error", str(program)], directory=directory, PICKGUARD_STORE="memory:")
    if expected := printed_by(block):
        assert without_what_varies(told) == without_what_varies(expected.text)


def read_json(block: Block, _: Path) -> None:
    json.loads(block.text)


def read_toml(block: Block, _: Path) -> None:
    tomllib.loads(block.text)


def read_yaml(block: Block, _: Path) -> None:
    """Read documents, and hold those of Kubernetes against its schemas."""
    for document in yaml.safe_load_all(block.text):
        assert document is not None
        if isinstance(document, dict) and is_of_kubernetes(document.get("apiVersion", "")):
            kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def is_of_kubernetes(version: str) -> bool:
    """Tell whether Kubernetes itself knows such objects; others are of what is added to a cluster."""
    group = version.rpartition("/")[0]
    return bool(version) and ("." not in group or group.endswith(".k8s.io"))


def verify_unit(block: Block, directory: Path) -> None:
    """Let systemd read a unit, or what is dropped into the one of deploy/."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze")
    folder = directory / "system"
    shutil.copytree(ROOT / "deploy/systemd", folder)
    unit = folder / "pickguard.service"
    found = re.match(r"# /etc/systemd/system/(\S+)\n", block.text)
    assert found, "a unit says in its first line which file it is"
    name = found[1]
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(block.text)
    for path in (unit, folder / name):
        path.write_text(path.read_text().replace("/opt/pickguard/bin/pickguard", sys.executable))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no"]
    checked = unit if name.startswith("pickguard.service") else folder / name
    done = subprocess.run([*command, str(checked)], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout + done.stderr == ""


def read_by_nginx(block: Block, directory: Path) -> None:
    """Let nginx read what stands in its `http`."""
    program = shutil.which("nginx")
    if program is None:
        pytest.skip("there is no nginx")
    command = [program, "-t", "-p", str(directory), "-c", str(Nginx(block.text, directory).file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr


TAKEN_BY: Final[dict[str, Callable[[Block, Path], None]]] = {
    "python": run_program,
    "json": read_json,
    "toml": read_toml,
    "yaml": read_yaml,
    "ini": verify_unit,
    "nginx": read_by_nginx,
}


@pytest.mark.parametrize("block", [block for block in LEFT_TO_THIS if block.language in TAKEN_BY], ids=str)
def test_each_block_is_taken_by_what_it_is_for(block: Block, tmp_path: Path) -> None:
    TAKEN_BY[block.language](block, tmp_path)


def test_every_language_that_counts_as_run_is_taken_by_something() -> None:
    assert {*TAKEN_BY, "sh"} == RUN


NGINX: Final = (
    "server {\n listen 443 ssl;\n ssl_certificate /etc/nginx/tls/cert.pem;\n ssl_certificate_key /etc/nginx/tls/key.pem;\n}\n"
)


@pytest.mark.parametrize(
    ("language", "right", "wrong"),
    [
        ("python", "print(1)\n", "import asyncio\n1 / 0\n"),
        ("python", "def test_a() -> None:\n    assert 1\n", "async def test_a() -> None:\n    assert 0\n"),
        ("json", "{}", "{,}"),
        ("toml", "a = 1", "a = "),
        ("yaml", "a: 1", "a: ["),
        ("yaml", "apiVersion: v1\nkind: ConfigMap\n", "apiVersion: v1\nkind: ConfigMap\ndatum: {}\n"),
        ("ini", "# /etc/systemd/system/a.service\n[Service]\nExecStart=/bin/true\n", "[Service]\n"),
        (
            "ini",
            "# /etc/systemd/system/pickguard.service.d/a.conf\n[Service]\nNice=1\n",
            "# /etc/systemd/system/pickguard.service.d/a.conf\n[Service]\nNicer=1\n",
        ),
        ("nginx", NGINX, NGINX.replace("listen", "lissen")),
    ],
)
def test_what_takes_a_block_refuses_a_wrong_one(language: str, right: str, wrong: str, tmp_path: Path) -> None:
    for name, text in (("right", right), ("wrong", wrong)):
        block = Block(page="README.md", line=0, language=language, text=text, heading="")
        (tmp_path / name).mkdir()
        if name == "right":
            TAKEN_BY[language](block, tmp_path / name)
        else:
            with pytest.raises((AssertionError, ValueError, yaml.YAMLError, kubernetes_validate.ValidationError)):
                TAKEN_BY[language](block, tmp_path / name)


@pytest.mark.parametrize("block", [block for block in ALL if block.checked_only], ids=str)
def test_commands_that_are_only_checked_could_be_run(block: Block) -> None:
    subprocess.run(["bash", "-n"], input=block.text, check=True, text=True, timeout=PATIENCE)
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words[:1] == ["make"]:
            run([*words, "--dry-run", "--no-print-directory"], directory=ROOT)
        elif words[:1] == [".venv/bin/python"]:
            named = words[1] if words[1] != "-m" else words[3] if words[2] == "pytest" else f"{words[2].replace('.', '/')}.py"
            assert (ROOT / named).exists(), line
        elif words[:1] == ["pickguard"]:
            understood(words[1:])


def understood(words: list[str]) -> None:
    """Hold words for `pickguard` against the commands and options that there are; the values are nobody's business here."""
    command: click.Command = cli
    context = click.Context(command, info_name="pickguard")
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, name
        command, context = found, click.Context(found, info_name=name, parent=context)
    command.make_parser(context).parse_args(words)


def test_a_command_with_an_option_that_does_not_exist_is_found() -> None:
    understood(["doctor", "--json", "--store", "redis://redis.example.com"])
    with pytest.raises(click.NoSuchOption):
        understood(["doctor", "--store", "redis://redis.example.com", "--fix"])
    with pytest.raises(AssertionError):
        understood(["mend"])


# The mechanism itself.


PAGE: Final = """
# One

```sh
echo a
```

```text
a
```

<!-- tested by: test_one, test_two -->

```ini
b
```

## Two

- In a list:

    ```json
    {"c": 1}
    ```

<!-- not run: a picture -->
```text
+--+
```

```text
nobody's
```

```
no language
```
"""


def test_blocks_are_read_with_what_is_said_of_them() -> None:
    found = list(read_blocks(PAGE, "page.md"))
    assert [(block.language, block.heading, block.line) for block in found] == [
        ("sh", "One", 4),
        ("text", "One", 8),
        ("ini", "One", 14),
        ("json", "Two", 22),
        ("text", "Two", 27),
        ("text", "Two", 31),
        ("", "Two", 35),
    ]
    assert [block.is_output for block in found] == [False, True, False, False, False, False, False]
    assert found[2].tested_by == ("test_one", "test_two")
    assert found[3].text == '{"c": 1}\n'
    assert found[4].not_run == "a picture"


def test_a_block_that_nobody_runs_is_found() -> None:
    found = list(read_blocks(PAGE, "page.md"))
    assert [wrong_with(block) for block in found] == [
        "",
        "",
        "is said to be tested by test_one, which does not exist",
        "",
        "",
        "is text, which nobody runs",
        "has no language",
    ]
    (block,) = read_blocks("<!-- not run: too long -->\n```sh\nrm x\n```\n")
    assert wrong_with(block) == "is not run, which only a picture in text may be"
    name = test_a_block_that_nobody_runs_is_found.__name__
    (block,) = read_blocks(f"<!-- tested by: {name} -->\n```sh\na\n```\n", "page.md")
    assert wrong_with(block) == ""
    (block,) = read_blocks("<!-- tested by: test_each_setting_is_shown_in_one_place -->\n```sh\na\n```\n", "page.md")
    assert wrong_with(block) == f"is said to be tested by {block.tested_by[0]}, which does not exist"


def test_a_page_that_prints_something_else_fails(tmp_path: Path) -> None:
    assert paste(["a=1\n", 'echo "$a"\n'], tmp_path) == ["", "1\n"]
    (tmp_path / "second").mkdir()
    with pytest.raises(AssertionError):
        paste(["false\n", "echo never\n"], tmp_path / "second")


def test_no_test_is_named_that_has_no_block() -> None:
    assert blocks_for("test_that_is_nowhere") == []
