-- A running job is asked to stop: `stop` says in which status it shall end, and who asked first decides.
-- Its worker is told: "<run> <bytes of the owner> <bytes of the queue> <owner><queue><id>". What it misses it finds
-- when it looks.
local function interrupt(prefix, id, status)
  local job = prefix .. "job:" .. id
  redis.call("HSETNX", job, "stop", status)
  local f = redis.call("HMGET", job, "run", "owner")
  local owner = f[2] or ""
  -- a user who may not publish can still ask: the worker looks from time to time
  local namespace, queue = string.match(prefix, "^(.-):{(.*)}:$")
  local told = (f[1] or 0) .. " " .. #owner .. " " .. #queue .. " " .. owner .. queue .. id
  redis.pcall("PUBLISH", namespace .. ":stops", told)
end
