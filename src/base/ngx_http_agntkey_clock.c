
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


/*
 * The clocks of two machines do not run alike, least of all while one is being
 * slewed: chrony does that by up to 8.3 % (maxslewrate, chrony.conf(5)).
 */

int64_t
ngx_http_agntkey_clock_margin(int64_t ms)
{
    return ms + ms / 8 + 10;
}
