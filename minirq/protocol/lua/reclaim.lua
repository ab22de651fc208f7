-- reclaim: return the jobs of dead owners to the front of the queue, or fail them with the evidence.
--
-- KEYS  1 the waiting list
-- ARGV  1 owner whose death its own supervisor has seen ("" = sweep: all whose lease has run out)
--       2 the caller's estimate of the server's time, ms · 3 how far it may be off, ms
--       4 pause before a job runs again after its second loss, ms
--       5 evidence: the error for the record · 6 lease, ms
--       7 for how long a BLMOVE of a dead owner may still be served, ms (0: it has none under way)
--       8 which of the owner's started jobs are blamed: "all", the "named" ones, or none, because the worker
--         itself has ended the process ("spared") · the jobs that were running when it ended: id, run, …
-- Returns { "ok" | "more" | "refused", { id, owner, fate, lost }, … }: after "more" a further sweep is due at once
--       fate: queued, scheduled (the pause), failed, canceled · lost: deaths of this job so far
--       fate unknown: a key of the job cannot be read, and it was set aside; the reason follows `lost`
--
-- The sweep refuses if the caller's estimate is off: the request took long, the server stood still, or its clock
-- jumped. Then leases prove nothing until all owners have sent another heartbeat.
-- A dead owner has a negative score: minus the time until which a late BLMOVE may bring it a job. The first sweep
-- after that forgets it; sweeps look at the oldest ones. If it is not known which jobs ran, all started jobs are
-- blamed. If several are blamed for one death, they are marked with it (`died_with`), so that they may run together
-- once more (lib/claim.lua).
-- A job that must not run again after a death (loss_limit 0) fails even if it ran and was spared.
--#include defaults time keys ids states park aside owners room

-- one sweep takes a few milliseconds at most
local MOST_OWNERS, MOST_JOBS = 200, 64
local prefix = prefix_of(KEYS[1])
local owners = prefix .. "owners"

local named_owner, evidence, pause_ms = ARGV[1], ARGV[5], tonumber(ARGV[4])
local linger_ms = tonumber(ARGV[7])
local blame, ran = ARGV[8], {}
-- a job may have run in the process before, too
for i = 9, #ARGV, 2 do ran[ARGV[i + 1] .. " " .. ARGV[i]] = true end

local reply = { "ok" }
-- the jobs of one owner that run again after its death
local survivors = {}

local function take_back(owner, payload)
  local id = id_of(payload)
  local job = prefix .. "job:" .. id
  local f = redis.call("HMGET", job,
    "status", "run", "owner", "lost", "loss_limit", "failure_ttl_ms", "stop", "waiters", "attempts", "gone", "sum")
  if is_stale(f[11], payload) then return end
  local status, lost = f[1], (f[4] or 0) + 0
  local fate = "queued"
  if status == "started" and f[3] == owner then
    local failure_ttl_ms = (f[6] or DEFAULT_FAILURE_TTL_MS) + 0
    local limit = (f[5] or DEFAULT_LOSS_LIMIT) + 0
    local has_run = blame == "all" or ran[(f[2] or 0) .. " " .. id]
    if has_run then redis.call("HDEL", job, "expires_ms") end -- it has started in time
    local guilty = has_run and (blame ~= "spared" or limit == 0)
    if guilty then
      lost = lost + 1
      note_error(prefix, id, evidence)
      redis.call("HSET", job, "lost", lost, "attempts", tonumber(f[9] or 0) + 1)
    end
    local blemished = lost > 0 or tonumber(f[9] or 0) > 0
    if f[10] then
      tell(prefix, id, f[8])
      redis.call("DEL", job, prefix .. "errors:" .. id)
      fate = "deleted"
    elseif f[7] then
      park(prefix, id, payload, f[7], failure_ttl_ms, f[8], blemished)
      fate = f[7]
    elseif guilty and lost > limit then
      park(prefix, id, payload, "failed", failure_ttl_ms, f[8], true)
      fate = "failed"
    elseif guilty and lost > 1 and pause_ms > 0 then
      schedule(prefix, id, payload, now + pause_ms)
      fate = "scheduled"
    else
      redis.call("RPUSH", KEYS[1], payload)
      redis.call("HSET", job, "status", "queued")
      if guilty then survivors[#survivors + 1] = job end
    end
    -- without an owner the run is fenced when it comes late, and not taken for settled
    redis.call("HDEL", job, "owner")
  elseif not status or status == "queued" then -- brought by BLMOVE, never claimed
    redis.call("RPUSH", KEYS[1], payload)
  elseif status == "canceled" or not is_known(status) then -- the claim that meets it clears it away
    redis.call("RPUSH", KEYS[1], payload)
    return
  else
    return -- a stale copy
  end
  reply[#reply + 1] = { id, owner, fate, lost }
end

local moved = 0
local function empty_hands(owner)
  local processing = prefix .. "processing:" .. owner
  local held = redis.call("LRANGE", processing, 0, -1) -- newest first, so that the oldest ends up in front
  for _, payload in ipairs(held) do
    local ok, err = pcall(take_back, owner, payload)
    if not ok then
      set_aside(prefix, id_of(payload), payload, reason_of(err))
      reply[#reply + 1] = { id_of(payload), owner, "unknown", 0, aside[#aside] }
    end
    redis.call("LREM", processing, 1, payload)
  end
  if #survivors > 1 then -- it cannot be known which of them it was; the owners of one process die together
    local death = string.gsub(owner, "%+%d+$", "")
    for _, job in ipairs(survivors) do redis.call("HSET", job, "died_with", death) end
  end
  survivors = {}
  if #held > 0 then ring(prefix) end
  moved = moved + #held
  return #held
end

if named_owner ~= "" then
  redis.call("ZADD", owners, -now - linger_ms, named_owner)
  empty_hands(named_owner)
  if linger_ms == 0 then redis.call("ZREM", owners, named_owner) end
  return reply
end

if math.abs(now - tonumber(ARGV[2])) > tonumber(ARGV[3]) then return { "refused" } end

for _, owner in ipairs(redis.call("ZRANGEBYSCORE", owners, now + LONGEST_LEASE_MS, "+inf", "LIMIT", 0, MOST_OWNERS)) do
  redis.call("ZADD", owners, now + tonumber(ARGV[6]), owner)
end
for _, owner in ipairs(redis.call("ZRANGEBYSCORE", owners, 0, now, "LIMIT", 0, MOST_OWNERS)) do
  if moved >= MOST_JOBS then break end
  redis.call("ZADD", owners, -now - linger_ms, owner)
  empty_hands(owner)
end
local buried = redis.call("ZREVRANGEBYSCORE", owners, "(0", "-inf", "WITHSCORES", "LIMIT", 0, MOST_OWNERS)
for i = 1, #buried, 2 do
  if moved >= MOST_JOBS then break end
  if empty_hands(buried[i]) == 0 and -tonumber(buried[i + 1]) <= now then
    redis.call("ZREM", owners, buried[i])
  end
end
if sweep_is_due(owners) then reply[1] = "more" end
return reply
