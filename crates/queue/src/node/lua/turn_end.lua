-- Carries a turn out.

local settled, verdicts = {}, {}

local function carry_out(job)
  local q = queue_at(job.lane.base)
  job.ties = ours(q, job.id, job.token, job.proof)
  if not job.ties then return 0 end
  probe(q, job)
  -- Whoever moved it meanwhile has the say.
  if not leave_active(q, job.id) then return 0 end
  return verbs[job.verb](q, job.lane, job) or 1
end

local function settle(place)
  local job = verdicts[place]
  local moved, answer = pcall(carry_out, job)
  settled[place] = moved and answer or named(job.lane.base, answer)
end

for place = 1, number() do
  local job = {verb = arg(), lane = lanes[number()], id = arg(), token = arg(), proof = arg(), a = arg(), b = arg(), c = arg()}
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

check_all(lanes)

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
      queues[place] = {2, 0, '', named(lane.base, taken), 0}
    end
  end
end

make_rooms()
close()
return {settled, jobs, queues, ended, remarks}
