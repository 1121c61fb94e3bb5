"""What a server's facts mean for a system of record, and what a service does about that when it starts."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import attrs
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, ResponseError

from pickguard import StoreUnavailable
from pickguard.adapters.redis.claims import DEADLINE, LEASE
from pickguard.adapters.redis.clients import Node, StoreClient
from pickguard.adapters.redis.durability import (
    CLOCK_DANGER,
    SentinelFacts,
    ServerFacts,
    confirm_durability,
    describe,
    examine,
    judge,
)
from pickguard.adapters.redis.location import Location, Topology
from pickguard.entrypoints.doctor import TOPICS
from pickguard.ports.checkup import Finding, Verdict

OK, WARNING, DANGER, UNKNOWN = Verdict.OK, Verdict.WARNING, Verdict.DANGER, Verdict.UNKNOWN

GOOD = ServerFacts(
    name="one:6379",
    takes_writes=True,
    engine="valkey",
    version=(9, 0, 1),
    role="master",
    loading=False,
    policy="noeviction",
    memory=1_000_000,
    memory_limit=0,
    packed_up_to=1024,
    aof=True,
    aof_written=True,
    aof_rewritten=True,
    fsync="always",
    fsync_off_in_rewrites=False,
    loads_truncated=False,
    snapshots=False,
    replicas=0,
    least_replicas=0,
    cluster=False,
    clock=100.0,
    clock_error=0.001,
)
WITH_REPLICAS = attrs.evolve(GOOD, replicas=2, least_replicas=1, good_replicas=2)
REPLICA = attrs.evolve(
    GOOD, name="two:6379", takes_writes=False, role="slave", in_sync=True, replicas=None, least_replicas=None
)
IN_CLUSTER = attrs.evolve(WITH_REPLICAS, cluster=True, cluster_state="ok", uncovered_slots=0, full_coverage=False)

Facts = Mapping[str, Any]


def not_well(*servers: ServerFacts, **more: Any) -> dict[str, tuple[Verdict, bool]]:
    """Return of all findings that are not well the verdict, and whether a strict start refuses it."""
    findings = judge(servers, **more)
    wrong = {each.id: (each.verdict, each.durability) for each in findings if each.verdict is not OK}
    assert len(wrong) == sum(each.verdict is not OK for each in findings)
    return wrong


@pytest.mark.parametrize(
    ("servers", "topology"),
    [
        ([GOOD], Topology.SERVER),
        ([GOOD], Topology.SOCKET),
        ([WITH_REPLICAS, REPLICA], Topology.SERVER),
        ([WITH_REPLICAS, REPLICA], Topology.SENTINEL),
        ([IN_CLUSTER, attrs.evolve(IN_CLUSTER, name="three:6379")], Topology.CLUSTER),
        ([attrs.evolve(GOOD, engine="redis", version=(6, 2, 14))], Topology.SERVER),
        ([attrs.evolve(GOOD, engine="redis", version=(99, 0, 0))], Topology.SERVER),
        ([attrs.evolve(GOOD, engine="valkey", version=(8, 0, 0))], Topology.SERVER),
        ([attrs.evolve(GOOD, memory_limit=2_000_000)], Topology.SERVER),
        ([attrs.evolve(GOOD, version=(9, 1, 2), loads_truncated=True)], Topology.SERVER),
        ([attrs.evolve(GOOD, version=(9, 1, 2), loads_truncated=None)], Topology.SERVER),
        ([attrs.evolve(GOOD, version=(10, 0), loads_truncated=True)], Topology.SERVER),
    ],
)
def test_a_store_that_is_set_up_as_a_system_of_record_is_well(servers: list[ServerFacts], topology: Topology) -> None:
    assert not_well(*servers, topology=topology) == {}
    assert judge(servers, topology=topology)


@pytest.mark.parametrize(
    ("facts", "finding", "verdict", "durability"),
    [
        ({"engine": "redis", "version": (6, 0, 20)}, "version", DANGER, True),
        ({"engine": "valkey", "version": (7, 1)}, "version", DANGER, True),
        ({"engine": "dragonfly"}, "version", UNKNOWN, True),
        ({"engine": None}, "version", UNKNOWN, True),
        ({"version": None}, "version", UNKNOWN, True),
        ({"role": "slave"}, "role", DANGER, True),
        ({"loading": True}, "loading", DANGER, True),
        ({"policy": None}, "maxmemory-policy", UNKNOWN, True),
        ({"policy": "volatile-ttl"}, "maxmemory-policy", WARNING, True),
        ({"policy": "allkeys-lru"}, "maxmemory-policy", WARNING, True),
        ({"policy": "allkeys-lru", "memory_limit": 10**9}, "maxmemory-policy", DANGER, True),
        ({"policy": "allkeys-random", "memory_limit": None}, "maxmemory-policy", DANGER, True),
        ({"memory_limit": 1_050_000}, "memory", WARNING, False),
        ({"aof": None}, "appendonly", UNKNOWN, True),
        ({"aof": False, "snapshots": True}, "appendonly", DANGER, True),
        ({"aof": False, "snapshots": False}, "appendonly", DANGER, True),
        ({"aof": False, "snapshots": None}, "appendonly", DANGER, True),
        ({"fsync": "everysec"}, "appendfsync", WARNING, True),
        ({"fsync": "no"}, "appendfsync", DANGER, True),
        ({"fsync": None}, "appendfsync", UNKNOWN, True),
        ({"fsync_off_in_rewrites": True}, "no-appendfsync-on-rewrite", WARNING, True),
        ({"fsync_off_in_rewrites": None}, "no-appendfsync-on-rewrite", UNKNOWN, True),
        ({"loads_truncated": True}, "aof-load-truncated", WARNING, True),
        ({"loads_truncated": None}, "aof-load-truncated", UNKNOWN, True),
        ({"loads_truncated": True, "version": (9, 1, 1)}, "aof-load-truncated", WARNING, True),
        ({"loads_truncated": True, "engine": "redis", "version": (99, 0, 0)}, "aof-load-truncated", WARNING, True),
        ({"aof_written": False}, "aof-write", DANGER, True),
        ({"aof_rewritten": False}, "aof-rewrite", WARNING, False),
        ({"replicas": 1}, "min-replicas-to-write", WARNING, True),
        ({"replicas": 1, "least_replicas": 2, "good_replicas": 1}, "min-replicas-to-write", DANGER, True),
        ({"replicas": 1, "least_replicas": None, "good_replicas": 0}, "min-replicas-to-write", DANGER, True),
        ({"failure": "Connection refused"}, "reachable", DANGER, True),
    ],
)
def test_what_is_not_safe_is_found(facts: Facts, finding: str, verdict: Verdict, *, durability: bool) -> None:
    assert not_well(attrs.evolve(GOOD, **facts)) == {finding: (verdict, durability)}


@pytest.mark.parametrize(
    ("facts", "finding", "verdict"),
    [
        ({"failure": "Connection refused"}, "reachable", WARNING),
        ({"in_sync": False}, "role", WARNING),
    ],
)
def test_what_a_replica_lacks_for_a_time_stops_no_start(facts: Facts, finding: str, verdict: Verdict) -> None:
    assert not_well(WITH_REPLICAS, attrs.evolve(REPLICA, **facts)) == {finding: (verdict, False)}


def test_a_replica_is_judged_as_the_master_that_it_may_become() -> None:
    assert not_well(WITH_REPLICAS, attrs.evolve(REPLICA, fsync="no")) == {"appendfsync": (DANGER, True)}


def test_accounts_that_are_not_packed_are_no_fault_and_told_in_the_report_alone() -> None:
    packed, loose, unknown = (judge([attrs.evolve(GOOD, packed_up_to=up_to)]) for up_to in (1024, 64, None))
    (told,) = set(loose) - set(packed)
    assert (told.id, told.verdict, told.durability) == ("hash-max-listpack-value", OK, False)
    assert told.found.endswith("it is 64.")
    assert "hash-max-listpack-value" not in {each.id for each in unknown}


def test_a_server_that_tells_nothing_is_unknown() -> None:
    silent = ServerFacts(name="one:6379", takes_writes=True)
    unknown = not_well(silent)
    assert set(unknown.values()) == {(UNKNOWN, True)}
    assert unknown.keys() == {"info", "appendonly", "appendfsync", "no-appendfsync-on-rewrite", "aof-load-truncated"}


def test_replicas_that_are_good_enough_for_a_rule_that_cannot_be_read_are_well() -> None:
    assert not_well(attrs.evolve(WITH_REPLICAS, least_replicas=None, good_replicas=1)) == {}


@pytest.mark.parametrize(
    ("replicas", "wanted", "ids"),
    [
        (0, 1, {"replicas": (DANGER, True), "min-replicas-to-write": (WARNING, True)}),
        (1, 2, {"replicas": (DANGER, True), "min-replicas-to-write": (WARNING, True)}),
        (2, 2, {"min-replicas-to-write": (WARNING, True)}),
    ],
)
def test_waiting_for_replicas_takes_as_many(replicas: int, wanted: int, ids: Mapping[str, object]) -> None:
    assert not_well(attrs.evolve(GOOD, replicas=replicas), wait_replicas=wanted) == ids


@pytest.mark.parametrize("topology", [Topology.SENTINEL, Topology.CLUSTER])
def test_where_something_should_take_over_there_has_to_be_something(topology: Topology) -> None:
    alone = attrs.evolve(IN_CLUSTER, replicas=0, least_replicas=0, good_replicas=None, cluster=topology is Topology.CLUSTER)
    assert not_well(alone, topology=topology) == {"replicas": (WARNING, False)}


@pytest.mark.parametrize(
    ("facts", "finding", "verdict", "durability"),
    [
        ({"cluster_state": "fail"}, "cluster", DANGER, True),
        ({"cluster_state": None}, "cluster", UNKNOWN, False),
        ({"uncovered_slots": 1}, "cluster", DANGER, True),
        ({"full_coverage": True}, "cluster-require-full-coverage", WARNING, False),
    ],
)
def test_what_is_wrong_with_a_cluster_is_found(facts: Facts, finding: str, verdict: Verdict, *, durability: bool) -> None:
    assert not_well(attrs.evolve(IN_CLUSTER, **facts), topology=Topology.CLUSTER) == {finding: (verdict, durability)}


@pytest.mark.parametrize(
    ("ahead", "error", "verdict"),
    [
        (0.0, 0.001, OK),
        (0.9, 0.001, OK),
        (1.1, 0.001, WARNING),
        (-1.1, 0.001, WARNING),
        (1.1, 0.5, OK),  # which may well be less than a second
        (9.9, 0.001, WARNING),
        (10.1, 0.001, DANGER),
        (-10.1, 0.001, DANGER),
        (3600.0, 4.0, DANGER),
        (5.0, 6.0, UNKNOWN),
    ],
)
def test_clocks_that_differ_are_found_as_far_as_that_is_sure(ahead: float, error: float, verdict: Verdict) -> None:
    other = attrs.evolve(GOOD, name="two:6379", clock=100.0 + ahead, clock_error=error)
    third = attrs.evolve(GOOD, name="three:6379", clock=100.0 + ahead / 2)
    assert [each.verdict for each in judge([GOOD, other, third]) if each.id == "clock"] == [verdict]


def test_the_clocks_are_judged_by_the_gap_that_claims_leave_them() -> None:
    assert (LEASE - DEADLINE) / 2 == CLOCK_DANGER == timedelta(seconds=10)


@pytest.mark.parametrize("others", [[], [attrs.evolve(GOOD, name="two:6379", clock=None)]])
def test_one_clock_alone_differs_from_nothing(others: list[ServerFacts]) -> None:
    assert "clock" not in {each.id for each in judge([GOOD, *others])}


@pytest.mark.parametrize(
    ("sentinels", "expected"),
    [
        ([(None, True)] * 3, {}),
        ([(None, True)] * 2, {"sentinels": (WARNING, False)}),
        ([(None, True)] * 3 + [("Connection refused", None)], {"sentinel": (WARNING, False)}),
        ([(None, True)] * 2 + [("time-out", None)], {"sentinel": (WARNING, False), "sentinels": (WARNING, False)}),
        ([(None, True)] * 3 + [(None, False)], {"sentinel": (DANGER, False)}),
        ([(None, True)] * 3 + [(None, None)], {"sentinel": (UNKNOWN, False)}),
    ],
)
def test_sentinels_have_to_be_there_and_agree(
    sentinels: Sequence[tuple[str | None, bool | None]], expected: Mapping[str, object]
) -> None:
    facts = [
        SentinelFacts(name=f"s{number}:26379", failure=failure, quorum=quorum)
        for number, (failure, quorum) in enumerate(sentinels)
    ]
    assert not_well(WITH_REPLICAS, topology=Topology.SENTINEL, sentinels=facts) == expected


def every_finding() -> list[Finding]:
    """Findings of as many kinds as the tests above come to."""
    everything = attrs.evolve(
        IN_CLUSTER, memory_limit=1, aof_rewritten=False, replicas=0, full_coverage=True, cluster_state="fail"
    )
    facts: list[Facts] = [
        {},
        {"failure": "x"},
        {"version": None, "role": None},
        {"aof": False},
        {"engine": "x"},
        {"replicas": 2},
    ]
    facts += [{"fsync": fsync} for fsync in ("everysec", "no", None)]
    found = [each for fact in facts for each in judge([attrs.evolve(everything, **fact)], topology=Topology.CLUSTER)]
    far = attrs.evolve(GOOD, clock=0.0)
    sentinels = [
        SentinelFacts(name="s", failure="x"),
        SentinelFacts(name="s", quorum=False),
        SentinelFacts(name="s"),
        SentinelFacts(name="s", quorum=True),
    ]
    return [*found, *judge([GOOD, far, REPLICA], sentinels=sentinels[:2]), *judge([GOOD], sentinels=sentinels)]


def test_every_finding_is_said_in_sentences_and_has_its_place_in_the_doctors_table() -> None:
    found = every_finding()
    for each in found:
        assert not each.found[0].islower()
        assert each.found.endswith(".")
        assert (each.advice == "") == (each.verdict is OK), each
        assert not each.advice or each.advice.endswith((".", "]")), each
    of_the_machine = set(TOPICS["Hashing"])
    assert {each.id for each in found} | of_the_machine == {each for ids in TOPICS.values() for each in ids}


def test_what_is_alike_on_several_servers_is_said_once() -> None:
    findings = judge([attrs.evolve(GOOD, fsync="everysec"), attrs.evolve(GOOD, name="two:6379", fsync="everysec")])
    (line,) = describe([each for each in findings if each.verdict is not OK])
    assert line.startswith("one:6379, two:6379: A power cut loses ")
    assert line.endswith(" Set appendfsync always.")


# Asking.


class Server:
    """A server that answers from a table; an exception is raised."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self._answers = answers

    async def execute_command(self, *args: Any, **_: Any) -> Any:
        answer = self._answers.get(" ".join(args), ResponseError("unknown command"))
        if isinstance(answer, Exception):
            raise answer
        return answer


class Store(StoreClient):
    """A store with the servers of a test."""

    def __init__(self, url: str, *, masters: Sequence[Server], replicas: Sequence[Server] | Exception = ()) -> None:
        self.location = Location.parse(url)
        self.wait_replicas = 0
        self._masters = masters
        self._replicas = replicas

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        return await self._masters[0].execute_command(*args, **options)

    async def reach(self) -> None:
        """Any server of a table answers."""

    async def masters(self) -> Sequence[Node]:
        if not self._masters:
            raise RedisConnectionError("nothing there")
        return [Node(name=f"m{number}", client=each) for number, each in enumerate(self._masters)]

    async def replicas(self) -> Sequence[Node]:
        if isinstance(self._replicas, Exception):
            raise self._replicas
        return [Node(name=f"r{number}", client=each) for number, each in enumerate(self._replicas)]

    async def aclose(self) -> None:
        """Nothing is open."""


REFUSED = NoPermissionError("this user has no permissions")
INFO = {
    "redis_version": "7.2.4",
    "server_name": "valkey",
    "valkey_version": "9.0.1",
    "role": "master",
    "loading": 0,
    "maxmemory_policy": "noeviction",
    "maxmemory": 0,
    "used_memory": 1_000_000,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "aof_last_bgrewrite_status": "ok",
    "connected_slaves": 0,
    "cluster_enabled": 0,
}
CONFIGURED = {
    "appendfsync": b"always",
    "no-appendfsync-on-rewrite": b"no",
    "aof-load-truncated": b"no",
    "save": b"",
    "min-replicas-to-write": b"0",
    "cluster-require-full-coverage": b"yes",
    "hash-max-ziplist-value": b"1024",
}
ANSWERS: dict[str, Any] = {
    "INFO": INFO,
    "TIME": (1_700_000_000, 5),
    **{f"CONFIG GET {name}": [name.encode(), value] for name, value in CONFIGURED.items()},
}


async def found(store: Store, **more: Any) -> dict[str, Verdict]:
    return {each.id: each.verdict for each in await examine(store, **more) if each.verdict is not OK}


async def test_a_server_is_asked_for_all_that_is_judged() -> None:
    store = Store("redis://one", masters=[Server(ANSWERS)])
    assert await found(store) == {}
    assert {each.id for each in await examine(store)} >= {"appendfsync", "hash-max-listpack-value"}


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"INFO": {**INFO, "valkey_version": "7.0.0"}}, {"version": DANGER}),
        ({"INFO": {**INFO, "server_name": "other"}}, {"version": UNKNOWN}),
        ({"INFO": {**INFO, "role": "slave"}}, {"role": DANGER}),
        ({"INFO": {**INFO, "loading": 1}}, {"loading": DANGER}),
        ({"INFO": {**INFO, "maxmemory_policy": "allkeys-lfu", "maxmemory": 10**9}}, {"maxmemory-policy": DANGER}),
        ({"INFO": {**INFO, "maxmemory": 1_000_001}}, {"memory": WARNING}),
        ({"INFO": {**INFO, "aof_enabled": 0}}, {"appendonly": DANGER}),
        ({"INFO": {**INFO, "aof_last_write_status": "err"}}, {"aof-write": DANGER}),
        ({"INFO": {**INFO, "aof_last_bgrewrite_status": "err"}}, {"aof-rewrite": WARNING}),
        ({"INFO": {**INFO, "slave0": {"state": "online"}}}, {"min-replicas-to-write": WARNING}),
        ({"INFO": {**INFO, "slave0": {"state": "wait_bgsave"}}}, {}),
        (
            {
                "INFO": {**INFO, "slave0": {"state": "online"}, "min_slaves_good_slaves": 1},
                "CONFIG GET min-replicas-to-write": REFUSED,
            },
            {},
        ),
        (
            {
                "INFO": {**INFO, "slave0": {"state": "online"}, "min_slaves_good_slaves": 1},
                "CONFIG GET min-replicas-to-write": [b"min-replicas-to-write", b"2"],
            },
            {"min-replicas-to-write": DANGER},
        ),
        ({"CONFIG GET aof-load-truncated": [b"aof-load-truncated", b"yes"]}, {"aof-load-truncated": WARNING}),
        ({"CONFIG GET aof-load-truncated": REFUSED}, {"aof-load-truncated": UNKNOWN}),
        ({"INFO": {**INFO, "valkey_version": "9.1.2"}, "CONFIG GET aof-load-truncated": REFUSED}, {}),
        ({"INFO": REFUSED}, {"info": UNKNOWN, "appendonly": UNKNOWN}),
        ({"TIME": REFUSED}, {}),
        ({"CONFIG GET appendfsync": [b"appendfsync", b"everysec"]}, {"appendfsync": WARNING}),
        ({"CONFIG GET appendfsync": REFUSED}, {"appendfsync": UNKNOWN}),
        ({"CONFIG GET appendfsync": []}, {"appendfsync": UNKNOWN}),
        (
            {"CONFIG GET no-appendfsync-on-rewrite": [b"no-appendfsync-on-rewrite", b"yes"]},
            {"no-appendfsync-on-rewrite": WARNING},
        ),
        ({"INFO": RedisConnectionError("gone")}, {"reachable": DANGER}),
        ({"TIME": TimeoutError()}, {"reachable": DANGER}),
    ],
)
async def test_what_a_server_says_is_understood(answers: Mapping[str, Any], expected: Mapping[str, Verdict]) -> None:
    assert await found(Store("redis://one", masters=[Server({**ANSWERS, **answers})])) == expected


async def test_redis_is_known_by_its_version() -> None:
    info = {name: value for name, value in INFO.items() if name not in {"server_name", "valkey_version"}}
    old = {**ANSWERS, "INFO": {**info, "redis_version": "6.2.5"}}
    new = {**ANSWERS, "INFO": {**info, "redis_version": "6.2.14"}}
    assert await found(Store("redis://one", masters=[Server(old)])) == {"version": DANGER}
    assert await found(Store("redis://one", masters=[Server(new)])) == {}


async def test_a_cluster_is_asked_for_its_state() -> None:
    in_cluster = {**ANSWERS, "INFO": {**INFO, "cluster_enabled": 1}}
    no_coverage = {"CONFIG GET cluster-require-full-coverage": [b"cluster-require-full-coverage", b"no"]}
    for said, expected in [
        (b"cluster_state:ok\r\ncluster_slots_ok:16384\r\n", {}),
        (b"cluster_state:ok\r\ncluster_slots_ok:16383\r\n", {"cluster": DANGER}),
        (b"cluster_state:fail\r\ncluster_slots_ok:16384\r\n", {"cluster": DANGER}),
        (REFUSED, {"cluster": UNKNOWN}),
    ]:
        server = Server({**in_cluster, **no_coverage, "CLUSTER INFO": said})
        assert await found(Store("redis+cluster://one", masters=[server])) == {"replicas": WARNING, **expected}


async def test_replicas_are_asked_too_and_may_be_unknown() -> None:
    replica = Server({**ANSWERS, "INFO": {**INFO, "role": "slave", "master_link_status": "down"}})
    assert await found(Store("redis://one", masters=[Server(ANSWERS)], replicas=[replica])) == {"role": WARNING}
    assert await found(Store("redis://one", masters=[Server(ANSWERS)], replicas=REFUSED)) == {}


async def test_a_store_whose_servers_are_not_known_cannot_be_examined() -> None:
    with pytest.raises(StoreUnavailable):
        await examine(Store("redis+sentinel://s/accounts", masters=[]))


UNSAFE = {
    **ANSWERS,
    "INFO": {**INFO, "maxmemory_policy": "allkeys-lru", "maxmemory": 1_000_001},
    "CONFIG GET appendfsync": [b"appendfsync", b"everysec"],
    "CONFIG GET no-appendfsync-on-rewrite": REFUSED,
}


async def confirmed(answers: Mapping[str, Any], *, strict: bool) -> list[str]:
    lines: list[str] = []
    await confirm_durability(Store("redis://one", masters=[Server(answers)]), strict=strict, wait_replicas=0, warn=lines.append)
    return lines


@pytest.mark.parametrize("strict", [True, False])
async def test_a_service_on_a_safe_store_starts_without_a_word(*, strict: bool) -> None:
    assert await confirmed(ANSWERS, strict=strict) == []


async def test_a_service_warns_of_everything_in_a_line_each() -> None:
    lines = await confirmed(UNSAFE, strict=False)
    assert len(lines) == 4
    assert all(line.startswith("m0: ") and "\n" not in line for line in lines)
    assert "evicts accounts (allkeys-lru)" in lines[0]


async def test_a_strict_service_refuses_and_names_all_reasons_in_one_line() -> None:
    with pytest.raises(StoreUnavailable) as refused:
        await confirmed(UNSAFE, strict=True)
    message = str(refused.value)
    assert "\n" not in message
    for reason in ("allkeys-lru", "A power cut loses", "It does not tell whether a rewrite"):
        assert reason in message
    assert "memory." not in message  # which is advice


@pytest.mark.parametrize(
    "answers",
    [
        {"CONFIG GET appendfsync": REFUSED},
        {"CONFIG GET appendfsync": [b"appendfsync", b"everysec"]},
        {"INFO": REFUSED},
        {"INFO": TimeoutError()},
    ],
)
async def test_a_strict_service_refuses_what_is_unsafe_and_what_cannot_be_seen(answers: Mapping[str, Any]) -> None:
    with pytest.raises(StoreUnavailable, match="strict durability"):
        await confirmed({**ANSWERS, **answers}, strict=True)


async def test_a_strict_service_starts_in_spite_of_advice_and_passes_it_on() -> None:
    (line,) = await confirmed({**ANSWERS, "INFO": {**INFO, "maxmemory": 1_000_001}}, strict=True)
    assert "Raise maxmemory" in line
