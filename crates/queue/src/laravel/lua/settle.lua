-- First part of a turn: verdicts. After `turn.lua`.

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

