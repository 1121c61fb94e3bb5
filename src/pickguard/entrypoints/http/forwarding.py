"""Whose request it is, where proxies stand between: the one place that believes `X-Forwarded-For`, and only proxies."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MOST_HOPS: Final = 16
"""How many entries are looked at, from the last one on. No request comes through as many proxies of one's own."""


def client_address(peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str | None:
    """Return the address that a request comes from, as far as that is known; None where not even its peer is.

    A peer that is no trusted proxy is the client, whatever it says. A proxy appends the address that it was connected from to
    `X-Forwarded-For`, so the last entry is the word of the peer, the one before it that of the proxy named there, and so on:
    the first entry from the right that is no trusted proxy is the client. What stands further left is a client's word. Where an
    entry is no address, or there are no more, the client is the last proxy that was named.

    `forwarded_for` holds the lines of the header in their order, which are one list (RFC 9110, section 5.3). An IPv4 address
    that is written in IPv6 (RFC 4291, section 2.5.5.2) counts as what it is. `Forwarded` (RFC 7239) and `X-Real-IP` are not
    looked at: of several headers a proxy sets one, and a client the others.
    """
    if peer is None:
        return None
    found = _address(peer.partition("%")[0])  # the kernel names the link of a link-local address
    if found is None:
        return peer
    if forwarded_for and _is_trusted(found, trusted):
        entries = ",".join(forwarded_for).rsplit(",", MOST_HOPS)[-MOST_HOPS:]
        for entry in reversed(entries):
            named = _entry(entry.strip(" \t"))
            if named is None:
                break
            found = named
            if not _is_trusted(found, trusted):
                break
    return str(found)


def _is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def _entry(text: str) -> Address | None:
    """Read an entry, which may have a port, and brackets around an IPv6 address."""
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        if not bracket or (port and not _is_port(port.removeprefix(":"))) or (port and port[0] != ":"):
            return None
        found = _address(text)
        return found if ":" in text else None
    if text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _is_port(port):
            return None
    return _address(text)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len("65535") and int(text) <= 65535  # noqa: PLR2004 (the last)


def _address(text: str) -> Address | None:
    if "%" in text:  # a link's name, which Python takes to be any text
        return None
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
