-- Finds active jobs locked under one worker's name, and those whose lock ran out.
--
-- ARGV: now (ms); start of the tokens; number of queues, for each what `read_lanes` reads.
-- Returns: each {queue, id, token or '', row, notes or false}.

local start = arg()
local found = {}
for place, lane in ipairs(read_lanes()) do
  local fine, problem = pcall(function()
    local q = queue_at(lane.base)
    for _, id in ipairs(redis.call('LRANGE', q.base .. 'active', 0, -1)) do
      local token = redis.pcall('GET', q.base .. id .. ':lock')
      if not token or (type(token) == 'string' and string.sub(token, 1, #start) == start) then
        local readable, row = pcall(row_of, q, id)
        if readable and (row[1] or row[2]) then found[#found + 1] = {place, id, token or '', row, notes_of(lane, id)} end
      end
    end
  end)
  if not fine then own_fault(problem) end
end
return found
