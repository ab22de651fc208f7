-- Time that decides is the server's, in whole milliseconds. As text it is made once: numbers are spelled
-- out anew at every call otherwise, which takes as long as the call.
local clock = redis.call("TIME")
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local now_text = string.format("%.0f", now)
