-- enqueue: add new jobs to the queue, or park them until they are due. The id of an ended job may be used again.
--
-- KEYS  1 the waiting list
-- ARGV  1 a msgpack array (strings in the old format, without bin), flat, for each job:
--       id · payload · nonce ("" if the id itself is unique) · place (queue, front, delay, at) · ms (for delay and at)
--       · ttl_ms (if it has not started this long after it may run, it expires; -1: never)
--       · further hash fields { field, value, … }
--       2 "known" if the call was first sent so long ago that the records of its jobs may be gone: unless one of its
--         jobs is known, nothing is enqueued (-1, "")
-- Returns 1 if every job was enqueued, now or by this very call sent before; else for each job { code, status }:
--       1 enqueued · 2 this call had already enqueued it · 0 a job with this id waits or runs (its status): unchanged
--       -1 the job with this id is about to end or to disappear, and nothing of the call was enqueued: it is running
--       (started) and shall be stopped or deleted, or its old payload is still in a list (canceled, or queued and past
--       its ttl)
--
-- No write comes before the checks, so at maxmemory the server refuses the whole call: QueueFull.
-- The bell is rung for the first job of an empty queue; while jobs remain, claim rings it.
--#include time keys

local call, queue = redis.call, KEYS[1]
local jobs = cmsgpack.unpack(ARGV[1])

-- Nearly every call: one new job that waits, without anything to look at. What the rest needs is not set up for it.
if #jobs == 7 and jobs[4] == "queue" and jobs[6] < 0 and jobs[3] == "" and not ARGV[2] then
  local prefix = prefix_of(queue)
  local job, fields = prefix .. "job:" .. jobs[1], jobs[7]
  if call("EXISTS", job) == 0 then
    if call("LPUSH", queue, jobs[2]) == 1 then ring(prefix) end
    call("HSET", job, "status", "queued", "created_ms", now_text, unpack(fields))
    return 1
  end
end

--#include defaults states park

local prefix = prefix_of(queue)
local replies, records, waiting, became, all_enqueued = {}, {}, {}, {}, true
local doubted = {} -- jobs of this very call, sent again
local blemishes = {} -- errors of a life whose record is gone

-- An ended id starts a new life; run goes on counting, so that no older run fits.
local function bury(id, job, status, run, fields)
  call("HSET", job, "status", status) -- a first write that needs memory: a ZREM would be let through
  call("ZREM", prefix .. status, id)
  call("DEL", job, prefix .. "payload:" .. id, prefix .. "errors:" .. id)
  if run then fields[#fields + 1] = "run" fields[#fields + 1] = run end
end

local function code_of(id, job, nonce, old)
  local status = old[1]
  if not status then return 1 end
  if (old[2] or "") == nonce then return 2 end
  if status == "started" then return (old[4] or old[5]) and -1 or 0 end
  if status == "queued" then return old[6] and tonumber(old[6]) <= now and -1 or 0 end
  if not is_ended(status) then return 0 end
  if status == "canceled" and call("TTL", job) == -1 and call("EXISTS", prefix .. "payload:" .. id) == 0 then return -1 end
  return 1
end

-- The reply was lost, and its caller may ask again much later: the record is kept for that.
local function doubt(job, status)
  if not is_ended(status) then
    local waiters = call("HGET", job, "waiters")
    if not waiters then call("HSET", job, "waiters", IN_DOUBT)
    elseif not string.find(waiters, IN_DOUBT, 1, true) then call("HSET", job, "waiters", waiters .. " " .. IN_DOUBT) end
  else
    local left_ms = call("PTTL", job)
    if left_ms >= 0 and left_ms < DOUBT_MS then call("PEXPIRE", job, DOUBT_MS) end
  end
end

local olds, codes, first = {}, {}, {}
for i = 1, #jobs, 7 do
  local id, nonce = jobs[i], jobs[i + 2]
  local job = prefix .. "job:" .. id
  if first[id] then -- twice in this call
    olds[i], codes[i] = {}, jobs[first[id] + 2] == nonce and 2 or 0
  else
    olds[i] = call("HMGET", job, "status", "nonce", "run", "stop", "gone", "expires_ms")
    codes[i] = code_of(id, job, nonce, olds[i])
    if codes[i] == 1 then first[id] = i end
  end
  if codes[i] == 2 and olds[i][1] then doubted[#doubted + 1] = i end
end
for i = 1, #jobs, 7 do
  -- all jobs of a call were enqueued, or none: one that is known tells of the others
  if ARGV[2] and codes[i] == 1 then codes[i] = #doubted > 0 and 2 or -1 end
  replies[#replies + 1] = { codes[i], olds[i][1] or "" }
  if codes[i] < 1 then all_enqueued = false end
end
for _, reply in ipairs(replies) do
  if reply[1] < 0 then return replies end
end

for i = 1, #jobs, 7 do
  local id, payload, nonce, place, ms, ttl_ms, fields = unpack(jobs, i, i + 6)
  local job = prefix .. "job:" .. id
  if codes[i] == 1 then
    became[id] = "queued"
    if olds[i][1] then bury(id, job, olds[i][1], olds[i][3], fields)
    elseif nonce ~= "" then blemishes[#blemishes + 1] = prefix .. "errors:" .. id end
    local at = #fields
    fields[at + 1], fields[at + 2] = "created_ms", now_text
    if nonce ~= "" then -- an id that may be used again: no copy of an older payload runs under this record
      fields[at + 3], fields[at + 4], fields[at + 5], fields[at + 6] = "nonce", nonce, "sum", redis.sha1hex(payload)
    end
    local due_ms = now
    if place == "delay" then due_ms = now + ms elseif place == "at" then due_ms = ms end
    if ttl_ms >= 0 then
      fields[#fields + 1], fields[#fields + 2] = "expires_ms", math.max(due_ms, now) + ttl_ms
    end
    if due_ms > now then
      schedule(prefix, id, payload, due_ms, unpack(fields))
      became[id] = "scheduled"
    else
      if place == "front" then
        if call("RPUSH", queue, payload) == 1 then ring(prefix) end
      else
        waiting[#waiting + 1] = payload
      end
      records[#records + 1], records[#records + 2] = job, fields
    end
  end
  local reply = replies[(i + 6) / 7]
  reply[2] = became[id] or reply[2]
end

-- payloads before records: a call that breaks off in between leaves a job that runs, not one that is lost
if #waiting > 0 and call("LPUSH", queue, unpack(waiting)) == #waiting then ring(prefix) end
for i = 1, #records, 2 do call("HSET", records[i], "status", "queued", unpack(records[i + 1])) end
for _, i in ipairs(doubted) do doubt(prefix .. "job:" .. jobs[i], olds[i][1]) end
if #blemishes > 0 then call("DEL", unpack(blemishes)) end
return all_enqueued and 1 or replies
