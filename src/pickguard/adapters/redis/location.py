"""Where a store is: the URLs that name a server, one behind sentinels, or a cluster.

```
redis://[user[:password]@]host[:6379][/database]              one server; rediss:// with TLS
unix:///path/to/socket                                        one server on this machine
redis+sentinel://[user[:password]@]host[:26379],…/service[/database]   the master that sentinels name
redis+cluster://[user[:password]@]host[:6379],…               a cluster, found through any of its nodes
```

With ``rediss+sentinel`` and ``rediss+cluster`` every connection, also those to the sentinels, is by TLS.
"""

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final, Self
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import attrs

_DATABASE: Final = ("db", "username", "password")
_TLS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINEL: Final = ("sentinel_username", "sentinel_password")

PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "redis": _DATABASE,
    "rediss": (*_DATABASE, *_TLS),
    "unix": _DATABASE,
    "redis+sentinel": (*_DATABASE, *_SENTINEL),
    "rediss+sentinel": (*_DATABASE, *_SENTINEL, *_TLS),
    "redis+cluster": _DATABASE[1:],
    "rediss+cluster": (*_DATABASE[1:], *_TLS),
}
"""The parameters that a URL of each scheme may have.

redis-py would take many more, some of which would undo what the adapter relies on.
"""

_EXAMPLES: Final = {
    "redis": "redis://127.0.0.1:6379/0",
    "rediss": "rediss://redis.example.com:6379/0",
    "unix": "unix:///run/redis/redis.sock",
    "redis+sentinel": "redis+sentinel://s1.example.com,s2.example.com,s3.example.com/accounts",
    "rediss+sentinel": "rediss+sentinel://s1.example.com,s2.example.com,s3.example.com/accounts",
    "redis+cluster": "redis+cluster://n1.example.com,n2.example.com",
    "rediss+cluster": "rediss+cluster://n1.example.com,n2.example.com",
}
_SERVER_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_HIGHEST_PORT: Final = 65535


class Topology(Enum):
    """How servers make up a store."""

    SERVER = "server"
    SOCKET = "socket"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_TOPOLOGIES: Final = {"unix": Topology.SOCKET, "sentinel": Topology.SENTINEL, "cluster": Topology.CLUSTER}


@attrs.frozen(kw_only=True)
class Location:
    """A store: which servers, and as whom to speak to them."""

    topology: Topology
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    database: int = 0
    tls: bool = False
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = attrs.field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL. Raises ValueError, with a message for a person that holds nothing secret."""
        scheme = url.partition(":")[0].lower()
        if scheme not in PARAMETERS:
            known = ", ".join(PARAMETERS)
            raise ValueError(f"a store's URL begins with one of {known}")
        try:
            parts = split_url(url)
            given = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError:
            raise _incomplete(scheme) from None
        if any(name not in PARAMETERS[scheme] or len(values) != 1 for name, values in given.items()):
            raise ValueError(f"of parameters, a {scheme} URL may have {', '.join(PARAMETERS[scheme])}, each once")
        parameters = {name: values[0] for name, values in given.items()}
        database = parameters.get("db", "")
        if "db" in parameters and not _is_number(database):
            raise ValueError("the parameter db is a number")
        topology = _TOPOLOGIES.get(scheme.rpartition("+")[2], Topology.SERVER)
        hosts, service, path_database = _read_place(scheme, topology, parts)
        if "@" in parts.path:
            # Most likely it ends a password with a slash in it, which would be shown as a part of the path.
            raise ValueError("in a path, a user or a password, write @ as %40, / as %2F and : as %3A")
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        if "," in user:
            raise ValueError("the user and the password stand once in a URL, before the first host")
        return cls(
            topology=topology,
            hosts=hosts,
            path=unquote(parts.path) if topology is Topology.SOCKET else "",
            service=service,
            database=int(database or path_database or 0),
            tls=scheme.startswith("rediss"),
            ca=parameters.get("ssl_ca_certs"),
            certificate=parameters.get("ssl_certfile"),
            key=parameters.get("ssl_keyfile"),
            username=unquote(user) or parameters.get("username"),
            password=unquote(password) or parameters.get("password"),
            sentinel_username=parameters.get("sentinel_username"),
            sentinel_password=parameters.get("sentinel_password"),
        )


def split_url(url: str) -> SplitResult:
    """Take a URL apart. `urlsplit` does not, in Python's newer releases, where a host in brackets stands among others."""
    found = re.match("[^:/?#]*://([^/?#]*)", url)
    if found is None:
        return urlsplit(url)
    return urlsplit(url[: found.start(1)] + url[found.end(1) :])._replace(netloc=found[1])


def _read_place(scheme: str, topology: Topology, parts: SplitResult) -> tuple[tuple[tuple[str, int], ...], str, str]:
    """Return the hosts, the sentinels' name for the service and the database of a URL."""
    if topology is Topology.SOCKET:
        if not parts.path:
            raise _incomplete(scheme)
        return (), "", ""
    hosts = tuple(_read_hosts(scheme, topology, parts.netloc.rpartition("@")[2]))
    if topology is Topology.SERVER and len(hosts) > 1:
        raise ValueError(f"a {scheme} URL names one server; several are named with {scheme}+sentinel or {scheme}+cluster")
    service, database = "", parts.path.strip("/")
    if topology is Topology.SENTINEL:
        service, _, database = database.partition("/")
        service = unquote(service)
        if not service:
            raise _incomplete(scheme)
    if topology is Topology.CLUSTER and database not in {"", "0"}:
        raise ValueError("a cluster has one database only: leave the path of the URL out")
    if database and not _is_number(database):
        raise _incomplete(scheme)
    return hosts, service, database


def _read_hosts(scheme: str, topology: Topology, text: str) -> Iterator[tuple[str, int]]:
    default = _SENTINEL_PORT if topology is Topology.SENTINEL else _SERVER_PORT
    for each in text.split(","):
        try:
            one = urlsplit(f"//{each.strip()}")
            port = default if one.port is None else one.port
        except ValueError:
            raise _incomplete(scheme) from None
        if not one.hostname or not 0 < port <= _HIGHEST_PORT:
            raise _incomplete(scheme)
        yield unquote(one.hostname), port


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _incomplete(scheme: str) -> ValueError:
    return ValueError(f"this is not a complete {scheme} URL; an example is {_EXAMPLES[scheme]}")
