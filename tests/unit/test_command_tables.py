"""What commands print for people, on a terminal of 80 columns."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import attrs
import pytest
from rich.cells import cell_len

from pickguard.domain.model.activity import Activity, ActivityKind
from pickguard.domain.model.identifiers import SessionId, UserId
from pickguard.domain.model.limits import Failures
from pickguard.domain.model.sessions import Client, Session, SessionDigest
from pickguard.domain.model.tries import Standing
from pickguard.domain.model.users import EmailAddress, PersonName, User
from pickguard.domain.services.administration import AccountView, Obstacle
from pickguard.entrypoints.commands.tables import EXPLANATIONS, Listing, print_view

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
FIREFOX = Client(ip="192.0.2.1", user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0")


@pytest.fixture(autouse=True)
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def a_user(email: str = "ada@example.com", name: str = "Ada Lovelace", **more: object) -> User:
    values = {"email_verified": True, "created_at": NOW - timedelta(days=800), "updated_at": NOW} | more
    return User(
        id=UserId(UUID("019b7d1f-2a0e-7000-8000-000000000001")),
        name=PersonName.parse(name),
        email=EmailAddress.parse(email),
        **values,  # type: ignore[arg-type]
    )


def a_session(*, used: timedelta = timedelta(minutes=5), client: Client = FIREFOX) -> Session:
    return Session(
        id=SessionId(UUID(int=7)),
        digest=SessionDigest(bytes(32)),
        created_at=NOW - timedelta(days=2),
        last_used_at=NOW - used,
        authenticated_at=NOW,
        client=client,
    )


def a_view(**more: object) -> AccountView:
    values = {
        "user": a_user(),
        "sessions": (),
        "activity": (),
        "password_changed_at": NOW - timedelta(days=40),
        "tries": Standing(),
        "obstacles": (),
    } | more
    return AccountView(at=NOW, **values)  # type: ignore[arg-type]


def shown(view: AccountView, capsys: pytest.CaptureFixture[str]) -> str:
    print_view(view)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    return "".join(f"{line.rstrip()}\n" for line in lines)


def test_a_list_of_users_fits_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    listing = Listing()
    listing.start()
    listing.add(a_user(), [a_session(), a_session(used=timedelta(days=3))])
    listing.add(a_user("a.very.long.local.part@and.a.long.domain.example", "A name that is much too long", disabled=True), [])
    listing.add(a_user("info@bücher.example", "日本 太郎", email_verified=False), [a_session()] * 100)
    listing.end(3)
    text = capsys.readouterr().out
    assert max(map(cell_len, text.splitlines())) == 80
    assert text == (
        "ADDRESS               NAME          REGISTERED  LAST USED   SESSIONS  STATE\n"
        "ada@example.com       Ada Lovelace  2023-10-25  2026-01-02         2\n"
        "a.very.long.local.p…  A name that…  2023-10-25  –                  –  disabled\n"
        "info@bücher.example   日本 太郎     2023-10-25  2026-01-02       100  unverified\n"
        "3 accounts.\n"
    )


def test_ids_are_listed_where_there_is_room_and_where_they_are_wanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for width, wanted in (("140", None), ("80", True)):
        monkeypatch.setenv("COLUMNS", width)
        Listing(show_ids=wanted).add(a_user(), [])
        assert capsys.readouterr().out.startswith("019b7d1f-2a0e-7000-8000-000000000001  ada@example.com ")
    Listing(show_ids=False).add(a_user(), [])
    assert "019b7d1f" not in capsys.readouterr().out


def test_nothing_is_cut_where_the_output_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS")
    address, name = f"{'a' * 60}@{'long.' * 20}example", "A name " * 14
    Listing().add(a_user(address, name), [])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split("  ")[:2] == [address, name.strip()]


def test_an_account_is_shown_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    view = a_view(
        sessions=(a_session(), a_session(used=timedelta(hours=30), client=Client())),
        activity=(
            Activity(kind=ActivityKind.LOGGED_IN, at=NOW - timedelta(days=2), client=FIREFOX),
            Activity(kind=ActivityKind.LOG_INS_FAILED, at=NOW - timedelta(days=2), client=Client(ip="2001:db8::1"), count=3),
            Activity(kind=ActivityKind.REGISTERED, at=NOW - timedelta(days=800)),
        ),
    )
    assert (
        shown(view, capsys)
        == """\
Ada Lovelace  ada@example.com

  Id               019b7d1f-2a0e-7000-8000-000000000001
  Account          enabled
  Address          verified
  Registered       2023-10-25 03:04 UTC, 2 years ago
  Password set     2025-11-23 03:04 UTC, 1 month ago
  Wrong passwords  none since the last right one

A log-in with the right password succeeds.

Sessions (2)
  Last used      Opened                From       With
  5 minutes ago  2025-12-31 03:04 UTC  192.0.2.1  Mozilla/5.0 (X11; Linux x86_6…
  1 day ago      2025-12-31 03:04 UTC  –          –

Activity
  When                  What                     From         With
  2025-12-31 03:04 UTC  logged in                192.0.2.1    Mozilla/5.0 (X11;…
  2025-12-31 03:04 UTC  log ins failed, 3 times  2001:db8::1  –
  2023-10-25 03:04 UTC  registered               –            –
"""
    )


def test_it_is_said_why_a_log_in_fails(capsys: pytest.CaptureFixture[str]) -> None:
    view = a_view(
        user=attrs.evolve(a_user(), disabled=True, email_verified=False, pending_email=EmailAddress.parse("new@example.com")),
        tries=Standing(
            run=Failures(count=1200, last_at=NOW - timedelta(seconds=20), last_source="203.0.113.66"),
            locked_for=timedelta(hours=23, minutes=59),
            sources=4,
            limited_sources=2,
            limited_for=timedelta(seconds=61),
        ),
        obstacles=tuple(Obstacle),
    )
    assert (
        shown(view, capsys)
        == """\
Ada Lovelace  ada@example.com

  Id               019b7d1f-2a0e-7000-8000-000000000001
  Account          disabled
  Address          not verified
  New address      new@example.com, which has not confirmed it yet
  Registered       2023-10-25 03:04 UTC, 2 years ago
  Password set     2025-11-23 03:04 UTC, 1 month ago
  Wrong passwords  1,200 in a row, the last 20 seconds ago, from 203.0.113.66

A log-in fails, also with the right password:
  - The account is disabled. `pickguard users enable` lets its user log in
    again.
  - Its user has deleted the account. `pickguard users restore` keeps it.
  - The address is not verified, and with --registration private nobody logs in
    before it is. A reset by mail verifies it.
  - There were too many wrong passwords in a row. It lasts for 24 hours more,
    but where the account was used lately. A reset by mail ends it, and so does
    `pickguard users set-password`.
  - There were too many wrong passwords. Log-ins from 2 client addresses are
    refused for 2 minutes more; from others they succeed.

Sessions
  No session is open.

Activity
  Nothing has happened yet.
"""
    )


def test_every_obstacle_is_explained() -> None:
    assert set(EXPLANATIONS) == set(Obstacle)


def test_what_a_client_calls_itself_does_nothing_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = Client(ip="192.0.2.1", user_agent="\x1b[2J\u202eevil [bold]x[/bold] :smile:")
    text = shown(a_view(sessions=(a_session(client=hostile),)), capsys)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[2J\ufffdevil [bold]x[/" in text


def test_much_activity_is_cut_and_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    view = a_view(activity=(Activity(kind=ActivityKind.RENAMED, at=NOW),) * 32)
    text = shown(view, capsys)
    assert text.count("renamed") == 10
    assert text.endswith("  … and 22 more; --json shows them all.\n")
