local function is_ended(status)
  return status == "finished" or status == "failed" or status == "canceled" or status == "stopped" or status == "expired"
end

local function is_known(status)
  return status == "queued" or status == "started" or status == "scheduled" or status == "deferred" or is_ended(status)
end
