#!lua flags=allow-oom
-- KEYS[1]  the record
-- ARGV[1]  token
-- ARGV[2]  version and state of the new record (2 bytes)
-- ARGV[3]  what is added to the clock for the record's time, microseconds; empty: its time is 0
-- ARGV[4]  how long the record is kept, milliseconds; 0: until it is settled
-- ARGV[5]  length (4 bytes) and bytes of the answer
--
-- 1  held
-- 0  lost
--
-- `allow-oom`: an effect that happened is recorded even at the memory limit. Claims are what is refused there.
local record = redis.call('GET', KEYS[1])
if not record or #record < 74 or string.sub(record, 35, 50) ~= ARGV[1] then
  return 0
end

local version, state = string.byte(record, 1, 2)
local high, next = string.byte(record, 51, 52)
-- As the claim judges it: a fence from 2^53 up is none.
if not (version == 1 or version == 2) or high ~= 0 or next >= 32 then
  return 0
end
if state == 2 or state == 3 or state == 5 then
  if #record ~= 74 + struct.unpack('>I4', record, 71) then
    return 0
  end
  -- Asked again. The write changes nothing, but a `WAIT` behind it then waits for what the first one wrote.
  redis.call('SETRANGE', KEYS[1], '0', string.char(version))
  return 1
end
if #record ~= 74 or (state ~= 1 and state ~= 4) then
  return 0
end

local at = '\0\0\0\0\0\0\0\0'
if ARGV[3] ~= '' then
  local time = redis.call('TIME')
  at = struct.pack('>I8', time[1] * 1000000 + time[2] + ARGV[3])
end
local value = ARGV[2] .. string.sub(record, 3, 62) .. at .. ARGV[5]
if ARGV[4] == '0' then
  redis.call('SET', KEYS[1], value)
else
  redis.call('SET', KEYS[1], value, 'PX', ARGV[4])
end
return 1
