"""The command line. Its options are made from `Settings`, each with an environment variable of the same name."""

import errno
import importlib
import io
import logging
import os
import sys
from difflib import get_close_matches
from typing import Final, NoReturn

import click

from pickguard.entrypoints.commands.common import FAILED, INTERRUPTED, MISUSED, let_go, say

COMMANDS: Final = {
    "serve": "serve",
    "users": "users",
    "import": "import_users",
    "export": "export_users",
    "doctor": "doctor",
    "tune-argon2": "tune_argon2",
    "service-credential": "service_credential",
    "openapi": "openapi",
    "completion": "completion",
}
"""The commands, in the order of the help, and the module of each."""

_UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""What the system says where standard output cannot be written. Files of its own each command looks after itself."""


class LazyGroup(click.Group):
    """A group whose commands are imported as they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"pickguard.entrypoints.commands.{COMMANDS[cmd_name]}")
        command: click.Command = module.command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is asked for. click looks for one of a like name only among those that are imported."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            alike = get_close_matches(args[0], COMMANDS, n=1)
            if not alike or args[0].startswith("-"):
                raise
            ctx.fail(f"No such command {args[0]!r}. Did you mean {alike[0]!r}?")


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="pickguard", prog_name="pickguard", message="%(prog)s %(version)s")
def cli() -> None:
    """Accounts and sessions over HTTP.

    Begin with `pickguard serve`: it needs no options. Every command explains itself with --help.
    """


def main() -> NoReturn:
    """Run the command line; what is wrong is said in one line, with a status that is not zero."""
    _open_what_is_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal cannot show is no reason to fail
        sys.stdout.reconfigure(errors="replace")
    logging.basicConfig(format="pickguard: %(message)s", level=logging.WARNING)  # what is not worth a word is not said
    try:
        status = _run()
    except click.UsageError as error:
        say(f"{error.format_message()}{_where_help_is(error.ctx)}")
        sys.exit(error.exit_code)
    except click.ClickException as error:
        say(error.format_message())
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        let_go(sys.stdout)
        say(f"the output cannot be written: {error.strerror}; what else it was to do may have been done")
        sys.exit(FAILED)
    sys.exit(status if isinstance(status, int) else 0)


def _run() -> object:
    try:
        return cli.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        try:
            click.echo(error.format_message())
        except BrokenPipeError:  # whoever read has stopped, of which nobody is told
            let_go(sys.stdout)
        return MISUSED


def _open_what_is_closed() -> None:
    """Open standard streams that are closed onto nothing: a connection would take their numbers, and be read and written."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)  # as such streams are: programs that are started have them, too
            setattr(sys, name, os.fdopen(number, mode))


def _where_help_is(context: click.Context | None) -> str:
    return f" `{context.command_path} --help` tells what there is." if context else ""
