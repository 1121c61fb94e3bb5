"""`pickguard tune-argon2` as its users run it. How fast this machine is does not matter."""

import json
from pathlib import Path

import pytest

from pickguard.entrypoints.tuning import FORMAT
from tests.support.serving import run_to_end


async def tuned(cwd: Path, *args: str, status: int = 0) -> tuple[str, str]:
    ended, output, errors = await run_to_end("tune-argon2", *args, environment={"COLUMNS": "140"}, cwd=cwd)
    assert ended == status, errors
    assert "Traceback" not in output + errors
    return output, errors


async def test_a_program_gets_one_document(tmp_path: Path) -> None:
    output, errors = await tuned(
        tmp_path, "--json", "--budget", "50ms", "--target", "10s", "--hash-threads", "2", "--memory", "80"
    )
    found = json.loads(output)
    assert errors == ""
    assert found["format"] == FORMAT
    assert (found["target_ms"], found["threads"], found["workers"], found["memory_mib"]) == (10_000, 2, 1, 80)
    assert found["proposal"] in found["measurements"]
    assert found["proposal"]["memory_kib"] >= 19_456
    assert found["proposal"]["most_memory_mib"] <= 80
    assert found["options"].startswith(f"--hash-memory {found['proposal']['memory_kib']} --hash-time-cost ")
    assert found["fits"] is True
    assert all(each["milliseconds"] > 0 and each["per_second"] > 0 for each in found["measurements"])


async def test_a_person_gets_a_table_and_what_to_paste(tmp_path: Path) -> None:
    output, _ = await tuned(tmp_path, "--budget", "50ms", "--target", "1ms", "--hash-threads", "1", "--workers", "3")
    assert "workers: 3" in output
    assert "Hashes per second" in output
    assert "57 MiB" in output  # three workers, one thread each
    assert "the least that OWASP accepts" in output
    assert "--hash-memory 19456 --hash-time-cost 2 --hash-parallelism 1" in output


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--target", "soon"], "--target"),
        (["--target", "11s"], "--target"),
        (["--budget", "0"], "--budget"),
        (["--memory", "0"], "--memory"),
        (["--hash-threads", "many"], "--hash-threads"),
        (["--hash-memory", "1"], "--hash-memory"),
    ],
)
async def test_what_makes_no_sense_is_one_line(tmp_path: Path, args: list[str], named: str) -> None:
    output, errors = await tuned(tmp_path, *args, status=2)
    assert output == ""
    (line,) = errors.splitlines()
    assert line.startswith("pickguard: ")
    assert named in line
