-- Copyright (C) the agntkey authors
--
-- ARGV[5] to ARGV[11]: the workspace, the digest, the name, the scopes,
-- expires_at or "", the digest of the Idempotency-Key or "", and how many keys
-- the workspace may have.
--
-- A workspace comes into being with its first key. One that has left traces
-- and has no record was taken away by hand, and its keys with it: making it
-- anew would bring them back. So its record is written before the traces are.
--
-- The record of the key is written last: a script that fails is not undone,
-- and what is in the index without a record is passed over.
--@include room.lua

-- The first key of a Redis that was empty before, but for the name of the
-- workspace: no worker can hold a lease from before, so the registry may have
-- its mark. In any other Redis without one a revocation has to wait.
pcall(function()
    if call('EXISTS', 'agntkey:registry') == 0 and call('DBSIZE') <= 1 then
        local id = string.match(call('INFO', 'replication'),
                                'master_replid:(%x+)')
        call('SET', 'agntkey:registry', id .. ' ' .. now() .. ' 0')
    end
end)

local ws = ARGV[5]
local w = 'agntkey:workspace:' .. tag .. ws
local i = 'agntkey:idempotency:' .. tag .. ws .. ':' .. ARGV[10]
if ARGV[10] ~= '' then
    local first = call('GET', i)
    if first then
        return {'repeat', first}
    end
end

if call('EXISTS', KEYS[1]) == 1 then
    return {'taken'}
end

local t, first = now(), call('EXISTS', w) == 0
if first and call('EXISTS', 'agntkey:index:' .. tag .. ws,
                  'agntkey:live:' .. tag .. ws,
                  'agntkey:audit:' .. tag .. ws) > 0
then
    return {'gone'}
end

if full(ws, tonumber(ARGV[11])) then
    return {'full'}
end

if first then
    call('HSET', w, 'active', '1', 'created_at', t)
end

live(ws, id)
call('ZADD', 'agntkey:index:' .. tag .. ws, t, id)
audit(ws, 'action', 'created', 'id', id, 'at', t)
if ARGV[10] ~= '' then
    call('SET', i, id, 'EX', '86400')
end

local new = {'digest', ARGV[6], 'active', '1', 'workspace', ws,
             'name', ARGV[7], 'scopes', ARGV[8], 'created_at', t}
if ARGV[9] ~= '' then
    new[13] = 'expires_at'
    new[14] = ARGV[9]
end

call('HSET', KEYS[1], unpack(new))
return {'ok', row(KEYS[1], id)}
