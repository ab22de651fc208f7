-- requeue: run a job again that has ended or was set aside. Its attempts and losses start from zero.
--
-- KEYS  1 the waiting list
-- ARGV  1 id · 2 place (queue or front) · 3 nonce of this call
-- Returns "requeued"; or its status, if it has not ended; "" without a record; "payload" if its payload was not kept
--
-- `run` is not reset, so that no earlier run of this job can settle the new one. A job that was set aside may no longer
-- have a record, because its key was broken and has been deleted.
--#include defaults time keys states park room

local prefix = prefix_of(KEYS[1])

local id = ARGV[1]
local nonce = ARGV[3]
local job, kept = prefix .. "job:" .. id, prefix .. "payload:" .. id
local f = redis.call("HMGET", job, "status", "requeued")
local status = f[1] or (redis.call("ZSCORE", prefix .. "unknown", id) and "unknown")
if not status then return "" end
if f[2] == nonce then return "requeued" end -- this very call, sent again
if not is_ended(status) and status ~= "unknown" then return status end
local payload = redis.call("GET", kept)
if not payload then return "payload" end

redis.call(ARGV[2] == "front" and "RPUSH" or "LPUSH", KEYS[1], payload)
redis.call("HSET", job, "status", "queued", "enqueued_ms", now, "requeued", nonce)
redis.call("HDEL", job, "attempts", "lost", "result", "ended_ms", "started_ms", "stop", "owner", "expires_ms", "missed",
  "died_with", "skipped_ms")
redis.call("PERSIST", job)
-- the end of a job without attempts does not look for errors, so they keep a TTL
redis.call("PEXPIRE", prefix .. "errors:" .. id, DEFAULT_FAILURE_TTL_MS)
redis.call("ZREM", prefix .. status, id)
redis.call("DEL", kept)
ring(prefix)
return "requeued"
