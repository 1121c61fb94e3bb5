"""`pickguard openapi`."""

import click

from pickguard.entrypoints.commands.common import Command, load, packages_of_the_server, settings_options
from pickguard.entrypoints.commands.documents import as_text


@click.command(
    "openapi",
    cls=Command,
    short_help="Print the description of the HTTP API.",
    examples="""
    pickguard openapi > openapi.json
    pickguard openapi --mail console: --registration private | jq '.paths | keys'
    """,
)
@settings_options(
    "mail",
    "registration",
    "rate_limits",
    "no_tls",
    "public_url",
    "service_name",
    "cors_origins",
    "session_lifetime",
    "session_idle",
    "session_maximum",
    "reauthentication_window",
    "verification_lifetime",
    "reset_lifetime",
)
def command(**given: str | None) -> None:
    """Print the description of the HTTP API, OpenAPI 3.1, as a service with these settings serves it at /openapi.json.

    Give the settings of your service, by options or in its environment: without mail, for example, there are no resources to
    verify an address.
    """
    settings = load(given)
    with packages_of_the_server():
        from pickguard.entrypoints.http.openapi import openapi_document  # noqa: PLC0415 (aiohttp, for few commands only)
    click.echo(as_text(openapi_document(settings)))
