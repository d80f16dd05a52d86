/* prefetch.h - what queued tasks take comes back from the disk while others run.
 *
 * Who takes a task and leaves others, or queues one that has to wait, has its watcher thread look at the
 * heads of the queues (pm__prefetch_later()). Like any reader it brings objects back for everybody, and
 * dies as one. */
#ifndef PM_PREFETCH_H
#define PM_PREFETCH_H

#include "spill.h"

/* Bring back what the next tasks take, up to a quarter of the store. By the watcher thread: blocks on
 * the disk. */
void pm__prefetch(pm_arena *a);

#endif
