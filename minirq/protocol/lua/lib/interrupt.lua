-- Ask a running job to stop: `stop` is the status in which it shall end; the first request decides. The message to
-- its worker is "<run> <bytes of the owner> <bytes of the queue> <owner><queue><id>". A worker that misses it finds
-- the request in the record, at its next heartbeat.
local function interrupt(prefix, id, status)
  local job = prefix .. "job:" .. id
  redis.call("HSETNX", job, "stop", status)
  local f = redis.call("HMGET", job, "run", "owner")
  local owner = f[2] or ""
  -- without the right to publish, the request still reaches the worker, at its next heartbeat
  local namespace, queue = string.match(prefix, "^(.-):{(.*)}:$")
  local told = (f[1] or 0) .. " " .. #owner .. " " .. #queue .. " " .. owner .. queue .. id
  redis.pcall("PUBLISH", namespace .. ":stops", told)
end
