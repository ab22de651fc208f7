-- pause: pause a queue, or resume it.
--
-- KEYS  1 the waiting list
-- ARGV  1 how long, ms (-1 until it is resumed, 0 resume now)
-- Returns 1 if this changed anything
--#include time keys room

local prefix = prefix_of(KEYS[1])

local ms = tonumber(ARGV[1])
if ms == 0 then
  local resumed = redis.call("HDEL", prefix .. "meta", "paused")
  ring(prefix)
  return resumed
end
redis.call("HSET", prefix .. "meta", "paused", ms == -1 and -1 or now + ms)
return 1
