/* trim.c - see trim.h. */
#include "trim.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "crash.h"
#include "disk.h"
#include "os.h"
#include "warm.h"

enum { PIECES = 256 };

static const uint64_t LEAST = 1 << 20, PIECE = 64 << 20;

/* Others wait for us, instead of spilling, no longer than that: we may be stopped. */
static const uint64_t AT_MOST_NS = 1000000000;

/* One of the two heaps, and what has been taken of it. */
typedef struct {
    pm_heap *heap;
    uint64_t clock; /* when it began */
    uint64_t n, taken[PIECES];
} trimming;

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Under the lock: others have made blocks since it began, or wait for room to. */
static bool is_disturbed(pm_arena *a, const trimming *t)
{
    return pm_a64_load(&a->h->clock) != t->clock || pm__first_in_line(a);
}

/* A piece of the longest free run, as a pending object of ours. PM_ENOTFOUND: no run is worth it, there
 * is no record for it, or somebody comes in between. */
static int take(pm_arena *a, trimming *t)
{
    pm_op op;
    pm_heap_stats heap;
    int rc;
    while ((rc = pm__enter(&op, a, PM_WAIT)) == PM_EAGAIN)
        ;
    if (rc)
        return rc;
    pm__heap_stats(t->heap, &heap);
    uint64_t most = larger(PIECE, heap.capacity / (PIECES / 2)), at = 0;
    if (heap.largest >= LEAST && !is_disturbed(a, t))
        at = pm__heap_alloc(t->heap, heap.largest < most ? heap.largest : most);
    rc = !at ? PM_ENOTFOUND
             : pm__carrier_new(&op, t->heap == &a->disk ? at : 0, t->heap == &a->disk ? 0 : at,
                               &t->taken[t->n]);
    if (rc)
        pm_lock_rollback(&a->lock);
    int left = pm__done(&op);
    if (rc == PM_OK && left == PM_OK)
        t->n++;
    return left ? left : rc ? PM_ENOTFOUND : PM_OK;
}

static void give_all(pm_arena *a, const trimming *t)
{
    for (uint64_t i = 0; i < t->n; i++)
        pm_drop(a, t->taken[i]);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* What the machine has given for the whole arena. */
static uint64_t backed(const pm_arena *a)
{
    struct stat st;
    return fstat(a->fd, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

/* First it is noted that the pages may not exist, which is no more than slow if they do. */
static void punch(pm_arena *a, uint64_t block)
{
    uint64_t at = block - a->h->heap, bytes = pm__heap_usable(&a->heap, block);
    pm__set_absent(a, at / PM_CHUNK, (at + bytes + PM_CHUNK - 1) / PM_CHUNK);
    PM_CRASH(GIVING);
    if (pm__os_is_file(a->fd, a->file))
        fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)block, (off_t)bytes);
}

static int trim_memory(pm_arena *a, uint64_t clock, uint64_t keep)
{
    trimming t = {.heap = &a->heap, .clock = clock};
    uint64_t enough = a->h->heap_bytes - pm__heap_left(a) + keep;
    int rc = PM_OK;
    while (rc == PM_OK && t.n < PIECES && backed(a) > enough)
        if ((rc = take(a, &t)) == PM_OK)
            punch(a, pm__entry(a, t.taken[t.n - 1])->block.v);
    give_all(a, &t);
    return rc == PM_ENOTFOUND ? PM_OK : rc;
}

/* ---- disk ------------------------------------------------------------------------------------ */

static int trim_disk(pm_arena *a, uint64_t clock)
{
    trimming t = {.heap = &a->disk, .clock = clock};
    int rc = PM_OK;
    while (rc == PM_OK && t.n < PIECES && pm__disk_spare(a) > LEAST)
        if ((rc = take(a, &t)) == PM_OK)
            pm__disk_punch(a, pm__entry(a, t.taken[t.n - 1])->copy.v);
    give_all(a, &t);
    return rc == PM_ENOTFOUND ? PM_OK : rc;
}

int pm_trim(pm_arena *a, uint64_t keep, uint64_t *given)
{
    uint64_t before = backed(a), clock = pm_a64_load(&a->h->clock);
    pm_a64_store(&a->h->loose, 0); /* what goes from here on is another matter */
    pm_a64_store(&a->h->trimming, pm__os_now() + AT_MOST_NS);
    int rc = trim_memory(a, clock, keep);
    pm_a64_store(&a->h->trimming, 0);
    if (rc == PM_OK)
        rc = trim_disk(a, clock);
    uint64_t after = backed(a);
    *given = before > after ? before - after : 0;
    return rc;
}
