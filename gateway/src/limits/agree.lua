-- One node agrees with the others on its share of one scope's limits. Atomic, on Redis's clock.
--
-- KEYS  1 since when the data in Redis counts as complete; then the shares of each part of each limit, in the order of ARGV
-- ARGV  1 this process  2 this node  3 milliseconds from then on in which nothing is given away  4 the number of limits
--       then for each limit: the prefix of its fields ('1:' requests, '2:' tokens, '3:' concurrent requests, none for those
--       of a period), milliseconds to keep the shares of a period, its value, the number of its parts
--       and for each part: how large it is, what this node uses of it, the share that it has, the share that it needs
-- Returns  1 if the data may be incomplete, then for each part the share and what belongs to no node.
--
-- A share is an upper bound of what its node uses until it agrees again, so the sum of what is used never
-- exceeds the sum of the shares. Shares are absolute: a share that is sent twice, or again after the data was
-- lost, is not counted twice. New data may lack a node's share, so for a moment a node gets no more than the
-- share that it has.
--
-- A limit has a part for each guarantee, and one for the rest. Parts change with the config, and what is used in one
-- may be more than it has now: so all shares of all parts are never given more than the limit either.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local process, node, grace, limits = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local born = redis.call('GET', KEYS[1])
if not born then
  born = now
  redis.call('SET', KEYS[1], now)
end
local settling = now < tonumber(born) or now - tonumber(born) < grace

-- Entries of processes that are older than this are removed.
local GONE = 5000
local RATE_GONE = 63000

local answer = { settling and 1 or 0 }
local at, last_key = 5, 1
for _ = 1, limits do
  local prefix, keep, total, count = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  at = at + 4
  local is_period = prefix == ''
  local field = is_period and node or prefix .. process
  local gone = prefix == '3:' and GONE or RATE_GONE
  -- What is left of the whole limit beside the others' shares and what this node uses.
  local free = total
  local parts = {}
  for part = 1, count do
    local key = KEYS[last_key + part]
    local others = 0
    local shares = redis.call('HGETALL', key)
    for i = 1, #shares, 2 do
      local name = shares[i]
      if name ~= field and string.sub(name, 1, #prefix) == prefix then
        local amount, stamp = string.match(shares[i + 1], '^(%d+) (%d+)$')
        if not is_period and now - tonumber(stamp) > gone then
          redis.call('HDEL', key, name)
        else
          others = others + tonumber(amount)
        end
      end
    end
    local used = tonumber(ARGV[at + 1])
    parts[part] = {
      key = key, others = others, limit = tonumber(ARGV[at]), used = used, had = tonumber(ARGV[at + 2]),
      wanted = tonumber(ARGV[at + 3])
    }
    free = free - others - used
    at = at + 4
  end
  last_key = last_key + count
  for part = 1, count do
    local of = parts[part]
    local share
    if settling then
      share = math.max(of.used, math.min(of.had, of.wanted))
    else
      share = math.max(of.used, math.min(of.limit - of.others, of.wanted, of.used + math.max(0, free)))
    end
    free = free - (share - of.used)
    redis.call('HSET', of.key, field, string.format('%.0f %.0f', share, now))
    redis.call('PEXPIRE', of.key, is_period and keep or RATE_GONE * 2)
    of.share = share
  end
  -- Also what is left of the parts is no more than what is left of the limit.
  for part = 1, count do
    local of = parts[part]
    local left = math.max(0, math.min(of.limit - of.others - of.share, free))
    free = free - left
    answer[#answer + 1] = string.format('%.0f', of.share)
    answer[#answer + 1] = string.format('%.0f', left)
  end
end
return answer
