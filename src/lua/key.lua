-- Copyright (C) the agntkey authors
--
-- What the scripts of administrators begin with. KEYS[1] is a record. ARGV[1]
-- is the id of a key, or the tag of a workspace; ARGV[2] the workspace to stay
-- in, or ""; ARGV[3] and ARGV[4] who it is and from where. All keys of a
-- workspace are in one slot, so a script may make up the names of the others
-- from what it has read.

-- The fields of a record, in the order of ngx_http_agntkey_record_fields.
local F = {'digest', 'active', 'workspace', 'name', 'scopes', 'created_at',
           'expires_at', 'revoked_at'}

local call = redis.call
local id = ARGV[1]
local tag = '{' .. string.sub(id, 1, 4) .. '}'

-- ms since 1970, by the clock of Redis
local function now()
    local t = call('TIME')
    return string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
end

-- The fields, and the last use; false for no such key.
local function row(key, id, get)
    local r = (get or call)('HMGET', key, unpack(F))
    if r.err or not r[3] or (ARGV[2] ~= '' and r[3] ~= ARGV[2]) then
        return false
    end
    local u = redis.pcall('ZSCORE', 'agntkey:used:' .. tag .. r[3], id)
    if type(u) == 'table' then
        u = false
    end
    r[9] = u
    return r
end

local function audit(ws, ...)
    call('XADD', 'agntkey:audit:' .. tag .. ws, 'MAXLEN', '~', '10000', '*',
         'actor', ARGV[3], 'from', ARGV[4], ...)
end
