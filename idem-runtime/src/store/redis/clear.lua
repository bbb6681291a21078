-- Deletes what was seen under a key, unless something else lies there by now.
--
-- KEYS[1]  the key
-- ARGV[1]  what was seen
--
-- 1  deleted
-- 0  something else lies there, or nothing
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
