-- 1   the key is absent now
-- 0   it was
-- 2   in flight
-- 3   unknown or parked
date()
-- Without an attempt it is nobody's operation, and only its fence counts.
if state == ABSENT or (state == RELEASED and attempt == 0) then
  return 0
end
if state == UNREADABLE then
  redis.call('DEL', KEYS[1])
  return 1
end
if state == 5 or is_unknown() then
  return 3
end
if state == 1 then
  return 2
end
forget()
return 1
