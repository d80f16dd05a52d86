/* reserve.h - taking an entry with a hold record, and a small stock of such pairs for tiny
 * objects.
 *
 * A client keeps up to PM_RESERVE pending entries that only it holds. A put of few bytes fills
 * one of them and publishes it, and its drop makes it a pending one of the next generation:
 * neither takes the lock, so processes that put small objects do not meet. To all others the
 * stock is what it looks like: pending objects that the client holds, which the sweep frees
 * should it die.
 *
 * That is right as long as nobody else can have a reference: an entry is `own` until its
 * reference is given to a task, to another object, to the directory, or to the user as an id
 * (pm_share()); from then on it takes the common way. */
#ifndef PM_RESERVE_H
#define PM_RESERVE_H

#include "settle.h"

/* For object.c and task.c: a pending entry with one reference, not yet published; 0 if the table
 * is full. */
uint64_t pm__entry_new(pm_op *op);
/* A hold record of this client for an entry it has none of, with one local reference. False if
 * the table is full. */
bool pm__hold_begin(pm_op *op, uint64_t entry);
void pm__entry_publish(pm_op *op, uint64_t entry, enum pm_entry_state state);

/* Take a stocked entry, stocking up if there is none: its slot, pending, with one local
 * reference. After PM_OK the stock is open: fill the entry and publish it, a few instructions,
 * then close. PM_ETABLE, PM_EAGAIN. */
int pm__reserve_take(pm_arena *a, pm_patience how, uint64_t *slot);
void pm__reserve_close(pm_arena *a);
/* Open it for good, before what this process holds is swept: nobody is filling or giving back an
 * entry any more. */
void pm__reserve_stop(pm_arena *a);
/* The last local reference of an own entry goes: put it back into stock. False: take the common
 * way. */
bool pm__reserve_give(pm_arena *a, uint64_t slot);

/* Others may get a reference to this entry from now on. */
static inline void pm_share(pm_arena *a, uint64_t slot)
{
    atomic_store_explicit(&a->local[slot].own, PM_SHARED, memory_order_relaxed);
}

static inline uint64_t pm__generation(const pm_arena *a, uint64_t entry)
{
    return pm_p64_load(&pm__entry(a, entry - 1)->state) >> 8;
}

#endif
