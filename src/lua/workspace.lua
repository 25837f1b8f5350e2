-- Copyright (C) the agntkey authors
--
-- KEYS[1] is the record of the workspace, ARGV[5] its name, ARGV[6] "1" to
-- switch it on and "0" to switch it off.
--@include deadline.lua

local ws = ARGV[5]
local n = 0

if call('EXISTS', KEYS[1]) == 0 then
    return false
end

if ARGV[6] == '1' then
    if call('HGET', KEYS[1], 'active') ~= '1' then
        call('HSET', KEYS[1], 'active', '1')
        n = 1
    end
else
    n = call('HDEL', KEYS[1], 'active')
end

if n == 1 then
    local t = now()
    call('HSETNX', KEYS[1], 'created_at', t)
    audit(ws, 'action', 'changed', 'workspace', ws,
          'what', ARGV[6] == '1' and 'active' or 'disabled', 'at', t)
end

local r = call('HMGET', KEYS[1], 'active', 'created_at')
return {r[1], r[2], call('ZCARD', 'agntkey:index:' .. tag .. ws)}
