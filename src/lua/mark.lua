-- Copyright (C) the agntkey authors
--
-- What the scripts begin with that renew a lease or ask who holds one.
--
-- KEYS[2], the mark, is "<master_replid> <until> <longest>": the Redis that
-- keeps the registry; the time, in its ms, by which the leases are over that
-- this one may not know of; and the longest lease that it has known, ms. A
-- Redis that was started from disk or promoted has another id, and may lack
-- the latest leases. One without a mark, or with one that cannot be read, may
-- lack any, of any length; unless it is empty, and so has no key to be
-- revoked.
--
-- 67510 is 60000, the longest lease, with the margin for clocks (9/8, and 10
-- ms).

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local told = redis.pcall('INFO', 'replication')
local info = type(told) == 'string' and told or ''
local id = string.match(info, 'master_replid:(%x+)')

local old = redis.call('GET', KEYS[2])

-- What is to be written, or nil if the mark is right, and a number: the time
-- by which the unknown leases are over, if the mark is right.
local function mark(lease)
    local of, at, long = string.match(old or '', '^(%x+) (%d+) (%d+)$')
    at, long = tonumber(at), tonumber(long)
    if id and of == id and at <= now + 67510 then
        if long >= lease then
            return nil, at
        end
        return at, lease
    end
    local wait = math.max(math.min(long or 60000, 60000), lease, 500)
    if not old and redis.pcall('DBSIZE') == 0 then
        wait = -1
    end
    return now + math.ceil(wait * 9 / 8) + 10, math.max(long or 0, lease)
end

local function write(call, at, long)
    call('SET', KEYS[2], string.format('%s %.0f %.0f', id, at, long))
end
