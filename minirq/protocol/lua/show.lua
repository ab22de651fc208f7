-- show: a worker says what it is and does, for people.
--
-- KEYS  1 the worker's hash (global)
-- ARGV  1 how long it is kept without another beat, ms · field, value, …
-- Returns 1
--
-- In one step: a worker that died between the two writes of its first beat would leave a hash for ever.

redis.call("HSET", KEYS[1], unpack(ARGV, 2))
redis.call("PEXPIRE", KEYS[1], ARGV[1])
return 1
