/* queue.h - ready tasks, idle workers, and bringing the two together.
 *
 * Workers pull. The queue is the truth and a call is a hint: at most one idle worker is on its
 * way at a time (header.called); it takes a task and, if there are more, calls the next. A call
 * that leads nowhere (its worker was stopped, or its caller died before the wake) grows stale
 * after PM_STALE_NS, and any death calls everyone.
 *
 * A worker's first task binds it to that task's environment (or to having none) for life, since what
 * it changes in a process cannot be undone. So what is asked of workers is asked for a shape: whether
 * there is one that suits. As long as no task had an environment (header.mixed) every one does. */
#ifndef PM_QUEUE_H
#define PM_QUEUE_H

#include "resource.h"

enum {
    PM_STALE_NS = 5000000,
    PM_QUEUE_PUSH_WRITES = 6,
    PM_QUEUE_REMOVE_WRITES = 7,
};

/* At the end, or first of its shape when somebody waits for it. */
void pm__queue_push(pm_op *op, uint64_t task, bool first);
void pm__queue_remove(pm_op *op, uint64_t task);

/* Whether this client may run tasks of this shape. */
static inline bool pm__suits(const pm_client_shm *c, const pm_shape_shm *s)
{
    return c->env.v == 0 || c->env.v == s->env.v + 1;
}

/* The ready task that this client should run next, and the bundle from which it fits; or 0: of those
 * that are awaited inside of tasks the youngest, which is the deepest, else the oldest. Cost: a look
 * at each shape that has ready tasks. */
uint64_t pm__queue_pick(const pm_op *op, uint64_t *bundle);

void pm__idle_enter(pm_op *op);
void pm__idle_leave(pm_op *op, uint64_t client); /* no harm if it is not idle */

/* No worker is free, or about to look for a task: only another one would help. */
static inline bool pm__all_busy(const pm_header_shm *h)
{
    return h->busy.v + h->aside.v >= h->workers.v;
}

/* The same of those workers that suit. */
bool pm__none_free(const pm_arena *a, const pm_shape_shm *s);

/* Whether a ready task, fitting or not, finds none. */
bool pm__short_of_workers(const pm_arena *a);

/* A shape whose first task fits, but finds none, or NULL. awaited: inside of a task. */
const pm_shape_shm *pm__stranded(const pm_arena *a, bool awaited);

/* A worker that was stopped while it had nothing to run: nobody waits for it to come when
 * called. It counts again when it next looks for a task. */
void pm__aside_enter(pm_op *op, uint64_t client);
void pm__aside_leave(pm_op *op, uint64_t client);

/* Have the worker that has been idle longest end. False if there is none. */
bool pm__dismiss(pm_op *op);

/* Have this client, asleep in pm_next() or about to be, look. */
void pm__ring(pm_op *op, uint64_t client);

/* What the next tasks take may be on disk: have our watcher thread look (prefetch.h). */
void pm__prefetch_later(pm_op *op);

/* If a ready task could run, call an idle worker that suits; if there is none, ring the keeper. */
void pm__call_worker(pm_op *op);

#endif
