-- Creates the iterations that follow those just taken.
--
-- KEYS: for each its queue's `meta`. ARGV: now (ms); for each: start of the queue's keys, id of the job taken, scheduler,
--   number of the new iteration, its date (ms) or '' for one after the interval, the interval (ms) in the job or 0.
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
  if redis.call('EXISTS', q.base .. new) == 1 then
    event(q, 'duplicated', 'jobId', new)
    return
  end
  redis.call('ZADD', q.base .. 'repeat', due, scheduler)
  redis.call('HINCRBY', stored, 'ic', 1)
  redis.call('INCR', q.base .. 'id')
  local data = definition[2] or taken[2] or '{}'
  if not definition[2] and data ~= '' and data ~= '{}' and q.major < 6 then redis.call('HSET', stored, 'data', data) end
  local delay = math.max(0, due - now)
  local opts = decoded(taken[3])
  local rule = type(opts['repeat']) == 'table' and opts['repeat'] or {}
  rule.immediately = nil
  rule.count = count
  opts['repeat'], opts.jobId, opts.delay, opts.timestamp, opts.repeatJobKey = rule, new, delay, now, scheduler
  opts.prevMillis = planned ~= '' and due or nil
  store(q, new, {
    name = definition[1] or taken[1], data = data, opts = cjson.encode(opts), timestamp = now, delay = delay,
    priority = tonumber(given(opts.priority)) or 0, lifo = given(opts.lifo), rjk = scheduler,
  })
  if q.major < 6 then redis.call('HSET', key, 'nrjid', new) end
end

local problems = {}
while cursor < #ARGV do
  local base, id, scheduler, count, planned, interval = arg(), arg(), arg(), number(), arg(), number()
  local fine, problem = pcall(function() go_on(queue_at(base), id, scheduler, count, planned, interval) end)
  if not fine then problems[#problems + 1] = id .. ': ' .. own_fault(problem) end
end
return problems
