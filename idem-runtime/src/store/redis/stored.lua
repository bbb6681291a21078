-- What a renewal, a completion, a release and a verdict begin with.
--
-- KEYS[1]  the record
--
-- record  its bytes, if there are any
-- owner   whose token is in them
-- state   what they say, judged as the claim judges: 1 to 5 as written in them, or one of these
local ABSENT, UNREADABLE, RELEASED = 0, -1, 6

local nobody = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
local record = redis.call('GET', KEYS[1])
local state, owner = ABSENT
if record then
  state = UNREADABLE
  if #record >= 74 then
    -- All at once: each call of a function costs more than the work it does.
    local layout, written, fingerprint, token, fence, attempt, time, length = struct.unpack('>BBc32c16I8I4I8I4', record)
    -- A fence from 2^53 up is none.
    if fence < 9007199254740992 and #record == 74 + length then
      owner = token
      if (layout == 1 and written >= 1 and written <= 4) or (layout == 2 and written == 5) then
        state = written
      elseif layout == 2 and written == 1 and token == nobody then
        state = RELEASED
      end
    end
  end
end

