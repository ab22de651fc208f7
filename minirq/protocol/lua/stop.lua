-- stop: a running job is interrupted and ends as stopped; any other is left alone.
--
-- KEYS  1 the waiting list
-- ARGV  1 id
-- Returns the job's status, "" if there is no such job: only "started" was acted on
--#include keys interrupt room

local prefix = prefix_of(KEYS[1])

local status = redis.call("HGET", prefix .. "job:" .. ARGV[1], "status")
if status == "started" then interrupt(prefix, ARGV[1], "stopped") end
return status or ""
