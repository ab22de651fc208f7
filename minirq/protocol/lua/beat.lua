-- beat: renew the leases of a worker's owners.
--
-- KEYS  the waiting lists of the worker's queues in one slot
-- ARGV  1 lease, ms · 2 number of owners to register, if they are not registered · 3 the worker · owners, those first
-- Returns { now_ms, sweep_ms, { owner, … }, { owner, … }, { promote_ms, … } }: the time; how long until a sweep has
--       something to do, because a lease ends that is not renewed here or a dead owner can be forgotten (-1:
--       nothing); the owners that are lost; the owners that hold a job; for each queue how long until promote has
--       something to do (-1: nothing; -2: another worker does it)
--
-- One of a queue's workers promotes its delayed jobs: the first to send a heartbeat while no worker does. If a job is
-- overdue nevertheless, because that worker has just died, the next worker to send a heartbeat promotes it.
-- A dead owner has a negative score and is never renewed; an owner whose lease merely ran out (the server was
-- unreachable) is renewed. An owner that is not registered is lost unless this heartbeat registers it.

--#include time keys owners room

-- how late a delayed job is before another worker promotes it
local OVERDUE_MS = 250

local lease_ms, new = tonumber(ARGV[1]), tonumber(ARGV[2])
local losers, holders, promotions, mine = {}, {}, {}, {}
local reply = { now, -1, losers, holders, promotions }
for i = 4, #ARGV do
  local owner, lost = ARGV[i], false
  for _, queue in ipairs(KEYS) do
    local score = tonumber(redis.call("ZSCORE", prefix_of(queue) .. "owners", owner) or (i - 3 <= new and 0 or -1))
    if score < 0 then lost = true end
  end
  if lost then
    losers[#losers + 1] = owner
  else
    mine[owner] = true
    for _, queue in ipairs(KEYS) do
      redis.call("ZADD", prefix_of(queue) .. "owners", now + lease_ms, owner)
      if redis.call("EXISTS", prefix_of(queue) .. "processing:" .. owner) == 1 then holders[#holders + 1] = owner end
    end
  end
end

local function sweep_at(time_ms)
  local left = math.max(0, time_ms - now)
  if reply[2] < 0 or left < reply[2] then reply[2] = left end
end

local function promote_in(prefix)
  local promoter = redis.call("GET", prefix .. "promoter")
  local is_mine = not promoter or promoter == ARGV[3]
  if is_mine then redis.call("SET", prefix .. "promoter", ARGV[3], "PX", math.ceil(lease_ms / 2)) end
  local first = redis.pcall("ZRANGE", prefix .. "scheduled", 0, 0, "WITHSCORES")
  if first.err then return 0 end -- of the wrong type: promote reports it, for this queue only
  local left = first[2] and tonumber(first[2]) - now
  if is_mine then return left and math.max(0, left) or -1 end
  return left and left < -OVERDUE_MS and 0 or -2
end

for _, queue in ipairs(KEYS) do
  local owners = prefix_of(queue) .. "owners"
  local others = redis.call("ZRANGEBYSCORE", owners, 0, "+inf", "WITHSCORES", "LIMIT", 0, #ARGV - 2)
  for i = 1, #others, 2 do
    if not mine[others[i]] then sweep_at(tonumber(others[i + 1])) break end
  end
  local buried = redis.call("ZREVRANGEBYSCORE", owners, "(0", "-inf", "WITHSCORES", "LIMIT", 0, 1)
  if #buried > 0 then sweep_at(-tonumber(buried[2])) end
  if has_endless_lease(owners) then sweep_at(now) end
  promotions[#promotions + 1] = promote_in(prefix_of(queue))
end
return reply
