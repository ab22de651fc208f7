-- The id is the payload's first item: a msgpack string of at most 255 bytes, which has three possible
-- headers. A payload without a readable id is known by the SHA-1 of its bytes.
local byte, sub = string.byte, string.sub

local function id_of(payload)
  local array, head, len, more = byte(payload, 1, 4)
  local from
  if array and array >= 0x91 and array <= 0x9f and head then
    if head >= 0xa1 and head <= 0xbf then from, len = 3, head - 0xa0
    elseif head == 0xd9 and len then from = 4
    elseif head == 0xda and more then from, len = 5, len * 256 + more
    end
  end
  if from and len >= 1 and len <= 255 and #payload >= from + len - 1 then
    return sub(payload, from, from + len - 1)
  end
  return redis.sha1hex(payload)
end

-- The record of an id that its caller chose has the `sum` of the payload that may run. An older payload of the id
-- may still be in a list (a script was cut off): that copy is dropped where it is met.
local function is_stale(sum, payload) return sum and sum ~= redis.sha1hex(payload) end
