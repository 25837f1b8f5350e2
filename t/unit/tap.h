
/*
 * Copyright (C) the agntkey authors
 *
 * As much of a TAP producer (testanything.org) as the tests here need.  A
 * case is one line of TAP and any number of checks, so that a loop over 256
 * bytes is one line as well; what a failed check got is said above the line:
 *
 *     tap_case("a byte outside the alphabet is refused");
 *     tap_int(got, expected, "byte %02x", c);
 *     ...
 *     return tap_done();
 *
 * A case without a single check fails: a loop that is never entered proves
 * nothing.
 */


#ifndef _TAP_H_INCLUDED_
#define _TAP_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* failed checks that a case describes; the others are only counted */
#define TAP_DIAGNOSTICS   10

/* bytes of a text that are shown */
#define TAP_SHOWN         120

#define tap_printf(n)     __attribute__((format(printf, n, n + 1)))


typedef struct tap_memory_s  tap_memory_t;

struct tap_memory_s {
    void           *data;
    tap_memory_t   *next;
};


static const char    *tap_title;
static ngx_uint_t     tap_cases;
static ngx_uint_t     tap_failed_cases;
static ngx_uint_t     tap_checks;
static ngx_uint_t     tap_failed_checks;
static tap_memory_t  *tap_memory;


static ngx_inline void
tap_end(void)
{
    tap_memory_t  *m;

    while (tap_memory) {
        m = tap_memory;
        tap_memory = m->next;
        free(m->data);
        free(m);
    }

    if (tap_title == NULL) {
        return;
    }

    tap_cases++;

    if (tap_checks == 0) {
        printf("# nothing was checked\n");
        tap_failed_checks++;
    }

    if (tap_failed_checks > TAP_DIAGNOSTICS) {
        printf("# ... %lu of %lu checks failed\n",
               (unsigned long) tap_failed_checks, (unsigned long) tap_checks);
    }

    if (tap_failed_checks) {
        tap_failed_cases++;
        printf("not ");
    }

    printf("ok %lu - %s\n", (unsigned long) tap_cases, tap_title);

    /* what was printed must not be lost if the next case crashes */
    fflush(stdout);

    tap_title = NULL;
}


/* Begins a case, and ends the one before. */

static ngx_inline void
tap_case(const char *title)
{
    tap_end();

    tap_title = title;
    tap_checks = 0;
    tap_failed_checks = 0;
}


/* The plan; returns the exit status. */

static ngx_inline int
tap_done(void)
{
    tap_end();

    printf("1..%lu\n", (unsigned long) tap_cases);

    return tap_failed_cases ? 1 : 0;
}


/*
 * Bytes in memory of their own and exactly as long as they are, so that a
 * sanitizer sees what reads behind them.  Freed with the case.
 */

static ngx_inline ngx_str_t
tap_bytes(const void *data, size_t len)
{
    ngx_str_t      s;
    tap_memory_t  *m;

    s.len = len;
    s.data = malloc(len);

    m = malloc(sizeof(tap_memory_t));

    /* malloc(0) may be NULL, which means "absent" here and there */

    if (s.data == NULL && len == 0) {
        s.data = malloc(1);
    }

    if (s.data == NULL || m == NULL) {
        printf("Bail out! no memory\n");
        exit(2);
    }

    m->data = s.data;
    m->next = tap_memory;
    tap_memory = m;

    if (len) {
        memcpy(s.data, data, len);
    }

    return s;
}


static ngx_inline ngx_str_t
tap_text(const char *text)
{
    return tap_bytes(text, strlen(text));
}


/* n times one byte */

static ngx_inline ngx_str_t
tap_fill(u_char c, size_t len)
{
    u_char     *p;
    ngx_str_t   s;

    p = malloc(len + 1);
    if (p == NULL) {
        printf("Bail out! no memory\n");
        exit(2);
    }

    memset(p, c, len);
    s = tap_bytes(p, len);
    free(p);

    return s;
}


static ngx_inline void
tap_show(const char *what, const u_char *p, size_t len)
{
    size_t  i;

    printf("#   %s: ", what);

    if (p == NULL) {
        printf("none\n");
        return;
    }

    printf("\"");

    for (i = 0; i < len && i < TAP_SHOWN; i++) {
        if (p[i] < 0x20 || p[i] > 0x7e || p[i] == '\\' || p[i] == '"') {
            printf("\\x%02x", p[i]);

        } else {
            printf("%c", p[i]);
        }
    }

    printf("\"%s, %lu bytes\n", (i < len) ? "..." : "", (unsigned long) len);
}


/* Counts a check; says whether a failed one is to be described. */

static ngx_inline ngx_uint_t
tap_count(ngx_uint_t ok)
{
    tap_checks++;

    if (ok) {
        return 0;
    }

    tap_failed_checks++;

    return tap_failed_checks <= TAP_DIAGNOSTICS;
}


tap_printf(2) static ngx_inline ngx_uint_t
tap_ok(ngx_uint_t ok, const char *fmt, ...)
{
    va_list  args;

    if (tap_count(ok)) {
        printf("# failed: ");
        va_start(args, fmt);
        vprintf(fmt, args);
        va_end(args);
        printf("\n");
    }

    return ok;
}


tap_printf(3) static ngx_inline ngx_uint_t
tap_int(int64_t got, int64_t expected, const char *fmt, ...)
{
    va_list     args;
    ngx_uint_t  ok;

    ok = (got == expected);

    if (tap_count(ok)) {
        printf("# failed: ");
        va_start(args, fmt);
        vprintf(fmt, args);
        va_end(args);
        printf("\n#   got: %lld\n#   expected: %lld\n",
               (long long) got, (long long) expected);
    }

    return ok;
}


tap_printf(5) static ngx_inline ngx_uint_t
tap_mem(const void *got, size_t got_len, const void *expected,
    size_t expected_len, const char *fmt, ...)
{
    va_list     args;
    ngx_uint_t  ok;

    ok = (got_len == expected_len
          && (got_len == 0
              || (got && expected && memcmp(got, expected, got_len) == 0)));

    if (tap_count(ok)) {
        printf("# failed: ");
        va_start(args, fmt);
        vprintf(fmt, args);
        va_end(args);
        printf("\n");
        tap_show("got", got, got_len);
        tap_show("expected", expected, expected_len);
    }

    return ok;
}


/* a ngx_str_t against a terminated text */

#define tap_str(s, text, ...)                                                 \
    tap_mem((s)->data, (s)->len, text, strlen(text), __VA_ARGS__)


/*
 * Numbers that are the same in every run (xorshift64, G. Marsaglia, 2003): a
 * failure that comes and goes helps nobody.
 */

static ngx_inline uint64_t
tap_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;

    return *state;
}


#endif /* _TAP_H_INCLUDED_ */
