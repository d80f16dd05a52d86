/* load.h - for the keeper, which sees that memory does not run out: which processes run what. */
#ifndef PM_LOAD_H
#define PM_LOAD_H

#include "task.h"

/* A process with tasks on its stack. What is said of the task is of the outermost. */
typedef struct {
    uint64_t slot, epoch, pid;
    uint64_t started; /* pm__os_now() */
    uint64_t memory;  /* bytes that all of them asked for; 0 = none did */
    bool again; /* all of them may be run again; of an actor's process: it may be started again */
    bool actor;
} pm_runner;

/* Those of them that are workers: at most PM_CLIENTS. `n` of 0 also says that the keeper looks no
 * further: then the next task that is taken rings its bell. */
int pm_runners(pm_arena *a, pm_patience how, pm_runner *out, uint64_t *n);

#endif
