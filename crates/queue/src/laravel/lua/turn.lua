-- One turn of a worker: verdicts first, then, queue by queue, due jobs made ready and jobs taken.
--
-- KEYS: for each queue its ready list and the set of paused queues.
-- ARGV: now (seconds), our tag, the score of new reservations, the lease (seconds), most jobs to make ready per set,
--   number of queues; for each: its name, the start of its jobs' own keys;
--   number of verdicts; for each: verb, queue, reserved bytes, position and length of the counter (0: none), the text
--   that stood there, key of its counters ('' when it has none), and what the verb needs;
--   number of asks; for each: room, number of its queues; for each: queue, wake-ups already taken from its notify list,
--   most starts in a window (0: no limit), and with a limit the length of a window (ms) and the key of its counter.
-- Returns: per verdict 1 (done), 0 (not ours), 2 (to be buried) or a text (kept, cannot be moved); the jobs taken, each
--   {place of the queue among the asked ones, ready bytes, position (from 0, -1: none) and length of the counter, the
--   raised number, identity, counters or nil}; per asked queue {state, jobs left, next due date or '', text}, where
--   state is 0 worked, 1 paused, 2 broken, 3 limited (and instead of a date, the time in ms to
--   the end of its window).
--
-- Nothing is undone when a script fails half-way, so types are looked at before anything is changed, a job is put into
-- its new place before it leaves the old one, and no step in between can fail.

local now, tag, score = tonumber(ARGV[1]), tonumber(ARGV[2]) / 1048576, ARGV[3]
local lease, batch = tonumber(ARGV[4]), tonumber(ARGV[5])
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

