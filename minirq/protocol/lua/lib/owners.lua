-- a lease cannot end later than this unless the clock went back; then a sweep shortens it
local LONGEST_LEASE_MS = 600000

local function has_endless_lease(owners)
  return redis.call("ZCOUNT", owners, now + LONGEST_LEASE_MS, "+inf") > 0
end

-- Whether a lease has run out or may be too long, or a dead owner no longer has to be remembered.
local function sweep_is_due(owners)
  return redis.call("ZCOUNT", owners, -now, now) > 0 or has_endless_lease(owners)
end
