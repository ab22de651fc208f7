-- maintain: hand queues that no worker has looked after for a while to the caller, which does it now.
--
-- KEYS  1 the index `maintenance` (global): name, the time from which other workers may take it, ms
-- ARGV  1 maximum of names · 2 how long no other worker may take them, ms · further names that shall be in the index
-- Returns { next_ms, name, … }: how long until the next one may be taken; the names that the caller has taken
--
-- Taking a name moves its time ahead in the same step, so no two workers take the same queue. A queue's own workers
-- move it ahead with their heartbeats, so no other worker takes it while they are alive.
--#include time

-- as in lib/room: a first write that needs no memory
redis.call("ZREM", KEYS[1], "")

for i = 3, #ARGV do redis.call("ZADD", KEYS[1], "NX", now, ARGV[i]) end
local reply = { -1 }
for i, name in ipairs(redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", now, "LIMIT", 0, tonumber(ARGV[1]))) do
  redis.call("ZADD", KEYS[1], now + tonumber(ARGV[2]), name)
  reply[i + 1] = name
end
local first = redis.call("ZRANGE", KEYS[1], 0, 0, "WITHSCORES")
if first[2] then reply[1] = math.max(0, tonumber(first[2]) - now) end
return reply
