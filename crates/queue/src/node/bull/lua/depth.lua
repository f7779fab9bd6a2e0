-- Sizes of queues.
--
-- KEYS: for each queue its `meta`. ARGV: now (ms); then for each queue the start of its keys.
-- Returns: each {waiting, delayed, active, failed, paused, creation of the oldest waiting job (ms) or ''}.

-- Priorities stand at the take end, so the oldest may be on either side of them.
local function oldest(q, list)
  local created = ''
  for _, at in ipairs({-1, -1 - prioritized(q, '+inf')}) do
    local id = redis.call('LINDEX', list, at)
    local found = id and redis.pcall('HGET', q.base .. id, 'timestamp')
    if type(found) == 'string' and (created == '' or (tonumber(found) or 0) < tonumber(created)) then
      created = tonumber(found) and found or created
    end
  end
  return created
end

local sizes = {}
while cursor < #ARGV do
  local q = queue_at(arg())
  local waiting, aside = redis.call('LLEN', q.base .. 'wait'), redis.call('LLEN', q.base .. 'paused')
  sizes[#sizes + 1] = {
    waiting + aside, redis.call('ZCARD', q.base .. 'delayed'), redis.call('LLEN', q.base .. 'active'),
    redis.call('ZCARD', q.base .. 'failed'), q.paused and 1 or 0,
    oldest(q, q.base .. (aside > 0 and 'paused' or 'wait')),
  }
end
return sizes
