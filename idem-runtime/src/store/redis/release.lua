#!lua flags=allow-oom
-- KEYS[1]  the record
-- ARGV[1]  token
-- ARGV[2]  how long the attempt is remembered, milliseconds; empty: not at all
--
-- 1  held, the key is absent or nobody's now
-- 0  lost
-- 2  absent or nobody's already
local record = redis.call('GET', KEYS[1])
if not record then
  return 2
end
local nobody = string.rep('\0', 16)
local version, state = string.byte(record, 1, 2)
if #record == 74 and version == 2 and state == 1 and string.sub(record, 35, 50) == nobody then
  return 2
end
if #record ~= 74 or version ~= 1 or (state ~= 1 and state ~= 4) or string.sub(record, 35, 50) ~= ARGV[1] then
  return 0
end
local high, next = string.byte(record, 51, 52)
-- As the claim judges it: a fence from 2^53 up is none.
if high ~= 0 or next >= 32 then
  return 0
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  local value = '\2\1' .. string.sub(record, 3, 34) .. nobody .. string.sub(record, 51, 62) .. string.rep('\0', 12)
  redis.call('SET', KEYS[1], value, 'PX', ARGV[2])
end
return 1
