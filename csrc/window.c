/* window.c - see window.h. */
#include "window.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "crash.h"
#include "os.h"

enum { PAGE = 4096, LARGE = 16 << 20 }; /* from LARGE bytes on unmapping is worth a thread */

/* Page tables move whole between addresses that are aligned to what one of them spans. */
static uint64_t alignment(uint64_t len)
{
    const uint64_t table = UINT64_C(2) << 20, directory = UINT64_C(1) << 30;
    return len >= directory ? directory : len >= table ? table : PAGE;
}

/* Addresses for `len` bytes, so aligned, with nothing behind them. */
static int reserve(uint64_t len, char **out)
{
    uint64_t align = alignment(len), whole = len + align - PAGE;
    char *at = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return PM_ESYS;
    uint64_t before = (align - (uintptr_t)at % align) % align;
    if (before)
        munmap(at, before);
    if (whole - before > len)
        munmap(at + before + len, whole - before - len);
    *out = at + before;
    return PM_OK;
}

static void unmap(const pm_window *w)
{
    if (w->at)
        munmap(w->at, w->len);
    if (w->aside)
        munmap(w->aside, w->len);
}

static int map_over(const pm_arena *a, const pm_window *w, bool is_private)
{
    void *at = mmap(w->at, w->len, PROT_READ | PROT_WRITE,
                    (is_private ? MAP_PRIVATE : MAP_SHARED) | MAP_FIXED | MAP_NORESERVE, a->fd,
                    (off_t)w->offset);
    if (at == MAP_FAILED)
        return PM_ESYS;
    madvise(at, w->len, MADV_DONTDUMP);
    madvise(at, w->len, MADV_DONTFORK);
    return PM_OK;
}

int pm_window_open(pm_arena *a, uint64_t slot, uint64_t from, uint64_t len, bool is_private,
                   pm_window *out)
{
    uint64_t block = pm__entry(a, slot)->block.v;
    *out = (pm_window){.len = (len + PAGE - 1) / PAGE * PAGE, .offset = block + from};
    if (block == 0 || len == 0 || out->offset % PAGE)
        return PM_EINVAL;
    int rc = reserve(out->len, &out->at);
    if (rc == PM_OK && !is_private)
        rc = reserve(out->len, &out->aside);
    if (rc == PM_OK)
        rc = map_over(a, out, is_private);
    if (rc) {
        int e = errno;
        unmap(out);
        errno = e;
    }
    return rc;
}

int pm_window_freeze(pm_arena *a, pm_window *w)
{
    /* DONTUNMAP: the addresses stay ours; a thread that touches them in between gets the same
     * pages, as before. */
    if (mremap(w->at, w->len, w->len, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, w->aside) ==
        MAP_FAILED)
        return PM_ESYS;
    PM_CRASH(FREEZING);
    int rc = map_over(a, w, true);
    if (rc) {
        int e = errno;
        pm_window_thaw(w);
        errno = e;
    }
    return rc;
}

int pm_window_thaw(pm_window *w)
{
    /* DONTUNMAP: the addresses aside stay reserved. */
    void *at =
        mremap(w->aside, w->len, w->len, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, w->at);
    return at == MAP_FAILED ? PM_ESYS : PM_OK;
}

void pm_window_inherit(const pm_window *w, bool inherit)
{
    madvise(w->at, w->len, inherit ? MADV_DOFORK : MADV_DONTFORK);
}

/* ---- unmapping beside the caller's way ------------------------------------------------------- */

static void *unmap_and_free(void *window)
{
    unmap(window);
    free(window);
    return NULL;
}

static int start(pm_window *gone)
{
    pthread_t thread;
    pthread_attr_t attr;
    sigset_t all, old;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 64 * 1024);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* inherited by the thread */
    int e = pthread_create(&thread, &attr, unmap_and_free, gone);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return e;
}

void pm_window_close(const pm_window *w)
{
    pm_window *gone = w->len >= LARGE ? malloc(sizeof *gone) : NULL;
    if (gone)
        *gone = *w;
    if (!gone || start(gone)) {
        free(gone);
        unmap(w);
    }
}
