-- One node agrees with the others on its share of one scope's limits. Atomic, on Redis's clock.
--
-- KEYS  1 since when the data in Redis counts as complete  2 when each process reported last (see heartbeat.lua)
--       then for each limit, in the order of ARGV: each node's share of all its parts together, if one of them has several
--       parts; and for each part: each node's share of it
-- ARGV  1 this process  2 this node  3 milliseconds from then on in which nothing is given away  4 the number of limits
--       then for each limit: the prefix of its fields ('1:' requests, '2:' tokens, '3:' concurrent requests, none for those
--       of a period), milliseconds to keep the shares of a period, its value, what this node's requests used beyond their
--       reservations, the number of its parts
--       and for each part: how large it is, what this node uses of it, the share that it has, the share that it needs
-- Returns  1 if the data may be incomplete, then for each part the share and what belongs to no node.
--
-- A share is an upper bound of what its node uses until it agrees again, so the sum of what is used never
-- exceeds the sum of the shares. Shares are absolute: a share that is sent twice, or again after the data was
-- lost, is not counted twice. New data may lack a node's share, so for a moment a node gets no more than the
-- share that it has.
--
-- A limit has a part for each guarantee, and one for the rest, which is the last one. Parts change with the config, and
-- nodes don't load a config at the same moment: one may have shares of a part that another doesn't know. So each node also
-- says what it has of all of its parts, and all of that together is never given more than the limit.
--
-- If more of the rest is used than there is, because requests used more than they had reserved, guarantees hold all the
-- same: the limit is exceeded by so much.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local process, node, grace, limits = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local born = redis.call('GET', KEYS[1])
if not born then
  born = now
  redis.call('SET', KEYS[1], now)
end
-- A process reports several times a second. If it was long ago for these data, they are a copy from before: others in them
-- may look as if they were gone.
local SILENT = 2000
local heard = tonumber(redis.call('HGET', KEYS[2], process) or '-1')
local settling = now < tonumber(born) or now - tonumber(born) < grace or now - heard > SILENT

-- Entries of processes that are older than this are removed. A node that is cut off goes on with its share of a limit per
-- minute for 30 s; what it used of that counts for another minute.
local GONE = 5000
local RATE_GONE = 93000

local answer = { settling and 1 or 0 }
local at, last_key = 5, 2
for _ = 1, limits do
  local prefix, keep, total = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local own_beyond, count = ARGV[at + 3], tonumber(ARGV[at + 4])
  at = at + 5
  local is_period = prefix == ''
  local field = is_period and node or prefix .. process
  local gone = prefix == '3:' and GONE or RATE_GONE

  -- Calls `each` with the other nodes' entries of this limit; removes those of processes that are gone.
  local function others_of(key, pattern, each)
    local entries = redis.call('HGETALL', key)
    for i = 1, #entries, 2 do
      local name = entries[i]
      if name ~= field and string.sub(name, 1, #prefix) == prefix then
        local amount, stamp, more = string.match(entries[i + 1], pattern)
        amount, stamp = tonumber(amount), tonumber(stamp)
        if not is_period and now - stamp > gone then
          redis.call('HDEL', key, name)
        else
          each(name, amount, stamp, more)
        end
      end
    end
  end

  -- What other nodes have of all parts, as they say themselves: { amount, when }.
  local whole = {}
  local beyond = tonumber(own_beyond)
  local is_divided = count > 1
  last_key = last_key + 1
  local whole_key = KEYS[last_key]
  others_of(whole_key, '^(%d+) (%d+) (%d+)$', function(name, amount, stamp, more)
    whole[name] = { amount, stamp }
    beyond = beyond + tonumber(more)
    is_divided = true
  end)

  -- What they have of the parts that this node knows: { amount, when the last of them was sent }.
  local known = {}
  local parts = {}
  local all_used = 0
  for part = 1, count do
    local key = KEYS[last_key + part]
    local others = 0
    others_of(key, '^(%d+) (%d+)$', function(name, amount, stamp)
      others = others + amount
      local of = known[name] or { 0, 0 }
      known[name] = { of[1] + amount, math.max(of[2], stamp) }
    end)
    local used = tonumber(ARGV[at + 1])
    parts[part] = {
      key = key, others = others, limit = tonumber(ARGV[at]), used = used, had = tonumber(ARGV[at + 2]),
      wanted = tonumber(ARGV[at + 3])
    }
    all_used = all_used + used
    at = at + 4
  end
  last_key = last_key + count

  local others_all = 0
  for name, of in pairs(known) do
    -- A node whose version doesn't know of this has only sent its parts.
    if not whole[name] or whole[name][2] < of[2] then
      others_all = others_all + math.max(of[1], whole[name] and whole[name][1] or 0)
      whole[name] = { 0, of[2] }
    end
  end
  for _, of in pairs(whole) do
    others_all = others_all + of[1]
  end

  local rest = parts[count]
  local exceeds = math.min(beyond, math.max(0, rest.others + rest.used - rest.limit))
  -- What is left of the whole limit beside the others' shares and what this node uses.
  local free = total + exceeds - others_all - all_used
  local mine = 0
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
    mine = mine + share
  end
  if is_divided then
    redis.call('HSET', whole_key, field, string.format('%.0f %.0f %s', mine, now, own_beyond))
    redis.call('PEXPIRE', whole_key, is_period and keep or RATE_GONE * 2)
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
