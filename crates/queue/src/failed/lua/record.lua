-- Writes a failed job.
--
-- KEYS: all failed jobs, those of its queue. ARGV: start of the records' keys, id, another id in case that one belongs to
-- another job, payload, queue, connection, name, class, reason, date (ms).
-- Returns the id it has. The same job once more, whatever its counter says, changes only class and reason.

local function uncounted(payload)
  local at, length = scan(payload)
  return at and splice(payload, at, length, '0') or payload
end

local base, id, payload = ARGV[1], ARGV[2], ARGV[4]
-- Removes nothing; but once a script has written, a server out of memory lets the rest of it pass. The job leaves its
-- queue for it.
for place = 1, 2 do redis.call('ZREMRANGEBYRANK', KEYS[place], 1, 0) end
local known = redis.pcall('HGET', base .. id, 'payload')
-- A table is the error for a key that is no record.
if known and (type(known) == 'table' or uncounted(known) ~= uncounted(payload)) then
  id = ARGV[3]
  known = redis.call('HGET', base .. id, 'payload')
end
if known then
  redis.call('HSET', base .. id, 'class', ARGV[8], 'reason', ARGV[9])
else
  redis.call('HSET', base .. id, 'payload', payload, 'queue', ARGV[5], 'connection', ARGV[6], 'name', ARGV[7],
    'class', ARGV[8], 'reason', ARGV[9], 'failed_at', ARGV[10])
end
-- Also for a record that is known: what is in no list, nobody finds.
for place = 1, 2 do redis.call('ZADD', KEYS[place], 'NX', ARGV[10], id) end
return id
