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

uint64_t pm__queue_pick(const pm_op *op, uint64_t *bundle)
{
    const pm_header_shm *h = header(op);
    uint64_t best = 0, where;
    if (h->ready.v == 0)
        return 0;
    uint64_t limit = youngest_allowed(op->a);
    for (uint64_t w = 0; w < PM_SHAPES / 64; w++)
        for (uint64_t bits = h->queued[w].v; bits; bits &= bits - 1) {
            const pm_shape_shm *s = &h->shapes[w * 64 + (uint64_t)__builtin_ctzll(bits)];
            uint64_t seq = pm__task(op->a, s->head.v - 1)->seq.v;
            if (seq < limit && (where = pm__fits(op->a, s, false))) {
                best = s->head.v;
                limit = seq;
                *bundle = where;
            }
        }
    return best;
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
    pm_set(&op->a->lock, &c->aside, 1);
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

static void call(pm_op *op, uint64_t worker, uint64_t now)
{
    pm_header_shm *h = header(op);
    pm_client_shm *c = &op->a->clients[worker - 1];
    pm_set(&op->a->lock, &h->called, worker);
    pm_set(&op->a->lock, &h->called_at, now);
    /* A bell rung for a call that is rolled back costs its worker one look at the queue. */
    atomic_store(&c->bell.v, 1);
    pm__wake_later(op, &c->asleep);
}

void pm__call_worker(pm_op *op)
{
    pm_header_shm *h = header(op);
    uint64_t called = h->called.v, bundle;
    if (h->ready.v == 0 || pm__queue_pick(op, &bundle) == 0)
        return;
    if (h->idle.v == 0) {
        op->ring = op->ring || pm__all_busy(h);
        return;
    }
    uint64_t now = pm__os_now();
    if (called && now - h->called_at.v < PM_STALE_NS)
        return;
    /* Past a worker that did not come: the next in the list, round and round. */
    uint64_t next = called ? op->a->clients[called - 1].idle_next.v : h->idle.v;
    call(op, next ? next : h->idle.v, now);
}
