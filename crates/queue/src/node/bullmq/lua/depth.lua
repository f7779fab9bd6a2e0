-- Sizes of queues.
--
-- KEYS: for each queue its `meta`. ARGV: now (ms); then for each queue the start of its keys.
-- Returns: each {waiting, delayed, active, failed, paused, creation of the oldest waiting job (ms) or ''}.

local sizes = {}
while cursor < #ARGV do
  local q = queue_at(arg())
  local list = q.base .. 'wait'
  local waiting, aside = redis.call('LLEN', list), redis.call('LLEN', q.base .. 'paused')
  if aside > 0 then list = q.base .. 'paused' end
  local prioritized = q.base .. 'prioritized'
  local oldest = redis.call('LINDEX', list, -1) or redis.call('ZRANGE', prioritized, 0, 0)[1]
  local created = oldest and redis.pcall('HGET', q.base .. oldest, 'timestamp')
  sizes[#sizes + 1] = {
    waiting + aside + redis.call('ZCARD', prioritized), redis.call('ZCARD', q.base .. 'delayed'),
    redis.call('LLEN', q.base .. 'active'), redis.call('ZCARD', q.base .. 'failed'), q.paused and 1 or 0,
    type(created) == 'string' and created or '',
  }
end
return sizes
