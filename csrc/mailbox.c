/* mailbox.c - see mailbox.h. */
#include "mailbox.h"

static pm_lock *lock_of(pm_op *op)
{
    return &op->a->lock;
}

static pm_task_shm *task_at(const pm_op *op, uint64_t task)
{
    return pm__task(op->a, task - 1);
}

/* This client, as tasks that it launches remember it. */
static uint64_t caller(const pm_arena *a)
{
    return pm__me(a)->epoch.v * PM_CLIENTS + a->slot + 1;
}

/* The record is new: its first values need no journal. */
void pm__mailbox_begin(pm_arena *a, uint64_t entry, uint64_t limit, bool unordered)
{
    pm_mailbox_shm *m = pm__mailbox(a, entry);
    pm_init(&pm__entry(a, entry - 1)->strip, PM_MAILBOX);
    pm_init(&m->head, 0);
    pm_init(&m->tail, 0);
    pm_init(&m->calls, 0);
    pm_init(&m->limit, limit);
    pm_init(&m->unordered, unordered);
    pm_init(&m->host, 0);
    pm_init(&m->tails, 0);
    pm_init(&m->closing, 0);
}

/* ---- the order of callers -------------------------------------------------------------------- */

/* Where the list of tails names this task. */
static pm_j64 *link_to(const pm_op *op, pm_mailbox_shm *m, uint64_t task)
{
    pm_j64 *at = &m->tails;
    while (at->v != task)
        at = &task_at(op, at->v)->prev;
    return at;
}

void pm__mailbox_join(pm_op *op, uint64_t task)
{
    pm_lock *l = lock_of(op);
    pm_task_shm *t = task_at(op, task);
    pm_mailbox_shm *m = pm__mailbox(op->a, t->function.v);
    bool waits = t->waiting.v > 1; /* one of them is that it was being built */
    if (m->unordered.v || (m->tails.v == 0 && !waits))
        return;
    pm_j64 *at = &m->tails; /* as many as there are processes whose calls wait */
    while (at->v && task_at(op, at->v)->seq.v != caller(op->a))
        at = &task_at(op, at->v)->prev;
    uint64_t before = at->v;
    if (before == 0 && !waits)
        return;
    pm_set(l, &t->seq, caller(op->a));
    pm_set(l, &t->prev, before ? task_at(op, before)->prev.v : 0);
    pm_set(l, at, task);
    if (before) {
        pm_set(l, &task_at(op, before)->lent, task);
        pm_set(l, &t->runner, before);
        pm_set(l, &t->waiting, t->waiting.v + 1);
    }
}

/* It waits for one thing less, as soon as there is room to say so. */
static void follow(pm_op *op, uint64_t task)
{
    pm_lock *l = lock_of(op);
    pm_task_shm *t = task_at(op, task);
    pm_set(l, &t->runner, 0);
    pm_set(l, &t->started, op->a->h->following.v);
    pm_set(l, &op->a->h->following, task);
}

void pm__mailbox_pass(pm_op *op, uint64_t task)
{
    pm_lock *l = lock_of(op);
    pm_task_shm *t = task_at(op, task);
    uint64_t next = t->lent.v;
    if (t->seq.v == 0)
        return;
    if (next) {
        follow(op, next);
        pm_set(l, &t->lent, 0);
    } else
        pm_set(l, link_to(op, pm__mailbox(op->a, t->function.v), task), t->prev.v);
    pm_set(l, &t->seq, 0);
}

void pm__mailbox_leave(pm_op *op, uint64_t task)
{
    pm_lock *l = lock_of(op);
    pm_task_shm *t = task_at(op, task);
    uint64_t before = t->runner.v, next = t->lent.v;
    if (t->seq.v == 0)
        return;
    if (next == 0) {
        pm_set(l, link_to(op, pm__mailbox(op->a, t->function.v), task),
               before ? before : t->prev.v);
        if (before)
            pm_set(l, &task_at(op, before)->prev, t->prev.v);
    } else if (before)
        pm_set(l, &task_at(op, next)->runner, before);
    else
        follow(op, next);
    if (before) {
        pm_set(l, &task_at(op, before)->lent, next);
        pm_set(l, &t->waiting, t->waiting.v - 1);
        pm_set(l, &t->runner, 0);
    }
    pm_set(l, &t->lent, 0);
    pm_set(l, &t->seq, 0);
}

/* ---- the queue ------------------------------------------------------------------------------- */

void pm__mailbox_push(pm_op *op, uint64_t task, bool first)
{
    pm_lock *l = lock_of(op);
    pm_task_shm *t = task_at(op, task);
    pm_mailbox_shm *m = pm__mailbox(op->a, t->function.v);
    pm_set(l, &t->prev, first ? 0 : m->tail.v);
    pm_set(l, &t->next, first ? m->head.v : 0);
    pm_set(l, t->prev.v ? &task_at(op, t->prev.v)->next : &m->head, task);
    pm_set(l, t->next.v ? &task_at(op, t->next.v)->prev : &m->tail, task);
    if (m->host.v)
        pm__ring(op, m->host.v - 1);
}

void pm__mailbox_remove(pm_op *op, uint64_t task)
{
    pm_lock *l = lock_of(op);
    pm_task_shm *t = task_at(op, task);
    pm_mailbox_shm *m = pm__mailbox(op->a, t->function.v);
    pm_set(l, t->prev.v ? &task_at(op, t->prev.v)->next : &m->head, t->next.v);
    pm_set(l, t->next.v ? &task_at(op, t->next.v)->prev : &m->tail, t->prev.v);
}

void pm__unqueue(pm_op *op, uint64_t task)
{
    if (pm__called(op->a, task_at(op, task)))
        pm__mailbox_remove(op, task);
    else
        pm__queue_remove(op, task);
}

/* ---- the host -------------------------------------------------------------------------------- */

uint64_t pm__served(const pm_arena *a)
{
    uint64_t mailbox = pm__me(a)->hosts.v;
    /* After its actor has ended the entry may be gone, and another's. */
    return mailbox && pm__is_mailbox(a, mailbox) && pm__mailbox(a, mailbox)->host.v == a->slot + 1
               ? mailbox
               : 0;
}

bool pm__is_unwanted(const pm_arena *a, uint64_t mailbox)
{
    const pm_entry_shm *e = pm__entry(a, mailbox - 1);
    uint64_t host = pm__mailbox(a, mailbox)->host.v, own = 0;
    if (e->refs.v > 2)
        return false;
    for (uint64_t i = e->holders.v; i; i = a->holds[i - 1].enext.v)
        own += a->holds[i - 1].client.v + 1 == host;
    return e->refs.v == 1 + own;
}

void pm__mailbox_look(pm_op *op, uint64_t mailbox)
{
    uint64_t host = pm__mailbox(op->a, mailbox)->host.v;
    if (host && pm__is_unwanted(op->a, mailbox))
        pm__ring(op, host - 1);
}
