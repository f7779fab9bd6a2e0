-- Finding things in a payload without decoding it. Put in front of every script that reads payloads.
--
-- Nothing here allocates more than one copy of the payload, and nothing prints it again: positions are found, and the
-- attempt counter is replaced in the text. Texts that are no JSON give no counter, or one that is put back as it was.

-- A canonical attempt counter at `at` of `payload`: digits, perhaps a fraction, perhaps quoted.
-- Returns the position of the digits, how many, and the number.
local function counter(payload, at)
  local quoted = string.byte(payload, at) == 34
  if quoted then at = at + 1 end
  local digits, rest = string.match(payload, '^(%d+)()', at)
  if not digits or #digits > 9 or (#digits > 1 and string.byte(digits) == 48) then return nil end
  rest = string.match(payload, '^%.%d+()', rest) or rest
  local ended
  if quoted then
    ended = string.byte(payload, rest) == 34
  else
    ended = rest > #payload or string.find(payload, '^[ \t\r\n,}]', rest)
  end
  if not ended then return nil end
  return at, #digits, tonumber(digits)
end

-- The way Laravel's own producers and Horizon's write it, recognised from both ends. From the closing brace backwards
-- everything is spelled out, so in valid JSON these matches prove what a walk would find, at a fraction of its cost.
local function at_a_glance(payload)
  local uuid = string.match(payload, '^{"uuid":"([%w%-]+)"')
  if not uuid or string.find(payload, '"retry_of"', 1, true) then return nil end
  local tail = string.sub(payload, -512)
  local at, rest = string.match(tail, ',"attempts":()%d+()')
  if not at then return nil end
  rest = string.match(tail, '^,"delay":%w+()', rest) or rest
  local horizon = string.match(tail, '^,"type":"%w+","tags":%[[^%[%]{}]*%]()', rest)
  if horizon then
    horizon = string.match(tail, '^,"silenced":%w+()', horizon) or horizon
    rest = string.match(tail, '^,"pushedAt":"[%d%.]+"()', horizon) or rest
  end
  if rest ~= #tail or string.byte(tail, rest) ~= 125 then return nil end
  return at + #payload - #tail, uuid
end

-- Walks from bracket to bracket and finds the last occurrence of each wanted key of the outermost object.
local function walk(payload)
  local text = payload
  if string.find(text, '\\', 1, true) then
    -- Same length, and from here on every quote begins or ends a string.
    text = string.gsub(text, '\\.', '__')
  end
  local pos = string.find(text, '[^ \t\r\n]')
  if not pos or string.byte(text, pos) ~= 123 then return nil, '' end
  local values, depth = {}, 0
  while true do
    pos = string.find(text, '["{}%[%]]', pos)
    if not pos then break end
    local what = string.byte(text, pos)
    if what == 34 then
      local close = string.find(text, '"', pos + 1, true)
      if not close then break end
      local value = depth == 1 and string.match(text, '^[ \t\r\n]*:[ \t\r\n]*()', close + 1)
      if value then
        values[string.sub(payload, pos + 1, close - 1)] = value
        pos = value
      else
        pos = close + 1
      end
    else
      if what == 123 or what == 91 then depth = depth + 1 else depth = depth - 1 end
      if depth == 0 then break end
      pos = pos + 1
    end
  end
  local identity = ''
  for _, key in ipairs({'retry_of', 'uuid', 'id'}) do
    local value = values[key]
    if value and string.byte(text, value) == 34 then
      local close = string.find(text, '"', value + 1, true)
      if close and close > value + 1 then
        identity = string.sub(payload, value + 1, close - 1)
        break
      end
    end
  end
  return values.attempts, identity
end

-- Position and length of the counter's digits, its number (all nil when there is no usable counter), and the text that
-- names the job beside its payload (empty when there is none).
local function scan(payload)
  local at, identity = at_a_glance(payload)
  if not at then at, identity = walk(payload) end
  if #identity > 512 then identity = '' end
  if not at then return nil, nil, nil, identity end
  local digits, length, count = counter(payload, at)
  return digits, length, count, identity
end

-- What is kept beside a job under this key; false when there is nothing, or something that is not ours.
local function kept_at(key)
  if redis.call('EXISTS', key) == 0 then return false end
  local kept = redis.pcall('HMGET', key, 'deliveries', 'snoozes', 'first', 'crashes', 'exceptions', 'previous')
  return not kept.err and kept
end

local function splice(payload, at, length, digits)
  return string.sub(payload, 1, at - 1) .. digits .. string.sub(payload, at + length)
end
