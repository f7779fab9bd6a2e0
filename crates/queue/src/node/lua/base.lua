-- What every script of both libraries is made of: reading arguments, and what is the same for both. Comes first in each
-- of them, before the blocks of a library. Nothing is undone when a script fails half-way, so everything that only informs
-- others (events, markers) cannot fail, and a job is in its new place before the next step may.

local cursor = 0
local function arg()
  cursor = cursor + 1
  return ARGV[cursor]
end
local function number() return tonumber(arg()) end

-- Redis takes long to write a number, so what is only passed on stays text.
local stamp = arg()
local now = tonumber(stamp)

-- What each library brings: a queue by the start of its keys, and whether it is one that may be worked; a look at the types
-- of the keys that a call may change, and of those of a job about to be settled; what a worker reads of a job, what shows
-- that nobody has started it since, and what its end depends on, with its `name`; the removal of a job that ended; what
-- becomes of one found stalled; how many stack traces a job wants kept.
local queue_at, accepted, probe, row_of, unchanged, ties_of, delete_ended, found_stalled, trace_limit

local function said(problem)
  if type(problem) == 'table' then return problem.err or 'unknown error' end
  return tostring(problem)
end

-- What only this queue's keys are to blame for; anything else ends the script.
local function own_fault(problem)
  local text = said(problem)
  for _, part in ipairs({'WRONGTYPE', 'NOPERM', 'ACL failure', 'user executing the script', 'not an integer'}) do
    if string.find(text, part, 1, true) then return text end
  end
  error(problem, 0)
end

-- What the end of a job does to others cannot stop it.
local function aside(effect, ...)
  local fine, problem = pcall(effect, ...)
  if not fine then own_fault(problem) end
end

local function decoded(text)
  if not text or text == '' then return {} end
  local fine, value = pcall(cjson.decode, text)
  return fine and type(value) == 'table' and value or {}
end

-- The same for options that nobody changes: jobs of one queue often have the same.
local options_text, options
local function options_in(text)
  if text ~= options_text then options_text, options = text, decoded(text) end
  return options
end

-- A field of a decoded object, nil where JSON says null.
local function given(value)
  if value == cjson.null then return nil end
  return value
end

-- What stands in `from` is taken before what stands in `to`.
local function move(from, to)
  if redis.call('EXISTS', from) == 0 then return end
  if redis.call('EXISTS', to) == 0 then
    redis.call('RENAME', from, to)
    return
  end
  while true do
    local ids = redis.call('LRANGE', from, 0, 999)
    if #ids == 0 then return end
    redis.call('RPUSH', to, unpack(ids))
    redis.call('LTRIM', from, #ids, -1)
  end
end

-- The same as a whole number that Redis can read; nil when it is no number.
local function whole(value)
  local number = tonumber(given(value))
  if not number or number ~= number then return nil end
  return math.floor(math.max(-9007199254740991, math.min(9007199254740991, number)))
end

-- Counts in a job's hash. What is no number there counts as nothing.
local function bump(key, field)
  local count = redis.pcall('HINCRBY', key, field, 1)
  if type(count) == 'number' then return count end
  redis.call('HSET', key, field, 1)
  return 1
end

-- telling ---------------------------------------------------------------------------------------------------------

-- What is to be told of queues that go on all the same: {start of its keys, text}.
local remarks = {}
local function remark(q, text) remarks[#remarks + 1] = {q.base, text} end

local KINDS = {
  meta = 'hash', wait = 'list', paused = 'list', active = 'list', delayed = 'zset', prioritized = 'zset', priority = 'zset',
  completed = 'zset', failed = 'zset', stalled = 'set', ['repeat'] = 'zset', ['waiting-children'] = 'zset',
}

-- Says of which key a problem is, where that can be seen.
local function named(base, problem)
  local text = own_fault(problem)
  for name, kind in pairs(KINDS) do
    local found = redis.pcall('TYPE', base .. name).ok
    if found and found ~= 'none' and found ~= kind then
      return string.format('`%s%s` should be a %s and is a %s', base, name, kind, found)
    end
  end
  for _, name in ipairs({'limiter', 'pc', 'id'}) do
    local value = redis.pcall('GET', base .. name)
    if value and (type(value) ~= 'string' or not string.match(value, '^%-?%d+$') or #value > 18) then
      return string.format('`%s%s` should be a whole number', base, name)
    end
  end
  return text
end

local function no_job(q, id)
  remark(q, string.format('`%s%s` is no job, so its id was taken out of the queue', q.base, id))
end

-- the end of a job ------------------------------------------------------------------------------------------------

-- {count, age in s, limit}; no count keeps all.
local function keep_rule(opts, name, default)
  local rule = given(opts[name])
  if rule == nil then rule = given(default) end
  if rule == true then return {count = 0} end
  if type(rule) == 'number' or type(rule) == 'string' then return {count = whole(rule)} end
  if type(rule) ~= 'table' then return {} end
  return {count = whole(rule.count), age = whole(rule.age), limit = whole(rule.limit)}
end

local function remove_ended(q, set, ids)
  for _, id in ipairs(ids) do delete_ended(q, id) end
  for first = 1, #ids, 1000 do
    redis.call('ZREM', set, unpack(ids, first, math.min(first + 999, #ids)))
  end
end

local rooms = {}
-- Whoever begins to keep less may have millions of jobs: Redis must not stand still for that.
local MOST_REMOVED = 1000

local function make_room(set)
  local q, rule = rooms[set].q, rooms[set].rule
  rooms[set] = nil
  if rule.age then
    local old = redis.call('ZREVRANGEBYSCORE', set, now - rule.age * 1000, 0, 'LIMIT', 0, rule.limit or MOST_REMOVED)
    remove_ended(q, set, old)
  end
  if rule.count and rule.count > 0 then
    remove_ended(q, set, redis.call('ZREVRANGE', set, rule.count, rule.count + MOST_REMOVED - 1))
  end
end

-- Room for a job that is about to come into the set. Jobs with the same rule, one after the other, need it made only once.
local function keep(q, set, rule)
  local before = rooms[set] and rooms[set].rule
  if before and (before.count ~= rule.count or before.age ~= rule.age or before.limit ~= rule.limit) then make_room(set) end
  rooms[set] = {q = q, rule = rule}
end

-- To be called when all is finished that a call finishes.
local function make_rooms()
  for set in pairs(rooms) do aside(make_room, set) end
end

local function measure(q, name, size)
  if size <= 0 then return end
  local key = q.base .. 'metrics:' .. name
  local count = redis.call('HINCRBY', key, 'count', 1)
  local before = redis.call('HMGET', key, 'prevTS', 'prevCount')
  local last = tonumber(before[1])
  if not last then
    redis.call('HSET', key, 'prevTS', now, 'prevCount', 0)
    return
  end
  local minutes = math.min(math.floor(now / 60000) - math.floor(last / 60000), size)
  if minutes <= 0 then return end
  local data = key .. ':data'
  redis.call('LPUSH', data, count - 1 - (tonumber(before[2]) or 0))
  for _ = 2, minutes do redis.call('LPUSH', data, 0) end
  redis.call('LTRIM', data, 0, size - 1)
  redis.call('HSET', key, 'prevCount', count - 1, 'prevTS', now)
end

-- `trace` is a JSON string.
local function note_failure(q, id, reason, trace)
  local key = q.base .. id
  local found = redis.call('HMGET', key, 'stacktrace', 'opts')
  local limit = trace_limit(decoded(found[2]))
  local rows = {}
  for _, row in ipairs(decoded(found[1])) do
    if type(row) == 'string' then rows[#rows + 1] = cjson.encode(row) end
  end
  local text = found[1]
  if not limit and text and string.sub(text, 1, 2) == '["' and string.sub(text, -2) == '"]' and #rows > 0 then
    -- What others wrote stays as they wrote it.
    text = string.sub(text, 1, -2) .. ',' .. trace .. ']'
  else
    rows[#rows + 1] = trace
    local first = limit and math.max(#rows - limit + 1, 1) or 1
    text = '[' .. table.concat(rows, ',', first) .. ']'
  end
  redis.call('HSET', key, 'failedReason', reason, 'stacktrace', text)
end

-- Drops the lock and takes the job out of `active`; false when it was not there.
local function leave_active(q, id)
  redis.call('DEL', q.base .. id .. ':lock')
  if q.watched == nil then q.watched = redis.call('EXISTS', q.base .. 'stalled') == 1 end
  if q.watched then redis.pcall('SREM', q.base .. 'stalled', id) end
  return redis.call('LREM', q.base .. 'active', -1, id) > 0
end

-- What the end of a job of ours depends on, false when it is not ours. It is while our token locks it; a lock that ran out
-- is still ours as long as nobody has started the job since.
local function ours(q, id, token, proof)
  local holder = redis.pcall('GET', q.base .. id .. ':lock')
  if holder and holder ~= token then return false end
  if not holder and not (unchanged(q, id, proof) and redis.call('LPOS', q.base .. 'active', id)) then return false end
  local ties = ties_of(q, id)
  -- A hash that others made anew for their notes is no job.
  local there = not holder or ties.name or redis.call('HEXISTS', q.base .. id, 'data') == 1
  return there and ties
end

-- stalled jobs ----------------------------------------------------------------------------------------------------

local STALLED = 'job stalled more than allowable limit'

-- Takes a job that nobody locks out of `active`.
local function abandoned(q, id)
  return redis.call('EXISTS', q.base .. id .. ':lock') == 0
    and redis.call('LREM', q.base .. 'active', 1, id) > 0
    and redis.call('EXISTS', q.base .. id) == 1
end

local function check_stalled(q, lane)
  if redis.call('EXISTS', q.base .. 'stalled-check') == 1 then return end
  probe(q)
  redis.call('SET', q.base .. 'stalled-check', stamp, 'PX', lane.check)
  local stalled = q.base .. 'stalled'
  for _, id in ipairs(redis.call('SMEMBERS', stalled)) do found_stalled(q, lane, id) end
  redis.call('DEL', stalled)
  q.watched = nil
  local active = redis.call('LRANGE', q.base .. 'active', 0, -1)
  for first = 1, #active, 1000 do
    redis.call('SADD', stalled, unpack(active, first, math.min(first + 999, #active)))
  end
end

-- What the worker knows of each queue of the call, from 1.
local function read_lanes()
  local lanes = {}
  for place = 1, number() do
    lanes[place] = {
      base = arg(), notes = arg(), accept = arg(), most_stalled = number(), check = number(), max = number(),
      per = number(), completed = decoded(arg()).rule, failed = decoded(arg()).rule, metrics = number(),
    }
  end
  return lanes
end

local function check_all(lanes)
  for _, lane in ipairs(lanes) do
    if lane.check > 0 then
      local fine, problem = pcall(function()
        local q = queue_at(lane.base)
        if accepted(q, lane) then check_stalled(q, lane) end
      end)
      if not fine then remark(lane, 'stalled jobs are not found: ' .. named(lane.base, problem)) end
    end
  end
  make_rooms()
end

local function notes_of(lane, id)
  local key = lane.notes .. id
  if redis.call('EXISTS', key) == 0 then return false end
  return redis.call('HMGET', key, 'snoozes', 'exceptions', 'first', 'previous', 'uncounted')
end
