-- Brings a failed job back, or removes failed jobs.
--
-- KEYS: the queue's `meta`. ARGV: now (ms); start of the queue's keys; `retry`, `forget` or `flush`; id (`flush`: latest
--   date (ms), as the end of a range of scores); most.
-- Returns: how many.

local q, verb, what, most = queue_at(arg()), arg(), arg(), number()
if q.foreign then return 0 end
local set = q.base .. 'failed'

if verb == 'flush' then
  local ids = redis.call('ZRANGEBYSCORE', set, '-inf', what, 'LIMIT', 0, most)
  remove_ended(q, set, ids)
  return #ids
end

if verb == 'forget' then
  if redis.call('ZREM', set, what) == 0 then return 0 end
  delete_ended(q, what)
  return 1
end

local key = q.base .. what
-- Somebody's delivery is not over yet.
if redis.call('EXISTS', key .. ':lock') == 1 or redis.call('HEXISTS', key, 'name') == 0 then return 0 end
probe(q)
if redis.call('ZREM', set, what) == 0 then return 0 end
redis.call('HDEL', key, 'finishedOn', 'processedOn', 'failedReason', 'attemptsMade', 'stalledCounter')
redis.call('HSET', key, 'retriedOn', now)
local priority, lifo = of_job(q, what)
put_waiting(q, what, priority, lifo)
say(q, 'waiting@' .. speaker, what)
return 1
