
/*
 * Copyright (C) the agntkey authors
 *
 * Every combination of what is known about a key, against a table of the
 * order in which reasons apply.
 */


#include "tap.h"

#include "ngx_http_agntkey_verdict.h"


#define TEST_NOW   1700000000000LL


typedef struct {
    char        *rules[4];       /* ends with NULL */
    ngx_uint_t   fits;
} test_rules_t;


static void test_record(ngx_http_agntkey_record_t *rec);
static ngx_uint_t test_list(char **texts, ngx_str_t *list);
static ngx_int_t test_verdict(ngx_http_agntkey_record_t *rec, char **workspaces,
    char **scopes);


/* of a key of the workspace "acme" that holds "read" and "write:all" */

static test_rules_t  test_workspaces[] = {
    { { NULL }, 1 },
    { { "acme", NULL }, 1 },
    { { "other", NULL }, 0 },
    { { "", NULL }, 0 },
    { { "acm", NULL }, 0 },
    { { "acme2", NULL }, 0 },
    { { "Acme", NULL }, 0 },
    { { "cme", NULL }, 0 },
    { { "acmf", NULL }, 0 },
    { { "bcme", NULL }, 0 },
    { { "other", "acme", NULL }, 1 },
    { { "acme", "other", NULL }, 1 },
    { { "other", "another", NULL }, 0 },
    { { "", "acme", NULL }, 1 },
    { { "acme", "", NULL }, 1 },
    { { "", "other", "", NULL }, 0 },
    { { "x", "y", "acme", NULL }, 1 },
    { { "x", "y", "z", NULL }, 0 }
};

static test_rules_t  test_scopes[] = {
    { { NULL }, 1 },
    { { "read", NULL }, 1 },
    { { "write:all", NULL }, 1 },
    { { "read", "write:all", NULL }, 1 },
    { { "write:all", "read", NULL }, 1 },
    { { "read", "read", "read", NULL }, 1 },
    { { "admin", NULL }, 0 },
    { { "write", NULL }, 0 },
    { { "write:", NULL }, 0 },
    { { "all", NULL }, 0 },
    { { "rea", NULL }, 0 },
    { { "ead", NULL }, 0 },
    { { "Read", NULL }, 0 },
    { { "read", "admin", NULL }, 0 },
    { { "admin", "read", NULL }, 0 },
    { { "read", "write:all", "admin", NULL }, 0 },
    { { "read", "admin", "write:all", NULL }, 0 }
};

#define TEST_WORKSPACES                                                       \
    (sizeof(test_workspaces) / sizeof(test_workspaces[0]))
#define TEST_SCOPES   (sizeof(test_scopes) / sizeof(test_scopes[0]))


static void
test_names(void)
{
    ngx_uint_t  i;

    static char  *names[] = {
        "ok", "missing", "malformed", "unknown", "revoked", "expired",
        "workspace_disabled", "workspace_mismatch", "insufficient_scope",
        "ambiguous", "store_unavailable"
    };

    static ngx_uint_t  reasons[] = {
        NGX_HTTP_AGNTKEY_OK, NGX_HTTP_AGNTKEY_MISSING,
        NGX_HTTP_AGNTKEY_MALFORMED, NGX_HTTP_AGNTKEY_UNKNOWN,
        NGX_HTTP_AGNTKEY_REVOKED, NGX_HTTP_AGNTKEY_EXPIRED,
        NGX_HTTP_AGNTKEY_WORKSPACE_DISABLED,
        NGX_HTTP_AGNTKEY_WORKSPACE_MISMATCH,
        NGX_HTTP_AGNTKEY_INSUFFICIENT_SCOPE, NGX_HTTP_AGNTKEY_AMBIGUOUS,
        NGX_HTTP_AGNTKEY_STORE_UNAVAILABLE
    };

    tap_case("each reason has the name users know");

    tap_int(NGX_HTTP_AGNTKEY_REASONS, 11, "how many");

    for (i = 0; i < 11; i++) {
        tap_str(&ngx_http_agntkey_reasons[reasons[i]], names[i], "reason %lu",
                (unsigned long) i);
    }
}


static void
test_precedence(void)
{
    int64_t                     expires;
    ngx_str_t                   workspaces[4], scopes[4], digest;
    ngx_uint_t                  bits, e, w, s, i, got, expected;
    ngx_http_agntkey_rules_t    rules;
    ngx_http_agntkey_record_t   rec, *key;

    static int64_t  expiries[] = {
        NGX_HTTP_AGNTKEY_NEVER, TEST_NOW + 1, TEST_NOW + 100000,
        TEST_NOW, TEST_NOW - 1, 0
    };

    struct {
        ngx_uint_t  applies;
        ngx_uint_t  reason;
    } order[6];

    tap_case("of the reasons that apply, the first one is given");

    for (bits = 0; bits < 16; bits++) {
        for (e = 0; e < sizeof(expiries) / sizeof(expiries[0]); e++) {
            for (w = 0; w < TEST_WORKSPACES; w++) {
                for (s = 0; s < TEST_SCOPES; s++) {

                    expires = expiries[e];

                    test_record(&rec);
                    rec.expires_at = expires;
                    rec.active = (bits & 1);

                    digest.len = 32;
                    digest.data = (u_char *)
                                  ((bits & 2)
                                   ? "0123456789abcdef0123456789abcdef"
                                   : "0123456789abcdef0123456789abcdeF");

                    key = (bits & 4) ? &rec : NULL;

                    rules.workspaces = workspaces;
                    rules.nworkspaces = test_list(test_workspaces[w].rules,
                                                  workspaces);
                    rules.scopes = scopes;
                    rules.nscopes = test_list(test_scopes[s].rules, scopes);

                    order[0].applies = !(bits & 4) || !(bits & 2);
                    order[0].reason = NGX_HTTP_AGNTKEY_UNKNOWN;
                    order[1].applies = !(bits & 1);
                    order[1].reason = NGX_HTTP_AGNTKEY_REVOKED;
                    order[2].applies = (e >= 3);
                    order[2].reason = NGX_HTTP_AGNTKEY_EXPIRED;
                    order[3].applies = !(bits & 8);
                    order[3].reason = NGX_HTTP_AGNTKEY_WORKSPACE_DISABLED;
                    order[4].applies = !test_workspaces[w].fits;
                    order[4].reason = NGX_HTTP_AGNTKEY_WORKSPACE_MISMATCH;
                    order[5].applies = !test_scopes[s].fits;
                    order[5].reason = NGX_HTTP_AGNTKEY_INSUFFICIENT_SCOPE;

                    expected = NGX_HTTP_AGNTKEY_OK;

                    for (i = 0; i < 6; i++) {
                        if (order[i].applies) {
                            expected = order[i].reason;
                            break;
                        }
                    }

                    got = ngx_http_agntkey_verdict(key, (bits & 8) != 0,
                                                   digest.data, &rules,
                                                   TEST_NOW);

                    tap_int(got, expected,
                            "record %lu, digest %lu, active %lu, expires "
                            "%lld, workspace active %lu, workspaces %lu, "
                            "scopes %lu",
                            (unsigned long) (bits >> 2 & 1),
                            (unsigned long) (bits >> 1 & 1),
                            (unsigned long) (bits & 1), (long long) expires,
                            (unsigned long) (bits >> 3 & 1),
                            (unsigned long) w, (unsigned long) s);
                }
            }
        }
    }
}


static void
test_digest(void)
{
    u_char                     digest[32];
    ngx_uint_t                 i;
    ngx_http_agntkey_rules_t   rules;
    ngx_http_agntkey_record_t  rec;

    tap_case("a digest that differs in one bit is an unknown key");

    memset(&rules, 0, sizeof(rules));
    test_record(&rec);

    for (i = 0; i < 256; i++) {
        memcpy(digest, rec.digest, 32);
        digest[i / 8] ^= 1 << (i % 8);

        tap_int(ngx_http_agntkey_verdict(&rec, 1, digest, &rules, TEST_NOW),
                NGX_HTTP_AGNTKEY_UNKNOWN, "bit %lu", (unsigned long) i);
    }

    memcpy(digest, rec.digest, 32);
    tap_int(ngx_http_agntkey_verdict(&rec, 1, digest, &rules, TEST_NOW),
            NGX_HTTP_AGNTKEY_OK, "the same digest");
}


static void
test_times(void)
{
    int64_t                    at;
    ngx_http_agntkey_rules_t   rules;
    ngx_http_agntkey_record_t  rec;

    tap_case("a key has expired from its last millisecond on");

    memset(&rules, 0, sizeof(rules));
    test_record(&rec);

    for (at = TEST_NOW - 3; at <= TEST_NOW + 3; at++) {
        rec.expires_at = at;

        tap_int(ngx_http_agntkey_verdict(&rec, 1, rec.digest, &rules,
                                         TEST_NOW),
                (at <= TEST_NOW) ? NGX_HTTP_AGNTKEY_EXPIRED
                                 : NGX_HTTP_AGNTKEY_OK,
                "%+d ms", (int) (at - TEST_NOW));
    }

    /* beyond 32 bits of milliseconds and of seconds */

    rec.expires_at = 253402300799999LL;
    tap_int(ngx_http_agntkey_verdict(&rec, 1, rec.digest, &rules, TEST_NOW),
            NGX_HTTP_AGNTKEY_OK, "the end of the year 9999");

    rec.expires_at = NGX_HTTP_AGNTKEY_NEVER;
    tap_int(ngx_http_agntkey_verdict(&rec, 1, rec.digest, &rules,
                                     253402300799999LL),
            NGX_HTTP_AGNTKEY_OK, "never, in the year 9999");

    tap_case("created_at and revoked_at decide nothing, active does");

    test_record(&rec);
    rec.revoked_at = TEST_NOW - 1;
    tap_int(ngx_http_agntkey_verdict(&rec, 1, rec.digest, &rules, TEST_NOW),
            NGX_HTTP_AGNTKEY_OK, "revoked_at and active");

    rec.revoked_at = 0;
    rec.active = 0;
    tap_int(ngx_http_agntkey_verdict(&rec, 1, rec.digest, &rules, TEST_NOW),
            NGX_HTTP_AGNTKEY_REVOKED, "no revoked_at and not active");

    test_record(&rec);
    rec.created_at = TEST_NOW + 1000;
    tap_int(ngx_http_agntkey_verdict(&rec, 1, rec.digest, &rules, TEST_NOW),
            NGX_HTTP_AGNTKEY_OK, "created by a clock that is ahead");
}


static void
test_empty(void)
{
    ngx_http_agntkey_record_t  rec;

    static char  *none[] = { NULL };
    static char  *blank[] = { "", NULL };
    static char  *blanks[] = { "", "", NULL };
    static char  *read[] = { "read", NULL };

    tap_case("an empty value matches nothing, an empty workspace neither");

    test_record(&rec);
    tap_int(test_verdict(&rec, blank, none),
            NGX_HTTP_AGNTKEY_WORKSPACE_MISMATCH, "one");
    tap_int(test_verdict(&rec, blanks, none),
            NGX_HTTP_AGNTKEY_WORKSPACE_MISMATCH, "two");

    rec.workspace = tap_text("");
    tap_int(test_verdict(&rec, blank, none),
            NGX_HTTP_AGNTKEY_WORKSPACE_MISMATCH, "none with none");
    tap_int(test_verdict(&rec, none, none), NGX_HTTP_AGNTKEY_OK, "no rule");

    tap_case("a key without scopes holds none");

    test_record(&rec);
    rec.scopes = tap_text("");
    tap_int(test_verdict(&rec, none, read),
            NGX_HTTP_AGNTKEY_INSUFFICIENT_SCOPE, "empty");
    tap_int(test_verdict(&rec, none, none), NGX_HTTP_AGNTKEY_OK, "no rule");

    ngx_str_null(&rec.scopes);
    tap_int(test_verdict(&rec, none, read),
            NGX_HTTP_AGNTKEY_INSUFFICIENT_SCOPE, "absent");

    rec.scopes = tap_text("read");
    tap_int(test_verdict(&rec, none, read), NGX_HTTP_AGNTKEY_OK, "read");
}


int
main(void)
{
    test_names();
    test_precedence();
    test_digest();
    test_times();
    test_empty();

    return tap_done();
}


/* a key that may do anything */

static void
test_record(ngx_http_agntkey_record_t *rec)
{
    memset(rec, 0, sizeof(ngx_http_agntkey_record_t));

    memcpy(rec->digest, "0123456789abcdef0123456789abcdef", 32);

    ngx_str_set(&rec->workspace, "acme");
    ngx_str_set(&rec->name, "first key");
    ngx_str_set(&rec->scopes, "read write:all");

    rec->created_at = TEST_NOW - 1000;
    rec->expires_at = NGX_HTTP_AGNTKEY_NEVER;
    rec->active = 1;
}


static ngx_uint_t
test_list(char **texts, ngx_str_t *list)
{
    ngx_uint_t  n;

    for (n = 0; texts[n]; n++) {
        list[n].data = (u_char *) texts[n];
        list[n].len = strlen(texts[n]);
    }

    return n;
}


static ngx_int_t
test_verdict(ngx_http_agntkey_record_t *rec, char **workspaces, char **scopes)
{
    ngx_str_t                 w[4], s[4];
    ngx_http_agntkey_rules_t  rules;

    rules.workspaces = w;
    rules.nworkspaces = test_list(workspaces, w);
    rules.scopes = s;
    rules.nscopes = test_list(scopes, s);

    return ngx_http_agntkey_verdict(rec, 1, rec->digest, &rules, TEST_NOW);
}
