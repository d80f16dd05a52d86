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
#define PM_CAUSE_SHORT   (INT64_MIN + 2) /* the keeper did, before memory ran out */
#define PM_CAUSE_EXCESS  (INT64_MIN + 3) /* the keeper did: it used more than its task asked for */

/* How a client ended. Of a process killed for its memory also what is known of that, in bytes, 0 where
 * it is not. */
typedef struct {
    int64_t cause;       /* exit status >= 0, -signal, or a PM_CAUSE_ */
    uint64_t used, peak; /* by the process when it was killed, and the most that ever was */
    uint64_t limit, group_used, group_peak; /* of the group or machine; limit: or its task's */
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
