-- One turn of a worker: verdicts first, then stalled jobs, then, queue by queue, due jobs made ready and jobs taken. This is
-- what both libraries share of it; theirs follows, and `turn_end.lua` carries it out.
--
-- KEYS: for each queue its `meta`.
-- ARGV: now (ms); token and time (ms) of new locks; number of queues, for each what `read_lanes` reads;
--   number of verdicts; for each: verb, queue, id, token, proof, three values of the verb, the notes (1: there are
--   some, 1: write these, snoozes, exceptions, first delivery, previous end);
--   number of asks; for each: room, number of its queues; for each: queue.
-- Returns: per verdict 1 (done), 0 (not ours), 2 (done, and it failed for good instead) or a text (kept, cannot be moved);
--   the jobs taken, each {place of the queue among the asked ones, id, row, notes or false}; per asked queue {state, jobs
--   left, due date (ms) or '', text, 1 with a limit of starts or of running jobs in force}, where state is 0 worked,
--   1 paused, 2 broken, 3 limited, 4 full; jobs of schedules that failed without running; what else is to be told of
--   queues, each {start of its keys, text}.

local token, lasts = arg(), arg()
local lanes = read_lanes()

-- verdicts --------------------------------------------------------------------------------------------------------

local verbs = {}

local function forget(lane, job)
  if job.noted == '1' then redis.call('DEL', lane.notes .. job.id) end
end

local function remember(lane, job)
  if job.counted ~= '1' then return end
  local key = lane.notes .. job.id
  -- Of a job of this name that others have ended since.
  if job.noted ~= '1' then redis.call('DEL', key) end
  -- Deliveries that are counted nowhere else; a crash that ends an attempt is counted twice.
  local uncounted = job.verb == 'later' and 1 or job.c == 'crash' and -1 or 0
  if uncounted ~= 0 then redis.call('HINCRBY', key, 'uncounted', uncounted) end
  redis.call('HINCRBY', key, 'snoozes', job.snoozes)
  redis.call('HINCRBY', key, 'exceptions', job.exceptions)
  redis.call('HSETNX', key, 'first', job.first)
  if job.previous ~= '' then redis.call('HSET', key, 'previous', job.previous) end
  redis.call('EXPIRE', key, 604800)
end

-- What each library brings, besides `verbs.done`: an end that failed; another attempt, at once or after a delay; one more
-- stall, true when the job failed for good by it; taking, which answers how many jobs were taken and the state of the
-- queue; what is to be said when all is done.
local fail, again, stalls, serve, close
local jobs, ended = {}, {}

function verbs.fail(q, lane, job)
  fail(q, lane, job.id, job.a, job.b)
  forget(lane, job)
end

function verbs.discard(q, lane, job)
  local key = q.base .. job.id
  local kept = whole(decoded(redis.call('HGET', key, 'opts')).kl)
  redis.pcall('RPUSH', key .. ':logs', job.a)
  if kept then redis.pcall('LTRIM', key .. ':logs', -kept, -1) end
  job.a, job.c = 'null', 'none'
  verbs.done(q, lane, job)
end

function verbs.again(q, lane, job)
  if job.c == 'crash' and stalls(q, lane, job.id) then
    forget(lane, job)
    return 2
  end
  again(q, job)
  aside(remember, lane, job)
end

function verbs.later(q, lane, job)
  put_delayed(q, job.id, now + job.delay, job.delay)
  aside(remember, lane, job)
end

function verbs.back(q, lane, job) put_first(q, job.id) end

-- The worker that held the job is dead: what a check for stalled jobs does, without its wait.
function verbs.crash(q, lane, job)
  if stalls(q, lane, job.id) then
    forget(lane, job)
    return 2
  end
  if job.delay > 0 then
    put_delayed(q, job.id, now + job.delay, job.delay)
  else
    put_stalled(q, job.id)
  end
  aside(remember, lane, job)
end
