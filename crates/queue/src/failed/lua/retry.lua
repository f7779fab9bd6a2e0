-- Puts a failed job back into its queue, its attempts at zero where it has a counter.
--
-- KEYS: the record, the queue's ready list, then the sorted sets that name it. ARGV: id. Returns 1, or 0 when there is no
-- such record.

local payload = redis.call('HGET', KEYS[1], 'payload')
if not payload then return 0 end
local at, length = scan(payload)
if at then payload = splice(payload, at, length, '0') end
redis.call('RPUSH', KEYS[2], payload)
redis.pcall('RPUSH', KEYS[2] .. ':notify', '1')
redis.call('DEL', KEYS[1])
for place = 3, #KEYS do redis.call('ZREM', KEYS[place], ARGV[1]) end
return 1
