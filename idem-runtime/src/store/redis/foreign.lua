-- Deletes what is no string, and so no record of ours. A record that somebody made meanwhile stays.
--
-- KEYS[1]  the key
--
-- 1  deleted
-- 0  a string lies there, or nothing
local read = redis.pcall('GET', KEYS[1])
if type(read) == 'table' and read.err then
  return redis.call('DEL', KEYS[1])
end
return 0
