/* check.h - is this arena in order, and what is in it.
 *
 * All three take the lock and look at everything or count what the header counts; none changes
 * anything. */
#ifndef PM_CHECK_H
#define PM_CHECK_H

#include "client.h"

/* Prove the invariants of layout.h, and this process's own table of holds. PM_ECORRUPT: `why`
 * (len bytes, may be NULL) names the record and the numbers that disagree. O(everything) under
 * the lock, with private memory: for tests and for people, not for a session at work. Call
 * without the GIL: waits for the lock. PM_ESYS: no memory for it. */
int pm_check(pm_arena *a, char *why, size_t len);

typedef struct {
    uint64_t entries, holds, tasks, keys; /* live records, without those in stock (reserve.h) */
    uint64_t reserved;                    /* entries in stock */
    uint64_t kept;                        /* tasks for their results' lineage, not in `tasks` */
    uint64_t entry_capacity, task_capacity;
    /* bytes; largest: the next block may be this long */
    uint64_t heap_capacity, heap_used, heap_free, heap_largest;
    uint64_t disk_capacity, disk_used; /* bytes of the spill file */
    /* so far: copies written to it, objects brought back, and their bytes */
    uint64_t spills, spilled_bytes, restores, restored_bytes;
    uint64_t watermark;     /* objects go ahead of need while less is free; 0 = no disk */
    uint64_t waits;         /* times that somebody has stood in line for room */
    uint64_t disk_errno;    /* why the latest write of a copy failed, 0 = it did not */
    uint64_t ready;         /* tasks in the queues */
    uint64_t workers, idle; /* attached; asleep for a task */
    uint64_t clients;
    uint64_t cpu_total;
    int64_t cpu_free; /* below 0: blocked tasks woke up in debt */
    uint64_t repairs; /* deaths under the lock that were repaired */
} pm_stats;

/* Cost: a look at every client's slot. PM_EAGAIN if the lock is busy. */
int pm_stats_read(pm_arena *a, pm_patience how, pm_stats *out);

/* The arena as text for people: header, clients, objects, tasks; of each table at most `most`
 * records. *text is malloc()ed for the caller to free. Waits for the lock, and formats under it:
 * not for a session at work. PM_ESYS: no memory. */
int pm_dump(pm_arena *a, uint64_t most, char **text);

#endif
