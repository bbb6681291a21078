#!lua flags=allow-oom
-- KEYS[1]  the record
-- ARGV[1]  token
--
-- 1  held, the key is absent now
-- 0  lost
-- 2  absent already
local record = redis.call('GET', KEYS[1])
if not record then
  return 2
end
local version, state = string.byte(record, 1, 2)
if #record ~= 74 or version ~= 1 or (state ~= 1 and state ~= 4) or string.sub(record, 35, 50) ~= ARGV[1] then
  return 0
end
local high, next = string.byte(record, 51, 52)
-- As the claim judges it: a fence from 2^53 up is none.
if high ~= 0 or next >= 32 then
  return 0
end
redis.call('DEL', KEYS[1])
return 1
