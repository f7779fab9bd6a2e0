-- One turn of a worker: verdicts first, then stalled jobs, then, queue by queue, due jobs made ready and jobs taken.
--
-- KEYS: for each queue its `meta`.
-- ARGV: now (ms); token and time (ms) of new locks; number of queues, for each what `read_lanes` reads;
--   number of verdicts; for each: verb, queue, id, token, starts, three values of the verb, the notes (1: there are
--   some, 1: write these, snoozes, exceptions, first delivery, previous end);
--   number of asks; for each: room, number of its queues; for each: queue.
-- Returns: per verdict 1 (done), 0 (not ours), 2 (done, and it failed for good instead) or a text (kept, cannot be moved);
--   the jobs taken, each {place of the queue among the asked ones, id, row, notes or false}; per asked queue {state, jobs
--   left, due date (ms) or '', text, 1 with a limit of starts or of running jobs in force}, where state is 0 worked,
--   1 paused, 2 broken, 3 limited, 4 full; jobs of schedules that failed without running.

local token, lasts = arg(), number()
local lanes = read_lanes()

-- verdicts --------------------------------------------------------------------------------------------------------

local verbs = {}

local function forget(lane, job)
  if job.noted == '1' then redis.call('DEL', lane.notes .. job.id) end
end

local function remember(lane, job)
  if job.counted ~= '1' then return end
  local key = lane.notes .. job.id
  redis.call('HINCRBY', key, 'snoozes', job.snoozes)
  redis.call('HINCRBY', key, 'exceptions', job.exceptions)
  redis.call('HSETNX', key, 'first', job.first)
  if job.previous ~= '' then redis.call('HSET', key, 'previous', job.previous) end
  redis.call('EXPIRE', key, 604800)
end

local function fail(q, lane, id, reason, trace)
  note_failure(q, id, reason, trace)
  finish(q, id, 'failed', reason, lane)
end

-- Another attempt: at once behind everybody (in front, where the job wants that), or after a while.
local function again(q, job, delay)
  if delay > 0 then
    redis.call('HINCRBY', q.base .. job.id, 'atm', 1)
    put_delayed(q, job.id, now + delay, delay)
    return
  end
  promote(q)
  local opts = decoded(redis.call('HGET', q.base .. job.id, 'opts'))
  put_waiting(q, job.id, priority_of(q, job.id), given(opts.lifo) and true or false)
  base_marker(q)
  redis.call('HINCRBY', q.base .. job.id, 'atm', 1)
  event(q, 'waiting', 'jobId', job.id, 'prev', 'active')
end

-- Children of the job that still run, or that failed it, speak against its end.
function verbs.done(q, lane, job)
  if job.failed_children > 0 then
    local reason = 'Cannot complete job ' .. job.id .. ' because it has at least one failed child. moveToFinished'
    fail(q, lane, job.id, reason, cjson.encode('Error: ' .. reason))
  elseif job.pending_children > 0 then
    local reason = 'Job ' .. job.id .. ' has pending dependencies. moveToFinished'
    local found = redis.call('HMGET', q.base .. job.id, 'atm', 'opts')
    if (tonumber(found[1]) or 0) + 1 < (tonumber(given(decoded(found[2]).attempts)) or 0) then
      note_failure(q, job.id, reason, cjson.encode('Error: ' .. reason))
      again(q, job, job.delay)
      return
    end
    fail(q, lane, job.id, reason, cjson.encode('Error: ' .. reason))
  else
    finish(q, job.id, 'completed', job.a, lane, job.ties)
  end
  forget(lane, job)
end

function verbs.fail(q, lane, job)
  fail(q, lane, job.id, job.a, job.b)
  forget(lane, job)
end

function verbs.discard(q, lane, job)
  local key = q.base .. job.id
  local kept = tonumber(given(decoded(redis.call('HGET', key, 'opts')).kl))
  redis.pcall('RPUSH', key .. ':logs', job.a)
  if kept then redis.pcall('LTRIM', key .. ':logs', -kept, -1) end
  job.a = 'null'
  verbs.done(q, lane, job)
end

function verbs.again(q, lane, job)
  if job.c == 'crash' then
    local times = redis.call('HINCRBY', q.base .. job.id, 'stc', 1)
    if times > lane.most_stalled and not of_schedule(q, job.id) then
      fail(q, lane, job.id, STALLED, cjson.encode('UnrecoverableError: ' .. STALLED))
      forget(lane, job)
      return 2
    end
  end
  if job.a ~= '' then note_failure(q, job.id, job.a, job.b) end
  again(q, job, job.delay)
  aside(remember, lane, job)
end

function verbs.later(q, lane, job)
  put_delayed(q, job.id, now + job.delay, job.delay)
  aside(remember, lane, job)
end

function verbs.back(q, lane, job)
  put_first(q, job.id)
  event(q, 'waiting', 'jobId', job.id, 'prev', 'active')
end

-- The worker that held the job is dead: what a check for stalled jobs does, without its wait.
function verbs.crash(q, lane, job)
  local key = q.base .. job.id
  local times = redis.call('HINCRBY', key, 'stc', 1)
  if times > lane.most_stalled and not of_schedule(q, job.id) then
    fail(q, lane, job.id, STALLED, cjson.encode('UnrecoverableError: ' .. STALLED))
    forget(lane, job)
    return 2
  end
  if job.delay > 0 then
    put_delayed(q, job.id, now + job.delay, job.delay)
  else
    redis.call('RPUSH', target(q), job.id)
    base_marker(q)
    event(q, 'waiting', 'jobId', job.id, 'prev', 'active')
    event(q, 'stalled', 'jobId', job.id)
  end
  aside(remember, lane, job)
end

local settled, verdicts = {}, {}

local function settle(place)
  local job = verdicts[place]
  local moved, answer = pcall(function()
    local q = queue_at(job.lane.base)
    job.ties = ours(q, job.id, job.token, job.starts)
    if not job.ties then return 0 end
    if not q.probed then
      -- Types are looked at before anything is changed.
      redis.call('LLEN', target(q))
      redis.call('LLEN', q.base .. 'active')
      for _, set in ipairs({'delayed', 'prioritized', 'completed', 'failed'}) do redis.call('ZCARD', q.base .. set) end
      q.probed = true
    end
    if job.verb == 'done' or job.verb == 'discard' then
      local unsuccessful, dependencies = q.base .. job.id .. ':unsuccessful', q.base .. job.id .. ':dependencies'
      local childless = redis.call('EXISTS', unsuccessful, dependencies) == 0
      job.failed_children = childless and 0 or redis.call('ZCARD', unsuccessful)
      job.pending_children = childless and 0 or redis.call('SCARD', dependencies)
    end
    -- Whoever moved it meanwhile has the say.
    if not leave_active(q, job.id) then return 0 end
    return verbs[job.verb](q, job.lane, job) or 1
  end)
  settled[place] = moved and answer or own_fault(answer)
end

for place = 1, number() do
  local job = {verb = arg(), lane = lanes[number()], id = arg(), token = arg(), starts = arg(), a = arg(), b = arg(), c = arg()}
  job.delay = number()
  job.noted, job.counted, job.snoozes, job.exceptions, job.first, job.previous = arg(), arg(), arg(), arg(), arg(), arg()
  job.returns = job.verb == 'back' or job.verb == 'crash'
  verdicts[place] = job
end
for place, job in ipairs(verdicts) do
  if not job.returns then settle(place) end
end
-- The last one goes first, so that the queue has them in the order they were taken.
for place = #verdicts, 1, -1 do
  if verdicts[place].returns then settle(place) end
end
make_rooms()

check_all(lanes)

-- taking ----------------------------------------------------------------------------------------------------------

local jobs, ended = {}, {}

-- Time (ms) for which no more may be started, if any.
local function limited(q, lane)
  local max = q.max or (lane.max > 0 and lane.max)
  if not max then return nil, nil end
  local key = q.base .. 'limiter'
  if (tonumber(redis.call('GET', key)) or 0) < max then return nil, max end
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
  row[7] = (tonumber(row[7]) or 0) + 1
  redis.call('HSET', q.base .. id, 'processedOn', now, 'ats', row[7])
end

local function serve(place, lane, room)
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
    if not fine or not row[1] then
      -- No job is behind this id any more.
      redis.call('LREM', q.base .. 'active', 1, id)
      if fine then redis.call('DEL', q.base .. id, q.base .. id .. ':lock') end
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
  if left > 0 and state == 0 then base_marker(q) end
  q.asked, q.state = room > 0, state
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

local queues = {}
for _ = 1, number() do
  local room = number()
  for _ = 1, number() do
    local lane = lanes[number()]
    local place = #queues + 1
    local worked, taken, state = pcall(serve, place, lane, room)
    if worked then
      room = room - taken
      queues[place] = state
    else
      queues[place] = {2, 0, '', own_fault(taken), 0}
    end
  end
end
make_rooms()

for _, q in pairs(known) do
  -- A place became free, and whoever sleeps does not know.
  if q.ended and q.concurrency and not q.asked
    and redis.call('LLEN', q.base .. 'wait') + redis.call('ZCARD', q.base .. 'prioritized') > 0 then
    base_marker(q)
  end
  -- Not while something is known to come, as with the original's worker, which looks for more with the same call.
  if q.ended and redis.call('LLEN', q.base .. 'wait') == 0 and redis.call('LLEN', q.base .. 'active') == 0
    and redis.call('ZCARD', q.base .. 'prioritized') == 0
    and redis.call('ZCARD', q.base .. 'delayed') == 0 and not (q.asked and q.state ~= 0) then
    event(q, 'drained')
  end
end

return {settled, jobs, queues, ended}
