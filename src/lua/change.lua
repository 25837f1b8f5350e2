-- Copyright (C) the agntkey authors
--
-- ARGV[5] to ARGV[10]: for the name, the scopes and expires_at a flag ("0":
-- leave it, "1": set it, "2": take it away) and a value. What is as it is to
-- be is left alone: no write, and nothing to tell of.
--@include deadline.lua

local r = row(KEYS[1], id)
if not r then
    return false
end

local what = {}
local function set(flag, value, field, old)
    if flag == '0' then
        return
    end
    if flag == '2' then
        value = false
    end
    if value == old then
        return
    end
    what[#what + 1] = field
    if value then
        call('HSET', KEYS[1], field, value)
    else
        call('HDEL', KEYS[1], field)
    end
end

set(ARGV[5], ARGV[6], 'name', r[4])
set(ARGV[7], ARGV[8], 'scopes', r[5] or '')
set(ARGV[9], ARGV[10], 'expires_at', r[7])

if #what == 0 then
    return r
end

audit(r[3], 'action', 'changed', 'id', id, 'what', table.concat(what, ' '),
      'at', now())

return row(KEYS[1], id)
