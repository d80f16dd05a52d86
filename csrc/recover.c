/* recover.c - see recover.h. */
#include "recover.h"

#include <string.h>

#include "crash.h"
#include "group.h"
#include "os.h"

_Static_assert(PM_UNAVAILABLE_BYTES + PM_TASK_NAME <= PM_INLINE,
               "how a worker died fits in an entry");

static int fail_task(pm_arena *a, uint64_t task, uint64_t pid, const pm_death *how)
{
    unsigned char message[PM_UNAVAILABLE_BYTES + PM_TASK_NAME] = {PM_TAG_CRASH};
    const pm_task_shm *t = pm__task(a, task - 1);
    uint64_t mailbox = pm__called(a, t), head = PM_CRASH_BYTES;
    size_t name = strnlen(t->name, PM_TASK_NAME);
    memcpy(message + 1, &pid, 8);
    memcpy(message + 9, how, sizeof *how);
    if (mailbox) {
        message[0] = PM_TAG_UNAVAILABLE;
        memcpy(message + head, &pm__entry(a, mailbox - 1)->producer.v, 8);
        head = PM_UNAVAILABLE_BYTES;
    }
    memcpy(message + head, t->name, name);
    return pm__attach_failure(a, task, message, head + name);
}

static int rerun(pm_arena *a, uint64_t task)
{
    pm_op op;
    uint64_t now = pm__os_now();
    int rc = pm__enter(&op, a, PM_WAIT);
    if (rc)
        return rc;
    pm__task_rerun(&op, task, now);
    return pm__done(&op);
}

/* Whether the task, whose process has died, goes back to a queue: where what is of a removed group or
 * of a dead actor fails, and says so. */
static bool goes_back(const pm_arena *a, uint64_t task)
{
    const pm_task_shm *t = pm__task(a, task - 1);
    uint64_t mailbox = pm__called(a, t);
    bool bereaved = mailbox && pm__entry(a, mailbox - 1)->task.v == 0;
    return t->retries.v || t->cancel.v || bereaved || pm__removed_group_of(a, task);
}

/* The actor that this client hosts, if it ends with it; else 0. */
static uint64_t dying_actor(const pm_arena *a, const pm_client_shm *c)
{
    uint64_t task = c->running.v;
    while (task && !pm__task_mailbox(a, task))
        task = pm__task(a, task - 1)->next.v;
    if (!task)
        return 0;
    const pm_task_shm *t = pm__task(a, task - 1);
    return t->retries.v && !t->cancel.v && !pm__removed_group_of(a, task) ? 0 : task;
}

/* Tasks it ran, innermost first: so calls of an actor are back in their order before it is started
 * again. An actor that is not goes before them, so that they can tell of its end. Each leaves the
 * list by its last step only. */
static int sweep_running(pm_arena *a, pm_client_shm *c, const pm_death *how)
{
    int rc = PM_OK;
    while (rc == PM_OK && c->running.v) {
        uint64_t actor = dying_actor(a, c), task = actor ? actor : c->running.v;
        rc = pm__detach(a, task);
        if (rc == PM_OK)
            rc = goes_back(a, task) ? rerun(a, task) : fail_task(a, task, c->pid.v, how);
    }
    return rc;
}

static int sweep_building(pm_arena *a, pm_client_shm *c)
{
    pm_op op;
    int rc = PM_OK;
    while (rc == PM_OK && c->building.v) {
        rc = pm__enter(&op, a, PM_WAIT);
        if (rc)
            break;
        uint64_t task = c->building.v;
        pm__list_remove(&op, &c->building, task);
        pm_set(&a->lock, &pm__task(a, task - 1)->state, PM_TASK_ABANDONED);
        pm__task_waited(&op, task);
        rc = pm__done(&op);
    }
    return rc;
}

static int sweep_holds(pm_arena *a, pm_client_shm *c)
{
    pm_op op;
    int rc = PM_OK;
    while (rc == PM_OK && c->holds.v) {
        rc = pm__enter(&op, a, PM_WAIT);
        if (rc)
            break;
        while (c->holds.v && pm_lock_room(&a->lock) >= 3 * PM_STEP_WRITES)
            pm__hold_end(&op, c->holds.v);
        rc = pm__done(&op);
    }
    return rc;
}

/* The last step: the slot is free for another, under another epoch. */
static int free_client(pm_arena *a, uint64_t slot)
{
    pm_client_shm *c = &a->clients[slot];
    pm_lock *l = &a->lock;
    pm_op op;
    int rc = pm__enter(&op, a, PM_WAIT);
    if (rc)
        return rc;
    pm__idle_leave(&op, slot);
    pm__aside_leave(&op, slot);
    if (c->kind.v == PM_WORKER)
        pm_set(l, &a->h->workers, a->h->workers.v - 1);
    if (c->hosts.v) {
        pm_set(l, &a->h->hosts, a->h->hosts.v - 1);
        pm_set(l, &c->hosts, 0);
    }
    pm_a64_store(&c->waiters, 0);
    for (int w = 0; w < PM_WAITERS; w++)
        pm_a64_store(&pm__waiter(a, slot, w)->ticket, 0);
    pm_a64_store(&c->bell, 0);
    pm_a64_store(&c->reserve, 0);
    pm_set(l, &c->env, 0);
    pm_set(l, &c->kind, 0);
    pm_set(l, &c->epoch, c->epoch.v + 1);
    pm__may_go_now(&op);          /* what it looked at */
    op.everyone = op.ring = true; /* wakes it had promised may never have been sent [R 13] */
    return pm__done(&op);
}

static int patient(int (*step)(pm_arena *, pm_client_shm *), pm_arena *a, pm_client_shm *c)
{
    int rc;
    while ((rc = step(a, c)) == PM_EAGAIN)
        ;
    return rc;
}

/* Take the life lock of a dead client. Under the arena's lock, so that its words and lists are
 * those of committed transactions: what it, or a sweeper of it, left half done is repaired
 * first. From here on only we change them. */
static int inherit(pm_arena *a, uint64_t slot, uint64_t epoch)
{
    pm_op op;
    int rc = pm__enter(&op, a, PM_WAIT);
    if (rc)
        return rc;
    if (slot >= a->h->client_high.v || a->clients[slot].epoch.v != epoch ||
        a->clients[slot].kind.v == 0)
        rc = PM_ENOTFOUND;
    else if (pm_life_take(&a->clients[slot].life) == PM_LIFE_HELD)
        rc = PM_EALIVE;
    int left = pm__leave(&op);
    return rc ? rc : left;
}

int pm_sweep(pm_arena *a, uint64_t slot, uint64_t epoch, const pm_death *how)
{
    int rc;
    while ((rc = inherit(a, slot, epoch)) == PM_EAGAIN)
        ;
    if (rc)
        return rc;
    pm_client_shm *c = &a->clients[slot];
    PM_CRASH(SWEEPING);
    while ((rc = sweep_running(a, c, how)) == PM_EAGAIN)
        ;
    PM_CRASH(SWEPT_TASKS);
    if (rc == PM_OK)
        rc = patient(sweep_building, a, c);
    if (rc == PM_OK)
        rc = patient(sweep_holds, a, c);
    if (rc == PM_OK)
        rc = pm__groups_leave(a, slot, epoch);
    while (rc == PM_OK && (rc = free_client(a, slot)) == PM_EAGAIN)
        rc = PM_OK;
    pm_life_give(&c->life);
    if (rc == PM_OK)
        while ((rc = pm__settle(a, PM_WAIT)) == PM_EAGAIN)
            ;
    return rc;
}
