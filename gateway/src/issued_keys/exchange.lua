-- Writes what this node knows of issued keys, and returns what has changed since it asked last.
--
-- KEYS: the parts of all keys (a hash), the keys' ids by the time of their last change (a sorted set, in microseconds of
-- this server's clock), and a random text that this memory keeps as long as it keeps the rest.
-- ARGV: since when, how many at most, a random text for a new memory, the number of ids to be forgotten, these ids, and
-- for each key to be written: its id, what is fixed, its earlier end, its revocation.
--
-- Nothing is ever taken back: what is fixed is written once, and an end is replaced only by an earlier one.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local memory = redis.call('GET', KEYS[3])
if not memory then
  memory = ARGV[3]
  redis.call('SET', KEYS[3], memory)
end
local top = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local last = tonumber(top[2] or '0')
local known_last = last

-- The order of ends: by their time, and then by who is named.
local function order(value)
  return tonumber(string.match(value, '^%-?%d+') or '0'), string.match(value, '^%S+ %S+ (.*)$') or ''
end

local function put_earlier(field, value)
  if value == '' then return 0 end
  local known = redis.call('HGET', KEYS[1], field)
  if known then
    local known_at, known_by = order(known)
    local at, by = order(value)
    if known_at < at or (known_at == at and known_by <= by) then return 0 end
  end
  redis.call('HSET', KEYS[1], field, value)
  return 1
end

local forget = tonumber(ARGV[4])
for i = 5, 4 + forget do
  redis.call('HDEL', KEYS[1], ARGV[i], ARGV[i] .. '!ends', ARGV[i] .. '!revoked')
  redis.call('ZREM', KEYS[2], ARGV[i])
end
for i = 5 + forget, #ARGV, 4 do
  local id = ARGV[i]
  local changed = redis.call('HSETNX', KEYS[1], id, ARGV[i + 1])
  changed = changed + put_earlier(id .. '!ends', ARGV[i + 2]) + put_earlier(id .. '!revoked', ARGV[i + 3])
  if changed > 0 then
    last = math.max(last + 1, now)
    redis.call('ZADD', KEYS[2], string.format('%.0f', last), id)
  end
end

local news = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local upto = last
if #news / 2 >= tonumber(ARGV[2]) then upto = tonumber(news[#news]) end
local answer = { memory, string.format('%.0f', known_last), string.format('%.0f', upto) }
for i = 1, #news, 2 do
  local parts = redis.call('HMGET', KEYS[1], news[i], news[i] .. '!ends', news[i] .. '!revoked')
  if parts[1] then
    answer[#answer + 1] = news[i]
    answer[#answer + 1] = parts[1]
    answer[#answer + 1] = parts[2] or ''
    answer[#answer + 1] = parts[3] or ''
  end
end
return answer
