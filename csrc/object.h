/* object.h - an object's life: create, write, seal, hold, pin, drop, free.
 *
 *      pm_create ──► PENDING ── pm_seal ──► SEALED or FAILED ── last reference ──► FREE (generation + 1)
 *      task submit ──► PENDING ── task finish ──►   └─ pm_free ──► FREED ── last reference ──┘
 *
 * A process keeps one hold record per entry, whatever the number of its ObjectRefs; see pm_local
 * in arena.h. What it holds may be read without the lock once the state says sealed: state is
 * published after all else was committed, and nothing of a sealed entry changes before its last
 * reference is gone. Only the block may be gone before, if the user freed it: so bytes outside of
 * the entry are read under a pin. */
#ifndef PM_OBJECT_H
#define PM_OBJECT_H

#include "reserve.h"

/* The bytes of a sealed object. They stay where they are while it is pinned (blocks) or held
 * (inline bytes). */
typedef struct {
    enum pm_entry_state state;
    bool is_inline;
    const void *data; /* read-only map, or the entry's own bytes */
    uint64_t size;
    const pm_ref *refs; /* references contained */
    uint64_t nrefs;
} pm_view;

/* Objects from this size on stand in line for room (room.h). */
enum { PM_IN_LINE = 1 << 16 };

/* A sealed object of at most PM_INLINE bytes, from this client's stock of entries: no lock, but
 * once in a dozen. PM_EAGAIN, PM_ETABLE. */
int pm_put(pm_arena *a, pm_patience how, const void *data, uint64_t len, pm_ref *out);

/* A pending object with room for `size` bytes and a table of `nrefs` references, which it takes
 * from `refs`: each is held by this process. PM_EFULL, PM_ETABLE. After PM_OK call pm_contain()
 * until it returns PM_OK, write, then seal. Dropping the reference instead gives everything
 * back. */
int pm_create(pm_arena *a, pm_patience how, uint64_t size, const pm_ref *refs, uint64_t nrefs,
              pm_ref *out);
/* Its two halves: under the lock (what it did not do is undone), and after that. While others stand in
 * line for room with a lower `ticket` (0: none), there is none for a large object: PM_EFULL. */
int pm__create_locked(pm_op *op, uint64_t size, uint64_t nrefs, uint64_t ticket, pm_ref *out);
void pm__created(pm_arena *a, uint64_t slot, const pm_ref *refs);
/* Count the contained references, a bounded number a lock hold. PM_EAGAIN: call again.
 * PM_ECYCLE. */
int pm_contain(pm_arena *a, pm_patience how, uint64_t slot);

/* Copy bytes into a pending object of ours. No lock; release the GIL for more than 64 KB. */
int pm_write(pm_arena *a, uint64_t slot, uint64_t at, const void *data, uint64_t len);
/* Say where a pending object of ours was made; only of one that has a block, whose entry has room
 * for the text. No lock. */
void pm_label(pm_arena *a, uint64_t slot, const char *site);
/* Make a pending object of ours immutable and visible. PM_ESTATE, PM_ELEASED: see pm_lease(). */
int pm_seal(pm_arena *a, pm_patience how, uint64_t slot, bool failed);
int pm__seal_locked(pm_op *op, uint64_t slot, bool failed);

/* Under the lock: the process's first reference, or one more. PM_ETABLE. */
int pm__hold_locked(pm_op *op, uint64_t entry);
/* One more reference of this process. PM_ENOTFOUND if that generation is gone. Lock-free if the
 * process has one. */
int pm_hold(pm_arena *a, pm_patience how, pm_ref ref);
/* The same, only if the process has one. */
bool pm__take_one_more(pm_arena *a, uint64_t slot);
/* One less. Never waits, never fails: what cannot be done now is deferred to the next operation, at
 * most by a millisecond or two. */
void pm_drop(pm_arena *a, uint64_t slot);
/* A pin is a reference that also promises that the bytes stay where pm_look() says from then on. Needs
 * a reference already, to a sealed object. Lock-free. PM_EFREED, PM_ESPILLED (spill.h brings it
 * back). */
int pm_pin(pm_arena *a, uint64_t slot);
void pm_unpin(pm_arena *a, uint64_t slot);
/* The same by who has tried to move the object away: that is no news to those who wait for room, and
 * would have them try for ever. */
void pm__unpin_unmoved(pm_arena *a, uint64_t slot);

/* A reference and a pin of this process, a forked child, for what its parent has pinned, in whatever
 * state. PM_ENOTFOUND: its bytes are gone, or may be. */
int pm_adopt(pm_arena *a, pm_patience how, pm_ref ref);

/* Give up the object's bytes, whoever else has references: they go when nobody looks at them any
 * more, and reading it is PM_EFREED from now on. The result of a task that has not ended is freed as
 * it comes. What it contains loses that reference, so this breaks cycles. PM_ESTATE: somebody is
 * still writing it. */
int pm_free(pm_arena *a, pm_patience how, uint64_t slot);

/* A pin of a pending object, for a mapping that writes it; given back by pm_unpin(). The object is
 * sealed only when no other process has one. PM_ESTATE: it is sealed already. PM_ELEASED: another
 * process has closed it, so it soon will be (pm_await_lease() waits for what becomes of it). */
int pm_lease(pm_arena *a, pm_patience how, uint64_t slot);
int pm__lease_locked(pm_arena *a, uint64_t slot);

/* Under the lock: from now on no other process gets a lease, until we seal it, take this back
 * (pm_reopen) or die. So nothing refuses our pm_seal(), and we may make our mappings private before
 * it. PM_ELEASED, PM_ESTATE. See pm_close_leases(). */
int pm__close_locked(pm_arena *a, uint64_t slot);
void pm_reopen(pm_arena *a, uint64_t slot);
/* One of the other processes that can write it, 0 if there is none. */
int pm_lessee(pm_arena *a, pm_patience how, uint64_t slot, uint64_t *pid);

/* State of an entry this process holds. One load. */
static inline enum pm_entry_state pm_state(const pm_arena *a, uint64_t slot)
{
    return (enum pm_entry_state)(pm_p64_load(&a->entries[slot].state) & 0xff);
}
/* The bytes of a sealed entry this process holds or that a task it runs takes. No lock. Those of a
 * block may be read under a pin that was taken before. PM_ESTATE if it is pending; PM_ESPILLED: the
 * view says all but where they are. */
int pm_look(const pm_arena *a, uint64_t slot, pm_view *out);

/* The reference to an entry that this process, or a task it runs, holds. */
/* Serial of the task that it is a result of; 0 if it was put. For a holder: constant while the entry
 * exists, so no lock. */
static inline uint64_t pm_producer(const pm_arena *a, uint64_t slot)
{
    return pm__entry(a, slot)->producer.v;
}

static inline pm_ref pm_ref_of(const pm_arena *a, uint64_t slot)
{
    return (pm_ref){.slot = slot, .generation = pm_p64_load(&a->entries[slot].state) >> 8};
}

/* The sealed object, held by this process, in whose block these bytes of the read-only map lie,
 * with one reference more; *offset from the first of its bytes. No lock. PM_ENOTFOUND; of
 * most blocks below PM_CHUNK bytes, too. */
int pm_locate(pm_arena *a, const void *data, uint64_t len, pm_ref *out, uint64_t *offset);
/* Bytes of the heap that are free, in however many pieces. Without the lock: a hint. */
static inline uint64_t pm__heap_left(const pm_arena *a)
{
    uint64_t used = *(const volatile uint64_t *)&a->h->heap_shm.used.v;
    return used < a->h->heap_bytes ? a->h->heap_bytes - used : 0;
}

/* Write down whose block it is, and that it is used now, before others can see the object. No lock. */
void pm__own_chunks(pm_arena *a, uint64_t slot, const pm_entry_shm *e);

/* Directory: give an object of ours a key, and find (and hold) one. PM_EEXISTS, PM_ENOTFOUND. */
int pm_name(pm_arena *a, pm_patience how, uint64_t slot, const unsigned char key[PM_KEY]);
int pm_find(pm_arena *a, pm_patience how, const unsigned char key[PM_KEY], pm_ref *out);
/* A key that keeps its object alive, until pm_unkeep() of both. PM_EEXISTS, PM_ENOTFOUND. */
int pm_keep(pm_arena *a, pm_patience how, uint64_t slot, const unsigned char key[PM_KEY]);
int pm_unkeep(pm_arena *a, pm_patience how, uint64_t slot, const unsigned char key[PM_KEY]);
/* Objects so kept, from key *from on: up to *n of them, which are not held for the caller.
 * PM_ENOTFOUND: these were the last. */
int pm_kept(pm_arena *a, pm_patience how, uint64_t *from, pm_ref *out, uint64_t *n);

/* Objects go ahead of need while so little of the heap is free, or what the next of a size takes. */
static inline uint64_t pm__watermark(const pm_arena *a)
{
    return a->h->heap_bytes / 16;
}

#endif
