-- Adds a job.
--
-- KEYS: the queue's `meta`.
-- ARGV: now (ms); start of the queue's keys; name, data, options; delay (ms), priority, 1 to be taken first; id or ''.
-- Returns: its id, or nothing when a job with this id is there already.

local q = queue_at(arg())
if q.foreign then return redis.error_reply('ERR this queue belongs to BullMQ, whose jobs look otherwise') end
local name, data, opts, delay, priority, lifo = arg(), arg(), arg(), number(), number(), arg() == '1'
local wanted = arg()
probe(q)
local counter = redis.call('INCR', q.base .. 'id')
local id = wanted ~= '' and wanted or string.format('%.0f', counter)
local key = q.base .. id
if redis.call('EXISTS', key) == 1 then
  say(q, 'duplicated@' .. speaker, id)
  return false
end
redis.call('HSET', key, 'name', name, 'data', data, 'opts', opts, 'timestamp', now, 'delay', delay, 'priority', priority)
if delay > 0 then
  local due = now + delay
  redis.call('ZADD', q.base .. 'delayed', due * 4096 + counter % 4096, id)
  say(q, 'delayed', due)
else
  put_waiting(q, id, priority, lifo)
  say(q, 'waiting@' .. speaker, id)
end
return id
