/* disk.h - the spill file: copies of objects that have had to make room.
 *
 * One file in a session. The driver makes it without a name: nothing is left of it when the last
 * process is gone, and who removes its folder takes nothing away. Others open it by the driver's
 * entry in /proc when they attach; the session lives no longer than the driver.
 *
 * Space in it is given out as the heap's is (heap.h), PM_DISK_UNIT bytes of the file for each of that
 * allocator's. An extent holds an object's bytes, and after them a tail that says whose they are and
 * proves them: what comes back is what was written, or PM_ELOST. */
#ifndef PM_DISK_H
#define PM_DISK_H

#include "arena.h"

/* The driver, once, before anybody joins: copies go to this file. The descriptor stays the caller's. */
int pm_disk_use(pm_arena *a, int fd);

static inline bool pm__has_disk(const pm_arena *a)
{
    return pm_a64_load(&a->h->disk_fd) != 0;
}

/* The driver leaves: the space is free at once, whoever still has the file open. */
void pm__disk_end(pm_arena *a);
/* Have the file open, so that it can be reached even if the driver should close its descriptors. */
void pm__disk_open(pm_arena *a);

/* Under the lock: an extent for an object of so many bytes, 0 if there is none; and back. */
uint64_t pm__disk_alloc(pm_arena *a, uint64_t bytes);
void pm__disk_free(pm_arena *a, uint64_t extent);

/* The bytes of the object `of` into an extent, and back. Blocks. PM_ESYS: the disk is full, ...;
 * PM_ELOST: they are not there any more. */
int pm__disk_write(pm_arena *a, uint64_t extent, pm_ref of, const char *data, uint64_t len);
int pm__disk_read(pm_arena *a, uint64_t extent, pm_ref of, uint64_t block, uint64_t len);

/* Give the file system back what lies under an extent of ours. */
void pm__disk_punch(pm_arena *a, uint64_t extent);
/* Bytes of the file that the file system has given and no extent has. */
uint64_t pm__disk_spare(const pm_arena *a);

#endif
