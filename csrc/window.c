/* window.c - see window.h. */
#include "window.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "crash.h"
#include "os.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13, of files 6.15 */
#endif

enum { PAGE = 4096, LARGE = 16 << 20 }; /* from LARGE bytes on unmapping is worth a thread */

static const uint64_t TABLE = UINT64_C(2) << 20, DIRECTORY = UINT64_C(1) << 30;

/* Page tables move whole between addresses that are aligned to what one of them spans. */
static uint64_t alignment(uint64_t len)
{
    return len >= DIRECTORY ? DIRECTORY : len >= TABLE ? TABLE : PAGE;
}

/* A directory of page tables that the window has all of moves by one entry of the level above.
 * Otherwise its tables move one by one, each with a flush of the TLB of every core that runs a
 * thread of this process: 0.2 us each on one core, 15 us (in a virtual machine) with two, for the
 * 476 tables of 1e9 bytes 7 ms. So the last directory is taken whole if that is not much more,
 * with guard pages in what is beyond the block. They cost 4 us for 1 MB, of a window that takes
 * 300 us for 1 MB to fill. */
static uint64_t span_of(uint64_t len)
{
    uint64_t whole = (len + DIRECTORY - 1) / DIRECTORY * DIRECTORY;
    return whole - len <= len / 4 ? whole : len;
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
        munmap(w->at, w->span);
    if (w->aside)
        munmap(w->aside, w->span);
}

static int map_over(const pm_arena *a, const pm_window *w, uint64_t len, int sharing)
{
    if (!pm__os_is_file(a->fd, a->file)) {
        errno = EBADF;
        return PM_ESYS;
    }
    void *at = mmap(w->at, len, PROT_READ | PROT_WRITE, sharing | MAP_FIXED | MAP_NORESERVE, a->fd,
                    (off_t)w->offset);
    if (at == MAP_FAILED)
        return PM_ESYS;
    madvise(at, len, MADV_DONTDUMP);
    madvise(at, len, MADV_DONTFORK);
    return PM_OK;
}

/* Take addresses of w->span bytes and map them; PM_ESYS and nothing mapped. */
static int map(const pm_arena *a, pm_window *w, int sharing)
{
    w->at = w->aside = NULL;
    int rc = reserve(w->span, &w->at);
    if (rc == PM_OK && sharing == MAP_SHARED)
        rc = reserve(w->span, &w->aside);
    if (rc == PM_OK)
        rc = map_over(a, w, w->span, sharing);
    if (rc == PM_OK && w->span > w->len &&
        madvise(w->at + w->len, w->span - w->len, MADV_GUARD_INSTALL))
        rc = PM_ESYS;
    if (rc) {
        int e = errno;
        unmap(w);
        errno = e;
    }
    return rc;
}

int pm_window_open(pm_arena *a, uint64_t slot, uint64_t from, uint64_t len, bool is_private,
                   pm_window *out)
{
    uint64_t block = pm__entry(a, slot)->block.v;
    *out = (pm_window){.len = (len + PAGE - 1) / PAGE * PAGE, .offset = block + from};
    if (block == 0 || len == 0 || out->offset % PAGE)
        return PM_EINVAL;
    out->span = is_private ? out->len : span_of(out->len);
    int sharing = is_private ? MAP_PRIVATE : MAP_SHARED, rc = map(a, out, sharing);
    if (rc && out->span > out->len) { /* an older kernel, or too few addresses */
        out->span = out->len;
        rc = map(a, out, sharing);
    }
    return rc;
}

/* DONTUNMAP: both ranges of addresses stay ours. */
static int move_tables(const pm_window *w, char *from, char *to)
{
    void *at = mremap(from, w->span, w->span, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to);
    return at == MAP_FAILED ? PM_ESYS : PM_OK;
}

/* The guards moved, too, and until this is done what is beyond the block are others' blocks: a
 * few microseconds in which an overrun by another thread would not fault. */
static int close_off(const pm_window *w)
{
    void *at = w->span == w->len
                   ? NULL
                   : mmap(w->at + w->len, w->span - w->len, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? PM_ESYS : PM_OK;
}

int pm_window_freeze(pm_arena *a, pm_window *w)
{
    /* A thread that touches the window between these gets the same pages, as before. */
    int rc = move_tables(w, w->at, w->aside);
    if (rc)
        return rc;
    PM_CRASH(FREEZING);
    rc = close_off(w);
    if (rc == PM_OK)
        rc = map_over(a, w, w->len, MAP_PRIVATE);
    if (rc) {
        int e = errno;
        move_tables(w, w->aside, w->at); /* with the guards */
        errno = e;
    }
    return rc;
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
    int rc = pm__os_thread(&thread, unmap_and_free, gone);
    if (rc == PM_OK)
        pthread_detach(thread);
    return rc;
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
