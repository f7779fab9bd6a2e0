-- A page of failed and unreadable jobs together, newest first.
--
-- KEYS: sorted sets of ids. ARGV: from, count, then for each set the start of its records' keys and 1 when its payloads
-- could not be read. Returns {id, unreadable, payload, queue, connection, name, class, reason, date (ms)} for each.

local from, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local entries = {}
for place, index in ipairs(KEYS) do
  local ids = redis.call('ZREVRANGE', index, 0, from + count - 1, 'WITHSCORES')
  for at = 1, #ids, 2 do entries[#entries + 1] = {ids[at], tonumber(ids[at + 1]), place} end
end
table.sort(entries, function(a, b)
  if a[2] ~= b[2] then return a[2] > b[2] end
  return a[1] > b[1]
end)
local page = {}
for at = from + 1, math.min(from + count, #entries) do
  local id, place = entries[at][1], entries[at][3]
  local key = ARGV[2 * place + 1] .. id
  local row = redis.call('HMGET', key, 'payload', 'queue', 'connection', 'name', 'class', 'reason', 'failed_at')
  page[#page + 1] = {id, tonumber(ARGV[2 * place + 2]), unpack(row, 1, 7)}
end
return page
