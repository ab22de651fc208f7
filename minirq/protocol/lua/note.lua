-- note: write fields into the record of a job that exists; never create a record.
--
-- KEYS  1 the waiting list
-- ARGV  1 id · 2 run ("" = any run) · field, value, …
-- Returns 1, or 0 if there is no such job (or another run has it)
--#include time keys room

local prefix = prefix_of(KEYS[1])

local job = prefix .. "job:" .. ARGV[1]
local run = redis.pcall("HMGET", job, "status", "run") -- of another type: there is no such job
if not run[1] or (ARGV[2] ~= "" and run[2] ~= ARGV[2]) then return 0 end
redis.call("HSET", job, unpack(ARGV, 3))
return 1
