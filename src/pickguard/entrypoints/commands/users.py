"""`pickguard users`: what operators do to accounts, one by one."""

import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import click

from pickguard.domain.model.errors import AccountNotFound
from pickguard.domain.model.users import User
from pickguard.domain.services.administration import AccountView
from pickguard.entrypoints.bootstrap import Services
from pickguard.entrypoints.commands.common import (
    FOUND_WRONG,
    STORE_SETTINGS,
    Command,
    fail,
    load,
    packages_of_the_server,
    refuse,
    settings_options,
)
from pickguard.entrypoints.commands.documents import as_line, as_text, listed_document, user_document, view_document
from pickguard.entrypoints.commands.passwords import Given, password_options, read_password
from pickguard.entrypoints.commands.stores import Walk, find_user, not_there, work, workplace


class _InOrder(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of the commands, as they stand here."""
        return list(self.commands)


@click.group("users", cls=_InOrder, short_help="See and change accounts, one by one.")
def command() -> None:
    """See and change accounts, one by one.

    USER is an id or an e-mail address. The commands work on the store of a service, while it runs or not: name it as for
    `pickguard serve`, by options or in the environment, where other settings of the service count, too (limits, rules for
    passwords, mail).
    """


def _on_a_store(each: Callable[..., Any]) -> Callable[..., Any]:
    return settings_options(*STORE_SETTINGS)(each)


_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
_yes = click.option("--yes", is_flag=True, help="Do not ask first. Needed where nobody can answer.")
_user = click.argument("named", metavar="USER")


@command.command(
    "list",
    cls=Command,
    examples="""
    pickguard users list
    pickguard users list --email @example.com --limit 20
    pickguard users list --disabled --json | jq -r .email
    """,
)
@click.option("--email", "part", metavar="TEXT", help="Only those whose address has this in it, in any case.")
@click.option("--disabled", "only_disabled", is_flag=True, help="Only those who are disabled.")
@click.option("--unverified", "only_unverified", is_flag=True, help="Only those whose address is not verified.")
@click.option("--limit", type=click.IntRange(min=1), metavar="NUMBER", help="Stop after so many.")
@click.option("--ids/--no-ids", "show_ids", default=None, help="Show ids in the table. By default, where there is room.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each user (NDJSON), for programs.")
@_on_a_store
def list_command(
    *,
    part: str | None,
    only_disabled: bool,
    only_unverified: bool,
    limit: int | None,
    show_ids: bool | None,
    as_json: bool,
    **given: str | None,
) -> None:
    """List accounts, in no order, as they are found.

    Every account of the store is looked at, also for a part of an address; a whole address is found at once by
    `pickguard users show`. Accounts that are made or removed meanwhile may be listed or not, and one may be listed twice.

    Status 3: some accounts cannot be read; they are named.
    """
    settings = load(given)
    wanted_part = None if part is None else part.lower()

    def wanted(user: User) -> bool:
        return (
            (wanted_part is None or wanted_part in user.email.key or wanted_part in user.email.value.lower())
            and (user.disabled or not only_disabled)
            and not (user.email_verified and only_unverified)
        )

    with packages_of_the_server():
        from pickguard.entrypoints.commands.tables import Listing  # noqa: PLC0415 (rich, for few commands only)

    async def task(services: Services) -> bool:
        listing = None if as_json else Listing(show_ids=show_ids)
        if listing is not None:
            listing.start()
        number, walk = 0, Walk(services, wanted=wanted)
        async with aclosing(walk.entries()) as entries:
            async for entry in entries:
                number += 1
                sessions = services.administration.live_sessions(entry.sessions)
                if listing is None:
                    click.echo(as_line(listed_document(entry.user, sessions)))
                else:
                    listing.add(entry.user, sessions)
                if number == limit:
                    break
        if listing is not None:
            listing.end(number, stopped=number == limit)
        return not walk.unreadable

    if not work(settings, task):
        sys.exit(FOUND_WRONG)


@command.command(
    "show",
    cls=Command,
    short_help="Show one, and why a log-in to it fails.",
    examples="""
    pickguard users show ada@example.com
    pickguard users show ada@example.com --json | jq .obstacles
    """,
)
@_user
@_as_json
@_on_a_store
def show_command(*, named: str, as_json: bool, **given: str | None) -> None:
    """Show an account, its sessions and activity, and why a log-in to it would fail.

    Whether the address has to be verified, and what is too often, are settings of the service: this goes by the
    PICKGUARD_REGISTRATION and PICKGUARD_LIMIT_… of its own environment.
    """
    with packages_of_the_server():
        from pickguard.entrypoints.commands.tables import print_view  # noqa: PLC0415 (rich, for few commands only)

    async def task(services: Services) -> None:
        view = await _view(services, named)
        if as_json:
            click.echo(as_text(view_document(view, services.session_rules)))
        else:
            print_view(view)

    work(load(given), task)


@command.command(
    "create",
    cls=Command,
    examples="""
    pickguard users create --email ada@example.com --name Ada --generate
    pickguard users create --email ada@example.com --name Ada --no-password
    pickguard users create --email ada@example.com --name Ada --password-file pw
    """,
)
@click.option("--email", required=True, metavar="ADDRESS", help="E-mail address of the user.")
@click.option("--name", required=True, metavar="NAME", help="What the user is called.")
@click.option("--verified", is_flag=True, help="Take the address as verified.")
@password_options(optional=True)
@_as_json
@_on_a_store
def create_command(
    *,
    email: str,
    name: str,
    verified: bool,
    password_file: Path | None,
    password_stdin: bool,
    generate: bool,
    no_password: bool,
    as_json: bool,
    **given: str | None,
) -> None:
    """Make an account, also where nobody can register. Nothing is mailed."""
    settings = load(given)
    chosen = read_password(
        password_file=password_file,
        password_stdin=password_stdin,
        generate=generate,
        no_password=no_password,
        min_length=settings.password_min_length,
    )

    async def task(services: Services) -> None:
        user = await services.administration.create(name=name, email=email, password=chosen.password, email_verified=verified)
        told = f"{user.email.value} has an account: {user.id}"
        if no_password:
            told = f"{told}\nNobody knows its password: its user chooses one through a reset by mail, or you set one."
        _tell(told, as_json=as_json, document=user_document(user), chosen=chosen)

    work(settings, task)


@command.command("disable", cls=Command, examples="pickguard users disable ada@example.com")
@_user
@_dry_run
@_as_json
@_on_a_store
def disable_command(*, named: str, dry_run: bool, as_json: bool, **given: str | None) -> None:
    """Let nobody log in to an account. Its sessions end, and all that was mailed is void."""

    async def task(services: Services) -> None:
        view = await _view(services, named)
        if not _go_on("disable", view, yes=True, dry_run=dry_run, as_json=as_json):
            return
        user = await services.administration.disable(view.user.id)
        _tell(f"{user.email.value} is disabled; {_ended(len(view.sessions))}", as_json=as_json, document=user_document(user))

    work(load(given), task)


@command.command("enable", cls=Command, examples="pickguard users enable ada@example.com")
@_user
@_as_json
@_on_a_store
def enable_command(*, named: str, as_json: bool, **given: str | None) -> None:
    """Let an account be logged in to again. What ended when it was disabled stays ended."""

    async def task(services: Services) -> None:
        user = await services.administration.enable(await find_user(services, named))
        _tell(f"{user.email.value} is enabled", as_json=as_json, document=user_document(user))

    work(load(given), task)


@command.command(
    "restore",
    cls=Command,
    short_help="Keep an account that its user deleted.",
    examples="pickguard users restore ada@example.com",
)
@_user
@_as_json
@_on_a_store
def restore_command(*, named: str, as_json: bool, **given: str | None) -> None:
    """Keep an account that its user has deleted (--deletion-grace), until it is gone. The password stays what it was."""

    async def task(services: Services) -> None:
        view = await _view(services, named)
        user = await services.administration.restore(view.user.id)
        restored = view.user.deletes_at is not None
        said = f"{user.email.value} is restored" if restored else f"{user.email.value} had not been deleted"
        _tell(said, as_json=as_json, document=user_document(user))

    work(load(given), task)


@command.command(
    "delete",
    cls=Command,
    short_help="Delete an account for good.",
    examples="""
    pickguard users delete ada@example.com --dry-run
    pickguard users delete ada@example.com
    pickguard users delete 019b7d1f-2a0e-7000-8000-000000000001 --yes
    """,
)
@_user
@_yes
@_dry_run
@_as_json
@_on_a_store
def delete_command(*, named: str, yes: bool, dry_run: bool, as_json: bool, **given: str | None) -> None:
    """Delete an account with all that belongs to it, for good. Its address can be registered anew at once."""
    with workplace(load(given)) as place:
        view = place.do(lambda services: _view(services, named))
        if not _go_on("delete", view, yes=yes, dry_run=dry_run, as_json=as_json):
            return
        place.do(lambda services: services.administration.delete(view.user.id))
    document = {"id": str(view.user.id), "email": view.user.email.value, "deleted": True}
    _tell(f"{view.user.email.value} is deleted", as_json=as_json, document=document)


@command.command(
    "revoke-sessions",
    cls=Command,
    short_help="End every session of an account.",
    examples="""
    pickguard users revoke-sessions ada@example.com --dry-run
    pickguard users revoke-sessions ada@example.com --yes
    """,
)
@_user
@_yes
@_dry_run
@_as_json
@_on_a_store
def revoke_sessions_command(*, named: str, yes: bool, dry_run: bool, as_json: bool, **given: str | None) -> None:
    """End every session of an account: its user is logged out everywhere, and can log in again."""
    with workplace(load(given)) as place:
        view = place.do(lambda services: _view(services, named))
        if not _go_on("revoke-sessions", view, yes=yes, dry_run=dry_run, as_json=as_json):
            return
        ended = place.do(lambda services: services.administration.revoke_sessions(view.user.id))
    document = {"id": str(view.user.id), "email": view.user.email.value, "ended": ended}
    _tell(f"{view.user.email.value}: {_ended(ended)}", as_json=as_json, document=document)


@command.command(
    "set-password",
    cls=Command,
    examples="""
    pickguard users set-password ada@example.com
    pickguard users set-password ada@example.com --generate
    """,
)
@_user
@password_options(optional=False)
@_dry_run
@_as_json
@_on_a_store
def set_password_command(
    *,
    named: str,
    password_file: Path | None,
    password_stdin: bool,
    generate: bool,
    dry_run: bool,
    as_json: bool,
    **given: str | None,
) -> None:
    """Set another password.

    Every session ends, and so do resets that were mailed and a lock for too many wrong passwords. Where the environment has
    the service's PICKGUARD_MAIL, the user is told by mail.
    """
    settings = load(given)
    with workplace(settings, mails=True) as place:
        view = place.do(lambda services: _view(services, named))
        if not _go_on("set-password", view, yes=True, dry_run=dry_run, as_json=as_json):
            return
        chosen = read_password(
            password_file=password_file,
            password_stdin=password_stdin,
            generate=generate,
            min_length=settings.password_min_length,
        )
        password = chosen.password or ""  # there is no option to have none
        user = place.do(lambda services: services.administration.set_password(view.user.id, password))
    _tell(
        f"{user.email.value} has another password; {_ended(len(view.sessions))}",
        as_json=as_json,
        document=user_document(user),
        chosen=chosen,
    )


async def _view(services: Services, named: str) -> AccountView:
    """Return the account that a command names. Who is not there ends the command."""
    user_id = await find_user(services, named)
    try:
        return await services.administration.show(user_id)
    except AccountNotFound:
        not_there(named)


def _go_on(what: str, view: AccountView, *, yes: bool, dry_run: bool, as_json: bool) -> bool:
    """Tell whether a command is to do what it is for; without `yes`, whoever called it is asked."""
    does, asks = _WORDS[what]
    shown = f"{view.user.email.value} ({view.user.name.value})"
    sessions = _counted(len(view.sessions), "session")
    if dry_run:
        document = {
            "dry_run": True,
            "would": what,
            "id": str(view.user.id),
            "email": view.user.email.value,
            "sessions": len(view.sessions),
        }
        _tell(does.format(shown=shown, sessions=sessions), as_json=as_json, document=document)
        return False
    if yes:
        return True
    if not sys.stdin.isatty():
        refuse(f"{what} asks before it does anything, and nobody can answer here: add --yes")
    return click.confirm(asks.format(shown=shown, sessions=sessions), err=True) or fail("nothing was done")


_WORDS: Final = {
    "disable": ("would disable {shown} and end {sessions}", ""),
    "delete": ("would delete {shown} with {sessions}", "Delete {shown} with {sessions}, for good?"),
    "revoke-sessions": ("would end {sessions} of {shown}", "End {sessions} of {shown}?"),
    "set-password": ("would set the password of {shown} and end {sessions}", ""),
}
"""What a command would do, and what is asked before it does."""


def _tell(text: str, *, as_json: bool, document: dict[str, object], chosen: Given | None = None) -> None:
    """Print what was done, and a password that was made up for it."""
    password = chosen.password if chosen is not None and chosen.is_generated else None
    if as_json:
        click.echo(as_text(document if password is None else {**document, "password": password}))
        return
    click.echo(text)
    if password is not None:
        click.echo(f"Password: {password}")


def _ended(number: int) -> str:
    return f"{_counted(number, 'session')} ended"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}" if number else f"no {what}"
