/* load.c - see load.h. */
#include "load.h"

#include "mailbox.h"
#include "resource.h"

static pm_runner look_at(const pm_arena *a, uint64_t slot)
{
    const pm_client_shm *c = &a->clients[slot];
    pm_runner r = {.slot = slot, .epoch = c->epoch.v, .pid = c->pid.v, .again = true};
    for (uint64_t task = c->running.v; task; task = pm__task(a, task - 1)->next.v) {
        const pm_task_shm *t = pm__task(a, task - 1);
        r.started = t->started.v;
        r.memory += a->h->shapes[t->shape.v - 1].need[PM_MEMORY].v;
        r.actor = pm__task_mailbox(a, task) != 0;
        r.again = (r.actor || r.again) && t->retries.v; /* an actor's calls are not asked */
    }
    return r;
}

int pm_runners(pm_arena *a, pm_patience how, pm_runner *out, uint64_t *n)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    *n = 0;
    for (uint64_t i = 0; i < a->h->client_high.v; i++)
        if (a->clients[i].kind.v == PM_WORKER && a->clients[i].running.v)
            out[(*n)++] = look_at(a, i);
    /* Under the lock, as the next task is taken: it is seen here, or sees this. */
    pm_a64_store(&a->h->unwatched, *n == 0);
    return pm__leave(&op);
}
