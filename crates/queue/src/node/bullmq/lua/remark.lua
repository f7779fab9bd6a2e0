-- Writes down what handlers say of their jobs.
--
-- KEYS: for each its queue's `meta`. ARGV: now (ms); for each: start of the queue's keys, id, `progress` or `log`, text.
-- Returns: nothing.

while cursor < #ARGV do
  local base, id, kind, text = arg(), arg(), arg(), arg()
  local fine, problem = pcall(function()
    local q = queue_at(base)
    local key = base .. id
    local opts = redis.call('HMGET', key, 'name', 'opts')
    -- A job that is gone is not made anew.
    if not opts[1] then return end
    if kind == 'progress' then
      redis.call('HSET', key, 'progress', text)
      event(q, 'progress', 'jobId', id, 'data', text)
      return
    end
    redis.call('RPUSH', key .. ':logs', text)
    local kept = whole(decoded(opts[2]).kl)
    if kept then redis.call('LTRIM', key .. ':logs', -kept, -1) end
  end)
  if not fine then own_fault(problem) end
end
