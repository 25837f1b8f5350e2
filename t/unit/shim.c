
/*
 * Copyright (C) the agntkey authors
 *
 * What the pure files want of nginx beyond its headers, for programs without
 * an nginx around them.  Each does what its namesake is documented to do:
 * NGX_ERROR for no digits at all, for anything that is none, and for what
 * does not fit.
 */


#include <ngx_config.h>
#include <ngx_core.h>


static int64_t shim_number(u_char *p, size_t n, int base, int64_t max);
static u_char *shim_vprintf(u_char *buf, u_char *last, const char *fmt,
    va_list args);
static void shim_crc32_table(void) __attribute__((constructor));


uint32_t  ngx_crc32_table256[256];

static uint32_t  shim_crc32_short[16];
uint32_t  *ngx_crc32_table_short = shim_crc32_short;

/* the allocation that fails, counted down; 0: none does */
ngx_uint_t  shim_alloc_fails;


ngx_int_t
ngx_atoi(u_char *line, size_t n)
{
    return shim_number(line, n, 10, NGX_MAX_INT_T_VALUE);
}


off_t
ngx_atoof(u_char *line, size_t n)
{
    return shim_number(line, n, 10, NGX_MAX_OFF_T_VALUE);
}


ngx_int_t
ngx_hextoi(u_char *line, size_t n)
{
    return shim_number(line, n, 16, NGX_MAX_INT_T_VALUE);
}


/* s1 ends after len bytes or with a NUL, whichever is first */

u_char *
ngx_strnstr(u_char *s1, char *s2, size_t len)
{
    u_char  *last;
    size_t   n;

    n = strlen(s2);

    last = memchr(s1, '\0', len);
    if (last == NULL) {
        last = s1 + len;
    }

    for ( /* void */ ; n <= (size_t) (last - s1); s1++) {
        if (memcmp(s1, s2, n) == 0) {
            return s1;
        }
    }

    return NULL;
}


static int64_t
shim_number(u_char *p, size_t n, int base, int64_t max)
{
    int      digit;
    size_t   i;
    int64_t  value;

    if (n == 0) {
        return NGX_ERROR;
    }

    value = 0;

    for (i = 0; i < n; i++) {

        if (p[i] >= '0' && p[i] <= '9') {
            digit = p[i] - '0';

        } else if (p[i] >= 'a' && p[i] <= 'f') {
            digit = p[i] - 'a' + 10;

        } else if (p[i] >= 'A' && p[i] <= 'F') {
            digit = p[i] - 'A' + 10;

        } else {
            return NGX_ERROR;
        }

        if (digit >= base || value > (max - digit) / base) {
            return NGX_ERROR;
        }

        value = value * base + digit;
    }

    return value;
}


/*
 * The table is the remainder of every byte; made here rather than written
 * down, and the tests compare what comes of it with a CRC without a table.
 */

static void
shim_crc32_table(void)
{
    uint32_t    r;
    ngx_uint_t  i, bit;

    for (i = 0; i < 256; i++) {
        r = i;

        for (bit = 0; bit < 8; bit++) {
            r = (r & 1) ? (r >> 1) ^ 0xedb88320 : r >> 1;
        }

        ngx_crc32_table256[i] = r;
    }

    /* of half a byte, which the other half of the table follows from */

    for (i = 0; i < 16; i++) {
        shim_crc32_short[i] = ngx_crc32_table256[i << 4];
    }
}


u_char *
ngx_sprintf(u_char *buf, const char *fmt, ...)
{
    u_char   *p;
    va_list   args;

    va_start(args, fmt);
    p = shim_vprintf(buf, (u_char *) -1, fmt, args);
    va_end(args);

    return p;
}


u_char *
ngx_snprintf(u_char *buf, size_t max, const char *fmt, ...)
{
    u_char   *p;
    va_list   args;

    va_start(args, fmt);
    p = shim_vprintf(buf, buf + max, fmt, args);
    va_end(args);

    return p;
}


/* %s, %V, %0<width>d, %*s, %M, %P, %L, %ui and %uL are all that is in use */

static u_char *
shim_vprintf(u_char *buf, u_char *last, const char *fmt, va_list args)
{
    char       number[32];
    size_t     len;
    int64_t    value;
    ngx_str_t *s, text;

    for ( /* void */ ; *fmt; fmt++) {

        if (*fmt != '%') {
            text.data = (u_char *) fmt;
            text.len = 1;

        } else if (fmt[1] == 's') {
            text.data = va_arg(args, u_char *);
            text.len = strlen((char *) text.data);
            fmt++;

        } else if (fmt[1] == 'V') {
            s = va_arg(args, ngx_str_t *);
            text = *s;
            fmt++;

        } else if (fmt[1] == '0' && fmt[3] == 'd') {
            text.data = (u_char *) number;
            text.len = sprintf(number, "%0*d", fmt[2] - '0',
                               va_arg(args, int));
            fmt += 3;

        } else if (fmt[1] == '*' && fmt[2] == 's') {
            text.len = va_arg(args, size_t);
            text.data = va_arg(args, u_char *);
            fmt += 2;

        } else {
            fmt++;

            /* none of the numbers in use has the highest bit set */

            switch (*fmt) {

            case 'M': value = va_arg(args, ngx_msec_t); break;
            case 'P': value = va_arg(args, ngx_pid_t); break;
            case 'L': value = va_arg(args, int64_t); break;

            case 'u':
                fmt++;
                value = (*fmt == 'L') ? (int64_t) va_arg(args, uint64_t)
                                      : (int64_t) va_arg(args, ngx_uint_t);
                break;

            default:
                abort();
            }

            text.data = (u_char *) number;
            text.len = sprintf(number, "%lld", (long long) value);
        }

        len = ngx_min((size_t) (last - buf), text.len);

        if (len) {
            memcpy(buf, text.data, len);
            buf += len;
        }
    }

    return buf;
}


void
ngx_gmtime(time_t t, ngx_tm_t *tp)
{
    gmtime_r(&t, tp);

    /* nginx counts months from 1 and years from 0 */

    tp->ngx_tm_mon++;
    tp->ngx_tm_year += 1900;
}


void *
ngx_alloc(size_t size, ngx_log_t *log)
{
    if (shim_alloc_fails && --shim_alloc_fails == 0) {
        return NULL;
    }

    return malloc(size);
}


void *
ngx_calloc(size_t size, ngx_log_t *log)
{
    void  *p;

    p = ngx_alloc(size, log);

    return p ? memset(p, 0, size) : NULL;
}


/* any hash will do, and a poor one finds what relies on a good one */

uint32_t
ngx_murmur_hash2(u_char *data, size_t len)
{
    uint32_t  hash;

    for (hash = 0; len; len--) {
        hash += *data++;
    }

    return hash;
}
