"""`pickguard serve`."""

import logging
import sys
import time

import click

from pickguard.entrypoints.commands.common import INTERRUPTED, Command, fail, load, packages_of_the_server, settings_options
from pickguard.entrypoints.settings import Settings


@click.command(
    "serve",
    cls=Command,
    examples="""
    pickguard serve
    pickguard serve --no-tls --port 8080 --data-dir /var/lib/pickguard
    pickguard serve --store rediss://pickguard@redis.example.com --store-password-file /run/secrets/redis
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
    _set_up_logging(settings)
    try:
        serve(settings, announce=click.echo)
    except ServingError as error:
        fail(str(error))
    except KeyboardInterrupt:  # before the service was ready; nothing was acknowledged yet
        sys.exit(INTERRUPTED)


def _set_up_logging(settings: Settings) -> None:
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    # An event is a line of JSON, whole, with a time of its own: a machine can read it as it is.
    events = logging.getLogger("pickguard.events")
    bare = logging.StreamHandler(sys.stderr)
    events.handlers, events.propagate = [bare], False
    # Other libraries quote what clients send; only what they warn of is of interest.
    for name in ("aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
