-- Claiming: payloads move from waiting lists into this owner's processing lists, and their hashes
-- say `started`. What the owner holds without knowing it (BLMOVE brought it, a reply was lost, an old
-- connection was served late) is adopted first, so a claim also reconciles list and hands.

-- canceled, expired and stale payloads that one call may clear away, to stay short
local MOST_ENDED = 100
-- payloads above this many bytes in all are left for the next call
local MOST_BYTES = 1048576
-- payloads that are read at a time; they may be large, so not all 64 at once
local SLICE = 16
-- waiting lists up to this length are read as ranges
local SHORT_LIST = 256

local function read_job(prefix, id)
  local f = redis.call("HMGET", prefix .. "job:" .. id,
    "status", "run", "attempts", "lost", "expires_ms", "waiters", "failure_ttl_ms", "owner", "gone", "sum")
  return {
    status = f[1], run = tonumber(f[2] or 0), attempts = tonumber(f[3] or 0), lost = tonumber(f[4] or 0),
    expires_ms = tonumber(f[5] or 0), waiters = f[6], failure_ttl_ms = tonumber(f[7] or DEFAULT_FAILURE_TTL_MS),
    owner = f[8], gone = f[9], sum = f[10],
  }
end

-- A payload that is not (any more) what its hash says: ends what has to end, and says whether it may go.
local function clear_away(prefix, id, payload, job)
  local blemished = job.attempts > 0 or job.lost > 0
  if job.status == "queued" then -- past its ttl
    park(prefix, id, payload, "expired", job.failure_ttl_ms, job.waiters, blemished)
  elseif job.status == "canceled" and redis.call("EXISTS", prefix .. "payload:" .. id) == 0 then
    if job.gone then
      redis.call("DEL", prefix .. "job:" .. id, prefix .. "errors:" .. id)
    else -- canceled while it waited; now its payload is found
      park(prefix, id, payload, "canceled", job.failure_ttl_ms, job.waiters, blemished)
    end
  elseif not KNOWN[job.status] then -- written by a newer minirq: left as it is, in sight
    redis.call("SET", prefix .. "payload:" .. id, payload)
    redis.call("ZADD", prefix .. "unknown", now, id)
  end
end

-- `jobs` is flat: payload, number of the queue, id, run, attempts, lost, 1 if there was no hash
local PARTS = 7
local function describe(jobs, payload, number, id, run, attempts, lost, is_fresh)
  local at = #jobs
  jobs[at + 1], jobs[at + 2], jobs[at + 3], jobs[at + 4] = payload, number, id, run
  jobs[at + 5], jobs[at + 6], jobs[at + 7] = attempts, lost, is_fresh
end

local function start(jobs, number, job, id, payload, run, attempts, lost, is_fresh, owner)
  redis.call("HSET", job, "status", "started", "run", run == 0 and "1" or run + 1, "owner", owner, "started_ms", now_text)
  describe(jobs, payload, number, id, run + 1, attempts, lost, is_fresh)
end

-- Returns whether a job is among them that has to run alone.
local function adopt(jobs, number, prefix, owner, known, paused)
  local alone, back = false, {}
  local processing = prefix .. "processing:" .. owner
  local held = redis.call("LRANGE", processing, 0, -1)
  for i = #held, 1, -1 do
    local payload = held[i]
    local id = id_of(payload)
    if not known[id] then
      local job = read_job(prefix, id)
      local runnable = not job.status or job.status == "queued"
      local stale = is_stale(job.sum, payload)
      if stale then
        redis.call("LREM", processing, -1, payload)
      elseif job.status == "started" and job.owner == owner then
        local is_known = redis.call("HEXISTS", prefix .. "job:" .. id, "func")
        describe(jobs, payload, number, id, job.run, job.attempts, job.lost, 1 - is_known)
        alone = alone or job.lost > 0
      elseif runnable and paused then
        back[#back + 1] = payload
      elseif runnable and not (job.expires_ms > 0 and job.expires_ms <= now) then
        start(jobs, number, prefix .. "job:" .. id, id, payload, job.run, job.attempts, job.lost, job.status and 0 or 1, owner)
        alone = alone or job.lost > 0
      else
        clear_away(prefix, id, payload, job)
        redis.call("LREM", processing, -1, payload)
      end
      known[id] = not stale
    end
  end
  for i = #back, 1, -1 do -- the oldest ends up in front
    redis.call("RPUSH", prefix .. "queue", back[i])
    redis.call("LREM", processing, 1, back[i])
  end
  return alone
end

-- The payloads that run next, the first one last. Redis 6.2 looks for the end of a range from the head on, which
-- takes 10 ms in a list of a million; single ones it finds from the end.
local function next_ones(queue, count)
  local is_found_fast = redis.REDIS_VERSION_NUM or redis.call("LLEN", queue) <= SHORT_LIST -- 7.0 has the constant
  if is_found_fast then return redis.call("LRANGE", queue, -count, -1) end
  local slice = {}
  for i = 1, count do slice[count + 1 - i] = redis.call("LINDEX", queue, -i) end
  return slice
end

local function take(jobs, number, prefix, owner, want, hand_count, ended, bytes)
  local call, queue, jobs_prefix, alone = redis.call, prefix .. "queue", prefix .. "job:", false
  while #jobs < want * PARTS and bytes < MOST_BYTES and ended < MOST_ENDED and not alone do
    local asked = math.min(want - #jobs / PARTS, SLICE)
    local slice = next_ones(queue, asked)
    local taken, starts, seen, consumed = {}, {}, {}, 0
    for i = #slice, 1, -1 do
      local payload = slice[i]
      local id = id_of(payload)
      local job = jobs_prefix .. id
      local f = call("HMGET", job, "status", "run", "attempts", "lost", "expires_ms", "sum")
      local status, lost, expires_ms = f[1], f[4] and tonumber(f[4]) or 0, f[5] and tonumber(f[5]) or 0
      if f[6] and is_stale(f[6], payload) then
        ended = ended + 1
      elseif (not status or status == "queued") and not seen[id] and not (expires_ms > 0 and expires_ms <= now) then
        -- a job that has taken a process down runs alone, so that it can only hurt itself
        if lost > 0 then
          if #jobs + #taken + hand_count > 0 then alone = true break end
          alone = true
        end
        taken[#taken + 1] = payload
        local at = #starts
        starts[at + 1], starts[at + 2], starts[at + 3] = id, f[2] and tonumber(f[2]) or 0, f[3] and tonumber(f[3]) or 0
        starts[at + 4], starts[at + 5], starts[at + 6] = lost, status and 0 or 1, job
        seen[id] = true
        bytes = bytes + #payload
      elseif not seen[id] then
        clear_away(prefix, id, payload, read_job(prefix, id))
        ended = ended + 1
      end
      consumed = consumed + 1
      if alone or bytes >= MOST_BYTES or ended >= MOST_ENDED then break end
    end
    if #taken > 0 then call("LPUSH", prefix .. "processing:" .. owner, unpack(taken)) end
    for i, payload in ipairs(taken) do
      local at = i * 6 - 6
      start(jobs, number, starts[at + 6], starts[at + 1], payload, starts[at + 2], starts[at + 3], starts[at + 4], starts[at + 5], owner)
    end
    if consumed > 0 then call("LTRIM", queue, 0, -consumed - 1) end
    if consumed < asked then break end
  end
  return ended, bytes, alone
end

-- `hand`: number of the queue -> { id -> true } of what the owner knows that it holds.
-- Returns state, jobs, pause_ms; the states:
--   "ok"      jobs is flat, seven items each: payload, number of the queue, id, run, attempts, lost, 1 if it had no hash
--   "more"    as "ok", and the call stopped early: something remains that this owner may ask for at once
--   "late"    the lease has run out and nobody has buried the owner yet: claim again after the next beat
--   "lost"    the owner is not registered or was buried: it holds nothing any more
--   "paused"  nothing was claimed and every queue is paused: for pause_ms more, or -1 until resumed
local function claim(queues, owner, want, hand, hand_count)
  local late, lost = false, false
  for _, queue in ipairs(queues) do
    local lease = tonumber(redis.call("ZSCORE", prefix_of(queue) .. "owners", owner) or -1)
    if lease < 0 then lost = true elseif lease <= now then late = true end
  end
  if lost or late then
    -- a producer rings only for the first job of an empty queue: who took that bell and may not claim passes it on
    for _, queue in ipairs(queues) do
      if redis.call("EXISTS", queue) == 1 then ring(prefix_of(queue)) end
    end
    return lost and "lost" or "late", {}, 0
  end

  local jobs, ended, bytes, alone, all_paused, pause_ms = {}, 0, 0, false, true, -1
  local paused, most = {}, {}
  for number, queue in ipairs(queues) do
    local prefix = prefix_of(queue)
    local meta = redis.call("HMGET", prefix .. "meta", "paused", "batch")
    local until_ms = tonumber(meta[1] or 0)
    most[number] = meta[2] == "0" and 1 or want
    paused[number] = until_ms == -1 or until_ms > now
    if not paused[number] then
      all_paused = false
    elseif until_ms > 0 and (pause_ms == -1 or until_ms - now < pause_ms) then
      pause_ms = until_ms - now
    end
    alone = adopt(jobs, number, prefix, owner, hand[number] or {}, paused[number]) or alone
  end
  for number, queue in ipairs(queues) do
    -- a key of another type keeps neither the other queues from being served nor their bell ringing
    if not paused[number] and redis.call("TYPE", queue).ok == "list" then
      if #jobs < want * PARTS and not alone then
        local upto = math.min(want, #jobs / PARTS + most[number])
        ended, bytes, alone = take(jobs, number, prefix_of(queue), owner, upto, hand_count, ended, bytes)
      end
      if redis.call("EXISTS", queue) == 1 then ring(prefix_of(queue)) end
    end
  end
  if all_paused and #jobs == 0 then return "paused", {}, pause_ms end
  return ended >= MOST_ENDED and #jobs == 0 and "more" or "ok", jobs, 0
end
