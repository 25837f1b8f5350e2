
/*
 * Copyright (C) the agntkey authors
 *
 * What the fuzz targets have in common.  Each is a file of its own, that says
 * in a line "Files:" which files of src/ it is about; t/fuzz/run does the
 * rest.
 */


#ifndef _FUZZ_H_INCLUDED_
#define _FUZZ_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* what a target holds to be true; the input that broke it is kept */

#define fuzz_check(true)                                                      \
    if (!(true)) {                                                            \
        fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #true);    \
        abort();                                                              \
    }


/* as libFuzzer calls them */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/*
 * Memory that is exactly as long as it is asked for, so that ASan sees who
 * reads behind it; all of it goes with fuzz_end().
 */
ngx_pool_t *fuzz_begin(void);
void fuzz_end(void);
ngx_str_t fuzz_str(const void *data, size_t len);

/* Cuts off what stands in front of the separator, or all there is. */
ngx_str_t fuzz_field(const uint8_t **data, size_t *len, u_char separator);

/* The text lies within the other. */
ngx_uint_t fuzz_inside(ngx_str_t *text, ngx_str_t *outer);


#endif /* _FUZZ_H_INCLUDED_ */
