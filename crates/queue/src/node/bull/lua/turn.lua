-- Bull's part of a turn.

speaker = token

-- verdicts --------------------------------------------------------------------------------------------------------

-- Whoever ran it looks for another job.
local function ended(q) q.ended = (q.ended or 0) + 1 end

function verbs.done(q, lane, job)
  finish(q, job.id, 'completed', job.a, job.c ~= 'none' and job.a or nil, lane, job.ties)
  ended(q)
  forget(lane, job)
end

function fail(q, lane, id, reason, trace)
  bump(q.base .. id, 'attemptsMade')
  note_failure(q, id, reason, trace)
  finish(q, id, 'failed', reason, reason, lane, ties_of(q, id))
  ended(q)
end

-- Another attempt: at once behind everybody (in front, where the job wants that), or after a while.
function again(q, job)
  bump(q.base .. job.id, 'attemptsMade')
  if job.a ~= '' then note_failure(q, job.id, job.a, job.b) end
  ended(q)
  if job.delay > 0 then
    put_delayed(q, job.id, now + job.delay)
    return
  end
  local priority, lifo = of_job(q, job.id)
  put_waiting(q, job.id, priority, lifo)
  q.unsaid = true
end

function stalls(q, lane, id)
  if not stalled_out(q, lane, id) then return false end
  fail_stalled(q, lane, id)
  return true
end

-- taking ----------------------------------------------------------------------------------------------------------

-- The counter of starts, and which of those are left; none without a limit.
local function room_of(q, lane)
  if lane.max <= 0 then return nil end
  local key = q.base .. 'limiter'
  local started = redis.call('GET', key) or '0'
  -- Looked at before a job is moved: it is to be counted.
  if not string.match(started, '^%-?%d+$') then error({err = 'not an integer'}, 0) end
  started = tonumber(started)
  if started < lane.max then return lane.max - started end
  -- A window without an end would never pass.
  if redis.call('PTTL', key) == -1 then redis.call('PEXPIRE', key, lane.per) end
  return 0
end

-- A peer may have put it off because of the same limit.
local function count_start(q, lane, id)
  local key = q.base .. 'limiter'
  if redis.call('INCR', key) == 1 then redis.call('PEXPIRE', key, lane.per) end
  if redis.pcall('SREM', key .. ':limited', id) == 1 then redis.pcall('HDEL', key .. ':index', id) end
end

local function activate(q, lane, id, row)
  local key = q.base .. id
  if lane.max > 0 then count_start(q, lane, id) end
  redis.call('SET', key .. ':lock', token, 'PX', lasts)
  redis.call('ZREM', q.base .. 'priority', id)
  say(q, 'active@' .. speaker, id)
  redis.call('HSET', key, 'processedOn', stamp)
  row[7] = proof(stamp, row[6])
end

-- False when no job waits; an id behind which none is any more is dropped.
local function take_next(q, lane, place)
  local active = q.base .. 'active'
  local id = redis.call('RPOPLPUSH', q.base .. 'wait', active)
  if not id then return false end
  local fine, row = pcall(row_of, q, id)
  if not fine or not row[1] then
    redis.call('LREM', active, 1, id)
    redis.call('ZREM', q.base .. 'priority', id)
    redis.call('DEL', q.base .. id .. ':lock')
    if not fine then
      own_fault(row)
      no_job(q, id)
    end
    return true
  end
  -- Only a job that was started before can have notes.
  local started_before = string.sub(row[7], 1, 1) ~= ':'
  activate(q, lane, id, row)
  jobs[#jobs + 1] = {place, id, row, started_before and notes_of(lane, id)}
  return true
end

function serve(place, lane, room)
  local q = queue_at(lane.base)
  if not accepted(q, lane) then return 0, {2, 0, '', 'foreign', 0} end
  promote(q)
  gather(q)
  local wait, delayed = q.base .. 'wait', q.base .. 'delayed'
  local before, state, due = #jobs, q.paused and 1 or 0, ''
  if state == 0 and room > 0 and redis.call('LLEN', wait) > 0 then probe(q) end
  for _ = 1, state == 0 and room + 100 or 0 do
    if #jobs - before >= room then break end
    if room_of(q, lane) == 0 then
      state, due = 3, string.format('%.0f', now + math.max(redis.call('PTTL', q.base .. 'limiter'), 1))
      break
    end
    if not take_next(q, lane, place) then break end
  end
  local left = redis.call('LLEN', wait)
  local taken = #jobs - before
  if state < 3 and left == 0 and room > taken and (q.ended or 0) > taken then say(q, 'drained', '') end
  if state ~= 0 then left = 0 end
  if left == 0 and state == 0 then
    local score = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
    if score then due = string.format('%.0f', math.floor(tonumber(score) / 4096)) end
  end
  return taken, {state, left, due, '', lane.max > 0 and 1 or 0}
end

-- Bull says nothing of jobs that are to run again at once. Those that we did not take ourselves wake our idle workers.
function close()
  for _, q in pairs(known) do
    if q.unsaid and redis.call('LLEN', q.base .. 'wait') > 0 then
      redis.pcall('PUBLISH', string.sub(q.base, 1, -2) .. '@qfleet', '')
    end
  end
end
