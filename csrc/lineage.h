/* lineage.h - what a lost object can be made from again.
 *
 * A task that ends with a result that may be spilled, and may be run again, is kept: the record with
 * its function and its packed arguments, not the objects that it took, which would fill the store. So
 * a result can be made again while these are alive, for whatever other reason. The record goes with the
 * last such result.
 *
 *   entry with a block: the last word of its bytes = task << 3 | which result of it */
#ifndef PM_LINEAGE_H
#define PM_LINEAGE_H

#include "directory.h"

enum { PM_KEPT_PAYLOAD = 4096 }; /* bytes of packed arguments that are kept */

/* Of an entry with a block. */
static inline pm_j64 *pm__lineage(pm_entry_shm *e)
{
    return (pm_j64 *)(void *)(e->bytes + PM_SITE);
}
static inline uint64_t pm__lineage_task(uint64_t lineage)
{
    return lineage >> 3;
}

/* Result i of the task, just sealed, can be made again by it, if it is such a task. */
void pm__lineage_begin(pm_op *op, uint64_t task, uint64_t i);
/* The entry goes: true if the task that it came from has nothing to be kept for any more. */
bool pm__lineage_end(pm_op *op, pm_entry_shm *e);
/* The task has ended, is on no list, and keeps only what it is to keep. */
void pm__lineage_keep(pm_op *op, uint64_t task);

#endif
