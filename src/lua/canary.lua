-- Copyright (C) the agntkey authors
--
-- Writes a key below each of the prefixes that are tracked, and takes it away:
-- that is to come back by the invalidation connection.
-- What a worker leaves behind that has died over it goes by itself.

for _, k in ipairs(KEYS) do
    redis.call('SET', k, '1', 'PX', '10000')
end
return redis.call('DEL', unpack(KEYS))
