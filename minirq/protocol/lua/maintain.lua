-- maintain: queues that nobody has looked after for a while are handed to the caller, who looks after them now.
--
-- KEYS  1 the index of what is to be looked after (global): name, the time from which on others may, ms
-- ARGV  1 most names · 2 for how long nobody else is handed them, ms · further names that shall be in the index
-- Returns { next_ms, name, … }: how long until the next one may be taken; the names that the caller has taken
--
-- Taking moves the time on in the same step, so no two workers take the same queue. A queue's own workers move
-- it on with their beats, and nobody else is handed it while they live.
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
