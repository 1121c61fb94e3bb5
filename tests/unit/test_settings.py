"""Settings: every one can be given in two ways, and what makes no sense is told in one line that names it."""

import os
import threading
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from pickguard.domain.model.limits import LimitRules, Rate
from pickguard.domain.model.sessions import SessionRules
from pickguard.entrypoints import serving
from pickguard.entrypoints.cli import cli
from pickguard.entrypoints.settings import (
    Settings,
    SettingsError,
    option,
    options,
    redacted,
    show_duration,
    show_rate,
    show_value,
)
from tests.support.accounts import NOW, a_session, an_account
from tests.support.strategies import examples

EMPTY = Path(__file__).with_name("__init__.py")
# For every setting a text that is not the default, what it means, and what it needs beside it.
GIVEN: dict[str, tuple[str, Any]] = {
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": ("0", 0),
    "store": ("redis://127.0.0.1:6379/1", "redis://127.0.0.1:6379/1"),
    "store_password": (" geheim ", " geheim "),
    "store_password_file": (__file__, Path(__file__)),
    "sentinel_password": ("geheim", "geheim"),
    "sentinel_password_file": (__file__, Path(__file__)),
    "store_ca": (__file__, Path(__file__)),
    "wait_replicas": ("1", 1),
    "wait_timeout": ("250ms", timedelta(milliseconds=250)),
    "strict_durability": ("on", True),
    "data_dir": ("/srv/data", Path("/srv/data")),
    "engine": ("/usr/bin/valkey-server", Path("/usr/bin/valkey-server")),
    "tls_cert": ("cert.pem", Path("cert.pem")),
    "tls_key": ("key.pem", Path("key.pem")),
    "no_tls": ("on", True),
    "trusted_proxies": ("10.0.0.5, 2001:db8::/64", (ip_network("10.0.0.5"), ip_network("2001:db8::/64"))),
    "cors_origins": ("https://app.example.com,http://localhost:3000", ("https://app.example.com", "http://localhost:3000")),
    "docs": ("OFF", "off"),
    "max_connections": ("500", 500),
    "workers": ("4", 4),
    "admin_listen": ("unix:admin.sock", "unix:admin.sock"),
    "admin_token_file": (__file__, Path(__file__)),
    "metrics_token_file": (__file__, Path(__file__)),
    "mail": ("console:", "console:"),
    "mail_from": ("Accounts <accounts@example.com>", "Accounts <accounts@example.com>"),
    "mail_password": ("geheim", "geheim"),
    "mail_password_file": (__file__, Path(__file__)),
    "mail_ca": (__file__, Path(__file__)),
    "mail_templates": (str(Path(__file__).parent), Path(__file__).parent),
    "mail_timeout": ("2s", timedelta(seconds=2)),
    "public_url": ("https://accounts.example.com/", "https://accounts.example.com"),
    "service_credentials": (str(EMPTY), EMPTY),
    "service_name": ("Accounts", "Accounts"),
    "no_pages": ("on", True),
    "pages_templates": (".", Path()),
    "registration": ("private", "private"),
    "profile": ("nist", "nist"),
    "verification_lifetime": ("12h", timedelta(hours=12)),
    "reset_lifetime": ("5m", timedelta(minutes=5)),
    "rate_limits": ("OFF", "off"),
    "limit_guesses": ("5/1h", Rate(5, timedelta(hours=1))),
    "limit_source": ("1000/90", Rate(1000, timedelta(seconds=90))),
    "limit_run": ("50/12h", Rate(50, timedelta(hours=12))),
    "limit_registrations": ("10000/30d", Rate(10_000, timedelta(days=30))),
    "limit_mails": ("1/0.5d", Rate(1, timedelta(hours=12))),
    "limit_resets": ("50/2h", Rate(50, timedelta(hours=2))),
    "limit_exports": ("3/1d", Rate(3, timedelta(days=1))),
    "password_min_length": ("15", 15),
    "breach_check": ("https://range.example/v3", "https://range.example/v3/"),
    "breach_timeout": ("250ms", timedelta(milliseconds=250)),
    "session_lifetime": ("90d", timedelta(days=90)),
    "session_idle": ("12h", timedelta(hours=12)),
    "session_maximum": ("1", 1),
    "reauthentication_window": ("5m", timedelta(minutes=5)),
    "deletion_grace": ("14d", timedelta(days=14)),
    "hash_memory": ("65536", 65_536),
    "hash_time_cost": ("3", 3),
    "hash_parallelism": ("4", 4),
    "hash_threads": ("8", 8),
    "hash_wait": ("500ms", timedelta(milliseconds=500)),
    "store_connections": ("16", 16),
    "store_connect_timeout": ("0.25", timedelta(milliseconds=250)),
    "store_timeout": ("2s", timedelta(seconds=2)),
    "request_timeout": ("1.5s", timedelta(seconds=1.5)),
    "shutdown_timeout": ("0", timedelta(0)),
    "log_level": ("Debug", "debug"),
    "log_format": ("JSON", "json"),
    "access_log": ("yes", True),
}
SENTINELS = {"store": "redis+sentinel://localhost/accounts"}
NEEDED = {
    "tls_cert": {"tls_key": "key.pem"},
    "tls_key": {"tls_cert": "cert.pem"},
    "store_password": SENTINELS,
    "store_password_file": SENTINELS,
    "sentinel_password": SENTINELS,
    "sentinel_password_file": SENTINELS,
    "store_ca": {"store": "rediss://localhost"},
    "wait_replicas": SENTINELS,
    "admin_token_file": {"admin_listen": "[::1]:9444"},
    "metrics_token_file": {"admin_listen": "localhost:0", "admin_token_file": __file__},
    "mail_password": {"mail": "smtps://user@mail.example.com"},
    "mail_password_file": {"mail": "smtps://user@mail.example.com"},
    "mail_ca": {"mail": "smtp://mail.example.com"},
    "registration": {"mail": "console:"},
    "profile": {"password_min_length": "20"},
}
NAMES = [each.name for each in options()]
ON_THE_LINE = [each.name for each in options() if not each.in_environment_only]


def load(given_: dict[str, str | None] | None = None, /, **environment: str) -> Settings:
    return Settings.load(given_ or {}, {f"PICKGUARD_{name.upper()}": text for name, text in environment.items()})


def refusal(given_: dict[str, str | None] | None = None, /, **environment: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load(given_, **environment)
    return str(refused.value)


def test_every_setting_is_tried_here() -> None:
    assert list(GIVEN) == NAMES == [field.name for field in attrs.fields(Settings) if field.init]


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_is_read_from_its_environment_variable(name: str) -> None:
    text, value = GIVEN[name]
    assert getattr(load({}, **{name: text}, **NEEDED.get(name, {})), name) == value != getattr(Settings(), name)


@pytest.mark.parametrize("name", ON_THE_LINE)
def test_the_command_line_beats_the_environment(name: str) -> None:
    text, value = GIVEN[name]
    other = {"session_maximum": "2", "hash_memory": "20000", "store": "memory:"}.get(name, "")
    assert getattr(load({name: text, **NEEDED.get(name, {})}, **{name: other}), name) == value
    assert getattr(load({name: None}, **{name: text}, **NEEDED.get(name, {})), name) == value


@pytest.mark.parametrize("name", ON_THE_LINE)
def test_the_command_has_the_option_of_every_setting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Settings] = []
    monkeypatch.setattr(serving, "serve", lambda settings, announce: served.append(settings))  # noqa: ARG005
    monkeypatch.setattr("pickguard.entrypoints.commands.serve.set_up_logging", lambda **_: None)
    text, value = GIVEN[name]
    line = [option(name).flag] if option(name).is_switch else [option(name).flag, text]
    for needed, its_text in NEEDED.get(name, {}).items():
        line += [option(needed).flag, its_text]
    outcome = CliRunner(env={each.variable: None for each in options()}).invoke(cli, ["serve", *line], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    assert [getattr(settings, name) for settings in served] == [value]


def test_every_option_and_variable_is_named_in_the_help() -> None:
    shown = CliRunner().invoke(cli, ["serve", "--help"]).output
    for each in options():
        assert each.flag in shown
        assert each.variable in shown
        assert each.help.endswith(".")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://api.pwnedpasswords.com/range/", "https://api.pwnedpasswords.com/range/"),
        ("HTTPS://range.example", "HTTPS://range.example/"),
        ("http://127.0.0.1:8080/range", "http://127.0.0.1:8080/range/"),
        ("http://[::1]:8080", "http://[::1]:8080/"),
        ("http://localhost/", "http://localhost/"),
    ],
)
def test_a_range_service_is_asked_over_tls_unless_it_is_on_this_machine(given: str, read: str) -> None:
    assert load({"breach_check": given}).breach_check == read


@pytest.mark.parametrize(
    "text",
    [
        "http://range.example/",
        "http://10.0.0.1/",
        "http://localhost.example/",
        "ftp://127.0.0.1/",
        "range.example",
        "https://",
        "https:///range/",
        "https://user:secret@range.example/",
        "https://range.example/?key=1",
        "https://range.example/#range",
        "https://range.example:99999/",
        "https://range.example:0/",
        "https://[::1/",
        "https://range.example/a\nb",
    ],
)
def test_what_is_no_range_service_is_refused(text: str) -> None:
    assert refusal({"breach_check": text}).startswith("--breach-check: ")


def test_without_any_the_defaults_hold() -> None:
    assert load(dict.fromkeys(NAMES)) == Settings()


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_variable_is_as_good_as_none(name: str) -> None:
    assert load({}, **{name: ""}) == Settings()


def test_a_host_of_spaces_is_as_good_as_none() -> None:
    # The empty host stands for every address of the machine, which nobody means who gives a space.
    assert load(host=" ").host == Settings().host


def test_space_around_a_text_does_not_matter() -> None:
    assert load(port=" 80\n", store_timeout="\t2s ") == Settings(port=80, store_timeout=timedelta(seconds=2))


def test_variables_of_other_names_are_not_looked_at() -> None:
    assert Settings.load({}, {"PORT": "1", "pickguard_port": "2", "PICKGUARD_PORTS": "3", "PICKGUARD_": "4"}) == Settings()


WRONG = [
    ("port", "65536"),
    ("port", "-1"),
    ("port", "+1"),
    ("port", "1e3"),
    ("port", "٣"),
    ("port", "0x10"),
    ("port", "1_000"),
    ("port", "9" * 5000),
    ("port", "a\nb"),
    ("store", "memory"),
    ("store", "memory://"),
    ("store", "localhost:6379"),
    ("store", "http://localhost"),
    ("store", "redis://"),
    ("store", "redis:localhost"),
    ("store", "redis://localhost:0"),
    ("store", "redis://localhost:65536"),
    ("store", "redis://localhost:port"),
    ("store", "redis://[::1"),
    ("store", "unix:"),
    ("store", "unix://"),
    ("workers", "0"),
    ("mail_templates", "a\nb"),
    ("mail", "mail.example.com"),
    ("mail", "smtp://"),
    ("mail", "smtp://ada:geheim@mail.example.com"),
    ("mail", "dir:"),
    ("mail_from", "nobody"),
    ("mail_from", "Accounts <nobody>"),
    ("mail_from", "a@example.com, b@example.com"),
    ("mail_from", "ü@example.com"),
    ("mail_timeout", "99ms"),
    ("mail_timeout", "2m"),
    ("public_url", "accounts.example.com"),
    ("public_url", "ftp://accounts.example.com"),
    ("public_url", "https://"),
    ("public_url", "https://user@accounts.example.com"),
    ("public_url", "https://accounts.example.com?a=b"),
    ("public_url", "https://accounts.example.com/#a"),
    ("public_url", "https://accounts.example.com:0"),
    ("public_url", "https://accounts.example.com:port"),
    ("public_url", "https://bücher.example"),
    ("public_url", "https://accounts example.com"),
    ("public_url", "https://accounts.example.com/a b"),
    ("public_url", "https://[::1"),
    ("public_url", 'https://accounts.example.com/"><b>'),
    ("service_name", "a\nb"),
    ("service_name", "a" * 101),
    ("registration", "maybe"),
    ("verification_lifetime", "59s"),
    ("reset_lifetime", "25h"),
    ("workers", "257"),
    ("trusted_proxies", "10.0.0.300"),
    ("trusted_proxies", "10.0.0.1/8"),
    ("trusted_proxies", "10.0.0.5,"),
    ("trusted_proxies", "10.0.0.5 10.0.0.6"),
    ("trusted_proxies", "proxy.example.com"),
    ("trusted_proxies", "*"),
    ("trusted_proxies", "0.0.0.0/0"),
    ("trusted_proxies", "::/0"),
    ("trusted_proxies", "::ffff:10.0.0.5"),
    ("trusted_proxies", "fe80::1%eth0"),
    ("cors_origins", "*"),
    ("cors_origins", "null"),
    ("cors_origins", "app.example.com"),
    ("cors_origins", "https://*.example.com"),
    ("cors_origins", "https://app.example.com/"),
    ("cors_origins", "https://app.example.com/path"),
    ("cors_origins", "https://App.example.com"),
    ("cors_origins", "https://user@app.example.com"),
    ("cors_origins", "https://app.example.com:443"),
    ("cors_origins", "https://app.example.com:65536"),
    ("cors_origins", "https://app.example.com:"),
    ("cors_origins", "https://app.example.com,"),
    ("cors_origins", "https://app.example.com\r\nX: y"),
    ("cors_origins", "http://app.example.com"),
    ("cors_origins", "http://localhost:80"),
    ("cors_origins", "http://localhost.example.com"),
    ("cors_origins", "https://-a.example.com"),
    ("cors_origins", "file://"),
    ("max_connections", "9"),
    ("max_connections", "1000001"),
    ("no_tls", "maybe"),
    ("access_log", "2"),
    ("docs", "some"),
    ("rate_limits", "some"),
    ("limit_guesses", "10"),
    ("limit_guesses", "10/"),
    ("limit_guesses", "/15m"),
    ("limit_guesses", "0/15m"),
    ("limit_guesses", "10/999ms"),
    ("limit_guesses", "10/31d"),
    ("limit_guesses", "1001/15m"),
    ("limit_guesses", "10 / 15m"),
    ("limit_guesses", "10/15m/15m"),
    ("limit_guesses", "-1/15m"),
    ("limit_guesses", "15m/10"),
    ("limit_source", "10001/15m"),
    ("limit_run", "101/1d"),
    ("limit_registrations", "none"),
    ("limit_mails", "1001/1h"),
    ("log_level", "trace"),
    ("password_min_length", "7"),
    ("password_min_length", "65"),
    ("session_lifetime", "0"),
    ("session_lifetime", "30"),
    ("session_lifetime", "366d"),
    ("session_lifetime", "1y"),
    ("session_lifetime", "-1d"),
    ("session_lifetime", "1 d"),
    ("session_lifetime", "1d12h"),
    ("session_lifetime", "1.2345d"),
    ("session_lifetime", "999999999.999d"),
    ("session_lifetime", "inf"),
    ("session_idle", "59s"),
    ("session_maximum", "0"),
    ("session_maximum", "1001"),
    ("reauthentication_window", "0"),
    ("reauthentication_window", "2d"),
    ("deletion_grace", "59s"),
    ("deletion_grace", "366d"),
    ("deletion_grace", "-0"),
    ("deletion_grace", "00"),
    ("hash_memory", "19455"),
    ("hash_time_cost", "1"),
    ("hash_parallelism", "0"),
    ("hash_threads", "-1"),
    ("hash_wait", "9ms"),
    ("store_connections", "0"),
    ("store_connect_timeout", "0"),
    ("store_timeout", "2m"),
    ("request_timeout", "99ms"),
    ("shutdown_timeout", "11m"),
]


@pytest.mark.parametrize(("name", "text"), WRONG)
def test_what_makes_no_sense_is_refused_in_one_line_that_names_the_setting(name: str, text: str) -> None:
    each = option(name)
    for message, source in ((refusal({}, **{name: text}), each.variable), (refusal({name: text}), each.flag)):
        assert message.startswith(f"{source}:")
        assert "\n" not in message
        assert "give" in message or "complete" in message


@examples(40)
@given(st.sampled_from(NAMES), st.text(max_size=30))
def test_any_text_for_a_setting_is_read_or_refused_in_one_line(name: str, text: str) -> None:
    try:
        load({name: text})
    except SettingsError as error:
        message = str(error)
    else:
        return
    assert option(name).flag in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("given_", "named"),
    [
        ({"tls_cert": "a"}, ("--tls-cert", "--tls-key")),
        ({"tls_key": "a"}, ("--tls-key", "--tls-cert")),
        ({"tls_cert": "a", "tls_key": "b", "no_tls": "on"}, ("--no-tls", "--tls-cert")),
        ({"workers": "2", "store": "memory:"}, ("--workers", "--store")),
        ({"engine": "./a", "store": "memory:"}, ("--engine", "--store")),
        ({"engine": "./a", "store": "redis://localhost"}, ("--engine", "--store")),
        ({"wait_replicas": "1"}, ("--wait-replicas", "--store")),
        ({"wait_replicas": "1", "store": "memory:"}, ("--wait-replicas", "--store")),
        ({"wait_replicas": "1", "wait_timeout": "1s", **SENTINELS}, ("--wait-timeout", "--store-timeout")),
        ({"breach_check": "https://range.example/", "breach_timeout": "3s"}, ("--breach-timeout", "--request-timeout")),
        ({"hash_memory": "4194304", "hash_time_cost": "5"}, ("--hash-memory", "--hash-time-cost", "16 GiB")),
        ({"store_password_file": __file__}, ("--store-password-file", "--store")),
        ({"store_password_file": __file__, "store": "memory:"}, ("--store-password-file", "--store")),
        ({"store_password_file": __file__, "store": "redis://:geheim@localhost"}, ("--store-password-file", "--store")),
        ({"sentinel_password_file": __file__, "store": "redis://localhost"}, ("--sentinel-password-file", "--store")),
        ({"store_ca": "ca.pem", "store": "redis://localhost"}, ("--store-ca", "--store")),
        ({"store_ca": "ca.pem"}, ("--store-ca", "--store")),
        ({"registration": "private"}, ("--registration", "--mail")),
        ({"mail": "smtp://ada@mail.example.com"}, ("--mail", "PICKGUARD_MAIL_PASSWORD")),
        ({"mail_password_file": __file__}, ("--mail-password-file", "--mail")),
        ({"mail_password_file": __file__, "mail": "console:"}, ("--mail-password-file", "--mail")),
        ({"mail_password_file": __file__, "mail": "smtp://mail.example.com"}, ("--mail-password-file", "--mail")),
        ({"mail_password_file": "/no/such", "mail": "smtp://ada@mail"}, ("--mail-password-file", "/no/such cannot be read")),
        ({"mail_ca": __file__}, ("--mail-ca", "--mail")),
        ({"mail_ca": __file__, "mail": "dir:mail"}, ("--mail-ca", "--mail")),
        ({"mail_ca": "/no/such.pem", "mail": "smtps://mail"}, ("--mail-ca", "/no/such.pem cannot be read")),
        ({"mail_templates": __file__, "mail": "console:"}, ("--mail-templates", "is no directory")),
        ({"pages_templates": __file__}, ("--pages-templates", "is no directory")),
        ({"pages_templates": ".", "no_pages": "on"}, ("--pages-templates", "--no-pages")),
    ],
)
def test_settings_that_contradict_each_other_are_refused_by_their_names(
    given_: dict[str, str | None], named: tuple[str, str]
) -> None:
    message = refusal(given_)
    assert all(name in message for name in named)
    assert "\n" not in message


@pytest.mark.parametrize(
    "store",
    [
        "memory:",
        "redis://localhost",
        "redis://:geheim@[::1]:6380/3",
        "rediss://user:geheim@redis.example.com/0",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_a_store_is_kept_as_it_was_given(store: str) -> None:
    assert load(store=store).store == store


@pytest.mark.parametrize("name", ["store_password", "sentinel_password"])
def test_a_password_is_given_in_any_one_place(name: str, tmp_path: Path) -> None:
    url = "redis+sentinel://localhost/accounts"
    file = tmp_path / "password"
    file.write_text("ge heim\r\n")
    for settings in (
        load(store=f"{url}?{name.replace('store_', '')}=ge%20heim"),
        load(store=url, **{name: "ge heim"}),
        load(store=url, **{f"{name}_file": str(file)}),
    ):
        location = settings.store_location()
        assert location is not None
        assert getattr(location, name.replace("store_", "")) == "ge heim"
        assert "ge heim" not in repr(settings) + repr(location) + settings.shown_store
    message = refusal(store=url, **{name: "ge heim", f"{name}_file": str(file)})
    assert option(name).variable in message
    assert option(f"{name}_file").flag in message
    assert "ge heim" not in message


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read"), (b"", "is empty"), (b"\n", "is empty"), (b"\xff", "not text")]
)
def test_a_file_without_a_password_is_refused(content: bytes | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    message = refusal(store="redis://localhost", store_password_file=str(file))
    assert said in message
    assert str(file) in message
    assert "\n" not in message


def test_the_certificates_that_vouch_for_a_store_are_given_in_either_way() -> None:
    for settings in (
        load(store=f"rediss://localhost?ssl_ca_certs={__file__}"),
        load(store="rediss://localhost", store_ca=__file__),
    ):
        location = settings.store_location()
        assert location is not None
        assert location.ca == __file__
    for message in (
        refusal(store="rediss://localhost?ssl_ca_certs=/no/such.pem"),
        refusal(store="rediss://localhost", store_ca="/no/such.pem"),
        refusal(store="rediss://localhost?ssl_certfile=/no/such.pem"),
    ):
        assert "/no/such.pem cannot be read" in message


def test_a_password_is_read_from_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("geheim\n"))
    writer.start()
    settings = load(store="redis://localhost", store_password_file=str(pipe))
    writer.join()
    for _ in range(2):
        location = settings.store_location()
        assert location is not None
        assert location.password == "geheim"
    assert "geheim" not in repr(settings)


# Mail


def test_a_password_for_the_mail_server_is_given_in_either_place(tmp_path: Path) -> None:
    url = "smtp://ada@mail.example.com"
    file = tmp_path / "password"
    file.write_text("ge heim\n")
    for settings in (load(mail=url, mail_password="ge heim"), load(mail=url, mail_password_file=str(file))):
        assert settings.mail_secret() == "ge heim"
        assert "ge heim" not in repr(settings)
    message = refusal(mail=url, mail_password="ge heim", mail_password_file=str(file))
    assert "PICKGUARD_MAIL_PASSWORD" in message
    assert "--mail-password-file" in message
    assert "ge heim" not in message
    assert load(mail="smtp://mail.example.com").mail_secret() is None
    assert "PICKGUARD_MAIL_PASSWORD" in refusal(mail="smtp://mail.example.com", mail_password="geheim")


def test_a_mail_url_with_a_password_is_refused_and_not_quoted() -> None:
    for message in (refusal(mail="smtp://ada:geheim@mail"), refusal({"mail": "smtp://ada:geheim@mail"})):
        assert "does not belong in the URL" in message
        assert "geheim" not in message


@pytest.mark.parametrize(
    ("given_", "base"),
    [
        ({}, "https://127.0.0.1:9000"),
        ({"no_tls": "on", "host": "::1"}, "http://[::1]:9000"),
        ({"host": "0.0.0.0"}, "https://127.0.0.1:9000"),
        ({"public_url": "https://accounts.example.com/people/"}, "https://accounts.example.com/people"),
        ({"public_url": "http://[::1]:8080"}, "http://[::1]:8080"),
        ({"public_url": "https://Accounts.example.com:8443"}, "https://Accounts.example.com:8443"),
    ],
)
def test_links_begin_with_the_public_url_or_the_address_that_is_listened_at(given_: dict[str, str | None], base: str) -> None:
    settings = load(given_)
    assert (settings.public_url or settings.listening_url(9000)) == base


@pytest.mark.parametrize(
    ("change", "to"), [(Settings.with_public_url, "https://a.example"), (Settings.with_store, "unix:///s")]
)
def test_settings_for_another_place_do_not_read_a_pipe_again(
    tmp_path: Path, change: Callable[[Settings, str], Settings], to: str
) -> None:
    pipe = tmp_path / "password"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("geheim"), daemon=True)
    writer.start()
    settings = load({"mail": "smtp://user@localhost", "mail_password_file": str(pipe)})
    writer.join()
    changed = change(settings, to)
    assert changed.mail_secret() == settings.mail_secret() == "geheim"
    assert changed != settings


# What must stay secret


WITH_PASSWORD = [
    "redis://:geheim@192.0.2.1:6379/0",
    "redis://user:geheim@redis.example.com/0",
    "rediss://user:ge%40heim@redis.example.com:6380",
    "redis://user:x@geheim@redis.example.com/0",
    "redis://redis.example.com/0?password=geheim",
    "unix:///run/redis.sock?password=geheim",
    "unix:/run/redis.sock?password=geheim",
    "unix://user:geheim@/run/redis.sock",
    "redis+sentinel://user:geheim@192.0.2.1,192.0.2.2:26380/accounts",
    "redis+sentinel://192.0.2.1,192.0.2.2/accounts?sentinel_password=geheim",
    "redis+sentinel://192.0.2.1,user:geheim@192.0.2.2/accounts",
    "rediss+cluster://user:geheim@192.0.2.1:6379,192.0.2.2:6379",
    "rediss+cluster://192.0.2.1:6379,192.0.2.2:6379?password=geheim",
    "redis+sentinel://user:123/geheim@192.0.2.1:26379/accounts",
    "redis://user:123/geheim@192.0.2.1:6379",
    "unix://:p/geheim@/run/redis.sock",
]


@pytest.mark.parametrize("store", WITH_PASSWORD)
def test_a_store_is_shown_without_its_password(store: str) -> None:
    try:
        settings = load(store=store)
    except SettingsError as error:
        shown = str(error)
    else:
        shown = settings.shown_store + redacted(store) + repr(settings) + str(settings)
    assert "geheim" not in shown
    assert "ge%40heim" not in shown


@pytest.mark.parametrize(
    "store", ["redis://:geheim@", "http://:geheim@localhost", "redis://:geheim@host:port", "geheim", "redis://:geheim@[::1"]
)
def test_a_store_that_is_refused_is_not_quoted(store: str) -> None:
    for message in (refusal({"store": store}), refusal(store=store)):
        assert "geheim" not in message


def test_a_store_is_shown_with_its_place() -> None:
    assert load(store="redis://user:geheim@redis.example.com:6380/2?db=3").shown_store == "redis://redis.example.com:6380/2"
    assert load(store="unix:///run/redis.sock").shown_store == "unix:///run/redis.sock"
    assert load(store="memory:").shown_store == "memory:"


def test_a_refusal_ends_the_command_with_one_line_and_a_status() -> None:
    outcome = CliRunner().invoke(cli, ["serve", "--port", "many"])
    assert outcome.exit_code == 2
    assert outcome.stderr == "pickguard: --port: 'many': give a whole number from 0 to 65535\n"


# Times


@pytest.mark.parametrize(
    ("text", "value"),
    [("1ms", 0.001), ("1", 1), ("1s", 1), ("1.5s", 1.5), ("2m", 120), ("2h", 7200), ("0.5d", 43_200), ("0.001s", 0.001)],
)
def test_a_time_has_a_unit_or_is_in_seconds(text: str, value: float) -> None:
    found = [each.read for each in options() if each.name == "shutdown_timeout"]
    if value <= 600:
        assert found[0](text) == timedelta(seconds=value)
    else:
        assert option("session_lifetime").read(text) == timedelta(seconds=value)


@examples(40)
@given(st.integers(60_000, 365 * 86_400_000).map(lambda ms: timedelta(milliseconds=ms)))
@example(timedelta(milliseconds=1_000_000_001))
def test_a_time_is_read_as_it_is_shown(value: timedelta) -> None:
    assert option("session_lifetime").read(show_duration(value)) == value


@examples(40)
@given(st.integers(1, 100), st.integers(1000, 30 * 86_400_000).map(lambda ms: timedelta(milliseconds=ms)))
def test_a_rate_is_read_as_it_is_shown(most: int, within: timedelta) -> None:
    assert option("limit_run").read(show_rate(Rate(most, within))) == Rate(most, within)


def test_the_rules_of_limits_are_those_that_are_given() -> None:
    assert Settings().limit_rules == LimitRules()
    names = [each.name for each in options() if each.name.startswith("limit_")]
    given_ = load({name: GIVEN[name][0] for name in names}).limit_rules
    assert attrs.asdict(given_, recurse=False) == {name.removeprefix("limit_"): GIVEN[name][1] for name in names}


@pytest.mark.parametrize("text", ["0", "0s", "0d"])
def test_no_grace_is_written_as_nothing(text: str) -> None:
    assert load({"deletion_grace": text}).deletion_grace == timedelta(0)
    assert show_value(timedelta(0)) == "0s"


def test_a_program_is_read_as_a_shell_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = tmp_path / "bin" / "my-engine"
    on_path.parent.mkdir()
    on_path.write_text("")
    on_path.chmod(0o755)
    monkeypatch.setenv("PATH", str(on_path.parent))
    monkeypatch.chdir(tmp_path)
    assert load({"engine": "my-engine"}).engine == on_path
    assert load({"engine": "./my-engine"}).engine == tmp_path / "my-engine"


def test_a_short_lifetime_needs_no_other_setting_beside_it() -> None:
    # A session ends at the nearer of its two limits, so the longer one is no contradiction.
    settings = load({"session_lifetime": "1d"})
    rules = SessionRules(lifetime=settings.session_lifetime, idle=settings.session_idle)
    session = a_session(an_account(), at=NOW)
    assert session.expires_at(rules) == NOW + timedelta(days=1)
