local KNOWN = {
  queued = true, started = true, scheduled = true, deferred = true,
  finished = true, failed = true, canceled = true, stopped = true, expired = true,
}
local ENDED = { finished = true, failed = true, canceled = true, stopped = true, expired = true }
