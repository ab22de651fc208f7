-- promote: delayed jobs whose time has come go to the queue.
--
-- KEYS  1 the waiting list
-- ARGV  1 most jobs to move · 2 most entries that an index of ended jobs may keep ("" = do not trim now)
-- Returns { moved, next_ms, now_ms }: next_ms is the time until the next one, -1 if there is none
--
-- The indexes of ended jobs hold the time until which each record is kept; they are trimmed here.
--#include time keys states park room

local prefix = prefix_of(KEYS[1])

local scheduled = prefix .. "scheduled"
local due = redis.call("ZRANGEBYSCORE", scheduled, "-inf", now, "LIMIT", 0, tonumber(ARGV[1]))
for _, id in ipairs(due) do
  local job = prefix .. "job:" .. id
  local payload = redis.call("GET", prefix .. "payload:" .. id)
  if payload and redis.call("HGET", job, "status") == "scheduled" then
    redis.call("LPUSH", KEYS[1], payload)
    redis.call("HSET", job, "status", "queued", "enqueued_ms", now)
    redis.call("DEL", prefix .. "payload:" .. id)
  end
  redis.call("ZREM", scheduled, id)
end
if #due > 0 then ring(prefix) end

if ARGV[2] ~= "" then
  for status in pairs(ENDED) do
    redis.call("ZREMRANGEBYSCORE", prefix .. status, "-inf", now)
    redis.call("ZREMRANGEBYRANK", prefix .. status, 0, -tonumber(ARGV[2]) - 1)
  end
end

local first = redis.call("ZRANGE", scheduled, 0, 0, "WITHSCORES")
return { #due, first[2] and math.max(0, tonumber(first[2]) - now) or -1, now }
