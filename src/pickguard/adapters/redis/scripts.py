"""The scripts that run inside the server: each one command, one key, one atomic step.

Every script reads and judges before its first write, and no command after a write can fail, because a script that fails
half-way keeps what it has written. Times are in milliseconds since 1970: the server's own, or the caller's where it gives one.
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
OVER: Final = 3

# KEYS: account. ARGV: expected version (0: none yet), operation, its length times how many to remember, time of the claim that
# this relies on or '', greatest age of that claim in ms, when the account ends ('': as it is, 0: never, or a time at least a
# second ahead), how many values of fields follow, fields and values, fields to drop.
# The end is set first, since a user may lack the right to, and then nothing has happened yet. A time that has come would erase
# the account at once, and what is written next would be half a one. Fields are dropped then: a script is refused for want of
# memory at its first write only, and neither of these needs any. So sessions can be ended where memory is full.
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
local ends = tonumber(ARGV[6])
if ends and ends > 0 and ends < now + 1000 then
  return 3
end
if ends and version > 0 then
  if ends > 0 then
    redis.call('PEXPIREAT', KEYS[1], ARGV[6])
  else
    redis.call('PERSIST', KEYS[1])
  end
end
local operations = string.sub(ARGV[2] .. (held[2] or ''), 1, tonumber(ARGV[3]))
local last = 7 + tonumber(ARGV[7])
if #ARGV > last then
  redis.call('HDEL', KEYS[1], unpack(ARGV, last + 1))
end
redis.call('HSET', KEYS[1], 'v', string.format('%.0f', version + 1), 'o', operations, unpack(ARGV, 8, last))
if ends and ends > 0 and version == 0 then
  redis.call('PEXPIREAT', KEYS[1], ARGV[6])
end
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

# KEYS: account. ARGV: expected version, when the account ends in ms (0: never). Answers like SAVE. Sets the key's expiry anew,
# as the account says; a time that has come erases it.
SET_END = Script(
    """
if redis.call('HGET', KEYS[1], 'v') ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIREAT', KEYS[1], ARGV[2])
end
return 1
"""
)

# How what is counted is written and read; see the records in `encoding`. Numbers are of so many bytes, the highest first.
_COUNTED: Final = """
local function number(text, at, size)
  local value = 0
  for position = at, at + size - 1 do
    value = value * 256 + string.byte(text, position)
  end
  return value
end
local function bytes(value, size)
  local text = ''
  for _ = 1, size do
    text = string.char(value % 256) .. text
    value = math.floor(value / 256)
  end
  return text
end
local function live(times, within, now)
  local first = 1
  while first < #times and now - number(times, first, 6) >= within do
    first = first + 6
  end
  return string.sub(times, first)
end
local function wait(times, most, within, now)
  if #times < most * 6 then
    return 0
  end
  return number(times, #times - most * 6 + 1, 6) + within - now
end
local function add(times, now)
  local at = #times
  while at > 0 and number(times, at - 5, 6) > now do
    at = at - 6
  end
  return string.sub(times, 1, at) .. bytes(now, 6) .. string.sub(times, at + 1)
end
"""

# KEYS: counter. ARGV: the caller's time, how many may be, within how many ms. Answers for how many ms the limit is reached; 0
# where it is not, and one more is counted. Nil: what is there has another format.
COUNT = Script(
    _COUNTED
    + """
local now, most, within = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local there = redis.call('GET', KEYS[1]) or '\\1'
if string.byte(there) ~= 1 then
  return false
end
local times = live(string.sub(there, 2), within, now)
local reached = wait(times, most, within, now)
if reached > 0 then
  return reached
end
times = add(times, now)
redis.call('SET', KEYS[1], '\\1' .. times, 'PX', string.format('%.0f', number(times, #times - 5, 6) + within - now))
return 0
"""
)

# Reads the tries for an account without what is forgotten, and answers where a limit is reached, with that limit's number (1
# guesses, 2 run) and for how many ms.
_TRIES: Final = (
    _COUNTED
    + """
local now, mine, known = tonumber(ARGV[1]), ARGV[2], ARGV[3] == '1'
local guesses, guesses_within = tonumber(ARGV[4]), tonumber(ARGV[5])
local run, run_within = tonumber(ARGV[6]), tonumber(ARGV[7])
local there = redis.call('GET', KEYS[1])
local count, last, source = 0, 0, ''
local own, own_last, times = 0, 0, ''
local others = {}
if there then
  if string.byte(there) ~= 1 then
    return false
  end
  count, last = number(there, 2, 4), number(there, 6, 6)
  local at = 13 + number(there, 12, 1)
  source = string.sub(there, 13, at - 1)
  if now - last >= run_within then
    count, last, source = 0, 0, ''
  end
  while at <= #there do
    local digest, of_run, of_last = string.sub(there, at, at + 11), number(there, at + 12, 4), number(there, at + 16, 6)
    local size = number(there, at + 22, 2) * 6
    local recent = live(string.sub(there, at + 24, at + 23 + size), guesses_within, now)
    at = at + 24 + size
    if now - of_last >= run_within then
      of_run, of_last = 0, 0
    end
    if digest == mine then
      own, own_last, times = of_run, of_last, recent
    elseif of_run > 0 or #recent > 0 then
      others[#others + 1] = {digest, of_run, of_last, recent}
    end
  end
  if at ~= #there + 1 then
    return false
  end
end
local function record(parts)
  local text = '\\1' .. bytes(count, 4) .. bytes(last, 6) .. bytes(#source, 1) .. source
  for _, part in ipairs(parts) do
    text = text .. part[1] .. bytes(part[2], 4) .. bytes(part[3], 6) .. bytes(#part[4] / 6, 2) .. part[4]
  end
  return text
end
local judged, since = count, last
if known then
  judged, since = own, own_last
end
local of_guesses, of_run = wait(times, guesses, guesses_within, now), 0
if judged >= run then
  of_run = since + run_within - now
end
if of_run > of_guesses then
  return {2, of_run}
end
if of_guesses > 0 then
  return {1, of_guesses}
end
"""
)

# KEYS: tries. ARGV: the caller's time, digest of the source or '', whether that is known, how many guesses may be and within
# how many ms, the same two of a run, the source. Answers {limit that was reached or 0, ms}. Nil: what is there has another
# format.
FAIL = Script(
    _TRIES
    + """
count = count + 1
if now >= last then
  last, source = now, ARGV[8]
end
if mine ~= '' then
  others[#others + 1] = {mine, own + 1, math.max(now, own_last), add(times, now)}
end
local kept = last + math.max(guesses_within, run_within) - now
redis.call('SET', KEYS[1], record(others), 'PX', string.format('%.0f', kept))
return {0, 0}
"""
)

# KEYS and ARGV: as for FAIL, without the source. Answers {limit that is reached, ms}, or {0, 0, failures in the run, time of
# the last one, source of the last one}. It writes only where there is something to forget.
SUCCEED = Script(
    _TRIES
    + """
local answer = {0, 0, count, last, source}
if count + own + #times == 0 then
  return answer
end
count, last, source = 0, 0, ''
local left, newest = {}, 0
for _, part in ipairs(others) do
  if #part[4] > 0 then
    left[#left + 1] = {part[1], 0, 0, part[4]}
    newest = math.max(newest, number(part[4], #part[4] - 5, 6))
  end
end
if #left == 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], record(left), 'PX', string.format('%.0f', newest + guesses_within - now))
end
return answer
"""
)

# KEYS: tries. Answers what was there. What has another format is left as it is.
FORGIVE = Script(
    """
local there = redis.call('GET', KEYS[1])
if there and string.byte(there) == 1 then
  redis.call('DEL', KEYS[1])
end
return there
"""
)
