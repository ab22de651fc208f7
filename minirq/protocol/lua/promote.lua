-- promote: move delayed jobs that are due to the queue.
--
-- KEYS  1 the waiting list
-- ARGV  1 maximum of jobs to move · 2 maximum of finished jobs with a TTL in their index ("" = do not trim now)
--        3, … ids that are due now if they only wait for a worker that knows their function
-- Returns { moved, next_ms, now_ms, trim, sweep, failed, aside }: next_ms is the time until the next one, -1 if there is
--       none; trim is 1 if there is more to trim, sweep is 1 if a sweep (reclaim) has something to do;
--       failed is the number of failed jobs if the call was to trim, else -1
--       aside is flat, for each job that was set aside because a key cannot be read: queue, id, reason
--
-- The indexes of ended jobs hold the time until which each record is kept; they are trimmed here. Only finished jobs
-- with a TTL also leave their index by number, those first whose TTL ends first.
--#include defaults time keys states park aside owners room

-- one call takes a few milliseconds at most
local MOST_TRIMMED = 1000

local prefix = prefix_of(KEYS[1])

local scheduled = prefix .. "scheduled"
for i = 3, #ARGV do
  local f = redis.pcall("HMGET", prefix .. "job:" .. ARGV[i], "missed", "attempts")
  if f[1] and string.match(f[1], " (%d+)$") == (f[2] or "0") then
    redis.call("ZADD", scheduled, "XX", now, ARGV[i])
  end
end
local due = redis.call("ZRANGEBYSCORE", scheduled, "-inf", now, "LIMIT", 0, tonumber(ARGV[1]))
local function bring(id)
  local job = prefix .. "job:" .. id
  local payload = redis.call("GET", prefix .. "payload:" .. id)
  if payload and redis.call("HGET", job, "status") == "scheduled" then
    redis.call("LPUSH", KEYS[1], payload)
    redis.call("HSET", job, "status", "queued", "enqueued_ms", now)
    redis.call("DEL", prefix .. "payload:" .. id)
  end
end
for _, id in ipairs(due) do
  local ok, err = pcall(bring, id)
  if not ok then set_aside(prefix, id, nil, reason_of(err)) end
  redis.call("ZREM", scheduled, id)
end
if #due > 0 then ring(prefix) end

local left = MOST_TRIMMED
if ARGV[2] ~= "" then
  for _, status in ipairs({ "finished", "failed", "canceled", "stopped", "expired" }) do
    local index = prefix .. status
    local old = redis.call("ZCOUNT", index, "-inf", now)
    local surplus = status == "finished" and redis.call("ZCOUNT", index, "-inf", "(+inf") - tonumber(ARGV[2]) or 0
    local count = math.min(math.max(old, surplus), left)
    if count > 0 then redis.call("ZREMRANGEBYRANK", index, 0, count - 1) end
    left = left - math.max(count, 0)
  end
end

local first = redis.call("ZRANGE", scheduled, 0, 0, "WITHSCORES")
local next_ms = first[2] and math.max(0, tonumber(first[2]) - now) or -1
return { #due, next_ms, now, left == 0 and 1 or 0, sweep_is_due(prefix .. "owners") and 1 or 0,
  ARGV[2] ~= "" and redis.call("ZCARD", prefix .. "failed") or -1, aside }
