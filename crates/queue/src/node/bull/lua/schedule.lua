-- Creates the jobs that follow repeatable ones that were taken.
--
-- KEYS: for each its queue's `meta`. ARGV: now (ms); for each: start of the queue's keys, id of the job taken, the repeat key,
--   the new job's id, its date (ms), its options.
-- Returns: what went wrong.

local function go_on(q, id, repeated, new, due, opts)
  local planned = tonumber(redis.call('ZSCORE', q.base .. 'repeat', repeated))
  -- Nobody wants it any more.
  if not planned then return end
  probe(q)
  local taken = redis.call('HMGET', q.base .. id, 'name', 'data', 'priority', 'opts')
  if not taken[1] then return end
  -- Whoever took it before, for an attempt that failed, has done this.
  if planned > (tonumber(given(decoded(taken[4]).prevMillis)) or planned) then return end
  local counter = redis.call('INCR', q.base .. 'id')
  local key = q.base .. new
  if redis.call('EXISTS', key) == 1 then
    say(q, 'duplicated@' .. speaker, new)
    redis.call('ZADD', q.base .. 'repeat', due, repeated)
    return
  end
  local delay, priority = math.max(0, due - now), tonumber(taken[3]) or 0
  redis.call('HSET', key, 'name', taken[1], 'data', taken[2] or '{}', 'opts', opts, 'timestamp', now, 'delay', delay,
    'priority', priority)
  if delay > 0 then
    redis.call('ZADD', q.base .. 'delayed', due * 4096 + counter % 4096, new)
    say(q, 'delayed', due)
  else
    put_waiting(q, new, priority, given(decoded(opts).lifo))
    say(q, 'waiting@' .. speaker, new)
  end
  redis.call('ZADD', q.base .. 'repeat', due, repeated)
end

local problems = {}
while cursor < #ARGV do
  local base, id, repeated, new, due, opts = arg(), arg(), arg(), arg(), number(), arg()
  local fine, problem = pcall(function() go_on(queue_at(base), id, repeated, new, due, opts) end)
  if not fine then problems[#problems + 1] = id .. ': ' .. own_fault(problem) end
end
return problems
