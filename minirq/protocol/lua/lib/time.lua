-- Time that decides is the server's, in whole milliseconds.
local clock = redis.call("TIME")
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
