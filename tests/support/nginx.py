"""An nginx with the configuration of a page, at ports of its own and with certificates that the tests make."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pickguard.entrypoints.tls import development_certificate
from tests.support.processes import PATIENCE
from tests.support.redis_servers import free_port

PLACES: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

if not shutil.which("nginx") and os.environ.get("CI") == "true":
    raise RuntimeError("CI runs what the pages say about nginx, and there is none; .ci/run installs it")


class Nginx:
    """What stands in `http` of a page, as a whole configuration in a directory."""

    def __init__(self, text: str, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.plain_port = free_port()
        tls = directory / "tls"
        self.certificate, key = development_certificate(tls, "127.0.0.1")
        for source, name in ((self.certificate, "cert.pem"), (key, "key.pem")):
            if source.name != name:
                shutil.copy(source, tls / name)
        if not (tls / "accounts-ca.pem").exists():
            shutil.copy(self.certificate, tls / "accounts-ca.pem")
        text = text.replace("/etc/nginx/tls/", f"{tls}/")
        text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl").replace(
            "listen 80;", f"listen 127.0.0.1:{self.plain_port};"
        )
        places = "".join(f"{each}_temp_path {directory}/{each};\n" for each in PLACES)
        self.file = directory / "nginx.conf"
        self.file.write_text(
            f"daemon off;\npid {directory}/nginx.pid;\nerror_log {directory}/error.log notice;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{places}{text}}}\n"
        )

    @contextmanager
    def running(self) -> Generator[str]:
        """Run it; return its URL."""
        program = shutil.which("nginx")
        assert program is not None
        command = [program, "-p", str(self.directory), "-c", str(self.file), "-g", "user root;" if os.getuid() == 0 else ""]
        log = self.directory / "error.log"
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            try:
                give_up_at = time.monotonic() + PATIENCE
                while not (log.exists() and "start worker process " in log.read_text()):
                    assert process.poll() is None, process.stderr.read() if process.stderr else ""
                    assert time.monotonic() < give_up_at, log.read_text()
                    time.sleep(0.02)
                yield f"https://127.0.0.1:{self.port}"
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(PATIENCE)
