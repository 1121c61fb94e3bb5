"""The command line. Its options are made from `Settings`, each with an environment variable of the same name."""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import click

from pickguard.entrypoints.settings import Option, Settings, SettingsError, options, show_duration

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
    return show_duration(value) if hasattr(value, "total_seconds") else str(value)


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
    # Other libraries quote what clients send; only what they warn of is of interest.
    for name in ("aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
