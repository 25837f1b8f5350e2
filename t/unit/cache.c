
/*
 * Copyright (C) the agntkey authors
 *
 * What a worker remembers, and for how long: against the rules of the header,
 * one by one, and against a model of them under random operations.
 */


#include "tap.h"

#include "ngx_http_agntkey_cache.h"


/* all times are of this order, ms */
#define TEST_NOW      1000000LL
#define TEST_UNTIL    (TEST_NOW + 60000)

#define TEST_IDS      64
#define TEST_HOMES    4


/* names that meet in one of that many buckets, where anybody can know which */
#define TEST_MEET     200
#define TEST_BUCKETS  64
#define TEST_SECRETS  9


/* what the rules say that is known of an id, or of a workspace */

typedef struct {
    ngx_uint_t   known;
    ngx_uint_t   active;
    ngx_int_t    home;           /* -1: nobody has the id */
    uint64_t     epoch;
    int64_t      verified;
    int64_t      until;
} test_id_t;

typedef struct {
    uint64_t     epoch;          /* 0: not known */
    ngx_uint_t   active;
} test_home_t;


/* of the shim: the allocation that fails, counted down; 0: none does */
extern ngx_uint_t  shim_alloc_fails;

/* of all the workspaces here, whatever they are called */
static u_char  test_tag[] = "tag0";


static ngx_log_t  test_log;


static ngx_http_agntkey_cache_t *
test_cache(ngx_uint_t entries, ngx_uint_t negative)
{
    ngx_http_agntkey_cache_t  *cache;

    cache = ngx_http_agntkey_cache_create(entries, negative, &test_log);

    if (cache == NULL) {
        printf("Bail out! no cache\n");
        exit(1);
    }

    return cache;
}


/* the id of a number; of one buffer, which the cache has to copy */

static u_char *
test_id(ngx_uint_t n)
{
    static char  buf[32];

    sprintf(buf, "{id}%08lu", (unsigned long) n);

    return (u_char *) buf;
}


static ngx_http_agntkey_workspace_t *
test_home(ngx_http_agntkey_cache_t *cache, const char *text,
    ngx_uint_t active)
{
    ngx_str_t                      name;
    ngx_http_agntkey_workspace_t  *home;

    name = tap_text(text);

    home = ngx_http_agntkey_cache_workspace(cache, test_tag, &name);

    if (home) {
        home->active = active ? 1 : 0;
        home->epoch = ngx_http_agntkey_cache_epoch(cache);
    }

    return home;
}


/* A key of a workspace, or nobody's id; what it is made of goes at once. */

static void
test_put(ngx_http_agntkey_cache_t *cache, ngx_uint_t n, const char *home_text,
    ngx_uint_t active)
{
    u_char                         name[16], scopes[16];
    ngx_http_agntkey_record_t      key;
    ngx_http_agntkey_workspace_t  *home;

    if (home_text == NULL) {
        ngx_http_agntkey_cache_put(cache, test_id(n), NULL, NULL, TEST_NOW,
                                   TEST_UNTIL);
        return;
    }

    home = test_home(cache, home_text, 1);
    if (home == NULL) {
        return;
    }

    memset(&key, 0, sizeof(key));
    memset(key.digest, (int) n, sizeof(key.digest));

    key.name.data = name;
    key.name.len = sprintf((char *) name, "name %lu", (unsigned long) n);
    key.scopes.data = scopes;
    key.scopes.len = sprintf((char *) scopes, "s%lu", (unsigned long) n);
    key.workspace = tap_text(home_text);
    key.expires_at = NGX_HTTP_AGNTKEY_NEVER;
    key.active = active ? 1 : 0;

    ngx_http_agntkey_cache_put(cache, test_id(n), &key, home, TEST_NOW,
                               TEST_UNTIL);

    ngx_http_agntkey_cache_unref_workspace(cache, home);

    memset(name, 'x', sizeof(name));
    memset(scopes, 'x', sizeof(scopes));
}


static ngx_http_agntkey_entry_t *
test_hit_at(ngx_http_agntkey_cache_t *cache, u_char *id, int64_t now)
{
    ngx_http_agntkey_entry_t  *entry;

    entry = ngx_http_agntkey_cache_find(cache, id);

    return (entry && ngx_http_agntkey_cache_renew(cache, entry, now)) ? entry
                                                                     : NULL;
}


static ngx_http_agntkey_entry_t *
test_hit(ngx_http_agntkey_cache_t *cache, ngx_uint_t n)
{
    return test_hit_at(cache, test_id(n), TEST_NOW);
}


static ngx_http_agntkey_entry_t *
test_stale(ngx_http_agntkey_cache_t *cache, ngx_uint_t n, int64_t now,
    int64_t ms)
{
    return ngx_http_agntkey_cache_stale(cache, test_id(n), now, ms);
}


static ngx_uint_t
test_hits(ngx_http_agntkey_cache_t *cache, ngx_uint_t from, ngx_uint_t to)
{
    ngx_uint_t  n, hits;

    hits = 0;

    for (n = from; n < to; n++) {
        hits += (test_hit(cache, n) != NULL);
    }

    return hits;
}


static void
test_forget_home(ngx_http_agntkey_cache_t *cache, const char *text)
{
    ngx_str_t  name;

    name = tap_text(text);

    ngx_http_agntkey_cache_forget_workspace(cache, test_tag, &name);
}


static void
test_contents(void)
{
    char                       text[16];
    u_char                     digest[32];
    ngx_uint_t                 n;
    ngx_http_agntkey_cache_t  *cache;
    ngx_http_agntkey_entry_t  *entry;

    tap_case("what was put is there, as it was");

    cache = test_cache(100, 100);

    for (n = 0; n < 100; n++) {
        tap_ok(test_hit(cache, n) == NULL, "%lu before", (unsigned long) n);
        test_put(cache, n, n % 2 ? "odd" : "even", n % 3 != 0);
        test_put(cache, 1000 + n, NULL, 0);
    }

    for (n = 0; n < 100; n++) {
        entry = test_hit(cache, n);

        if (!tap_ok(entry != NULL, "%lu", (unsigned long) n)) {
            continue;
        }

        sprintf(text, "name %lu", (unsigned long) n);
        tap_str(&entry->key.name, text, "name");
        sprintf(text, "s%lu", (unsigned long) n);
        tap_str(&entry->key.scopes, text, "scopes");
        tap_str(&entry->key.workspace, n % 2 ? "odd" : "even", "workspace");
        tap_str(&entry->workspace->name, n % 2 ? "odd" : "even", "home");

        memset(digest, (int) n, sizeof(digest));
        tap_mem(entry->key.digest, 32, digest, 32, "digest");
        tap_int(entry->key.active, n % 3 != 0, "active");
        tap_int(entry->workspace->active, 1, "active home");

        entry = test_hit(cache, 1000 + n);

        if (tap_ok(entry != NULL, "nobody %lu", (unsigned long) n)) {
            tap_ok(entry->workspace == NULL, "nobody has no workspace");
        }
    }

    tap_case("the later of two is the one that counts");

    test_put(cache, 1, NULL, 0);
    entry = test_hit(cache, 1);
    tap_ok(entry && entry->workspace == NULL, "nobody instead of a key");

    test_put(cache, 1001, "odd", 1);
    entry = test_hit(cache, 1001);
    tap_ok(entry && entry->workspace, "a key instead of nobody");

    test_put(cache, 2, "other", 0);
    entry = test_hit(cache, 2);

    if (tap_ok(entry != NULL, "another workspace")) {
        tap_str(&entry->key.workspace, "other", "another workspace");
        tap_int(entry->key.active, 0, "not active");
    }

    ngx_http_agntkey_cache_destroy(cache);
}


static void
test_times(void)
{
    int64_t                    now;
    ngx_http_agntkey_cache_t  *cache;

    tap_case("an entry is of no use from its end on");

    cache = test_cache(10, 10);
    test_put(cache, 1, "acme", 1);
    test_put(cache, 2, NULL, 0);

    for (now = TEST_UNTIL - 3; now < TEST_UNTIL + 3; now++) {
        tap_int(test_hit_at(cache, test_id(1), now) != NULL,
                now < TEST_UNTIL, "a key, %ld", (long) (now - TEST_UNTIL));
        tap_int(test_hit_at(cache, test_id(2), now) != NULL,
                now < TEST_UNTIL, "nobody, %ld", (long) (now - TEST_UNTIL));
    }

    ngx_http_agntkey_cache_destroy(cache);
}


static void
test_bounds(void)
{
    ngx_uint_t                 n, i;
    ngx_http_agntkey_cache_t  *cache;

    static ngx_uint_t  sizes[] = { 1, 2, 3, 31, 32, 33, 64, 65, 1000 };

    tap_case("there are never more entries than may be");

    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        cache = test_cache(sizes[i], 5);

        for (n = 0; n < 3 * sizes[i] + 10; n++) {
            test_put(cache, n, "acme", 1);
            tap_ok(test_hit(cache, n) != NULL, "the newest is there");
        }

        tap_int(test_hits(cache, 0, n), sizes[i], "keys of %lu",
                (unsigned long) sizes[i]);

        for (n = 0; n < 100; n++) {
            test_put(cache, 100000 + n, NULL, 0);
        }

        tap_int(test_hits(cache, 100000, 100100), 5, "nobody's");
        tap_int(test_hits(cache, 0, 3 * sizes[i] + 10), sizes[i],
                "nobody's push out no keys");

        ngx_http_agntkey_cache_destroy(cache);
    }

    tap_case("keys push out nobody's ids no more than these do them");

    cache = test_cache(5, 5);

    for (n = 0; n < 5; n++) {
        test_put(cache, 100 + n, NULL, 0);
    }

    for (n = 0; n < 50; n++) {
        test_put(cache, n, "acme", 1);
    }

    tap_int(test_hits(cache, 100, 105), 5, "all are there");

    ngx_http_agntkey_cache_destroy(cache);

    tap_case("with room for none, none is remembered");

    cache = test_cache(5, 0);
    test_put(cache, 1, "acme", 1);
    test_put(cache, 2, NULL, 0);
    tap_ok(test_hit(cache, 1) != NULL, "a key");
    tap_ok(test_hit(cache, 2) == NULL, "nobody");

    /* it is forgotten that somebody had it, all the same */

    test_put(cache, 1, NULL, 0);
    tap_ok(test_hit(cache, 1) == NULL, "nobody any more");

    ngx_http_agntkey_cache_destroy(cache);
}


static void
test_chances(void)
{
    ngx_uint_t                 n;
    ngx_http_agntkey_cache_t  *cache;

    tap_case("what is used stays, what is not goes first");

    cache = test_cache(10, 10);

    for (n = 0; n < 10; n++) {
        test_put(cache, n, "acme", 1);
    }

    for (n = 10; n < 200; n++) {
        (void) test_hit(cache, 3);
        test_put(cache, n, "acme", 1);
    }

    tap_ok(test_hit(cache, 3) != NULL, "the one that is used");
    tap_int(test_hits(cache, 0, 10), 1, "the others of its time are gone");

    ngx_http_agntkey_cache_destroy(cache);

    tap_case("without use the oldest goes");

    cache = test_cache(10, 10);

    for (n = 0; n < 25; n++) {
        test_put(cache, n, "acme", 1);
    }

    tap_int(test_hits(cache, 0, 15), 0, "the older ones");
    tap_int(test_hits(cache, 15, 25), 10, "the newer ones");

    ngx_http_agntkey_cache_destroy(cache);

    tap_case("where all are in use room is made nevertheless");

    cache = test_cache(1000, 10);

    for (n = 0; n < 1000; n++) {
        test_put(cache, n, "acme", 1);
    }

    (void) test_hits(cache, 0, 1000);
    test_put(cache, 1000, "acme", 1);

    tap_ok(test_hit(cache, 1000) != NULL, "the new one");
    tap_int(test_hits(cache, 0, 1001), 1000, "one has gone");

    ngx_http_agntkey_cache_destroy(cache);

    tap_case("what is of an older epoch goes before what is of use");

    cache = test_cache(10, 10);

    for (n = 0; n < 5; n++) {
        test_put(cache, n, "acme", 1);
        (void) test_hit(cache, n);
    }

    ngx_http_agntkey_cache_end_epoch(cache, TEST_NOW);

    for (n = 10; n < 20; n++) {
        test_put(cache, n, "acme", 1);
        (void) test_hit(cache, n);
    }

    tap_int(test_hits(cache, 10, 20), 10, "all of this one");

    ngx_http_agntkey_cache_destroy(cache);
}


static void
test_epochs(void)
{
    uint64_t                       epoch;
    ngx_http_agntkey_cache_t      *cache;
    ngx_http_agntkey_workspace_t  *home;

    tap_case("no hit survives the end of its epoch");

    cache = test_cache(10, 10);
    epoch = ngx_http_agntkey_cache_epoch(cache);

    tap_ok(epoch != 0, "an epoch is never 0");

    test_put(cache, 1, "acme", 1);
    test_put(cache, 2, NULL, 0);
    ngx_http_agntkey_cache_end_epoch(cache, TEST_NOW);

    tap_ok(ngx_http_agntkey_cache_epoch(cache) > epoch, "another one");
    tap_ok(test_hit(cache, 1) == NULL, "a key");
    tap_ok(test_hit(cache, 2) == NULL, "nobody");

    tap_case("nor is what the workspace was then of use for a key of now");

    home = test_home(cache, "acme", 1);
    home->epoch = epoch;
    tap_ok(test_hit(cache, 1) == NULL, "a key of then");

    test_put(cache, 3, "acme", 1);
    home->epoch = epoch;
    tap_ok(test_hit(cache, 3) == NULL, "a key of now");
    home->epoch = ngx_http_agntkey_cache_epoch(cache);
    tap_ok(test_hit(cache, 3) != NULL, "once it is known again");
    ngx_http_agntkey_cache_unref_workspace(cache, home);

    tap_case("no hit survives a flush");

    test_put(cache, 1, "acme", 1);
    test_put(cache, 2, NULL, 0);
    epoch = ngx_http_agntkey_cache_epoch(cache);
    ngx_http_agntkey_cache_flush(cache);

    tap_ok(ngx_http_agntkey_cache_epoch(cache) > epoch, "another one");
    tap_ok(test_hit(cache, 1) == NULL, "a key");
    tap_ok(test_hit(cache, 2) == NULL, "nobody");

    test_put(cache, 1, "acme", 1);
    tap_ok(test_hit(cache, 1) != NULL, "put again");

    ngx_http_agntkey_cache_destroy(cache);
}


static void
test_forgets(void)
{
    ngx_str_t                      name;
    ngx_http_agntkey_cache_t      *cache;
    ngx_http_agntkey_workspace_t  *home;

    tap_case("a key that is forgotten is no hit, the others are");

    cache = test_cache(10, 10);

    test_put(cache, 1, "acme", 1);
    test_put(cache, 2, "acme", 1);
    test_put(cache, 3, NULL, 0);
    test_put(cache, 4, NULL, 0);

    ngx_http_agntkey_cache_forget(cache, test_id(1));
    ngx_http_agntkey_cache_forget(cache, test_id(3));
    ngx_http_agntkey_cache_forget(cache, test_id(5));

    tap_ok(test_hit(cache, 1) == NULL, "the key");
    tap_ok(test_hit(cache, 2) != NULL, "another key");
    tap_ok(test_hit(cache, 3) == NULL, "nobody's");
    tap_ok(test_hit(cache, 4) != NULL, "another of nobody's");

    tap_case("a workspace that is forgotten is one for all of its keys");

    test_put(cache, 1, "acme", 1);
    test_put(cache, 2, "acme2", 1);
    test_put(cache, 6, "acm", 1);
    test_put(cache, 7, "acme", 1);

    test_forget_home(cache, "acme");
    test_forget_home(cache, "nowhere");
    test_forget_home(cache, "");

    tap_ok(test_hit(cache, 1) == NULL, "a key of it");
    tap_ok(test_hit(cache, 7) == NULL, "another one");
    tap_ok(test_hit(cache, 2) != NULL, "one of another");
    tap_ok(test_hit(cache, 6) != NULL, "one of a third");

    tap_case("what has been forgotten is counted for who asks meanwhile");

    name = tap_text("acme");
    home = ngx_http_agntkey_cache_workspace(cache, test_tag, &name);
    tap_int(home->epoch, 0, "not known");
    tap_int(home->changes, 1, "once so far");
    test_forget_home(cache, "acme");
    tap_int(home->changes, 2, "and again");

    /* it is known again, and with it all of its keys */

    home->epoch = ngx_http_agntkey_cache_epoch(cache);
    tap_ok(test_hit(cache, 1) != NULL, "known again");

    ngx_http_agntkey_cache_unref_workspace(cache, home);
    ngx_http_agntkey_cache_destroy(cache);
}


static void
test_read(void)
{
    u_char                         text[16];
    ngx_str_t                      name;
    ngx_uint_t                     i;
    ngx_http_agntkey_cache_t      *cache;
    ngx_http_agntkey_entry_t      *entry;
    ngx_http_agntkey_record_t      key;
    ngx_http_agntkey_workspace_t  *home;

    tap_case("what was read to be the same stays, anything else goes");

    cache = test_cache(10, 10);

    test_put(cache, 2, NULL, 0);
    tap_int(ngx_http_agntkey_cache_compare(cache, test_id(2), NULL), 0,
            "nobody, as before");
    tap_ok(test_hit(cache, 2) != NULL, "nobody, as before");
    tap_int(ngx_http_agntkey_cache_compare(cache, test_id(3), NULL), 0,
            "what is not remembered");

    for (i = 0; i < 12; i++) {
        test_put(cache, 1, "acme", 1);
        entry = test_hit(cache, 1);

        if (entry == NULL) {
            tap_ok(0, "no entry");
            break;
        }

        /* texts of others, which say the same */

        key = entry->key;
        key.name.data = text;
        memcpy(text, entry->key.name.data, key.name.len);

        switch (i) {
        case 0: break;
        case 1: key.active = 0; break;
        case 2: key.digest[31] ^= 1; break;
        case 3: key.created_at++; break;
        case 4: key.expires_at--; break;
        case 5: key.revoked_at++; break;
        case 6: text[0] ^= 1; break;
        case 7: key.name.len--; break;
        case 8: key.scopes.len = 0; break;
        case 9: key.scopes = key.name; break;
        case 10: key.workspace = tap_text("acmf"); break;
        default: break;
        }

        tap_int(ngx_http_agntkey_cache_compare(cache, test_id(1),
                                               i == 11 ? NULL : &key),
                i != 0, "change %lu", (unsigned long) i);
        tap_int(test_hit(cache, 1) != NULL, i == 0, "change %lu",
                (unsigned long) i);
    }

    test_put(cache, 1, "acme", 1);
    key = test_hit(cache, 1)->key;
    tap_int(ngx_http_agntkey_cache_compare(cache, test_id(2), &key), 1,
            "somebody instead of nobody");
    tap_ok(test_hit(cache, 2) == NULL, "somebody instead of nobody");

    tap_case("a workspace that was read not to be active is not known");

    name = tap_text("acme");
    home = ngx_http_agntkey_cache_workspace(cache, test_tag, &name);
    i = home->changes;

    ngx_http_agntkey_cache_inactive(cache, (u_char *) "zzzz",
                                    &home->name);
    tap_ok(test_hit(cache, 1) != NULL, "another tag");

    ngx_http_agntkey_cache_inactive(cache, test_tag, &home->name);
    tap_ok(test_hit(cache, 1) == NULL, "no hit");
    tap_ok(test_stale(cache, 1, TEST_NOW, 1000) == NULL, "not stale");
    tap_int(home->changes, i + 1, "a change for who asks meanwhile");

    tap_case("but if that was known before, who asks is not disturbed");

    ngx_http_agntkey_cache_inactive(cache, test_tag, &home->name);
    tap_int(home->changes, i + 1, "not known");

    home->epoch = ngx_http_agntkey_cache_epoch(cache);
    home->active = 0;
    ngx_http_agntkey_cache_inactive(cache, test_tag, &home->name);
    tap_int(home->changes, i + 1, "known to be disabled");
    tap_ok(test_hit(cache, 1) != NULL, "a hit, of a disabled one");

    ngx_http_agntkey_cache_unref_workspace(cache, home);
    ngx_http_agntkey_cache_destroy(cache);
}


static void
test_refs(void)
{
    ngx_str_t                      name;
    ngx_uint_t                     n;
    ngx_http_agntkey_cache_t      *cache;
    ngx_http_agntkey_entry_t      *entry;
    ngx_http_agntkey_workspace_t  *home, *other;

    tap_case("who refers to an entry may read it, whatever happens to it");

    cache = test_cache(2, 2);

    test_put(cache, 1, "acme", 1);
    entry = test_hit(cache, 1);
    ngx_http_agntkey_cache_ref(entry);
    ngx_http_agntkey_cache_forget(cache, test_id(1));

    tap_ok(test_hit(cache, 1) == NULL, "forgotten");
    tap_str(&entry->key.name, "name 1", "name");
    tap_str(&entry->key.workspace, "acme", "workspace");
    tap_str(&entry->workspace->name, "acme", "home");
    ngx_http_agntkey_cache_unref(cache, entry);

    test_put(cache, 1, "acme", 1);
    entry = test_hit(cache, 1);
    ngx_http_agntkey_cache_ref(entry);

    for (n = 2; n < 40; n++) {
        test_put(cache, n, "other", 1);
        (void) test_hit(cache, n);
    }

    tap_ok(test_hit(cache, 1) == NULL, "pushed out");
    tap_str(&entry->key.name, "name 1", "name");
    tap_str(&entry->key.workspace, "acme", "workspace");
    ngx_http_agntkey_cache_unref(cache, entry);

    test_put(cache, 1, "acme", 1);
    entry = test_hit(cache, 1);
    ngx_http_agntkey_cache_ref(entry);
    test_put(cache, 1, NULL, 0);
    tap_str(&entry->key.name, "name 1", "replaced");
    ngx_http_agntkey_cache_unref(cache, entry);

    tap_case("a workspace lives as long as somebody refers to it");

    name = tap_text("short");
    home = ngx_http_agntkey_cache_workspace(cache, test_tag, &name);
    tap_ok(home == ngx_http_agntkey_cache_workspace(cache, test_tag, &name),
           "there is one of a name");
    other = ngx_http_agntkey_cache_workspace(cache, (u_char *) "zzzz", &name);
    tap_ok(home != other, "and another one of another tag");
    ngx_http_agntkey_cache_unref_workspace(cache, other);
    tap_int(home->epoch, 0, "not known");
    home->changes = 5;
    ngx_http_agntkey_cache_unref_workspace(cache, home);
    ngx_http_agntkey_cache_unref_workspace(cache, home);

    home = ngx_http_agntkey_cache_workspace(cache, test_tag, &name);
    tap_int(home->changes, 0, "a new one, of the same name");
    ngx_http_agntkey_cache_unref_workspace(cache, home);

    test_put(cache, 1, "short", 1);
    home = ngx_http_agntkey_cache_workspace(cache, test_tag, &name);
    tap_ok(home->epoch != 0, "a key keeps it");
    ngx_http_agntkey_cache_unref_workspace(cache, home);
    tap_ok(test_hit(cache, 1) != NULL, "still");

    ngx_http_agntkey_cache_destroy(cache);
}


static void
test_stale_rules(void)
{
    int64_t                        good;
    ngx_http_agntkey_cache_t      *cache;
    ngx_http_agntkey_workspace_t  *home;

    tap_case("stale for so many ms since Redis was asked, and no longer");

    cache = test_cache(10, 10);

    test_put(cache, 1, "acme", 1);
    test_put(cache, 2, "acme", 0);
    test_put(cache, 3, NULL, 0);

    tap_ok(test_stale(cache, 1, TEST_NOW + 999, 1000) != NULL, "in time");
    tap_ok(test_stale(cache, 1, TEST_NOW + 1000, 1000) == NULL, "too late");
    tap_ok(test_stale(cache, 1, TEST_NOW, 0) == NULL, "for no time");
    tap_ok(test_stale(cache, 1, TEST_UNTIL + 5, 100000) != NULL,
           "past its end as a hit");
    tap_ok(test_stale(cache, 2, TEST_NOW, 1000) == NULL, "not active");
    tap_ok(test_stale(cache, 3, TEST_NOW, 1000) == NULL, "nobody");
    tap_ok(test_stale(cache, 4, TEST_NOW, 1000) == NULL, "never seen");

    tap_case("a lease that was good lets it have been right until then");

    good = TEST_NOW + 5000;
    ngx_http_agntkey_cache_end_epoch(cache, good);

    tap_ok(test_stale(cache, 1, good + 999, 1000) != NULL, "in time");
    tap_ok(test_stale(cache, 1, good + 1000, 1000) == NULL, "too late");

    tap_case("but only of the epoch that has ended last");

    ngx_http_agntkey_cache_end_epoch(cache, good + 50000);

    tap_ok(test_stale(cache, 1, TEST_NOW + 999, 1000) != NULL, "in time");
    tap_ok(test_stale(cache, 1, TEST_NOW + 1000, 1000) == NULL, "too late");
    tap_ok(test_stale(cache, 1, good + 50000, 1000) == NULL, "much too late");

    tap_case("and only if the workspace was known to the end of it");

    test_put(cache, 5, "acme", 1);
    home = test_home(cache, "acme", 1);
    home->epoch = ngx_http_agntkey_cache_epoch(cache) - 1;
    ngx_http_agntkey_cache_end_epoch(cache, good);
    tap_ok(test_stale(cache, 5, TEST_NOW + 999, 1000) != NULL, "in time");
    tap_ok(test_stale(cache, 5, TEST_NOW + 1000, 1000) == NULL, "too late");

    tap_case("a disabled workspace is not stale, nor one that is forgotten");

    home->active = 0;
    tap_ok(test_stale(cache, 5, TEST_NOW, 1000) == NULL, "disabled");
    home->active = 1;
    tap_ok(test_stale(cache, 5, TEST_NOW, 1000) != NULL, "active");
    test_forget_home(cache, "acme");
    tap_ok(test_stale(cache, 5, TEST_NOW, 1000) == NULL, "forgotten");
    ngx_http_agntkey_cache_unref_workspace(cache, home);

    tap_case("a key that is forgotten is never stale");

    test_put(cache, 5, "acme", 1);
    tap_ok(test_stale(cache, 5, TEST_NOW, 1000) != NULL, "before");
    ngx_http_agntkey_cache_forget(cache, test_id(5));
    tap_ok(test_stale(cache, 5, TEST_NOW, 1000) == NULL, "after");

    tap_case("nothing of before a flush is ever stale");

    test_put(cache, 6, "acme", 1);
    tap_ok(test_stale(cache, 6, TEST_NOW, 1000) != NULL, "before");
    ngx_http_agntkey_cache_flush(cache);
    tap_ok(test_stale(cache, 6, TEST_NOW, 1000) == NULL, "after");

    home = test_home(cache, "acme", 1);
    tap_ok(test_stale(cache, 6, TEST_NOW, 1000) == NULL,
           "not with a workspace of now either");
    ngx_http_agntkey_cache_unref_workspace(cache, home);

    test_put(cache, 6, "acme", 1);
    home = test_home(cache, "acme", 1);
    home->epoch = ngx_http_agntkey_cache_epoch(cache) - 1;
    tap_ok(test_stale(cache, 6, TEST_NOW, 1000) == NULL,
           "nor a key of now with a workspace of then");
    ngx_http_agntkey_cache_unref_workspace(cache, home);

    test_put(cache, 6, "acme", 1);
    tap_ok(test_stale(cache, 6, TEST_NOW, 1000) != NULL, "put again");
    ngx_http_agntkey_cache_end_epoch(cache, TEST_NOW);
    tap_ok(test_stale(cache, 6, TEST_NOW, 1000) != NULL,
           "the next end is no flush");

    ngx_http_agntkey_cache_destroy(cache);
}


static void
test_memory(void)
{
    ngx_uint_t                 n, made;
    ngx_http_agntkey_cache_t  *cache;

    tap_case("without memory there is no cache, and no entry");

    made = 0;

    for (n = 1; n < 10; n++) {
        shim_alloc_fails = n;
        cache = ngx_http_agntkey_cache_create(10, 10, &test_log);

        if (cache) {
            made = n;
            ngx_http_agntkey_cache_destroy(cache);
            break;
        }
    }

    shim_alloc_fails = 0;

    tap_int(made, 4, "made of three pieces");

    cache = test_cache(10, 10);

    /* the workspace, and the entry */

    for (n = 1; n <= 2; n++) {
        test_put(cache, 2, NULL, 0);
        shim_alloc_fails = n;
        test_put(cache, 1, "acme", 1);
        shim_alloc_fails = 0;
        tap_ok(test_hit(cache, 1) == NULL, "%lu fails", (unsigned long) n);
        tap_ok(test_hit(cache, 2) != NULL, "nobody minds");
    }

    shim_alloc_fails = 1;
    test_put(cache, 2, NULL, 0);
    shim_alloc_fails = 0;
    tap_ok(test_hit(cache, 2) == NULL, "what it was to replace is gone");

    ngx_http_agntkey_cache_destroy(cache);
}


/*
 * Customers may choose the names of their workspaces, so that they would meet
 * in one bucket if the hash had no secret: nginx's own murmur2 has none.
 * Returns how many are in the fullest bucket.
 */

static ngx_uint_t
test_meet(size_t len)
{
    u_char                         text[65];
    ngx_str_t                      name;
    ngx_uint_t                     i, n, most, buckets[TEST_BUCKETS];
    ngx_http_agntkey_cache_t      *cache;
    ngx_http_agntkey_workspace_t  *w[TEST_MEET];

    cache = test_cache(TEST_BUCKETS, 1);

    ngx_memset(text, 'w', sizeof(text));
    ngx_memzero(buckets, sizeof(buckets));

    name.data = text;
    name.len = len;
    most = 0;

    for (i = 0, n = 0; n < TEST_MEET; i++) {
        sprintf((char *) text + len - 6, "%06lu", (unsigned long) i);

        if (ngx_murmur_hash2(text, len) % TEST_BUCKETS) {
            continue;
        }

        w[n] = ngx_http_agntkey_cache_workspace(cache, test_tag, &name);

        if (w[n] == NULL) {
            break;
        }

        most = ngx_max(most, ++buckets[w[n]->hash % TEST_BUCKETS]);

        tap_ok(ngx_http_agntkey_cache_workspace(cache, test_tag, &name)
               == w[n], "%lu: is found again", (unsigned long) i);
        ngx_http_agntkey_cache_unref_workspace(cache, w[n]);

        n++;
    }

    tap_ok(n == TEST_MEET, "all have a place");

    while (n--) {
        ngx_http_agntkey_cache_unref_workspace(cache, w[n]);
    }

    ngx_http_agntkey_cache_destroy(cache);

    return most;
}


/* One secret in some may have more of them meet; nobody knows which. */

static void
test_spread(size_t len)
{
    ngx_uint_t  i, most, spread;

    spread = 0;

    for (i = 0; i < TEST_SECRETS; i++) {
        most = test_meet(len);
        spread += (most < TEST_MEET / 5);
    }

    tap_ok(spread > TEST_SECRETS / 2, "%lu of %d secrets spread them",
           (unsigned long) spread, TEST_SECRETS);
}


/*
 * Random operations; after each, some id is asked for.  With room for all the
 * cache and the model agree; without, a hit is still one of the model.
 */

static void
test_random(ngx_uint_t entries, ngx_uint_t negative, uint64_t seed)
{
    char                       homes[TEST_HOMES][8];
    int64_t                    now, ms, verified;
    uint64_t                   random, epoch, flushed, ended;
    int64_t                    good;
    ngx_uint_t                 i, n, h, room, hit, expected;
    test_id_t                  ids[TEST_IDS], *id;
    test_home_t                model[TEST_HOMES];
    ngx_http_agntkey_cache_t  *cache;

    room = (entries >= TEST_IDS && negative >= TEST_IDS);

    memset(ids, 0, sizeof(ids));
    memset(model, 0, sizeof(model));

    for (h = 0; h < TEST_HOMES; h++) {
        sprintf(homes[h], "home%lu", (unsigned long) h);
    }

    cache = test_cache(entries, negative);
    random = seed;
    epoch = ngx_http_agntkey_cache_epoch(cache);
    flushed = 0;
    ended = 0;
    good = 0;

    for (i = 0; i < 40000; i++) {
        n = tap_random(&random) % TEST_IDS;
        h = tap_random(&random) % TEST_HOMES;
        id = &ids[n];

        switch (tap_random(&random) % 40) {

        case 0:
            ngx_http_agntkey_cache_forget(cache, test_id(n));
            id->known = 0;
            break;

        case 1:
            test_forget_home(cache, homes[h]);
            model[h].epoch = 0;
            break;

        case 2:
            if (tap_random(&random) % 8 == 0) {
                good = TEST_NOW + tap_random(&random) % 1000;
                ngx_http_agntkey_cache_end_epoch(cache, good);
                ended = epoch++;
            }
            break;

        case 3:
            if (tap_random(&random) % 8 == 0) {
                ngx_http_agntkey_cache_flush(cache);
                flushed = ++epoch;
            }
            break;

        case 4: case 5: case 6: case 7:
            test_put(cache, n, NULL, 0);
            id->known = 1;
            id->home = -1;
            id->epoch = epoch;
            break;

        default:
            id->active = tap_random(&random) % 4 != 0;
            test_put(cache, n, homes[h], id->active);
            id->known = 1;
            id->home = (ngx_int_t) h;
            id->epoch = epoch;
            model[h].epoch = epoch;
            model[h].active = 1;
            break;
        }

        tap_int(ngx_http_agntkey_cache_epoch(cache), epoch, "epoch");

        n = tap_random(&random) % TEST_IDS;
        id = &ids[n];

        expected = id->known && id->epoch == epoch
                   && (id->home < 0 || model[id->home].epoch == epoch);
        hit = (test_hit(cache, n) != NULL);

        tap_ok(room ? hit == expected : hit <= expected,
               "%lu: hit is %lu, not %lu", (unsigned long) i,
               (unsigned long) hit, (unsigned long) expected);

        ms = 1 + tap_random(&random) % 1000;
        now = TEST_NOW + tap_random(&random) % 2000;

        expected = id->known && id->home >= 0 && id->active
                   && id->epoch >= flushed
                   && model[id->home].epoch >= ngx_max(flushed, 1);

        if (expected) {
            verified = TEST_NOW;

            if (id->epoch == ended && model[id->home].epoch == ended) {
                verified = ngx_max(verified, good);
            }

            expected = now - verified < ms;
        }

        hit = (test_stale(cache, n, now, ms) != NULL);

        tap_ok(room ? hit == expected : hit <= expected,
               "%lu: stale is %lu, not %lu", (unsigned long) i,
               (unsigned long) hit, (unsigned long) expected);
    }

    ngx_http_agntkey_cache_destroy(cache);
}


int
main(void)
{
    test_contents();
    test_times();
    test_bounds();
    test_chances();
    test_epochs();
    test_forgets();
    test_read();
    test_refs();
    test_stale_rules();
    test_memory();

    tap_case("names that meet in a hash without a secret");
    test_spread(6);
    test_spread(35);
    test_spread(64);

    tap_case("random operations, with room for all");
    test_random(TEST_IDS, TEST_IDS, 0x9e3779b97f4a7c15ULL);
    test_random(1000, 1000, 42);

    tap_case("random operations, with room for few");
    test_random(7, 3, 0x2545f4914f6cdd1dULL);
    test_random(1, 1, 7);
    test_random(20, 0, 99);

    return tap_done();
}
