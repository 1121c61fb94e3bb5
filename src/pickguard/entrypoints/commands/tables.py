"""What commands print for people."""

import os
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pickguard.domain.model.sessions import Client, Session
from pickguard.domain.model.users import User
from pickguard.domain.services.administration import AccountView, Obstacle
from pickguard.entrypoints.commands.documents import last_use

_GAP: Final = 2
_DATE: Final = 10
_SESSIONS: Final = 8
_STATE: Final = 10
_ID: Final = 36
_UNBOUNDED: Final = 100
_LEAST_ADDRESS: Final = 20
_LEAST_NAME: Final = 12
_LONGEST_ADDRESS: Final = 44
_LONGEST_NAME: Final = 28
_SHOWN_ACTIVITY: Final = 10

EXPLANATIONS: Final = {
    Obstacle.DISABLED: "The account is disabled. `pickguard users enable` lets its user log in again.",
    Obstacle.DELETED: "Its user has deleted the account. `pickguard users restore` keeps it.",
    Obstacle.UNVERIFIED: (
        "The address is not verified, and with --registration private nobody logs in before it is. A reset by mail verifies it."
    ),
    Obstacle.LOCKED: "There were too many wrong passwords in a row.",
    Obstacle.LIMITED: "There were too many wrong passwords.",
}
"""Why a log-in fails, and what to do about it; for the last two, how long it lasts is added."""


class Listing:
    """A table of any number of users, printed as they come: its columns are as wide as the terminal lets them be.

    Where the output is no terminal nothing is cut: what does not fit moves the rest of its line.
    """

    def __init__(self, *, show_ids: bool | None = None) -> None:
        self._console = Console(soft_wrap=True, highlight=False)
        is_bounded = self._console.is_terminal or "COLUMNS" in os.environ
        width = self._console.width if is_bounded else _UNBOUNDED
        fixed = 2 * _DATE + _SESSIONS + _STATE + 5 * _GAP
        with_ids = width >= fixed + _ID + _GAP + _LEAST_ADDRESS + _LEAST_NAME + 20 if show_ids is None else show_ids
        left = width - fixed - (_ID + _GAP) * with_ids
        name = min(max(_LEAST_NAME, left * 2 // 5), _LONGEST_NAME)
        address = min(max(_LEAST_ADDRESS, left - name), _LONGEST_ADDRESS)
        self._cut = is_bounded
        self._widths = [*([_ID] if with_ids else []), address, name, _DATE, _DATE, _SESSIONS, _STATE]
        self._with_ids = with_ids

    def start(self) -> None:
        """Print the head."""
        heads = [*(["ID"] if self._with_ids else []), "ADDRESS", "NAME", "REGISTERED", "LAST USED", "SESSIONS", "STATE"]
        self._print(heads, style="bold")

    def add(self, user: User, sessions: Sequence[Session]) -> None:
        """Print a user with the sessions that are live."""
        last = last_use(sessions)
        style = "red" if user.disabled or user.deletes_at is not None else "yellow" if not user.email_verified else ""
        cells = [
            *([str(user.id)] if self._with_ids else []),
            user.email.value,
            user.name.value,
            f"{user.created_at:%Y-%m-%d}",
            "–" if last is None else f"{last:%Y-%m-%d}",
            str(len(sessions) or "–"),
            _state(user),
        ]
        self._print(cells, last_style=style)

    def end(self, number: int, *, stopped: bool = False) -> None:
        """Print how many there were."""
        words = f"{number:,} account{'' if number == 1 else 's'}{', where --limit stopped' if stopped else ''}."
        self._console.print(Text(words, style="dim"))

    def _print(self, cells: Sequence[str], *, style: str = "", last_style: str = "") -> None:
        line = Text(style=style)
        sessions = len(cells) - 2
        for place, (cell, width) in enumerate(zip(cells, self._widths, strict=True)):
            fitted = _fitted(cell, width, cut=self._cut)
            if place == sessions:
                fitted = fitted.strip().rjust(width)
            is_last = place == len(cells) - 1
            line.append(fitted.rstrip() if is_last else fitted, style=last_style if is_last else "")
            line.append("" if is_last else " " * _GAP)
        line.rstrip()
        self._console.print(line)


def _fitted(text: str, width: int, *, cut: bool) -> str:
    """Return a text as wide as a column."""
    length = cell_len(text)
    if length > width:
        return f"{set_cell_size(text, width - 1)}…" if cut else text
    return text + " " * (width - length)


def _state(user: User) -> str:
    if user.deletes_at is not None:
        return "deleted"
    return "disabled" if user.disabled else "" if user.email_verified else "unverified"


def print_view(view: AccountView) -> None:
    """Print all that there is to know about an account, and why a log-in to it would fail."""
    console = Console(highlight=False)
    with console.capture() as captured:
        _write_view(console, view)
    # The tables of rich end in spaces, which nobody wants to copy.
    console.out(re.sub(r" +$", "", captured.get(), flags=re.MULTILINE), end="", highlight=False)


def _write_view(console: Console, view: AccountView) -> None:
    user, now = view.user, view.at
    console.print(Text.assemble((user.name.value, "bold"), f"  {user.email.value}", overflow="fold"))
    console.print()
    _print_facts(console, _facts(view))
    console.print()
    _print_obstacles(console, view)
    rows = [(_ago(each.last_used_at, now), _moment(each.created_at), *_place(each.client)) for each in view.sessions]
    _print_rows(console, "Sessions", ("Last used", "Opened", "From", "With"), rows, none="No session is open.")
    activity = [
        (
            _moment(each.at),
            each.kind.value.replace("_", " ") + (f", {each.count} times" if each.count > 1 else ""),
            *_place(each.client),
        )
        for each in view.activity[:_SHOWN_ACTIVITY]
    ]
    more = len(view.activity) - len(activity)
    _print_rows(console, "Activity", ("When", "What", "From", "With"), activity, none="Nothing has happened yet.")
    if more:
        console.print(Text(f"  … and {more} more; --json shows them all.", style="dim"))


def _facts(view: AccountView) -> Iterable[tuple[str, str]]:
    user, tries, now = view.user, view.tries, view.at
    yield "Id", str(user.id)
    yield "Account", "disabled" if user.disabled else "enabled"
    if user.deletes_at is not None:
        yield "Deleted", f"by its user; gone for good at {_moment(user.deletes_at)}"
    yield "Address", "verified" if user.email_verified else "not verified"
    if user.pending_email is not None:
        yield "New address", f"{user.pending_email.value}, which has not confirmed it yet"
    yield "Registered", f"{_moment(user.created_at)}, {_ago(user.created_at, now)}"
    yield "Password set", f"{_moment(view.password_changed_at)}, {_ago(view.password_changed_at, now)}"
    if tries.run.last_at is None:
        yield "Wrong passwords", "none since the last right one" if not tries.sources else "none in a row"
    else:
        source = f", from {tries.run.last_source}" if tries.run.last_source else ""
        yield "Wrong passwords", f"{tries.run.count:,} in a row, the last {_ago(tries.run.last_at, now)}{source}"


def _print_facts(console: Console, facts: Iterable[tuple[str, str]]) -> None:
    grid = Table.grid(padding=(0, _GAP))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(name, Text(value))
    console.print(Padding(grid, (0, 0, 0, 2), expand=False))


def _print_obstacles(console: Console, view: AccountView) -> None:
    if not view.obstacles:
        console.print(Text("A log-in with the right password succeeds.", style="green"))
        return
    console.print(Text("A log-in fails, also with the right password:", style="bold red"))
    for each in view.obstacles:
        text = Text(f"{EXPLANATIONS[each]}{_how_long(each, view)}")
        grid = Table.grid(padding=(0, 1))
        grid.add_row("-", text)
        console.print(Padding(grid, (0, 0, 0, 2), expand=False))


def _how_long(obstacle: Obstacle, view: AccountView) -> str:
    tries = view.tries
    if obstacle is Obstacle.LOCKED and tries.locked_for is not None:
        return (
            f" It lasts for {_span(tries.locked_for)} more, but where the account was used lately. A reset by mail ends it, "
            "and so does `pickguard users set-password`."
        )
    if obstacle is Obstacle.LIMITED and tries.limited_for is not None:
        places = "1 client address" if tries.limited_sources == 1 else f"{tries.limited_sources:,} client addresses"
        return f" Log-ins from {places} are refused for {_span(tries.limited_for)} more; from others they succeed."
    return ""


def _print_rows(console: Console, title: str, heads: Sequence[str], rows: Sequence[tuple[str, ...]], *, none: str) -> None:
    console.print()
    console.print(Text(f"{title} ({len(rows)})" if rows and title == "Sessions" else title, style="bold"))
    if not rows:
        console.print(Text(f"  {none}", style="dim"))
        return
    table = Table.grid(padding=(0, _GAP), expand=True)
    for _ in heads[:-1]:
        table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_row(*(Text(head, style="dim") for head in heads))
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(Padding(table, (0, 0, 0, 2)))


def _place(client: Client) -> tuple[str, str]:
    """Return from where and with what, as it can be shown: what a program calls itself may hold anything."""
    agent = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in client.user_agent or "–")
    return client.ip or "–", agent


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


_UNITS: Final = ((31_557_600, "year"), (2_629_800, "month"), (86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def _span(span: timedelta) -> str:
    """Return a time in the largest unit that it has one of, rounded up: after so long it is over."""
    seconds = max(1, -(-span // timedelta(seconds=1)))
    size, unit = next(each for each in _UNITS if seconds >= each[0])
    number = -(-seconds // size)
    return f"{number} {unit}{'' if number == 1 else 's'}"


def _ago(moment: datetime, now: datetime) -> str:
    seconds = (now - moment) // timedelta(seconds=1)
    if seconds < 1:
        return "just now"
    size, unit = next(each for each in _UNITS if seconds >= each[0])
    number = seconds // size
    return f"{number} {unit}{'' if number == 1 else 's'} ago"
