-- Setting aside: a key that cannot be read (of another type, or with a field that is no number) stops no queue. The
-- payload of its job goes to payload:<id> and the id into the index `unknown`, without a TTL; requeue brings the job back
-- once the key is mended or deleted. So does the job of a newer minirq, whose status this one does not know.

-- the jobs that this call has set aside, flat: queue, id, reason
local aside = {}

-- Why a job cannot be read, by the error that was caught. Any other error is raised again.
local function reason_of(err)
  local text = type(err) == "string" and err or err.err
  if string.find(text, "WRONGTYPE", 1, true) then return "one of its keys is of another type (WRONGTYPE)" end
  if string.find(text, "attempt to", 1, true) then return "a field of its record is no number" end
  error(err, 0)
end

-- Without a payload, payload:<id> stays unchanged.
local function set_aside(prefix, id, payload, why)
  local job = prefix .. "job:" .. id
  if payload then redis.call("SET", prefix .. "payload:" .. id, payload) end
  redis.call("ZADD", prefix .. "unknown", now, id)
  local status = redis.pcall("HGET", job, "status")
  if type(status) == "string" and is_known(status) then
    redis.call("HSET", job, "status", "unknown")
    redis.call("HDEL", job, "owner")
    redis.call("PERSIST", job)
  end
  local at = #aside
  aside[at + 1], aside[at + 2], aside[at + 3] = string.match(prefix, "{(.*)}:$"), id, why
end
