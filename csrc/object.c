/* object.c - see object.h. */
#include "object.h"

#include <string.h>

#include "copy.h"
#include "crash.h"
#include "disk.h"

/* ---- entries and holds ----------------------------------------------------------------------- */

static pm_ref ref_of(const pm_arena *a, uint64_t entry)
{
    return (pm_ref){.slot = entry - 1, .generation = pm__generation(a, entry)};
}

/* ---- putting --------------------------------------------------------------------------------- */

int pm_put(pm_arena *a, pm_patience how, const void *data, uint64_t len, pm_ref *out)
{
    uint64_t slot;
    if (len > PM_INLINE)
        return PM_EINVAL;
    int rc = pm__reserve_take(a, how, &slot);
    if (rc)
        return rc;
    pm_entry_shm *e = pm__entry(a, slot);
    memcpy(e->bytes, data, len); /* our own entry, which nobody has a reference to: no lock */
    pm_init(&e->size, len);
    *out = ref_of(a, slot + 1);
    PM_CRASH(FILLED);
    atomic_store_explicit(&e->state.v, out->generation << 8 | PM_SEALED, memory_order_release);
    pm__reserve_close(a);
    PM_CRASH(PUT);
    return PM_OK;
}

/* The block, 0 for inline, or PM_EFULL after spare spans have been tried too. */
static int reserve(pm_op *op, uint64_t total, uint64_t *block)
{
    *block = 0;
    if (total <= PM_INLINE)
        return PM_OK;
    *block = pm__heap_alloc(&op->a->heap, total);
    return *block ? PM_OK : PM_EFULL;
}

static int create(pm_op *op, uint64_t size, uint64_t nrefs, pm_ref *out)
{
    pm_arena *a = op->a;
    uint64_t block, total = pm__refs_offset(size) + nrefs * sizeof(pm_ref);
    int rc = reserve(op, nrefs ? total : size, &block);
    if (rc)
        return rc;
    uint64_t entry = pm__entry_new(op);
    if (!entry || !pm__hold_begin(op, entry))
        return PM_ETABLE;
    pm_entry_shm *e = pm__entry(a, entry - 1);
    pm_init(&e->block, block);
    pm_init(&e->size, size);
    pm_init(&e->nrefs, nrefs);
    if (block) { /* neither call site nor lineage: unreachable until the publish */
        e->bytes[0] = 0;
        pm_init(pm__lineage(e), 0);
    }
    *out = ref_of(a, entry);
    pm__entry_publish(op, entry, PM_PENDING);
    return PM_OK;
}

int pm__create_locked(pm_op *op, uint64_t size, uint64_t nrefs, uint64_t ticket, pm_ref *out)
{
    pm_arena *a = op->a;
    uint64_t first = size < PM_IN_LINE ? 0 : pm__first_in_line(a);
    if (first && first != ticket)
        return PM_EFULL;
    int rc = create(op, size, nrefs, out);
    if (rc == PM_EFULL) {
        pm_lock_rollback(&a->lock);
        while (pm__heap_reclaim(&a->heap))
            /* one spare span a transaction, bounded by the number of size classes */
            pm_lock_commit(&a->lock);
        rc = create(op, size, nrefs, out);
    }
    if (rc)
        pm_lock_rollback(&a->lock);
    return rc;
}

static int try_create(pm_arena *a, pm_patience how, uint64_t size, uint64_t nrefs, pm_ref *out)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    rc = pm__create_locked(&op, size, nrefs, 0, out);
    int left = pm__done(&op);
    return left ? left : rc;
}

/* The table of owners is a hint: one word for each chunk whose first byte lies in the block, written
 * while the object is pending and ours, never cleared. A block of PM_CHUNK bytes has at least one. */
void pm__own_chunks(pm_arena *a, uint64_t slot, const pm_entry_shm *e)
{
    if (!e->block.v)
        return;
    pm_a64_store(&a->used[slot], pm_a64_add(&a->h->clock, 1) + 1);
    uint64_t from = e->block.v - a->h->heap, to = from + e->size.v;
    for (uint64_t c = (from + PM_CHUNK - 1) / PM_CHUNK; c * PM_CHUNK < to; c++)
        atomic_store_explicit(&a->owners[c].v, slot + 1, memory_order_relaxed);
}

int pm_create(pm_arena *a, pm_patience how, uint64_t size, const pm_ref *refs, uint64_t nrefs,
              pm_ref *out)
{
    if (size > UINT64_C(1) << 46 || nrefs > UINT64_C(1) << 32)
        return PM_EFULL;
    int rc = try_create(a, how, size, nrefs, out);
    if (rc == PM_EFULL || rc == PM_ETABLE) {
        /* what was dropped and not yet given back may be just what is missing */
        int settled = pm__settle(a, how);
        rc = settled ? settled : try_create(a, how, size, nrefs, out);
    }
    if (rc == PM_OK)
        pm__created(a, out->slot, refs);
    return rc;
}

/* Little is left, or not enough for the next of this size: objects should go before somebody has to wait
 * for it (pm__spill_ahead). */
static void make_room_ahead(pm_arena *a, const pm_entry_shm *e)
{
    uint64_t share = pm__watermark(a), size = e->block.v ? e->size.v : 0;
    uint64_t wanted = size < share ? share : size < 2 * share ? size : 2 * share;
    if (pm__heap_left(a) >= wanted || !pm__has_disk(a))
        return;
    atomic_store_explicit(&a->spill_until, wanted + share, memory_order_relaxed);
    pm__call_watcher(a);
}

/* The table is ours until the seal; `held` says how much of it counts. Its page faults happen here,
 * unlocked. */
void pm__created(pm_arena *a, uint64_t slot, const pm_ref *refs)
{
    const pm_entry_shm *e = pm__entry(a, slot);
    pm__own_chunks(a, slot, e);
    make_room_ahead(a, e);
    if (e->nrefs.v)
        memcpy(pm__contained(a, e), refs, e->nrefs.v * sizeof(pm_ref));
}

int pm_contain(pm_arena *a, pm_patience how, uint64_t slot)
{
    pm_entry_shm *e = pm__entry(a, slot);
    const pm_ref *refs = pm__contained(a, e);
    pm_op op;
    while (e->held.v < e->nrefs.v) { /* a pending object of ours: nobody else changes these */
        int rc = pm__enter(&op, a, how);
        if (rc)
            return rc;
        for (int i = 0; i < PM_STEPS && e->held.v < e->nrefs.v && rc == PM_OK; i++) {
            pm_entry_shm *inner = pm__entry(a, refs[e->held.v].slot);
            if (refs[e->held.v].slot == slot)
                rc = PM_ECYCLE;
            else {
                pm_share(a, refs[e->held.v].slot);
                pm_set(&a->lock, &inner->refs, inner->refs.v + 1);
                pm_set(&a->lock, &e->held, e->held.v + 1);
            }
        }
        int left = pm__leave(&op);
        if (rc || left)
            return rc ? rc : left;
    }
    return PM_OK;
}

int pm_write(pm_arena *a, uint64_t slot, uint64_t at, const void *data, uint64_t len)
{
    pm_entry_shm *e = pm__entry(a, slot);
    if (at > e->size.v || len > e->size.v - at)
        return PM_EINVAL;
    if (e->block.v == 0) {
        memcpy(e->bytes + at, data, len);
        return PM_OK;
    }
    return pm__copy_in(a, e->block.v + at, data, len);
}

/* Another client that can write the entry, slot + 1, or 0. */
static uint64_t lessee(const pm_arena *a, const pm_entry_shm *e)
{
    for (uint64_t i = e->holders.v; i; i = a->holds[i - 1].enext.v)
        if (a->holds[i - 1].client.v != a->slot && pm_a64_load(&a->holds[i - 1].pins))
            return a->holds[i - 1].client.v + 1;
    return 0;
}

static pm_a64 *own_pins(const pm_arena *a, uint64_t slot)
{
    return &a->holds[a->local[slot].hold - 1].pins;
}

/* Under the lock: would it be sealed now. Once we have closed it nobody can refuse that: pins of
 * others since then are those of forked children, to which no window was left. */
static int sealable(const pm_arena *a, uint64_t slot)
{
    const pm_entry_shm *e = pm__entry(a, slot);
    if (pm_state(a, slot) != PM_PENDING || e->task.v || e->held.v != e->nrefs.v)
        return PM_ESTATE;
    if (pm_a64_load(own_pins(a, slot)) & PM_CLOSED)
        return PM_OK;
    return lessee(a, e) ? PM_ELEASED : PM_OK;
}

int pm__close_locked(pm_arena *a, uint64_t slot)
{
    int rc = sealable(a, slot);
    if (rc == PM_OK) {
        atomic_fetch_or(&own_pins(a, slot)->v, PM_CLOSED);
        PM_CRASH(CLOSED);
    }
    return rc;
}

static bool reopen(pm_arena *a, uint64_t slot)
{
    return atomic_fetch_and(&own_pins(a, slot)->v, ~PM_CLOSED) & PM_CLOSED;
}

void pm_reopen(pm_arena *a, uint64_t slot)
{
    if (a->heir)
        a = a->heir;
    if (reopen(a, slot))
        pm__wake_everyone(a);
}

void pm_label(pm_arena *a, uint64_t slot, const char *site)
{
    pm_entry_shm *e = pm__entry(a, slot);
    if (e->block.v == 0)
        return;
    strncpy((char *)e->bytes, site, PM_SITE - 1);
    e->bytes[PM_SITE - 1] = 0;
}

int pm__seal_locked(pm_op *op, uint64_t slot, bool failed)
{
    int rc = sealable(op->a, slot);
    if (rc == PM_OK) {
        reopen(op->a,
               slot); /* should we die before the commit, others take it up after our sweep */
        pm__entry_publish(op, slot + 1, failed ? PM_FAILED : PM_SEALED);
        pm__entry_settled(op, slot + 1);
    }
    return rc;
}

int pm_seal(pm_arena *a, pm_patience how, uint64_t slot, bool failed)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    rc = pm__seal_locked(&op, slot, failed);
    int left = pm__done(&op);
    return rc ? rc : left;
}

int pm_free(pm_arena *a, pm_patience how, uint64_t slot)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    enum pm_entry_state state = pm_state(a, slot);
    pm_share(a, slot); /* the common way from here on: pm__reserve_give() knows no freed entries */
    if (state == PM_PENDING && pm__entry(a, slot)->task.v == 0)
        rc = PM_ESTATE;
    else if (state != PM_FREED) {
        pm__entry_publish(&op, slot + 1, PM_FREED);
        if (state == PM_PENDING)
            pm__entry_settled(&op, slot + 1); /* its bytes go when its task ends */
        pm_lock_commit(&a->lock); /* published: who pins it from here on sees that it is freed */
        PM_CRASH(FREED);
        pm__entry_strip(&op, slot + 1);
    }
    int left = pm__done(&op);
    return rc ? rc : left;
}

/* ---- holding --------------------------------------------------------------------------------- */

/* One more reference if the process has one already. */
static bool take_one_more(pm_local *own)
{
    uint32_t n = atomic_load(&own->refs);
    while (n)
        if (atomic_compare_exchange_weak(&own->refs, &n, n + 1))
            return true;
    return false;
}

bool pm__take_one_more(pm_arena *a, uint64_t slot)
{
    return take_one_more(&a->local[slot]);
}

/* One reference less if it is not the last. */
static bool let_one_go(pm_local *own)
{
    uint32_t n = atomic_load(&own->refs);
    while (n > 1)
        if (atomic_compare_exchange_weak(&own->refs, &n, n - 1))
            return true;
    return false;
}

static bool is_live(const pm_arena *a, pm_ref ref)
{
    uint64_t state = pm_p64_load(&pm__entry(a, ref.slot)->state);
    return state >> 8 == ref.generation && (state & 0xff) != PM_FREE;
}

int pm__hold_locked(pm_op *op, uint64_t entry)
{
    pm_entry_shm *e = pm__entry(op->a, entry - 1);
    if (take_one_more(&op->a->local[entry - 1]))
        return PM_OK;
    if (!pm__hold_begin(op, entry))
        return PM_ETABLE;
    pm_set(&op->a->lock, &e->refs, e->refs.v + 1);
    return PM_OK;
}

int pm_hold(pm_arena *a, pm_patience how, pm_ref ref)
{
    if (ref.slot >= a->h->entries.capacity)
        return PM_ENOTFOUND;
    if (take_one_more(&a->local[ref.slot])) {
        if (is_live(a, ref))
            return PM_OK;
        pm_drop(a, ref.slot);
        return PM_ENOTFOUND;
    }
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    /* refs == 0 with a live state: on the dying list, where nothing returns from */
    const pm_entry_shm *e = pm__entry(a, ref.slot);
    rc = is_live(a, ref) && e->refs.v && e->strip.v <= PM_MAILBOX &&
                 a->local[ref.slot].own != PM_STOCKED
             ? pm__hold_locked(&op, ref.slot + 1)
             : PM_ENOTFOUND;
    int left = pm__done(&op);
    return rc ? rc : left;
}

/* The reference stays counted in own->refs until then. */
static void defer(pm_arena *a, uint64_t slot)
{
    uint64_t first = atomic_load(&a->deferred);
    if (atomic_fetch_add(&a->local[slot].owed, 1))
        return; /* on the list already */
    do
        a->local[slot].deferred = first;
    while (!atomic_compare_exchange_weak(&a->deferred, &first, slot + 1));
    pm__call_watcher(a); /* others may wait for just this, and we never call again */
}

void pm_drop(pm_arena *a, uint64_t slot)
{
    if (a->heir)
        a = a->heir;
    pm_op op;
    pm_local *own = &a->local[slot];
    if (let_one_go(own) || pm__reserve_give(a, slot))
        return;
    int rc = pm__enter(&op, a, PM_TRY);
    if (rc == PM_EAGAIN)
        defer(a, slot);
    if (rc)
        return;
    if (atomic_fetch_sub(&own->refs, 1) == 1)
        pm__hold_end(&op, own->hold);
    pm__done(&op); /* memory is back when this returns, unless others are at the lock */
}

/* Written only when it changes: readers of one object do not meet. */
static void be_used(pm_arena *a, uint64_t slot)
{
    uint64_t now = pm_a64_load(&a->h->clock);
    if (pm__entry(a, slot)->block.v && pm_a64_load(&a->used[slot]) != now)
        pm_a64_store(&a->used[slot], now);
}

int pm_pin(pm_arena *a, uint64_t slot)
{
    pm_local *own = &a->local[slot];
    if (!take_one_more(own))
        return PM_ENOTFOUND;
    /* own->hold is stable: the record lives while own->refs > 0, and we have just raised it.
     * order: pins raised -> read state; the other side is pm__entry_strip(). */
    pm_a64_add(&a->holds[own->hold - 1].pins, 1);
    atomic_thread_fence(memory_order_seq_cst);
    enum pm_entry_state state = pm_state(a, slot);
    if (state != PM_FREED && state != PM_SPILLED) {
        be_used(a, slot);
        return PM_OK;
    }
    pm_unpin(a, slot);
    return state == PM_FREED ? PM_EFREED : PM_ESPILLED;
}

/* opens: the pin may be what has kept the object here. */
static void unpin(pm_arena *a, uint64_t slot, bool opens)
{
    if (a->heir)
        a = a->heir;
    pm_op op;
    bool last = pm_a64_sub(&a->holds[a->local[slot].hold - 1].pins, 1) == 1;
    atomic_thread_fence(memory_order_seq_cst);
    enum pm_entry_state state = pm_state(a, slot);
    if (state == PM_SEALED || state == PM_FAILED) {
        pm_drop(a, slot);
        /* order: pins lowered -> read `lined` -> openings -> wake; who wants room stands in line ->
         * openings -> reads pins, and before it sleeps `missing` is 1 -> openings again (room.c) */
        if (opens && last && pm_a64_load(&a->h->lined)) {
            pm_a64_add(&a->h->openings, 1);
            pm__wake_everyone(a);
        }
        return;
    }
    /* somebody may be waiting for just this: to seal it, to bring it back, or for the bytes of a freed
     * object */
    int rc = pm__enter(&op, a, PM_TRY);
    if (rc == PM_EAGAIN)
        defer(a, slot);
    if (rc)
        return;
    pm__drop_locked(&op, slot + 1, 1);
    pm__done(&op);
}

void pm_unpin(pm_arena *a, uint64_t slot)
{
    unpin(a, slot, true);
}

void pm__unpin_unmoved(pm_arena *a, uint64_t slot)
{
    unpin(a, slot, false);
}

int pm_adopt(pm_arena *a, pm_patience how, pm_ref ref)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    const pm_entry_shm *e = pm__entry(a, ref.slot);
    /* Under the lock, so a freed entry whose bytes are still whole keeps them for us. */
    rc = is_live(a, ref) && e->refs.v && e->strip.v == PM_WHOLE ? pm__hold_locked(&op, ref.slot + 1)
                                                                : PM_ENOTFOUND;
    if (rc == PM_OK)
        pm_a64_add(&a->holds[a->local[ref.slot].hold - 1].pins, 1);
    int left = pm__done(&op);
    return rc ? rc : left;
}

static bool is_closed(const pm_arena *a, const pm_entry_shm *e)
{
    for (uint64_t i = e->holders.v; i; i = a->holds[i - 1].enext.v)
        if (a->holds[i - 1].client.v != a->slot && pm_a64_load(&a->holds[i - 1].pins) & PM_CLOSED)
            return true;
    return false;
}

int pm__lease_locked(pm_arena *a, uint64_t slot)
{
    /* Under the lock: who closes it sees our lease, or we see that it is closed. */
    if (pm_state(a, slot) != PM_PENDING || pm__entry(a, slot)->task.v)
        return PM_ESTATE;
    if (is_closed(a, pm__entry(a, slot)))
        return PM_ELEASED;
    if (!take_one_more(&a->local[slot]))
        return PM_ENOTFOUND;
    pm_a64_add(own_pins(a, slot), 1);
    return PM_OK;
}

int pm_lease(pm_arena *a, pm_patience how, uint64_t slot)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    rc = pm__lease_locked(a, slot);
    int left = pm__leave(&op);
    return rc ? rc : left;
}

/* ---- looking --------------------------------------------------------------------------------- */

int pm_look(const pm_arena *a, uint64_t slot, pm_view *out)
{
    const pm_entry_shm *e = pm__entry(a, slot);
    enum pm_entry_state state = pm_state(a, slot);
    if (state != PM_SEALED && state != PM_FAILED && state != PM_SPILLED)
        return state == PM_FREED ? PM_EFREED : PM_ESTATE;
    uint64_t block = e->block.v, size = e->size.v;
    const char *bytes = block ? a->readable + (block - a->h->heap) : (const char *)e->bytes;
    *out = (pm_view){.state = state == PM_SPILLED ? PM_SEALED : state,
                     .is_inline = block == 0,
                     .data = bytes,
                     .size = size,
                     .refs = (const pm_ref *)(bytes + pm__refs_offset(size)),
                     .nrefs = e->nrefs.v};
    return state == PM_SPILLED ? PM_ESPILLED : PM_OK;
}

int pm_lessee(pm_arena *a, pm_patience how, uint64_t slot, uint64_t *pid)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    uint64_t client = lessee(a, pm__entry(a, slot));
    *pid = client ? a->clients[client - 1].pid.v : 0;
    return pm__leave(&op);
}

/* ---- whose memory is it ---------------------------------------------------------------------- */

/* Does this process hold `entry` (slot + 1), sealed and around these bytes of the arena? Then with
 * one reference more. */
static bool is_owner(pm_arena *a, uint64_t entry, uint64_t at, uint64_t len)
{
    if (entry == 0 || entry > a->h->entries.capacity)
        return false;
    enum pm_entry_state state = pm_state(a, entry - 1);
    if ((state != PM_SEALED && state != PM_FAILED) || pm_pin(a, entry - 1))
        return false;
    const pm_entry_shm *e = pm__entry(a, entry - 1); /* pinned: its words stand still */
    bool owns = e->block.v && e->block.v <= at && at + len <= e->block.v + e->size.v &&
                pm__take_one_more(a, entry - 1);
    pm_unpin(a, entry - 1);
    return owns;
}

int pm_locate(pm_arena *a, const void *data, uint64_t len, pm_ref *out, uint64_t *offset)
{
    uint64_t within = (uint64_t)((uintptr_t)data - (uintptr_t)a->readable), entry = 0;
    if (within >= a->h->heap_bytes || len > a->h->heap_bytes - within || a->gone)
        return PM_ENOTFOUND;
    uint64_t at = a->h->heap + within;
    /* The block begins before this chunk, or in it: then it is over the first byte of the next. */
    for (uint64_t c = within / PM_CHUNK; c <= within / PM_CHUNK + 1; c++) {
        entry = atomic_load_explicit(&a->owners[c].v, memory_order_relaxed);
        if (is_owner(a, entry, at, len)) {
            *out = ref_of(a, entry);
            *offset = at - pm__entry(a, entry - 1)->block.v;
            return PM_OK;
        }
    }
    return PM_ENOTFOUND;
}

/* ---- names ----------------------------------------------------------------------------------- */

int pm_name(pm_arena *a, pm_patience how, uint64_t slot, const unsigned char key[PM_KEY])
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    pm_share(a, slot);
    rc = pm__directory_add(&op, key, slot + 1);
    if (rc)
        pm_lock_rollback(&a->lock);
    int left = pm__done(&op);
    return rc ? rc : left;
}

int pm_find(pm_arena *a, pm_patience how, const unsigned char key[PM_KEY], pm_ref *out)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    uint64_t entry = pm__directory_find(&op, key);
    rc = entry && pm__entry(a, entry - 1)->refs.v ? pm__hold_locked(&op, entry) : PM_ENOTFOUND;
    if (rc == PM_OK)
        *out = ref_of(a, entry);
    int left = pm__done(&op);
    return rc ? rc : left;
}

int pm_keep(pm_arena *a, pm_patience how, uint64_t slot, const unsigned char key[PM_KEY])
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    pm_share(a, slot);
    rc = pm__directory_add(&op, key, slot + 1);
    if (rc)
        pm_lock_rollback(&a->lock);
    else {
        pm_entry_shm *e = pm__entry(a, slot);
        pm_set(&a->lock, &a->keys[e->key.v - 1].kept, 1);
        pm_set(&a->lock, &e->refs, e->refs.v + 1);
    }
    int left = pm__done(&op);
    return rc ? rc : left;
}

int pm_unkeep(pm_arena *a, pm_patience how, uint64_t slot, const unsigned char key[PM_KEY])
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    uint64_t entry = pm__directory_find(&op, key);
    if (entry == slot + 1 && a->keys[pm__entry(a, slot)->key.v - 1].kept.v) {
        pm__directory_remove(&op, entry);
        pm__entry_unref(&op, entry);
    } else
        rc = PM_ENOTFOUND;
    int left = pm__done(&op);
    return rc ? rc : left;
}

int pm_kept(pm_arena *a, pm_patience how, uint64_t *from, pm_ref *out, uint64_t *n)
{
    enum { LOOKS = 256 }; /* keys looked at in one lock hold */
    pm_op op;
    uint64_t most = *n;
    *n = 0;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    for (int i = 0; i < LOOKS && *n < most && *from < a->h->keys.high.v; i++, ++*from)
        if (a->keys[*from].kept.v)
            out[(*n)++] = ref_of(a, a->keys[*from].entry.v);
    if (*from >= a->h->keys.high.v)
        rc = PM_ENOTFOUND;
    int left = pm__leave(&op);
    return left ? left : rc;
}
