"""What a scanner finds at the TLS port: Mozilla's intermediate guidelines are met (ASVS 12.1.1, 12.1.2).

sslyze pins a cryptography of its own, so `make test` installs it apart.
"""

import asyncio
import os
import re
from pathlib import Path
from typing import Final

import pytest

from tests.support.certificates import write_pair
from tests.support.serving import Serve, ended, serving

SSLYZE: Final = Path(__file__).parents[2] / ".sslyze/venv/bin/sslyze"

if not SSLYZE.exists() and os.environ.get("CI") == "true":
    raise RuntimeError("CI examines TLS, and misses sslyze: `make .sslyze/.installed` installs it, as `make test` does")
pytestmark = pytest.mark.skipif(not SSLYZE.exists(), reason="sslyze is not installed: make .sslyze/.installed")

UNTRUSTED: Final = "certificate_path_validation"
"""What is said of every certificate without an authority that browsers know."""


async def complaints(service: Serve) -> list[str]:
    """Return what does not comply, by the names that sslyze has for it."""
    where = service.base.removeprefix("https://")
    process = await asyncio.create_subprocess_exec(
        *(str(SSLYZE), "--mozilla_config=intermediate", where),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await ended(process)
    verdict = output.decode().rpartition("COMPLIANCE AGAINST")[2]
    assert f"{where}: " in verdict, f"{output.decode()}{errors.decode()}"
    found = re.findall(r"^ +\* (\w+): ", verdict, re.MULTILINE)
    assert bool(found) == ("FAILED" in verdict) == (process.returncode != 0), verdict
    return found


async def test_the_service_meets_mozillas_guidelines_but_for_its_certificates_authority(data_dir: Path) -> None:
    async with serving(data_dir, "--store", "memory:") as service:
        assert await complaints(service) == [UNTRUSTED]


async def test_it_does_so_with_an_rsa_key_as_well(data_dir: Path, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    write_pair(certificate, key, name="127.0.0.1", with_rsa=True)
    args = ("--store", "memory:", "--tls-cert", str(certificate), "--tls-key", str(key))
    async with serving(data_dir, *args) as service:
        assert await complaints(service) == [UNTRUSTED]
