-- cancel: prevent a job that has not ended from running (again). With keep = 0, delete its record too.
--
-- KEYS  1 the waiting list
-- ARGV  1 id · 2 keep (1: the record stays as canceled; 0: delete it) · 3 its payload, once found ("" before)
-- Returns the status that it had, or
--       "" if there is no such job · "waiting" if its payload still has to be found in the list: the caller searches
--       for it and calls again with it; if the caller does not, the claim that meets the payload removes it
--
-- A started job is marked: its worker interrupts it (except a job that shall be deleted), and it does not run again.
--#include defaults time keys ids states park interrupt room

local prefix = prefix_of(KEYS[1])

local id, keep, payload = ARGV[1], ARGV[2] == "1", ARGV[3]
local job = prefix .. "job:" .. id
local f = redis.call("HMGET", job, "status", "waiters", "failure_ttl_ms", "attempts", "lost", "sum")
local status = f[1]
if not status then return "" end

local function delete()
  tell(prefix, id, f[2])
  redis.call("ZREM", prefix .. f[1], id)
  redis.call("DEL", job, prefix .. "payload:" .. id, prefix .. "errors:" .. id)
end

local function park_canceled(bytes)
  local blemished = tonumber(f[4] or 0) > 0 or tonumber(f[5] or 0) > 0
  park(prefix, id, bytes, "canceled", tonumber(f[3] or DEFAULT_FAILURE_TTL_MS), f[2], blemished)
end

local function leave_to_claim()
  if not keep then redis.call("HSET", job, "gone", 1) end
  return "waiting"
end

if status == "scheduled" or status == "deferred" or status == "unknown" then
  if not keep then delete() return status end
  local kept = redis.call("GET", prefix .. "payload:" .. id) or ""
  redis.call("ZREM", prefix .. status, id)
  park_canceled(kept)
  if tonumber(f[3]) == 0 and (not f[2] or f[2] == IN_DOUBT) then redis.call("DEL", prefix .. "payload:" .. id) end -- nothing is kept
elseif status == "started" then
  if keep then interrupt(prefix, id, "canceled") else redis.call("HSET", job, "gone", 1) end
elseif status == "queued" then
  redis.call("HSET", job, "status", "canceled", "ended_ms", now)
  redis.call("HDEL", job, "waiters")
  tell(prefix, id, f[2])
  if f[2] and string.find(f[2], IN_DOUBT, 1, true) then redis.call("HSET", job, "waiters", IN_DOUBT) end
  return leave_to_claim()
elseif status == "canceled" and redis.call("EXISTS", prefix .. "payload:" .. id) == 0
  and redis.call("PTTL", job) == -1 then
  if payload == "" or redis.call("LREM", KEYS[1], 0, payload) == 0 or is_stale(f[6], payload) then
    return leave_to_claim()
  end
  if keep and redis.call("HEXISTS", job, "gone") == 0 then park_canceled(payload) else delete() end
  return "queued"
elseif is_ended(status) and not keep then
  delete()
end
return status
