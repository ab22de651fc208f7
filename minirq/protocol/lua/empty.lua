-- empty: delete waiting or parked jobs, a chunk at a time.
--
-- KEYS  1 the waiting list
-- ARGV  1 "queue" for waiting jobs, or the status of parked ones; "rest" for the other keys of a queue: settings, bell,
--       and dead owners that hold nothing · 2 maximum of jobs or owners to examine
-- Returns { examined, deleted }; the caller repeats it until nothing was examined
--#include defaults time keys ids states park room

local prefix = prefix_of(KEYS[1])

local place, most = ARGV[1], tonumber(ARGV[2])
local ids = {}
if place == "rest" then
  local dead = redis.call("ZRANGEBYSCORE", prefix .. "owners", "-inf", now, "LIMIT", 0, most)
  for _, owner in ipairs(dead) do
    if redis.call("EXISTS", prefix .. "processing:" .. owner) == 0 then ids[#ids + 1] = owner end
  end
  if #ids > 0 then redis.call("ZREM", prefix .. "owners", unpack(ids)) end
  redis.call("DEL", prefix .. "meta", prefix .. "bell")
  return { #ids, 0 }
end
if place == "queue" then
  for _, payload in ipairs(redis.call("LRANGE", KEYS[1], -most, -1)) do ids[#ids + 1] = id_of(payload) end
else
  ids = redis.call("ZRANGE", prefix .. place, 0, most - 1)
end

local deleted = 0
for _, id in ipairs(ids) do
  local job = prefix .. "job:" .. id
  local f = redis.pcall("HMGET", job, "status", "waiters") -- a key of another type goes too
  local here = f[1] == place or (place == "unknown" and not is_known(f[1])) or (place == "queue" and (f[1] == "queued" or not f[1]))
  -- a canceled job whose payload is only now met leaves with it
  local tombstone = place == "queue" and f[1] == "canceled" and redis.call("PTTL", job) == -1
    and redis.call("EXISTS", prefix .. "payload:" .. id) == 0
  if here or tombstone then
    tell(prefix, id, f[2])
    redis.call("DEL", job, prefix .. "payload:" .. id, prefix .. "errors:" .. id)
    if here then deleted = deleted + 1 end
  end
end
if place == "queue" then redis.call("LTRIM", KEYS[1], 0, -#ids - 1)
elseif #ids > 0 then redis.call("ZREM", prefix .. place, unpack(ids)) end
return { #ids, deleted }
