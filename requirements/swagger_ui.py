"""Bring Swagger UI, which shows the API's description at /docs, into the package: `make swagger-ui`.

Without a version the recorded one is fetched again, and must be the same to the byte. npm runs none of its scripts, and none of
its dependencies are fetched: the one it has, which reports installations, is of no use here.
"""

import base64
import gzip
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

PACKAGE: Final = "swagger-ui-dist"
HERE: Final = Path(__file__).parents[1] / "src/pickguard/entrypoints/http/docs_page"
RECORD: Final = HERE / "swagger-ui.json"
FILES: Final = {
    "swagger-ui-bundle.js": "swagger-ui-bundle.js",
    "swagger-ui.css": "swagger-ui.css",
    "swagger-ui-bundle.js.LICENSE.txt": "swagger-ui-bundle.js.LICENSE.txt",
    "LICENSE": "swagger-ui-LICENSE.txt",
    "NOTICE": "swagger-ui-NOTICE.txt",
}
"""What is taken of the package, and what it is called here."""


def main(version: str | None) -> None:
    """Fetch a version, check what came, and keep what is needed of it, what is large compressed."""
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    wanted = version or recorded["version"]
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--json", "--ignore-scripts", f"{PACKAGE}@{wanted}"]
        told = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)  # noqa: S603
        (packed,) = json.loads(told.stdout)
        archive = Path(folder) / packed["filename"]
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if packed["integrity"] != f"sha512-{digest}":
            raise SystemExit(f"{archive.name} is not what the registry says it is")
        if version is None and recorded["integrity"] != packed["integrity"]:
            raise SystemExit(f"{PACKAGE} {wanted} is not what it was when it was recorded")
        digests = {}
        with tarfile.open(archive) as opened:
            for name, kept in FILES.items():
                file = opened.extractfile(f"package/{name}")
                if file is None:
                    raise SystemExit(f"{PACKAGE} {wanted} has no {name} any more")
                content = file.read()
                digests[kept] = hashlib.sha256(content).hexdigest()
                if kept.endswith(".txt"):  # which a person is to find and read
                    (HERE / kept).write_bytes(content)
                else:
                    (HERE / f"{kept}.gz").write_bytes(gzip.compress(content, 9, mtime=0))
    record = {"package": PACKAGE, "version": packed["version"], "integrity": packed["integrity"], "sha256": digests}
    RECORD.write_text(f"{json.dumps(record, indent=2)}\n")
    print(f"{PACKAGE} {packed['version']} is in {HERE}")  # noqa: T201


if __name__ == "__main__":
    main(*(sys.argv[1:2] or [None]))
