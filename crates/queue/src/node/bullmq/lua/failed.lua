-- Brings a failed job back, or removes failed jobs.
--
-- KEYS: the queue's `meta`. ARGV: now (ms); start of the queue's keys; `retry`, `forget` or `flush`; id (`flush`: latest
--   date (ms), as the end of a range of scores); most.
-- Returns: how many.

local q, verb, what, most = queue_at(arg()), arg(), arg(), number()
local set = q.base .. 'failed'

local function remove(id)
  local found = redis.pcall('HMGET', q.base .. id, 'parentKey', 'parent')
  if redis.call('ZREM', set, id) == 0 then return 0 end
  delete_job(q, id)
  if not found.err and found[1] then forsake(q.base .. id, found[1], found[2]) end
  event(q, 'removed', 'jobId', id, 'prev', 'failed')
  return 1
end

if verb == 'forget' then return remove(what) end

if verb == 'flush' then
  local removed = 0
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', set, '-inf', what, 'LIMIT', 0, most)) do
    removed = removed + remove(id)
  end
  return removed
end

local key = q.base .. what
local found = redis.call('HMGET', key, 'opts', 'priority', 'parentKey', 'parent', 'name')
redis.call('LLEN', target(q))
if not found[5] or redis.call('ZREM', set, what) == 0 then return 0 end
redis.call('HDEL', key, 'finishedOn', 'processedOn', 'failedReason', 'atm', 'ats', 'attemptsMade', 'stc')
put_waiting(q, what, tonumber(found[2]) or 0, given(decoded(found[1]).lifo) and true or false)
base_marker(q)
event(q, 'waiting', 'jobId', what, 'prev', 'failed')
if found[3] then
  local parent, id = parent_of(found[3], found[4])
  if parent and redis.call('EXISTS', parent.base .. id) == 1 then
    local of_parent = parent.base .. id
    redis.call('HDEL', of_parent .. ':failed', key)
    redis.call('ZREM', of_parent .. ':unsuccessful', key)
    redis.call('SADD', of_parent .. ':dependencies', key)
  end
end
return 1
