
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_clock.h"


int64_t
ngx_http_agntkey_clock(void)
{
    struct timespec  ts;

#if defined(CLOCK_BOOTTIME)
    if (clock_gettime(CLOCK_BOOTTIME, &ts) != 0)
#endif
    {
        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
    }

    return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}
