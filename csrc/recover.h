/* recover.h - what a dead client left: give back what it held, run again or fail what it ran.
 *
 * Cost: what it held, not what is stored. Every step is a short transaction; a sweeper that dies
 * leaves the rest to the next, who finds it by the same lists. The client's life lock keeps
 * sweepers of one client apart. */
#ifndef PM_RECOVER_H
#define PM_RECOVER_H

#include "task.h"

#define PM_CAUSE_UNKNOWN INT64_MIN
#define PM_CAUSE_MEMORY  (INT64_MIN + 1) /* the kernel killed it because memory ran out */

/* How a client ended. Of a process killed for want of memory also what is known of that, in bytes,
 * 0 where it is not. */
typedef struct {
    int64_t cause; /* exit status >= 0, -signal, PM_CAUSE_UNKNOWN or PM_CAUSE_MEMORY */
    uint64_t peak; /* the most that the process had in use */
    uint64_t limit, group_used, group_peak; /* of the control group, or of the machine */
} pm_death;

/* Sweep the client (slot, epoch). `how` is told to those who wait for tasks that will not be run
 * again. PM_EALIVE: it lives. PM_ENOTFOUND: that client is gone already. Call without the GIL: may
 * wait for the lock. */
int pm_sweep(pm_arena *a, uint64_t slot, uint64_t epoch, const pm_death *how);

/* The value of a result whose worker died: first byte PM_TAG_CRASH, then its pid (8 bytes), a
 * pm_death, and the task's name. */
enum { PM_TAG_CRASH = 0x0f, PM_CRASH_BYTES = 9 + sizeof(pm_death) };
/* The same of a call whose actor will be started again; before the name 8 bytes, its serial. */
enum { PM_TAG_UNAVAILABLE = 0x0b, PM_UNAVAILABLE_BYTES = PM_CRASH_BYTES + 8 };

#endif
