-- Pauses or resumes a queue as Bull does, but never writes over jobs that wait.
--
-- KEYS: the queue's `meta`. ARGV: now (ms); start of the queue's keys; 1 to pause.
-- Returns: how many jobs wait in the list that a resume by Bull would write over.

local q = queue_at(arg())
if q.foreign then return redis.error_reply('ERR this queue belongs to BullMQ, which pauses otherwise') end
local flag, meta, waiting, aside = q.base .. 'meta-paused', q.base .. 'meta', q.base .. 'wait', q.base .. 'paused'
redis.call('HLEN', meta)

if arg() == '1' then
  move(waiting, aside)
  redis.call('SET', flag, 1)
  redis.call('HSET', meta, 'paused', 1)
  if not q.paused then say(q, 'paused', 'paused') end
  return redis.call('LLEN', waiting)
end
redis.call('LLEN', waiting)
redis.call('DEL', flag)
redis.call('HDEL', meta, 'paused')
move(aside, waiting)
if q.paused then say(q, 'resumed', 'resumed') end
return 0
