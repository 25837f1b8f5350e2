
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_credentials.h"
#include "ngx_http_agntkey_module.h"
#include "ngx_http_agntkey_value.h"


/* in the name of a variable */
#define ngx_http_agntkey_credentials_name(c)                                  \
    (((c) >= 'a' && (c) <= 'z') || ((c) >= 'A' && (c) <= 'Z')                 \
     || ((c) >= '0' && (c) <= '9') || (c) == '_')


static ngx_uint_t ngx_http_agntkey_credentials_mentions(ngx_str_t *value,
    const char *name);
static ngx_int_t ngx_http_agntkey_credentials_compile(ngx_conf_t *cf,
    ngx_str_t *value, ngx_http_agntkey_loc_conf_t *alcf);
static ngx_int_t ngx_http_agntkey_credentials_source(ngx_conf_t *cf,
    ngx_str_t *name, ngx_http_agntkey_source_t *source);
static ngx_uint_t ngx_http_agntkey_credentials_redefined(ngx_conf_t *cf,
    ngx_http_agntkey_source_t *source);
static ngx_int_t ngx_http_agntkey_credentials_elements(ngx_http_request_t *r,
    ngx_str_t *key, ngx_uint_t *copy, ngx_http_agntkey_reason_e *reason);
static void ngx_http_agntkey_credentials_query(ngx_http_request_t *r,
    ngx_str_t *query);
static ngx_int_t ngx_http_agntkey_credentials_sources(ngx_http_request_t *r,
    ngx_array_t *sources, ngx_uint_t keep, ngx_str_t *key,
    ngx_http_agntkey_reason_e *reason);
static ngx_int_t ngx_http_agntkey_credentials_look(ngx_http_request_t *r,
    ngx_http_agntkey_source_t *source, ngx_uint_t keep, ngx_str_t *text,
    ngx_uint_t *n);
static ngx_uint_t ngx_http_agntkey_credentials_headers(ngx_http_request_t *r,
    ngx_http_agntkey_source_t *source);
static ngx_uint_t ngx_http_agntkey_credentials_pairs(u_char *p, u_char *last,
    ngx_uint_t cookie, ngx_str_t *name, ngx_str_t *first);
static ngx_uint_t ngx_http_agntkey_credentials_elsewhere(
    ngx_http_request_t *r);


char *
ngx_http_agntkey_credentials_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_int_t                          rc;
    ngx_str_t                         *value;
    ngx_http_agntkey_loc_conf_t       *alcf = conf;
    ngx_http_compile_complex_value_t   ccv;

    if (alcf->sources || alcf->token) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_http_agntkey_credentials_mentions(&value[1], "remote_user")) {
        return "does not take $remote_user, which nginx writes into its "
               "access log; let clients send the key in a header of its own";
    }

    rc = ngx_http_agntkey_credentials_compile(cf, &value[1], alcf);

    if (rc != NGX_DECLINED) {
        return rc == NGX_OK ? NGX_CONF_OK : NGX_CONF_ERROR;
    }

    if (ngx_http_script_variables_count(&value[1]) == 0) {
        return "needs a value with a variable, such as \"$http_x_api_key\"";
    }

    alcf->token = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (alcf->token == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[1];
    ccv.complex_value = alcf->token;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* Is that variable one of the value's, however it is written? */

static ngx_uint_t
ngx_http_agntkey_credentials_mentions(ngx_str_t *value, const char *name)
{
    u_char  *p, *last;
    size_t   len;

    len = ngx_strlen(name);
    last = value->data + value->len;

    for (p = value->data; p < last; p++) {

        if (*p != '$') {
            continue;
        }

        if (p + 1 < last && p[1] == '{') {
            p++;
        }

        if ((size_t) (last - p - 1) < len
            || ngx_strncasecmp(p + 1, (u_char *) name, len) != 0)
        {
            continue;
        }

        if ((size_t) (last - p - 1) == len
            || !ngx_http_agntkey_credentials_name(p[len + 1]))
        {
            return 1;
        }
    }

    return 0;
}


/*
 * A value made of variables only ("$http_x_api_key$arg_key") is a list of
 * places to look at; taken apart, it shows a key that was given twice.
 * Returns NGX_OK, NGX_DECLINED for any other value, NGX_ERROR.
 */

static ngx_int_t
ngx_http_agntkey_credentials_compile(ngx_conf_t *cf, ngx_str_t *value,
    ngx_http_agntkey_loc_conf_t *alcf)
{
    u_char                     *p, *last, *end;
    ngx_str_t                   name;
    ngx_array_t                *sources;
    ngx_uint_t                  brace, apart;
    ngx_http_agntkey_source_t  *source;

    sources = ngx_array_create(cf->pool, 2, sizeof(ngx_http_agntkey_source_t));
    if (sources == NULL) {
        return NGX_ERROR;
    }

    p = value->data;
    last = p + value->len;
    apart = 1;

    while (p < last) {

        if (*p++ != '$') {
            return NGX_DECLINED;
        }

        brace = (p < last && *p == '{');
        p += brace;

        for (end = p; end < last; end++) {
            if (!ngx_http_agntkey_credentials_name(*end)) {
                break;
            }
        }

        name.data = p;
        name.len = end - p;

        if (name.len == 0 || (brace && (end == last || *end != '}'))) {
            return NGX_DECLINED;
        }

        if (name.data[0] >= '1' && name.data[0] <= '9') {

            /* a capture, which is no variable with an index */

            return NGX_DECLINED;
        }

        p = end + brace;

        source = ngx_array_push(sources);
        if (source == NULL) {
            return NGX_ERROR;
        }

        if (ngx_http_agntkey_credentials_source(cf, &name, source) != NGX_OK) {
            return NGX_ERROR;
        }

        if (source->from == NGX_HTTP_AGNTKEY_FROM_VARIABLE) {
            apart = 0;
        }
    }

    if (sources->nelts == 0) {
        return NGX_DECLINED;
    }

    alcf->sources = sources;
    alcf->apart = apart;

    return NGX_OK;
}


static ngx_int_t
ngx_http_agntkey_credentials_source(ngx_conf_t *cf, ngx_str_t *name,
    ngx_http_agntkey_source_t *source)
{
    size_t  skip;

    source->index = ngx_http_get_variable_index(cf, name);
    if (source->index == NGX_ERROR) {
        return NGX_ERROR;
    }

    source->from = NGX_HTTP_AGNTKEY_FROM_VARIABLE;
    skip = 0;

    if (name->len > 5 && ngx_strncasecmp(name->data, (u_char *) "http_", 5)
        == 0)
    {
        source->from = NGX_HTTP_AGNTKEY_FROM_HEADER;
        skip = 5;

    } else if (name->len > 4
               && ngx_strncasecmp(name->data, (u_char *) "arg_", 4) == 0)
    {
        source->from = NGX_HTTP_AGNTKEY_FROM_ARG;
        skip = 4;

    } else if (name->len > 7
               && ngx_strncasecmp(name->data, (u_char *) "cookie_", 7) == 0)
    {
        source->from = NGX_HTTP_AGNTKEY_FROM_COOKIE;
        skip = 7;
    }

    source->name.len = name->len - skip;
    source->name.data = ngx_pnalloc(cf->pool, source->name.len);
    if (source->name.data == NULL) {
        return NGX_ERROR;
    }

    ngx_strlow(source->name.data, name->data + skip, source->name.len);

    if (source->from == NGX_HTTP_AGNTKEY_FROM_HEADER
        && source->name.len == sizeof("authorization") - 1
        && ngx_strncmp(source->name.data, "authorization", source->name.len)
           == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"agntkey_token\" takes a bare key, which "
                           "$http_authorization is not; leave the directive "
                           "out to read bearer credentials");
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_http_agntkey_credentials_merge(ngx_conf_t *cf,
    ngx_http_agntkey_loc_conf_t *prev, ngx_http_agntkey_loc_conf_t *conf)
{
    ngx_uint_t                  i;
    ngx_http_agntkey_source_t  *source;

    if (conf->sources == NULL && conf->token == NULL) {
        conf->sources = prev->sources;
        conf->token = prev->token;
        conf->apart = prev->apart;
        conf->headers = prev->headers;
        return;
    }

    if (conf->sources == NULL) {
        return;
    }

    conf->headers = 1;
    source = conf->sources->elts;

    for (i = 0; i < conf->sources->nelts; i++) {

        if (source[i].from != NGX_HTTP_AGNTKEY_FROM_VARIABLE
            && ngx_http_agntkey_credentials_redefined(cf, &source[i]))
        {
            source[i].from = NGX_HTTP_AGNTKEY_FROM_VARIABLE;
            conf->apart = 0;
        }

        if (source[i].from != NGX_HTTP_AGNTKEY_FROM_HEADER
            && source[i].from != NGX_HTTP_AGNTKEY_FROM_COOKIE)
        {
            conf->headers = 0;
        }
    }
}


/*
 * $http_..., $arg_... and $cookie_... are nginx's own, unless a "map", "set"
 * or the like has one of that very name.
 */

static ngx_uint_t
ngx_http_agntkey_credentials_redefined(ngx_conf_t *cf,
    ngx_http_agntkey_source_t *source)
{
    size_t                      skip;
    ngx_str_t                  *prefix;
    ngx_uint_t                  i;
    ngx_hash_key_t             *key;
    ngx_http_variable_t        *v;
    ngx_http_core_main_conf_t  *cmcf;

    static ngx_str_t  prefixes[] = {
        ngx_null_string,
        ngx_string("http_"),
        ngx_string("arg_"),
        ngx_string("cookie_")
    };

    prefix = &prefixes[source->from];
    skip = prefix->len;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    key = cmcf->variables_keys->keys.elts;

    for (i = 0; i < cmcf->variables_keys->keys.nelts; i++) {

        v = key[i].value;

        if ((v->flags & NGX_HTTP_VAR_CHANGEABLE)
            && key[i].key.len == skip + source->name.len
            && ngx_strncmp(key[i].key.data, prefix->data, skip) == 0
            && ngx_strncmp(key[i].key.data + skip, source->name.data,
                           source->name.len)
               == 0)
        {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_http_agntkey_credentials(ngx_http_request_t *r, ngx_str_t *key,
    ngx_uint_t *copy, ngx_http_agntkey_reason_e *reason)
{
    ngx_int_t                     rc;
    ngx_http_agntkey_loc_conf_t  *alcf;

    *copy = 0;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_agntkey_access_module);

    if (alcf->sources == NULL && alcf->token == NULL) {
        *reason = ngx_http_agntkey_credentials_bearer(r, key);
        return NGX_OK;
    }

    rc = ngx_http_agntkey_credentials_elements(r, key, copy, reason);
    if (rc != NGX_OK) {
        return rc;
    }

    if (*reason == NGX_HTTP_AGNTKEY_OK
        && alcf->apart
        && ngx_http_agntkey_credentials_elsewhere(r))
    {
        *reason = NGX_HTTP_AGNTKEY_AMBIGUOUS;
    }

    return NGX_OK;
}


/*
 * A rewrite or an internal redirect changes the arguments, and an error page
 * has none.  It is the same client with the same key all the same.
 */

static ngx_int_t
ngx_http_agntkey_credentials_elements(ngx_http_request_t *r, ngx_str_t *key,
    ngx_uint_t *copy, ngx_http_agntkey_reason_e *reason)
{
    ngx_int_t                     rc;
    ngx_str_t                     args;
    ngx_uint_t                    same;
    ngx_http_agntkey_loc_conf_t  *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_agntkey_access_module);

    if (alcf->headers) {
        return ngx_http_agntkey_credentials_sources(r, alcf->sources, 1, key,
                                                    reason);
    }

    args = r->args;

    ngx_http_agntkey_credentials_query(r, &r->args);

    same = (r->args.len == args.len
            && (args.len == 0 || r->args.data == args.data));

    if (alcf->sources) {
        rc = ngx_http_agntkey_credentials_sources(r, alcf->sources, same, key,
                                                  reason);

    } else {
        rc = ngx_http_agntkey_value(r, alcf->token, same, key);

        if (rc == NGX_OK) {
            *copy = (alcf->token->lengths != NULL);
            *reason = key->len ? NGX_HTTP_AGNTKEY_OK
                               : NGX_HTTP_AGNTKEY_MISSING;
        }
    }

    r->args = args;

    return rc;
}


/* of the request line, or :path; a fragment is no part of it */

static void
ngx_http_agntkey_credentials_query(ngx_http_request_t *r, ngx_str_t *query)
{
    u_char  *p, *last;

    p = r->unparsed_uri.data;
    last = p + r->unparsed_uri.len;

    while (p < last && *p != '?' && *p != '#') {
        p++;
    }

    if (p == last || *p == '#') {
        query->data = p;
        query->len = 0;
        return;
    }

    query->data = ++p;

    while (p < last && *p != '#') {
        p++;
    }

    query->len = p - query->data;
}


/*
 * credentials = "Bearer" 1*SP b64token; the scheme in any case (RFC 9110,
 * section 11.1).  A second Authorization is refused by nginx itself, with a
 * 400, before any module is asked.
 */

ngx_http_agntkey_reason_e
ngx_http_agntkey_credentials_bearer(ngx_http_request_t *r, ngx_str_t *key)
{
    u_char  *p, *last;

    if (r->headers_in.authorization == NULL) {
        return NGX_HTTP_AGNTKEY_MISSING;
    }

    p = r->headers_in.authorization->value.data;
    last = p + r->headers_in.authorization->value.len;

    while (p < last && (last[-1] == ' ' || last[-1] == '\t')) {
        last--;
    }

    /* nearly everybody writes it like this, which is quickly seen */

    if (last - p <= 6
        || (ngx_memcmp(p, "Bearer", 6) != 0
            && ngx_strncasecmp(p, (u_char *) "bearer", 6) != 0))
    {
        return NGX_HTTP_AGNTKEY_MISSING;
    }

    p += 6;

    /* a tab is no SP, but means to be one: let the grammar refuse it */

    if (*p != ' ' && *p != '\t') {
        return NGX_HTTP_AGNTKEY_MISSING;
    }

    while (*p == ' ') {
        p++;
    }

    key->data = p;
    key->len = last - p;

    return NGX_HTTP_AGNTKEY_OK;
}


/* Variables in a row: one of them may hold a key. */

static ngx_int_t
ngx_http_agntkey_credentials_sources(ngx_http_request_t *r,
    ngx_array_t *sources, ngx_uint_t keep, ngx_str_t *key,
    ngx_http_agntkey_reason_e *reason)
{
    ngx_str_t                   text;
    ngx_uint_t                  i, n, found;
    ngx_http_agntkey_source_t  *source;

    found = 0;
    source = sources->elts;

    for (i = 0; i < sources->nelts; i++) {

        if (ngx_http_agntkey_credentials_look(r, &source[i], keep, &text, &n)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (text.len) {
            *key = text;
            found += n ? n : 1;
        }
    }

    if (found == 0) {
        *reason = NGX_HTTP_AGNTKEY_MISSING;

    } else if (found == 1) {
        *reason = NGX_HTTP_AGNTKEY_OK;

    } else {
        *reason = NGX_HTTP_AGNTKEY_AMBIGUOUS;
    }

    return NGX_OK;
}


/*
 * What the variable shows, and how often the client has sent that: the
 * variable itself tells only of the first, or joins them all.
 */

static ngx_int_t
ngx_http_agntkey_credentials_look(ngx_http_request_t *r,
    ngx_http_agntkey_source_t *source, ngx_uint_t keep, ngx_str_t *text,
    ngx_uint_t *n)
{
    ngx_http_variable_value_t  *vv, value;

    ngx_str_null(text);

    switch (source->from) {

    case NGX_HTTP_AGNTKEY_FROM_ARG:

        *n = ngx_http_agntkey_credentials_pairs(r->args.data,
                                                r->args.data + r->args.len,
                                                0, &source->name, text);
        return NGX_OK;

    case NGX_HTTP_AGNTKEY_FROM_HEADER:
    case NGX_HTTP_AGNTKEY_FROM_COOKIE:

        vv = ngx_http_get_flushed_variable(r, source->index);
        if (vv == NULL) {
            return NGX_ERROR;
        }

        *n = vv->not_found ? 0
                           : ngx_http_agntkey_credentials_headers(r, source);
        break;

    default:

        vv = &value;

        if (ngx_http_agntkey_value_variable(r, source->index, keep, vv)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        *n = 1;
        break;
    }

    if (!vv->not_found) {
        text->data = vv->data;
        text->len = vv->len;
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_agntkey_credentials_headers(ngx_http_request_t *r,
    ngx_http_agntkey_source_t *source)
{
    ngx_str_t         cookie = ngx_string("cookie"), *name;
    ngx_uint_t        i, j, n;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    name = (source->from == NGX_HTTP_AGNTKEY_FROM_COOKIE) ? &cookie
                                                          : &source->name;
    n = 0;
    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].hash == 0 || h[i].key.len != name->len) {
            continue;
        }

        for (j = 0; j < name->len; j++) {
            if (name->data[j] != (h[i].key.data[j] == '-'
                                  ? '_' : ngx_tolower(h[i].key.data[j])))
            {
                break;
            }
        }

        if (j < name->len) {
            continue;
        }

        if (source->from == NGX_HTTP_AGNTKEY_FROM_HEADER) {
            n++;
            continue;
        }

        n += ngx_http_agntkey_credentials_pairs(h[i].value.data,
                                           h[i].value.data + h[i].value.len,
                                           1, &source->name, NULL);
    }

    return n;
}


/*
 * As nginx itself finds them; cookies stand between ";" or "," and spaces.
 * The value of the first becomes *first, unless that is NULL.
 */

static ngx_uint_t
ngx_http_agntkey_credentials_pairs(u_char *p, u_char *last, ngx_uint_t cookie,
    ngx_str_t *name, ngx_str_t *first)
{
    u_char      *start;
    ngx_uint_t   n;

    n = 0;

    while (p < last) {

        while (cookie && p < last && *p == ' ') {
            p++;
        }

        start = p;

        while (p < last && *p != (cookie ? ';' : '&')
               && !(cookie && *p == ','))
        {
            p++;
        }

        if ((size_t) (p - start) > name->len
            && ngx_strncasecmp(start, name->data, name->len) == 0)
        {
            start += name->len;

            while (cookie && start < p && *start == ' ') {
                start++;
            }

            if (start < p && *start == '=') {

                if (n++ == 0 && first) {
                    first->data = start + 1;
                    first->len = p - first->data;
                }
            }
        }

        p++;
    }

    return n;
}


/*
 * The location takes keys from another place, and there is one of ours in
 * Authorization too: more than one method (RFC 6750, section 2).  A bearer
 * token of another make there is none of our business: the application may
 * want it.
 */

static ngx_uint_t
ngx_http_agntkey_credentials_elsewhere(ngx_http_request_t *r)
{
    ngx_str_t                      key, *prefix;
    ngx_http_agntkey_main_conf_t  *amcf;

    if (ngx_http_agntkey_credentials_bearer(r, &key) != NGX_HTTP_AGNTKEY_OK) {
        return 0;
    }

    amcf = ngx_http_get_module_main_conf(r, ngx_http_agntkey_module);
    prefix = &amcf->prefix;

    return key.len > prefix->len
           && key.data[prefix->len] == '_'
           && ngx_memcmp(key.data, prefix->data, prefix->len) == 0;
}
