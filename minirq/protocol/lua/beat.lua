-- beat: the leases of a worker's owners are renewed.
--
-- KEYS  the waiting lists of the worker's queues in one slot
-- ARGV  1 lease, ms · 2 number of owners to register if they are not yet · owners, those first
-- Returns { now_ms, sweep_ms, { owner, … }, { owner, … } }: the time; how long until a sweep has something to do,
--       because a lease ends that is not renewed here or a buried owner can be forgotten (-1: nothing); the owners
--       that are lost; the owners that hold a job
--
-- An owner that was buried has a negative score and is never renewed; one whose lease merely ran out
-- (the server was away) is. An owner that is not registered is lost unless this beat registers it.

--#include time keys owners room

local lease_ms, new = tonumber(ARGV[1]), tonumber(ARGV[2])
local losers, holders, mine = {}, {}, {}
local reply = { now, -1, losers, holders }
for i = 3, #ARGV do
  local owner, lost = ARGV[i], false
  for _, queue in ipairs(KEYS) do
    local score = tonumber(redis.call("ZSCORE", prefix_of(queue) .. "owners", owner) or (i - 2 <= new and 0 or -1))
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

for _, queue in ipairs(KEYS) do
  local owners = prefix_of(queue) .. "owners"
  local others = redis.call("ZRANGEBYSCORE", owners, 0, "+inf", "WITHSCORES", "LIMIT", 0, #ARGV - 1)
  for i = 1, #others, 2 do
    if not mine[others[i]] then sweep_at(tonumber(others[i + 1])) break end
  end
  local buried = redis.call("ZREVRANGEBYSCORE", owners, "(0", "-inf", "WITHSCORES", "LIMIT", 0, 1)
  if #buried > 0 then sweep_at(-tonumber(buried[2])) end
  if sweep_is_due(owners) then sweep_at(now) end
end
return reply
