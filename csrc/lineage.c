/* lineage.c - see lineage.h. */
#include "lineage.h"

#include "mailbox.h"
#include "resource.h"

/* It asks for CPU alone, and for nobody's environment or group: then nothing else need be kept. */
static bool is_plain(const pm_shape_shm *s)
{
    return !(s->kinds.v >> (PM_CPU + 1)) && !s->group.v && !s->env.v && !s->alone.v;
}

static bool is_short(const pm_arena *a, uint64_t payload)
{
    const pm_entry_shm *e = payload ? pm__entry(a, payload - 1) : NULL;
    return !e || (e->size.v <= PM_KEPT_PAYLOAD && e->nrefs.v == 0);
}

static bool can_run_again(const pm_arena *a, uint64_t task)
{
    const pm_task_shm *t = pm__task(a, task - 1);
    return t->retries.v && !t->cancel.v && !t->table.v && !pm__called(a, t) &&
           is_plain(&a->h->shapes[t->shape.v - 1]) && is_short(a, t->payload.v);
}

void pm__lineage_begin(pm_op *op, uint64_t task, uint64_t i)
{
    pm_lock *l = &op->a->lock;
    pm_task_shm *t = pm__task(op->a, task - 1);
    pm_entry_shm *e = pm__entry(op->a, (pm__task_ret(op->a, t, i)->v >> 1) - 1);
    if (!e->block.v || e->size.v < PM_SPILL_LEAST || !can_run_again(op->a, task))
        return;
    pm_set(l, pm__lineage(e), task << 3 | i);
    pm_set(l, &t->lent, t->lent.v + 1);
}

bool pm__lineage_end(pm_op *op, pm_entry_shm *e)
{
    pm_lock *l = &op->a->lock;
    uint64_t task = e->block.v ? pm__lineage_task(pm__lineage(e)->v) : 0;
    if (!task)
        return false;
    pm_task_shm *t = pm__task(op->a, task - 1);
    pm_set(l, &t->lent, t->lent.v - 1);
    if (t->lent.v || t->state.v != PM_TASK_KEPT)
        return false;
    pm_set(l, &op->a->h->kept, op->a->h->kept.v - 1);
    return true;
}

void pm__lineage_keep(pm_op *op, uint64_t task)
{
    pm_lock *l = &op->a->lock;
    pm_task_shm *t = pm__task(op->a, task - 1);
    pm_set(l, &t->state, PM_TASK_KEPT);
    pm_set(l, &t->seq, op->a->h->shapes[t->shape.v - 1].need[PM_CPU].v);
    pm_set(l, &t->shape, 0);
    pm_set(l, &op->a->h->kept, op->a->h->kept.v + 1);
}
