
/*
 * Copyright (C) the agntkey authors
 *
 * What the configuration says of the check in a location, and what is known of
 * a request.
 */


#ifndef _NGX_HTTP_AGNTKEY_ACCESS_CTX_H_INCLUDED_
#define _NGX_HTTP_AGNTKEY_ACCESS_CTX_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_agntkey_lookup.h"
#include "ngx_http_agntkey_record.h"
#include "ngx_http_agntkey_token.h"
#include "ngx_http_agntkey_verdict.h"


/* where agntkey_token looks for a key */

typedef enum {
    NGX_HTTP_AGNTKEY_FROM_VARIABLE = 0,   /* any other variable */
    NGX_HTTP_AGNTKEY_FROM_HEADER,         /* $http_<name> */
    NGX_HTTP_AGNTKEY_FROM_ARG,            /* $arg_<name> */
    NGX_HTTP_AGNTKEY_FROM_COOKIE          /* $cookie_<name> */
} ngx_http_agntkey_from_e;


typedef struct {
    ngx_http_agntkey_from_e        from;
    ngx_int_t                      index;         /* of the variable */
    ngx_str_t                      name;          /* as in the variable's */
} ngx_http_agntkey_source_t;


/* a refusal as it goes out, made when the configuration is read */

typedef struct {
    ngx_uint_t                     status;
    ngx_str_t                      challenge;     /* empty: none */
    ngx_str_t                      body;
} ngx_http_agntkey_refusal_t;


/* one for each reason; three more to say what is malformed */
#define NGX_HTTP_AGNTKEY_REFUSALS  (NGX_HTTP_AGNTKEY_REASONS + 3)


/*
 * A module with a guard of its own for a location sets "alone" there: it is not
 * checked unless it says so itself.  What is nested in it inherits "enable".
 */

typedef struct {
    ngx_flag_t                      enable;      /* as written or inherited */
    ngx_uint_t                      check;       /* what it means right here */
    ngx_uint_t                      alone;       /* nothing is inherited here */
    ngx_flag_t                      dry_run;
    ngx_msec_t                      stale;

    /* both NULL: the bearer credentials of "Authorization" */
    ngx_array_t                    *sources;     /* ngx_http_agntkey_source_t */
    ngx_http_complex_value_t       *token;       /* text among the variables */
    ngx_uint_t                      apart;       /* and never Authorization */
    ngx_uint_t                      headers;     /* sources: and cookies only */

    ngx_str_t                       realm;       /* escaped for a challenge */
    ngx_array_t                    *workspaces;  /* ngx_http_complex_value_t */
    ngx_array_t                    *scopes;      /* ngx_str_t */

    ngx_http_agntkey_refusal_t     *refusals;    /* NULL: switched off */
} ngx_http_agntkey_loc_conf_t;


/* of one pass of a request through the access phase */

typedef struct {
    ngx_http_request_t             *request;
    ngx_pool_cleanup_t             *cleanup;       /* marks it in the pool */
    ngx_http_agntkey_waiter_t       waiter;
    ngx_http_agntkey_entry_t       *entry;         /* to be given back */

    u_char                          digest[NGX_HTTP_AGNTKEY_DIGEST_LEN];
    u_char                          id[NGX_HTTP_AGNTKEY_ID_LEN];

    /* of the look-up; the record is the entry's, or in the pool */
    ngx_int_t                       rc;
    ngx_http_agntkey_record_t      *key;           /* NULL: none */

    ngx_http_agntkey_reason_e       reason;
    ngx_http_agntkey_token_e        malformed;     /* why */

    /* the refusal that stands, or NULL, and the headers pushed for it */
    ngx_http_agntkey_refusal_t     *refusal;
    ngx_table_elt_t                *challenge;
    ngx_table_elt_t                *cache_control;
    ngx_table_elt_t                *retry_after;

    unsigned                        has_id:1;
    unsigned                        workspace_active:1;
    unsigned                        answered:1;    /* by the look-up */
    unsigned                        hit:1;         /* without asking Redis */
    unsigned                        stale:1;       /* Redis had no answer */
    unsigned                        decided:1;
    unsigned                        identified:1;  /* key holds what it says */
    unsigned                        body_due:1;    /* header sent, body not */
} ngx_http_agntkey_ctx_t;


extern ngx_module_t  ngx_http_agntkey_access_module;


/*
 * A new context of this pass, which can be found again after an internal
 * redirect has cleared the contexts.  Returns NULL without memory.
 */
ngx_http_agntkey_ctx_t *ngx_http_agntkey_access_ctx_create(
    ngx_http_request_t *r);

/*
 * The context of the latest pass of the request, or of the main request of a
 * subrequest: internal redirects do not lose it.  NULL if there was none.
 */
ngx_http_agntkey_ctx_t *ngx_http_agntkey_access_ctx_find(ngx_http_request_t *r);

/* The context of the pass before that of ctx, or NULL. */
ngx_http_agntkey_ctx_t *ngx_http_agntkey_access_ctx_previous(
    ngx_http_agntkey_ctx_t *ctx);


#endif /* _NGX_HTTP_AGNTKEY_ACCESS_CTX_H_INCLUDED_ */
