"""The scripts that run inside the server: each one command, one key, one atomic step.

Every script reads and judges before its first write, and no command after a write can fail, because a script that fails
half-way keeps what it has written. Times are the server's own, in milliseconds since 1970.
"""

import hashlib
from typing import Final

import attrs


@attrs.frozen
class Script:
    """The source of a script, and the digest by which a server knows it."""

    source: str
    digest: str = attrs.field(init=False)

    @digest.default
    def _digest(self) -> str:
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


_NOW: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""

# What a claim ends with: its time in 6 bytes, the highest first.
_STAMP: Final = """
local stamp, rest = '', now
for _ = 1, 6 do
  stamp = string.char(rest % 256) .. stamp
  rest = math.floor(rest / 256)
end
"""

# KEYS: claim. ARGV: the claim to make, without its time. Answers {won, claim, now}. Sent twice with one nonce it claims once;
# the second time it writes the same again, because a WAIT after it counts from the last write of its own connection.
CLAIM = Script(
    _NOW
    + _STAMP
    + """
local there = redis.call('GET', KEYS[1])
if there then
  if #there ~= #ARGV[1] + #stamp or string.sub(there, 1, #ARGV[1]) ~= ARGV[1] then
    return {0, there, now}
  end
  redis.call('SET', KEYS[1], there)
  return {1, there, now}
end
local mine = ARGV[1] .. stamp
redis.call('SET', KEYS[1], mine)
return {1, mine, now}
"""
)

# KEYS: claim. ARGV: the claim as it was read, its time, the claim to make without its time, least age in ms. Answers
# {won, claim}.
TAKE_OVER = Script(
    _NOW
    + _STAMP
    + """
local there = redis.call('GET', KEYS[1])
if there ~= ARGV[1] then
  return {0, there or ''}
end
if now - tonumber(ARGV[2]) < tonumber(ARGV[4]) then
  return {0, there}
end
local mine = ARGV[3] .. stamp
redis.call('SET', KEYS[1], mine)
return {1, mine}
"""
)

# KEYS: claim. ARGV: the claim as it was read. Answers how many claims it released.
RELEASE = Script(
    """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
"""
)

# KEYS: receipt. ARGV: a receipt, how long it is kept in ms. Answers the receipt that is there then.
OPEN_RECEIPT = Script(
    """
local there = redis.call('GET', KEYS[1])
if there then
  return there
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
"""
)

# KEYS: receipt. ARGV: the receipt as it was read, the one with an answer. Answers the one that stands then. Like CLAIM it
# writes again what it has written. One that is gone was forgotten after its time, and stays so.
CLOSE_RECEIPT = Script(
    """
local there = redis.call('GET', KEYS[1])
if there == ARGV[1] or there == ARGV[2] then
  redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
  return ARGV[2]
end
return there or ARGV[2]
"""
)

SAVED: Final = 1
CONFLICT: Final = 0
LATE: Final = 2

# KEYS: account. ARGV: expected version (0: none yet), operation, its length times how many to remember, time of the claim that
# this relies on or '', greatest age of that claim in ms, how many values of fields follow, fields and values, fields to drop.
# Fields are dropped first: a script is refused for want of memory at its first write only, and HDEL needs none. So sessions can
# be ended where memory is full.
SAVE = Script(
    _NOW
    + """
local held = redis.call('HMGET', KEYS[1], 'v', 'o')
local version = tonumber(held[1] or '0')
if version ~= tonumber(ARGV[1]) then
  return 0
end
if ARGV[4] ~= '' and now - tonumber(ARGV[4]) > tonumber(ARGV[5]) then
  return 2
end
local operations = string.sub(ARGV[2] .. (held[2] or ''), 1, tonumber(ARGV[3]))
local last = 6 + tonumber(ARGV[6])
if #ARGV > last then
  redis.call('HDEL', KEYS[1], unpack(ARGV, last + 1))
end
redis.call('HSET', KEYS[1], 'v', string.format('%.0f', version + 1), 'o', operations, unpack(ARGV, 7, last))
return 1
"""
)

# KEYS: account. ARGV: expected version. Answers like SAVE. Writes what is there, because a WAIT after it counts from the last
# write of its own connection; replicas that have this one have all that was before it.
CONFIRM = Script(
    """
local version = redis.call('HGET', KEYS[1], 'v')
if version ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'v', version)
return 1
"""
)

# KEYS: account. ARGV: expected version. Answers like SAVE.
REMOVE = Script(
    """
if redis.call('HGET', KEYS[1], 'v') ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
return 1
"""
)
