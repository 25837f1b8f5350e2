-- Copyright (C) the agntkey authors
--
-- May the workspace have one key more? The set has the keys that are not
-- revoked, so that nobody has to count them. One that was revoked by hand is
-- in it still: when the bound is reached, some are looked at, at random. One
-- of another type is no key; any other error is one of the script.
--@include deadline.lua

local function full(ws, max)
    local live = 'agntkey:live:' .. tag .. ws
    if call('SCARD', live) < max then
        return false
    end
    for _, one in ipairs(call('SRANDMEMBER', live, 100)) do
        local key = 'agntkey:key:' .. tag .. string.sub(one, 5)
        local active = redis.pcall('HGET', key, 'active')
        if type(active) == 'table'
           and not string.find(active.err, 'WRONGTYPE', 1, true)
        then
            call('HGET', key, 'active')
        end
        if active ~= '1' then
            call('SREM', live, one)
        end
    end
    return call('SCARD', live) >= max
end

local function live(ws, id)
    call('SADD', 'agntkey:live:' .. tag .. ws, id)
end
