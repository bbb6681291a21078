-- ARGV[1]  the fence it must have, or empty: any
-- ARGV[2]  version and state of the new record (2 bytes), or empty: the key becomes absent
-- ARGV[3]  what is added to the clock for the record's time, microseconds; empty: its time is 0
-- ARGV[4]  how long the record is kept, milliseconds; 0: until it is settled
-- ARGV[5]  length (4 bytes) and bytes of the answer or the note
--
-- 1  applied
-- 0  neither unknown nor parked, or another fence
date()
if not (state == 5 or is_unknown()) or (ARGV[1] ~= '' and fence ~= tonumber(ARGV[1])) then
  return 0
end
if ARGV[2] == '' then
  forget()
  return 1
end

local at = 0
if ARGV[3] ~= '' then
  at = now() + ARGV[3]
end
-- The token goes: a verdict is nobody's completion, so the last owner's own comes too late.
put(ARGV[2] .. fingerprint .. nobody .. struct.pack('>I8I4I8', fence, attempt, at) .. ARGV[5], ARGV[4])
return 1
