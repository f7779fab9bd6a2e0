-- Creates the iterations that follow those just taken.
--
-- KEYS: for each its queue's `meta`. ARGV: now (ms); for each: start of the queue's keys, id of the job taken, scheduler,
--   number of the new iteration, its date (ms) or '' for one after the interval, the interval (ms) in the job or 0; and for
--   what may be a repeatable job of an old producer, start of the id and date (ms) of its next one, else twice ''.
-- Returns: what went wrong.

local function following(definition, before, interval)
  local every = tonumber(definition[3]) or interval
  if every <= 0 then return nil end
  local offset = tonumber(definition[4]) or 0
  local due = before + every
  if due < now then
    due = math.floor(now / every) * every + offset
    if due <= now then due = due + every end
  end
  return due
end

-- Fields of what follows a taken job of the schedule `scheduler`, due then.
local function iteration(taken, new, due, scheduler, count)
  local delay = math.max(0, due - now)
  local opts = decoded(taken[3])
  local rule = type(opts['repeat']) == 'table' and opts['repeat'] or {}
  rule.immediately = nil
  rule.count = count
  opts['repeat'], opts.jobId, opts.delay, opts.timestamp = rule, new, delay, now
  return {
    name = taken[1] or '', data = taken[2] or '{}', timestamp = now, delay = delay,
    priority = whole(opts.priority) or 0, lifo = given(opts.lifo), rjk = scheduler,
  }, opts
end

local function exists(q, new)
  if redis.call('EXISTS', q.base .. new) == 0 then return false end
  event(q, 'duplicated', 'jobId', new)
  return true
end

local function go_on(q, id, scheduler, count, planned, interval)
  local before = tonumber(redis.call('ZSCORE', q.base .. 'repeat', scheduler))
  -- Whoever took it before has done this, or the scheduler is gone.
  if not before or id ~= string.format('repeat:%s:%.0f', scheduler, before) then return end
  local key = q.base .. id
  local stored = q.base .. 'repeat:' .. scheduler
  local definition = redis.call('HMGET', stored, 'name', 'data', 'every', 'offset')
  local due = tonumber(planned) or following(definition, before, interval)
  if not due then return end
  local taken = redis.call('HMGET', key, 'name', 'data', 'opts')
  local new = string.format('repeat:%s:%.0f', scheduler, due)
  if exists(q, new) then return end
  redis.call('ZADD', q.base .. 'repeat', due, scheduler)
  redis.call('HINCRBY', stored, 'ic', 1)
  redis.call('INCR', q.base .. 'id')
  local job, opts = iteration(taken, new, due, scheduler, count)
  job.name, job.data = definition[1] or job.name, definition[2] or job.data
  if not definition[2] and job.data ~= '' and job.data ~= '{}' and q.major < 6 then
    redis.call('HSET', stored, 'data', job.data)
  end
  opts.repeatJobKey, opts.prevMillis = scheduler, planned ~= '' and due or nil
  job.opts = cjson.encode(opts)
  store(q, new, job)
  if q.major < 6 then redis.call('HSET', key, 'nrjid', new) end
end

-- A repeatable job whose key is all that is known of it. Version 6 works them no more.
local function go_on_as_of_old(q, id, key, count, new, due)
  if q.major >= 6 then return 'a repeatable job of an old producer, which version 6 ends' end
  if not redis.call('ZSCORE', q.base .. 'repeat', key) then return end
  redis.call('ZADD', q.base .. 'repeat', due, key)
  redis.call('INCR', q.base .. 'id')
  new = new .. ':' .. due
  if exists(q, new) then return end
  local job, opts = iteration(redis.call('HMGET', q.base .. id, 'name', 'data', 'opts'), new, tonumber(due), key, count)
  opts.repeatJobKey, opts.prevMillis = nil, tonumber(due)
  job.opts = cjson.encode(opts)
  store(q, new, job)
end

local problems = {}
while cursor < #ARGV do
  local base, id, scheduler, count, planned, interval = arg(), arg(), arg(), number(), arg(), number()
  local old, old_due = arg(), arg()
  local fine, problem = pcall(function()
    local q = queue_at(base)
    if old ~= '' and redis.call('HEXISTS', base .. 'repeat:' .. scheduler, 'ic') == 0 then
      return go_on_as_of_old(q, id, scheduler, count, old, old_due)
    end
    return go_on(q, id, scheduler, count, planned, interval)
  end)
  if not fine then problem = own_fault(problem) end
  if problem then problems[#problems + 1] = id .. ': ' .. problem end
end
return problems
