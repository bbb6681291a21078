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

put('\1\1' .. fingerprint .. owner .. struct.pack('>I8I4I8I4', fence, attempt, now() + ARGV[2], 0), ARGV[3])
return 1
