-- Second part of a turn: due jobs made ready, jobs taken, and the answer. After `limit.lua`.

local pauses = {}
local function paused(queue)
  local key = KEYS[2 * queue]
  if pauses[key] == nil then pauses[key] = redis.call('SCARD', key) > 0 end
  return pauses[key] and redis.call('SISMEMBER', key, names[queue]) == 1
end

local function append(ready, members)
  for first = 1, #members, 100 do
    redis.call('RPUSH', ready, unpack(members, first, math.min(first + 99, #members)))
  end
  wake(ready, #members)
  return #members
end

local function ready_delayed(ready)
  local delayed = ready .. ':delayed'
  local members = redis.call('ZRANGEBYSCORE', delayed, '-inf', ARGV[1], 'LIMIT', 0, batch)
  append(ready, members)
  if #members > 0 then redis.call('ZREMRANGEBYRANK', delayed, 0, #members - 1) end
  return #members
end

-- What is held under our own tag is renewed by us as long as we live; when we were stopped for longer than the lease,
-- others may take it, but we must not take it from ourselves. A second lease later it is nobody's after all.
local function ready_expired(ready)
  local reserved = ready .. ':reserved'
  local entries = redis.call('ZRANGEBYSCORE', reserved, '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, batch)
  local members = {}
  for place = 1, #entries, 2 do
    local ended = tonumber(entries[place + 1])
    if tag == 0 or ended % 1 ~= tag or ended <= now - lease then members[#members + 1] = entries[place] end
  end
  append(ready, members)
  for _, member in ipairs(members) do redis.call('ZREM', reserved, member) end
  return #members
end

local function next_due(ready)
  local due
  local delayed = redis.call('ZRANGE', ready .. ':delayed', 0, 0, 'WITHSCORES')[2]
  if delayed then due = tonumber(delayed) end
  local ends = tonumber(redis.call('ZRANGE', ready .. ':reserved', 0, 0, 'WITHSCORES')[2])
  if ends and ends <= now then ends = ends + lease end
  if ends and (not due or ends < due) then due = ends end
  return due and string.format('%.3f', due) or ''
end

local jobs = {}

-- Every byte is read, and nobody else is served meanwhile: after so many of them the rest is for the next turn.
local MOST_BYTES = 1048576

local function take(place, queue, room, woken)
  local ready = ready_of(queue)
  local taken, twins, bytes, problem = 0, {}, 0, nil
  local function hold(payload)
    local at, length, count, identity = scan(payload)
    local raised = at and string.format('%d', count + 1) or ''
    local reserved = at and splice(payload, at, length, raised) or payload
    local counters = identity ~= '' and kept_at(memories[queue] .. identity)
    local added = redis.pcall('ZADD', ready .. ':reserved', 'NX', score, reserved)
    if type(added) == 'table' then
      problem = added
    elseif added == 1 then
      taken = taken + 1
      jobs[#jobs + 1] = {place, payload, at and at - 1 or -1, length or 0, raised, identity, counters}
    else
      -- Somebody works on the very same bytes. As a member of the set they cannot be held twice: behind the others.
      twins[#twins + 1] = payload
    end
    bytes = bytes + #payload
  end
  local function has_room() return taken + #twins < room and #twins < 8 and bytes < MOST_BYTES and not problem end
  while has_room() do
    local seen = taken + #twins
    local payloads = redis.call('LRANGE', ready, seen, math.min(seen + 16, room) - 1)
    for _, payload in ipairs(payloads) do
      if has_room() then
        -- What is held already has to leave the list whatever happens here.
        local fine, why = pcall(hold, payload)
        if not fine then problem = why end
      end
    end
    if #payloads < 16 then break end
  end
  if taken + #twins > 0 then redis.call('LTRIM', ready, taken + #twins, -1) end
  for _, payload in ipairs(twins) do redis.call('RPUSH', ready, payload) end
  if taken > woken then redis.pcall('LTRIM', ready .. ':notify', taken - woken, -1) end
  if problem then error(problem, 0) end
  return taken, #twins
end

-- At most `room` jobs, and no more than may start. Returns how many, and how many twins.
local function take_within(limit, place, queue, room, woken)
  if not limit then return take(place, queue, room, woken) end
  if limit.free == 0 then return 0, 0 end
  local counted = math.min(room, limit.free)
  count(limit, counted)
  local taken, twins = take(place, queue, counted, woken)
  uncount(limit, counted - taken)
  return taken, twins
end

local function serve(place, queue, room, woken, limit)
  if paused(queue) then return 0, {1, 0, '', ''} end
  local ready = ready_of(queue)
  -- All are looked at before anything is changed.
  local left = redis.call('LLEN', ready)
  local delayed = redis.call('ZCOUNT', ready .. ':delayed', '-inf', ARGV[1])
  local expired = redis.call('ZCOUNT', ready .. ':reserved', '-inf', ARGV[1])
  if limit then look_at(limit) end
  if delayed > 0 or expired > 0 or (room > 0 and left > 0) then begin_writing(ready) end
  if delayed > 0 then left = left + ready_delayed(ready) end
  if expired > 0 then left = left + ready_expired(ready) end
  local taken, twins = 0, 0
  if room > 0 and left > 0 then taken, twins = take_within(limit, place, queue, math.min(room, left), woken) end
  left = left - taken
  if limit and left > 0 and limit.free == 0 then
    return taken, {3, 0, limit.ends, ''}
  end
  local due = left == 0 and next_due(ready) or ''
  -- Twins alone are nothing to come back for at once.
  if taken == 0 and twins > 0 then left = 0 end
  return taken, {0, left, due, ''}
end

local queues = {}
for _ = 1, number() do
  local room = number()
  for _ = 1, number() do
    local queue, woken, limit = number(), number(), read_limit()
    local place = #queues + 1
    local worked, taken, state = pcall(serve, place, queue, room, woken, limit)
    if worked then
      room = room - taken
      queues[place] = state
    else
      queues[place] = {2, 0, '', own_fault(taken)}
    end
  end
end

return {settled, jobs, queues}
