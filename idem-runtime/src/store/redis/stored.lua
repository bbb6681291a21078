-- What every step on a record begins with.
--
-- KEYS[1]  the record
--
-- record  its bytes, if there are any
-- state   what they say, judged here for every step: 1 to 5 as written in them, or one of these
-- others  what else stands in them, where they can be read
local ABSENT, UNREADABLE, RELEASED = 0, -1, 6

local nobody = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
local record = redis.call('GET', KEYS[1])
local state = ABSENT
local layout, fingerprint, owner, fence, attempt, time, kept
if record then
  state = UNREADABLE
  if #record >= 74 then
    -- All at once: each call of a function costs more than the work it does.
    local written, length
    layout, written, fingerprint, owner, fence, attempt, time, length = struct.unpack('>BBc32c16I8I4I8I4', record)
    -- A fence from 2^53 up is none: its last digit would be lost in a Lua number.
    if fence < 9007199254740992 and #record == 74 + length then
      if layout == 1 and written >= 1 and written <= 4
        or layout == 2 and written == 5
        or layout == 3 and written == 1 then
        state = written
      elseif layout == 2 and written == 1 and owner == nobody then
        state = RELEASED
      end
    end
  end
end

-- The server's clock, in microseconds.
local function now()
  local clock = redis.call('TIME')
  return clock[1] * 1000000 + clock[2]
end

-- Writes a record that is kept for so many milliseconds; 0: until it is settled.
local function put(written, expiry)
  if expiry == '0' then
    redis.call('SET', KEYS[1], written)
  else
    redis.call('SET', KEYS[1], written, 'PX', expiry)
  end
end

-- A claim without a script has left it to the key's expiry to tell when it was made: its fence and the end of its lease follow.
local function date()
  if layout == 3 then
    local expires = redis.call('PEXPIRETIME', KEYS[1])
    if expires < 0 then
      state, fence = UNREADABLE, 0
      return
    end
    kept = fence
    -- The end of its millisecond: whoever comes in the next one has a larger fence.
    fence = (expires - kept) * 1000 + 999
    time = fence + time
  end
end

