# ruff: noqa: INP001 (a script, in no package)
"""Tells Docker whether the service in this container is ready: asks /readyz where its own settings say that it listens."""

import os
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from pickguard import Settings

SECONDS = 4


def main() -> int:
    """Return 0 if the service is ready, else 1."""
    settings = Settings.load({}, os.environ)
    host = "127.0.0.1" if settings.host in {"", "0.0.0.0", "::"} else settings.host  # noqa: S104 (compared, not bound)
    connection = (
        HTTPConnection(host, settings.port, timeout=SECONDS)
        if settings.no_tls
        # Whose certificate it is does not matter here: nothing secret is sent, and nothing that comes back is believed
        # but that it is there.
        else HTTPSConnection(host, settings.port, timeout=SECONDS, context=ssl._create_unverified_context())  # noqa: S323, SLF001
    )
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        print(f"not ready: {error}")  # noqa: T201 (docker inspect shows it)
        return 1
    finally:
        connection.close()
    print(f"/readyz answers {status}")  # noqa: T201
    return 0 if status == 200 else 1  # noqa: PLR2004


if __name__ == "__main__":
    raise SystemExit(main())
