-- enqueue: a new job waits, or is parked until its time; or an ended job's id is used anew.
--
-- KEYS  1 the waiting list
-- ARGV  1 number of jobs, then for each job:
--       id · nonce ("" if the id itself is unique) · place (queue, front, delay, at) · ms (for delay and at)
--       · ttl_ms ("" none: not started this long after it may run, it has expired)
--       · number of further hash fields · field, value, … · payload
-- Returns for each job { code, status }:
--       1 enqueued · 2 this very call had enqueued it already · 0 the id lives (its status) and was left alone
--       -1 the id was canceled while it waited and its old payload has not been met in the list yet
--
-- No write comes before the checks, so at maxmemory the server refuses the whole call: QueueFull.
--#include time keys states park

local prefix = prefix_of(KEYS[1])
local replies, rang = {}, false
local at = 2

for _ = 1, tonumber(ARGV[1]) do
  local id, nonce, place, ms, ttl_ms = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]), ARGV[at + 4]
  local count = tonumber(ARGV[at + 5])
  local fields = { "created_ms", now }
  for i = at + 6, at + 5 + count do fields[#fields + 1] = ARGV[i] end
  local payload = ARGV[at + 6 + count]
  at = at + 7 + count

  local job = prefix .. "job:" .. id
  local old = redis.call("HMGET", job, "status", "nonce", "run")
  local code = 1
  if old[1] then
    if (old[2] or "") == nonce then code = 2
    elseif not ENDED[old[1]] then code = 0
    elseif old[1] == "canceled" and redis.call("TTL", job) == -1
      and redis.call("EXISTS", prefix .. "payload:" .. id) == 0 then code = -1
    else -- ended: the id starts a new life; run goes on counting, so that no older run fits
      redis.call("HSET", job, "status", old[1]) -- a first write that needs memory: a ZREM would be let through
      redis.call("ZREM", prefix .. old[1], id)
      redis.call("DEL", job, prefix .. "payload:" .. id, prefix .. "errors:" .. id)
      if old[3] then fields[#fields + 1] = "run" fields[#fields + 1] = old[3] end
    end
  end

  if code == 1 then
    if nonce ~= "" then fields[#fields + 1] = "nonce" fields[#fields + 1] = nonce end
    local due_ms = now
    if place == "delay" then due_ms = now + ms elseif place == "at" then due_ms = ms end
    if ttl_ms ~= "" then
      fields[#fields + 1] = "expires_ms"
      fields[#fields + 1] = math.max(due_ms, now) + tonumber(ttl_ms)
    end
    if due_ms > now then
      schedule(prefix, id, payload, due_ms, unpack(fields))
    else
      redis.call(place == "front" and "RPUSH" or "LPUSH", KEYS[1], payload)
      redis.call("HSET", job, "status", "queued", unpack(fields))
      if not rang then ring(prefix) rang = true end
    end
  end
  replies[#replies + 1] = { code, old[1] or "" }
end
return replies
