-- ARGV[1]  token
-- ARGV[2]  how long the attempt is remembered, milliseconds; empty: not at all
--
-- 1  held, the key is absent or nobody's now
-- 0  lost
-- 2  absent or nobody's already
date()
if state == ABSENT or state == RELEASED then
  return 2
end
if (state ~= 1 and state ~= 4) or owner ~= ARGV[1] then
  return 0
end

if ARGV[2] == '' then
  forget()
else
  put('\2\1' .. fingerprint .. nobody .. struct.pack('>I8I4I8I4', fence, attempt, 0, 0), ARGV[2])
end
return 1
