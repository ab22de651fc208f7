-- stop: interrupt a running job, which ends as stopped; any other job stays unchanged.
--
-- KEYS  1 the waiting list
-- ARGV  1 id
-- Returns the job's status, "" if there is no such job; only a "started" job was interrupted
--#include keys interrupt room

local prefix = prefix_of(KEYS[1])

local status = redis.call("HGET", prefix .. "job:" .. ARGV[1], "status")
if status == "started" then interrupt(prefix, ARGV[1], "stopped") end
return status or ""
