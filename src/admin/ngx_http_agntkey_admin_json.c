
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_admin_json.h"
#include "ngx_http_agntkey_rfc3339.h"

#include <jansson.h>


/* 90 days, in seconds */
#define NGX_HTTP_AGNTKEY_OVERLAP_MAX   7776000

/* 9999-12-31T23:59:59.999Z */
#define NGX_HTTP_AGNTKEY_EXPIRES_MAX   253402300799999LL


typedef struct {
    const char                     *name;
    ngx_http_agntkey_body_field_e   field;
} ngx_http_agntkey_body_field_t;


static json_t *ngx_http_agntkey_admin_json_load(ngx_str_t *text);
static void *ngx_http_agntkey_admin_json_alloc(size_t size);
static ngx_int_t ngx_http_agntkey_admin_json_say(ngx_pool_t *pool,
    char **detail, const char *format, const char *name);
static ngx_int_t ngx_http_agntkey_admin_json_member(ngx_pool_t *pool,
    ngx_http_agntkey_body_field_e field, json_t *value, int64_t now,
    ngx_http_agntkey_body_t *body, char **detail);
static ngx_int_t ngx_http_agntkey_admin_json_string(ngx_pool_t *pool,
    json_t *value, ngx_str_t *text);
static ngx_int_t ngx_http_agntkey_admin_json_scopes(ngx_pool_t *pool,
    json_t *value, ngx_str_t *scopes);
static ngx_int_t ngx_http_agntkey_admin_json_time(json_t *value, int64_t now,
    int64_t *time);
static json_t *ngx_http_agntkey_admin_json_str(ngx_str_t *text);
static json_t *ngx_http_agntkey_admin_json_when(int64_t ms);
static json_t *ngx_http_agntkey_admin_json_words(ngx_str_t *words);
static const char *ngx_http_agntkey_admin_json_status(
    ngx_http_agntkey_record_t *record, int64_t now);


/* of the body being read: who gives memory, and whether it was refused */
static json_malloc_t  ngx_http_agntkey_admin_json_malloc;
static ngx_uint_t     ngx_http_agntkey_admin_json_starved;


static ngx_http_agntkey_body_field_t  ngx_http_agntkey_body_fields[] = {
    { "workspace", NGX_HTTP_AGNTKEY_BODY_WORKSPACE },
    { "name", NGX_HTTP_AGNTKEY_BODY_NAME },
    { "scopes", NGX_HTTP_AGNTKEY_BODY_SCOPES },
    { "expires_at", NGX_HTTP_AGNTKEY_BODY_EXPIRES_AT },
    { "overlap_seconds", NGX_HTTP_AGNTKEY_BODY_OVERLAP },
    { "status", NGX_HTTP_AGNTKEY_BODY_STATUS },
    { NULL, 0 }
};


/* names that say nothing, in lower case and without digits at the end */

static const char  *ngx_http_agntkey_poor_names[] = {
    "a", "abc", "api", "api key", "apikey", "app", "asdf", "bar", "baz",
    "default", "demo", "dev", "example", "foo", "foobar", "hello", "key",
    "my api key", "my key", "mykey", "name", "new", "new key", "none",
    "qwerty", "string", "temp", "test", "test key", "testing", "testkey",
    "tmp", "token", "untitled", "x", "xxx", NULL
};


ngx_int_t
ngx_http_agntkey_admin_json_read(ngx_pool_t *pool, ngx_str_t *text,
    ngx_uint_t allowed, ngx_uint_t needed, int64_t now,
    ngx_http_agntkey_body_t *body, char **code, char **detail)
{
    json_t                         *root, *value;
    ngx_int_t                       rc;
    const char                     *name;
    ngx_http_agntkey_body_field_t  *m;

    ngx_memzero(body, sizeof(ngx_http_agntkey_body_t));

    root = ngx_http_agntkey_admin_json_load(text);

    if (root == NULL && ngx_http_agntkey_admin_json_starved) {
        return NGX_ERROR;
    }

    if (root == NULL) {
        *code = "invalid_json";
        *detail = "The body is not a JSON text (RFC 8259) in UTF-8, or has "
                  "a member twice.";
        return NGX_DECLINED;
    }

    rc = NGX_DECLINED;

    if (!json_is_object(root)) {
        *code = "invalid_json";
        *detail = "The body must be a JSON object.";
        goto done;
    }

    json_object_foreach(root, name, value) {

        for (m = ngx_http_agntkey_body_fields; m->name; m++) {
            if ((allowed & m->field) && ngx_strcmp(m->name, name) == 0) {
                break;
            }
        }

        if (m->name == NULL) {
            *code = "unknown_member";
            rc = ngx_http_agntkey_admin_json_say(pool, detail,
                                            "This call takes no member \"%s\".",
                                            name);
            goto done;
        }

        rc = ngx_http_agntkey_admin_json_member(pool, m->field, value, now,
                                                body, detail);
        if (rc != NGX_OK) {
            *code = "invalid_member";
            goto done;
        }

        rc = NGX_DECLINED;

        body->present |= m->field;
    }

    for (m = ngx_http_agntkey_body_fields; m->name; m++) {

        if ((needed & m->field) && !(body->present & m->field)) {
            *code = "missing_member";
            rc = ngx_http_agntkey_admin_json_say(pool, detail,
                                                "The member \"%s\" is missing.",
                                                m->name);
            goto done;
        }
    }

    rc = NGX_OK;

done:

    json_decref(root);

    return rc;
}


/*
 * jansson does not tell a text that is wrong from memory that ran out, and
 * where the buffer of a token cannot grow it goes on without the bytes that do
 * not fit, so that the name of a workspace may become that of another: what it
 * takes is watched meanwhile, and a text that was read without memory is none.
 */

static json_t *
ngx_http_agntkey_admin_json_load(ngx_str_t *text)
{
    json_t        *root;
    json_free_t    free_fn;
    json_error_t   err;

    ngx_http_agntkey_admin_json_starved = 0;

    json_get_alloc_funcs(&ngx_http_agntkey_admin_json_malloc, &free_fn);
    json_set_alloc_funcs(ngx_http_agntkey_admin_json_alloc, free_fn);

    root = json_loadb((char *) text->data, text->len, JSON_REJECT_DUPLICATES,
                      &err);

    json_set_alloc_funcs(ngx_http_agntkey_admin_json_malloc, free_fn);

    if (root && ngx_http_agntkey_admin_json_starved) {
        json_decref(root);
        return NULL;
    }

    return root;
}


static void *
ngx_http_agntkey_admin_json_alloc(size_t size)
{
    void  *p;

    p = ngx_http_agntkey_admin_json_malloc(size);

    if (p == NULL) {
        ngx_http_agntkey_admin_json_starved = 1;
    }

    return p;
}


/* Returns NGX_DECLINED, or NGX_ERROR without memory. */

static ngx_int_t
ngx_http_agntkey_admin_json_say(ngx_pool_t *pool, char **detail,
    const char *format, const char *name)
{
    size_t   len;
    u_char  *p;

    /* what is no name of ours is not worth a long answer */

    if (ngx_strlen(name) > 64) {
        name = "...";
    }

    len = ngx_strlen(format) + ngx_strlen(name);

    p = ngx_pnalloc(pool, len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    *detail = (char *) p;

    *ngx_snprintf(p, len, format, name) = '\0';

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_agntkey_admin_json_member(ngx_pool_t *pool,
    ngx_http_agntkey_body_field_e field, json_t *value, int64_t now,
    ngx_http_agntkey_body_t *body, char **detail)
{
    ngx_int_t  rc;
    ngx_str_t  text;

    switch (field) {

    case NGX_HTTP_AGNTKEY_BODY_WORKSPACE:
        *detail = "\"workspace\" must be a string of 1 to 64 letters, digits, "
                  "\".\", \"_\" and \"-\" that begins with a letter or a "
                  "digit.";

        rc = ngx_http_agntkey_admin_json_string(pool, value, &body->workspace);

        if (rc == NGX_OK
            && !ngx_http_agntkey_record_workspace_valid(&body->workspace))
        {
            return NGX_DECLINED;
        }

        return rc;

    case NGX_HTTP_AGNTKEY_BODY_NAME:
        *detail = "\"name\" must be a string of 1 to 100 characters without "
                  "control characters.";

        rc = ngx_http_agntkey_admin_json_string(pool, value, &body->name);

        if (rc == NGX_OK
            && !ngx_http_agntkey_record_name_valid(&body->name))
        {
            return NGX_DECLINED;
        }

        return rc;

    case NGX_HTTP_AGNTKEY_BODY_SCOPES:
        *detail = "\"scopes\" must be an array of up to 32 different strings "
                  "of 1 to 64 letters, digits, \".\", \"_\", \":\", \"/\" and "
                  "\"-\", each beginning with a letter or a digit.";

        return ngx_http_agntkey_admin_json_scopes(pool, value, &body->scopes);

    case NGX_HTTP_AGNTKEY_BODY_EXPIRES_AT:
        *detail = now ? "\"expires_at\" must be null or a string with a time "
                        "of RFC 3339 in the future, such as "
                        "\"2031-01-31T12:00:00Z\"."
                      : "\"expires_at\" must be null or a string with a time "
                        "of RFC 3339, such as \"2031-01-31T12:00:00Z\".";

        return ngx_http_agntkey_admin_json_time(value, now, &body->expires_at);

    case NGX_HTTP_AGNTKEY_BODY_OVERLAP:
        *detail = "\"overlap_seconds\" must be a whole number between 0 and "
                  "7776000.";

        if (!json_is_integer(value) || json_integer_value(value) < 0
            || json_integer_value(value) > NGX_HTTP_AGNTKEY_OVERLAP_MAX)
        {
            return NGX_DECLINED;
        }

        body->overlap = json_integer_value(value);

        return NGX_OK;

    default: /* NGX_HTTP_AGNTKEY_BODY_STATUS */
        *detail = "\"status\" must be \"active\" or \"disabled\".";

        rc = ngx_http_agntkey_admin_json_string(pool, value, &text);
        if (rc != NGX_OK) {
            return rc;
        }

        if (text.len == 6 && ngx_strncmp(text.data, "active", 6) == 0) {
            body->active = 1;
            return NGX_OK;
        }

        if (text.len == 8 && ngx_strncmp(text.data, "disabled", 8) == 0) {
            return NGX_OK;
        }

        return NGX_DECLINED;
    }
}


static ngx_int_t
ngx_http_agntkey_admin_json_string(ngx_pool_t *pool, json_t *value,
    ngx_str_t *text)
{
    ngx_str_t  s;

    if (!json_is_string(value)) {
        return NGX_DECLINED;
    }

    s.data = (u_char *) json_string_value(value);
    s.len = json_string_length(value);

    text->len = s.len;
    text->data = ngx_pnalloc(pool, s.len + 1);
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(text->data, s.data, s.len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_admin_json_scopes(ngx_pool_t *pool, json_t *value,
    ngx_str_t *scopes)
{
    u_char     *p;
    size_t      i;
    json_t     *one;
    ngx_str_t   scope;

    if (!json_is_array(value)
        || json_array_size(value) > NGX_HTTP_AGNTKEY_SCOPES)
    {
        return NGX_DECLINED;
    }

    p = ngx_pnalloc(pool, json_array_size(value)
                          * (NGX_HTTP_AGNTKEY_SCOPE_MAX + 1) + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    scopes->data = p;
    scopes->len = 0;

    json_array_foreach(value, i, one) {

        if (!json_is_string(one)) {
            return NGX_DECLINED;
        }

        scope.data = (u_char *) json_string_value(one);
        scope.len = json_string_length(one);

        if (!ngx_http_agntkey_record_scope_valid(&scope)
            || ngx_http_agntkey_record_has_scope(scopes, &scope))
        {
            return NGX_DECLINED;
        }

        if (i) {
            *p++ = ' ';
        }

        p = ngx_cpymem(p, scope.data, scope.len);
        scopes->len = p - scopes->data;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_admin_json_time(json_t *value, int64_t now, int64_t *time)
{
    ngx_str_t  text;

    if (json_is_null(value)) {
        *time = NGX_HTTP_AGNTKEY_NEVER;
        return NGX_OK;
    }

    if (!json_is_string(value)) {
        return NGX_DECLINED;
    }

    text.data = (u_char *) json_string_value(value);
    text.len = json_string_length(value);

    if (ngx_http_agntkey_rfc3339_parse(&text, time) != NGX_OK
        || *time <= now
        || *time > NGX_HTTP_AGNTKEY_EXPIRES_MAX)
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


ngx_http_agntkey_admin_json_t *
ngx_http_agntkey_admin_json_key(ngx_http_agntkey_key_view_t *view, int64_t now,
    ngx_str_t *key)
{
    int                         failed;
    u_char                     *p;
    u_char                      hint[64];
    json_t                     *object, *warnings;
    const char                 *warning;
    ngx_http_agntkey_record_t  *record;

    object = json_object();
    if (object == NULL) {
        return NULL;
    }

    record = &view->record;

    /* a prefix of 32, "_", an id of 12, an ellipsis of 3 bytes */

    p = ngx_sprintf(hint, "%V_%V\xe2\x80\xa6", &view->prefix, &view->id);
    *p = '\0';

    failed = json_object_set_new(object, "id",
                                 ngx_http_agntkey_admin_json_str(&view->id))
        || json_object_set_new(object, "name",
                               ngx_http_agntkey_admin_json_str(&record->name))
        || json_object_set_new(object, "workspace",
                               ngx_http_agntkey_admin_json_str(
                                                    &record->workspace))
        || json_object_set_new(object, "status",
                               json_string(
                               ngx_http_agntkey_admin_json_status(record, now)))
        || json_object_set_new(object, "scopes",
                               ngx_http_agntkey_admin_json_words(
                                                    &record->scopes))
        || json_object_set_new(object, "created_at",
                               ngx_http_agntkey_admin_json_when(
                                                    record->created_at))
        || json_object_set_new(object, "expires_at",
                               ngx_http_agntkey_admin_json_when(
                                   record->expires_at == NGX_HTTP_AGNTKEY_NEVER
                                   ? 0 : record->expires_at))
        || json_object_set_new(object, "last_used_at",
                               ngx_http_agntkey_admin_json_when(
                                                    view->last_used_at))
        || json_object_set_new(object, "revoked_at",
                               ngx_http_agntkey_admin_json_when(
                                                    record->revoked_at))
        || json_object_set_new(object, "hint", json_string((char *) hint));

    if (key && !failed) {

        failed = json_object_set_new(object, "key",
                                     ngx_http_agntkey_admin_json_str(key));

        warnings = json_array();
        warning = ngx_http_agntkey_admin_json_poor_name(&record->name);

        failed = failed
            || (warning
                && json_array_append_new(warnings, json_string(warning)))
            || json_object_set(object, "warnings", warnings);

        json_decref(warnings);
    }

    if (failed) {
        json_decref(object);
        return NULL;
    }

    return (ngx_http_agntkey_admin_json_t *) object;
}


ngx_http_agntkey_admin_json_t *
ngx_http_agntkey_admin_json_workspace(ngx_str_t *name, ngx_uint_t active,
    int64_t created_at, int64_t keys)
{
    json_t  *object;

    object = json_object();

    if (json_object_set_new(object, "name",
                            ngx_http_agntkey_admin_json_str(name))
        || json_object_set_new(object, "status",
                               json_string(active ? "active" : "disabled"))
        || json_object_set_new(object, "created_at",
                               ngx_http_agntkey_admin_json_when(created_at))
        || json_object_set_new(object, "keys", json_integer(keys)))
    {
        json_decref(object);
        return NULL;
    }

    return (ngx_http_agntkey_admin_json_t *) object;
}


ngx_int_t
ngx_http_agntkey_admin_json_receipt(ngx_http_agntkey_admin_json_t *object,
    ngx_uint_t workers, ngx_uint_t acknowledged, int64_t took,
    ngx_uint_t replicas, ngx_int_t synced)
{
    json_t  *receipt;

    receipt = json_object();

    if (json_object_set_new(receipt, "workers", json_integer(workers))
        || json_object_set_new(receipt, "acknowledged",
                               json_integer(acknowledged))
        || json_object_set_new(receipt, "took_ms", json_integer(took))
        || json_object_set_new(receipt, "replicas", json_integer(replicas))
        || (synced >= 0
            && json_object_set_new(receipt, "synced", json_boolean(synced))))
    {
        json_decref(receipt);
        return NGX_ERROR;
    }

    return json_object_set_new((json_t *) object, "receipt", receipt)
           ? NGX_ERROR : NGX_OK;
}


ngx_http_agntkey_admin_json_t *
ngx_http_agntkey_admin_json_list(void)
{
    json_t  *list;

    list = json_object();

    if (json_object_set_new(list, "data", json_array())
        || json_object_set_new(list, "next_cursor", json_null()))
    {
        json_decref(list);
        return NULL;
    }

    return (ngx_http_agntkey_admin_json_t *) list;
}


ngx_int_t
ngx_http_agntkey_admin_json_append(ngx_http_agntkey_admin_json_t *list,
    ngx_http_agntkey_admin_json_t *object)
{
    return json_array_append_new(json_object_get((json_t *) list, "data"),
                                 (json_t *) object)
           ? NGX_ERROR : NGX_OK;
}


ngx_int_t
ngx_http_agntkey_admin_json_cursor(ngx_http_agntkey_admin_json_t *list,
    ngx_str_t *cursor)
{
    return json_object_set_new((json_t *) list, "next_cursor",
                               ngx_http_agntkey_admin_json_str(cursor))
           ? NGX_ERROR : NGX_OK;
}


ngx_http_agntkey_admin_json_t *
ngx_http_agntkey_admin_json_problem(ngx_uint_t status, const char *title,
    const char *code, const char *detail, ngx_str_t *id)
{
    u_char   type[64];
    json_t  *object;

    *ngx_snprintf(type, sizeof(type) - 1, "urn:agntkey:problem:%s", code)
        = '\0';

    object = json_object();

    if (json_object_set_new(object, "type", json_string((char *) type))
        || json_object_set_new(object, "title", json_string(title))
        || json_object_set_new(object, "status", json_integer(status))
        || json_object_set_new(object, "code", json_string(code))
        || json_object_set_new(object, "detail", json_string(detail))
        || (id && json_object_set_new(object, "id",
                                      ngx_http_agntkey_admin_json_str(id))))
    {
        json_decref(object);
        return NULL;
    }

    return (ngx_http_agntkey_admin_json_t *) object;
}


ngx_int_t
ngx_http_agntkey_admin_json_text(ngx_pool_t *pool,
    ngx_http_agntkey_admin_json_t *object, ngx_str_t *text)
{
    size_t   len;
    json_t  *root;

    root = (json_t *) object;

    text->data = NULL;

    len = json_dumpb(root, NULL, 0, JSON_COMPACT);

    if (len) {
        text->data = ngx_pnalloc(pool, len + sizeof(CRLF) - 1);
    }

    if (text->data == NULL
        || json_dumpb(root, (char *) text->data, len, JSON_COMPACT) != len)
    {
        json_decref(root);
        return NGX_ERROR;
    }

    json_decref(root);

    text->data[len++] = CR;
    text->data[len++] = LF;
    text->len = len;

    return NGX_OK;
}


void
ngx_http_agntkey_admin_json_drop(ngx_http_agntkey_admin_json_t *object)
{
    json_decref((json_t *) object);
}


const char *
ngx_http_agntkey_admin_json_poor_name(ngx_str_t *name)
{
    u_char        c, low[32];
    size_t        i, len;
    const char  **poor;

    len = name->len;

    while (len && ((name->data[len - 1] >= '0' && name->data[len - 1] <= '9')
                   || ngx_strchr(" _-.#", name->data[len - 1])))
    {
        len--;
    }

    if (len == 0) {
        return "The name says nothing: in a list, nobody will know which "
               "application has this key.";
    }

    if (len >= sizeof(low)) {
        return NULL;
    }

    for (i = 0; i < len; i++) {
        c = ngx_tolower(name->data[i]);
        low[i] = (c == '_' || c == '-') ? ' ' : c;
    }

    low[len] = '\0';

    for (poor = ngx_http_agntkey_poor_names; *poor; poor++) {
        if (ngx_strcmp(low, *poor) == 0) {
            return "The name says little: name the application and where it "
                   "runs, such as \"Production API Server\" or \"CI/CD "
                   "Pipeline\".";
        }
    }

    return NULL;
}


static json_t *
ngx_http_agntkey_admin_json_str(ngx_str_t *text)
{
    return json_stringn((char *) text->data, text->len);
}


static json_t *
ngx_http_agntkey_admin_json_when(int64_t ms)
{
    u_char  buf[NGX_HTTP_AGNTKEY_RFC3339_LEN];

    if (ms == 0) {
        return json_null();
    }

    return json_stringn((char *) buf,
                        ngx_http_agntkey_rfc3339_format(buf, ms) - buf);
}


static json_t *
ngx_http_agntkey_admin_json_words(ngx_str_t *words)
{
    u_char  *p, *end, *last;
    json_t  *array;

    array = json_array();

    if (words->len == 0) {
        return array;
    }

    p = words->data;
    last = p + words->len;

    for ( ;; ) {

        end = ngx_strlchr(p, last, ' ');
        if (end == NULL) {
            end = last;
        }

        if (json_array_append_new(array, json_stringn((char *) p, end - p))) {
            json_decref(array);
            return NULL;
        }

        if (end == last) {
            return array;
        }

        p = end + 1;
    }
}


static const char *
ngx_http_agntkey_admin_json_status(ngx_http_agntkey_record_t *record,
    int64_t now)
{
    if (!record->active) {
        return "revoked";
    }

    return (record->expires_at <= now) ? "expired" : "active";
}
