/* trim.c - see trim.h. */
#include "trim.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "crash.h"
#include "os.h"

enum { PIECES = 256 };

static const uint64_t LEAST = 1 << 20, PIECE = 64 << 20;

/* What the machine has given for the whole arena. */
static uint64_t backed(const pm_arena *a)
{
    struct stat st;
    return fstat(a->fd, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

/* A piece of the longest free run, as a pending object of ours. PM_ENOTFOUND: no run is worth it, or
 * others have made blocks since we began. */
static int take(pm_arena *a, uint64_t most, uint64_t clock, pm_ref *out)
{
    pm_op op;
    pm_heap_stats heap;
    int rc;
    while ((rc = pm__enter(&op, a, PM_WAIT)) == PM_EAGAIN)
        ;
    if (rc)
        return rc;
    pm__heap_stats(&a->heap, &heap);
    rc = heap.largest < LEAST || pm_a64_load(&a->h->clock) != clock
             ? PM_ENOTFOUND
             : pm__create_locked(&op, heap.largest < most ? heap.largest : most, 0, 0, out);
    int left = pm__done(&op);
    return rc ? rc : left;
}

/* First it is noted that the pages may not exist, which is no more than slow if they do. */
static int give(pm_arena *a, const pm_entry_shm *e)
{
    uint64_t at = e->block.v - a->h->heap, bytes = pm__heap_usable(&a->heap, e->block.v);
    for (uint64_t c = at / PM_CHUNK; c * PM_CHUNK < at + bytes; c++)
        atomic_fetch_and((_Atomic uint64_t *)&a->present[c / 64], ~(UINT64_C(1) << c % 64));
    PM_CRASH(GIVING);
    return fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)e->block.v,
                     (off_t)bytes)
               ? PM_ESYS
               : PM_OK;
}

int pm_trim(pm_arena *a, uint64_t keep, uint64_t *given)
{
    pm_ref taken[PIECES];
    uint64_t before = backed(a), clock = pm_a64_load(&a->h->clock), n = 0;
    uint64_t enough = a->h->heap_bytes - pm__heap_left(a) + keep;
    uint64_t share = a->h->heap_bytes / (PIECES / 2), most = share < PIECE ? PIECE : share;
    int rc = pm__os_is_file(a->fd, a->file) ? PM_OK : PM_ESYS;
    pm_a64_store(&a->h->loose, 0); /* what is given back from here on is another matter */
    while (rc == PM_OK && n < PIECES && backed(a) > enough) {
        rc = take(a, most, clock, &taken[n]);
        if (rc == PM_OK)
            rc = give(a, pm__entry(a, taken[n++].slot));
    }
    uint64_t after = backed(a);
    *given = before > after ? before - after : 0;
    for (uint64_t i = 0; i < n; i++)
        pm_drop(a, taken[i].slot);
    return rc == PM_ENOTFOUND ? PM_OK : rc;
}
