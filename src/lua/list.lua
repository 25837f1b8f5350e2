-- Copyright (C) the agntkey authors
--
-- KEYS[1] is the index. ARGV[5] to ARGV[8]: a status or "", the limit, the id
-- to go on after or "", and its created_at.
--
-- Pages are counted from the place of the last key seen, not from the top:
-- keys made meanwhile push nothing onto the next page. If that key's entry is
-- gone, its place is looked for among those of the same time: in halves, for
-- there may be any number of them. Redis orders them by bytes, and Lua would
-- by the locale.
--@include key.lua

local status, limit, after, at = ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8]
local index, at0, t = KEYS[1], 0, tonumber(now())

if after ~= '' then
    at0 = call('ZREVRANK', index, after)
    if at0 then
        at0 = at0 + 1
    else
        at0 = call('ZCOUNT', index, '(' .. at, '+inf')
        local function above(one)
            for i = 1, #one do
                local a, b = string.byte(one, i), string.byte(after, i) or -1
                if a ~= b then
                    return a > b
                end
            end
            return false
        end
        local last = at0 + call('ZCOUNT', index, at, at)
        while at0 < last do
            local half = math.floor((at0 + last) / 2)
            local one = call('ZREVRANGE', index, half, half)[1]
            if one and above(one) then
                at0 = half + 1
            else
                last = half
            end
        end
    end
end

local out, n, seen, last = {}, 0, 0, ''

while n < limit and seen < 1000 do
    local ids = call('ZREVRANGE', index, at0, at0 + limit - 1)
    if #ids == 0 then
        break
    end
    for _, one in ipairs(ids) do
        at0 = at0 + 1
        seen = seen + 1
        last = one
        local r = row('agntkey:key:' .. tag .. string.sub(one, 5), one,
                      redis.pcall)
        if r then
            local s = 'active'
            if r[2] ~= '1' then
                s = 'revoked'
            elseif r[7] and (tonumber(r[7]) or 0) <= t then
                s = 'expired'
            end
            if status == '' or status == s then
                n = n + 1
                out[#out + 1] = one
                out[#out + 1] = r
            end
        end
        if n == limit then
            break
        end
    end
end

if call('ZCARD', index) <= at0 then
    return {'', '', out}
end
return {last, call('ZSCORE', index, last), out}
