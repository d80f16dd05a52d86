/* recipe.c - see recipe.h. */
#include "recipe.h"

#include <string.h>

static bool lives(const pm_arena *a, pm_ref ref)
{
    return pm__generation(a, ref.slot + 1) == ref.generation && pm_state(a, ref.slot) != PM_FREED &&
           pm__entry(a, ref.slot)->refs.v;
}

/* The kept task that the object came from, if all that it took is alive. */
static uint64_t task_of(const pm_arena *a, uint64_t slot)
{
    pm_entry_shm *e = pm__entry(a, slot);
    uint64_t task = e->block.v ? pm__lineage_task(pm__lineage(e)->v) : 0;
    if (!task || pm__task(a, task - 1)->state.v != PM_TASK_KEPT)
        return 0;
    const pm_task_shm *t = pm__task(a, task - 1);
    for (uint64_t i = 0; i < t->nargs.v; i++)
        if (!lives(a, (pm_ref){t->args[i].entry.v >> 1, t->args[i].generation.v}))
            return 0;
    return task;
}

static pm_ref hold(pm_op *op, uint64_t entry)
{
    pm__hold_locked(op, entry); /* there is room for all of it */
    return (pm_ref){.slot = entry - 1, .generation = pm__generation(op->a, entry)};
}

static void write_down(pm_op *op, uint64_t task, pm_recipe *out)
{
    const pm_task_shm *t = pm__task(op->a, task - 1);
    *out = (pm_recipe){.nrets = t->nrets.v,
                       .function = hold(op, t->function.v),
                       .packed = t->payload.v != 0,
                       .size = t->size.v,
                       .nargs = t->nargs.v,
                       .cpu = t->seq.v,
                       .retries = t->retries.v};
    memcpy(out->name, t->name, sizeof out->name);
    memcpy(out->payload, t->bytes, sizeof out->payload);
    if (t->payload.v)
        out->arguments = hold(op, t->payload.v);
    for (uint64_t i = 0; i < t->nargs.v; i++) {
        out->args[i] = hold(op, (t->args[i].entry.v >> 1) + 1);
        out->waits[i] = t->args[i].entry.v & 1;
    }
}

int pm_recipe_of(pm_arena *a, pm_patience how, uint64_t slot, pm_recipe *out)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    uint64_t task = task_of(a, slot);
    if (!task)
        rc = PM_ENOTFOUND;
    else if (pm__pool_room(&a->h->holds) < PM_TASK_ARGS + 2)
        rc = PM_ETABLE;
    else {
        write_down(&op, task, out);
        out->index = pm__lineage(pm__entry(a, slot))->v & 7;
    }
    int left = pm__done(&op);
    return rc ? rc : left;
}
