-- show: write a worker's public status, for display only.
--
-- KEYS  1 the worker's hash (global)
-- ARGV  1 how long it is kept without another heartbeat, ms · field, value, …
-- Returns 1
--
-- In one step: a worker that died between two writes would leave a hash without a TTL.

redis.call("HSET", KEYS[1], unpack(ARGV, 2))
redis.call("PEXPIRE", KEYS[1], ARGV[1])
return 1
