/* spill.c - see spill.h. */
#include "spill.h"

#include <stdlib.h>
#include <string.h>

#include "copy.h"
#include "crash.h"
#include "disk.h"
#include "wait.h"

enum {
    VICTIMS = 1024,           /* objects chosen in one look at the table */
    PATIENCE_NS = 1000000000, /* with who brings an object back, and as much */
    NS_A_BYTE = 20,           /* as a slow disk takes more for a large one */
    AHEAD = 64 << 20,         /* bytes, ahead of need, without a look at anything else */
    REST_NS = 500000000,      /* after a look that found nothing to spill */
    UNFIT = 16,               /* so many that find no room on disk, and no other is tried */
    TRIMMED = 4,              /* dead objects' copies taken in one lock hold */
    EXPORTED = 64 << 10,      /* bytes of a function or environment that stays in the store */
};

/* An object that may go; the older one is used less recently. */
typedef struct {
    uint64_t used, slot, generation;
} victim;

/* ---- choosing -------------------------------------------------------------------------------- */

static bool is_older(const victim *a, const victim *b)
{
    return a->used < b->used || (a->used == b->used && a->slot < b->slot);
}

static int by_age(const void *a, const void *b)
{
    return is_older(a, b) ? -1 : 1;
}

/* In a heap with the youngest first: what stands at `i` goes down to its place. */
static void sift(victim v[VICTIMS], int i)
{
    const int n = VICTIMS;
    for (int child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && is_older(&v[child], &v[child + 1]))
            child++;
        if (!is_older(&v[i], &v[child]))
            return;
        victim up = v[child];
        v[child] = v[i];
        v[i] = up;
    }
}

/* What has a key that is no user's name is what tasks are made of, functions and environments: with a
 * damaged copy of one none could be run, nor anything that is lost be made again. */
static bool is_to_stay(const pm_arena *a, uint64_t slot)
{
    const pm_entry_shm *e = pm__entry(a, slot);
    uint64_t key = *(const volatile uint64_t *)&e->key.v;
    return (key && !a->keys[key - 1].kept.v && e->size.v <= EXPORTED) || a->h->boot.v == slot + 1;
}

/* Under the lock, or a hint. SPILLED with its bytes here: its mover died before they went. */
static bool may_go(const pm_arena *a, uint64_t slot)
{
    const pm_entry_shm *e = pm__entry(a, slot);
    enum pm_entry_state state = pm_state(a, slot);
    return (state == PM_SEALED || state == PM_SPILLED) &&
           (e->strip.v == PM_WHOLE || e->strip.v == PM_ITEM) && e->block.v &&
           e->size.v >= PM_SPILL_LEAST && !is_to_stay(a, slot);
}

/* The oldest that may go of those younger than `after` (NULL: of all), oldest first. Without the lock:
 * who takes one looks again. */
static int choose(const pm_arena *a, const victim *after, victim v[VICTIMS])
{
    int n = 0;
    uint64_t high = *(const volatile uint64_t *)&a->h->entries.high.v;
    for (uint64_t slot = 0; slot < high; slot++) {
        if (!may_go(a, slot))
            continue;
        victim one = {.used = pm_a64_load(&a->used[slot]),
                      .slot = slot,
                      .generation = pm__generation(a, slot + 1)};
        if (after && !is_older(after, &one))
            continue;
        if (n < VICTIMS) {
            v[n++] = one;
            for (int i = n == VICTIMS ? VICTIMS / 2 : 0; i-- > 0;)
                sift(v, i);
        } else if (is_older(&one, &v[0])) {
            v[0] = one;
            sift(v, 0);
        }
    }
    qsort(v, (size_t)n, sizeof *v, by_age);
    return n;
}

/* ---- out ------------------------------------------------------------------------------------- */

int pm__carrier_new(pm_op *op, uint64_t extent, uint64_t block, uint64_t *carrier)
{
    uint64_t entry = pm__entry_new(op);
    if (!entry || !pm__hold_begin(op, entry))
        return PM_ETABLE;
    pm_entry_shm *c = pm__entry(op->a, entry - 1);
    pm_init(&c->block, block);
    pm_init(&c->copy, extent);
    pm_init(pm__lineage(c), 0);
    pm__entry_publish(op, entry, PM_PENDING);
    *carrier = entry - 1;
    return PM_OK;
}

/* Pin the victim, and have a carrier with room for its copy, if it has none, and for the table of what
 * it contains. PM_ESTATE: it may not go any more. PM_EFULL, PM_ETABLE. */
static int take(pm_op *op, const victim *v, uint64_t *carrier)
{
    pm_arena *a = op->a;
    const pm_entry_shm *e = pm__entry(a, v->slot);
    uint64_t extent = 0, table = 0;
    if (pm__generation(a, v->slot + 1) != v->generation || !may_go(a, v->slot) || e->refs.v == 0 ||
        pm__is_pinned(a, e))
        return PM_ESTATE;
    if (!e->copy.v && !(extent = pm__disk_alloc(a, e->size.v)))
        return PM_EFULL;
    if (e->nrefs.v && !(table = pm__heap_alloc(&a->heap, e->nrefs.v * sizeof(pm_ref))))
        return PM_EFULL;
    int rc = pm__carrier_new(op, extent, table, carrier);
    if (rc == PM_OK && (rc = pm__hold_locked(op, v->slot + 1)))
        atomic_store(&a->local[*carrier].refs, 0); /* rolled back with the rest */
    if (rc == PM_OK)
        pm_a64_add(&a->holds[a->local[v->slot].hold - 1].pins, 1);
    return rc;
}

/* Of the object that is pinned into what its carrier has. */
static int copy_out(pm_arena *a, uint64_t slot, uint64_t carrier)
{
    const pm_entry_shm *e = pm__entry(a, slot), *c = pm__entry(a, carrier);
    int rc = PM_OK;
    if (c->copy.v) {
        rc = pm__disk_write(a, c->copy.v, pm_ref_of(a, slot), a->map.base + e->block.v, e->size.v);
        pm_a64_add(&a->h->spills, rc == PM_OK);
        pm_a64_add(&a->h->spilled_bytes, rc == PM_OK ? e->size.v : 0);
    }
    if (e->nrefs.v)
        memcpy(a->map.base + c->block.v, pm__contained(a, e), e->nrefs.v * sizeof(pm_ref));
    return rc;
}

/* Does somebody look at it beside us. */
static bool is_seen(const pm_arena *a, uint64_t slot)
{
    for (uint64_t i = pm__entry(a, slot)->holders.v; i; i = a->holds[i - 1].enext.v)
        if (pm_a64_load(&a->holds[i - 1].pins) > (a->holds[i - 1].client.v == a->slot))
            return true;
    return false;
}

static void stay(pm_op *op, uint64_t slot)
{
    pm__entry_publish(op, slot + 1, PM_SEALED);
    pm__entry_notify(op, slot + 1); /* who met it as spilled */
}

/* The copy is the object's from here on, whatever becomes of the rest. */
static uint64_t let_go(pm_op *op, uint64_t slot, uint64_t carrier)
{
    pm_arena *a = op->a;
    pm_lock *l = &a->lock;
    pm_entry_shm *e = pm__entry(a, slot), *c = pm__entry(a, carrier);
    if (!may_go(a, slot))
        return 0; /* it was freed */
    if (c->copy.v) {
        pm_set(l, &e->copy, c->copy.v);
        pm_set(l, &c->copy, 0);
    }
    pm__entry_publish(op, slot + 1, PM_SPILLED);
    pm_lock_commit(l);
    PM_CRASH(SPILLED);
    /* order: state SPILLED -> read pins. A reader pins, then reads the state (pm_pin): one of us sees
     * the other. */
    atomic_thread_fence(memory_order_seq_cst);
    if (is_seen(a, slot)) {
        stay(op, slot);
        return 0;
    }
    uint64_t freed = pm__heap_usable(&a->heap, e->block.v);
    pm__heap_free(&a->heap, e->block.v); /* who stands in line is woken when all have gone */
    if (e->nrefs.v) {
        pm_set(l, &e->block, c->block.v);
        pm_set(l, &c->block, 0);
    }
    pm_set(l, &e->strip, e->strip.v == PM_ITEM ? PM_ITEM_SPILT : PM_SPILT);
    return freed;
}

static int enter(pm_op *op, pm_arena *a)
{
    int rc;
    while ((rc = pm__enter(op, a, PM_WAIT)) == PM_EAGAIN)
        ;
    return rc;
}

/* PM_ESTATE: not this one. PM_EFULL: there is no room for it on disk, or for its table. Else what keeps
 * all others from going, too. */
static int spill_one(pm_arena *a, const victim *v, uint64_t *freed)
{
    pm_op op;
    uint64_t carrier = 0;
    int rc = enter(&op, a);
    if (rc)
        return rc;
    rc = take(&op, v, &carrier);
    if (rc)
        pm_lock_rollback(&a->lock);
    int left = pm__done(&op);
    if (rc || left)
        return rc ? rc : left;
    PM_CRASH(TAKEN);
    rc = copy_out(a, v->slot, carrier);
    if (rc == PM_OK && (rc = enter(&op, a)) == PM_OK) {
        *freed += let_go(&op, v->slot, carrier);
        rc = pm__done(&op);
    }
    PM_CRASH(GONE);
    pm__unpin_unmoved(a, v->slot);
    pm_drop(a, carrier);
    return rc;
}

/* Until there are none, so much is free, or it makes no sense to go on: the header says why. */
static int spill(pm_arena *a, uint64_t bytes, uint64_t *freed)
{
    victim v[VICTIMS], last;
    int n, unfit = 0;
    for (const victim *after = NULL;; after = &last) {
        n = choose(a, after, v);
        for (int i = 0; i < n && *freed < bytes; i++) {
            int rc = spill_one(a, &v[i], freed);
            if (rc == PM_ESYS || (rc == PM_EFULL && ++unfit == UNFIT))
                return PM_OK;
            if (rc && rc != PM_ESTATE && rc != PM_EFULL)
                return rc;
        }
        if (n < VICTIMS || *freed >= bytes)
            return PM_OK;
        last = v[VICTIMS - 1];
    }
}

int pm_spill(pm_arena *a, uint64_t bytes, uint64_t *freed)
{
    *freed = 0;
    bool may = pm__has_disk(a) && pm__os_now() >= pm_a64_load(&a->h->trimming);
    int rc = may ? spill(a, bytes, freed) : PM_OK;
    if (*freed && pm_a64_load(&a->h->lined))
        pm__wake_everyone(a);
    return rc;
}

void pm__spill_ahead(pm_arena *a)
{
    uint64_t freed, left = pm__heap_left(a), until = a->spill_until;
    if (left >= until || pm__os_now() < a->spill_again)
        return;
    if (pm_spill(a, until - left < AHEAD ? until - left : AHEAD, &freed) || !freed)
        a->spill_again = pm__os_now() + REST_NS; /* what is looked at now may be for a while */
    else
        pm__call_watcher(a);
}

bool pm_tell_of_spilling(pm_arena *a)
{
    uint64_t untold = 0;
    return pm_a64_load(&a->h->spills) && !pm_a64_load(&a->h->spilling_told) &&
           pm_a64_cas(&a->h->spilling_told, &untold, 1);
}

/* ---- back ------------------------------------------------------------------------------------ */

/* PM_ESPILLED: it is for us to do, which our pin says. */
static int begin_to_bring(pm_op *op, uint64_t slot)
{
    pm_arena *a = op->a;
    if (pm_state(a, slot) != PM_SPILLED)
        return PM_OK;
    if (!pm__is_away(pm__entry(a, slot))) { /* its mover died before its bytes went */
        stay(op, slot);
        return PM_OK;
    }
    if (!pm__take_one_more(a, slot))
        return PM_ENOTFOUND;
    pm_a64_add(&a->holds[a->local[slot].hold - 1].pins, 1);
    return PM_ESPILLED;
}

static int look_for_it(pm_op *op, uint64_t slot, int waiter)
{
    const pm_entry_shm *e = pm__entry(op->a, slot);
    if (!pm__is_away(e) || !pm__is_pinned(op->a, e))
        return begin_to_bring(op, slot);
    pm__count_for(op, slot, waiter);
    return PM_NOT_YET;
}

int pm_await_back(pm_arena *a, uint64_t slot)
{
    pm_op op;
    uint64_t patience = PATIENCE_NS + pm__entry(a, slot)->size.v * NS_A_BYTE;
    int rc = pm__await(a, slot, pm__os_now() + patience, look_for_it);
    if (rc != PM_ETIMEOUT)
        return rc;
    if ((rc = pm__enter(&op, a, PM_WAIT)))
        return rc;
    rc = begin_to_bring(&op, slot);
    int left = pm__done(&op);
    return left ? left : rc;
}

uint64_t pm_away_bytes(const pm_arena *a, uint64_t slot)
{
    const pm_entry_shm *e = pm__entry(a, slot);
    return e->nrefs.v ? pm__refs_offset(e->size.v) + e->nrefs.v * sizeof(pm_ref) : e->size.v;
}

static int copy_back(pm_arena *a, uint64_t slot, const pm_entry_shm *c)
{
    const pm_entry_shm *e = pm__entry(a, slot);
    int rc = pm__disk_read(a, e->copy.v, pm_ref_of(a, slot), c->block.v, e->size.v);
    if (rc)
        return rc;
    if (e->nrefs.v)
        memcpy(a->map.base + c->block.v + pm__refs_offset(e->size.v), pm__contained(a, e),
               e->nrefs.v * sizeof(pm_ref));
    pm__own_chunks(a, slot, c);
    pm_a64_add(&a->h->restores, 1);
    pm_a64_add(&a->h->restored_bytes, e->size.v);
    return PM_OK;
}

/* The object's block becomes the carrier's, whose own is the table from now on, if there was one. */
static void exchange(pm_op *op, uint64_t slot, pm_entry_shm *c)
{
    pm_lock *l = &op->a->lock;
    pm_entry_shm *e = pm__entry(op->a, slot);
    uint64_t table = e->nrefs.v ? e->block.v : 0;
    pm_set(l, &e->block, c->block.v);
    pm_set(l, &e->strip, PM_WHOLE);
    pm_set(l, &c->block, table);
    pm_set(l, &c->size, 0);
    stay(op, slot);
}

/* And what it contains. */
static void exchange_contents(pm_op *op, uint64_t slot, pm_entry_shm *c)
{
    pm_lock *l = &op->a->lock;
    pm_entry_shm *e = pm__entry(op->a, slot);
    uint64_t size = c->size.v, nrefs = c->nrefs.v;
    exchange(op, slot, c);
    pm_set(l, &e->size, size);
    pm_set(l, &c->nrefs, e->nrefs.v);
    pm_set(l, &c->held, e->nrefs.v);
    pm_set(l, &e->nrefs, nrefs);
    pm_set(l, &e->held, nrefs);
    pm_set(l, &c->copy, e->copy.v);
    pm_set(l, &e->copy, 0);
}

/* Unless it was freed meanwhile. */
static int become_whole(pm_arena *a, uint64_t slot, uint64_t carrier,
                        void (*by)(pm_op *, uint64_t, pm_entry_shm *))
{
    pm_op op;
    int rc = enter(&op, a);
    if (rc)
        return rc;
    if (pm_state(a, slot) == PM_SPILLED) {
        by(&op, slot, pm__entry(a, carrier));
        pm_a64_store(&a->used[slot], pm_a64_load(&a->h->clock)); /* it is wanted, if not now */
    }
    rc = pm__done(&op);
    PM_CRASH(BACK);
    return rc;
}

int pm_bring_back(pm_arena *a, uint64_t slot, uint64_t into)
{
    int rc = copy_back(a, slot, pm__entry(a, into));
    PM_CRASH(READ_BACK);
    if (rc == PM_OK)
        rc = become_whole(a, slot, into, exchange);
    pm_unpin(a, slot);
    return rc;
}

int pm_replace(pm_arena *a, uint64_t slot, uint64_t made)
{
    if (pm__entry(a, made)->block.v == 0) {
        pm_unpin(a, slot);
        return PM_EINVAL; /* its bytes would stay where they are */
    }
    pm__own_chunks(a, slot, pm__entry(a, made));
    int rc = become_whole(a, slot, made, exchange_contents);
    pm_unpin(a, slot);
    return rc;
}

/* ---- what is left on disk -------------------------------------------------------------------- */

/* Some of it becomes carriers of ours, so that it is nobody's neither while we work nor if we die. */
static int claim(pm_op *op, uint64_t carriers[TRIMMED])
{
    pm_arena *a = op->a;
    int n = 0;
    for (uint64_t entry; n < TRIMMED && (entry = a->h->litter.v); n++) {
        pm_entry_shm *e = pm__entry(a, entry - 1);
        if (pm__pool_room(&a->h->holds) == 0 || !pm__hold_begin(op, entry))
            break;
        pm_set(&a->lock, &a->h->litter, e->link.v);
        pm_set(&a->lock, &e->refs, 1);
        pm_set(&a->lock, &e->strip, PM_WHOLE);
        carriers[n] = entry - 1;
    }
    return n;
}

static uint64_t most_spare(const pm_arena *a)
{
    uint64_t store = 4 * a->h->heap_bytes, file = a->h->disk_bytes / 8 * PM_DISK_UNIT;
    return pm_a64_load(&a->h->disk_errno) ? 0 : store < file ? store : file;
}

static int free_extents(pm_arena *a, const uint64_t carriers[TRIMMED], int n)
{
    pm_op op;
    int rc = enter(&op, a);
    if (rc)
        return rc;
    for (int i = 0; i < n; i++) {
        pm__disk_free(a, pm__entry(a, carriers[i])->copy.v);
        pm_set(&a->lock, &pm__entry(a, carriers[i])->copy, 0);
    }
    pm__may_go_now(&op); /* there is room on disk */
    return pm__leave(&op);
}

void pm__spill_trim(pm_arena *a)
{
    pm_op op;
    uint64_t carriers[TRIMMED];
    int n = TRIMMED;
    while (n == TRIMMED && *(const volatile uint64_t *)&a->h->litter.v && enter(&op, a) == PM_OK) {
        n = claim(&op, carriers);
        if (pm__leave(&op))
            return;
        PM_CRASH(CLAIMED);
        for (int i = 0; i < n && pm__disk_spare(a) > most_spare(a); i++)
            pm__disk_punch(a, pm__entry(a, carriers[i])->copy.v);
        int rc = free_extents(a, carriers, n);
        PM_CRASH(TRIMMED);
        for (int i = 0; i < n; i++)
            pm_drop(a, carriers[i]);
        if (rc)
            return;
    }
}
