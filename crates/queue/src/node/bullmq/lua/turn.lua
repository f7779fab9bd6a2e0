-- BullMQ's part of a turn.

-- verdicts --------------------------------------------------------------------------------------------------------

function fail(q, lane, id, reason, trace)
  note_failure(q, id, reason, trace)
  finish(q, id, 'failed', reason, lane)
end

-- Another attempt: at once behind everybody (in front, where the job wants that), or after a while.
function again(q, job)
  if job.a ~= '' then note_failure(q, job.id, job.a, job.b) end
  if job.delay > 0 then
    put_delayed(q, job.id, now + job.delay, job.delay)
    bump(q.base .. job.id, 'atm')
    return
  end
  promote(q)
  local opts = decoded(redis.call('HGET', q.base .. job.id, 'opts'))
  put_waiting(q, job.id, priority_of(q, job.id), given(opts.lifo) and true or false)
  base_marker(q)
  bump(q.base .. job.id, 'atm')
  event(q, 'waiting', 'jobId', job.id, 'prev', 'active')
end

function stalls(q, lane, id)
  if not stalled_out(q, lane, id) then return false end
  fail(q, lane, id, STALLED, cjson.encode('UnrecoverableError: ' .. STALLED))
  return true
end

-- Children of the job that still run, or that failed it, speak against its end.
function verbs.done(q, lane, job)
  if job.children_unknown then
    fail(q, lane, job.id, job.children_unknown, cjson.encode('Error: ' .. job.children_unknown))
  elseif job.failed_children > 0 then
    local reason = 'Cannot complete job ' .. job.id .. ' because it has at least one failed child. moveToFinished'
    fail(q, lane, job.id, reason, cjson.encode('Error: ' .. reason))
  elseif job.pending_children > 0 then
    local reason = 'Job ' .. job.id .. ' has pending dependencies. moveToFinished'
    local found = redis.call('HMGET', q.base .. job.id, 'atm', 'opts')
    if (tonumber(found[1]) or 0) + 1 < (tonumber(given(decoded(found[2]).attempts)) or 0) then
      job.a, job.b = reason, cjson.encode('Error: ' .. reason)
      again(q, job)
      return
    end
    fail(q, lane, job.id, reason, cjson.encode('Error: ' .. reason))
  else
    finish(q, job.id, 'completed', job.a, lane, job.ties)
  end
  forget(lane, job)
end

-- taking ----------------------------------------------------------------------------------------------------------

-- Time (ms) for which no more may be started, if any.
local function limited(q, lane)
  local max = q.max or (lane.max > 0 and lane.max)
  if not max then return nil, nil end
  local key = q.base .. 'limiter'
  local starts = redis.call('GET', key)
  -- Looked at before a job is moved: it is to be counted.
  if starts and not string.match(starts, '^%-?%d+$') then error({err = 'not an integer'}, 0) end
  if (tonumber(starts) or 0) < max then return nil, max end
  local ttl = redis.call('PTTL', key)
  if ttl == 0 then redis.call('DEL', key) end
  return ttl > 0 and ttl or nil, max
end

local function next_id(q)
  local active = q.base .. 'active'
  for _ = 1, 1000 do
    local id = redis.call('RPOPLPUSH', q.base .. 'wait', active)
    if not id then break end
    if string.sub(id, 1, 2) ~= '0:' then return id end
    redis.call('LREM', active, 1, id)
  end
  redis.call('LLEN', active)
  local id = redis.call('ZPOPMIN', q.base .. 'prioritized')[1]
  if id then
    redis.call('LPUSH', active, id)
    return id
  end
  redis.call('DEL', q.base .. 'pc')
  return nil
end

local function activate(q, lane, id, max, row)
  if max and not (q.major >= 6 and row[11]) then
    if redis.call('INCR', q.base .. 'limiter') == 1 then
      local window = lane.per > 0 and lane.per or q.duration or 0
      if window > 0 then redis.call('PEXPIRE', q.base .. 'limiter', window) end
    end
  end
  redis.call('SET', q.base .. id .. ':lock', token, 'PX', lasts)
  event(q, 'active', 'jobId', id, 'prev', 'waiting')
  row[7] = (whole(row[7]) or 0) + 1
  redis.call('HSET', q.base .. id, 'processedOn', stamp, 'ats', row[7])
end

function serve(place, lane, room)
  local q = queue_at(lane.base)
  if not accepted(q, lane) then return 0, {2, 0, '', 'version ' .. q.version, 0} end
  promote(q)
  local taken, state, wait, ids = 0, 0, nil, 0
  while taken < room and ids < room + 100 do
    ids = ids + 1
    local pause, max = limited(q, lane)
    if pause then
      state, wait = 3, pause
      break
    end
    if blocked(q) then
      state = q.paused and 1 or 4
      break
    end
    local id = next_id(q)
    if not id then break end
    local fine, row = pcall(row_of, q, id)
    if not fine or not (row[1] or row[2]) then
      -- No job is behind this id any more.
      redis.call('LREM', q.base .. 'active', 1, id)
      if fine then
        redis.call('DEL', q.base .. id, q.base .. id .. ':lock')
      else
        own_fault(row)
        no_job(q, id)
      end
    else
      local started_before = row[7]
      activate(q, lane, id, max, row)
      if row[11] then
        local reason = row[11]
        if row[9] then ended[#ended + 1] = {place, id, row, false} end
        leave_active(q, id)
        fail(q, lane, id, reason, cjson.encode('UnrecoverableError: ' .. reason))
        redis.call('DEL', lane.notes .. id)
      else
        taken = taken + 1
        -- Only a job that was started before can have notes.
        jobs[#jobs + 1] = {place, id, row, started_before and notes_of(lane, id)}
      end
    end
  end
  if q.paused then state = 1 end
  local left = redis.call('LLEN', q.base .. 'wait') + redis.call('ZCARD', q.base .. 'prioritized')
  -- A limit need not hold for others.
  if left > 0 and (state == 0 or state == 3) then base_marker(q) end
  q.asked, q.state, q.left = room > 0, state, left
  if state ~= 0 then left = 0 end
  local due = ''
  if wait then
    due = string.format('%.0f', now + wait)
  elseif left == 0 and state == 0 then
    local score = redis.call('ZRANGE', q.base .. 'delayed', 0, 0, 'WITHSCORES')[2]
    if score then due = string.format('%.0f', math.ceil(tonumber(score) / 4096)) end
  end
  local in_force = (q.max or q.concurrency or lane.max > 0) and 1 or 0
  return taken, {state, left, due, '', in_force}
end

local function tell_end(q)
  -- Others may have been added since, and nobody has taken any.
  if q.left and q.left > 0 and q.asked then return end
  local left = redis.call('LLEN', q.base .. 'wait') + redis.call('ZCARD', q.base .. 'prioritized')
  -- A place became free, and whoever sleeps does not know.
  if q.concurrency and not q.asked and left > 0 then base_marker(q) end
  -- Not while something is known to come, as with the original's worker, which looks for more with the same call.
  if left == 0 and redis.call('LLEN', q.base .. 'active') == 0 and redis.call('ZCARD', q.base .. 'delayed') == 0
    and not (q.asked and q.state ~= 0) then
    event(q, 'drained')
  end
end

function close()
  for _, q in pairs(known) do
    if q.ended then aside(tell_end, q) end
  end
end
