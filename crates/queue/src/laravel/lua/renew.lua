-- Moves the end of reservations that are still ours.
--
-- KEYS: one ready list per reservation. ARGV: our tag, the new score, then the reserved bytes of each.
-- Returns 1 (ours for another lease) or 0 (not ours any more) for each.

local tag, score = tonumber(ARGV[1]) / 1048576, ARGV[2]
local held = {}
for place, ready in ipairs(KEYS) do
  local reserved, bytes = ready .. ':reserved', ARGV[place + 2]
  local ends = redis.pcall('ZSCORE', reserved, bytes)
  if type(ends) == 'string' and tonumber(ends) % 1 == tag then
    -- Removes nothing; but once a script has written, a server out of memory lets the rest of it pass.
    redis.call('ZREMRANGEBYRANK', reserved, 1, 0)
    redis.call('ZADD', reserved, 'XX', score, bytes)
    held[place] = 1
  else
    held[place] = 0
  end
end
return held
