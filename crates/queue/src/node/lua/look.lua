-- Jobs of one state of one queue, next to be taken (or due) first.
--
-- KEYS: the queue's `meta`. ARGV: now (ms); start of the queue's keys; `waiting`, `delayed`, `reserved` or `failed`; from;
--   count.
-- Returns: how many there are in all, then each {id, date (ms) or '', name, data, attempts ended, reason}.

local q, state, from, count = queue_at(arg()), arg(), number(), number()
if q.foreign then return {0} end
local ids, dates, total = {}, {}, 0

local function list(key)
  local size = redis.call('LLEN', key)
  local skip = math.max(from - total, 0)
  local wanted = count - #ids
  total = total + size
  if wanted <= 0 or skip >= size then return end
  local page = redis.call('LRANGE', key, -(skip + wanted), -1 - skip)
  for place = #page, 1, -1 do ids[#ids + 1] = page[place] end
end

local function sorted(key, newest, scale)
  local size = redis.call('ZCARD', key)
  local skip = math.max(from - total, 0)
  local wanted = count - #ids
  total = total + size
  if wanted <= 0 or skip >= size then return end
  local page = redis.call(newest and 'ZREVRANGE' or 'ZRANGE', key, skip, skip + wanted - 1, 'WITHSCORES')
  for place = 1, #page, 2 do
    ids[#ids + 1] = page[place]
    if scale then dates[#ids] = string.format('%.0f', math.ceil(tonumber(page[place + 1]) / scale)) end
  end
end

if state == 'waiting' then
  list(q.base .. 'wait')
  list(q.base .. 'paused')
  if q.sorted then sorted(q.sorted, false) end
elseif state == 'delayed' then
  sorted(q.base .. 'delayed', false, 4096)
elseif state == 'failed' then
  sorted(q.base .. 'failed', true, 1)
else
  list(q.base .. 'active')
end

local rows = {total}
for place, id in ipairs(ids) do
  local found = redis.pcall('HMGET', q.base .. id, 'name', 'data', 'atm', 'attemptsMade', 'failedReason')
  if found.err then found = {} end
  rows[#rows + 1] = {id, dates[place] or '', found[1] or '', found[2] or '', found[3] or found[4] or '0', found[5] or ''}
end
return rows
