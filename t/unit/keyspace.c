
/*
 * Copyright (C) the agntkey authors
 *
 * The names in Redis: as docs/keyspace.md has them, and what other names are.
 */


#include "tap.h"

#include "ngx_http_agntkey_keyspace.h"


static void test_composed(void);
static void test_other(void);


static void
test_composed(void)
{
    u_char     buf[NGX_HTTP_AGNTKEY_NAME_ROOM], id[NGX_HTTP_AGNTKEY_ID_LEN];
    u_char     longest[64];
    ngx_str_t  name, workspace, found;

    tap_case("names are made, and taken apart");

    ngx_http_agntkey_keyspace_key(buf, &name, (u_char *) "8UvAExample1");
    tap_str(&name, "agntkey:key:{8UvA}Example1", "a key");

    memset(id, 0, sizeof(id));
    tap_int(ngx_http_agntkey_keyspace_parse(&name, id, &found),
            NGX_HTTP_AGNTKEY_KEYSPACE_KEY, "it is a key");
    tap_ok(memcmp(id, "8UvAExample1", 12) == 0, "with that id");

    ngx_str_set(&workspace, "acme.example-1_x");
    ngx_http_agntkey_keyspace_workspace(buf, &name, (u_char *) "8UvA",
                                        &workspace);
    tap_str(&name, "agntkey:workspace:{8UvA}acme.example-1_x", "a workspace");

    memset(id, 0, sizeof(id));
    tap_int(ngx_http_agntkey_keyspace_parse(&name, id, &found),
            NGX_HTTP_AGNTKEY_KEYSPACE_WORKSPACE, "it is a workspace");
    tap_ok(memcmp(id, "8UvA", 4) == 0, "with that tag");
    tap_str(&found, "acme.example-1_x", "and that name");

    ngx_http_agntkey_keyspace_index(buf, &name, (u_char *) "8UvA", &workspace);
    tap_str(&name, "agntkey:index:{8UvA}acme.example-1_x", "an index");
    tap_int(ngx_http_agntkey_keyspace_parse(&name, id, &found),
            NGX_HTTP_AGNTKEY_KEYSPACE_OTHER, "which is no record");

    ngx_http_agntkey_keyspace_used(buf, &name, (u_char *) "8UvA", &workspace);
    tap_str(&name, "agntkey:used:{8UvA}acme.example-1_x", "last uses");
    tap_int(ngx_http_agntkey_keyspace_parse(&name, id, &found),
            NGX_HTTP_AGNTKEY_KEYSPACE_OTHER, "which are no record");

    memset(longest, 'w', sizeof(longest));
    workspace.data = longest;
    workspace.len = sizeof(longest);
    ngx_http_agntkey_keyspace_workspace(buf, &name, (u_char *) "8UvA",
                                        &workspace);
    tap_ok(name.len <= NGX_HTTP_AGNTKEY_NAME_ROOM, "the longest one has room");
}


/* Others may write into the same Redis, below the prefixes that are tracked. */

static void
test_other(void)
{
    u_char      id[NGX_HTTP_AGNTKEY_ID_LEN], copy[64];
    size_t      len;
    ngx_str_t   name, found;
    ngx_uint_t  i;

    static char  *names[] = {
        "", "a", "agntkey:", "agntkey:key:", "agntkey:key:{8UvA}",
        "agntkey:key:{8UvA}Example", "agntkey:key:{8UvA}Example12",
        "agntkey:key:8UvAExample1", "agntkey:key:(8UvA)Example1",
        "agntkey:key:{8Uv}AExample1", "agntkey:key:{8UvAE}xample1",
        "agntkey:key:canary:0123456789abcdef", "agntkey:key:canary:fence",
        "AGNTKEY:KEY:{8UvA}Example1", "xagntkey:key:{8UvA}Example1",
        "agntkey:keys:{8UvA}Example1", "agntkey:workspace:",
        "agntkey:workspace:{8UvA}", "agntkey:workspace:{8Uv}acme",
        "agntkey:workspace:8UvAacme", "agntkey:workspace:canary:01",
        "agntkey:workspaces"
    };

    tap_case("other names are no records");

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {

        /* nothing is read behind the end */

        len = strlen(names[i]);
        name.data = copy + sizeof(copy) - len;
        name.len = len;
        memcpy(name.data, names[i], len);

        tap_int(ngx_http_agntkey_keyspace_parse(&name, id, &found),
                NGX_HTTP_AGNTKEY_KEYSPACE_OTHER, "\"%s\"", names[i]);
    }
}


int
main(void)
{
    test_composed();
    test_other();

    return tap_done();
}
