"""``python -m pickguard`` is ``pickguard``."""

from pickguard.entrypoints.cli import main

main()
