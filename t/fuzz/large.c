
/*
 * Copyright (C) the agntkey authors
 *
 * The target "redis_resp" with bounds so small that inputs are beyond them:
 * what is dropped of a reply, and what is read behind it, must not depend on
 * where the bytes are cut.
 *
 * Flags: -DNGX_HTTP_AGNTKEY_RESP_BYTES=80
 * Flags: -DNGX_HTTP_AGNTKEY_RESP_ELEMENTS=8 -DNGX_HTTP_AGNTKEY_RESP_SKIP=400
 * Files: redis_resp record
 */


#include "redis_resp.c"
