-- KEYS[1]  the record
-- ARGV[1]  fingerprint (32 bytes), token (16 bytes)
-- ARGV[2]  lease, microseconds
-- ARGV[3]  how long the record is kept, milliseconds; 0: until it is settled
-- ARGV[4]  an abandoned record: 0 is taken over, 1 becomes unknown
--
-- fence            won, first attempt      {1, fence, attempt}  won
-- -1               unreadable              {2, microseconds}    busy
-- -2               mismatch                {3, fence, attempt}  unknown
-- -3               completed, no answer    {4, fence, attempt, note}  parked
--                                          a string             completed, the whole record
--
-- No shebang: with one, the whole script is refused at the memory limit. This one still replays there.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local value = '\1\1' .. ARGV[1] .. struct.pack('>I8I4I8I4', now, 1, now + ARGV[2], 0)
-- One command, for calling the next costs more than this one does for being longer.
local record
if ARGV[3] == '0' then
  record = redis.pcall('SET', KEYS[1], value, 'NX', 'GET')
else
  record = redis.pcall('SET', KEYS[1], value, 'NX', 'GET', 'PX', ARGV[3])
end
if not record then
  return now
end
if type(record) == 'table' then
  -- The server does not write: there is no memory left, or no replica. What is there, it still reads.
  local refused = record
  record = redis.call('GET', KEYS[1])
  if not record then
    return refused
  end
end

if #record < 74 then
  return -1
end
local layout, state = string.byte(record, 1, 2)
if layout == 2 then
  -- Released with its attempt remembered, so nobody's; or parked.
  if state ~= 5 and (state ~= 1 or string.sub(record, 35, 50) ~= string.rep('\0', 16)) then
    return -1
  end
elseif layout ~= 1 or state < 1 or state > 4 then
  return -1
end
-- A fence beyond 2^53 would lose its last digit in a Lua number.
local fence, attempt, time, length = struct.unpack('>I8I4I8I4', record, 51)
if #record ~= 74 + length or fence >= 9007199254740992 then
  return -1
end

if string.sub(record, 3, 34) ~= string.sub(ARGV[1], 1, 32) then
  return -2
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

if state == 2 then
  if time == 0 or now < time then
    return record
  end
  return -3
end

if layout == 2 or string.sub(record, 35, 50) ~= string.sub(ARGV[1], 33, 48) then
  if layout == 1 and now < time then
    return {2, time - now}
  end
  if layout == 1 and ARGV[4] == '1' then
    redis.call('SET', KEYS[1], '\1\4' .. string.sub(record, 3, 62) .. struct.pack('>I8I4', now, 0))
    return {3, fence, attempt}
  end
  fence = math.max(fence + 1, now)
  attempt = attempt + 1
end

value = '\1\1' .. ARGV[1] .. struct.pack('>I8I4I8I4', fence, attempt, now + ARGV[2], 0)
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], value)
else
  redis.call('SET', KEYS[1], value, 'PX', ARGV[3])
end
return {1, fence, attempt}
