/* queue.c - see queue.h. */
#include "queue.h"

#include "os.h"

static pm_header_shm *header(const pm_op *op)
{
    return op->a->h;
}

/* Signed: less than 0 while blocked tasks that woke up are in debt. */
static bool fits(const pm_header_shm *h, uint64_t cpu)
{
    return cpu == 0 || (int64_t)h->cpu_free.v >= (int64_t)cpu;
}

uint64_t pm__shape_of(pm_op *op, uint64_t cpu_units)
{
    pm_shape_shm *shapes = header(op)->shapes;
    uint64_t empty = 0;
    for (uint64_t i = 0; i < PM_SHAPES; i++) {
        if (shapes[i].cpu.v == cpu_units + 1)
            return i + 1;
        if (!empty && shapes[i].users.v == 0)
            empty = i + 1;
    }
    if (empty)
        pm_set(&op->a->lock, &shapes[empty - 1].cpu, cpu_units + 1);
    return empty;
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
    pm_shape_shm *s = &header(op)->shapes[pm__task(op->a, task - 1)->shape.v - 1];
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
    pm_set(l, &header(op)->ready, header(op)->ready.v - 1);
}

uint64_t pm__queue_pick(const pm_op *op)
{
    pm_header_shm *h = header(op);
    uint64_t best = 0;
    if (h->ready.v == 0)
        return 0;
    for (uint64_t i = 0; i < PM_SHAPES; i++) {
        uint64_t task = h->shapes[i].head.v;
        if (task && fits(h, h->shapes[i].cpu.v - 1) &&
            (!best || pm__task(op->a, task - 1)->seq.v < pm__task(op->a, best - 1)->seq.v))
            best = task;
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
    uint64_t called = h->called.v;
    if (h->ready.v == 0 || pm__queue_pick(op) == 0)
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
