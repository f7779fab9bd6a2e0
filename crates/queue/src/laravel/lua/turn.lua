-- One turn of a worker: verdicts first, then, queue by queue, due jobs made ready and jobs taken.
--
-- KEYS: for each queue its ready list and the set of paused queues.
-- ARGV: now (seconds), our tag, the score of new reservations, the lease (seconds), most jobs to make ready per set,
--   number of queues; for each: its name, the start of its jobs' own keys;
--   number of verdicts; for each: verb, queue, reserved bytes, position and length of the counter (0: none), the text
--   that stood there, key of its counters ('' when it has none), and what the verb needs;
--   number of asks; for each: room, number of its queues; for each: queue, wake-ups already taken from its notify list.
-- Returns: per verdict 1 (done), 0 (not ours), 2 (to be buried) or a text (kept, cannot be moved); the jobs taken, each {place of the
--   queue among the asked ones, ready bytes, position (from 0, -1: none) and length of the counter, the raised number,
--   identity, counters or nil}; per asked queue {state, jobs left, next due date or '', text}, where state is 0 worked,
--   1 paused, 2 broken.
--
-- Nothing is undone when a script fails half-way, so types are looked at before anything is changed, a job is put into
-- its new place before it leaves the old one, and no step in between can fail.

local now, tag, score, lease, batch = tonumber(ARGV[1]), tonumber(ARGV[2]) / 1048576, ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local cursor = 5
local function arg()
  cursor = cursor + 1
  return ARGV[cursor]
end
local function number() return tonumber(arg()) end

local names, memories = {}, {}
for queue = 1, number() do
  names[queue], memories[queue] = arg(), arg()
end

local function ready_of(queue) return KEYS[2 * queue - 1] end

local function said(problem)
  if type(problem) == 'table' then return problem.err or 'unknown error' end
  return tostring(problem)
end

-- What only this queue's keys are to blame for; anything else ends the script.
local function own_fault(problem)
  local text = said(problem)
  for _, part in ipairs({'WRONGTYPE', 'NOPERM', 'ACL failure', 'user executing the script'}) do
    if string.find(text, part, 1, true) then return text end
  end
  error(problem, 0)
end

-- Wakes as many sleepers as jobs became ready. A broken notify list costs speed, never a job.
local function wake(ready, jobs)
  while jobs > 0 do
    local ones = {}
    for place = 1, math.min(jobs, 100) do ones[place] = '1' end
    if type(redis.pcall('RPUSH', ready .. ':notify', unpack(ones))) == 'table' then return end
    jobs = jobs - #ones
  end
end

-- Removes nothing; but once a script has written, a server out of memory lets the rest of it pass. Moving and taking
-- jobs is what makes room there.
local writing = false
local function begin_writing(ready)
  if not writing then redis.call('ZREMRANGEBYRANK', ready .. ':reserved', 1, 0) end
  writing = true
end

-- verdicts --------------------------------------------------------------------------------------------------------

-- A reservation is ours when the fraction of its score is our tag; the bytes alone may belong to whoever took the job
-- after we gave it back.
local function ours(queue, job)
  local held = redis.pcall('ZSCORE', ready_of(queue) .. ':reserved', job.bytes)
  return type(held) == 'string' and tonumber(held) % 1 == tag
end

local function let_go(queue, job) redis.call('ZREM', ready_of(queue) .. ':reserved', job.bytes) end

local function as_found(job)
  if job.at == 0 then return job.bytes end
  return splice(job.bytes, job.at, job.length, job.text)
end

local function forget(job)
  if job.counters ~= '' then redis.call('DEL', job.counters) end
end

local function remember(job)
  local note = job.note
  if job.counters == '' or not note.counted then return end
  for _, field in ipairs({'snoozes', 'crashes', 'exceptions'}) do
    if note[field] == '1' then redis.call('HINCRBY', job.counters, field, 1) end
  end
  redis.call('HSET', job.counters, 'deliveries', note.deliveries)
  redis.call('HSETNX', job.counters, 'first', note.first)
  if note.previous ~= '' then redis.call('HSET', job.counters, 'previous', note.previous) end
  redis.call('EXPIRE', job.counters, 604800)
end

local function again(queue, job, bytes)
  local ready = ready_of(queue)
  local added = redis.pcall('ZADD', ready .. ':delayed', 'NX', job.due, bytes)
  if added ~= 1 then
    -- The same bytes wait there already (or nothing can wait there): as a member they would be one job, not two.
    redis.call('RPUSH', ready, bytes)
    wake(ready, 1)
  end
end

local backs = {}
local verbs = {}

function verbs.done(queue, job)
  let_go(queue, job)
  forget(job)
end

function verbs.again(queue, job)
  again(queue, job, job.bytes)
  let_go(queue, job)
  remember(job)
end

function verbs.later(queue, job)
  again(queue, job, as_found(job))
  let_go(queue, job)
  remember(job)
end

function verbs.back(queue, job)
  redis.call('LLEN', ready_of(queue))
  let_go(queue, job)
  backs[#backs + 1] = {queue, as_found(job)}
end

-- The worker that held the job is dead. Answers 2 and changes nothing when the job is to blame for it once too often.
function verbs.crash(queue, job)
  local crashes = job.counters ~= '' and tonumber(redis.call('HGET', job.counters, 'crashes') or 0) or 0
  if job.alone == '1' and crashes >= 2 then return 2 end
  redis.call('LLEN', ready_of(queue))
  if job.due == '' then
    backs[#backs + 1] = {queue, job.bytes}
  else
    again(queue, job, job.bytes)
  end
  let_go(queue, job)
  remember(job)
end

function verbs.unreadable(queue, job)
  redis.call('HSET', job.record, 'payload', as_found(job), 'queue', names[queue], 'connection', job.connection,
    'name', '', 'class', job.class, 'reason', job.reason, 'failed_at', job.date)
  redis.call('ZADD', job.index, job.date, job.id)
  redis.call('SADD', job.register, names[queue])
  let_go(queue, job)
end

function verbs.discard(queue, job)
  redis.call('ZADD', job.bin, job.date, job.header .. '\n' .. as_found(job))
  redis.call('ZREMRANGEBYSCORE', job.bin, '-inf', tonumber(job.date) - 86400000)
  redis.call('ZREMRANGEBYRANK', job.bin, 0, -1001)
  redis.call('EXPIRE', job.bin, 86400)
  let_go(queue, job)
  forget(job)
end

local function read_note()
  local note = {counted = arg() == '1'}
  if note.counted then
    note.snoozes, note.crashes, note.exceptions = arg(), arg(), arg()
    note.deliveries, note.first, note.previous = arg(), arg(), arg()
  end
  return note
end

local settled = {}
for place = 1, number() do
  local verb, queue = arg(), number()
  local job = {bytes = arg(), at = number(), length = number(), text = arg(), counters = arg()}
  if verb == 'again' or verb == 'later' then
    job.due, job.note = arg(), read_note()
  elseif verb == 'crash' then
    job.alone, job.due, job.note = arg(), arg(), read_note()
  elseif verb == 'unreadable' then
    job.record, job.index, job.register, job.id = arg(), arg(), arg(), arg()
    job.connection, job.class, job.reason, job.date = arg(), arg(), arg(), arg()
  elseif verb == 'discard' then
    job.bin, job.header, job.date = arg(), arg(), arg()
  end
  if ours(queue, job) then
    begin_writing(ready_of(queue))
    local moved, answer = pcall(verbs[verb], queue, job)
    settled[place] = moved and (answer or 1) or own_fault(answer)
  else
    settled[place] = 0
  end
end

-- The last one goes first, so that the queue has them in the order they were taken.
for place = #backs, 1, -1 do
  local ready = ready_of(backs[place][1])
  redis.call('LPUSH', ready, backs[place][2])
  wake(ready, 1)
end

-- taking ----------------------------------------------------------------------------------------------------------

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

local function counters_of(queue, identity)
  if identity == '' then return false end
  local key = memories[queue] .. identity
  if redis.call('EXISTS', key) == 0 then return false end
  return redis.call('HMGET', key, 'deliveries', 'snoozes', 'first', 'crashes', 'exceptions', 'previous')
end

local function take(place, queue, room, woken)
  local ready = ready_of(queue)
  local payloads = redis.call('LRANGE', ready, 0, room - 1)
  if #payloads == 0 then return 0, 0 end
  local taken, twins, problem = 0, {}, nil
  for _, payload in ipairs(payloads) do
    local at, length, count, identity = scan(payload)
    local raised = at and string.format('%d', count + 1) or ''
    local reserved = at and splice(payload, at, length, raised) or payload
    local added = redis.pcall('ZADD', ready .. ':reserved', 'NX', score, reserved)
    if type(added) == 'table' then
      problem = added
      break
    end
    if added == 1 then
      taken = taken + 1
      jobs[#jobs + 1] = {place, payload, at and at - 1 or -1, length or 0, raised, identity, counters_of(queue, identity)}
    else
      -- Somebody works on the very same bytes. As a member of the set they cannot be held twice: behind the others.
      twins[#twins + 1] = payload
      if #twins == 8 then break end
    end
  end
  redis.call('LTRIM', ready, taken + #twins, -1)
  for _, payload in ipairs(twins) do redis.call('RPUSH', ready, payload) end
  if taken > woken then redis.pcall('LTRIM', ready .. ':notify', taken - woken, -1) end
  if problem then error(problem, 0) end
  return taken, #twins
end

local function serve(place, queue, room, woken)
  if paused(queue) then return 0, {1, 0, '', ''} end
  local ready = ready_of(queue)
  -- All three are looked at before anything is changed.
  local left = redis.call('LLEN', ready)
  local delayed = redis.call('ZCOUNT', ready .. ':delayed', '-inf', ARGV[1])
  local expired = redis.call('ZCOUNT', ready .. ':reserved', '-inf', ARGV[1])
  if delayed > 0 or expired > 0 or (room > 0 and left > 0) then begin_writing(ready) end
  if delayed > 0 then left = left + ready_delayed(ready) end
  if expired > 0 then left = left + ready_expired(ready) end
  local taken, twins = 0, 0
  if room > 0 and left > 0 then taken, twins = take(place, queue, room, woken) end
  left = left - taken
  local due = left == 0 and next_due(ready) or ''
  -- Twins alone are nothing to come back for at once.
  if taken == 0 and twins > 0 then left = 0 end
  return taken, {0, left, due, ''}
end

local queues = {}
for _ = 1, number() do
  local room = number()
  for _ = 1, number() do
    local queue, woken = number(), number()
    local place = #queues + 1
    local worked, taken, state = pcall(serve, place, queue, room, woken)
    if worked then
      room = room - taken
      queues[place] = state
    else
      queues[place] = {2, 0, '', own_fault(taken)}
    end
  end
end

return {settled, jobs, queues}
