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

local function write_counters(job)
  local note = job.note
  for _, field in ipairs({'snoozes', 'crashes', 'exceptions'}) do
    if note[field] == '1' then redis.call('HINCRBY', job.counters, field, 1) end
  end
  redis.call('HSET', job.counters, 'deliveries', note.deliveries)
  redis.call('HSETNX', job.counters, 'first', note.first)
  if note.previous ~= '' then redis.call('HSET', job.counters, 'previous', note.previous) end
  redis.call('EXPIRE', job.counters, 604800)
end

-- A key that somebody else has spoilt costs what was known of the job, never the job.
local function remember(job)
  if job.counters == '' or not job.note.counted then return end
  if not pcall(write_counters, job) then redis.pcall('DEL', job.counters) end
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

-- Goes back when all verdicts are known; looked at now is only whether it can.
local function back(queue, job, bytes)
  redis.call('LLEN', ready_of(queue))
  backs[#backs + 1] = {queue, job, bytes}
end

function verbs.back(queue, job) back(queue, job, as_found(job)) end

-- The worker that held the job is dead. Answers 2 and changes nothing when the job is to blame for it once too often.
function verbs.crash(queue, job)
  local crashes = job.counters ~= '' and redis.pcall('HGET', job.counters, 'crashes')
  if job.alone == '1' and type(crashes) == 'string' and (tonumber(crashes) or 0) >= 2 then return 2 end
  if job.due == '' then
    back(queue, job, job.bytes)
  else
    again(queue, job, job.bytes)
    let_go(queue, job)
  end
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

local settled, unforeseen = {}, nil
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
    if moved then
      settled[place] = answer or 1
    else
      local own, text = pcall(own_fault, answer)
      settled[place] = text
      if not own then unforeseen = text end
    end
  else
    settled[place] = 0
  end
end

-- The last one goes first, so that the queue has them in the order they were taken.
for place = #backs, 1, -1 do
  local queue, job, bytes = unpack(backs[place])
  if ours(queue, job) then
    redis.call('LPUSH', ready_of(queue), bytes)
    let_go(queue, job)
    wake(ready_of(queue), 1)
  end
end
if unforeseen then error(unforeseen, 0) end

