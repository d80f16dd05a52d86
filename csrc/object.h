/* object.h - an object's life: create, write, seal, hold, pin, drop.
 *
 *      pm__create ──► PENDING ── pm__seal ──► SEALED or FAILED ── last reference ──► FREE (generation + 1)
 *      task submit ──► PENDING ── task finish ──►
 *
 * A process keeps one hold record per entry, whatever the number of its ObjectRefs; see pm_local
 * in arena.h. What it holds may be read without the lock once the state says sealed: state is
 * published after all else was committed, and nothing of a sealed entry changes before its last
 * reference is gone. */
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

/* A sealed object of at most PM_INLINE bytes, from this client's stock of entries: no lock, but
 * once in a dozen. PM_EAGAIN, PM_ETABLE. */
int pm_put(pm_arena *a, pm_patience how, const void *data, uint64_t len, pm_ref *out);

/* A pending object with room for `size` bytes and a table of `nrefs` references, which it takes
 * from `refs`: each is held by this process. PM_EFULL, PM_ETABLE. After PM_OK call pm_contain()
 * until it returns PM_OK, write, then seal. Dropping the reference instead gives everything
 * back. */
int pm_create(pm_arena *a, pm_patience how, uint64_t size, const pm_ref *refs, uint64_t nrefs,
              pm_ref *out);
/* Count the contained references, a bounded number a lock hold. PM_EAGAIN: call again.
 * PM_ECYCLE. */
int pm_contain(pm_arena *a, pm_patience how, uint64_t slot);

/* Copy bytes into a pending object of ours. No lock; release the GIL for more than 64 KB. */
int pm_write(pm_arena *a, uint64_t slot, uint64_t at, const void *data, uint64_t len);
int pm_seal(pm_arena *a, pm_patience how, uint64_t slot, bool failed);

/* One more reference of this process. PM_ENOTFOUND if that generation is gone. Lock-free if the
 * process has one. */
int pm_hold(pm_arena *a, pm_patience how, pm_ref ref);
/* One less. Never waits, never fails: what cannot be done now is deferred to the next operation. */
void pm_drop(pm_arena *a, uint64_t slot);
/* A pin is a reference that also promises that the bytes stay. Needs a reference already. */
int pm_pin(pm_arena *a, uint64_t slot);
void pm_unpin(pm_arena *a, uint64_t slot);

/* State of an entry this process holds. One load. */
static inline enum pm_entry_state pm_state(const pm_arena *a, uint64_t slot)
{
    return (enum pm_entry_state)(pm_p64_load(&a->entries[slot].state) & 0xff);
}
/* The bytes of a sealed entry this process holds or that a task it runs takes. No lock.
 * PM_ESTATE if it is pending. */
int pm_look(const pm_arena *a, uint64_t slot, pm_view *out);

/* The reference to an entry that this process, or a task it runs, holds. */
static inline pm_ref pm_ref_of(const pm_arena *a, uint64_t slot)
{
    return (pm_ref){.slot = slot, .generation = pm_p64_load(&a->entries[slot].state) >> 8};
}

/* Directory: give an object of ours a key, and find (and hold) one. PM_EEXISTS, PM_ENOTFOUND. */
int pm_name(pm_arena *a, pm_patience how, uint64_t slot, const unsigned char key[PM_KEY]);
int pm_find(pm_arena *a, pm_patience how, const unsigned char key[PM_KEY], pm_ref *out);

#endif
