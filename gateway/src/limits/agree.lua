-- One node agrees with the others on its share of one scope's limits. Atomic, on Redis's clock.
--
-- KEYS  1 since when the data in Redis counts as complete  2 shares of rates  3 shares of the quota  4 shares of the budget
-- ARGV  1 this process  2 this node  3 milliseconds from then on in which nothing is given away
--       4, 5 milliseconds to keep the quota's and the budget's shares
--       then for each kind (requests, tokens, concurrent, quota, budget):
--       its limit (-1: none), what this node uses, the share that it has, the share that it needs
-- Returns  1 if the data may be incomplete, then for each kind the share and what belongs to no node.
--
-- A share is an upper bound of what its node uses until it agrees again, so the sum of what is used never
-- exceeds the sum of the shares. Shares are absolute: a share that is sent twice, or again after the data was
-- lost, is not counted twice. New data may lack a node's share, so for a moment a node gets no more than the
-- share that it has.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local process, node, grace = ARGV[1], ARGV[2], tonumber(ARGV[3])

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
for kind = 1, 5 do
  local at = 6 + (kind - 1) * 4
  local limit, used, had, wanted = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local share, left = 0, 0
  if limit >= 0 then
    local key, field, prefix = KEYS[2], kind .. ':' .. process, kind .. ':'
    if kind > 3 then
      key, field, prefix = KEYS[kind - 1], node, ''
    end
    local others = 0
    local shares = redis.call('HGETALL', key)
    for i = 1, #shares, 2 do
      local name = shares[i]
      if name ~= field and string.sub(name, 1, #prefix) == prefix then
        local amount, stamp = string.match(shares[i + 1], '^(%d+) (%d+)$')
        local age = now - tonumber(stamp)
        if (kind <= 2 and age > RATE_GONE) or (kind == 3 and age > GONE) then
          redis.call('HDEL', key, name)
        else
          others = others + tonumber(amount)
        end
      end
    end
    if settling then
      share = math.max(used, math.min(had, wanted))
    else
      share = math.max(used, math.min(limit - others, wanted))
    end
    redis.call('HSET', key, field, string.format('%.0f %.0f', share, now))
    if kind <= 3 then
      redis.call('PEXPIRE', key, RATE_GONE * 2)
    else
      redis.call('PEXPIRE', key, tonumber(ARGV[kind]))
    end
    left = math.max(0, limit - others - share)
  end
  answer[#answer + 1] = string.format('%.0f', share)
  answer[#answer + 1] = string.format('%.0f', left)
end
return answer
