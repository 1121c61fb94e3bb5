"""`pickguard service-credential`: make what another service proves itself with when it asks whose a token is."""

import json
import os
import secrets
from pathlib import Path

import click

from pickguard.domain.model.service_credentials import (
    NAME_RULE,
    SERVICE_SECRET_BYTES,
    ServiceCredential,
    ServiceCredentials,
    ServiceSecret,
)
from pickguard.entrypoints.commands.common import Command, fail, refuse


@click.command(
    "service-credential",
    cls=Command,
    short_help="Make a credential for another service.",
    examples="""
    pickguard service-credential shop
    pickguard service-credential shop --append services.credentials
    pickguard service-credential shop --json | jq -r .secret
    """,
)
@click.argument("name")
@click.option(
    "--append",
    "file",
    metavar="PATH",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Add the line to this file, which is made if need be, and print the secret alone.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
def command(*, name: str, file: Path | None, as_json: bool) -> None:
    """Make a credential for the service NAME, with which it may ask whose a token is (RFC 7662).

    The secret is for the service and is printed this once; the line is for the file of --service-credentials, and holds no
    secret. A second line with the same name lets a new secret take the place of an old one: add it, give the service the new
    secret, then remove the old line.
    """
    secret = ServiceSecret(secret=secrets.token_bytes(SERVICE_SECRET_BYTES))
    try:
        credential = ServiceCredential(name=name, digest=secret.digest)
    except ValueError:
        refuse(f"{name!r} is no name of a service: give {NAME_RULE}")
    if file is not None:
        _append(file, credential)
    text, line = secret.reveal(), credential.line()
    if as_json:
        click.echo(json.dumps({"name": name, "secret": text, "line": line}))
    elif file is not None:
        click.echo(text)
    else:
        click.echo(f"The secret, for the service; it is shown this once:\n\n  {text}\n")
        click.echo(f"The line, for the file of --service-credentials:\n\n  {line}")


def _append(file: Path, credential: ServiceCredential) -> None:
    """Add a line to a file that is sound, or is made here, for its owner alone."""
    try:
        with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+", encoding="utf-8") as opened:
            content = opened.read()
            ServiceCredentials.parse(content)
            gap = "" if not content or content.endswith("\n") else "\n"
            opened.write(f"{gap}{credential.line()}\n")
    except OSError as error:
        fail(f"--append: {file} cannot be written: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"--append: {file} is not text in UTF-8")
    except ValueError as error:
        fail(f"--append: {file}: {error}; nothing was added")
