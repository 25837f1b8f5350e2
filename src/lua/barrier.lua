-- Copyright (C) the agntkey authors
--
-- KEYS[1] is the registry of workers. ARGV: the channel of barriers, the
-- question, and the length of a lease in ms.
--
-- The workers that hold a lease, and the time by which those leases are over
-- that this Redis may not know of.
--
-- A lease that ended by its own length ago is that of a worker that has died;
-- the length is there for a clock that was set. A member whose lease cannot be
-- read is kept for the longest one. The oldest come first, so more members
-- than are read at once become fewer with each call; until then the result is
-- an error.
--
-- The last number is 1 if the mark was written: WAITAOF asks for the last
-- write of its connection, and a revocation that is repeated writes nothing
-- else.
--@include mark.lua

local out = {}
local all = redis.call('ZRANGE', KEYS[1], 0, 8191, 'WITHSCORES')
for i = 1, #all, 2 do
    local lease = tonumber(string.match(all[i], '/(%d+)$')) or 60000
    if tonumber(all[i + 1]) + lease < now then
        redis.pcall('ZREM', KEYS[1], all[i])
    else
        out[#out + 1] = all[i]
    end
end

local wrote = 0
local function put(...)
    local said = redis.pcall(...)
    if type(said) == 'table' and said.ok then
        wrote = 1
    end
    return said
end

local at, long = mark(tonumber(ARGV[3]))
if not at then
    at = long
    put('SET', KEYS[2], old)
elseif id then
    write(put, at, long)
end

local _, replicas = string.gsub(info, 'state=online', '')
redis.call('PUBLISH', ARGV[1], ARGV[2])

if #all == 16384 then
    return redis.error_reply('ERR too many workers')
end
return {now, at, replicas, out, wrote}
