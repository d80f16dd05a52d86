/* actor.h - actors as those who have a reference to their mailbox see them (mailbox.h). */
#ifndef PM_ACTOR_H
#define PM_ACTOR_H

#include "task.h"

typedef struct {
    uint64_t serial; /* of the task that it is */
    bool dead;       /* then nothing of what follows is known, but for the calls */
    enum pm_task_state state;
    uint64_t attempt, retries;
    uint64_t pid;   /* of its process, 0 = has none now */
    uint64_t calls; /* that have not ended */
    pm_ref
        card; /* its task's last argument: what it is called, and so on. Not held for the caller */
} pm_actor_info;

/* slot: of a mailbox that this process holds. PM_EINVAL: it is none. */
int pm_actor_look(pm_arena *a, pm_patience how, uint64_t slot, pm_actor_info *out);

/* Kill its process, so that it is started again if it may be. PM_ESTATE: it has none now. */
int pm_actor_kill(pm_arena *a, uint64_t slot);

#endif
