-- Copyright (C) the agntkey authors
--
-- KEYS[1] is the registry of workers. ARGV: the member, the length of its
-- lease in ms, the channel of the worker, and the message that the lease hangs
-- on.
--
-- The registry is written before the message is sent, and by the clock of
-- Redis, which is the one that others read it by.
--@include mark.lua

if told ~= info then
    return told
end

if not string.find(info, 'role:master') then
    return redis.error_reply('READONLY not a primary')
end

local lease = tonumber(ARGV[2])
local at, long = mark(lease)
redis.call('ZADD', KEYS[1], string.format('%.0f', now + lease), ARGV[1])
if at then
    write(redis.call, at, long)
end

return redis.call('PUBLISH', ARGV[3], ARGV[4])
