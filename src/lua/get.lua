-- Copyright (C) the agntkey authors
--
-- The row of a key.
--@include key.lua

return row(KEYS[1], id)
