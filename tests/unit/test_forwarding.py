"""Whose request it is: only what trusted proxies saw themselves counts (ASVS 4.1.3, 15.3.4)."""

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pickguard.entrypoints.http.forwarding import MOST_HOPS, client_address

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48"), ip_network("192.0.2.7/32"))
PROXY = "10.0.0.5"


def seen(*lines: str, peer: str | None = PROXY) -> str | None:
    return client_address(peer, lines, TRUSTED)


@pytest.mark.requirement(54)
@pytest.mark.parametrize("peer", ["203.0.113.9", "2001:db8:2::1", "192.0.2.8", "11.0.0.0"])
def test_who_is_no_trusted_proxy_is_the_client_whatever_it_says(peer: str) -> None:
    assert seen("198.51.100.1", peer=peer) == peer
    assert seen("10.0.0.9, 198.51.100.1", peer=peer) == peer


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert client_address(PROXY, ["198.51.100.1"], ()) == PROXY


@pytest.mark.parametrize("peer", [PROXY, "2001:db8:1::5", "192.0.2.7", "::ffff:10.0.0.5"])
def test_a_trusted_proxy_says_whom_it_was_connected_from(peer: str) -> None:
    assert seen("198.51.100.1", peer=peer) == "198.51.100.1"


CHAINS: dict[str, tuple[list[str], str]] = {
    "nothing": ([], PROXY),
    "an empty line": ([""], PROXY),
    "one": (["198.51.100.1"], "198.51.100.1"),
    "what the client sent stands further left": (["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
    "a chain of proxies": (["198.51.100.1, 10.0.0.7, 192.0.2.7"], "198.51.100.1"),
    "a client who names proxies": (["10.1.1.1, 198.51.100.1, 10.0.0.7"], "198.51.100.1"),
    "only proxies": (["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
    "several lines are one list": (["203.0.113.9", "198.51.100.1", "10.0.0.7"], "198.51.100.1"),
    "no space": (["203.0.113.9,198.51.100.1"], "198.51.100.1"),
    "space and tab": (["\t198.51.100.1 \t"], "198.51.100.1"),
    "a port": (["198.51.100.1:80"], "198.51.100.1"),
    "IPv6": (["2001:DB8:0:0::1"], "2001:db8::1"),
    "IPv6 in brackets": (["[2001:db8::1]"], "2001:db8::1"),
    "IPv6 in brackets with a port": (["[2001:db8::1]:1234"], "2001:db8::1"),
    "IPv4 written in IPv6": (["::ffff:198.51.100.1"], "198.51.100.1"),
    "a proxy written in IPv6": (["198.51.100.1, ::ffff:10.0.0.7"], "198.51.100.1"),
    "garbage": (["garbage"], PROXY),
    "garbage before a proxy": (["198.51.100.1, garbage, 10.0.0.7"], "10.0.0.7"),
    "a comma at the end": (["198.51.100.1,"], PROXY),
    "unknown": (["unknown"], PROXY),
    "a name": (["client.example"], PROXY),
    "a link": (["fe80::1%eth0"], PROXY),
    "an open bracket": (["[2001:db8::1"], PROXY),
    "IPv4 in brackets": (["[198.51.100.1]"], PROXY),
    "something behind the bracket": (["[2001:db8::1]80"], PROXY),
    "a port without a number": (["198.51.100.1:"], PROXY),
    "a port that is none": (["198.51.100.1:99999"], PROXY),
    "a port beyond the last": (["198.51.100.1:65536"], PROXY),
    "the last port": (["198.51.100.1:65535"], "198.51.100.1"),
    "a port in other digits": (["198.51.100.1:\u0661"], PROXY),
    "an address in other digits": (["198.51.100.\u0661"], PROXY),
    "leading zeros": (["010.0.0.1"], PROXY),
    "quotes": (['"198.51.100.1"'], PROXY),
    "the form of Forwarded": (["for=198.51.100.1"], PROXY),
    "a line feed": (["198.51.100.1\n"], PROXY),
    "too many hops": ([", ".join(["198.51.100.1", *["10.0.0.7"] * MOST_HOPS])], "10.0.0.7"),
    "as many hops as there may be": ([", ".join(["198.51.100.1", *["10.0.0.7"] * (MOST_HOPS - 1)])], "198.51.100.1"),
}


@pytest.mark.parametrize(("lines", "expected"), CHAINS.values(), ids=CHAINS)
def test_the_last_address_that_is_no_trusted_proxy_is_the_client(lines: list[str], expected: str) -> None:
    assert seen(*lines) == expected


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:0:0::9", "2001:db8::9"),
        ("fe80::1%eth0", "fe80::1"),
        ("", ""),  # of a Unix socket
        (None, None),
    ],
)
def test_a_peer_has_one_spelling(peer: str | None, expected: str | None) -> None:
    assert seen("198.51.100.1", peer=peer) == expected


addresses = st.ip_addresses().filter(lambda each: not any(each in network for network in TRUSTED))
spellings = addresses.flatmap(
    lambda each: st.sampled_from(
        [str(each), f"{each}:80", f"::ffff:{each}"] if each.version == 4 else [str(each), f"[{each}]", f"[{each}]:8080"]
    ).map(lambda text: (text, str(each)))
)
claims = st.lists(
    st.text(max_size=40) | st.ip_addresses().map(str) | st.sampled_from(["10.0.0.1", "192.0.2.7", "127.0.0.1", "", ","]),
    max_size=6,
)


@pytest.mark.requirement(54)
@pytest.mark.would_have_caught("forwarded-for")
@given(sent=claims, saw=spellings, behind=st.lists(st.sampled_from(["10.0.0.7", "2001:db8:1::2", "192.0.2.7:443"]), max_size=4))
@example(sent=["203.0.113.9"], saw=("198.51.100.1", "198.51.100.1"), behind=[])
def test_a_client_never_looks_like_another_address_than_the_one_its_proxy_saw(
    sent: list[str], saw: tuple[str, str], behind: list[str]
) -> None:
    text, address = saw
    mapped = IPv6Address(address).ipv4_mapped if ":" in address else None
    if mapped is not None and any(mapped in network for network in TRUSTED):
        return
    expected = str(mapped or address)
    for lines in ([*sent, text, *behind], [",".join([*sent, text, *behind])], [",".join(sent), ", ".join([text, *behind])]):
        assert seen(*lines) == expected


@given(sent=claims, peer=addresses)
def test_a_client_without_a_proxy_never_looks_like_another_address(sent: list[str], peer: IPv4Address | IPv6Address) -> None:
    assert seen(*sent, peer=str(peer)) == seen(peer=str(peer))


@given(lines=claims)
def test_whatever_a_proxy_says_gives_an_address(lines: list[str]) -> None:
    found = seen(*lines)
    assert found is not None
    assert client_address(found, (), ()) == found
