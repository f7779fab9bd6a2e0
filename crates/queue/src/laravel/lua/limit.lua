-- Starts counted in fixed windows. Before `take.lua`.
--
-- The counter lives as long as its window, which begins with the first start. Starts are counted before the jobs are
-- taken, so that a counter which cannot be written leaves every job where it is.

local function read_limit()
  local max = number()
  if max > 0 then return {max = max, per = number(), key = arg()} end
end

-- Sets `free`, how many more may start, and `ends`, the time (ms) to the end of the window, if one has begun.
local function look_at(limit)
  local count = redis.pcall('GET', limit.key)
  limit.free = limit.max
  if not count then return end
  if type(count) == 'table' and not string.find(count.err, 'WRONGTYPE', 1, true) then error(count, 0) end
  local starts = type(count) == 'string' and #count < 16 and string.match(count, '^%d+$')
  if not starts then error({err = '`' .. limit.key .. '` is no counter (WRONGTYPE): delete it'}, 0) end
  limit.free = math.max(limit.max - tonumber(starts), 0)
  limit.ends = redis.call('PTTL', limit.key)
  if limit.ends < 0 or limit.ends > limit.per then
    -- Its end was taken away, or the limit had longer windows before: nobody waits longer than one window.
    redis.call('PEXPIRE', limit.key, limit.per)
    limit.ends = limit.per
  end
end

local function count(limit, starts)
  if limit.ends then
    redis.call('INCRBY', limit.key, starts)
  else
    redis.call('SET', limit.key, starts, 'PX', limit.per)
    limit.ends = limit.per
  end
  limit.free = limit.free - starts
end

-- Takes back what was counted a moment ago and did not start.
local function uncount(limit, starts)
  if starts == 0 then return end
  if redis.call('DECRBY', limit.key, starts) <= 0 then redis.call('DEL', limit.key) end
  limit.free = limit.free + starts
end

