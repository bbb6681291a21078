-- ARGV[1]  token
-- ARGV[2]  lease, microseconds
-- ARGV[3]  how long the record is kept, milliseconds; 0: until it is settled
--
-- 1  held
-- 0  lost
date()
if state ~= 1 or owner ~= ARGV[1] then
  return 0
end

local clock = redis.call('TIME')
local till = clock[1] * 1000000 + clock[2] + ARGV[2]
local value = '\1\1' .. fingerprint .. owner .. struct.pack('>I8I4I8I4', fence, attempt, till, 0)
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], value)
else
  redis.call('SET', KEYS[1], value, 'PX', ARGV[3])
end
return 1
