"""`pickguard completion`."""

import click
from click.shell_completion import get_completion_class

from pickguard.entrypoints.commands.common import Command, fail

PROGRAM = "pickguard"


@click.command(
    "completion",
    cls=Command,
    short_help="Print what a shell needs to complete it.",
    examples="""
    eval "$(pickguard completion bash)"
    eval "$(pickguard completion zsh)"
    pickguard completion fish > ~/.config/fish/completions/pickguard.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, *, shell: str) -> None:
    """Print what a shell needs to complete commands and options, to be read by it at its start.

    The line below for bash goes into ~/.bashrc, and that for zsh into ~/.zshrc after compinit. fish needs a file, once.
    """
    kind = get_completion_class(shell)
    if kind is None:
        fail(f"the installed click knows nothing of {shell}")
    source = kind(context.find_root().command, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source()
    # click's lines for fish cut a description at its first comma.
    click.echo(source.replace('string split "," $completion', 'string split --max 1 "," $completion'))
