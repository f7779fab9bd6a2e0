-- Adds a job.
--
-- KEYS: the queue's `meta`.
-- ARGV: now (ms); start of the queue's keys; name, data, options; delay (ms), priority, 1 to be taken first; id or ''.
-- Returns: its id, or nothing when a job with this id is there already.

local q = queue_at(arg())
local job = {name = arg(), data = arg(), opts = arg(), timestamp = now, delay = number(), priority = number(), lifo = arg() == '1'}
local wanted = arg()
local counter = redis.call('INCR', q.base .. 'id')
local id = wanted ~= '' and wanted or string.format('%.0f', counter)
if redis.call('EXISTS', q.base .. id) == 1 then
  event(q, 'duplicated', 'jobId', id)
  return false
end
redis.call('LLEN', target(q))
store(q, id, job)
return id
