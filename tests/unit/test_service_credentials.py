"""What other services prove themselves with: its text, its file, and the command that makes it."""

import json
import os
import string
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pickguard.adapters.files.service_credentials import MAX_BYTES, ServiceCredentialFile
from pickguard.adapters.files.watching import LOOK_SECONDS
from pickguard.domain.model.errors import InvalidServiceCredential
from pickguard.domain.model.service_credentials import ServiceCredential, ServiceCredentials, ServiceSecret
from pickguard.domain.model.sessions import Token
from pickguard.entrypoints.cli import cli
from pickguard.entrypoints.settings import Settings, SettingsError
from tests.support.strategies import examples, tokens

secrets = st.builds(ServiceSecret, secret=st.binary(min_size=33, max_size=33))
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
SECRET = ServiceSecret(secret=bytes(range(33)))
OTHER = ServiceSecret(secret=bytes(33))


def credential(name: str, secret: ServiceSecret) -> ServiceCredential:
    return ServiceCredential(name=name, digest=secret.digest)


@examples(40)
@given(secrets)
def test_a_secret_is_read_as_it_was_revealed_and_needs_no_escaping_anywhere(secret: ServiceSecret) -> None:
    text = secret.reveal()
    assert ServiceSecret.parse(text) == secret
    assert text.startswith("pgs_")
    assert len(text) == 56
    assert set(text) <= set(string.ascii_letters + string.digits + "-_")
    assert text not in repr(secret)
    assert repr(secret.secret) not in repr(secret)


@examples(60)
@given(secrets, st.data())
def test_a_secret_with_any_one_character_changed_is_refused(secret: ServiceSecret, data: st.DataObject) -> None:
    text = secret.reveal()
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.one_of(st.sampled_from(string.printable), st.characters()).filter(lambda char: char != text[place]))
    with pytest.raises(InvalidServiceCredential):
        ServiceSecret.parse(text[:place] + other + text[place + 1 :])


@examples(20)
@given(tokens)
def test_a_users_token_is_no_secret_of_a_service(token: Token) -> None:
    for text in (token.reveal(), token.reveal().replace("pg_", "pgs_"), ""):
        with pytest.raises(InvalidServiceCredential):
            ServiceSecret.parse(text)


@examples(40)
@given(st.lists(st.tuples(names, secrets), max_size=6, unique_by=lambda each: each[1].secret))
def test_a_file_is_read_as_its_lines_were_written(made: list[tuple[str, ServiceSecret]]) -> None:
    lines = [credential(name, secret).line() for name, secret in made]
    found = ServiceCredentials.parse("# services\r\n\n" + "".join(f"\t{line} \r\n" for line in lines))
    assert [each.line() for each in found.known] == lines
    for name, secret in made:
        assert found.identify(secret).name == name
        assert found.identify(secret, name=name).name == name
        with pytest.raises(InvalidServiceCredential):
            found.identify(secret, name=f"{name}x")
        assert secret.reveal() not in "".join(lines) + repr(found)
        assert secret.digest.hex() not in repr(found)
        assert str(secret.digest) not in repr(found)


def test_a_service_may_have_two_secrets_and_no_two_services_one() -> None:
    lines = [credential("shop", SECRET).line(), credential("shop", OTHER).line()]
    found = ServiceCredentials.parse("\n".join(lines))
    assert found.identify(SECRET, name="shop") != found.identify(OTHER, name="shop")
    with pytest.raises(ValueError, match="line 3 has the digest of a line before it"):
        ServiceCredentials.parse("\n".join([*lines, credential("till", OTHER).line()]))


def test_no_secret_is_known_where_no_service_is() -> None:
    with pytest.raises(InvalidServiceCredential):
        ServiceCredentials.parse("").identify(SECRET)


@pytest.mark.parametrize(
    "line",
    [
        "shop",
        f"shop {SECRET.reveal()}",
        f"shop md5:{SECRET.digest.hex()}",
        f"shop sha256:{SECRET.digest.hex()[:-1]}",
        f"shop sha256:{SECRET.digest.hex().upper()}",
        f"shop sha256:{SECRET.digest.hex()} # a comment",
        f"-shop sha256:{SECRET.digest.hex()}",
        f"sh:op sha256:{SECRET.digest.hex()}",
        f"{'s' * 65} sha256:{SECRET.digest.hex()}",
        f"läden sha256:{SECRET.digest.hex()}",
    ],
)
def test_a_line_that_is_none_is_named_and_not_quoted(line: str) -> None:
    with pytest.raises(ValueError, match="line 2 is not NAME sha256:DIGEST") as caught:
        ServiceCredentials.parse(f"# one\n{line}\n")
    assert SECRET.reveal() not in str(caught.value)


class Ticks:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def write(path: Path, *secrets: ServiceSecret) -> None:
    """Put a file in the place of another, as tools do that others may read from."""
    new = path.with_suffix(".new")
    new.write_text("".join(f"{credential('shop', secret).line()}\n" for secret in secrets))
    new.replace(path)


def test_a_changed_file_counts_within_a_second(tmp_path: Path) -> None:
    path, clock = tmp_path / "services", Ticks()
    write(path, SECRET)
    source = ServiceCredentialFile(path, clock=clock)
    assert source.current().identify(SECRET).name == "shop"
    write(path, OTHER)
    clock.now += LOOK_SECONDS
    assert source.current().identify(OTHER).name == "shop"
    with pytest.raises(InvalidServiceCredential):
        source.current().identify(SECRET)


@pytest.mark.parametrize("harm", ["wrong", "gone", "no text", "a directory"])
def test_a_file_that_is_of_no_use_any_more_is_told_of_once_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    path, clock = tmp_path / "services", Ticks()
    write(path, SECRET)
    source = ServiceCredentialFile(path, clock=clock)
    path.unlink()
    if harm == "a directory":
        path.mkdir()
    elif harm != "gone":
        path.write_bytes(b"shop\n" if harm == "wrong" else b"\xff")
    for _ in range(3):
        clock.now += LOOK_SECONDS
        assert source.current().identify(SECRET).name == "shop"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "those before hold" in caplog.text
    if harm == "a directory":
        path.rmdir()
    write(path, OTHER)
    clock.now += LOOK_SECONDS
    assert source.current().identify(OTHER).name == "shop"


def test_a_file_that_may_not_be_looked_at_any_more_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, clock = tmp_path / "services", Ticks()
    write(path, SECRET)
    source = ServiceCredentialFile(path, clock=clock)

    def denied(*_: object, **__: object) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", denied)
        clock.now += LOOK_SECONDS
        assert source.current().identify(SECRET).name == "shop"
    assert "cannot be read: Permission denied" in caplog.text


def test_a_file_that_others_can_write_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "services"
    write(path, SECRET)
    path.chmod(0o644)
    ServiceCredentialFile(path)
    assert caplog.records == []
    path.chmod(0o664)
    ServiceCredentialFile(path)
    assert "chmod go-w" in caplog.text


@pytest.mark.parametrize("harm", ["missing", "a pipe", "a directory", "no text", "a wrong line", "large"])
def test_the_service_does_not_start_with_a_file_that_cannot_be_used(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "services"
    if harm == "a pipe":
        os.mkfifo(path)
    elif harm == "a directory":
        path.mkdir()
    elif harm == "no text":
        path.write_bytes(b"\xff\xfe")
    elif harm == "a wrong line":
        path.write_text("shop pgs_x\n")
    elif harm == "large":
        path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(SettingsError) as caught:
        Settings.load({"service_credentials": str(path)}, {})
    assert str(caught.value).startswith(f"--service-credentials: {path}")
    assert "\n" not in str(caught.value)


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, ["service-credential", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_the_command_prints_a_secret_and_its_line() -> None:
    status, told, _ = run("shop", "--json")
    assert status == 0
    made = json.loads(told)
    assert ServiceCredentials.parse(made["line"]).identify(ServiceSecret.parse(made["secret"])).name == "shop"
    assert made["name"] == "shop"
    status, told, _ = run("shop")
    assert status == 0
    secret, line = told.split("\n\n")[1].strip(), told.split("\n\n")[3].strip()
    assert ServiceCredentials.parse(line).identify(ServiceSecret.parse(secret)).name == "shop"
    assert secret != made["secret"]


def test_the_command_adds_a_line_to_a_file_that_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "services"
    _, first, _ = run("shop", "--append", str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(path.read_text().rstrip("\n"))  # as an editor may leave it
    _, second, _ = run("till", "--append", str(path))
    known = ServiceCredentials.parse(path.read_text())
    assert known.identify(ServiceSecret.parse(first.strip())).name == "shop"
    assert known.identify(ServiceSecret.parse(second.strip())).name == "till"


def test_the_command_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text("shop\n")
    no_text = tmp_path / "no text"
    no_text.write_bytes(b"\xff")
    for arguments, told in (
        (("a b",), "is no name of a service"),
        (("shop", "--append", str(bad)), "line 1 is not NAME"),
        (("shop", "--append", str(no_text)), "is not text in UTF-8"),
        (("shop", "--append", str(tmp_path / "missing" / "x")), "cannot be written"),
    ):
        status, out, error = run(*arguments)
        assert status != 0
        assert out == ""
        assert told in error.replace("\n", " ")
    assert bad.read_text() == "shop\n"
