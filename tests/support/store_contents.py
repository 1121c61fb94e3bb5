"""Everything that lies in a store, for tests that look for what should not be there, or should not have changed."""

from typing import Any


async def contents(client: Any) -> dict[bytes, Any]:
    """Return every key with its value."""
    found: dict[bytes, Any] = {}
    async for key in client.scan_iter(count=1000):
        is_hash = await client.type(key) == b"hash"
        found[key] = await (client.hgetall(key) if is_hash else client.get(key))
    return found


async def all_bytes(client: Any) -> bytes:
    """Return every key and every value, one after the other."""
    pieces: list[bytes] = []
    for key, value in (await contents(client)).items():
        pieces.append(key)
        pieces += [part for item in value.items() for part in item] if isinstance(value, dict) else [value]
    return b"\n".join(pieces)
