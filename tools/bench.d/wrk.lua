-- Copyright (C) the agntkey authors
--
-- Requests with keys that are drawn at random from a file: one value of
-- Authorization a line, or an empty line for a request without.

local requests = {}
local random = math.random


function init(args)
    math.randomseed(1)

    for line in io.lines(args[1]) do
        local headers = {}

        if line ~= "" then
            headers["Authorization"] = line
        end

        requests[#requests + 1] = wrk.format("GET", nil, headers)
    end

    if #requests == 1 then
        local only = requests[1]
        request = function() return only end
    end
end


function request()
    return requests[random(#requests)]
end


function done(summary, latency)
    local errors = summary.errors

    io.write(string.format(
        "RESULT requests=%d us=%d failed=%d refused=%d p50=%d p99=%d\n",
        summary.requests, summary.duration,
        errors.connect + errors.read + errors.write + errors.timeout,
        errors.status, latency:percentile(50), latency:percentile(99)))
end
