"""`pickguard serve`."""

import sys

import click

from pickguard.entrypoints.commands.common import (
    INTERRUPTED,
    Command,
    fail,
    let_go,
    load,
    packages_of_the_server,
    settings_options,
)
from pickguard.entrypoints.logs import set_up as set_up_logging


@click.command(
    "serve",
    cls=Command,
    examples="""
    pickguard serve
    pickguard serve --no-tls --port 8080 --data-dir /var/lib/pickguard
    pickguard serve --store rediss://pickguard@redis --store-password-file secret
    """,
)
@settings_options()
def command(**given: str | None) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C.

    Without options it listens at https://127.0.0.1:9443 and keeps its data in ./pickguard-data.
    """
    settings = load(given)
    with packages_of_the_server():
        from pickguard.entrypoints.serving import ServingError, serve  # noqa: PLC0415 (aiohttp, for this command only)
    set_up_logging(level=settings.log_level, form=settings.log_format)
    try:
        serve(settings, announce=_announce)
    except ServingError as error:
        fail(str(error))
    except KeyboardInterrupt:  # before the service was ready; nothing was acknowledged yet
        sys.exit(INTERRUPTED)


def _announce(text: str) -> None:
    """Tell that the service is ready. Where nobody hears it, the service runs all the same."""
    try:
        click.echo(text)
    except OSError:
        let_go(sys.stdout)
