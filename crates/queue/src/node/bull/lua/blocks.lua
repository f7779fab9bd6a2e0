-- What every script of this driver is made of: the moves of a job that several verbs share.

-- queues ----------------------------------------------------------------------------------------------------------

local known = {}
-- Named in messages, so that peers can tell their own from others'. They do not listen to who has no name.
local speaker = 'qfleet'

function queue_at(base)
  local q = known[base]
  if not q then
    local meta = redis.call('HMGET', base .. 'meta', 'version', 'opts.maxLenEvents')
    q = {
      base = base, paused = redis.call('EXISTS', base .. 'meta-paused') == 1,
      foreign = (meta[1] or meta[2]) and true or false,
    }
    known[base] = q
  end
  return q
end

function accepted(q, lane) return lane.accept ~= '' or not q.foreign end

-- Producers keep waiting jobs aside while the queue is paused, and their resume overwrites the other list.
local function target(q) return q.base .. (q.paused and 'paused' or 'wait') end

function probe(q)
  if q.probed then return end
  redis.call('LLEN', target(q))
  redis.call('LLEN', q.base .. 'active')
  redis.call('SCARD', q.base .. 'stalled')
  for _, set in ipairs({'delayed', 'priority', 'completed', 'failed'}) do redis.call('ZCARD', q.base .. set) end
  q.probed = true
end

local function say(q, channel, message) redis.call('PUBLISH', q.base .. channel, message) end

-- places ----------------------------------------------------------------------------------------------------------

-- Members of `priority` up to `top` stand at the take end.
local function prioritized(q, top) return redis.call('ZCOUNT', q.base .. 'priority', 0, top) end

-- Into the list so that so many jobs are taken before it.
local function put_behind(q, id, ahead)
  local list = target(q)
  local pivot = ahead > 0 and redis.call('LINDEX', list, math.max(redis.call('LLEN', list) - ahead, 0))
  if pivot then
    redis.call('LINSERT', list, 'BEFORE', pivot, id)
  else
    redis.call('RPUSH', list, id)
  end
end

local function put_waiting(q, id, priority, lifo)
  if priority > 0 then
    put_behind(q, id, prioritized(q, priority))
    redis.call('ZADD', q.base .. 'priority', priority, id)
  else
    redis.call(lifo and 'RPUSH' or 'LPUSH', target(q), id)
  end
end

local function of_job(q, id)
  local found = redis.call('HMGET', q.base .. id, 'priority', 'opts')
  return tonumber(found[1]) or 0, given(decoded(found[2]).lifo) and true or false
end

-- To the place from which it is taken next among its equals.
local function put_first(q, id)
  local priority, lifo = of_job(q, id)
  if priority > 0 then
    put_behind(q, id, prioritized(q, '(' .. priority))
    redis.call('ZADD', q.base .. 'priority', priority, id)
  else
    put_behind(q, id, lifo and 0 or prioritized(q, '+inf'))
  end
  say(q, 'waiting@' .. speaker, id)
end

-- What the last digits of a score are made of: the job's number, if it has one.
local function low_bits(id)
  if #id > 15 or not string.match(id, '^%d+$') then return 0 end
  return tonumber(id) % 4096
end

local function put_delayed(q, id, due)
  local score = due * 4096 + low_bits(id)
  redis.call('ZADD', q.base .. 'delayed', score, id)
  say(q, 'delayed', score / 4096)
end

-- Where a job goes that was found without a lock; a priority it has does not count there.
local function put_stalled(q, id)
  redis.call('RPUSH', target(q), id)
  say(q, 'stalled@', id)
end

-- What waits beside a paused queue would be lost when a peer resumes it.
local function gather(q)
  if not q.paused then return end
  local wait = q.base .. 'wait'
  local ids = redis.call('LRANGE', wait, 0, 999)
  if #ids == 0 then return end
  redis.call('RPUSH', q.base .. 'paused', unpack(ids))
  redis.call('LTRIM', wait, #ids, -1)
end

local function promote(q)
  local delayed = q.base .. 'delayed'
  local ids = redis.call('ZRANGEBYSCORE', delayed, 0, (now + 1) * 4096 - 1, 'LIMIT', 0, 1000)
  if #ids == 0 then return end
  probe(q)
  for _, id in ipairs(ids) do
    local found = redis.pcall('HMGET', q.base .. id, 'priority', 'name', 'data')
    if not found.err and (found[2] or found[3]) then
      redis.call('LREM', q.base .. 'active', 0, id)
      put_waiting(q, id, tonumber(found[1]) or 0, false)
      redis.call('HSET', q.base .. id, 'delay', 0)
      say(q, 'waiting@' .. speaker, id)
    elseif found.err then
      no_job(q, id)
    end
    redis.call('ZREM', delayed, id)
  end
  -- Peers set their clocks by it.
  local score = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
  if score then say(q, 'delayed', tonumber(score) / 4096) end
end

-- None at all is no limit.
function trace_limit(opts)
  local limit = whole(opts.stackTraceLimit)
  return limit ~= 0 and limit or nil
end

-- the end of a job ------------------------------------------------------------------------------------------------

function delete_ended(q, id) redis.call('DEL', q.base .. id, q.base .. id .. ':logs') end

local function end_debounce(q, name)
  local holder = q.base .. 'de:' .. name
  local ttl = redis.call('PTTL', holder)
  if ttl == 0 or ttl == -1 then redis.call('DEL', holder) end
end

function ties_of(q, id)
  local ties = redis.call('HMGET', q.base .. id, 'deid', 'opts', 'name')
  ties.name = ties[3]
  return ties
end

-- To its set, or away, as the job or else the worker says.
local function keep_ended(q, id, set, property, value, lane, ties)
  local key = q.base .. id
  if ties[1] then aside(end_debounce, q, ties[1]) end
  local rule = keep_rule(options_in(ties[2]), set == 'completed' and 'removeOnComplete' or 'removeOnFail', lane[set])
  if rule.count == 0 then
    delete_ended(q, id)
  else
    keep(q, q.base .. set, rule)
    redis.call('ZADD', q.base .. set, stamp, id)
    redis.call('HSET', key, property, value, 'finishedOn', stamp)
  end
end

-- A job that has left `active` ends. `told` is what listeners learn, if anything. `lane` has the defaults of the worker.
local function finish(q, id, set, value, told, lane, ties)
  keep_ended(q, id, set, set == 'completed' and 'returnvalue' or 'failedReason', value, lane, ties)
  aside(measure, q, set, lane.metrics)
  local val = told and ',"val":' .. cjson.encode(told) or ''
  say(q, set, '{"jobId":' .. cjson.encode(id) .. val .. '}')
end

-- stalled jobs ----------------------------------------------------------------------------------------------------

-- Counts it; true when it was once too often.
local function stalled_out(q, lane, id)
  return bump(q.base .. id, 'stalledCounter') > lane.most_stalled
end

-- The attempt does not count, and how many there may be does not matter.
local function fail_stalled(q, lane, id)
  keep_ended(q, id, 'failed', 'failedReason', STALLED, lane, ties_of(q, id))
  say(q, 'failed', '{"jobId":' .. cjson.encode(id) .. ', "val": "job stalled more than maxStalledCount"}')
end

function found_stalled(q, lane, id)
  if not abandoned(q, id) then return end
  if stalled_out(q, lane, id) then
    fail_stalled(q, lane, id)
  else
    put_stalled(q, id)
  end
end

-- What a worker reads of a job. Whoever starts it writes its date, and whoever finds it stalled counts that, which may be
-- before the next one has written the date.
local function proof(started, stalls) return (started or '') .. ':' .. (stalls or '0') end

function row_of(q, id)
  local row = redis.call('HMGET', q.base .. id, 'name', 'data', 'opts', 'timestamp', 'attemptsMade', 'stalledCounter',
    'processedOn', 'failedReason')
  if not row[1] and row[2] then row[1] = '__default__' end
  row[7] = proof(row[7], row[6])
  return row
end

function unchanged(q, id, known_proof)
  local found = redis.call('HMGET', q.base .. id, 'processedOn', 'stalledCounter')
  return proof(found[1], found[2]) == known_proof
end
