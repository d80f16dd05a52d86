/* heap.h - the arena's blocks: a size goes in, an offset comes out. Knows nothing of objects.
 *
 * The heap is a row of 4 KiB pages. Beside it, outside the blocks, stands the page table: one
 * 64-byte descriptor a page, of which only those at the two ends of a run are ever touched, so
 * neither a fresh block nor an overrun by its user reaches the allocator.
 *
 *   run     whole pages next to each other: free, or one block of more than 16 KiB, or a span
 *   span    a run of 4 to 16 pages, cut without rest into equal slots: the blocks up to 16 KiB
 *   bin     list of free runs of about one length: a length of its own below 64 pages, 64 per doubling above
 *   class   size of slots: steps of 64 bytes up to 1 KiB, 8 per doubling above
 *
 * Pages are numbered from 1; 0 is null. Descriptors 0 and pages + 1 are fences, so coalescing
 * needs no bounds.
 *
 * Layout of the table whose offset pm__heap_open() is given, zero before format:
 *
 *   pm_page_shm[pages + 2]        descriptors                                                  journaled
 *   pm_j64[(pages + 2) / 16 + 1]  4 bits a page: its distance from the first page of its span  journaled
 *
 * Lock rule:   the caller holds the arena's lock, in an open transaction, for every function below pm__heap_open().
 *              None of them locks, calls the system, or loops without a bound.
 * Crash rule:  every change is a pm_set() of the caller's transaction: commit keeps it, rollback
 * undoes it to the
 *              bit. A transaction may free and allocate the same pages: nothing here relies on pm_init(). */
#ifndef PM_HEAP_H
#define PM_HEAP_H

#include "lock.h"

enum {
    PM_HEAP_PAGE = 4096,
    PM_HEAP_SMALL = 16384, /* largest block that is a slot; larger ones begin on a page */
    PM_HEAP_CLASSES = 48,
    /* doublings of run lengths: below 64 pages, then from 2^6, 2^7, .. 2^31 pages */
    PM_HEAP_GROUPS = 27,
    PM_HEAP_BINS = 64, /* in each group */

    /* Most pm_set() calls of one pm__heap_alloc() and of one pm__heap_free(); heap.c adds them
     * up. */
    PM_HEAP_ALLOC_WRITES = 23,
    PM_HEAP_FREE_WRITES = 24,
};

#define PM_HEAP_MAX ((uint64_t)1 << 43) /* bytes: page numbers have 32 bits */

/* One page. Two invariants let every function find its way from any page:
 *   tag != 0   <=>  the page is the first of a run
 *   foot != 0  <=>  the page is the last of a free run */
typedef struct {
    pm_j64 tag;     /* kind, class and pages of the run; see heap.c */
    pm_j64 foot;    /* pages of the free run */
    pm_j64 link;    /* first page of a listed run: next << 32 | previous, circular */
    uint64_t spare; /* zero */
    pm_j64 free[4]; /* first page of a span: a bit per free slot */
} pm_page_shm;

/* used                = sum of the blocks' usable sizes, in bytes
 * pages_used          = sum of the pages of block runs and spans
 * a run is in a bin  <=> it is free;  no two free runs touch
 * a span is listed   <=> it has a free slot;  at most one span of a class is empty, and that is its list's last
 * groups bit g       <=> bins[g] != 0;  bins[g] bit b <=> runs[g * 64 + b] != 0 */
typedef struct {
    uint64_t pages; /* constant after format */
    pm_j64 used;
    pm_j64 pages_used;
    pm_j64 spans;
    pm_j64 groups;
    uint64_t spare[3]; /* zero */
    pm_j64 bins[PM_HEAP_GROUPS];
    pm_j64 classes[PM_HEAP_CLASSES];            /* first span with a free slot */
    pm_j64 runs[PM_HEAP_GROUPS * PM_HEAP_BINS]; /* first free run */
} pm_heap_shm;

/* One process's handle. */
typedef struct {
    pm_lock *l;
    pm_heap_shm *shm;
    pm_page_shm *pages;
    uint64_t first; /* arena offset of page 1 */
} pm_heap;

typedef struct {
    uint64_t capacity; /* bytes of all pages */
    uint64_t used;     /* bytes of all blocks, as pm__heap_usable() counts them */
    uint64_t free;     /* bytes of free runs; capacity - used - free = free slots of spans */
    /* the next pm__heap_alloc() of this many bytes succeeds; fragmented if far below free */
    uint64_t largest;
    uint64_t spans;
} pm_heap_stats;

/* Bytes of the page table for a heap of this size. */
uint64_t pm__heap_table_bytes(uint64_t heap_bytes);

/* table, first: arena offsets of the page table (64-aligned) and of the heap (page-aligned, not
 * 0). */
void pm__heap_open(pm_heap *h, pm_lock *l, pm_heap_shm *shm, char *base, uint64_t table,
                   uint64_t first);

/* Make an open heap one free run. Plain stores, in a zeroed arena that nobody else sees yet.
 * PM_EINVAL if first is not on a page, or heap_bytes less than a page or more than PM_HEAP_MAX;
 * a part of a page at the end is not used. */
int pm__heap_format(pm_heap *h, uint64_t heap_bytes);

/* Arena offset of a block of at least nbytes (0 counts as 1), a multiple of 64, and of 4096 if
 * nbytes is above PM_HEAP_SMALL. 0, and nothing written, if no run is long enough. */
uint64_t pm__heap_alloc(pm_heap *h, uint64_t nbytes);

/* Give a block back. An offset that is not a block (a second free) breaks the arena: the release
 * returns PM_ECORRUPT and nothing is changed. */
void pm__heap_free(pm_heap *h, uint64_t off);

/* Give back empty spans, as many as fit a transaction of its own. True if there was one: commit,
 * and what did not fit may fit now. False: none is left, only blocks stand between free runs. */
bool pm__heap_reclaim(pm_heap *h);

/* Bytes of the block at off, 0 if there is none. */
uint64_t pm__heap_usable(const pm_heap *h, uint64_t off);

void pm__heap_stats(const pm_heap *h, pm_heap_stats *out);

/* Every invariant above; of a run longer than a page of the table, its ends' pages of the table
 * stand for the rest, so that a check touches no fresh memory. PM_OK or PM_ECORRUPT. O(runs). */
int pm__heap_check(const pm_heap *h);

#endif
