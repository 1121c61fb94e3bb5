"""A running service as its machine sees it: where it listens, and what others on the machine may read (Linux)."""

import asyncio
import re
import stat
from pathlib import Path

import pytest

from tests.support.serving import children, engine_of, run_to_end, serving

LISTENING = "0A"


def sockets_of(pid: int) -> set[str]:
    """Return the inodes of a process's sockets."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        if match := re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink())):
            found.add(match[1])
    return found


def listens_at(pid: int) -> list[tuple[str, int]]:
    """Return the addresses, as the kernel writes them, and ports of TCP at which a process listens."""
    own, found = sockets_of(pid), []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            if fields[3] == LISTENING and fields[9] in own:
                found.append((address, int(port, 16)))
    return sorted(found)


@pytest.mark.requirement(63, 64)
async def test_without_options_it_listens_at_one_port_by_tls_and_its_store_at_none(data_dir: Path) -> None:
    async with serving(data_dir) as service, service.client() as api:
        port = int(service.base.rpartition(":")[2])
        assert service.base.startswith("https://")
        loopback = "0100007F"
        assert listens_at(service.process.pid) == [(loopback, port)]
        others = children(service.process.pid)
        assert engine_of(service) in others
        assert [listens_at(pid) for pid in others] == [[]] * len(others)
        assert (await api.call("GET", "/livez"))[0] == 200
        assert not await answers_in_the_clear(port)
        private = [data_dir, *(data_dir / name for name in ("tls/key.pem", "engine.sock", "appendonlydir"))]
        assert [stat.S_IMODE(path.stat().st_mode) & 0o077 for path in private[:2]] == [0, 0]
        assert all(path.exists() for path in private)


async def answers_in_the_clear(port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        async with asyncio.timeout(10):
            return b"HTTP/" in await reader.read()
    except ConnectionError:
        return False
    finally:
        writer.transport.abort()


@pytest.mark.requirement(63)
@pytest.mark.parametrize("missing", ["--tls-cert", "--tls-key"])
async def test_half_of_a_certificate_is_no_reason_to_do_without_tls(tmp_path: Path, missing: str) -> None:
    given = {"--tls-cert": "cert.pem", "--tls-key": "key.pem"}
    del given[missing]
    (option, path), *_ = given.items()
    status, output, errors = await run_to_end("serve", "--port", "0", "--store", "memory:", option, path, cwd=tmp_path)
    assert status != 0
    assert "http://" not in output + errors
