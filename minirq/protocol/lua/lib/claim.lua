-- Claiming: payloads move from waiting lists into this owner's processing lists, and their hashes
-- say `started`. What the owner holds without knowing it (BLMOVE brought it, a reply was lost, an old
-- connection was served late) is adopted first, so a claim also reconciles the list with the jobs in hand.
--
-- A job with a death on record endangers only itself, and no job behind it waits. Each job has a company:
--   "others"  no death on record: they run beside each other
--   a death   the first one, if several jobs died in it: they run together once more, among themselves only
--   "alone"   all after a second death, and those that a second death would fail
-- A process that has jobs in hand takes only those of the same company and skips the rest, for 10 s in all: `skipped_ms`
-- in the record says since when, `skipped` in meta names one such job. After that one process at a time, `drained_by`
-- in meta, takes nothing until it is free; and a free process takes such jobs before all others.

-- canceled, expired and stale payloads that one call may clear away, to stay short
local MOST_ENDED = 100
-- payloads above this many bytes in all are left for the next call
local MOST_BYTES = 1048576
-- payloads that are read at a time; they may be large, so not all 64 at once
local SLICE = 16
-- waiting lists up to this length are read as ranges
local SHORT_LIST = 256
-- how many payloads, and bytes, one call may skip
local MOST_SKIPPED, MOST_SKIPPED_BYTES = 500, 4194304

-- What only jobs with a death on record need. A script pays for each of its functions at every call, so these are made
-- when a call meets the first such job. `this` is the table of the call, see `claim` below.
local function lost_rules(this)
  if this.rules then return this.rules end
  -- how long a job may be skipped in all
  local SKIPPED_MS = 10000
  local call, rules, has_hint = redis.call, {}, {}
  this.rules, this.skipped, this.skipped_bytes = rules, 0, 0

  -- The company of a lost job, and since when it has been skipped. `f`: the fields, if they have been read already.
  function rules.company_of(job, lost, f)
    f = f or call("HMGET", job, "died_with", "loss_limit", "skipped_ms")
    local again = lost == 1 and f[1] and tonumber(f[2] or DEFAULT_LOSS_LIMIT) > 1
    return again and f[1] or "alone", f[3]
  end

  -- The company of a job, whether it may run beside what the process runs, and since when it has been skipped.
  function rules.judge(job, lost, f)
    local with, skipped_ms, keeps = "others", nil, this.company
    if lost > 0 then with, skipped_ms = rules.company_of(job, lost, f) end
    return with, keeps == "" or (keeps == with and with ~= "alone") or (keeps == "lost" and with ~= "others"), skipped_ms
  end

  function rules.skip(prefix, id, payload, with, skipped_ms)
    this.skipped, this.skipped_bytes = this.skipped + 1, this.skipped_bytes + #payload
    if this.skipped >= MOST_SKIPPED or this.skipped_bytes >= MOST_SKIPPED_BYTES then this.stops = true end
    if with == "others" then return end
    if not skipped_ms then
      skipped_ms = now_text
      call("HSET", prefix .. "job:" .. id, "skipped_ms", skipped_ms)
    end
    if not has_hint[prefix] then
      has_hint[prefix] = true
      call("HSET", prefix .. "meta", "skipped", skipped_ms .. " " .. id)
    end
  end

  function rules.note_hint(prefix) has_hint[prefix] = true end

  -- Whether the job that meta names has been skipped for too long. Once it waits no more, the next one may be named.
  function rules.is_overdue(prefix, hint)
    local since_ms, id = string.match(hint, "^(%d+) (.*)$")
    if since_ms and now - since_ms < SKIPPED_MS then return false end
    local f = since_ms and redis.pcall("HMGET", prefix .. "job:" .. id, "status", "skipped_ms") or {}
    if f[1] == "queued" and f[2] == since_ms then return true end
    call("HDEL", prefix .. "meta", "skipped")
    has_hint[prefix] = nil
    return false
  end

  -- Whether this owner's process is the one that drains, because no other living one does.
  function rules.drains(prefix, owner)
    local drained_by = call("HGET", prefix .. "meta", "drained_by")
    if drained_by and drained_by ~= owner
      and tonumber(call("ZSCORE", prefix .. "owners", drained_by) or -1) > now then return false end
    call("HSET", prefix .. "meta", "drained_by", owner)
    return true
  end

  -- When no job is named any more, no process drains.
  function rules.end_of_drain(prefix)
    if not has_hint[prefix] then call("HDEL", prefix .. "meta", "drained_by") end
  end

  return rules
end

-- A field that is no number raises: `+ 0` where tonumber would not.
local function read_job(prefix, id)
  local f = redis.call("HMGET", prefix .. "job:" .. id,
    "status", "run", "attempts", "lost", "expires_ms", "waiters", "failure_ttl_ms", "owner", "gone", "sum")
  return {
    status = f[1], run = (f[2] or 0) + 0, attempts = (f[3] or 0) + 0, lost = (f[4] or 0) + 0,
    expires_ms = (f[5] or 0) + 0, waiters = f[6], failure_ttl_ms = (f[7] or DEFAULT_FAILURE_TTL_MS) + 0,
    owner = f[8], gone = f[9], sum = f[10],
  }
end

-- A payload that does not, or no longer, match its hash: ends its job if that has to end.
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
  elseif not is_known(job.status) then
    set_aside(prefix, id, payload, "this version does not know its status " .. job.status)
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
  if lost > 0 then redis.call("HDEL", job, "skipped_ms") end
  if is_fresh == 1 then redis.call("DEL", string.sub(job, 1, -#id - 5) .. "errors:" .. id) end -- of a life before
  describe(jobs, payload, number, id, run + 1, attempts, lost, is_fresh)
end

local function adopt(this, number, prefix, owner, known, paused)
  local jobs, back = this.jobs, {}
  local processing = prefix .. "processing:" .. owner
  local held = redis.call("LRANGE", processing, 0, -1)
  for i = #held, 1, -1 do
    local payload = held[i]
    local id = id_of(payload)
    if not known[id] then
      local job, key = read_job(prefix, id), prefix .. "job:" .. id
      local with, fits, skipped_ms = "others", this.company == "" or this.company == "others", nil
      if job.lost > 0 or not fits then with, fits, skipped_ms = lost_rules(this).judge(key, job.lost) end
      local runnable = not job.status or job.status == "queued"
      local stale = is_stale(job.sum, payload)
      if stale then
        redis.call("LREM", processing, -1, payload)
      elseif job.status == "started" and job.owner == owner then
        if fits then
          this.company = with
          local is_named = redis.call("HEXISTS", key, "func")
          describe(jobs, payload, number, id, job.run, job.attempts, job.lost, 1 - is_named)
        else -- a request that was served late has claimed it: it is handed out once the process is free
          this.must_drain = true
        end
      elseif runnable and paused then
        back[#back + 1] = payload
      elseif runnable and not (job.expires_ms > 0 and job.expires_ms <= now) then
        if fits then
          this.company = with
          start(jobs, number, key, id, payload, job.run, job.attempts, job.lost, job.status and 0 or 1, owner)
        else
          this.rules.skip(prefix, id, payload, with, skipped_ms)
          back[#back + 1] = payload
        end
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
end

-- The payloads that run next behind those that are skipped, the first one last. Redis 6.2 looks for the end of a range
-- from the head on, which takes 10 ms in a list of a million; single ones it finds from the end.
local function next_ones(queue, length, behind, count)
  local is_found_fast = redis.REDIS_VERSION_NUM or length <= SHORT_LIST -- 7.0 has the constant
  if is_found_fast then return redis.call("LRANGE", queue, -behind - count, -behind - 1) end
  local slice = {}
  for i = 1, count do slice[count + 1 - i] = redis.call("LINDEX", queue, -behind - i) end
  return slice
end

-- Returns how many payloads are left in the queue.
local function take(this, number, prefix, owner, want, length)
  local call, queue, jobs_prefix, jobs, behind = redis.call, prefix .. "queue", prefix .. "job:", this.jobs, 0
  while #jobs < want * PARTS and this.bytes < MOST_BYTES and this.ended < MOST_ENDED and not this.stops do
    local room = want - #jobs / PARTS
    local asked = behind > 0 and SLICE or math.min(room, SLICE)
    local slice = next_ones(queue, length, behind, asked)
    local taken, starts, seen, consumed, picked = {}, {}, {}, 0, nil
    for i = #slice, 1, -1 do
      local payload = slice[i]
      local id = id_of(payload)
      local job = jobs_prefix .. id
      local f = call("HMGET", job, "status", "run", "expires_ms", "sum")
      local status, expires_ms, run, attempts, lost, before = f[1], f[3] and f[3] + 0 or 0, 0, 0, 0, nil
      if f[2] then -- only jobs that ran before have these
        before = call("HMGET", job, "died_with", "loss_limit", "skipped_ms", "attempts", "lost")
        run, attempts, lost = f[2] + 0, (before[4] or 0) + 0, (before[5] or 0) + 0
      end
      local leaves = true
      if f[4] and is_stale(f[4], payload) then
        this.ended = this.ended + 1
      elseif (not status or status == "queued") and not seen[id] and not (expires_ms > 0 and expires_ms <= now) then
        local with, fits, skipped_ms = "others", this.company == "others" or this.company == "", nil
        if lost > 0 or not fits then with, fits, skipped_ms = lost_rules(this).judge(job, lost, before) end
        if fits then
          this.company = with
          if with == "alone" then this.stops = true end
          taken[#taken + 1] = payload
          local at = #starts
          starts[at + 1], starts[at + 2], starts[at + 3] = id, run, attempts
          starts[at + 4], starts[at + 5], starts[at + 6] = lost, status and 0 or 1, job
          seen[id] = true
          this.bytes = this.bytes + #payload
        elseif this.was_free and this.company == "others" then -- it has what it may take, and asks again as a busy one
          this.is_early, this.stops, leaves = true, true, false
        else
          this.rules.skip(prefix, id, payload, with, skipped_ms)
          behind, leaves = behind + 1, false
        end
      elseif not seen[id] then
        clear_away(prefix, id, payload, read_job(prefix, id))
        this.ended = this.ended + 1
      end
      if leaves and behind == 0 then
        consumed = consumed + 1
      elseif leaves then
        picked = picked or {}
        picked[#picked + 1] = payload
      end
      if #taken >= room or this.stops or this.bytes >= MOST_BYTES or this.ended >= MOST_ENDED then break end
    end
    local is_moved = #taken == 1 and consumed == 1 -- one command in place of two
    if is_moved then
      call("LMOVE", queue, prefix .. "processing:" .. owner, "RIGHT", "LEFT")
    elseif #taken > 0 then
      call("LPUSH", prefix .. "processing:" .. owner, unpack(taken))
    end
    for i, payload in ipairs(taken) do
      local at = i * 6 - 6
      start(jobs, number, starts[at + 6], starts[at + 1], payload, starts[at + 2], starts[at + 3], starts[at + 4], starts[at + 5], owner)
    end
    if consumed > 0 and not is_moved then call("LTRIM", queue, 0, -consumed - 1) end
    length = length - consumed
    if picked then
      for _, payload in ipairs(picked) do call("LREM", queue, -1, payload) end
      length = length - #picked
    end
    if #slice < asked then break end
  end
  return length
end

-- `hand`: number of the queue -> { id -> true } of the jobs that the owner knows. `keeps`: the company of its
-- process, "" if it is free. `emptied`: number of the queue -> true where the owner's list is known to be empty.
-- Returns state, jobs, pause_ms, company (of the jobs); the states:
--   "ok"      jobs is flat, seven items each: payload, number of the queue, id, run, attempts, lost, 1 if it had no hash
--   "more"    as "ok", but the call stopped early: this owner may claim again at once
--   "blocked" as "ok", and jobs of another company wait: a wait on the list would bring one that cannot be taken. Claim
--             again later, and once nothing runs
--   "drain"   as "blocked", and this owner's process gets nothing until nothing runs in it
--   "late"    the lease has run out, but the owner was not declared dead yet: claim again after the next heartbeat
--   "lost"    the owner is not registered or was declared dead: it holds nothing any more
--   "paused"  nothing was claimed and every queue is paused: for pause_ms more, or -1 until resumed
local function claim(queues, owner, want, hand, keeps, emptied)
  local late, lost = false, false
  for _, queue in ipairs(queues) do
    local lease = tonumber(redis.call("ZSCORE", prefix_of(queue) .. "owners", owner) or -1)
    if lease < 0 then lost = true elseif lease <= now then late = true end
  end
  if lost or late then
    -- a producer rings only for the first job of an empty queue: an owner that took it and may not claim rings again
    for _, queue in ipairs(queues) do
      if redis.call("EXISTS", queue) == 1 then ring(prefix_of(queue)) end
    end
    return lost and "lost" or "late", {}, 0, ""
  end

  -- what has been taken and cleared away so far, and the company of the process. Later also: `stops`, nothing more
  -- is taken; `is_early` and `must_drain`, see above; `rules` and how much was skipped
  local this = { jobs = {}, company = keeps, was_free = keeps == "", ended = 0, bytes = 0 }
  local jobs, all_paused, pause_ms = this.jobs, true, -1
  local lengths, most, hints, overdue = {}, {}, nil, nil
  for number, queue in ipairs(queues) do
    local prefix = prefix_of(queue)
    local meta = redis.call("HMGET", prefix .. "meta", "paused", "batch", "skipped")
    local until_ms, hint = tonumber(meta[1] or 0), meta[3]
    local paused = until_ms == -1 or until_ms > now
    most[number] = meta[2] == "0" and 1 or want
    if not paused then
      all_paused = false
    elseif until_ms > 0 and (pause_ms == -1 or until_ms - now < pause_ms) then
      pause_ms = until_ms - now
    end
    if hint then
      hints = hints or {}
      hints[number] = hint
      lost_rules(this).note_hint(prefix)
    end
    if not emptied[number] then adopt(this, number, prefix, owner, hand[number] or {}, paused) end
    local length = paused and 0 or redis.pcall("LLEN", queue)
    -- a key of another type keeps neither the other queues from being served nor their bell ringing
    lengths[number] = type(length) == "number" and length or 0
    if hint and not paused and this.rules.is_overdue(prefix, hint) then
      overdue = overdue or {}
      overdue[number] = true
    end
  end

  -- jobs that were skipped for too long: a free process takes them in a first round, others may have to drain
  local is_first = overdue and this.company == ""
  if is_first then
    this.company = "lost"
  elseif overdue then
    for number in pairs(overdue) do
      if this.rules.drains(prefix_of(queues[number]), owner) then this.must_drain = true end
    end
  end
  if this.must_drain or this.company == "alone" then this.stops = true end
  for round = is_first and 1 or 2, 2 do
    for number, queue in ipairs(queues) do
      local left = lengths[number]
      if left > 0 and (round == 2 or overdue[number]) and not this.stops and #jobs < want * PARTS then
        left = take(this, number, prefix_of(queue), owner, math.min(want, #jobs / PARTS + most[number]), left)
        lengths[number] = left
      end
      if left > 0 then ring(prefix_of(queue)) end
    end
    if this.company == "lost" then -- it is out of sight
      this.company, this.stops, this.skipped, this.skipped_bytes = "", false, 0, 0
    end
  end
  if hints then
    for number in pairs(hints) do this.rules.end_of_drain(prefix_of(queues[number])) end
  end

  if all_paused and #jobs == 0 then return "paused", {}, pause_ms, "" end
  local state = "ok"
  if this.must_drain then
    state = "drain"
  elseif this.is_early or this.ended >= MOST_ENDED and #jobs == 0 then
    state = "more"
  elseif this.rules and this.skipped > 0 or this.company ~= "" and this.company ~= "others" then
    state = "blocked"
  end
  return state, jobs, 0, this.company
end
