-- Copyright (C) the agntkey authors
--
-- KEYS[2] is the new record. ARGV[5] to ARGV[10]: the new id, its digest, its
-- name or "", the overlap in ms, the digest of the Idempotency-Key or "", and
-- how many keys the workspace may have.
--
-- The old key expires when the overlap ends, and never later than before. A
-- repetition may find it expired, so it is told from that first. A record with
-- an end that is no time, or without a name, is left as it is: nobody accepts
-- it, and a good end would make it good.
--@include room.lua

local r = row(KEYS[1], id)
if not r then
    return false
end

local new = ARGV[5]
local t = now()

local i = 'agntkey:idempotency:' .. tag .. r[3] .. ':' .. ARGV[9]
if ARGV[9] ~= '' then
    local first = call('GET', i)
    if first then
        return {'repeat', first}
    end
end

if r[2] ~= '1' then
    return {'revoked'}
end

if not r[4]
   or r[7] and (not string.find(r[7], '^%d+$')
                or tonumber(r[7]) > 253402300799999)
then
    return {'odd'}
end

if r[7] and tonumber(r[7]) <= tonumber(t) then
    return {'expired'}
end

if call('EXISTS', KEYS[2]) == 1 then
    return {'taken'}
end

if full(r[3], tonumber(ARGV[10])) then
    return {'full'}
end

local name = ARGV[7]
if name == '' then
    name = r[4]
end

live(r[3], new)
call('ZADD', 'agntkey:index:' .. tag .. r[3], t, new)
audit(r[3], 'action', 'rotated', 'id', id, 'new', new, 'at', t)

local e = tonumber(t) + tonumber(ARGV[8])
if r[7] and tonumber(r[7]) < e then
    e = tonumber(r[7])
end

if ARGV[9] ~= '' then
    call('SET', i, new, 'EX', '86400')
end
call('HSET', KEYS[1], 'expires_at', string.format('%.0f', e))

local key = {'digest', ARGV[6], 'active', '1', 'workspace', r[3],
             'name', name, 'scopes', r[5] or '', 'created_at', t}
if r[7] then
    key[13] = 'expires_at'
    key[14] = r[7]
end
call('HSET', KEYS[2], unpack(key))

return {'ok', row(KEYS[2], new), string.format('%.0f', e)}
