-- finish: the outcomes of a batch are settled, then the next jobs are claimed. One round trip.
--
-- KEYS  the waiting lists of the worker's queues in one slot, in the order in which they are served
-- ARGV  1 owner · 2 jobs wanted next (0: claim nothing) · 3 number of settlements, then for each:
--       "<number of the queue> <run> <verb> <ms> <place> <id>" · blob
--         finished  blob the result ("" for none), ms its TTL (-1 for ever, 0 keep nothing)
--         failed    blob the error, ms the TTL of the record
--         retry     blob the error, ms the delay, place (queue or front) when there is no delay
--         miss      the function is not known here: scheduled with growing delays and no attempt counted, until
--                   the first miss is ms ago; then failed. blob the error
--         release   given back unstarted to the front; no attempt is counted
--       then the ids in hand that this call does not settle
-- Returns { codes, { state, jobs, pause_ms } } (lib/claim.lua), a code for each settlement:
--       1 settled · 2 this run had been settled already · 3 the job was deleted meanwhile
--       0 fenced: another run holds the job, or none; the outcome is dropped
--
-- A run may settle if the payload is in its owner's processing list and the hash says started, with its run number.
-- A job that is asked to stop is not run again: a retry or a release ends it as canceled.
--#include defaults time keys states park claim room

local FIRST_MISS_MS = 500
local owner, want, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local held, codes = {}, {}

local function held_in(number)
  if not held[number] then
    local list = redis.call("LRANGE", prefix_of(KEYS[number]) .. "processing:" .. owner, 0, -1)
    local by_id = {}
    for _, payload in ipairs(list) do by_id[id_of(payload)] = payload end
    held[number] = { by_id = by_id, size = #list, gone = {} }
  end
  return held[number]
end

-- A deploy may be under way, and another worker may know the function already. The field `missed` holds
-- the time of the first miss and the attempts by then: a run in between starts the count anew.
local function miss(prefix, id, payload, blob, window_ms, attempts, waiters)
  local job = prefix .. "job:" .. id
  local f = redis.call("HMGET", job, "missed", "failure_ttl_ms")
  local first_ms, at_attempts = string.match(f[1] or "", "^(%d+) (%d+)$")
  if not first_ms or tonumber(at_attempts) ~= attempts then
    first_ms = now
    redis.call("HSET", job, "missed", string.format("%.0f %d", now, attempts))
  end
  local elapsed = now - tonumber(first_ms)
  if elapsed < window_ms then
    schedule(prefix, id, payload, now + math.max(FIRST_MISS_MS, elapsed))
    return
  end
  note_error(prefix, id, blob)
  park(prefix, id, payload, "failed", tonumber(f[2] or DEFAULT_FAILURE_TTL_MS), waiters, true, {})
end

local function settle(number, id, run, verb, blob, ms, place)
  local prefix, list = prefix_of(KEYS[number]), held_in(number)
  local job, payload = prefix .. "job:" .. id, list.by_id[id]
  local f = redis.call("HMGET", job, "run", "attempts", "waiters", "lost", "stop", "owner", "status", "gone", "failure_ttl_ms")
  -- what BLMOVE has brought and nobody has claimed yet is queued: an old request must not settle that
  if not payload or (f[7] and f[7] ~= "started") then
    return (f[1] == run and f[6] == owner and f[7] ~= "started") and 2 or 0
  end
  if f[7] and f[1] ~= run then return 0 end
  local attempts = tonumber(f[2] or 0)
  local blemished = attempts > 0 or tonumber(f[4] or 0) > 0
  list.gone[#list.gone + 1] = payload
  list.by_id[id] = nil

  if not f[7] or f[8] then -- deleted while it ran
    tell(prefix, id, f[3])
    redis.call("DEL", job, prefix .. "errors:" .. id)
    return 3
  end
  if f[5] and (verb == "retry" or verb == "release" or verb == "miss") then
    if verb == "retry" then note_error(prefix, id, blob) attempts = attempts + 1 end
    local ttl_ms = tonumber(f[9] or DEFAULT_FAILURE_TTL_MS)
    park(prefix, id, payload, f[5], ttl_ms, f[3], blemished or attempts > 0, { "attempts", attempts })
  elseif verb == "finished" then
    local fields = { "attempts", attempts + 1 }
    if blob ~= "" and (ms ~= 0 or f[3]) then fields[3] = "result" fields[4] = blob end
    park(prefix, id, payload, "finished", ms, f[3], blemished, fields)
  elseif verb == "failed" then
    note_error(prefix, id, blob)
    park(prefix, id, payload, "failed", ms, f[3], true, { "attempts", attempts + 1 })
  elseif verb == "retry" then
    note_error(prefix, id, blob)
    if ms > 0 then
      schedule(prefix, id, payload, now + ms, "attempts", attempts + 1)
    else
      redis.call(place == "front" and "RPUSH" or "LPUSH", KEYS[number], payload)
      redis.call("HSET", job, "status", "queued", "attempts", attempts + 1, "enqueued_ms", now)
      ring(prefix)
    end
  elseif verb == "miss" then
    miss(prefix, id, payload, blob, ms, attempts, f[3])
  else
    redis.call("RPUSH", KEYS[number], payload)
    redis.call("HSET", job, "status", "queued")
    ring(prefix)
  end
  return 1
end

local at = 4
for i = 1, count do
  local number, run, verb, ms, place, id = string.match(ARGV[at], "^(%d+) (%d+) (%a+) (%-?%d+) (%a+) (.*)$")
  codes[i] = settle(tonumber(number), id, run, verb, ARGV[at + 1], tonumber(ms), place)
  at = at + 2
end

-- what left is removed last: an abort above leaves a copy behind, which the run number fences
for number, list in pairs(held) do
  local processing = prefix_of(KEYS[number]) .. "processing:" .. owner
  if #list.gone == list.size then
    redis.call("DEL", processing)
  else
    for _, payload in ipairs(list.gone) do redis.call("LREM", processing, -1, payload) end
  end
end

if want == 0 then return { codes, { "ok", {}, 0 } } end
local hand, hand_count = {}, 0
for i = at, #ARGV do hand[ARGV[i]] = true hand_count = hand_count + 1 end
return { codes, claim(KEYS, owner, want, hand, hand_count) }
