-- Makes the key absent. A fence that the clock has not passed yet, be it by a part of a millisecond or because the clock was set
-- back, is left behind as nobody's until it has: the next one is to be larger.
local function forget()
  if fence < now() then
    redis.call('DEL', KEYS[1])
  else
    local value = '\2\1' .. fingerprint .. nobody .. struct.pack('>I8I4I8I4', fence, 0, 0, 0)
    redis.call('SET', KEYS[1], value, 'PXAT', string.format('%.0f', math.floor(fence / 1000) + 1))
  end
end

