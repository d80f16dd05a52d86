/* warm.c - see warm.h. */
#include "warm.h"

#include <sys/mman.h>

#include "crash.h"
#include "os.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

enum { STEP = 32 }; /* chunks between two looks whether others were faster */

/* From LARGE bytes on it is worth a wake-up. What is less is left over from others' blocks, or small. */
static const uint64_t LARGE = 8 << 20, PIECE = 16 << 20, FURTHEST = 256 << 20;

void pm__set_present(pm_arena *a, uint64_t from, uint64_t to)
{
    for (uint64_t c = from; c < to; c++)
        pm__set_bit((_Atomic uint64_t *)a->present, c);
}

void pm__set_absent(pm_arena *a, uint64_t from, uint64_t to)
{
    for (uint64_t c = from; c < to; c++)
        atomic_fetch_and((_Atomic uint64_t *)&a->present[c / 64], ~(UINT64_C(1) << c % 64));
}

bool pm__warm_from(pm_arena *a, uint64_t end, uint64_t fresh)
{
    if (fresh < LARGE)
        return false;
    pm_a64_store(&a->h->warm_from, end);
    pm__os_eventfd_ring(a->bell);
    return true;
}

/* At most this much ahead: what a few large puts take, and never most of the store. */
static uint64_t ahead(const pm_arena *a)
{
    return a->h->heap_bytes / 4 < FURTHEST ? a->h->heap_bytes / 4 : FURTHEST;
}

static uint64_t next_absent(const pm_arena *a, uint64_t chunk, uint64_t end)
{
    while (chunk < end && pm__is_present(a, chunk))
        chunk++;
    return chunk;
}

/* The pages stay the arena's; of this process they are none, or it would seem to use them all. */
static int make(pm_arena *a, uint64_t from, uint64_t to)
{
    char *at = a->map.base + a->h->heap + from * PM_CHUNK;
    uint64_t len = (to - from) * PM_CHUNK;
    if (madvise(at, len, MADV_POPULATE_WRITE))
        return PM_ESYS;
    PM_CRASH(WARMING);
    pm__set_present(a, from, to);
    madvise(at, len, MADV_DONTNEED);
    return PM_OK;
}

void pm_warm_not(pm_arena *a)
{
    pm_a64_store(&a->h->warm_from, 0);
}

uint64_t pm_warm(pm_arena *a)
{
    uint64_t from = pm_a64_load(&a->h->warm_from), made = 0;
    if (from == 0)
        return 0;
    uint64_t most = from + ahead(a), heap = a->h->heap_bytes;
    uint64_t chunk = from / PM_CHUNK, end = (most < heap ? most : heap) / PM_CHUNK;
    while (made < PIECE && (chunk = next_absent(a, chunk, end)) < end) {
        uint64_t stop = chunk;
        while (stop < end && stop < chunk + STEP && !pm__is_present(a, stop))
            stop++;
        if (make(a, chunk, stop))
            break;
        made += (stop - chunk) * PM_CHUNK;
    }
    if (made)
        pm_a64_store(&a->h->loose, 1); /* if nobody comes to use it */
    else
        pm_a64_cas(&a->h->warm_from, &from, 0); /* not what was asked meanwhile */
    return made;
}
