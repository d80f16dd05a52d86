/* spill.h - objects that make room: out to the disk, and back.
 *
 *   SEALED ── copied, nobody looks at it ──► SPILLED ── asked for ──► SEALED
 *
 * No lock is held while the disk is read or written. Whoever moves an object holds and pins it, and
 * works on a *carrier*: a pending object of its own, which has the extent or the block that the object
 * is to get. One lock hold exchanges them. So a mover may die at any instant: its carrier is swept as
 * any pending object is, with all that it has.
 *
 * A pin of an object that is not away makes others leave it where it is; a pin of one that is away
 * says that its owner is bringing it back.
 *
 * An object is immutable, so its copy stays true when it is back, and the next time it goes without a
 * write. The copy goes with the object: its place in the file system is given back by the watcher
 * thread of whoever dropped it (pm__spill_trim). */
#ifndef PM_SPILL_H
#define PM_SPILL_H

#include "object.h"

/* Spill until blocks of `bytes` bytes have gone back, the least recently used first. *freed: how many
 * have; less: nothing else can go (it is looked at, small, or the disk is full), or the keeper trims. Blocks on the disk;
 * call without the GIL. Cost beside that: a look at each entry of the table for every few hundred
 * objects. */
int pm_spill(pm_arena *a, uint64_t bytes, uint64_t *freed);

/* For who has met PM_ESPILLED, with a reference. PM_OK: look again. PM_ESPILLED: it is for the caller
 * to bring it back, and has a pin that says so: it makes a pending object of pm_away_bytes() for
 * pm_bring_back(), or gives the pin back. Waits while another does it, as pm_wait(), but not for ever:
 * that one may be stopped, and it does no harm if two do it. */
int pm_await_back(pm_arena *a, uint64_t slot);
uint64_t pm_away_bytes(const pm_arena *a, uint64_t slot);
/* With the block of the pending object `into`, which keeps nothing. The pin ends with it. Blocks on the
 * disk. PM_ELOST. */
int pm_bring_back(pm_arena *a, uint64_t slot, uint64_t into);
/* The same for one that has been made again: with what the pending object `made` contains, its
 * references too. What was on disk goes. PM_EINVAL: that has no block. */
int pm_replace(pm_arena *a, uint64_t slot, uint64_t made);

/* Ahead of need, when the store is nearly full: a bounded number of bytes. By the watcher thread of who
 * has just made an object; if there is more to do it is called again. */
void pm__spill_ahead(pm_arena *a);

/* Once in a session: true when objects have been spilled, for who is to tell of it. */
bool pm_tell_of_spilling(pm_arena *a);

/* Give back what the copies of dead objects have on disk: their extents, and to the file system what
 * is more than four times the store, or an eighth of the file. To write where something has been written
 * before takes half the time. */
void pm__spill_trim(pm_arena *a);

/* A pending object of ours that nobody else knows: what it has goes to another, or back with it.
 * PM_ETABLE. */
int pm__carrier_new(pm_op *op, uint64_t extent, uint64_t block, uint64_t *carrier);

#endif
