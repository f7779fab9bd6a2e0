-- Renews locks, and looks for stalled jobs where that is due.
--
-- ARGV: now (ms); time (ms) of locks; number of queues, for each what `read_lanes` reads; then for each job: queue, id,
--   token, proof.
-- Returns: per job 1 (ours) or 0.

local lasts = arg()
local lanes = read_lanes()
local answers = {}
while cursor < #ARGV do
  local lane, id, token, proof = lanes[number()], arg(), arg(), arg()
  local fine, held = pcall(function()
    local q = queue_at(lane.base)
    if not ours(q, id, token, proof) then return 0 end
    -- First of all: once a script has written, a server out of memory lets the rest of it pass.
    redis.pcall('SREM', q.base .. 'stalled', id)
    redis.call('SET', q.base .. id .. ':lock', token, 'PX', lasts)
    return 1
  end)
  -- A server that takes no writes has not given the job to another worker.
  if not fine then own_fault(held) end
  answers[#answers + 1] = fine and held or 0
end
check_all(lanes)
return answers
