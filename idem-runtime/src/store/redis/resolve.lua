#!lua flags=allow-oom
-- KEYS[1]  the record
-- ARGV[1]  the fence it must have (8 bytes), or empty: any
-- ARGV[2]  version and state of the new record (2 bytes), or empty: the key becomes absent
-- ARGV[3]  what is added to the clock for the record's time, microseconds; empty: its time is 0
-- ARGV[4]  how long the record is kept, milliseconds; 0: until it is settled
-- ARGV[5]  length (4 bytes) and bytes of the answer or the note
--
-- 1  applied
-- 0  neither unknown nor parked, or another fence
local record = redis.call('GET', KEYS[1])
if not record or #record < 74 then
  return 0
end
local head = string.sub(record, 1, 2)
if not (head == '\1\4' and #record == 74 or head == '\2\5' and #record == 74 + struct.unpack('>I4', record, 71)) then
  return 0
end
local high, next = string.byte(record, 51, 52)
-- As the claim judges it: a fence from 2^53 up is none.
if high ~= 0 or next >= 32 then
  return 0
end
if ARGV[1] ~= '' and string.sub(record, 51, 58) ~= ARGV[1] then
  return 0
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
  return 1
end

local at = '\0\0\0\0\0\0\0\0'
if ARGV[3] ~= '' then
  local time = redis.call('TIME')
  at = struct.pack('>I8', time[1] * 1000000 + time[2] + ARGV[3])
end
-- The token goes: a verdict is nobody's completion, so the last owner's own comes too late.
local value = ARGV[2] .. string.sub(record, 3, 34) .. string.rep('\0', 16) .. string.sub(record, 51, 62) .. at .. ARGV[5]
if ARGV[4] == '0' then
  redis.call('SET', KEYS[1], value)
else
  redis.call('SET', KEYS[1], value, 'PX', ARGV[4])
end
return 1
