-- Copyright (C) the agntkey authors
--
-- A change that comes later than its last argument says is none: the call has
-- been answered by then, and whatever was called later stands. A revocation
-- needs no such time, since nothing takes it back.
--@include key.lua

if tonumber(now()) > tonumber(ARGV[#ARGV]) then
    return {'late'}
end
