/* wait.h - waiting for entries to be sealed.
 *
 * A waiting process is counted by its hold records: each says which of the process's waiters to
 * lower when the entry is sealed. A record stays counted when the wait ends early, so a repeated
 * wait over the same references takes no lock. Counts are hints, states the truth. */
#ifndef PM_WAIT_H
#define PM_WAIT_H

#include "object.h"

enum pm_wait_mode { /* bits */
                    /* a worker inside a task waits: PM_EWORK tells it that a task it waits for may be queued and no
     * worker idle, so that it can run it itself */
                    PM_WAIT_WORKING = 1,
                    /* for the innermost task that this process runs: PM_ECANCELLED when that is asked to end */
                    PM_WAIT_TASK = 2,
};

/* Until at least `need` of the n entries, all held by this process, are sealed or failed.
 * deadline: pm__os_now() clock, 0 = none. Call without the GIL. PM_OK, PM_ETIMEOUT, PM_EINTR or
 * PM_EAGAIN (look for signals, and call again: after 20 ms for the first time, ever more rarely from
 * then on), PM_EGONE, ... Cost: n loads; the lock once per 16 entries not waited for before. */
int pm_wait(pm_arena *a, const uint64_t *slots, uint64_t n, uint64_t need, uint64_t deadline,
            unsigned mode);

/* To find what stands in a list twice: a stamp for the list, and whether an entry was met in it
 * before. No shared memory. A repeat may be missed while another thread goes through a list with the
 * same entry. */
static inline uint64_t pm_stamp(pm_arena *a)
{
    return atomic_fetch_add_explicit(&a->stamps, 1, memory_order_relaxed) + 1;
}
static inline bool pm_met(pm_arena *a, uint64_t slot, uint64_t stamp)
{
    _Atomic uint64_t *last = &a->local[slot].stamp;
    bool met = atomic_load_explicit(last, memory_order_relaxed) == stamp;
    if (!met)
        atomic_store_explicit(last, stamp, memory_order_relaxed);
    return met;
}

/* Spin on *word as long as it is likely to pay: true if it has changed. Otherwise sleep, and say
 * so to pm__slept(), which learns: twice as long next time if the sleep was so short that
 * spinning would have been faster, half as long if not. */
bool pm__spin(pm_arena *a, const pm_a64 *word, bool (*changed)(uint64_t), uint64_t *began);
void pm__slept(pm_arena *a, uint64_t began);
static inline bool pm__rung(uint64_t bell)
{
    return bell != 0;
}

/* Spin until the entry, which this process holds, is ready: whether it is. At most `ns`, and not beside
 * as many running tasks as there are cores. For who would have to leave the wait to another thread. */
bool pm_linger(const pm_arena *a, uint64_t slot, uint64_t ns);

/* Under the lock: have the entry, which this process holds, count for our waiter when it is sealed, or
 * when something else happens to it (pm__entry_notify()). */
void pm__count_for(pm_op *op, uint64_t slot, int waiter);

/* Sleep until look(), called under the lock with `what`, returns something else than PM_NOT_YET; it
 * leaves word for whoever changes that to lower `waiter`. Returns what look() did, or as pm_wait(). */
enum { PM_NOT_YET = 1 };
int pm__await(pm_arena *a, uint64_t what, uint64_t deadline,
              int (*look)(pm_op *op, uint64_t what, int waiter));

/* Until no other process can write a pending object of ours (pm_lease()), nor will be able to: see
 * pm__close_locked(). PM_ETIMEOUT, PM_ESTATE (it is sealed), else as pm_wait(). */
int pm_close_leases(pm_arena *a, uint64_t slot, uint64_t deadline);
/* pm_lease() of an object that another process may have closed: then when that process has taken it
 * back or died; PM_ESTATE when it has sealed it. */
int pm_await_lease(pm_arena *a, uint64_t slot, uint64_t deadline);

#endif
