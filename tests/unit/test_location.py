"""The URLs of stores."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pickguard.adapters.redis.location import PARAMETERS, Location, Topology
from tests.support.strategies import examples


def test_one_server() -> None:
    assert Location.parse("redis://localhost") == Location(topology=Topology.SERVER, hosts=(("localhost", 6379),))
    assert Location.parse("REDIS://[::1]:6380/3") == Location(topology=Topology.SERVER, hosts=(("::1", 6380),), database=3)
    assert Location.parse("redis://h/1?db=2").database == 2


def test_one_server_by_tls() -> None:
    found = Location.parse("rediss://h?ssl_ca_certs=ca.pem&ssl_certfile=c.pem&ssl_keyfile=k.pem")
    expected = Location(topology=Topology.SERVER, hosts=(("h", 6379),), tls=True, ca="ca.pem", certificate="c.pem", key="k.pem")
    assert found == expected


def test_a_socket() -> None:
    assert Location.parse("unix:///run/my%20redis.sock?db=1") == Location(
        topology=Topology.SOCKET, path="/run/my redis.sock", database=1
    )


@pytest.mark.parametrize("scheme", ["redis+sentinel", "rediss+sentinel"])
def test_a_service_behind_sentinels(scheme: str) -> None:
    assert Location.parse(f"{scheme}://a,b:26380,[::1]/my%20service/4") == Location(
        topology=Topology.SENTINEL,
        hosts=(("a", 26379), ("b", 26380), ("::1", 26379)),
        service="my service",
        database=4,
        tls=scheme.startswith("rediss"),
    )


@pytest.mark.parametrize("hosts", ["[::1],[::2]:5", "user@[::1],b", "user:p%5Bss@a,[::1]"])
def test_hosts_in_brackets_may_stand_anywhere(hosts: str) -> None:
    found = Location.parse(f"redis+cluster://{hosts}")
    assert len(found.hosts) == 2
    assert ("::1", 6379) in found.hosts


@pytest.mark.parametrize("scheme", ["redis+cluster", "rediss+cluster"])
def test_a_cluster(scheme: str) -> None:
    expected = Location(topology=Topology.CLUSTER, hosts=(("a", 6379), ("b", 7000)), tls=scheme.startswith("rediss"))
    assert Location.parse(f"{scheme}://a,b:7000") == Location.parse(f"{scheme}://a,b:7000/0") == expected


@pytest.mark.parametrize("rest", ["h/s", "h,i/s"])
def test_users_and_passwords(rest: str) -> None:
    found = Location.parse(f"redis+sentinel://us%3Aer:ge%40heim@{rest}?sentinel_username=guard&sentinel_password=dog")
    assert (found.username, found.password) == ("us:er", "ge@heim")
    assert (found.sentinel_username, found.sentinel_password) == ("guard", "dog")
    assert "heim" not in repr(found)
    assert "dog" not in repr(found)
    assert Location.parse("redis://:p@h").username is None
    assert Location.parse("redis://h?username=u&password=p").password == "p"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h",
        "http://h",
        "redis:",
        "redis://",
        "redis://,",
        "redis://h,i",
        "redis://h:0",
        "redis://h:65536",
        "redis://h:port",
        "redis://[::1",
        "redis://h/one",
        "redis://h/²",
        "redis://h?db=one",
        "redis://h?db=1&db=2",
        "redis://h?retry_on_timeout=1",
        "redis://h?ssl_ca_certs=ca.pem",
        "unix://",
        "redis+sentinel://h",
        "redis+sentinel://h/",
        "redis+sentinel://h,/s",
        "redis+sentinel://h,i:/s/one",
        "redis+sentinel://h,u:p@i/s",
        "redis+cluster://h/1",
        "redis+sentinel://u:1/p@h/s",
        "unix://:p/p@/run/s",
        "redis+cluster://h?db=0",
        "redis+cluster://h?sentinel_password=p",
    ],
)
def test_what_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^[a-z]") as refused:
        Location.parse(url)
    assert "\n" not in str(refused.value)


@examples(200)
@given(st.sampled_from(sorted(PARAMETERS)), st.text("abc019:/?#[]@,%&=é \0", max_size=20))
def test_any_text_is_read_or_refused_without_being_quoted(scheme: str, rest: str) -> None:
    try:
        found = Location.parse(f"{scheme}://user:geheim@{rest}")
    except ValueError as error:
        message = str(error)
    else:
        assert found.path or found.hosts
        return
    assert "geheim" not in message
