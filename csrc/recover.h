/* recover.h - what a dead client left: give back what it held, run again or fail what it ran.
 *
 * Cost: what it held, not what is stored. Every step is a short transaction; a sweeper that dies
 * leaves the rest to the next, who finds it by the same lists. The client's life lock keeps
 * sweepers of one client apart. */
#ifndef PM_RECOVER_H
#define PM_RECOVER_H

#include "task.h"

#define PM_CAUSE_UNKNOWN INT64_MIN

/* Sweep the client (slot, epoch). cause: exit status >= 0, -signal, or PM_CAUSE_UNKNOWN; told to
 * those who wait for tasks that will not be run again. PM_EALIVE: it lives. PM_ENOTFOUND: that
 * client is gone already. Call without the GIL: may wait for the lock. */
int pm_sweep(pm_arena *a, uint64_t slot, uint64_t epoch, int64_t cause);

/* The value of a result whose worker died: first byte PM_TAG_CRASH, then pid and cause, 8 bytes
 * each, then the task's name. */
enum { PM_TAG_CRASH = 0x0f };

#endif
