"""`pickguard tune-argon2`."""

import sys
from datetime import timedelta

import click

from pickguard.entrypoints.commands.common import (
    INTERRUPTED,
    Command,
    fail,
    load,
    packages_of_the_server,
    refuse,
    settings_options,
)
from pickguard.entrypoints.settings import read_duration

HASHING_SETTINGS = ("workers", "hash_parallelism", "hash_threads")
"""The settings of a service that it has."""


@click.command(
    "tune-argon2",
    cls=Command,
    examples="""
    pickguard tune-argon2
    pickguard tune-argon2 --target 250ms --memory 1024 --workers 4
    pickguard tune-argon2 --json | jq -r .options
    """,
)
@click.option("--target", metavar="TIME", default="100ms", help="Longest that one hash may take. [default 100ms]")
@click.option(
    "--memory",
    "memory_mib",
    metavar="MIB",
    type=click.IntRange(min=1, max=16_777_216),
    help="Memory that all hashes together may take, in MiB; a quarter of the machine's if not given.",
)
@click.option("--budget", metavar="TIME", default="10s", help="How long to measure, about. [default 10s]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
@settings_options(*HASHING_SETTINGS)
def command(*, target: str, memory_mib: int | None, budget: str, as_json: bool, **given: str | None) -> None:
    """Measure what hashing takes on this machine, and propose how costly hashes should be.

    Run it where the service will run, and while nothing else does. It is never cheaper than OWASP's minimum.
    """
    settings = load(given)
    with packages_of_the_server():
        from pickguard.entrypoints.tuning import TuningError, tune  # noqa: PLC0415 (rich, for few commands only)
    try:
        tune(
            settings,
            target=_read_time("--target", target, timedelta(seconds=10)),
            memory_mib=memory_mib,
            budget=_read_time("--budget", budget, timedelta(minutes=10)),
            as_json=as_json,
        )
    except TuningError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _read_time(flag: str, text: str, most: timedelta) -> timedelta:
    try:
        return read_duration(text, timedelta(milliseconds=1), most)
    except ValueError as error:
        refuse(f"{flag}: {text!r}: {error}")
