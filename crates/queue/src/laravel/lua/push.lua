-- Adds a payload, ready or due later.
--
-- KEYS: the ready list. ARGV: the payload; its due date in seconds, or '' for ready.
-- Returns 1, or 0 when the very same bytes wait in the delayed set already, which cannot hold them twice.

local ready, payload, due = KEYS[1], ARGV[1], ARGV[2]
if due ~= '' then return redis.call('ZADD', ready .. ':delayed', 'NX', due, payload) end
redis.call('RPUSH', ready, payload)
redis.call('RPUSH', ready .. ':notify', '1')
return 1
