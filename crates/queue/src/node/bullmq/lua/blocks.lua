-- What every script of this driver is made of: reading arguments, and the moves of a job that several verbs share.
-- Comes first in each of them. Nothing is undone when a script fails half-way, so everything that only informs others
-- (events, markers) cannot fail, and a job is in its new place before the next step may.

local cursor = 0
local function arg()
  cursor = cursor + 1
  return ARGV[cursor]
end
local function number() return tonumber(arg()) end

local now = number()

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
  if not text then return {} end
  local fine, value = pcall(cjson.decode, text)
  return fine and type(value) == 'table' and value or {}
end

-- A field of a decoded object, nil where JSON says null.
local function given(value)
  if value == cjson.null then return nil end
  return value
end

-- queues ----------------------------------------------------------------------------------------------------------

local known = {}

local function queue_at(base)
  local q = known[base]
  if not q then
    local meta = redis.call('HMGET', base .. 'meta', 'paused', 'concurrency', 'max', 'duration', 'version',
      'opts.maxLenEvents')
    q = {
      base = base, paused = meta[1] and true or false, concurrency = tonumber(meta[2]), max = tonumber(meta[3]),
      duration = tonumber(meta[4]), version = meta[5] or '', events = tonumber(meta[6]),
    }
    q.major = tonumber(string.match(q.version, '^bullmq:(%d+)%.')) or 0
    known[base] = q
  end
  return q
end

local function blocked(q)
  if q.paused then return true end
  return q.concurrency and redis.call('LLEN', q.base .. 'active') >= q.concurrency or false
end

-- While paused, producers of version 5 keep waiting jobs aside, and their resume overwrites the other list.
local function target(q)
  if q.paused and q.major < 6 then return q.base .. 'paused' end
  return q.base .. 'wait'
end

local function event(q, ...)
  if not q.events then
    q.events = 10000
    redis.pcall('HSETNX', q.base .. 'meta', 'opts.maxLenEvents', q.events)
  end
  redis.pcall('XADD', q.base .. 'events', 'MAXLEN', '~', q.events, '*', 'event', ...)
end

local function base_marker(q)
  if not blocked(q) then redis.pcall('ZADD', q.base .. 'marker', 0, '0') end
end

local function delay_marker(q)
  local score = redis.call('ZRANGE', q.base .. 'delayed', 0, 0, 'WITHSCORES')[2]
  if score then redis.pcall('ZADD', q.base .. 'marker', tonumber(score) / 4096, '1') end
end

-- places ----------------------------------------------------------------------------------------------------------

local function delayed_score(q, due)
  local low = due * 4096
  local top = redis.call('ZREVRANGEBYSCORE', q.base .. 'delayed', low + 4095, low, 'WITHSCORES', 'LIMIT', 0, 1)[2]
  if not top then return low end
  return math.min(tonumber(top) + 1, low + 4095)
end

local function put_delayed(q, id, due, delay)
  local score = delayed_score(q, due)
  redis.call('ZADD', q.base .. 'delayed', score, id)
  redis.call('HSET', q.base .. id, 'delay', delay)
  event(q, 'delayed', 'jobId', id, 'delay', string.format('%.0f', due))
  delay_marker(q)
end

local function put_prioritized(q, id, priority)
  local turn = redis.call('INCR', q.base .. 'pc') % 4294967296
  redis.call('ZADD', q.base .. 'prioritized', priority * 4294967296 + turn, id)
end

-- Into the waiting list (`first`: to the end that is taken from), or among the prioritized jobs.
local function put_waiting(q, id, priority, first)
  if priority > 0 then
    put_prioritized(q, id, priority)
  else
    redis.call(first and 'RPUSH' or 'LPUSH', target(q), id)
  end
end

local function priority_of(q, id) return tonumber(redis.call('HGET', q.base .. id, 'priority')) or 0 end

-- To the place from which it is taken next among its equals.
local function put_first(q, id)
  local priority = priority_of(q, id)
  if priority > 0 then
    redis.call('ZADD', q.base .. 'prioritized', priority * 4294967296, id)
  else
    redis.call('RPUSH', target(q), id)
  end
  base_marker(q)
end

local function promote(q)
  local delayed = q.base .. 'delayed'
  local ids = redis.call('ZRANGEBYSCORE', delayed, 0, (now + 1) * 4096 - 1, 'LIMIT', 0, 1000)
  if #ids == 0 then return end
  redis.call('LLEN', target(q))
  for _, id in ipairs(ids) do
    local found = redis.pcall('HMGET', q.base .. id, 'priority', 'name', 'data')
    if not found.err and (found[2] or found[3]) then
      put_waiting(q, id, tonumber(found[1]) or 0, false)
      redis.call('HSET', q.base .. id, 'delay', 0)
      event(q, 'waiting', 'jobId', id, 'prev', 'delayed')
    end
    redis.call('ZREM', delayed, id)
  end
  base_marker(q)
end

-- jobs of other jobs ----------------------------------------------------------------------------------------------

local function parent_of(key, json)
  local parent = decoded(json or nil)
  if type(parent.queueKey) == 'string' and parent.id then
    return queue_at(parent.queueKey .. ':'), tostring(parent.id), parent
  end
  local base, id = string.match(key, '^(.*:)([^:]*)$')
  if not base then return nil end
  return queue_at(base), id, parent
end

local function wake_parent(q, id, prev)
  local found = redis.call('HMGET', q.base .. id, 'priority', 'delay')
  local priority, delay = tonumber(found[1]) or 0, tonumber(found[2]) or 0
  if delay > 0 then
    redis.call('ZADD', q.base .. 'delayed', (now + delay) * 4096, id)
    event(q, 'delayed', 'jobId', id, 'delay', string.format('%.0f', now + delay))
    delay_marker(q)
    return
  end
  put_waiting(q, id, priority, true)
  base_marker(q)
  event(q, 'waiting', 'jobId', id, 'prev', prev)
end

local function release_parent(q, id)
  if redis.call('EXISTS', q.base .. id) == 0 then return end
  if redis.call('ZREM', q.base .. 'waiting-children', id) == 1 then wake_parent(q, id, 'waiting-children') end
end

local function parent_fails(q, id, child)
  local key = q.base .. id
  redis.call('ZADD', key .. ':unsuccessful', now, child)
  local reason = 'child ' .. child .. ' failed'
  if redis.call('ZREM', q.base .. 'waiting-children', id) == 1 then
    redis.call('HSET', key, 'defa', reason)
    wake_parent(q, id, 'waiting-children')
  elseif redis.call('ZREM', q.base .. 'delayed', id) == 1 then
    redis.call('HSET', key, 'defa', reason, 'delay', 0)
    wake_parent(q, id, 'delayed')
  elseif redis.call('EXISTS', key) == 1 and not redis.call('ZSCORE', q.base .. 'failed', id) then
    redis.call('HSET', key, 'defa', reason)
  end
end

-- Tells the parent that this child ended. `opts` are the child's.
local function tell_parent(child, key, json, opts, target_set, value)
  local q, id, flags = parent_of(key, json)
  if not q then return end
  local parent = q.base .. id
  local function on(flag) return given(flags[flag]) or given(opts[flag]) end
  local way
  if target_set == 'completed' then
    way = 'processed'
  else
    for _, flag in ipairs({'fpof', 'cpof', 'idof', 'rdof'}) do
      if on(flag) then
        way = flag
        break
      end
    end
  end
  if not way or redis.call('SREM', parent .. ':dependencies', child) == 0 then return end
  if way == 'fpof' then
    parent_fails(q, id, child)
    return
  end
  if way == 'processed' then redis.call('HSET', parent .. ':processed', child, value) end
  if way == 'cpof' or way == 'idof' then redis.call('HSET', parent .. ':failed', child, value) end
  if way == 'cpof' or redis.call('SCARD', parent .. ':dependencies') == 0 then release_parent(q, id) end
end

-- A job is removed, and its parent must not wait for it.
local function forsake(child, key, json)
  local q, id = parent_of(key, json)
  if not q then return end
  local dependencies = q.base .. id .. ':dependencies'
  if redis.call('SREM', dependencies, child) == 1 and redis.call('SCARD', dependencies) == 0 then
    release_parent(q, id)
  end
end

local function delete_job(q, id)
  local key = q.base .. id
  redis.call('DEL', key, key .. ':logs', key .. ':dependencies', key .. ':processed', key .. ':failed',
    key .. ':unsuccessful')
end

-- A new job. `job`: name, data, opts (texts), timestamp, delay, priority, lifo, and optionally parentKey, parent, rjk, deid.
local function store(q, id, job)
  local fields = {'name', job.name, 'data', job.data, 'opts', job.opts, 'timestamp', job.timestamp, 'delay', job.delay,
    'priority', job.priority}
  for _, field in ipairs({'parentKey', 'parent', 'rjk', 'deid'}) do
    if job[field] then
      fields[#fields + 1] = field
      fields[#fields + 1] = job[field]
    end
  end
  redis.call('HSET', q.base .. id, unpack(fields))
  event(q, 'added', 'jobId', id, 'name', job.name)
  if job.delay > 0 then
    put_delayed(q, id, job.timestamp + job.delay, job.delay)
    return
  end
  put_waiting(q, id, job.priority, job.lifo)
  base_marker(q)
  event(q, 'waiting', 'jobId', id)
end

-- the end of a job ------------------------------------------------------------------------------------------------

local function end_deduplication(q, id, name)
  local holder = q.base .. 'de:' .. name
  local ttl = redis.call('PTTL', holder)
  if ttl == 0 or (ttl == -1 and redis.call('GET', holder) == id) then redis.call('DEL', holder) end
  local stored = q.base .. 'dn:' .. name
  if redis.call('EXISTS', stored) == 0 then return end
  local job = redis.call('HMGET', stored, 'name', 'data', 'opts', 'jid', 'pk', 'pd', 'pdk', 'rjk')
  local counter = redis.call('INCR', q.base .. 'id')
  local new = job[4] or string.format('%.0f', counter)
  local opts = decoded(job[3])
  local rule = type(opts.de) == 'table' and opts.de or {}
  local lasts = tonumber(given(rule.ttl))
  if lasts and lasts > 0 and not given(rule.keepLastIfActive) then
    redis.call('SET', holder, new, 'PX', string.format('%.0f', lasts))
  else
    redis.call('SET', holder, new)
  end
  store(q, new, {
    name = job[1] or '', data = job[2] or '{}', opts = job[3] or '{}', timestamp = now,
    delay = tonumber(given(opts.delay)) or 0, priority = tonumber(given(opts.priority)) or 0, lifo = given(opts.lifo),
    parentKey = job[5], parent = job[6], rjk = job[8], deid = name,
  })
  if job[7] then redis.call('SADD', job[7], q.base .. new) end
  redis.call('DEL', stored)
end

-- {count, age in s, limit}; no count keeps all.
local function keep_rule(opts, name, default)
  local rule = given(opts[name])
  if rule == nil then rule = given(default) end
  if rule == true then return {count = 0} end
  if type(rule) == 'number' then return {count = rule} end
  if type(rule) ~= 'table' then return {} end
  return {count = tonumber(given(rule.count)), age = tonumber(given(rule.age)), limit = tonumber(given(rule.limit))}
end

local function remove_ended(q, set, ids)
  for _, id in ipairs(ids) do
    local found = redis.pcall('HMGET', q.base .. id, 'parentKey', 'parent')
    delete_job(q, id)
    if not found.err and found[1] then aside(forsake, q.base .. id, found[1], found[2]) end
  end
  for first = 1, #ids, 1000 do
    redis.call('ZREM', set, unpack(ids, first, math.min(first + 999, #ids)))
  end
end

local rooms = {}

local function make_room(set)
  local q, rule = rooms[set].q, rooms[set].rule
  rooms[set] = nil
  if rule.age then
    local old = redis.call('ZREVRANGEBYSCORE', set, now - rule.age * 1000, 0, 'LIMIT', 0, rule.limit or 1000)
    remove_ended(q, set, old)
  end
  if rule.count and rule.count > 0 then
    remove_ended(q, set, redis.call('ZREVRANGE', set, rule.count, -1))
  end
end

-- Room for a job that is about to come into the set. Jobs with the same rule, one after the other, need it made only once.
local function keep(q, set, rule)
  local before = rooms[set] and rooms[set].rule
  if before and (before.count ~= rule.count or before.age ~= rule.age or before.limit ~= rule.limit) then make_room(set) end
  rooms[set] = {q = q, rule = rule}
end

-- To be called by whoever calls `finish`, when all is finished.
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

-- What the end of a job depends on.
local function ties_of(q, id)
  return redis.call('HMGET', q.base .. id, 'parentKey', 'parent', 'deid', 'opts', 'atm', 'name')
end

-- A job that has left `active` ends. `lane` has the defaults of the worker; `ties` may be known already.
local function finish(q, id, set, value, lane, ties)
  local key = q.base .. id
  local found = ties or ties_of(q, id)
  local opts = decoded(found[4])
  if found[3] then aside(end_deduplication, q, id, found[3]) end
  if found[1] then aside(tell_parent, key, found[1], found[2], opts, set, value) end
  local made = (tonumber(found[5]) or 0) + 1
  local rule = keep_rule(opts, set == 'completed' and 'removeOnComplete' or 'removeOnFail', lane[set])
  local property = set == 'completed' and 'returnvalue' or 'failedReason'
  if rule.count == 0 then
    delete_job(q, id)
    if found[1] then aside(forsake, key, found[1], found[2]) end
  else
    keep(q, q.base .. set, rule)
    redis.call('ZADD', q.base .. set, now, id)
    redis.call('HSET', key, 'atm', made, property, value, 'finishedOn', now)
    if set == 'failed' then redis.call('HDEL', key, 'defa') end
  end
  event(q, set, 'jobId', id, property, value, 'prev', 'active')
  if set == 'failed' and made >= (tonumber(given(opts.attempts)) or 0) then
    event(q, 'retries-exhausted', 'jobId', id, 'attemptsMade', made)
  end
  aside(measure, q, set, lane.metrics)
  q.ended = true
end

-- `trace` is a JSON string.
local function note_failure(q, id, reason, trace)
  local key = q.base .. id
  local found = redis.call('HMGET', key, 'stacktrace', 'opts')
  local limit = tonumber(given(decoded(found[2]).stackTraceLimit))
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
  if q.watched then redis.call('SREM', q.base .. 'stalled', id) end
  return redis.call('LREM', q.base .. 'active', -1, id) > 0
end

-- What a job of ours depends on, false when it is not ours. It is while our token locks it; a lock that ran out is still
-- ours as long as nobody has started the job since.
local function ours(q, id, token, starts)
  local holder = redis.pcall('GET', q.base .. id .. ':lock')
  if holder and holder ~= token then return false end
  if not holder then
    if redis.call('HGET', q.base .. id, 'ats') ~= starts then return false end
    if not redis.call('LPOS', q.base .. 'active', id) then return false end
  end
  local ties = ties_of(q, id)
  return (not holder or ties[6]) and ties
end

local function of_schedule(q, id)
  local scheduler = redis.call('HGET', q.base .. id, 'rjk')
  if not scheduler then return false end
  return redis.call('EXISTS', q.base .. 'repeat:' .. scheduler) == 1
    or redis.call('ZSCORE', q.base .. 'repeat', scheduler) ~= false
end

-- stalled jobs ----------------------------------------------------------------------------------------------------

local STALLED = 'job stalled more than allowable limit'

local function check_stalled(q, interval, most)
  if redis.call('EXISTS', q.base .. 'stalled-check') == 1 then return end
  redis.call('SET', q.base .. 'stalled-check', now, 'PX', interval)
  local stalled = q.base .. 'stalled'
  for _, id in ipairs(redis.call('SMEMBERS', stalled)) do
    if string.sub(id, 1, 2) == '0:' then
      redis.call('LREM', q.base .. 'active', 1, id)
    elseif redis.call('EXISTS', q.base .. id .. ':lock') == 0
      and redis.call('LREM', q.base .. 'active', 1, id) > 0
      and redis.call('EXISTS', q.base .. id) == 1 then
      local times = redis.call('HINCRBY', q.base .. id, 'stc', 1)
      if times > most and not of_schedule(q, id) then redis.call('HSET', q.base .. id, 'defa', STALLED) end
      redis.call('RPUSH', target(q), id)
      base_marker(q)
      event(q, 'waiting', 'jobId', id, 'prev', 'active')
      event(q, 'stalled', 'jobId', id)
    end
  end
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

-- Whether the queue is of a version that may be worked.
local function accepted(q, lane)
  if q.version == '' then return true end
  if q.major == 5 or q.major == 6 then return true end
  if q.major > 0 then return lane.accept == tostring(q.major) end
  return lane.accept ~= ''
end

local function check_all(lanes)
  local problems = {}
  for _, lane in ipairs(lanes) do
    if lane.check > 0 then
      local fine, problem = pcall(function()
        local q = queue_at(lane.base)
        if accepted(q, lane) then check_stalled(q, lane.check, lane.most_stalled) end
      end)
      if not fine then problems[#problems + 1] = own_fault(problem) end
    end
  end
  return problems
end

-- What a worker reads of a job.
local function row_of(q, id)
  return redis.call('HMGET', q.base .. id, 'name', 'data', 'opts', 'timestamp', 'atm', 'attemptsMade', 'ats', 'stc',
    'rjk', 'failedReason', 'defa')
end

local function notes_of(lane, id)
  local key = lane.notes .. id
  if redis.call('EXISTS', key) == 0 then return false end
  return redis.call('HMGET', key, 'snoozes', 'exceptions', 'first', 'previous')
end
