"""The command ``pickguard``, and ``python -m pickguard``."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line, or say what is missing for it: the library alone comes without."""
    try:
        from pickguard.entrypoints import cli  # noqa: PLC0415 (what it needs may be missing)
    except ModuleNotFoundError as error:
        sys.exit(f"pickguard: the package {error.name} is not installed: install pickguard[server]")
    except KeyboardInterrupt:
        sys.exit(130)  # as after Ctrl-C at any later time
    cli.main()


if __name__ == "__main__":
    main()
