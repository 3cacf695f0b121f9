"""What a shared store does in one step, in Lua: `pace.shared` runs these. The clock is the store's own.

Both scripts take the same arguments. KEYS: the state, who was seen, and what differs. ARGV: the
operation; the moment in seconds, or nothing for the store's clock; seconds to keep the state; who asks; two numbers;
how many buckets there are; and eight numbers for each.
"""

from __future__ import annotations

_BEGIN = """
local op, seconds, member, number = ARGV[1], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local other, n = tonumber(ARGV[6]), tonumber(ARGV[7])
local now = tonumber(ARGV[2])
if not now then
  local clock = redis.call('TIME')
  now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
end
local function row(i, field) return tonumber(ARGV[7 + 8 * (i - 1) + field]) end
local function text(x) return string.format('%.17g', x) end
local seen, gone = 0, {}
if number > 0 and (op == 'take' or op == 'book' or op == 'raise') then
  redis.call('ZADD', KEYS[2], now, member)
  gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - 30)
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 30)
  redis.call('EXPIRE', KEYS[2], 60)
  seen = redis.call('ZCARD', KEYS[2])
end
local state = {}
local stored = redis.call('GET', KEYS[1])
if stored then for word in string.gmatch(stored, '%S+') do state[#state + 1] = tonumber(word) end end
local paused = state[2] or 0
"""

MEMBER_SEEN = 30.0
"""Seconds since its last call for which a process counts as one that shares the quota (also in the scripts)."""

BUCKET = (
    _BEGIN
    + """
-- state: the moment, the end of a pause, and of each bucket its level; what is under way, as the provider counts; what
-- was ever sent, in units as they were estimated; what was sent a moment ago (it fades); what was used by the latest
-- count, and when that became known; and when the newest request was sent that was answered.
-- KEYS[3] has what each process has under way. The rules are those of pace.lessons.
local arrived_after, doubted, fields = 2, 1.2, 7
local passed = math.max(0, now - (state[1] or now))
local level, under, sent, recent, used, used_at, newest = {}, {}, {}, {}, {}, {}, {}
for i = 1, n do
  local at = 2 + fields * (i - 1)
  level[i] = math.max(0, (state[at + 1] or 0) - passed * row(i, 1))
  under[i], sent[i] = state[at + 2] or 0, state[at + 3] or 0
  recent[i] = (state[at + 4] or 0) * math.exp(-passed / arrived_after)
  used[i], used_at[i], newest[i] = state[at + 5] or 0, state[at + 6] or 0, state[at + 7] or 0
end
local function keep()
  local out = {text(math.max(now, state[1] or now)), text(paused)}
  for i = 1, n do
    for _, value in ipairs({level[i], under[i], sent[i], recent[i], used[i], used_at[i], newest[i]}) do
      out[#out + 1] = text(value)
    end
  end
  redis.call('SET', KEYS[1], table.concat(out, ' '), 'PX', math.ceil(seconds * 1000))
end
local function all(verdict, wait, values)
  local out = {verdict, text(wait), seen}
  for i = 1, #values do out[#out + 1] = text(values[i]) end
  return out
end
local function move_under(sign)
  local out, had = {}, {}
  local kept = redis.call('HGET', KEYS[3], member)
  if kept then for word in string.gmatch(kept, '%S+') do had[#had + 1] = tonumber(word) end end
  for i = 1, n do
    local before = had[i] or 0
    local after = math.max(0, before + sign * row(i, 3))
    under[i] = math.max(0, under[i] + after - before)
    out[i] = text(after)
  end
  redis.call('HSET', KEYS[3], member, table.concat(out, ' '))
  redis.call('PEXPIRE', KEYS[3], math.ceil(seconds * 1000))
end
local function forget(who)
  local kept, i = redis.call('HGET', KEYS[3], who), 0
  if kept then
    for word in string.gmatch(kept, '%S+') do
      i = i + 1
      if under[i] then under[i] = math.max(0, under[i] - tonumber(word)) end
    end
    redis.call('HDEL', KEYS[3], who)
  end
end
for _, who in ipairs(gone) do forget(who) end

if op == 'take' or op == 'book' then
  if paused > now then return all(0, paused - now, {}) end
  local wait = 0
  for i = 1, n do
    local rate, size, units = row(i, 1), row(i, 2), row(i, 3)
    local over = level[i] + units - size
    if (units > 0 or op == 'book') and over > size * 1e-9 then wait = math.max(wait, over / rate) end
  end
  if wait > 0 and op == 'take' then
    if #gone > 0 then keep() end
    return all(0, wait, {})
  end
  local receipt = {now + wait}
  for i = 1, n do
    receipt[2 * i], receipt[2 * i + 1] = sent[i], recent[i]
    level[i] = math.max(0, level[i] + row(i, 3))
    sent[i], recent[i] = sent[i] + row(i, 4), math.max(0, recent[i] + row(i, 4))
  end
  move_under(1)
  keep()
  return all(wait > 0 and 2 or 1, wait, receipt)
elseif op == 'return' then
  for i = 1, n do level[i] = math.max(0, level[i] - row(i, 3)) end
  move_under(-1)
  keep()
elseif op == 'change' then
  for i = 1, n do level[i] = math.max(0, level[i] + row(i, 3)) end
  keep()
elseif op == 'raise' then
  forget(member)
  for i = 1, n do level[i] = math.max(level[i], row(i, 3)) end
  keep()
elseif op == 'pause' then
  paused = math.max(paused, now + number)
  keep()
elseif op == 'count' then
  -- number: whether it is charged; other: when it was sent
  move_under(-1)
  for i = 1, n do
    local rate, units, raw, before, at_sending, told, scale =
      row(i, 1), row(i, 3), row(i, 4), row(i, 5), row(i, 6), row(i, 7), row(i, 8)
    if told >= 0 then
      local known = math.max(0, used[i] - math.max(0, now - used_at[i]) * rate)
      if told >= known or other >= used_at[i] then used[i], used_at[i], known = told, now, told end
      local trip = math.max(0, now - other)
      if other >= newest[i] then
        newest[i] = other
        local after = math.max(0, sent[i] - before - raw) + at_sending
        local arrived = told - rate * math.max(0, trip - arrived_after) + doubted * after * scale
        level[i] = math.max(0, math.min(
          known + doubted * under[i], math.max(arrived, told + doubted * recent[i] * scale)))
      else
        level[i] = math.min(known + doubted * under[i], math.max(level[i], told - rate * trip))
      end
    elseif number == 0 then
      level[i] = math.max(0, level[i] - units)
    end
  end
  keep()
  return all(1, 0, under)
end
return all(1, math.max(0, paused - now), level)
"""
)

WINDOW = (
    _BEGIN
    + """
-- state: the moment, the end of a pause, and what is in use of each bucket. KEYS[3] has the slots of time at whose end
-- units come back, in order, KEYS[4] what comes back in each. With
-- `finish`, `number` says how many seconds ago the provider must have counted it.
local slots, lease = 1200, 60
local used = {}
for i = 1, n do used[i] = state[2 + i] or 0 end
local interval = {}
for i = 1, n do interval[i] = row(i, 8) end
local longest = 0
for i = 1, n do longest = math.max(longest, interval[i]) end
local width = longest / slots

local function parts(slot)
  local out, kept = {}, redis.call('HGET', KEYS[4], slot)
  if kept then for word in string.gmatch(kept, '%S+') do out[#out + 1] = tonumber(word) end end
  for i = 1, n do out[i] = out[i] or 0 end
  return out
end
local function put(slot, values)
  local out, some = {}, false
  for i = 1, n do
    out[i] = text(math.max(0, values[i]))
    if values[i] > 1e-9 then some = true end
  end
  if some then
    redis.call('HSET', KEYS[4], slot, table.concat(out, ' '))
    redis.call('ZADD', KEYS[3], slot, slot)
  else
    redis.call('HDEL', KEYS[4], slot)
    redis.call('ZREM', KEYS[3], slot)
  end
end
local function comes_back(after, values)
  local slot = string.format('%.0f', math.ceil((now + after) / width))
  local there = parts(slot)
  for i = 1, n do there[i] = there[i] + values[i] end
  put(slot, there)
end
local function take_from_latest(values)
  local left = {}
  for i = 1, n do left[i] = values[i] end
  for _, slot in ipairs(redis.call('ZREVRANGE', KEYS[3], 0, -1)) do
    local there, more = parts(slot), false
    for i = 1, n do
      local taken = math.min(there[i], left[i])
      there[i], left[i] = there[i] - taken, left[i] - taken
      if left[i] > 1e-9 then more = true end
    end
    put(slot, there)
    if not more then break end
  end
end
local function keep()
  local out = {text(math.max(now, state[1] or now)), text(paused)}
  for i = 1, n do out[#out + 1] = text(math.max(0, used[i])) end
  redis.call('SET', KEYS[1], table.concat(out, ' '), 'PX', math.ceil(seconds * 1000))
  redis.call('PEXPIRE', KEYS[3], math.ceil(seconds * 1000))
  redis.call('PEXPIRE', KEYS[4], math.ceil(seconds * 1000))
end
local function all(verdict, wait)
  local out = {verdict, text(wait), seen}
  for i = 1, n do out[#out + 1] = text(used[i]) end
  return out
end

local due = string.format('%.0f', math.floor(now / width))
for _, slot in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', due)) do
  local there = parts(slot)
  for i = 1, n do used[i] = math.max(0, used[i] - there[i]) end
  redis.call('HDEL', KEYS[4], slot)
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', due)

local units = {}
for i = 1, n do units[i] = row(i, 3) end
if op == 'take' or op == 'book' then
  if paused > now then return all(0, paused - now) end
  local missing, some = {}, false
  for i = 1, n do
    missing[i] = used[i] + units[i] - row(i, 2)
    if units[i] > 0 and missing[i] > row(i, 2) * 1e-9 then some = true else missing[i] = 0 end
  end
  if some then
    local wait = 1
    for _, slot in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
      local there, open = parts(slot), false
      for i = 1, n do
        missing[i] = missing[i] - there[i]
        if missing[i] > row(i, 2) * 1e-9 then open = true end
      end
      if not open then
        wait = slot * width - now
        -- these units are of calls under way: they may come back sooner than their lease says
        if wait > longest then wait = 1 end
        break
      end
    end
    keep()
    return all(0, math.max(wait, 0.001))
  end
  for i = 1, n do used[i] = used[i] + units[i] end
  comes_back(lease + longest, units)
  keep()
  return all(1, 0)
elseif op == 'change' or op == 'return' then
  if op == 'return' then for i = 1, n do units[i] = -units[i] end end
  local more, less = {}, {}
  for i = 1, n do
    used[i] = math.max(0, used[i] + units[i])
    more[i], less[i] = math.max(0, units[i]), math.max(0, -units[i])
  end
  take_from_latest(less)
  comes_back(lease + longest, more)
  keep()
elseif op == 'finish' then
  take_from_latest(units)
  comes_back(math.max(0, longest - number), units)
  keep()
elseif op == 'raise' then
  local more = {}
  for i = 1, n do
    more[i] = math.max(0, units[i] - used[i])
    used[i] = used[i] + more[i]
  end
  comes_back(longest, more)
  keep()
elseif op == 'pause' then
  paused = math.max(paused, now + number)
  keep()
end
return all(1, math.max(0, paused - now))
"""
)
