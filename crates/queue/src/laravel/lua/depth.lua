-- Sizes of queues.
--
-- KEYS: for each queue its ready list, the set of paused queues, its failed jobs, its unreadable payloads.
-- ARGV: the queues' names. Returns {ready, delayed, reserved, failed, paused, first ready payload or nil} for each; what
-- is of a wrong type counts as empty.

local function size(verb, key)
  local reply = redis.pcall(verb, key)
  return type(reply) == 'number' and reply or 0
end

local sizes = {}
for place, name in ipairs(ARGV) do
  local ready, paused, failed, unreadable = unpack(KEYS, 4 * place - 3, 4 * place)
  local first = redis.pcall('LINDEX', ready, 0)
  sizes[place] = {
    size('LLEN', ready), size('ZCARD', ready .. ':delayed'), size('ZCARD', ready .. ':reserved'),
    size('ZCARD', failed) + size('ZCARD', unreadable),
    redis.pcall('SISMEMBER', paused, name) == 1 and 1 or 0,
    type(first) == 'string' and first or false,
  }
end
return sizes
