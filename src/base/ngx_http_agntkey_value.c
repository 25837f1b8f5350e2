
/*
 * Copyright (C) the agntkey authors
 */


#include "ngx_http_agntkey_value.h"


/* variables of a request that are put aside on the stack */
#define NGX_HTTP_AGNTKEY_VALUE_ROOM    64


/* known, and not to be asked for again: no handler runs */

#define ngx_http_agntkey_value_known(vv)                                      \
    (((vv)->valid || (vv)->not_found) && !(vv)->no_cacheable)


/* what an evaluation may change */

typedef struct {
    size_t                      size;          /* of all variables, bytes */
    ngx_http_variable_value_t  *before;        /* as they were */
    ngx_http_variable_value_t  *now;           /* with what is evaluated */
    ngx_http_variable_value_t   room[2 * NGX_HTTP_AGNTKEY_VALUE_ROOM];
#if (NGX_PCRE)
    ngx_uint_t                  ncaptures;
    int                        *captures;
    u_char                     *captures_data;
    unsigned                    realloc_captures:1;
#endif
} ngx_http_agntkey_value_state_t;


static ngx_int_t ngx_http_agntkey_value_save(ngx_http_request_t *r,
    ngx_http_agntkey_value_state_t *state);
static ngx_int_t ngx_http_agntkey_value_evaluate(ngx_http_request_t *r,
    ngx_http_agntkey_value_state_t *state, ngx_uint_t index, ngx_uint_t keep);
static void ngx_http_agntkey_value_restore(ngx_http_request_t *r,
    ngx_http_agntkey_value_state_t *state,
    ngx_http_variable_value_t *variables);
static void ngx_http_agntkey_value_done(ngx_http_request_t *r,
    ngx_http_agntkey_value_state_t *state);


ngx_uint_t
ngx_http_agntkey_value_is_switch(ngx_str_t *value)
{
    return (value->len == 2
            && ngx_strncasecmp(value->data, (u_char *) "on", 2) == 0)
           || (value->len == 3
               && ngx_strncasecmp(value->data, (u_char *) "off", 3) == 0);
}


ngx_int_t
ngx_http_agntkey_value(ngx_http_request_t *r, ngx_http_complex_value_t *cv,
    ngx_uint_t keep, ngx_str_t *text)
{
    ngx_int_t                        rc;
    ngx_uint_t                      *index;
    ngx_http_agntkey_value_state_t   state;

    if (cv->lengths == NULL) {
        *text = cv->value;
        return NGX_OK;
    }

    index = cv->flushes;

    if (index == NULL) {
        return ngx_http_complex_value(r, cv, text);
    }

    while (*index != (ngx_uint_t) -1
           && ngx_http_agntkey_value_known(&r->variables[*index]))
    {
        index++;
    }

    if (*index == (ngx_uint_t) -1) {
        return ngx_http_complex_value(r, cv, text);
    }

    if (ngx_http_agntkey_value_save(r, &state) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = NGX_OK;

    for (index = cv->flushes; *index != (ngx_uint_t) -1; index++) {

        rc = ngx_http_agntkey_value_evaluate(r, &state, *index, keep);
        if (rc != NGX_OK) {
            break;
        }
    }

    if (rc == NGX_OK) {

        /* all of them are known now, so that none is evaluated */

        rc = ngx_http_complex_value(r, cv, text);
    }

    ngx_http_agntkey_value_done(r, &state);

    return rc;
}


ngx_int_t
ngx_http_agntkey_value_variable(ngx_http_request_t *r, ngx_uint_t index,
    ngx_uint_t keep, ngx_http_variable_value_t *value)
{
    ngx_int_t                       rc;
    ngx_http_agntkey_value_state_t  state;

    if (ngx_http_agntkey_value_known(&r->variables[index])) {
        *value = r->variables[index];
        return NGX_OK;
    }

    if (ngx_http_agntkey_value_save(r, &state) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_agntkey_value_evaluate(r, &state, index, keep);

    *value = state.now[index];

    ngx_http_agntkey_value_done(r, &state);

    return rc;
}


static ngx_int_t
ngx_http_agntkey_value_save(ngx_http_request_t *r,
    ngx_http_agntkey_value_state_t *state)
{
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);

    state->size = cmcf->variables.nelts * sizeof(ngx_http_variable_value_t);

    state->before = state->room;

    if (cmcf->variables.nelts > NGX_HTTP_AGNTKEY_VALUE_ROOM) {
        state->before = ngx_alloc(2 * state->size, r->connection->log);
        if (state->before == NULL) {
            return NGX_ERROR;
        }
    }

    state->now = state->before + cmcf->variables.nelts;

    ngx_memcpy(state->before, r->variables, state->size);
    ngx_memcpy(state->now, r->variables, state->size);

#if (NGX_PCRE)

    state->ncaptures = r->ncaptures;
    state->captures = r->captures;
    state->captures_data = r->captures_data;
    state->realloc_captures = r->realloc_captures;

    /* the next match gets an array of its own, and these stay readable */

    r->realloc_captures = 1;

#endif

    return NGX_OK;
}


/* One variable, in a request that has seen none of the others evaluated. */

static ngx_int_t
ngx_http_agntkey_value_evaluate(ngx_http_request_t *r,
    ngx_http_agntkey_value_state_t *state, ngx_uint_t index, ngx_uint_t keep)
{
    ngx_http_variable_value_t  *vv;

    if (ngx_http_agntkey_value_known(&state->now[index])) {
        return NGX_OK;
    }

    vv = ngx_http_get_flushed_variable(r, index);
    if (vv == NULL) {
        return NGX_ERROR;
    }

    if (keep && !vv->no_cacheable) {
        state->before[index] = *vv;
    }

    state->now[index] = *vv;
    state->now[index].no_cacheable = 0;

    ngx_http_agntkey_value_restore(r, state, state->now);

#if (NGX_PCRE)
    r->realloc_captures = 1;
#endif

    return NGX_OK;
}


static void
ngx_http_agntkey_value_restore(ngx_http_request_t *r,
    ngx_http_agntkey_value_state_t *state,
    ngx_http_variable_value_t *variables)
{
    ngx_memcpy(r->variables, variables, state->size);

#if (NGX_PCRE)
    r->ncaptures = state->ncaptures;
    r->captures = state->captures;
    r->captures_data = state->captures_data;
    r->realloc_captures = state->realloc_captures;
#endif
}


/* The end of what ngx_http_agntkey_value_save() has begun. */

static void
ngx_http_agntkey_value_done(ngx_http_request_t *r,
    ngx_http_agntkey_value_state_t *state)
{
    ngx_http_agntkey_value_restore(r, state, state->before);

    if (state->before != state->room) {
        ngx_free(state->before);
    }
}
