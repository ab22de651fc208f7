-- A running job is asked to stop: `stop` says in which status it shall end, and who asked first decides.
-- Its worker is told: "<run> <length of the owner> <owner><id>". What it misses it finds when it looks.
local function interrupt(prefix, id, status)
  local job = prefix .. "job:" .. id
  redis.call("HSETNX", job, "stop", status)
  local f = redis.call("HMGET", job, "run", "owner")
  local owner = f[2] or ""
  -- a user who may not publish can still ask: the worker looks from time to time
  redis.pcall("PUBLISH", string.match(prefix, "^(.-):{") .. ":stops", (f[1] or 0) .. " " .. #owner .. " " .. owner .. id)
end
