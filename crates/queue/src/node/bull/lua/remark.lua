-- Writes down what handlers say of their jobs.
--
-- KEYS: for each its queue's `meta`. ARGV: now (ms); for each: start of the queue's keys, id, `progress` or `log`, text.
-- Returns: nothing.

while cursor < #ARGV do
  local base, id, kind, text = arg(), arg(), arg(), arg()
  local fine, problem = pcall(function()
    local q = queue_at(base)
    local key = base .. id
    -- A job that is gone is not made anew.
    if redis.call('EXISTS', key) == 0 then return end
    if kind == 'progress' then
      redis.call('HSET', key, 'progress', text)
      say(q, 'progress', '{"jobId":' .. cjson.encode(id) .. ',"progress":' .. text .. '}')
    else
      redis.call('RPUSH', key .. ':logs', text)
    end
  end)
  if not fine then own_fault(problem) end
end
