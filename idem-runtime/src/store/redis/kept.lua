-- What is in flight under a claim that keeps its record until it is settled is nobody's to take over: once its lease is out, nobody can
-- tell what became of it. Asked once the record is dated.
local function is_kept()
  if layout == 3 then
    -- A hundred years: what a claim without a script writes for ever.
    return kept == 3153600000000
  end
  return redis.call('PEXPIRETIME', KEYS[1]) < 0
end

local function is_unknown()
  return state == 4 or (state == 1 and now() >= time and is_kept())
end

