-- A script is given the key of the waiting list; the queue's other keys share its prefix (and slot).
local function prefix_of(queue) return string.sub(queue, 1, -6) end

-- A bell has one member however often it is rung; a worker that takes it looks into the queue.
local function ring(prefix) redis.call("ZADD", prefix .. "bell", 0, "1") end
