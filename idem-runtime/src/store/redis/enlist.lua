#!lua flags=allow-oom
-- KEYS[1]  the list of parked records
-- ARGV[1]  the entry
if redis.call('ZADD', KEYS[1], '0', ARGV[1]) == 0 then
  -- Asked again. A `WAIT` behind it must wait for what the first one wrote.
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('ZADD', KEYS[1], '0', ARGV[1])
end
return 1
