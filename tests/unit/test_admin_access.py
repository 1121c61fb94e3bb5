"""Who may administer, where they are listened to, and what would let somebody else in."""

import contextlib
import logging
import os
import socket
import stat
from functools import partial
from pathlib import Path

import pytest

from pickguard.adapters.files.watching import LOOK_SECONDS, WatchedFiles
from pickguard.entrypoints.admin.access import (
    Gate,
    Right,
    TokenFile,
    TokensError,
    note_fault,
    note_renewal,
    read_token_files,
    read_tokens,
)
from pickguard.entrypoints.admin.address import AdminAddress
from pickguard.entrypoints.admin.listening import AdminListeningError, listening
from pickguard.entrypoints.http.problems import ProblemError
from pickguard.entrypoints.settings import Settings, SettingsError
from tests.support.operators import LOCAL, OPERATOR, OTHER_OPERATOR, SCRAPER, some_tokens

# Addresses.


@pytest.mark.parametrize(
    ("text", "is_local", "url"),
    [
        ("127.0.0.1:9444", True, "http://127.0.0.1:9444"),
        ("127.9.9.9:9444", True, "http://127.9.9.9:9444"),
        ("localhost:9444", True, "http://localhost:9444"),
        ("127.0.0.1:65535", True, "http://127.0.0.1:65535"),
        ("[::1]:9444", True, "http://[::1]:9444"),
        ("10.0.0.5:9444", False, "https://10.0.0.5:9444"),
        ("0.0.0.0:9444", False, "https://0.0.0.0:9444"),
        ("[::]:9444", False, "https://[::]:9444"),
        ("localhost.example.com:9444", False, "https://localhost.example.com:9444"),
        ("unix:/run/pickguard/admin.sock", True, "unix:/run/pickguard/admin.sock"),
    ],
)
def test_an_address_says_who_can_connect(text: str, url: str, *, is_local: bool) -> None:
    address = AdminAddress.parse(text)
    assert address.is_local == is_local
    assert address.url(address.port, tls=not is_local) == url


@pytest.mark.parametrize(
    "text",
    ["", "9444", ":9444", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "::1:9444", "[x]:1", "unix:", "unix:\n", "a b:1"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^give "):
        AdminAddress.parse(text)


def test_a_path_has_to_fit_into_the_kernel() -> None:
    AdminAddress.parse("unix:" + "x" * 103)
    AdminAddress.parse("unix:" + "é" * 51)
    with pytest.raises(ValueError, match="at most 103 bytes"):
        AdminAddress.parse("unix:" + "x" * 104)
    with pytest.raises(ValueError, match="at most 103 bytes"):
        AdminAddress.parse("unix:" + "é" * 52)


# Settings.


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"admin_listen": "127.0.0.1:9444"}, "needs --admin-token-file"),
        ({"admin_listen": "0.0.0.0:9444"}, "needs --admin-token-file"),
        ({"admin_listen": "unix:a.sock", "metrics_token_file": Path("x")}, "needs --admin-token-file"),
        ({"admin_listen": "10.0.0.5:9444", "admin_token_file": Path("x"), "no_tls": True}, "unencrypted"),
        ({"admin_token_file": Path("x")}, "need --admin-listen"),
        ({"metrics_token_file": Path("x")}, "need --admin-listen"),
    ],
)
def test_a_listener_that_would_let_others_in_is_refused(given: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        Settings(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given",
    [
        {"admin_listen": "unix:a.sock"},
        {"admin_listen": "unix:a.sock", "admin_token_file": Path("x"), "metrics_token_file": Path("y")},
        {"admin_listen": "127.0.0.1:9444", "admin_token_file": Path("x"), "no_tls": True},
        {"admin_listen": "10.0.0.5:9444", "admin_token_file": Path("x")},
    ],
)
def test_a_listener_that_lets_nobody_else_in_is_taken(given: dict[str, object]) -> None:
    assert Settings(**given).admin_address  # type: ignore[arg-type]


def test_without_an_address_there_is_no_listener() -> None:
    assert Settings().admin_address is None


# Tokens.


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has no token"),
        (b"# only a remark\n\n", "has no token"),
        (b"short\n", "line 1 of .* is no token: give at least 32 random characters"),
        (b"x" * 31, "line 1 of"),
        (b"# one\nada:" + b"x" * 31, "line 2 of"),
        (b"a name:" + b"x" * 40, "line 1 of"),
        ("ä".encode() * 40, "line 1 of"),
        (b"\xff" * 40, "not text in UTF-8"),
    ],
)
def test_a_file_without_good_tokens_is_refused_and_not_quoted(content: bytes, says: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_bytes(content)
    with pytest.raises(TokensError, match=says) as refused:
        read_tokens(file, right=Right.EVERYTHING, flag="--admin-token-file")
    assert "xxx" not in str(refused.value)
    assert str(refused.value).startswith("--admin-token-file: ")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokensError, match="nothing cannot be read: No such file"):
        read_tokens(tmp_path / "nothing", right=Right.METRICS, flag="--metrics-token-file")


def test_tokens_are_not_in_what_is_kept_of_them(tmp_path: Path) -> None:
    tokens = some_tokens(tmp_path)
    assert [(each.operator.name, each.operator.right) for each in tokens] == [
        ("admin", Right.EVERYTHING),
        ("grace", Right.EVERYTHING),
        ("metrics", Right.METRICS),
    ]
    for token in (OPERATOR, OTHER_OPERATOR, SCRAPER):
        assert token not in repr(tokens)
    for kept in tokens:
        assert repr(kept.digest) not in repr(tokens)


def two_files(directory: Path) -> list[TokenFile]:
    return [
        TokenFile(path=directory / "admin-tokens", right=Right.EVERYTHING, flag="--admin-token-file"),
        TokenFile(path=directory / "metrics-token", right=Right.METRICS, flag="--metrics-token-file"),
    ]


def test_a_token_in_both_files_is_refused_and_not_quoted(tmp_path: Path) -> None:
    some_tokens(tmp_path)
    people, scrapers = two_files(tmp_path)
    scrapers.path.write_text(f"prometheus:{SCRAPER}\nboth:{OTHER_OPERATOR}\n")
    with pytest.raises(TokensError) as refused:
        read_token_files([people, scrapers])
    assert str(refused.value) == (
        f"--metrics-token-file: {scrapers.path} has a token that is one of --admin-token-file, too: "
        "give each file tokens of its own"
    )
    people.path.write_text(f"{OPERATOR}\nagain:{OPERATOR}\n")  # twice in one file says the same twice
    assert len(read_token_files([people])) == 2


# The gate.


def outcome(gate: Gate, authorization: str | None, needed: Right = Right.EVERYTHING) -> str | int:
    try:
        return gate.admit({} if authorization is None else {"Authorization": authorization}, needed).name
    except ProblemError as error:
        challenged = error.problem.headers["WWW-Authenticate"].startswith('Bearer realm="pickguard"')
        return error.problem.type.status if challenged else "not challenged"


def test_only_who_has_a_token_gets_in(tmp_path: Path) -> None:
    gate = Gate(partial(some_tokens, tmp_path), LOCAL)
    assert outcome(gate, f"Bearer {OPERATOR}") == "admin"
    assert outcome(gate, f"bearer  {OTHER_OPERATOR} ") == "grace"
    for wrong in (
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Basic {OPERATOR}",
        OPERATOR,
        f"Bearer {OPERATOR}x",
        f"Bearer {OPERATOR[:-1]}",
        f"Bearer {OPERATOR.upper()}",
        "Bearer \udcff",
        f"Bearer admin:{OPERATOR}",
    ):
        assert outcome(gate, wrong) == 401, wrong


@pytest.mark.parametrize("empty", ["Bearer", "Bearer ", "bearer   "])
def test_a_header_without_a_token_is_told_from_a_wrong_token(empty: str, tmp_path: Path) -> None:
    with pytest.raises(ProblemError) as refused:
        Gate(partial(some_tokens, tmp_path), LOCAL).admit({"Authorization": empty}, Right.METRICS)
    assert refused.value.problem.type.slug == "authentication-required"
    assert "error=" not in refused.value.problem.headers["WWW-Authenticate"]


def test_a_token_for_metrics_opens_nothing_else(tmp_path: Path) -> None:
    gate = Gate(partial(some_tokens, tmp_path), LOCAL)
    assert outcome(gate, f"Bearer {SCRAPER}", Right.METRICS) == "metrics"
    assert outcome(gate, f"Bearer {SCRAPER}") == 401
    assert outcome(gate, f"Bearer {OPERATOR}", Right.METRICS) == "admin"


def test_changed_files_count_within_a_second_unless_they_are_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    some_tokens(tmp_path)
    files = two_files(tmp_path)
    people = files[0]
    now = [0.0]
    tokens = WatchedFiles(
        [each.path for each in files],
        lambda: read_token_files(files),
        renewed=note_renewal,
        failed=note_fault,
        clock=lambda: now[0],
    )
    gate, new = Gate(tokens.current, LOCAL), "n" * 32

    def write(path: Path, text: str) -> None:
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").replace(path)
        now[0] += LOOK_SECONDS

    write(people.path, f"ada:{new}\n")
    assert outcome(gate, f"Bearer {new}") == "ada"
    assert outcome(gate, f"Bearer {OPERATOR}") == 401
    assert outcome(gate, f"Bearer {SCRAPER}", Right.METRICS) == "metrics"
    assert caplog.messages == ["the tokens of operators were read again: 2"]
    # An empty file lets nobody in beside those before, and everybody less.
    for wrong in ("", "short\n", f"{SCRAPER}\n"):
        caplog.clear()
        write(people.path, wrong)
        for _ in range(2):
            assert outcome(gate, f"Bearer {new}") == "ada"
            assert outcome(gate, f"Bearer {'x' * 32}") == 401
            assert outcome(gate, None) == 401
            now[0] += LOOK_SECONDS
        (told,) = caplog.messages
        assert told.startswith("the tokens of operators were not read again, and those before hold: --")
    people.path.unlink()
    os.mkfifo(people.path)
    now[0] += LOOK_SECONDS
    assert outcome(gate, f"Bearer {new}") == "ada"
    people.path.unlink()
    write(people.path, f"{OPERATOR}\n")
    assert outcome(gate, f"Bearer {OPERATOR}") == "admin"
    assert outcome(gate, f"Bearer {new}") == 401
    assert OPERATOR not in caplog.text


def test_without_tokens_whoever_can_connect_gets_in() -> None:
    assert outcome(Gate(tuple, AdminAddress(path=Path("admin.sock"))), None) == "local"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9444", "localhost:1", "LOCALHOST", "[::1]", "[::1]:9444"])
def test_names_of_this_machine_are_served(host: str) -> None:
    Gate(tuple, LOCAL).check_host(host)


@pytest.mark.parametrize("own", ["127.9.9.9:9444", "[0:0:0:0:0:0:0:1]:9444"])
def test_the_address_that_was_given_is_a_name_of_its_own(own: str) -> None:
    Gate(tuple, AdminAddress.parse(own)).check_host(own)
    with pytest.raises(ProblemError):
        Gate(tuple, LOCAL).check_host(own)


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:9444", "127.0.0.1.evil.example", "localhost.evil.example:9444", "[::2]:9444"]
)
def test_a_name_that_somebody_gave_this_address_is_not_served(host: str) -> None:
    with pytest.raises(ProblemError):
        Gate(tuple, LOCAL).check_host(host)


@pytest.mark.parametrize("address", ["unix:a.sock", "10.0.0.5:9444"])
def test_where_names_are_not_known_all_are_served(address: str) -> None:
    Gate(tuple, AdminAddress.parse(address)).check_host("pickguard.internal:9444")


def test_refusals_are_logged_once_in_a_while_with_their_number(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    now = [0.0]
    gate = Gate(tuple, LOCAL, clock=lambda: now[0])
    for _ in range(3):
        gate.note_refusal()
    now[0] = 9.9
    gate.note_refusal()
    now[0] = 10.0
    gate.note_refusal()
    said = "refused at the listener for administration, without a valid token"
    assert caplog.messages == [f"{said}: 1", f"{said}: 4"]


# Sockets.


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def test_a_unix_socket_is_its_owners_alone_and_goes_with_the_service(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    before = os.umask(0)
    try:
        with listening(AdminAddress(path=path)):
            mode = path.stat().st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600
            assert connects(path)
            assert os.umask(0) == 0, "the umask is as it was"
        assert not path.exists()
    finally:
        os.umask(before)


def test_a_socket_that_a_killed_service_has_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with listening(AdminAddress(path=path)):
        assert connects(path)


def test_a_socket_in_use_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with listening(AdminAddress(path=path)):
        with pytest.raises(AdminListeningError, match="in use by another program"), listening(AdminAddress(path=path)):
            pass
        assert connects(path)


def test_a_socket_that_accepts_nobody_is_in_use_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with contextlib.ExitStack() as opened:
        frozen = opened.enter_context(socket.socket(socket.AF_UNIX))
        frozen.bind(str(path))
        frozen.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = opened.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(path))
        with pytest.raises(AdminListeningError, match="in use by another program"), listening(AdminAddress(path=path)):
            pass
        assert path.is_socket()


def test_a_socket_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(AdminListeningError, match="cannot be used: "), listening(AdminAddress(path=path)):
            pass
        assert path.is_socket()


def test_a_socket_that_somebody_removed_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with listening(AdminAddress(path=path)):
        path.unlink()
    assert not path.exists()


def test_a_file_is_not_taken_for_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("keep me")
    with pytest.raises(AdminListeningError, match="no socket"), listening(AdminAddress(path=path)):
        pass
    assert path.read_text() == "keep me"


def test_what_took_the_place_of_the_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with listening(AdminAddress(path=path)):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


def test_a_socket_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "admin.sock"
    with (
        pytest.raises(AdminListeningError, match="cannot be made: No such file or directory"),
        listening(AdminAddress(path=path)),
    ):
        pass


def test_a_port_in_use_is_told_in_one_line() -> None:
    with listening(AdminAddress(host="127.0.0.1")) as taken:
        port = taken.getsockname()[1]
        address = AdminAddress(host="127.0.0.1", port=port)
        with pytest.raises(AdminListeningError, match=f"port {port} is in use by another program"), listening(address):
            pass


def test_a_host_that_is_nowhere_is_told_in_one_line() -> None:
    with (
        pytest.raises(AdminListeningError, match="there is no such address"),
        listening(AdminAddress(host="host.invalid", port=1)),
    ):
        pass
