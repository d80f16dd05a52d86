/* prefetch.c - see prefetch.h. */
#include "prefetch.h"

#include "crash.h"

enum {
    AT_A_TIME = 16,   /* objects brought back, each found by a look of its own */
    NEXT = 2,         /* tasks looked at in each queue */
    ARGUMENTS = 16,   /* of a task */
    SHARE_OF_HEAP = 4 /* 1 / so much */
};

/* An argument of the task that is on disk, and that nobody brings back; + 1, 0 = there is none. */
static uint64_t away_of(const pm_arena *a, const pm_task_shm *t)
{
    uint64_t n = t->args_held.v < ARGUMENTS ? t->args_held.v : ARGUMENTS;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t slot = pm__task_arg(a, t, i)->entry.v >> 1;
        const pm_entry_shm *e = pm__entry(a, slot);
        if (pm_state(a, slot) == PM_SPILLED && pm__is_away(e) && !pm__is_pinned(a, e))
            return slot + 1;
    }
    return 0;
}

static uint64_t next_wanted(const pm_arena *a)
{
    for (uint64_t i = 0; i < a->h->shape_high.v; i++) {
        uint64_t task = a->h->shapes[i].head.v, found;
        for (int n = 0; task && n < NEXT; n++, task = pm__task(a, task - 1)->next.v)
            if ((found = away_of(a, pm__task(a, task - 1))))
                return found;
    }
    return 0;
}

/* Our pin of it says that we bring it back. PM_ENOTFOUND: nothing is wanted. */
static int take_next(pm_arena *a, uint64_t *slot)
{
    pm_op op;
    int rc;
    while ((rc = pm__enter(&op, a, PM_WAIT)) == PM_EAGAIN)
        ;
    if (rc)
        return rc;
    uint64_t wanted = next_wanted(a);
    rc = wanted ? pm__hold_locked(&op, wanted) : PM_ENOTFOUND;
    if (rc == PM_OK) {
        *slot = wanted - 1;
        pm_a64_add(&a->holds[a->local[*slot].hold - 1].pins, 1);
    }
    int left = pm__done(&op);
    return rc ? rc : left;
}

/* What went may not have lain together: more goes until it fits, or nothing more can. Not before those who
 * stand in line: what we make room by would be theirs, and we would try until nothing is left. */
static int create(pm_arena *a, uint64_t size, pm_ref *out)
{
    for (uint64_t freed;;) {
        int rc = pm_create(a, PM_WAIT, size, NULL, 0, out);
        if (rc == PM_EAGAIN)
            continue;
        /* the hint is fresh: pm_create() has looked */
        bool others_first = size >= PM_IN_LINE && pm_a64_load(&a->h->lined);
        if (rc != PM_EFULL || others_first || pm_spill(a, size, &freed) || !freed)
            return rc;
    }
}

static int bring(pm_arena *a, uint64_t slot)
{
    pm_ref into;
    int rc = create(a, pm_away_bytes(a, slot), &into);
    PM_CRASH(PREFETCHING);
    if (rc) {
        pm_unpin(a, slot);
        return rc;
    }
    rc = pm_bring_back(a, slot, into.slot); /* PM_ELOST: its reader will say so */
    pm_drop(a, into.slot);
    return rc;
}

void pm__prefetch(pm_arena *a)
{
    uint64_t slot, bytes = 0;
    if (!atomic_exchange(&a->prefetch, false))
        return;
    for (int i = 0; i < AT_A_TIME && take_next(a, &slot) == PM_OK; i++) {
        bytes += pm__entry(a, slot)->size.v;
        if (bytes > a->h->heap_bytes / SHARE_OF_HEAP && i > 0) {
            pm_unpin(a, slot);
            return;
        }
        if (bring(a, slot))
            return;
    }
}
