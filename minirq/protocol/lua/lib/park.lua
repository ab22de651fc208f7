-- Parking: the payload moves from the lists to its own key, the status says so, and the index of
-- that status has the id. An ended job's keys get their TTL here and lose it when it is requeued.

-- a mark among the waiters of a job whose enqueue was sent twice: its caller may ask later whether it has acted
local IN_DOUBT = "+"
-- a result with a waiter is kept at least this long
local WAITED_MS = 60000

-- Whoever waits finds the id in the mailbox, whichever way the job ended.
local function tell(prefix, id, waiters)
  if not waiters then return end
  for waiter in string.gmatch(waiters, "%S+") do
    if waiter ~= IN_DOUBT then
      redis.pcall("RPUSH", prefix .. "mailbox:" .. waiter, id) -- a hint
      redis.call("PEXPIRE", prefix .. "mailbox:" .. waiter, WAITED_MS)
    end
  end
end

-- A batch writes its entries of an index together: put here instead, "index key" -> { score, id, … }.
local batched

local function index(key, score, id)
  if not batched then redis.call("ZADD", key, score, id) return end
  local entries = batched[key]
  if not entries then entries = {} batched[key] = entries end
  entries[#entries + 1] = score
  entries[#entries + 1] = id
end

-- each TTL as text, and the time at which it ends
local ttls = {}
local function spelled(ttl_ms)
  local known = ttls[ttl_ms]
  if not known then
    known = { string.format("%.0f", ttl_ms), string.format("%.0f", now + ttl_ms) }
    ttls[ttl_ms] = known
  end
  return known
end

-- Behind `blemished`: what to write into the hash besides status and ended_ms. ttl_ms: -1 for ever, 0 a tombstone.
-- blemished: the job has errors on record, whose list must end with it.
local function park(prefix, id, payload, status, ttl_ms, waiters, blemished, ...)
  local call, job = redis.call, prefix .. "job:" .. id
  if waiters and waiters ~= IN_DOUBT and ttl_ms == 0 then ttl_ms = WAITED_MS end
  if ttl_ms == -1 then
    call("SET", prefix .. "payload:" .. id, payload)
    index(prefix .. status, "+inf", id)
  elseif ttl_ms > 0 then
    local ttl = spelled(ttl_ms)
    call("SET", prefix .. "payload:" .. id, payload, "PX", ttl[1])
    index(prefix .. status, ttl[2], id)
  end
  call("HSET", job, "status", status, "ended_ms", now_text, ...)
  if ttl_ms >= 0 then
    local least_ms = ttl_ms == 0 and TOMBSTONE_MS or LEAST_KEPT_MS
    if waiters and string.find(waiters, IN_DOUBT, 1, true) then least_ms = DOUBT_MS end
    local keep = spelled(ttl_ms > least_ms and ttl_ms or least_ms)[1]
    call("PEXPIRE", job, keep)
    if blemished then call("PEXPIRE", prefix .. "errors:" .. id, keep) end
  end
  if waiters then
    call("HDEL", job, "waiters")
    tell(prefix, id, waiters)
  end
end

-- The last ten failed attempts and deaths, newest first: "ms blob".
local function note_error(prefix, id, blob)
  local errors = prefix .. "errors:" .. id
  redis.call("LPUSH", errors, now_text .. " " .. blob)
  redis.call("LTRIM", errors, 0, 9)
  redis.call("PERSIST", errors) -- a requeue has given them a TTL
end

-- Delayed: parked until its time. The chores of some worker are told if it is now the earliest.
local function schedule(prefix, id, payload, due_ms, ...)
  redis.call("SET", prefix .. "payload:" .. id, payload)
  redis.call("ZADD", prefix .. "scheduled", due_ms, id)
  redis.call("HSET", prefix .. "job:" .. id, "status", "scheduled", ...)
  local first = redis.call("ZRANGE", prefix .. "scheduled", 0, 0)
  if first[1] == id then
    local namespace, queue = string.match(prefix, "^(.-):{(.*)}:$")
    -- a hint: without the right to publish, workers find the job at their next look
    redis.pcall("PUBLISH", namespace .. ":chores", queue)
  end
end
