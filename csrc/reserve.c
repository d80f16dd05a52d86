/* reserve.c - see reserve.h. */
#include "reserve.h"

#include "crash.h"

enum { STOCK_UP = 12 }; /* pairs taken in one transaction */

uint64_t pm__entry_new(pm_op *op)
{
    uint64_t entry = pm__pool_take(op, &op->a->h->entries);
    if (!entry)
        return 0;
    pm_entry_shm *e = pm__entry(op->a, entry - 1);
    /* Nothing reaches the record but the free list's link, which stays: rollback need not
     * restore these. */
    pm_init(&e->refs, 1);
    pm_init(&e->block, 0);
    pm_init(&e->size, 0);
    pm_init(&e->nrefs, 0);
    pm_init(&e->held, 0);
    pm_init(&e->task, 0);
    pm_init(&e->producer, 0);
    pm_init(&e->holders, 0);
    pm_init(&e->deps, 0);
    pm_init(&e->key, 0);
    pm_init(&e->copy, 0);
    pm_init(&e->strip, PM_WHOLE);
    return entry;
}

/* A record in the lists of client and entry. The entry's reference it stands for is the caller's
 * business. */
static uint64_t hold_link(pm_op *op, uint64_t entry)
{
    pm_arena *a = op->a;
    uint64_t hold = pm__pool_take(op, &a->h->holds);
    if (!hold)
        return 0;
    pm_hold_shm *r = &a->holds[hold - 1];
    pm_j64 *head = &pm__me(a)->holds, *holders = &pm__entry(a, entry - 1)->holders;
    pm_init(&r->prev, 0);
    pm_init(&r->entry, entry);
    pm_init(&r->client, a->slot);
    pm_init(&r->enext, holders->v);
    pm_init(&r->eprev, 0);
    pm_init(&r->waiter, 0);
    pm_a64_store(&r->pins, 0);
    pm_set(&a->lock, &r->next, head->v);
    if (head->v)
        pm_set(&a->lock, &a->holds[head->v - 1].prev, hold);
    pm_set(&a->lock, head, hold);
    if (holders->v)
        pm_set(&a->lock, &a->holds[holders->v - 1].eprev, hold);
    pm_set(&a->lock, holders, hold);
    return hold;
}

static bool begin(pm_op *op, uint64_t entry, uint32_t refs, enum pm_own own_state)
{
    pm_local *own = &op->a->local[entry - 1];
    uint64_t hold = hold_link(op, entry);
    if (!hold)
        return false;
    own->hold = hold;
    atomic_store(&own->waiter, 0);
    atomic_store(&own->own, own_state);
    atomic_store(&own->refs, refs);
    return true;
}

bool pm__hold_begin(pm_op *op, uint64_t entry)
{
    return begin(op, entry, 1, PM_SHARED);
}

void pm__entry_publish(pm_op *op, uint64_t entry, enum pm_entry_state state)
{
    pm_publish(&op->a->lock, &pm__entry(op->a, entry - 1)->state,
               pm__generation(op->a, entry) << 8 | state);
}

/* ---- the stock ------------------------------------------------------------------------------- */

/* Process-local, held for a few instructions; who finds it taken goes another way instead of
 * waiting. */
static bool try_open(pm_arena *a)
{
    return !atomic_exchange_explicit(&a->reserve_open, true, memory_order_acquire);
}

void pm__reserve_close(pm_arena *a)
{
    pm_a64_store(&pm__me(a)->reserve, a->reserved); /* for those who count what is in use */
    atomic_store_explicit(&a->reserve_open, false, memory_order_release);
}

static bool pop(pm_arena *a, uint64_t *slot)
{
    if (!try_open(a))
        return false;
    if (a->reserved == 0) {
        pm__reserve_close(a);
        return false;
    }
    *slot = a->reserve[--a->reserved];
    atomic_store_explicit(&a->local[*slot].own, PM_OWN, memory_order_relaxed);
    atomic_store(&a->local[*slot].refs, 1);
    return true;
}

/* Room in the stock is looked for first, so a pair once made has a place; what another thread
 * fills meanwhile goes the common way: it is dropped. */
static int stock_up(pm_arena *a, pm_patience how)
{
    uint64_t made[STOCK_UP];
    pm_op op;
    int n = 0, rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    while (n < STOCK_UP && pm__pool_room(&a->h->entries) && pm__pool_room(&a->h->holds)) {
        uint64_t entry = pm__entry_new(&op);
        begin(&op, entry, 1, PM_SHARED);
        pm__entry_publish(&op, entry, PM_PENDING);
        made[n++] = entry - 1;
    }
    rc = pm__done(&op);
    if (rc)
        return rc;
    for (int i = 0; i < n; i++) {
        atomic_store_explicit(&a->local[made[i]].own, PM_OWN, memory_order_relaxed);
        pm_drop(a, made[i]);
    }
    return n ? PM_OK : PM_ETABLE;
}

int pm__reserve_take(pm_arena *a, pm_patience how, uint64_t *slot)
{
    int rc = pm__over(a); /* what the lock's takers are asked in pm__enter() */
    if (rc)
        return rc;
    for (int tries = 0; rc == PM_OK && tries < 3; tries++) {
        if (pop(a, slot))
            return PM_OK;
        rc = stock_up(a, how);
        /* what was dropped and not yet given back may be just what is missing */
        if (rc == PM_ETABLE)
            rc = tries ? rc : pm__settle(a, how);
    }
    return rc ? rc : PM_EAGAIN; /* other threads were faster each time */
}

bool pm__reserve_give(pm_arena *a, uint64_t slot)
{
    pm_local *own = &a->local[slot];
    uint32_t one = 1;
    if (atomic_load_explicit(&own->own, memory_order_relaxed) != PM_OWN || a->gone || !try_open(a))
        return false;
    bool given = a->reserved < PM_RESERVE && atomic_compare_exchange_strong(&own->refs, &one, 0);
    if (given) {
        atomic_store_explicit(&own->own, PM_STOCKED, memory_order_relaxed);
        /* No transaction journals this word of an own entry, and nobody else reads it. */
        atomic_store_explicit(&pm__entry(a, slot)->state.v,
                              (pm__generation(a, slot + 1) + 1) << 8 | PM_PENDING,
                              memory_order_release);
        PM_CRASH(STOCKED);
        a->reserve[a->reserved++] = slot;
    }
    pm__reserve_close(a);
    return given;
}

void pm__reserve_stop(pm_arena *a)
{
    while (!try_open(a))
        pm_cpu_relax();
}
