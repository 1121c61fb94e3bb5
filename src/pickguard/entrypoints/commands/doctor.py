"""`pickguard doctor`."""

import sys

import click

from pickguard.entrypoints.commands.common import (
    STORE_SETTINGS,
    Command,
    fail,
    load,
    packages_of_the_server,
    refuse,
    settings_options,
)
from pickguard.entrypoints.settings import SettingsError


@click.command(
    "doctor",
    cls=Command,
    examples="""
    pickguard doctor
    pickguard doctor --store redis://redis.example.com --no-scan
    pickguard doctor --json | jq '.findings[] | select(.verdict != "ok")'
    """,
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
@click.option("--repair", is_flag=True, help="Mend what can be mended without a guess: restore lost claims, release orphans.")
@click.option("--no-scan", is_flag=True, help="Look at the servers only, and at no key.")
@settings_options(*STORE_SETTINGS)
def command(*, as_json: bool, repair: bool, no_scan: bool, **given: str | None) -> None:
    """Examine the store: does it keep what it acknowledges, and is all that it holds whole?

    It can run beside the service. Status 0: all is well, or there are warnings only; 1: the store could not be examined;
    3: something is wrong with it, warnings of durability included with --strict-durability.
    """
    if repair and no_scan:
        refuse("--repair and --no-scan exclude each other: what is to be mended has to be looked for")
    settings = load(given)
    with packages_of_the_server():
        from pickguard.entrypoints.doctor import DoctorError, examine  # noqa: PLC0415 (rich, for few commands only)
    try:
        sys.exit(examine(settings, as_json=as_json, scan=not no_scan, repair=repair))
    except SettingsError as error:
        refuse(str(error))
    except DoctorError as error:
        fail(str(error))
