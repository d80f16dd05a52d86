/* actor.c - see actor.h. */
#include "actor.h"

#include <signal.h>

#include "os.h"

static void look(const pm_arena *a, uint64_t slot, pm_actor_info *out)
{
    const pm_entry_shm *e = pm__entry(a, slot);
    *out = (pm_actor_info){
        .serial = e->producer.v,
        .dead = e->task.v == 0,
        .calls = pm__mailbox(a, slot + 1)->calls.v,
    };
    if (out->dead)
        return;
    const pm_task_shm *t = pm__task(a, e->task.v - 1);
    const pm_arg_shm *last = t->nargs.v ? pm__task_arg(a, t, t->nargs.v - 1) : NULL;
    out->dead = t->state.v == PM_TASK_FINISHING || t->state.v == PM_TASK_ABANDONED ||
                t->cancel.v & PM_CANCEL_FORCE; /* it is being killed */
    out->state = (enum pm_task_state)t->state.v;
    out->attempt = t->attempt.v;
    out->retries = t->retries.v;
    out->pid = out->state == PM_TASK_RUNNING ? a->clients[t->runner.v - 1].pid.v : 0;
    if (last && !out->dead)
        out->card = (pm_ref){.slot = last->entry.v >> 1, .generation = last->generation.v};
}

int pm_actor_look(pm_arena *a, pm_patience how, uint64_t slot, pm_actor_info *out)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    if (pm__is_mailbox(a, slot + 1))
        look(a, slot, out);
    else
        rc = PM_EINVAL;
    int left = pm__leave(&op);
    return left ? left : rc;
}

int pm_actor_kill(pm_arena *a, uint64_t slot)
{
    pm_op op;
    uint64_t pid = 0, start_time = 0;
    int rc;
    while ((rc = pm__enter(&op, a, PM_WAIT)) == PM_EAGAIN)
        continue;
    if (rc)
        return rc;
    uint64_t host = pm__is_mailbox(a, slot + 1) ? pm__mailbox(a, slot + 1)->host.v : 0;
    if (host) {
        pid = a->clients[host - 1].pid.v;
        start_time = a->clients[host - 1].start_time.v;
    }
    rc = pm__leave(&op);
    if (rc == PM_OK && pid)
        pm__os_signal((pid_t)pid, start_time, SIGKILL);
    return rc ? rc : pid ? PM_OK : PM_ESTATE;
}
