-- wait: register a waiter for the end of a job, or remove it.
--
-- KEYS  1 the waiting list
-- ARGV  1 id · 2 waiter · 3 "1" to register, "0" to leave
-- Returns the job's status, "" if there is no such job; a job that has ended registers no waiter
--#include time keys states room

local prefix = prefix_of(KEYS[1])

local job, waiter = prefix .. "job:" .. ARGV[1], ARGV[2]
local f = redis.call("HMGET", job, "status", "waiters")
if not f[1] then return "" end
local others = {}
for other in string.gmatch(f[2] or "", "%S+") do
  if other ~= waiter then others[#others + 1] = other end
end
if ARGV[3] == "1" and not is_ended(f[1]) then others[#others + 1] = waiter end
if #others > 0 then redis.call("HSET", job, "waiters", table.concat(others, " "))
elseif f[2] then redis.call("HDEL", job, "waiters") end
if ARGV[3] == "0" then redis.call("DEL", prefix .. "mailbox:" .. waiter) end
return f[1]
