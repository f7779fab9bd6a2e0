-- Pauses or resumes a queue as its own library does, but never writes over jobs that wait.
--
-- KEYS: the queue's `meta`. ARGV: now (ms); start of the queue's keys; 1 to pause.
-- Returns: how many jobs wait in the list that a resume by BullMQ 5 would write over.

local q = queue_at(arg())
local meta, waiting, aside = q.base .. 'meta', q.base .. 'wait', q.base .. 'paused'

if arg() == '1' then
  if q.major < 6 then move(waiting, aside) end
  redis.call('HSET', meta, 'paused', 1)
  redis.call('DEL', q.base .. 'marker')
  if not q.paused then event(q, 'paused') end
  return redis.call('LLEN', waiting)
end
redis.call('LLEN', waiting)
redis.call('HDEL', meta, 'paused')
local was = q.paused
q.paused = false
move(aside, waiting)
if redis.call('LLEN', waiting) + redis.call('ZCARD', q.base .. 'prioritized') > 0 then
  base_marker(q)
else
  delay_marker(q)
end
if was then event(q, 'resumed') end
return 0
