-- The server's time decides, in whole milliseconds. It is formatted once: otherwise every call formats it again,
-- which takes as long as the call.
local clock = redis.call("TIME")
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local now_text = string.format("%.0f", now)
