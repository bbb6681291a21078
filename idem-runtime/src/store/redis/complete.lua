-- ARGV[1]  token
-- ARGV[2]  version and state of the new record (2 bytes)
-- ARGV[3]  what is added to the clock for the record's time, microseconds; empty: its time is 0
-- ARGV[4]  how long the record is kept, milliseconds; 0: until it is settled
-- ARGV[5]  length (4 bytes) and bytes of the answer or the note
--
-- 1  held
-- 0  lost
if state == ABSENT or state == UNREADABLE or state == RELEASED or owner ~= ARGV[1] then
  return 0
end
if state ~= 1 and state ~= 4 then
  -- Asked again. The write changes nothing, but a `WAIT` behind it then waits for what the first one wrote.
  redis.call('SETRANGE', KEYS[1], '0', string.sub(record, 1, 1))
  return 1
end

local at = 0
if ARGV[3] ~= '' then
  at = now() + ARGV[3]
end
if layout == 3 then
  if ARGV[4] == '0' then
    date()
  else
    -- No fence is asked for behind a completed operation.
    fence = 0
  end
end
put(ARGV[2] .. fingerprint .. owner .. struct.pack('>I8I4I8', fence, attempt, at) .. ARGV[5], ARGV[4])
return 1
