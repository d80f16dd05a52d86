/* queue.c - see queue.h. */
#include "queue.h"

#include "os.h"

static pm_header_shm *header(const pm_op *op)
{
    return op->a->h;
}

/* Whether the shape has ready tasks, as pm__queue_pick() sees it. */
static void mark(pm_op *op, uint64_t shape, bool queued)
{
    pm_j64 *word = &header(op)->queued[(shape - 1) / 64];
    uint64_t bit = UINT64_C(1) << (shape - 1) % 64;
    pm_set(&op->a->lock, word, queued ? word->v | bit : word->v & ~bit);
}

static void push_last(pm_op *op, pm_shape_shm *s, uint64_t task)
{
    pm_lock *l = &op->a->lock;
    pm_task_shm *t = pm__task(op->a, task - 1);
    pm_set(l, &t->prev, s->tail.v);
    pm_set(l, &t->next, 0);
    pm_set(l, s->tail.v ? &pm__task(op->a, s->tail.v - 1)->next : &s->head, task);
    pm_set(l, &s->tail, task);
}

static void push_first(pm_op *op, pm_shape_shm *s, uint64_t task)
{
    pm_lock *l = &op->a->lock;
    pm_task_shm *t = pm__task(op->a, task - 1);
    pm_set(l, &t->prev, 0);
    pm_set(l, &t->next, s->head.v);
    pm_set(l, s->head.v ? &pm__task(op->a, s->head.v - 1)->prev : &s->tail, task);
    pm_set(l, &s->head, task);
}

void pm__queue_push(pm_op *op, uint64_t task, bool first)
{
    uint64_t shape = pm__task(op->a, task - 1)->shape.v;
    pm_shape_shm *s = &header(op)->shapes[shape - 1];
    if (s->head.v == 0)
        mark(op, shape, true);
    (first ? push_first : push_last)(op, s, task);
    pm_set(&op->a->lock, &header(op)->ready, header(op)->ready.v + 1);
}

void pm__queue_remove(pm_op *op, uint64_t task)
{
    pm_lock *l = &op->a->lock;
    pm_task_shm *t = pm__task(op->a, task - 1);
    pm_shape_shm *s = &header(op)->shapes[t->shape.v - 1];
    pm_set(l, t->prev.v ? &pm__task(op->a, t->prev.v - 1)->next : &s->head, t->next.v);
    pm_set(l, t->next.v ? &pm__task(op->a, t->next.v - 1)->prev : &s->tail, t->prev.v);
    if (s->head.v == 0)
        mark(op, t->shape.v, false);
    pm_set(l, &header(op)->ready, header(op)->ready.v - 1);
}

/* No task overtakes a group that could be reserved, which is about to be (regroup in settle.c). */
static uint64_t youngest_allowed(const pm_arena *a)
{
    uint64_t group = a->h->pending.v ? pm__group_that_fits(a) : 0;
    return group ? pm__group(a, group)->seq.v : UINT64_MAX;
}

/* for each shape s with ready tasks */
#define EACH_QUEUED(s, h)                                                                          \
    for (uint64_t w_ = 0; w_ < PM_SHAPES / 64; w_++)                                               \
        for (uint64_t left_ = (h)->queued[w_].v; left_; left_ &= left_ - 1)                        \
            for (const pm_shape_shm *s = &(h)->shapes[w_ * 64 + (uint64_t)__builtin_ctzll(left_)]; \
                 s; s = NULL)

static const pm_task_shm *first_of(const pm_arena *a, const pm_shape_shm *s)
{
    return pm__task(a, s->head.v - 1);
}

uint64_t pm__queue_pick(const pm_op *op, uint64_t *bundle)
{
    const pm_header_shm *h = header(op);
    const pm_client_shm *me = pm__me(op->a);
    uint64_t best = 0, where, serial = 0;
    if (h->ready.v == 0)
        return 0;
    uint64_t limit = youngest_allowed(op->a);
    EACH_QUEUED(s, h)
    {
        const pm_task_shm *t = first_of(op->a, s);
        bool before = t->seq.v < limit || (t->seq.v == 0 && best && t->serial.v > serial);
        if (before && pm__suits(me, s) && (where = pm__fits(op->a, s, false))) {
            best = s->head.v;
            limit = t->seq.v;
            serial = t->serial.v;
            *bundle = where;
        }
    }
    return best;
}

/* ---- workers that suit ----------------------------------------------------------------------- */

bool pm__none_free(const pm_arena *a, const pm_shape_shm *s)
{
    const pm_header_shm *h = a->h;
    if (pm__all_busy(h) || !h->mixed.v)
        return pm__all_busy(h);
    for (uint64_t i = 0; i < h->client_high.v; i++) {
        const pm_client_shm *c = &a->clients[i];
        if (c->kind.v == PM_WORKER && !c->running.v && !c->aside.v && pm__suits(c, s))
            return false;
    }
    return true;
}

bool pm__short_of_workers(const pm_arena *a)
{
    if (a->h->ready.v == 0 || !a->h->mixed.v)
        return a->h->ready.v && pm__all_busy(a->h);
    EACH_QUEUED(s, a->h)
    if (pm__none_free(a, s))
        return true;
    return false;
}

const pm_shape_shm *pm__stranded(const pm_arena *a, bool awaited)
{
    uint64_t limit = youngest_allowed(a);
    EACH_QUEUED(s, a->h)
    {
        uint64_t seq = first_of(a, s)->seq.v;
        if (seq < (awaited ? 1 : limit) && pm__fits(a, s, false) && pm__none_free(a, s))
            return s;
    }
    return NULL;
}

/* Of the idle list from here on, the first that suits: one that is bound before one that is free. */
static uint64_t idle_from(const pm_arena *a, uint64_t from, const pm_shape_shm *s)
{
    uint64_t found = 0;
    for (uint64_t i = from; i; i = a->clients[i - 1].idle_next.v) {
        if (!pm__suits(&a->clients[i - 1], s))
            continue;
        if (a->clients[i - 1].env.v || !a->h->mixed.v)
            return i;
        if (!found)
            found = i;
    }
    return found;
}

void pm__idle_enter(pm_op *op)
{
    pm_header_shm *h = header(op);
    pm_lock *l = &op->a->lock;
    pm_client_shm *me = pm__me(op->a);
    if (me->idle.v)
        return;
    pm_set(l, &me->idle, 1);
    pm_set(l, &me->idle_prev, 0);
    pm_set(l, &me->idle_next, h->idle.v);
    if (h->idle.v)
        pm_set(l, &op->a->clients[h->idle.v - 1].idle_prev, op->a->slot + 1);
    pm_set(l, &h->idle, op->a->slot + 1);
    pm_set(l, &h->idle_count, h->idle_count.v + 1);
}

void pm__idle_leave(pm_op *op, uint64_t client)
{
    pm_header_shm *h = header(op);
    pm_lock *l = &op->a->lock;
    pm_client_shm *c = &op->a->clients[client];
    if (h->called.v == client + 1)
        pm_set(l, &h->called, 0);
    if (!c->idle.v)
        return;
    uint64_t next = c->idle_next.v, prev = c->idle_prev.v;
    pm_set(l, prev ? &op->a->clients[prev - 1].idle_next : &h->idle, next);
    if (next)
        pm_set(l, &op->a->clients[next - 1].idle_prev, prev);
    pm_set(l, &c->idle, 0);
    pm_set(l, &h->idle_count, h->idle_count.v - 1);
}

void pm__aside_enter(pm_op *op, uint64_t client)
{
    pm_client_shm *c = &op->a->clients[client];
    if (c->aside.v || c->running.v || c->kind.v != PM_WORKER)
        return;
    pm__idle_leave(op, client);
    pm_set(&op->a->lock, &c->aside, PM_STOPPED);
    pm_set(&op->a->lock, &header(op)->aside, header(op)->aside.v + 1);
}

void pm__aside_leave(pm_op *op, uint64_t client)
{
    pm_client_shm *c = &op->a->clients[client];
    if (!c->aside.v)
        return;
    pm_set(&op->a->lock, &c->aside, 0);
    pm_set(&op->a->lock, &header(op)->aside, header(op)->aside.v - 1);
}

void pm__ring(pm_op *op, uint64_t client)
{
    pm_client_shm *c = &op->a->clients[client];
    /* A bell rung in a transaction that is rolled back costs the worker one look at the queue. */
    atomic_store(&c->bell.v, 1);
    pm__wake_later(op, &c->asleep);
}

bool pm__dismiss(pm_op *op)
{
    pm_header_shm *h = header(op);
    uint64_t last = 0;
    for (uint64_t i = h->idle.v; i; i = op->a->clients[i - 1].idle_next.v)
        if (i != h->called.v)
            last = i;
    if (!last)
        return false;
    pm__aside_enter(op, last - 1);
    pm_set(&op->a->lock, &op->a->clients[last - 1].aside, PM_DISMISSED);
    pm__ring(op, last - 1);
    return true;
}

static void call(pm_op *op, uint64_t worker, uint64_t now)
{
    pm_header_shm *h = header(op);
    pm_set(&op->a->lock, &h->called, worker);
    pm_set(&op->a->lock, &h->called_at, now);
    pm__ring(op, worker - 1);
}

void pm__call_worker(pm_op *op)
{
    pm_header_shm *h = header(op);
    if (h->ready.v == 0)
        return;
    uint64_t called = h->called.v, now = 0, worker = 0, next = 0;
    if (called) {
        now = pm__os_now();
        if (now - h->called_at.v < PM_STALE_NS)
            return; /* it looks, and calls others */
        next = op->a->clients[called - 1].idle_next.v;
    }
    uint64_t limit = youngest_allowed(op->a);
    EACH_QUEUED(s, h)
    {
        if (first_of(op->a, s)->seq.v >= limit || !pm__fits(op->a, s, false))
            continue;
        /* Past a worker that did not come: the next in the list, round and round. */
        uint64_t found = idle_from(op->a, next, s);
        if (!found)
            found = idle_from(op->a, h->idle.v, s);
        if (!found)
            op->ring = op->ring || pm__none_free(op->a, s);
        if (!worker)
            worker = found;
    }
    if (worker)
        call(op, worker, now ? now : pm__os_now());
}

void pm__prefetch_later(pm_op *op)
{
    const pm_header_shm *h = header(op);
    if (h->disk_shm.used.v == 0 || h->ready.v == 0)
        return;
    op->prefetch = true;
    atomic_store_explicit(&op->a->prefetch, true, memory_order_relaxed);
}
