-- Copyright (C) the agntkey authors
--
-- The check of a key as one would write it in Lua, with lua-resty-redis.  It
-- reads the same records as agntkey and comes to the same answers.  It leaves
-- out what agntkey does beyond that, and is the faster for it: check digits,
-- scopes, a comparison in constant time, last-used times.
--
-- The workspace of a key never changes: each worker remembers it, as agntkey
-- does, so that one pipeline asks for both records.  Debian's packages have
-- "nginx." in place of "resty.".

local redis    = require "nginx.redis"
local sha256   = require "nginx.sha256"
local str      = require "nginx.string"
local lrucache = require "resty.lrucache"

local sub, to_hex, find = string.sub, str.to_hex, ngx.re.find
local null = ngx.null

local POOL = 1024           -- not less than there are connections to nginx
local IDLE = 10000          -- ms
local TIMEOUT = 5000        -- ms

local _M = {}

-- A reply within a reply is read by a function that calls itself, and LuaJIT
-- (OpenResty's branch, as Debian has it) compiles its paths over and over
-- again, without end: 210,000 instructions for a request instead of 90,000.

for _, method in pairs(redis) do
    if type(method) == "function" then
        jit.off(method, true)
    end
end

local port, ttl
local hash = sha256:new()
local workspaces = lrucache.new(1024)
local dict = ngx.shared.keys


function _M.init(redis_port, seconds)
    port, ttl = redis_port, seconds
end


-- the id of a well-formed key, and its digest; or nil

local function credentials()
    local value = ngx.var.http_authorization

    if not value
       or not find(value, "^Bearer agnt_[0-9A-Za-z]{50}$", "jo")
    then
        return nil
    end

    hash:reset()
    hash:update(sub(value, 8))

    return sub(value, 13, 24), to_hex(hash:final())
end


local function key_command(red, id)
    return red:hmget("agntkey:key:{" .. sub(id, 1, 4) .. "}" .. sub(id, 5),
                     "digest", "active", "workspace", "expires_at")
end


local function workspace_command(red, id, workspace)
    return red:hget("agntkey:workspace:{" .. sub(id, 1, 4) .. "}"
                    .. workspace, "active")
end


-- the record and whether its workspace is active; or nil when Redis fails

local function look_up(id)
    local red = redis:new()
    red:set_timeout(TIMEOUT)

    if not red:connect("127.0.0.1", port) then
        return nil
    end

    local record, active
    local workspace = workspaces:get(id)

    if workspace then
        red:init_pipeline(2)
        key_command(red, id)
        workspace_command(red, id, workspace)

        local replies = red:commit_pipeline()
        if not replies then
            return nil
        end

        record, active = replies[1], replies[2]

    else
        record = key_command(red, id)
        if not record then
            return nil
        end

        if record[3] ~= null then
            active = workspace_command(red, id, record[3])
            if not active then
                return nil
            end

            workspaces:set(id, record[3])
        end
    end

    red:set_keepalive(IDLE, POOL)

    return record, active
end


-- 200 and the seconds for which that may be remembered; or another status

local function judge(id, digest)
    local record, active = look_up(id)

    if not record then
        return 503
    end

    if record[1] ~= digest or record[2] ~= "1" then
        return 401
    end

    local left = ttl

    if record[4] ~= null then
        left = math.min(ttl, record[4] / 1000 - ngx.now())
        if left <= 0 then
            return 401
        end
    end

    if active ~= "1" then
        return 403
    end

    return 200, left
end


function _M.ask_redis()
    local id, digest = credentials()
    local status = id and judge(id, digest) or 401

    if status ~= 200 then
        return ngx.exit(status)
    end
end


-- Only answers that let a key in are remembered: others would have made-up
-- keys push out the good ones.

function _M.ask_dict()
    local id, digest = credentials()

    if id and dict:get(digest) then
        return
    end

    local status, left = 401

    if id then
        status, left = judge(id, digest)
    end

    if status ~= 200 then
        return ngx.exit(status)
    end

    dict:set(digest, true, left)
end


return _M
