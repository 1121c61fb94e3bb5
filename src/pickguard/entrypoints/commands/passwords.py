"""How a command is given a password: never as an argument, which everybody on the machine could read among the processes."""

import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs
import click

from pickguard.domain.model.credentials import PASSWORD_MAX_LENGTH
from pickguard.entrypoints.commands.common import fail, refuse

_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
"""Nothing that is taken for something else when it is read out. 32 characters: 5 bits each."""
_GROUP: Final = 5
_LEAST_GROUPS: Final = 4
"""100 bits. Whoever is given it can log in with it at once, and for as long as it is not changed."""
_MOST_BYTES: Final = 4 * PASSWORD_MAX_LENGTH + 2


@attrs.frozen(kw_only=True)
class Given:
    """A password, and whether it was made up here, so that it has to be shown."""

    password: str | None = attrs.field(repr=False)
    """None: there is to be none that anybody knows."""
    is_generated: bool = False


def password_options(*, optional: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options that say where its password comes from; `optional`, also that there is none."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        if optional:
            text = "Give the account a password that nobody knows: its user chooses one through a reset by mail."
            command = click.option("--no-password", is_flag=True, help=text)(command)
        for flag, text in (
            ("--generate", "Make up a password, and print it once."),
            ("--password-stdin", "Read the password from standard input."),
        ):
            command = click.option(flag, is_flag=True, help=text)(command)
        text = "Read the password from a file. Without any of these it is asked for; it is never an argument, which others see."
        return click.option("--password-file", metavar="PATH", type=click.Path(path_type=Path), help=text)(command)

    return add


def read_password(
    *,
    password_file: Path | None,
    password_stdin: bool,
    generate: bool,
    no_password: bool = False,
    min_length: int,
) -> Given:
    """Return the password that a command is given. What is wrong with how it is given ends the command."""
    chosen = [password_file is not None, password_stdin, generate, no_password]
    if sum(chosen) > 1:
        refuse("give the password in one way only")
    if no_password:
        return Given(password=None)
    if generate:
        groups = max(_LEAST_GROUPS, -(-(min_length + 1) // (_GROUP + 1)))
        return Given(
            password="-".join("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(groups)),
            is_generated=True,
        )
    if password_file is not None:
        return Given(password=_read_file(password_file))
    if password_stdin:
        return Given(password=_decoded(sys.stdin.buffer.read(_MOST_BYTES + 1), "standard input"))
    if not sys.stdin.isatty():
        refuse("nobody can be asked for the password here: give --password-file, --password-stdin or --generate")
    return Given(password=click.prompt("Password", hide_input=True, confirmation_prompt="The same again", err=True))


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _decoded(file.read(_MOST_BYTES + 1), str(path))
    except OSError as error:
        fail(f"--password-file: {path} cannot be read: {error.strerror}")


def _decoded(data: bytes, source: str) -> str:
    """Return the text, without the end of the line that an editor puts there."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        fail(f"{source} is not text in UTF-8")
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        fail(f"{source} holds no password")
    if "\n" in text:
        fail(f"{source} holds more than one line")
    return text
