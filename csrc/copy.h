/* copy.h - bytes into a block, by the way that suits the state of its pages (limits.md: 8 to 20
 * times between them).
 *
 *   pages that do not exist yet   pwrite() to the memfd: fills them without a fault (2.2 GB/s against 1.0)
 *   the same, huge                faulted in, 2 MB at a time (5 to 7 GB/s with the copy)
 *   pages not mapped here yet     one read per 64 KiB maps them writable, 16 at a time, then as below (0.28 us a page
 *                                 against 1.7)
 *   pages mapped                  memcpy, or non-temporal stores above the size of the cache (13 GB/s against 9), by one
 *                                 thread: one core fills what the memory takes, with two it is 13.4 */
#ifndef PM_COPY_H
#define PM_COPY_H

#include "arena.h"

/* Copy into [off, off + len) of the arena, which must lie in a block of ours. May block on page
 * faults only. PM_ESYS: the machine has no memory left to give. */
int pm__copy_in(pm_arena *a, uint64_t off, const void *data, uint64_t len);

/* Have [off, off + len) mapped for writing here. False: some of its pages do not exist yet, and
 * pm__copy_in() has a better way than to fault them in. */
bool pm__map_in(pm_arena *a, uint64_t off, uint64_t len);

#endif
