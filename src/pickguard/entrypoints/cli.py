"""The command line. Its options are made from `Settings`, each with an environment variable of the same name."""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NoReturn

import click

from pickguard.entrypoints.commands.service_credential import service_credential_command
from pickguard.entrypoints.settings import Option, Settings, SettingsError, options, read_duration, show_value

FAILED = 1
MISUSED = 2

STORE_SETTINGS = (
    "store",
    "store_password_file",
    "sentinel_password_file",
    "store_ca",
    "wait_replicas",
    "wait_timeout",
    "strict_durability",
    "data_dir",
    "engine",
    "store_connections",
    "store_connect_timeout",
    "store_timeout",
)
"""The settings of a service that `doctor` has, too."""

HASHING_SETTINGS = ("workers", "hash_parallelism", "hash_threads")
"""Those that `tune-argon2` has."""


def main() -> NoReturn:
    """Run the command line; what is wrong is said in one line, with a status that is not zero."""
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(MISUSED)
    except click.ClickException as error:
        _fail(error.format_message(), MISUSED)
    except click.Abort:
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> NoReturn:
    click.echo(f"pickguard: {' '.join(message.split())}", err=True)
    sys.exit(status)


def _settings_options(*only: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command an option for each setting, or for those that are named."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for each in reversed(list(options())):
            if not each.in_environment_only and (not only or each.name in only):
                command = _click_option(each)(command)
        return command

    return add


def _click_option(each: Option) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    shown = _shown_default(each)
    text = f"{each.help} [{each.variable}{f'; default {shown}' if shown else ''}]"
    if each.is_switch:
        return click.option(each.flag, each.name, flag_value="on", default=None, help=text)
    return click.option(each.flag, each.name, metavar=each.metavar, default=None, help=text)


def _shown_default(each: Option) -> str:
    value = getattr(Settings(), each.name)
    if value is None or value is False or value in ("", ()):
        return ""
    return show_value(value)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="pickguard", prog_name="pickguard", message="%(prog)s %(version)s")
def cli() -> None:
    """Accounts and sessions over HTTP."""


@cli.command("serve")
@_settings_options()
def serve_command(**given: str | None) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C.

    Without options it listens at https://127.0.0.1:9443 and keeps its data in ./pickguard-data.
    """
    settings = _load(given)
    try:
        from pickguard.entrypoints.serving import ServingError, serve  # noqa: PLC0415 (aiohttp, for this command only)
    except ModuleNotFoundError as error:
        _fail(f"the package {error.name} is not installed: install pickguard[server]", FAILED)
    _set_up_logging(settings)
    try:
        serve(settings, announce=click.echo)
    except ServingError as error:
        _fail(str(error), FAILED)
    except KeyboardInterrupt:  # before the service was ready; nothing was acknowledged yet
        sys.exit(130)


@cli.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
@click.option("--repair", is_flag=True, help="Mend what can be mended without a guess: restore lost claims, release orphans.")
@click.option("--no-scan", is_flag=True, help="Look at the servers only, and at no key.")
@_settings_options(*STORE_SETTINGS)
def doctor_command(*, as_json: bool, repair: bool, no_scan: bool, **given: str | None) -> None:
    """Examine the store: does it keep what it acknowledges, and is all that it holds whole?

    It can run beside the service. Status 0: all is well, or there are warnings only; 1: the store could not be examined;
    3: something is wrong with it, warnings of durability included with --strict-durability.
    """
    if repair and no_scan:
        _fail("--repair and --no-scan exclude each other: what is to be mended has to be looked for", MISUSED)
    settings = _load(given)
    try:
        from pickguard.entrypoints.doctor import DoctorError, examine  # noqa: PLC0415 (rich, for this command only)
    except ModuleNotFoundError as error:
        _fail(f"the package {error.name} is not installed: install pickguard[server]", FAILED)
    try:
        sys.exit(examine(settings, as_json=as_json, scan=not no_scan, repair=repair))
    except SettingsError as error:
        _fail(str(error), MISUSED)
    except DoctorError as error:
        _fail(str(error), FAILED)


@cli.command("tune-argon2")
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
@_settings_options(*HASHING_SETTINGS)
def tune_command(*, target: str, memory_mib: int | None, budget: str, as_json: bool, **given: str | None) -> None:
    """Measure what hashing takes on this machine, and propose how costly hashes should be.

    Run it where the service will run, and while nothing else does. It is never cheaper than OWASP's minimum.
    """
    settings = _load(given)
    try:
        from pickguard.entrypoints.tuning import TuningError, tune  # noqa: PLC0415 (rich, for this command only)
    except ModuleNotFoundError as error:
        _fail(f"the package {error.name} is not installed: install pickguard[server]", FAILED)
    try:
        tune(
            settings,
            target=_read_time("--target", target, timedelta(seconds=10)),
            memory_mib=memory_mib,
            budget=_read_time("--budget", budget, timedelta(minutes=10)),
            as_json=as_json,
        )
    except TuningError as error:
        _fail(str(error), FAILED)
    except KeyboardInterrupt:
        sys.exit(130)


cli.add_command(service_credential_command)


def _read_time(flag: str, text: str, most: timedelta) -> timedelta:
    try:
        return read_duration(text, timedelta(milliseconds=1), most)
    except ValueError as error:
        _fail(f"{flag}: {text!r}: {error}", MISUSED)


def _load(given: Mapping[str, str | None]) -> Settings:
    try:
        return Settings.load(given, os.environ)
    except SettingsError as error:
        _fail(str(error), MISUSED)


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
