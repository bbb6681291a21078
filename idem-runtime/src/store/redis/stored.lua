-- What a renewal, a completion, a release and a verdict begin with.
--
-- KEYS[1]  the record
--
-- record  its bytes, if there are any
-- state   what they say, judged as the claim judges: 1 to 5 as written in them, or one of these
local ABSENT, UNREADABLE, RELEASED = 0, -1, 6

local nobody = string.rep('\0', 16)
local record = redis.call('GET', KEYS[1])
local state = ABSENT
if record then
  state = UNREADABLE
  if #record >= 74 then
    local layout, written = string.byte(record, 1, 2)
    local high, next = string.byte(record, 51, 52)
    -- A fence from 2^53 up is none.
    if high == 0 and next < 32 and #record == 74 + struct.unpack('>I4', record, 71) then
      if (layout == 1 and written >= 1 and written <= 4) or (layout == 2 and written == 5) then
        state = written
      elseif layout == 2 and written == 1 and string.sub(record, 35, 50) == nobody then
        state = RELEASED
      end
    end
  end
end

