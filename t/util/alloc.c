
/*
 * Copyright (C) the agntkey authors
 *
 * Lets one allocation of one process fail.  Loaded before all else
 * (LD_PRELOAD), it finds in the file AGNTKEY_ALLOC, which the test writes:
 *
 *     pid       of the process that is meant, or 0
 *     fail      which of its allocations fails, the first is 1; 0: none
 *     seen      how many there were: counted here
 */


#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>


typedef struct {
    volatile int64_t  pid;
    volatile int64_t  fail;
    volatile int64_t  seen;
} alloc_control_t;


/* those of glibc */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static void alloc_init(void) __attribute__((constructor));
static int alloc_fails(void);


static alloc_control_t  *alloc_control;


static void
alloc_init(void)
{
    int          fd;
    void        *p;
    const char  *name;

    name = getenv("AGNTKEY_ALLOC");
    if (name == NULL) {
        return;
    }

    fd = open(name, O_RDWR);
    if (fd == -1) {
        return;
    }

    p = mmap(NULL, sizeof(alloc_control_t), PROT_READ|PROT_WRITE, MAP_SHARED,
             fd, 0);
    close(fd);

    if (p != MAP_FAILED) {
        alloc_control = p;
    }
}


static int
alloc_fails(void)
{
    if (alloc_control == NULL
        || alloc_control->pid == 0
        || alloc_control->pid != getpid()
        || ++alloc_control->seen != alloc_control->fail)
    {
        return 0;
    }

    errno = ENOMEM;

    return 1;
}


void *
malloc(size_t size)
{
    return alloc_fails() ? NULL : __libc_malloc(size);
}


void *
calloc(size_t n, size_t size)
{
    return alloc_fails() ? NULL : __libc_calloc(n, size);
}


void *
realloc(void *p, size_t size)
{
    return alloc_fails() ? NULL : __libc_realloc(p, size);
}


int
posix_memalign(void **p, size_t alignment, size_t size)
{
    if (alloc_fails()) {
        return ENOMEM;
    }

    *p = __libc_memalign(alignment, size);

    return *p ? 0 : ENOMEM;
}


void *
memalign(size_t alignment, size_t size)
{
    return alloc_fails() ? NULL : __libc_memalign(alignment, size);
}


void *
aligned_alloc(size_t alignment, size_t size)
{
    return alloc_fails() ? NULL : __libc_memalign(alignment, size);
}
