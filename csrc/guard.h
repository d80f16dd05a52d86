/* guard.h - the driver's thread that starts the session's keeper and starts it again whenever it
 * ends or is stopped.
 *
 * A C thread with all signals blocked, asleep in waitid(): it works while Python is stuck, and
 * costs nothing. */
#ifndef PM_GUARD_H
#define PM_GUARD_H

#include "client.h"

typedef struct pm_guard pm_guard;

/* Run argv (argv[0] is the path) in a kernel session of its own, with stdio on /dev/null and
 * fds[i] as descriptor 3 + i. The strings are copied. While it cannot be kept alive the arena
 * says so (pm__fail). PM_ESYS if it cannot be started even once. */
int pm_guard_start(pm_arena *a, char *const argv[], char *const envp[], const int *fds, int nfds,
                   pm_guard **out);
pid_t pm_guard_pid(const pm_guard *g);
/* True while it dies at once whenever it is started, or cannot be. Attempts go on, at growing
 * intervals. */
bool pm_guard_failed(const pm_guard *g);
/* Kill it for good, wait until it is gone, and end the thread. */
void pm_guard_stop(pm_guard *g);

#endif
