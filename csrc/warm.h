/* warm.h - which pages of the heap exist, and having them exist ahead of need.
 *
 * To zero pages takes as long as to copy bytes into them. So a put that meets many that do not exist says
 * where it will end (pm__warm_from()), and while it copies, the keeper has those behind it made: the next
 * large put finds them. They go back like all that is free when nobody has used them for a while (trim.h).
 * Nobody owns what is warmed, and it may be written meanwhile: to make a page that exists changes nothing. */
#ifndef PM_WARM_H
#define PM_WARM_H

#include "arena.h"

/* Bits of which other threads and processes set some. */
static inline bool pm__bit(const _Atomic uint64_t *words, uint64_t i)
{
    return atomic_load_explicit(&words[i / 64], memory_order_relaxed) >> (i % 64) & 1;
}

static inline void pm__set_bit(_Atomic uint64_t *words, uint64_t i)
{
    if (!pm__bit(words, i))
        atomic_fetch_or_explicit(&words[i / 64], UINT64_C(1) << (i % 64), memory_order_relaxed);
}

/* Whether all pages of a chunk exist. A hint: after a death in the middle of a trim, and after they have
 * been made by a fault, it may be wrong, and what that costs is time. */
static inline bool pm__is_present(const pm_arena *a, uint64_t chunk)
{
    return pm__bit((const _Atomic uint64_t *)a->present, chunk);
}
void pm__set_present(pm_arena *a, uint64_t from, uint64_t to);
void pm__set_absent(pm_arena *a, uint64_t from, uint64_t to);

/* A copy that ends at `end`, of the heap, is about to fill `fresh` bytes in a row that do not exist. Whether
 * they are enough to have the keeper go on from there; then it is rung. */
bool pm__warm_from(pm_arena *a, uint64_t end, uint64_t fresh);

/* By the keeper, again and again: make some of the pages that are to be expected to be needed next, up to
 * 16 MB in some 5 ms. How many bytes; 0 when there is nothing to do, or this kernel (before Linux 5.14)
 * cannot. No lock; others put meanwhile. */
uint64_t pm_warm(pm_arena *a);
/* By the keeper: not this time. What was asked for is not made later, when nobody wants it any more. */
void pm_warm_not(pm_arena *a);

#endif
