/* cancel.c - see cancel.h. */
#include "cancel.h"

#include <signal.h>
#include <stdlib.h>

#include "crash.h"
#include "os.h"

enum {
    SCAN = 64, /* task records looked at in one lock hold */
    BATCH = 8, /* tasks cancelled in one lock hold */
    WRITES = 2 * PM_QUEUE_REMOVE_WRITES + PM_DIRECTORY_WRITES + 10,
};

/* A task that may have submitted others. */
typedef struct {
    uint64_t serial;
    uint64_t latest; /* number of the session's latest task when it was cancelled */
} parent;

/* Tasks of one generation, in the order of their numbers once sorted. */
typedef struct {
    parent *at;
    uint64_t n, room;
} generation;

/* What is to be done after the unlock about a running task. */
typedef struct {
    uint64_t pid, start_time;
    int signal;
    parent task;
} runner;

typedef struct {
    pm_op op;
    unsigned way;
    uint64_t now;
    int n;
    runner runners[BATCH]; /* pid 0: it does not run, but has run, and may have submitted tasks */
} batch;

static bool is_cancellable(const pm_task_shm *t)
{
    return t->state.v >= PM_TASK_BUILDING && t->state.v <= PM_TASK_RUNNING;
}

/* One task, under the lock. */
static void cancel(batch *b, uint64_t task)
{
    pm_op *op = &b->op;
    pm_arena *a = op->a;
    pm_task_shm *t = pm__task(a, task - 1);
    runner *r = &b->runners[b->n];
    /* A call's process is its actor's, which is not to be killed for it. */
    unsigned way = pm__called(a, t) ? b->way & ~(unsigned)PM_CANCEL_FORCE : b->way;
    uint64_t asked = (t->cancel.v & ~(uint64_t)PM_CANCEL_TOLD) | PM_CANCEL_ASKED | way;
    *r = (runner){.task = {t->serial.v, a->h->serial.v},
                  .signal = way & PM_CANCEL_FORCE ? SIGKILL : PM_CANCEL_SIGNAL};
    pm_set(&a->lock, &t->cancel, asked);
    if (t->state.v == PM_TASK_READY)
        pm__unqueue(op, task);
    else if (t->state.v == PM_TASK_WAITING && pm__called(a, t))
        pm__mailbox_leave(op, task);
    else if (t->state.v == PM_TASK_RUNNING && way & PM_CANCEL_FORCE)
        pm__actor_unname(op, task);
    if (t->state.v == PM_TASK_READY || t->state.v == PM_TASK_WAITING) {
        pm__event_of_task(op, task, PM_CANCELLED, b->now);
        pm__task_end(op, task);
    } else if (t->state.v == PM_TASK_RUNNING) {
        const pm_client_shm *c = &a->clients[t->runner.v - 1];
        r->pid = c->pid.v;
        r->start_time = c->start_time.v;
        pm__offer_client(op, t->runner.v - 1); /* asleep in pm_wait(), it looks */
    }
    b->n += t->attempt.v > 0;
}

/* order: the word is committed -> the signal. Its handler finds the word, or the task is over. */
static void interrupt(const batch *b)
{
    for (int i = 0; i < b->n; i++) {
        const runner *r = &b->runners[i];
        PM_CRASH(INTERRUPT);
        if (r->pid)
            pm__os_signal((pid_t)r->pid, r->start_time, r->signal);
    }
}

static int begin(batch *b, pm_arena *a)
{
    int rc;
    b->now = pm__os_now();
    while ((rc = pm__enter(&b->op, a, PM_WAIT)) == PM_EAGAIN)
        continue;
    b->n = 0;
    return rc;
}

static int add(generation *g, const batch *b)
{
    for (int i = 0; i < b->n; i++) {
        if (g->n == g->room) {
            uint64_t room = g->room ? 2 * g->room : BATCH;
            parent *more = realloc(g->at, room * sizeof *more);
            if (!more)
                return PM_ESYS;
            g->at = more;
            g->room = room;
        }
        g->at[g->n++] = b->runners[i].task;
    }
    return PM_OK;
}

static int by_serial(const void *left, const void *right)
{
    uint64_t l = ((const parent *)left)->serial, r = ((const parent *)right)->serial;
    return (l > r) - (l < r);
}

static bool is_child(const pm_task_shm *t, const generation *parents)
{
    const parent key = {.serial = t->parent.v};
    const parent *found = bsearch(&key, parents->at, parents->n, sizeof key, by_serial);
    return found && t->serial.v <= found->latest;
}

/* Part of the task table, from *at on. */
static int scan(batch *b, pm_arena *a, const generation *parents, uint64_t *at, bool *end)
{
    int rc = begin(b, a);
    if (rc)
        return rc;
    const pm_pool_shm *tasks = &a->h->tasks;
    for (int i = 0;
         i < SCAN && *at < tasks->high.v && b->n < BATCH && pm_lock_room(&a->lock) >= 2 * WRITES;
         i++, ++*at) {
        const pm_task_shm *t = pm__task(a, *at);
        /* Actors outlive who made them. */
        if (is_cancellable(t) && is_child(t, parents) && !pm__task_mailbox(a, *at + 1))
            cancel(b, *at + 1);
    }
    *end = *at >= tasks->high.v;
    rc = pm__done(&b->op);
    interrupt(b);
    return rc;
}

/* The children of these tasks; those of them that may have children. */
static int cancel_children(pm_arena *a, unsigned way, const generation *parents, generation *out)
{
    batch b = {.way = way};
    uint64_t at = 0;
    bool end = false;
    int rc = PM_OK;
    while (rc == PM_OK && !end) {
        rc = scan(&b, a, parents, &at, &end);
        if (rc == PM_OK)
            rc = add(out, &b);
    }
    return rc;
}

static int cancel_root(pm_arena *a, uint64_t slot, unsigned way, generation *out)
{
    batch b = {.way = way};
    int rc = begin(&b, a);
    if (rc)
        return rc;
    uint64_t task = pm__entry(a, slot)->task.v;
    bool forced_call = task && way & PM_CANCEL_FORCE && pm__called(a, pm__task(a, task - 1));
    if (task && !forced_call && is_cancellable(pm__task(a, task - 1)))
        cancel(&b, task);
    rc = pm__done(&b.op);
    interrupt(&b);
    if (rc == PM_OK && forced_call)
        rc = PM_EINVAL;
    return rc ? rc : add(out, &b);
}

int pm_cancel(pm_arena *a, uint64_t slot, unsigned way)
{
    generation parents = {0};
    int rc = cancel_root(a, slot, way, &parents);
    while (rc == PM_OK && parents.n && way & PM_CANCEL_TREE) {
        generation children = {0};
        qsort(parents.at, parents.n, sizeof *parents.at, by_serial);
        rc = cancel_children(a, way, &parents, &children);
        free(parents.at);
        parents = children;
    }
    free(parents.at);
    return rc;
}

/* ---- the runner's side ----------------------------------------------------------------------- */

bool pm_cancel_asked(const pm_arena *a, uint64_t task)
{
    return pm__cancel_asked(a, task);
}

int pm_cancel_tell(pm_arena *a, pm_patience how, uint64_t task)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    pm_task_shm *t = pm__task(a, task - 1);
    rc = pm__is_to_be_told(t->cancel.v) ? PM_OK : PM_ENOTFOUND;
    if (rc == PM_OK)
        pm_set(&a->lock, &t->cancel, t->cancel.v | PM_CANCEL_TOLD);
    int left = pm__leave(&op);
    return left ? left : rc;
}

bool pm__cancel_remind(const pm_arena *a)
{
    /* Read beside the lock; only this process changes it, and whatever it was names a record. */
    uint64_t task = *(const volatile uint64_t *)&pm__me(a)->running.v;
    if (!task || !pm__cancel_asked(a, task))
        return false;
    pm__os_signal_main(PM_CANCEL_SIGNAL);
    return true;
}
