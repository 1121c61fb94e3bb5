"""What commands have in common: options made from `Settings`, the statuses that they end with, examples in their help."""

import os
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, Final, NoReturn

import click

from pickguard.entrypoints.settings import Option, Settings, SettingsError, options, show_value

DONE: Final = 0
FAILED: Final = 1
"""What was asked for could not be done."""
MISUSED: Final = 2
"""The command line makes no sense: nothing was tried."""
FOUND_WRONG: Final = 3
"""It ran to its end and found something wrong: a store in danger, lines that were refused."""
INTERRUPTED: Final = 130
"""By Ctrl-C, as a shell has it."""

STORE_SETTINGS: Final = (
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
"""The settings of a service that every command has which opens its store."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Failure(click.ClickException):
    """What a command was to do could not be done."""

    exit_code = FAILED

    def show(self, file: IO[Any] | None = None) -> None:
        """Say so, in one line."""
        say(self.message, file=file)


class Misuse(Failure):
    """The command line makes no sense."""

    exit_code = MISUSED


def fail(message: str) -> NoReturn:
    """End the command with one line for a person, because what it was to do could not be done."""
    raise Failure(message)


def refuse(message: str) -> NoReturn:
    """End the command with one line for a person, before anything is tried, because it makes no sense."""
    raise Misuse(message)


def say(message: str, file: IO[Any] | None = None) -> None:
    """Say something on standard error, in one line. Where nothing can be written there, what a command does goes on."""
    try:
        click.echo(f"pickguard: {' '.join(message.split())}", err=True, file=file)
    except OSError:
        let_go(sys.stderr)


def let_go(stream: IO[str]) -> None:
    """Have what is left for a stream that cannot be written go nowhere: Python would try again as it ends, and complain."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class Command(click.Command):
    """A command whose help ends with examples: lines of a shell, each of which works as it stands."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = [line.strip() for line in examples.splitlines() if line.strip()]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples below the options."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def settings_options(*only: str) -> Decorator:
    """Give a command an option for each setting, or for those that are named."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        defaults = Settings()
        for each in reversed(list(options())):
            if not each.in_environment_only and (not only or each.name in only):
                command = _click_option(each, _shown_default(each, defaults))(command)
        return command

    return add


def _click_option(each: Option, shown: str) -> Decorator:
    text = f"{each.help} [{each.variable}{f'; default {shown}' if shown else ''}]"
    if each.is_switch:
        return click.option(each.flag, each.name, flag_value="on", default=None, help=text)
    return click.option(each.flag, each.name, metavar=each.metavar, default=None, help=text)


def _shown_default(each: Option, defaults: Settings) -> str:
    value = getattr(defaults, each.name)
    if value is None or value is False or value in ("", ()):
        return ""
    return show_value(value)


def load(given: Mapping[str, str | None]) -> Settings:
    """Read the settings. What makes no sense ends the command."""
    try:
        return Settings.load(given, os.environ)
    except SettingsError as error:
        refuse(str(error))


@contextmanager
def packages_of_the_server() -> Generator[None]:
    """Imports of what only one command needs may fail here, and end the command."""
    try:
        yield
    except ModuleNotFoundError as error:
        fail(f"the package {error.name} is not installed: install pickguard[server]")
