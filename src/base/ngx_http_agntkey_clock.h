
/*
 * Copyright (C) the agntkey authors
 *
 * The clock that leases are measured with.
 */


#ifndef _NGX_HTTP_AGNTKEY_CLOCK_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_CLOCK_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * Now, in ms; never goes back, nobody sets it, and it goes on while the
 * machine sleeps where the system can say so (CLOCK_BOOTTIME,
 * clock_gettime(2)).  Not nginx's cached time: a process may have been
 * stopped since that was read.
 */
int64_t ngx_http_agntkey_clock(void);

/*
 * How long to wait here, in ms, until so many ms have passed on another
 * machine.
 */
int64_t ngx_http_agntkey_clock_margin(int64_t ms);


#endif /* _NGX_HTTP_AGNTKEY_CLOCK_H_INCLUDED_ */
