"""Whether a store keeps what it acknowledges: what its servers say of themselves, and what that means for a system of record.

`examine` asks, `judge` judges, and `confirm_durability` is what a service does with both when it starts. What a server does not
tell, because the user may not ask or a managed service has taken the command away, is a finding too: unknown.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import attrs
from redis.exceptions import NoPermissionError, ResponseError

from pickguard.adapters.redis.claims import DEADLINE, LEASE
from pickguard.adapters.redis.clients import Node, StoreClient
from pickguard.adapters.redis.commands import FAILURES, Client, unavailable
from pickguard.adapters.redis.connection import reason
from pickguard.adapters.redis.location import Topology
from pickguard.domain.model.errors import StoreUnavailable
from pickguard.ports.checkup import Finding, Verdict

OLDEST: Final[Mapping[str, tuple[int, ...]]] = {"redis": (6, 2, 14), "valkey": (8, 0)}
"""The oldest supported version of each engine. Redis 6.2.5 lets scripts write where min-replicas-to-write says no (redis/redis
issue 5301)."""

MENDS_TORN_TRANSACTIONS: Final[Mapping[str, tuple[int, ...]]] = {"valkey": (9, 1, 2)}
"""The first version of each engine that drops the whole of a transaction which its log ends within (valkey-io/valkey pull
request 4342). Others drop the last command only: what they append then belongs to that transaction when they start again, and
is lost. What a script writes by several commands lies in the log as a transaction."""

CLOCK_WARNING: Final = timedelta(seconds=1)
CLOCK_DANGER: Final = (LEASE - DEADLINE) / 2
"""Past the whole of that gap a claim can be taken over while a save that relies on it is still let through."""

SENTINELS: Final = 3
"""With fewer, the loss of one is the loss of the majority."""

MEMORY_SHARE: Final = 0.9

LONGEST_VALUE: Final = 512
"""In bytes, of what an account nearly always consists of; with less, a server does not keep it in one piece."""

_SAMPLES = 3
_CONFIGURATION = (
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "aof-load-truncated",
    "save",
    "min-replicas-to-write",
    "cluster-require-full-coverage",
    "hash-max-ziplist-value",  # newer servers know hash-max-listpack-value by this name as well
)
_ASK_ANOTHER = "Run `pickguard doctor` as a user that may see it, or let this one see it: ACL SETUSER … +info +config|get."


@attrs.frozen(kw_only=True)
class ServerFacts:
    """What one server says of itself; None is what it does not say."""

    name: str
    takes_writes: bool
    """Whether it is there to take writes, and not to copy those of another."""
    failure: str | None = None
    """Why it could not be asked at all."""
    engine: str | None = None
    version: tuple[int, ...] | None = None
    role: str | None = None
    loading: bool | None = None
    policy: str | None = None
    memory: int | None = None
    memory_limit: int | None = None
    packed_up_to: int | None = None
    """How long a value may be for its hash to be kept in one piece."""
    aof: bool | None = None
    aof_written: bool | None = None
    """Whether the last write to the append-only file went well."""
    aof_rewritten: bool | None = None
    """Whether its last rewrite went well."""
    fsync: str | None = None
    fsync_off_in_rewrites: bool | None = None
    loads_truncated: bool | None = None
    """Whether it starts on an append-only file that ends too early."""
    snapshots: bool | None = None
    replicas: int | None = None
    """Replicas that are online."""
    least_replicas: int | None = None
    """Good replicas without which it refuses writes; 0 for no such rule."""
    good_replicas: int | None = None
    in_sync: bool | None = None
    """Of a replica: whether it hears its master."""
    cluster: bool | None = None
    cluster_state: str | None = None
    uncovered_slots: int | None = None
    """Slots that no node serves."""
    full_coverage: bool | None = None
    clock: float | None = None
    """Its time in seconds, less that of a clock which all servers of one examination are compared with."""
    clock_error: float = 0.0
    """By how much that may be wrong."""


@attrs.frozen(kw_only=True)
class SentinelFacts:
    """What one sentinel says; None is what it does not say."""

    name: str
    failure: str | None = None
    quorum: bool | None = None
    """Whether enough sentinels are there to agree on a fail-over and to carry it out."""


async def examine(client: StoreClient, *, wait_replicas: int = 0) -> tuple[Finding, ...]:
    """Ask every server of a store, at once, and judge what they say. Raises `StoreUnavailable` where none can be named."""
    try:
        masters = await client.masters()
        replicas = await _replicas(client)
        sentinels = await client.sentinels()
    except FAILURES as error:
        raise unavailable(error) from error
    servers = await asyncio.gather(
        *(_ask_server(node, takes_writes=True) for node in masters),
        *(_ask_server(node, takes_writes=False) for node in replicas),
    )
    asked = await asyncio.gather(*(_ask_sentinel(node, client.location.service) for node in sentinels))
    return judge(servers, sentinels=asked, topology=client.location.topology, wait_replicas=wait_replicas)


async def confirm_durability(client: StoreClient, *, strict: bool, wait_replicas: int, warn: Callable[[str], None]) -> None:
    """Warn of what is not safe, a line for each; with `strict`, refuse a store that is not safe or does not let that be seen.

    Raises `StoreUnavailable`, with all reasons in one line.
    """
    findings = [each for each in await examine(client, wait_replicas=wait_replicas) if each.verdict is not Verdict.OK]
    refused = [each for each in findings if each.durability] if strict else []
    if refused:
        raise StoreUnavailable(f"strict durability: {' '.join(describe(refused))}")
    for line in describe(findings):
        warn(line)


def describe(findings: Sequence[Finding]) -> list[str]:
    """Return a line for each finding; one for those that say the same of several servers."""
    places: dict[tuple[str, str, str], list[str]] = {}
    for each in findings:
        places.setdefault((each.id, each.found, each.advice), []).append(each.where)
    return [f"{', '.join(where)}: {found} {advice}".rstrip() for (_, found, advice), where in places.items()]


# Asking.


async def _replicas(client: StoreClient) -> Sequence[Node]:
    try:
        return await client.replicas()
    except ResponseError:  # the user may not ask; that is found again, and said, for every master
        return ()


async def _ask_server(node: Node, *, takes_writes: bool) -> ServerFacts:
    facts = ServerFacts(name=node.name, takes_writes=takes_writes)
    try:
        facts = _with_info(facts, await _ask(node.client, "INFO") or {})
        facts = _with_configuration(facts, {name: await _configured(node.client, name) for name in _CONFIGURATION})
        if facts.cluster:
            facts = _with_cluster(facts, await _ask(node.client, "CLUSTER", "INFO"))
        return await _with_clock(facts, node.client)
    except FAILURES as error:
        return attrs.evolve(facts, failure=reason(error))


async def _ask(client: Client, *args: str) -> Any:
    """Send a command; None stands for the answer that a server refuses to give."""
    try:
        return await client.execute_command(*args)
    except ResponseError:
        return None


async def _configured(client: Client, name: str) -> str | None:
    answer = await _ask(client, "CONFIG", "GET", name)
    return str(answer[1], "utf-8", "replace") if answer else None


def _with_info(facts: ServerFacts, info: Mapping[str, Any]) -> ServerFacts:
    replicas = [value for name, value in info.items() if name.startswith("slave") and isinstance(value, dict)]
    engine = str(info["server_name"]) if "server_name" in info else "redis" if "redis_version" in info else None
    version = str(info.get(f"{engine}_version", info.get("redis_version", "")))
    numbers = tuple(int(part) for part in version.split(".") if part.isdecimal())
    is_master = info.get("role") == "master"
    return attrs.evolve(
        facts,
        engine=engine,
        version=numbers or None,
        role=info.get("role"),
        loading=_flag(info.get("loading"), yes=1),
        policy=info.get("maxmemory_policy"),
        memory=info.get("used_memory"),
        memory_limit=info.get("maxmemory"),
        aof=_flag(info.get("aof_enabled"), yes=1),
        aof_written=_flag(info.get("aof_last_write_status"), yes="ok"),
        aof_rewritten=_flag(info.get("aof_last_bgrewrite_status"), yes="ok"),
        replicas=sum(each.get("state") == "online" for each in replicas) if is_master else None,
        # A server says this where it has such a rule, and only there.
        least_replicas=(None if "min_slaves_good_slaves" in info else 0) if is_master else None,
        good_replicas=info.get("min_slaves_good_slaves"),
        in_sync=_flag(info.get("master_link_status"), yes="up"),
        cluster=_flag(info.get("cluster_enabled"), yes=1),
    )


def _with_configuration(facts: ServerFacts, configuration: Mapping[str, str | None]) -> ServerFacts:
    save, least = configuration["save"], configuration["min-replicas-to-write"]
    packed_up_to = configuration["hash-max-ziplist-value"]
    return attrs.evolve(
        facts,
        fsync=configuration["appendfsync"],
        fsync_off_in_rewrites=_flag(configuration["no-appendfsync-on-rewrite"], yes="yes"),
        loads_truncated=_flag(configuration["aof-load-truncated"], yes="yes"),
        snapshots=None if save is None else bool(save.strip()),
        # Where the rule is there by its name, and without effect by another, the server's own word above counts.
        least_replicas=int(least)
        if least and facts.least_replicas is None and facts.role == "master"
        else facts.least_replicas,
        full_coverage=_flag(configuration["cluster-require-full-coverage"], yes="yes"),
        packed_up_to=int(packed_up_to) if packed_up_to else None,
    )


def _with_cluster(facts: ServerFacts, answer: Any) -> ServerFacts:
    if answer is None:
        return facts
    if isinstance(answer, bytes):
        lines = answer.decode().split()
        answer = dict(line.split(":", 1) for line in lines if ":" in line)
    slots = answer.get("cluster_slots_ok")
    return attrs.evolve(
        facts,
        cluster_state=answer.get("cluster_state"),
        uncovered_slots=None if slots is None else 16384 - int(slots),
    )


async def _with_clock(facts: ServerFacts, client: Client) -> ServerFacts:
    """Read a server's clock in the middle of a round trip, which is also how wrong that can be."""
    loop = asyncio.get_running_loop()
    best = None
    for _ in range(_SAMPLES):
        before = loop.time()
        answer = await _ask(client, "TIME")
        half = (loop.time() - before) / 2
        if answer is not None and (best is None or half < best[1]):
            best = (int(answer[0]) + int(answer[1]) / 1_000_000 - (before + half), half)
    return facts if best is None else attrs.evolve(facts, clock=best[0], clock_error=best[1])


async def _ask_sentinel(node: Node, service: str) -> SentinelFacts:
    try:
        await node.client.execute_command("SENTINEL", "CKQUORUM", service)
    except ResponseError as error:
        return SentinelFacts(name=node.name, quorum=None if isinstance(error, NoPermissionError) else False)
    except FAILURES as error:
        return SentinelFacts(name=node.name, failure=reason(error))
    return SentinelFacts(name=node.name, quorum=True)


def _flag(value: object, *, yes: object) -> bool | None:
    return None if value is None else value == yes


# Judging.


def judge(
    servers: Sequence[ServerFacts],
    *,
    sentinels: Sequence[SentinelFacts] = (),
    topology: Topology = Topology.SERVER,
    wait_replicas: int = 0,
) -> tuple[Finding, ...]:
    """Say what the facts mean, what is well included."""
    return (
        *(finding for server in servers for finding in _judge_server(server, topology, wait_replicas)),
        *_judge_clocks(servers),
        *_judge_sentinels(sentinels),
    )


def _judge_server(server: ServerFacts, topology: Topology, wait_replicas: int) -> Iterator[Finding]:
    if server.failure is not None:
        # A replica that is away now is what replicas are for; whether too few are left is a finding of its master.
        verdict = Verdict.DANGER if server.takes_writes else Verdict.WARNING
        found = f"It cannot be examined: {server.failure}."
        yield _found(server, "reachable", verdict, found, "See to it that it answers.", durability=server.takes_writes)
        return
    if server.version is None and server.role is None:
        yield _found(server, "info", Verdict.UNKNOWN, "It does not tell its state (INFO).", _ASK_ANOTHER)
    else:
        yield _judge_version(server)
        yield _judge_role(server)
        yield _judge_loading(server)
        yield _judge_policy(server)
        yield from _judge_memory(server)
    yield from _judge_packing(server)
    yield from _judge_files(server)
    if server.takes_writes and server.replicas is not None:
        yield from _judge_replicas(server, topology, wait_replicas)
    yield from _judge_cluster(server, topology)


def _judge_version(server: ServerFacts) -> Finding:
    if server.version is None or server.engine is None or server.engine not in OLDEST:
        what = f"{server.engine}, which Pickguard is not tested on" if server.engine else "an engine that does not say its name"
        return _found(server, "version", Verdict.UNKNOWN, f"It runs {what}.", "Use Valkey or Redis.")
    shown = f"{server.engine.capitalize()} {_dotted(server.version)}"
    oldest = OLDEST[server.engine]
    if server.version < oldest:
        advice = f"Upgrade it to {server.engine.capitalize()} {_dotted(oldest)} or newer."
        return _found(server, "version", Verdict.DANGER, f"It runs {shown}, which is too old.", advice)
    return _found(server, "version", Verdict.OK, f"It runs {shown}.")


def _judge_role(server: ServerFacts) -> Finding:
    if server.takes_writes:
        if server.role in {None, "master"}:
            return _found(server, "role", Verdict.OK, "It takes writes.")
        advice = "Name its master with --store, or the sentinels with redis+sentinel://."
        return _found(server, "role", Verdict.DANGER, "It is a replica and takes no writes.", advice)
    if server.in_sync is False:
        found = "It is a replica that does not hear its master."
        return _found(server, "role", Verdict.WARNING, found, "See its log.", durability=False)
    return _found(server, "role", Verdict.OK, "It is a replica and copies its master.")


def _judge_loading(server: ServerFacts) -> Finding:
    if server.loading:
        return _found(server, "loading", Verdict.DANGER, "It is still reading its data.", "Wait until it has read them.")
    return _found(server, "loading", Verdict.OK, "It has read its data.")


def _judge_policy(server: ServerFacts) -> Finding:
    if server.policy is None:
        return _found(server, "maxmemory-policy", Verdict.UNKNOWN, "It does not tell what it evicts.", _ASK_ANOTHER)
    if server.policy == "noeviction":
        return _found(server, "maxmemory-policy", Verdict.OK, "It never evicts data to make room.")
    advice = "Set maxmemory-policy noeviction."
    if server.policy.startswith("volatile-"):
        forgotten = "wrong passwords and outcomes of requests are forgotten early"
        found = f"When memory is full it evicts keys that expire ({server.policy}): {forgotten}."
        return _found(server, "maxmemory-policy", Verdict.WARNING, found, advice)
    if server.memory_limit == 0:
        found = f"It would evict accounts ({server.policy}) as soon as maxmemory is set."
        return _found(server, "maxmemory-policy", Verdict.WARNING, found, advice)
    found = f"When memory is full it evicts accounts ({server.policy})."
    return _found(server, "maxmemory-policy", Verdict.DANGER, found, advice)


def _judge_memory(server: ServerFacts) -> Iterator[Finding]:
    if server.memory is None or not server.memory_limit:
        return
    share = server.memory / server.memory_limit
    found = f"It uses {share:.0%} of its memory."
    if share < MEMORY_SHARE:
        yield _found(server, "memory", Verdict.OK, found, durability=False)
    else:
        advice = "Raise maxmemory: when it is full, every write is refused."
        yield _found(server, "memory", Verdict.WARNING, found, advice, durability=False)


def _judge_packing(server: ServerFacts) -> Iterator[Finding]:
    """Say what costs memory; nothing is wrong with it."""
    if server.packed_up_to is None:
        return
    found = "It keeps accounts packed."
    if server.packed_up_to < LONGEST_VALUE:
        found = f"Accounts take half as much memory again as with hash-max-listpack-value 1024: it is {server.packed_up_to}."
    yield _found(server, "hash-max-listpack-value", Verdict.OK, found, durability=False)


def _judge_files(server: ServerFacts) -> Iterator[Finding]:
    if server.aof is None:
        yield _found(
            server, "appendonly", Verdict.UNKNOWN, "It does not tell whether it has an append-only file.", _ASK_ANOTHER
        )
    elif not server.aof:
        found = {
            None: "It has no append-only file: a restart loses what no snapshot has.",
            True: "It has snapshots and no append-only file: a restart loses all since the last snapshot.",
            False: "It writes nothing to disk: a restart loses everything.",
        }[server.snapshots]
        yield _found(server, "appendonly", Verdict.DANGER, found, "Set appendonly yes and appendfsync always.")
        return
    else:
        yield _found(server, "appendonly", Verdict.OK, "It has an append-only file.")
    yield _judge_fsync(server)
    yield _judge_fsync_in_rewrites(server)
    yield _judge_torn_transactions(server)
    if server.aof_written is not None:
        if server.aof_written:
            yield _found(server, "aof-write", Verdict.OK, "Its last write to the append-only file went well.")
        else:
            found = "Its last write to the append-only file failed."
            yield _found(server, "aof-write", Verdict.DANGER, found, "See its log, and whether its disk is full.")
    if server.aof_rewritten is False:
        found = "Its last rewrite of the append-only file failed: the file grows until the disk is full."
        advice = "See its log; BGREWRITEAOF tries again."
        yield _found(server, "aof-rewrite", Verdict.WARNING, found, advice, durability=False)


def _judge_fsync(server: ServerFacts) -> Finding:
    match server.fsync:
        case "always":
            return _found(server, "appendfsync", Verdict.OK, "A write is on disk before it is acknowledged.")
        case "everysec":
            found = "A power cut loses the writes of about the last second, though they were acknowledged."
            return _found(server, "appendfsync", Verdict.WARNING, found, "Set appendfsync always.")
        case None:
            found = "It does not tell when writes reach its disk (appendfsync)."
            return _found(server, "appendfsync", Verdict.UNKNOWN, found, _ASK_ANOTHER)
    found = f"A power cut loses what the system has not written by itself (appendfsync {server.fsync})."
    return _found(server, "appendfsync", Verdict.DANGER, found, "Set appendfsync always.")


def _judge_fsync_in_rewrites(server: ServerFacts) -> Finding:
    name = "no-appendfsync-on-rewrite"
    if server.fsync_off_in_rewrites is None:
        found = "It does not tell whether a rewrite of the file suspends its writing to disk."
        return _found(server, name, Verdict.UNKNOWN, found, _ASK_ANOTHER)
    if server.fsync_off_in_rewrites:
        found = "While the append-only file is rewritten, acknowledged writes are not on disk: a power cut then loses them."
        return _found(server, name, Verdict.WARNING, found, "Set no-appendfsync-on-rewrite no.")
    return _found(server, name, Verdict.OK, "Writes reach the disk during a rewrite of the file, too.")


def mends_torn_transactions(engine: str | None, version: tuple[int, ...] | None) -> bool:
    """Say whether an engine can be left alone with a log that ends within a transaction."""
    first = MENDS_TORN_TRANSACTIONS.get(engine or "")
    return first is not None and version is not None and version >= first


def _judge_torn_transactions(server: ServerFacts) -> Finding:
    name = "aof-load-truncated"
    if mends_torn_transactions(server.engine, server.version):
        return _found(server, name, Verdict.OK, "Of a log that ends within a transaction it drops all of that.")
    if server.loads_truncated is None:
        found = "It does not tell whether it starts on a log that ends too early."
        return _found(server, name, Verdict.UNKNOWN, found, _ASK_ANOTHER)
    if server.loads_truncated:
        found = (
            "After a power cut it may go on with a log that ends within a transaction, and lose at its next start what it "
            "acknowledged meanwhile."
        )
        advice = (
            "Set aof-load-truncated no and, where it then refuses to start, cut the log with redis-check-aof --fix; or use "
            f"Valkey {_dotted(MENDS_TORN_TRANSACTIONS['valkey'])}."
        )
        return _found(server, name, Verdict.WARNING, found, advice)
    return _found(server, name, Verdict.OK, "It does not start on a log that ends too early.")


def _judge_replicas(server: ServerFacts, topology: Topology, wait_replicas: int) -> Iterator[Finding]:
    replicas = server.replicas or 0
    found = f"{_number(replicas, 'replica')} {'copies' if replicas == 1 else 'copy'} it."
    if replicas < wait_replicas:
        found = f"{found[:-1]}, and --wait-replicas asks for {wait_replicas}: no write can be acknowledged."
        yield _found(server, "replicas", Verdict.DANGER, found, "Start more replicas, or wait for fewer.")
    elif replicas == 0 and topology in {Topology.SENTINEL, Topology.CLUSTER}:
        found = "No replica copies it: when it fails, nothing takes its place."
        yield _found(server, "replicas", Verdict.WARNING, found, "Give it a replica.", durability=False)
    elif replicas or wait_replicas:
        yield _found(server, "replicas", Verdict.OK, found)
    if replicas or wait_replicas:
        yield _judge_least_replicas(server)


def _judge_least_replicas(server: ServerFacts) -> Finding:
    name = "min-replicas-to-write"
    if server.least_replicas == 0:
        found = "Cut off from its replicas, it goes on acknowledging writes, which a fail-over loses."
        return _found(server, name, Verdict.WARNING, found, "Set min-replicas-to-write 1 and min-replicas-max-lag 10.")
    good, least = server.good_replicas, server.least_replicas
    if good is not None and (good < least if least is not None else good == 0):
        found = f"It refuses writes: of the replicas that it needs, {good} keep up."
        return _found(server, name, Verdict.DANGER, found, "See why the others do not.")
    return _found(server, name, Verdict.OK, "It refuses writes that too few replicas would get.")


def _judge_cluster(server: ServerFacts, topology: Topology) -> Iterator[Finding]:
    if topology is not Topology.CLUSTER:
        return
    if server.cluster_state is None:
        found = "It does not tell the state of the cluster (CLUSTER INFO)."
        yield _found(
            server, "cluster", Verdict.UNKNOWN, found, "Let its user ask: ACL SETUSER … +cluster|info.", durability=False
        )
    elif server.cluster_state != "ok":
        found = f"It finds the cluster in the state {server.cluster_state}, and refuses writes."
        yield _found(server, "cluster", Verdict.DANGER, found, "See CLUSTER NODES for what is missing.")
    elif server.uncovered_slots:
        found = f"{_number(server.uncovered_slots, 'slot')} of the cluster cannot be reached, and the accounts in them."
        yield _found(server, "cluster", Verdict.DANGER, found, "See CLUSTER NODES for what is missing.")
    else:
        yield _found(server, "cluster", Verdict.OK, "It finds the cluster well, and all slots served.")
    if server.full_coverage:
        found = "When one part of the cluster fails, it refuses the keys of all others, too."
        advice = "Set cluster-require-full-coverage no."
        yield _found(server, "cluster-require-full-coverage", Verdict.WARNING, found, advice, durability=False)


def _judge_clocks(servers: Sequence[ServerFacts]) -> Iterator[Finding]:
    read = [(each.clock, each.clock_error, each.name) for each in servers if each.clock is not None]
    if len(read) < 2:  # noqa: PLR2004 (one clock differs from nothing)
        return
    (first, first_error, behind), (last, last_error, ahead) = min(read), max(read)
    difference, error = last - first, first_error + last_error
    least, most = max(0.0, difference - error), difference + error
    where = f"{behind}, {ahead}"
    advice = "Let NTP set the clocks of all servers: who has an address is decided by their times."
    if least > CLOCK_WARNING.total_seconds():
        verdict = Verdict.DANGER if least > CLOCK_DANGER.total_seconds() else Verdict.WARNING
        found = f"Their clocks differ by {difference:.1f} seconds."
        yield Finding(id="clock", where=where, verdict=verdict, found=found, advice=advice)
    elif most > CLOCK_DANGER.total_seconds():
        found = "They answer too slowly to tell whether their clocks agree."
        yield Finding(id="clock", where=where, verdict=Verdict.UNKNOWN, found=found, advice="Try again.")
    else:
        found = f"The clocks of {len(read)} servers agree to {most * 1000:.0f} ms."
        yield Finding(id="clock", where="all servers", verdict=Verdict.OK, found=found)


def _judge_sentinels(sentinels: Sequence[SentinelFacts]) -> Iterator[Finding]:
    if not sentinels:
        return
    for each in sentinels:
        if each.failure is not None:
            found, advice = f"It cannot be asked: {each.failure}.", "See to it that it answers."
            yield Finding(id="sentinel", where=each.name, verdict=Verdict.WARNING, found=found, advice=advice, durability=False)
        elif each.quorum is None:
            found, advice = "It does not tell whether a fail-over is possible.", "Let its user ask SENTINEL CKQUORUM."
            yield Finding(id="sentinel", where=each.name, verdict=Verdict.UNKNOWN, found=found, advice=advice, durability=False)
        elif each.quorum:
            found = "It finds enough sentinels for a fail-over."
            yield Finding(id="sentinel", where=each.name, verdict=Verdict.OK, found=found, durability=False)
        else:
            found, advice = "It finds too few sentinels for a fail-over.", "Start the others, or see why they are not heard."
            yield Finding(id="sentinel", where=each.name, verdict=Verdict.DANGER, found=found, advice=advice, durability=False)
    answering = sum(each.failure is None for each in sentinels)
    if answering < SENTINELS:
        found = f"{_number(answering, 'sentinel')} of those named {'answers' if answering == 1 else 'answer'}."
        advice = f"Run and name {SENTINELS} or more, on machines of their own: with fewer, losing one can end fail-overs."
        yield Finding(id="sentinels", where="sentinels", verdict=Verdict.WARNING, found=found, advice=advice, durability=False)


def _found(
    server: ServerFacts, id_: str, verdict: Verdict, found: str, advice: str = "", *, durability: bool = True
) -> Finding:
    return Finding(id=id_, where=server.name, verdict=verdict, found=found, advice=advice, durability=durability)


def _number(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))
