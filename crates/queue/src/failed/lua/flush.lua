-- Removes the oldest records of a sorted set of ids.
--
-- KEYS: the set. ARGV: start of its records' keys, latest date (ms, or +inf), most of them, start of the keys of the other
-- set that names a record (its queue's name follows; '' when there is none), the other set's key when all are in one.
-- Returns how many were removed.

local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])
for _, id in ipairs(ids) do
  local key = ARGV[1] .. id
  if ARGV[4] ~= '' then
    local queue = redis.call('HGET', key, 'queue')
    if queue then redis.call('ZREM', ARGV[4] .. queue, id) end
  end
  if ARGV[5] ~= '' then redis.call('ZREM', ARGV[5], id) end
  redis.call('DEL', key)
  redis.call('ZREM', KEYS[1], id)
end
return #ids
