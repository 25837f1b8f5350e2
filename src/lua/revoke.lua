-- Copyright (C) the agntkey authors
--
-- HDEL comes before all other writes: a full Redis takes it, and lets a script
-- that has begun to write finish. That the set of keys in force cannot be
-- written does not make a revocation fail.
--@include key.lua

local r = row(KEYS[1], id)
if not r then
    return false
end

local n = call('HDEL', KEYS[1], 'active')
if n == 1 or not r[8] then
    local t = now()
    call('HSET', KEYS[1], 'revoked_at', t)
    audit(r[3], 'action', 'revoked', 'id', id, 'at', t)
end

redis.pcall('SREM', 'agntkey:live:' .. tag .. r[3], id)

return row(KEYS[1], id)
