-- ARGV[1]  token
-- ARGV[2]  lease, microseconds
-- ARGV[3]  how long the record is kept, milliseconds; 0: until it is settled
--
-- 1  held
-- 0  lost
if state ~= 1 or owner ~= ARGV[1] then
  return 0
end

local time = redis.call('TIME')
local value = string.sub(record, 1, 62) .. struct.pack('>I8I4', time[1] * 1000000 + time[2] + ARGV[2], 0)
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], value)
else
  redis.call('SET', KEYS[1], value, 'PX', ARGV[3])
end
return 1
