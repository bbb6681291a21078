-- ARGV[1]  fingerprint (32 bytes), token (16 bytes)
-- ARGV[2]  lease, microseconds
-- ARGV[3]  how long the record is kept, milliseconds; 0: until it is settled
-- ARGV[4]  an abandoned record: 0 is taken over unless it is kept until it is settled, 1 becomes unknown
--
-- fence            won, first attempt      {1, fence, attempt}  won
-- -1               unreadable              {2, microseconds}    busy
-- -2               mismatch                {3, fence, attempt}  unknown
-- -3               completed, no answer    {4, fence, attempt, note}  parked
--                                          a string             completed, the whole record
local function win(at, by, number)
  put('\1\1' .. ARGV[1] .. struct.pack('>I8I4I8I4', by, number, at + ARGV[2], 0), ARGV[3])
end

if state == ABSENT then
  local at = now()
  win(at, at, 1)
  return at
end
date()
if state == UNREADABLE then
  return -1
end
-- Without an attempt it is nobody's operation, and only its fence counts.
if fingerprint ~= string.sub(ARGV[1], 1, 32) and attempt > 0 then
  return -2
end
if state == 2 and time == 0 then
  return record
end
if state == 3 then
  return -3
end
if state == 4 then
  return {3, fence, attempt}
end
if state == 5 then
  return {4, fence, attempt, string.sub(record, 75)}
end

local at = now()
if state == 2 then
  if at < time then
    return record
  end
  return -3
end

if state == RELEASED or owner ~= string.sub(ARGV[1], 33, 48) then
  if state ~= RELEASED then
    if at < time then
      -- A claim without a script is dated at the end of its millisecond, which may not be over: no more is left than the lease.
      if layout == 3 then
        at = math.max(at, fence)
      end
      return {2, time - at}
    end
    if ARGV[4] == '1' or is_kept() then
      put('\1\4' .. fingerprint .. owner .. struct.pack('>I8I4I8I4', fence, attempt, at, 0), '0')
      return {3, fence, attempt}
    end
  end
  fence = math.max(fence + 1, at)
  attempt = attempt + 1
end
win(at, fence, attempt)
return {1, fence, attempt}
