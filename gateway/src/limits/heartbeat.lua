-- A node reports that it is alive, several times a second, also if it has nothing to agree on.
--
-- KEYS  1 since when the data in Redis counts as complete  2 processes, and when each was heard last
-- ARGV  1 this process (NODE.RANDOM; preparing:RANDOM.RANDOM while it only prepares to take over)  2 when it was heard last, by the last answer that it got; 0 at first
-- Returns  how many processes there are, when another one with this node's name was heard last (0 if none was), and the time.
--
-- If no node has reported for a while, if the clock went back, or if Redis doesn't know what it answered a moment ago (it
-- has failed over), shares that are still in use may have been lost or removed. Then nothing is given away for a moment,
-- until all nodes have sent their shares (see agree.lua). That one node was away is no reason: what others got meanwhile
-- they could get before, and what the node uses it sends itself.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local SILENT = 2000
local GONE = 5000

local processes, twin, newest, own = 1, 0, 0, 0
local name = string.match(ARGV[1], '^(.*)%.') or ARGV[1]
local heard = redis.call('HGETALL', KEYS[2])
for i = 1, #heard, 2 do
  local stamp = tonumber(heard[i + 1])
  newest = math.max(newest, stamp)
  if heard[i] == ARGV[1] then
    own = stamp
  elseif now - stamp > GONE then
    redis.call('HDEL', KEYS[2], heard[i])
  elseif string.sub(heard[i], 1, 10) ~= 'preparing:' then
    processes = processes + 1
    if string.match(heard[i], '^(.*)%.') == name then
      twin = math.max(twin, stamp)
    end
  end
end
redis.call('HSET', KEYS[2], ARGV[1], now)

local answered = tonumber(ARGV[2])
-- Of a process that was silent for long nothing is known any more.
local forgot = own < answered and now - answered <= GONE
local born = tonumber(redis.call('GET', KEYS[1]) or '-1')
if born < 0 or now < born or now - newest > SILENT or forgot then
  redis.call('SET', KEYS[1], now)
end
return { processes, twin, now }
