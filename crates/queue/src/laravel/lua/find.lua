-- Finds reservations by the worker that made them.
--
-- KEYS: ready lists. ARGV: a worker's tag; for each list the start of its jobs' own keys; the scores to look for (none:
--   all with the tag).
-- Returns {place of the list, reserved bytes, score, identity, counters or nil} for each.

local tag = tonumber(ARGV[1]) / 1048576
local found = {}

-- Nobody is served while payloads are read, and there may be many: the counters of a giant are not worth it.
local MOST_BYTES = 1048576

local function note(place, bytes, score)
  local identity = ''
  if #bytes <= MOST_BYTES then identity = select(4, scan(bytes)) end
  local counters = identity ~= '' and kept_at(ARGV[place + 1] .. identity)
  found[#found + 1] = {place, bytes, score, identity, counters}
end

for place, ready in ipairs(KEYS) do
  local reserved = ready .. ':reserved'
  if redis.call('TYPE', reserved).ok == 'zset' then
    if #ARGV > #KEYS + 1 then
      for at = #KEYS + 2, #ARGV do
        local score = ARGV[at]
        for _, bytes in ipairs(redis.call('ZRANGEBYSCORE', reserved, score, score)) do note(place, bytes, score) end
      end
    else
      -- In steps, so that a long set is never in memory as a whole.
      local from = 0
      while true do
        local entries = redis.call('ZRANGE', reserved, from, from + 99, 'WITHSCORES')
        for entry = 1, #entries, 2 do
          if tonumber(entries[entry + 1]) % 1 == tag then note(place, entries[entry], entries[entry + 1]) end
        end
        if #entries < 200 then break end
        from = from + 100
      end
    end
  end
end
return found
