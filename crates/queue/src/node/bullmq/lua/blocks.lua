-- What every script of this driver is made of: the moves of a job that several verbs share.

-- queues ----------------------------------------------------------------------------------------------------------

local known = {}

function queue_at(base)
  local q = known[base]
  if not q then
    local meta = redis.call('HMGET', base .. 'meta', 'paused', 'concurrency', 'max', 'duration', 'version',
      'opts.maxLenEvents')
    q = {
      base = base, paused = meta[1] and true or false, concurrency = tonumber(meta[2]), max = tonumber(meta[3]),
      duration = tonumber(meta[4]), version = meta[5] or '',
      events = tonumber(meta[6]) and string.format('%.0f', meta[6]),
      -- Waiting jobs that are in no list.
      sorted = base .. 'prioritized',
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
    q.events = '10000'
    redis.pcall('HSETNX', q.base .. 'meta', 'opts.maxLenEvents', q.events)
  end
  redis.pcall('XADD', q.base .. 'events', 'MAXLEN', '~', q.events, '*', 'event', ...)
end

local function base_marker(q)
  if not blocked(q) then redis.pcall('ZADD', q.base .. 'marker', '0', '0') end
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
  event(q, 'waiting', 'jobId', id, 'prev', 'active')
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
    elseif found.err then
      no_job(q, id)
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

function delete_ended(q, id)
  local found = redis.pcall('HMGET', q.base .. id, 'parentKey', 'parent')
  delete_job(q, id)
  if not found.err and found[1] then aside(forsake, q.base .. id, found[1], found[2]) end
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

function trace_limit(opts) return whole(opts.stackTraceLimit) end

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

function ties_of(q, id)
  local ties = redis.call('HMGET', q.base .. id, 'parentKey', 'parent', 'deid', 'opts', 'atm', 'name')
  ties.name = ties[6]
  return ties
end

-- A job that has left `active` ends. `lane` has the defaults of the worker; `ties` may be known already.
local function finish(q, id, set, value, lane, ties)
  local key = q.base .. id
  local found = ties or ties_of(q, id)
  local opts = options_in(found[4])
  if found[3] then aside(end_deduplication, q, id, found[3]) end
  if found[1] then aside(tell_parent, key, found[1], found[2], opts, set, value) end
  local made = (whole(found[5]) or 0) + 1
  local rule = keep_rule(opts, set == 'completed' and 'removeOnComplete' or 'removeOnFail', lane[set])
  local property = set == 'completed' and 'returnvalue' or 'failedReason'
  if rule.count == 0 then
    delete_job(q, id)
    if found[1] then aside(forsake, key, found[1], found[2]) end
  else
    keep(q, q.base .. set, rule)
    redis.call('ZADD', q.base .. set, stamp, id)
    redis.call('HSET', key, 'atm', made, property, value, 'finishedOn', stamp)
    if set == 'failed' then redis.call('HDEL', key, 'defa') end
  end
  event(q, set, 'jobId', id, property, value, 'prev', 'active')
  if set == 'failed' and made >= (tonumber(given(opts.attempts)) or 0) then
    event(q, 'retries-exhausted', 'jobId', id, 'attemptsMade', made)
  end
  aside(measure, q, set, lane.metrics)
  q.ended = true
end

function unchanged(q, id, starts)
  return redis.call('HGET', q.base .. id, 'ats') == starts
end

local function of_schedule(q, id)
  local scheduler = redis.call('HGET', q.base .. id, 'rjk')
  if not scheduler then return false end
  return redis.call('EXISTS', q.base .. 'repeat:' .. scheduler) == 1
    or redis.call('ZSCORE', q.base .. 'repeat', scheduler) ~= false
end

local function put_stalled(q, id)
  redis.call('RPUSH', target(q), id)
  base_marker(q)
  event(q, 'waiting', 'jobId', id, 'prev', 'active')
  event(q, 'stalled', 'jobId', id)
end

-- Counts it; true when it was once too often.
local function stalled_out(q, lane, id)
  return bump(q.base .. id, 'stc') > lane.most_stalled and not of_schedule(q, id)
end

function found_stalled(q, lane, id)
  if string.sub(id, 1, 2) == '0:' then
    redis.call('LREM', q.base .. 'active', 1, id)
  elseif abandoned(q, id) then
    put_stalled(q, id)
    if stalled_out(q, lane, id) then redis.call('HSET', q.base .. id, 'defa', STALLED) end
  end
end

-- Where they cannot be counted, nothing that comes later could end the job otherwise.
local function count_children(q, job)
  local unsuccessful, dependencies = q.base .. job.id .. ':unsuccessful', q.base .. job.id .. ':dependencies'
  job.failed_children, job.pending_children = 0, 0
  if redis.call('EXISTS', unsuccessful, dependencies) == 0 then return end
  local failed, pending = redis.pcall('ZCARD', unsuccessful), redis.pcall('SCARD', dependencies)
  if type(failed) == 'number' and type(pending) == 'number' then
    job.failed_children, job.pending_children = failed, pending
    return
  end
  own_fault(type(failed) == 'table' and failed or pending)
  job.children_unknown = string.format('Cannot complete job %s: its children cannot be counted, since `%s` is of a wrong type',
    job.id, type(failed) == 'table' and unsuccessful or dependencies)
end

function probe(q, job)
  local ends = job and (job.verb == 'done' or job.verb == 'discard')
  if ends then count_children(q, job) end
  if q.probed then return end
  -- The end of most jobs changes no other place. A job with a parent or an id of its own for deduplication adds others.
  if ends and not job.children_unknown and job.failed_children + job.pending_children == 0
    and not job.ties[1] and not job.ties[3] then
    if q.probed_end then return end
    redis.call('LLEN', q.base .. 'active')
    redis.call('ZCARD', q.base .. 'completed')
    q.probed_end = true
    return
  end
  redis.call('LLEN', target(q))
  redis.call('LLEN', q.base .. 'active')
  for _, set in ipairs({'delayed', 'prioritized', 'completed', 'failed'}) do redis.call('ZCARD', q.base .. set) end
  q.probed = true
end

-- What only Bull has; its jobs are spoilt by our rules.
local function of_bull(q)
  return not q.events and redis.call('EXISTS', q.base .. 'meta-paused', q.base .. 'priority') > 0
end

function accepted(q, lane)
  if lane.accept == '' and q.version == '' and of_bull(q) then
    q.version = 'bull'
    return false
  end
  if q.version == '' then return true end
  if q.major == 5 or q.major == 6 then return true end
  if q.major > 0 then return lane.accept == tostring(q.major) end
  return lane.accept ~= ''
end

-- What a worker reads of a job.
function row_of(q, id)
  return redis.call('HMGET', q.base .. id, 'name', 'data', 'opts', 'timestamp', 'atm', 'attemptsMade', 'ats', 'stc',
    'rjk', 'failedReason', 'defa')
end
