-- finish: settle the outcomes of a batch, then claim the next jobs, in one round trip.
--
-- KEYS  the waiting lists of the worker's queues in one slot, in the order in which they are served
-- ARGV  1 a msgpack array (strings in the old format, without bin) of
--       owner · jobs wanted next (0: claim nothing) · settlements · jobs in hand that this call does not settle
--       (flat, for each: number of the queue, id)
--       · the company of the process once these are settled (lib/claim.lua), "" if nothing runs in it
--       settlements is flat, for each: number of the queue, id, run, verb, blob, ms, place
--         finished  blob the result ("" for none), ms its TTL (-1 for ever, 0 keep nothing)
--         failed    blob the error, ms the TTL of the record
--         retry     blob the error, ms the delay, place (queue or front) when there is no delay
--         miss      the function is not known here: scheduled with growing delays and no attempt counted, until
--                   the first miss is ms ago; then failed. blob the error. ms -1: it never fails, the delay is 10 s,
--                   and this does not count as the first miss; promote brings it back sooner
--         release   given back unstarted to the front; no attempt is counted
-- Returns a msgpack array { codes, state, jobs, pause_ms, company, aside } (lib/claim.lua; aside is flat, for each job
--       that was set aside: queue, id, reason), with a code for each settlement:
--       1 settled · 2 this run had been settled already · 3 the job was deleted meanwhile
--       0 fenced: another run holds the job, or none; the outcome is dropped
--       4 a miss was settled, and the job has failed · below 0: a miss was settled, next try in this many ms
--       5 a key of the job cannot be read: it was set aside
--
-- A run may settle if the payload is in its owner's processing list and the hash says started, with its run number.
-- A job that is asked to stop is not run again: a retry or a release ends it as canceled.
-- Arguments and reply are one string each: otherwise a client spends most of its time on packing, and on parsing
-- replies of hundreds of items.
--#include defaults time keys ids states park aside claim room

local FIRST_MISS_MS, GIVEN_BACK_MS = 500, 10000
local call = redis.call
local owner, want, settlements, in_hand, keeps = unpack(cmsgpack.unpack(ARGV[1]))
local held, codes = {}, {}
batched = {}

local function held_in(number)
  local queue = held[number]
  if not queue then
    local prefix = prefix_of(KEYS[number])
    local list, by_id = call("LRANGE", prefix .. "processing:" .. owner, 0, -1), {}
    local copies = {} -- payloads beside another one with their id
    for _, payload in ipairs(list) do
      local id = id_of(payload)
      if by_id[id] then copies[#copies + 1] = by_id[id] end
      by_id[id] = payload
    end
    for _, payload in ipairs(copies) do
      local sum = redis.pcall("HGET", prefix .. "job:" .. id_of(payload), "sum")
      if type(sum) == "string" and not is_stale(sum, payload) then by_id[id_of(payload)] = payload end
    end
    queue = { prefix = prefix, by_id = by_id, size = #list, gone = {} }
    held[number] = queue
  end
  return queue
end

local function settle(number, id, run, verb, blob, ms, place)
  local queue = held_in(number)
  local prefix, payload = queue.prefix, queue.by_id[id]
  local job = prefix .. "job:" .. id
  local f = call("HMGET", job, "status", "run", "waiters", "stop", "gone")
  local status, waiters, stop = f[1], f[3], f[4]
  -- a payload that BLMOVE has brought and that is not claimed yet is queued: an old request must not settle it
  if not payload or (status and status ~= "started") then
    local settled_before = f[2] and f[2] + 0 == run and status ~= "started" and call("HGET", job, "owner") == owner
    return settled_before and 2 or 0
  end
  if status and f[2] + 0 ~= run then return 0 end
  local attempts, blemished = 0, false
  if run > 1 then -- only jobs that ran before have these
    local g = call("HMGET", job, "attempts", "lost")
    attempts = (g[1] or 0) + 0
    blemished = attempts > 0 or (g[2] or 0) + 0 > 0
  end
  local counted = attempts == 0 and "1" or attempts + 1 -- formatting a number takes time, and most are 1
  queue.gone[#queue.gone + 1] = payload
  queue.by_id[id] = nil

  if not status or f[5] then -- deleted while it ran
    tell(prefix, id, waiters)
    call("DEL", job, prefix .. "errors:" .. id)
    return 3
  end
  if stop and (verb == "retry" or verb == "release" or verb == "miss") then
    if verb == "retry" then note_error(prefix, id, blob) attempts = attempts + 1 end
    local ttl_ms = tonumber(call("HGET", job, "failure_ttl_ms") or DEFAULT_FAILURE_TTL_MS)
    park(prefix, id, payload, stop, ttl_ms, waiters, blemished or attempts > 0, "attempts", attempts)
  elseif verb == "finished" then
    if blob ~= "" and (ms ~= 0 or waiters) then
      park(prefix, id, payload, "finished", ms, waiters, blemished, "attempts", counted, "result", blob)
    else
      park(prefix, id, payload, "finished", ms, waiters, blemished, "attempts", counted)
    end
  elseif verb == "failed" then
    note_error(prefix, id, blob)
    park(prefix, id, payload, "failed", ms, waiters, true, "attempts", counted)
  elseif verb == "retry" then
    note_error(prefix, id, blob)
    call("HDEL", job, "expires_ms") -- it has started in time
    if ms > 0 then
      schedule(prefix, id, payload, now + ms, "attempts", counted)
    else
      call(place == "front" and "RPUSH" or "LPUSH", KEYS[number], payload)
      call("HSET", job, "status", "queued", "attempts", counted, "enqueued_ms", now_text)
      ring(prefix)
    end
  elseif verb == "miss" then
    -- A deploy may be under way, and another worker may know the function already. The field `missed` holds
    -- the time of the first miss and the attempts by then: a run in between starts the count again.
    local m = call("HMGET", job, "missed", "failure_ttl_ms")
    local first_ms, at_attempts = string.match(m[1] or "", "^(%d+) (%d+)$")
    local gives_back = ms < 0
    if not first_ms or tonumber(at_attempts) ~= attempts or (first_ms == "0" and not gives_back) then
      first_ms = gives_back and "0" or now_text
      call("HSET", job, "missed", first_ms .. " " .. attempts)
    end
    if gives_back then
      schedule(prefix, id, payload, now + GIVEN_BACK_MS)
      return 1
    end
    local elapsed = now - tonumber(first_ms)
    if elapsed < ms then
      local pause_ms = math.max(FIRST_MISS_MS, elapsed)
      schedule(prefix, id, payload, now + pause_ms)
      return -pause_ms
    end
    note_error(prefix, id, blob)
    park(prefix, id, payload, "failed", tonumber(m[2] or DEFAULT_FAILURE_TTL_MS), waiters, true)
    return 4
  else
    call("RPUSH", KEYS[number], payload)
    call("HSET", job, "status", "queued")
    ring(prefix)
  end
  return 1
end

local at = 1
local function settle_rest()
  while at <= #settlements do
    codes[#codes + 1] = settle(unpack(settlements, at, at + 6))
    at = at + 7
  end
end

while true do
  local ok, err = pcall(settle_rest)
  if ok then break end
  -- the job at which that stopped is set aside: its place in the batch is passed over
  local id, queue, why = settlements[at + 1], held_in(settlements[at]), reason_of(err)
  if queue.by_id[id] then
    queue.gone[#queue.gone + 1] = queue.by_id[id]
    queue.by_id[id] = nil
  end
  local payload = queue.gone[#queue.gone]
  local is_held = payload and id_of(payload) == id
  if is_held then set_aside(queue.prefix, id, payload, why) end
  codes[#codes + 1] = is_held and 5 or 0
  at = at + 7
end
for key, entries in pairs(batched) do call("ZADD", key, unpack(entries)) end
batched = nil

-- settled payloads are removed last: an abort above leaves a copy behind, which the run number fences
local emptied = {}
for number, queue in pairs(held) do
  local processing = queue.prefix .. "processing:" .. owner
  if #queue.gone == queue.size then
    call("DEL", processing)
    emptied[number] = true
  else
    for _, payload in ipairs(queue.gone) do call("LREM", processing, -1, payload) end
  end
end

if want == 0 then return cmsgpack.pack({ codes, "ok", {}, 0, "", aside }) end
local hand = {}
for i = 1, #in_hand, 2 do
  local number = in_hand[i]
  hand[number] = hand[number] or {}
  hand[number][in_hand[i + 1]] = true
end
local ok, state, jobs, pause_ms, with = pcall(claim, KEYS, owner, want, hand, keeps, emptied)
if not ok then
  -- What cannot be read where the claim looked is set aside; without any of that the error is raised. What the claim
  -- has started by then is handed out by the next one.
  local before, err = #aside, state
  reason_of(err)
  local function examine(prefix, id)
    local job = read_job(prefix, id)
    if job.lost > 0 then lost_rules({}).company_of(prefix .. "job:" .. id, job.lost) end
  end
  local function is_broken(prefix, payload)
    local id = id_of(payload)
    local can_be_read, why = pcall(examine, prefix, id)
    if not can_be_read then set_aside(prefix, id, payload, reason_of(why)) end
    return not can_be_read
  end
  for number, queue in ipairs(KEYS) do
    local prefix, known = prefix_of(queue), hand[number] or {}
    local processing = prefix .. "processing:" .. owner
    for _, payload in ipairs(call("LRANGE", processing, 0, -1)) do
      if not known[id_of(payload)] and is_broken(prefix, payload) then call("LREM", processing, -1, payload) end
    end
    local behind, count, size = 0, 0, 0
    while call("TYPE", queue).ok == "list" and count < MOST_SKIPPED + MOST_ENDED and size < MOST_SKIPPED_BYTES do
      local payload = call("LINDEX", queue, -behind - 1)
      if not payload then break end
      if is_broken(prefix, payload) then call("LREM", queue, -1, payload) else behind = behind + 1 end
      count, size = count + 1, size + #payload
    end
  end
  if #aside == before then error(err, 0) end
  state, jobs, pause_ms, with = "more", {}, 0, keeps
end
return cmsgpack.pack({ codes, state, jobs, pause_ms, with, aside })
