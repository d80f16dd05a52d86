/* client.h - who is attached: life locks, entering and leaving the arena's lock, waking.
 *
 * A client is one process. Its slot is claimed by a small C thread that holds the slot's life
 * lock until the process ends, however it ends; that thread blocks all signals and never touches
 * Python.
 *
 * A guest also has a lifeline: the only write end of a pipe, close-on-exec, that no forked child keeps.
 * The keeper opens the other end by /proc, so it hangs up when the guest dies, leaves or becomes
 * another program; its life lock tells by then.
 *
 * Every operation on shared state is:   pm__enter();  changes by pm_set();  pm__leave();
 * Wake-ups collected between the two happen after the unlock. */
#ifndef PM_CLIENT_H
#define PM_CLIENT_H

#include "arena.h"

enum { PM_WAKES = 24 };

/* One operation under the lock, on its thread's stack. */
typedef struct {
    pm_arena *a;
    bool ring;         /* the keeper should look */
    bool prefetch;     /* our watcher thread should (prefetch.h) */
    bool everyone;     /* wake all sleepers: a death was seen, or there are too many to list */
    char *fresh;       /* last record taken from never used memory */
    const char *touch; /* what the next event will be written to: it may not be mapped yet */
    uint32_t nwakes, ncounts, nlooks;
    pm_futex *wakes[PM_WAKES];
    pm_waiter_shm *counts[PM_WAKES]; /* waiters that have one completion less to wait for */
    pm_waiter_shm *looks[PM_WAKES];  /* waiters that should look again whatever they miss */
} pm_op;

/* Claim a slot and start the watcher thread. driver_pidfd >= 0: when the driver ends, a keeper
 * or worker is killed, a guest is told (pm__over()). The fd stays the caller's. late: what the thread does
 * when it is called. PM_ETABLE if all slots are taken, PM_EGONE, PM_ESYS. */
int pm__client_attach(pm_arena *a, enum pm_kind kind, int driver_pidfd, void (*late)(pm_arena *));

/* Have the watcher thread do `late` in a moment: there is something left that could not wait for the
 * lock, and perhaps no operation of this process will follow. Never waits. */
void pm__call_watcher(pm_arena *a);

/* The driver's pidfd that the watcher looks at, -1 = none. */
int pm__driver_fd(const pm_arena *a);

/* End the watcher thread: to all others this client is dead now, and can be swept. */
void pm__client_stop(pm_arena *a);
/* After that, when no thread can call it any more. */
void pm__client_free(pm_arena *a);

/* Take the lock. PM_EAGAIN (busy), an error of pm__over(), PM_ECORRUPT, PM_ESTOPPED: its holder
 * has been stopped for a second and may not be killed (a driver or a guest; see
 * pm__stopped_holder). A stopped keeper or worker is killed. */
int pm__enter(pm_op *op, pm_arena *a, pm_patience how);

/* Commit, unlock, then wake whom the operation collected. */
int pm__leave(pm_op *op);

/* True in a forked child: the maps were not inherited, nothing of the arena may be touched. */
bool pm__inherited(const pm_arena *a);

/* Why this process can do nothing here any more; PM_OK if it can. PM_EFORKED: it is a forked child of
 * the client. PM_ELEFT: it has left. PM_EGONE, of a guest: the driver has ended or shut the session
 * down. A few loads of lines that nobody writes meanwhile. */
int pm__over(const pm_arena *a);
/* The same for who is about to sleep: driver and workers do not wait in a session that is ending. */
int pm__over_for_sleepers(const pm_arena *a);

/* Process that the last PM_ESTOPPED of this thread was about. */
pid_t pm__stopped_holder(void);

/* Wake a thread after the unlock, if it sleeps. */
void pm__wake_later(pm_op *op, pm_futex *asleep);

/* Make every sleeping thread of the session look again. Needs no lock. */
void pm__wake_everyone(pm_arena *a);

/* Say why no worker can be started, or "" that they can again. Meanwhile waits for results end
 * with PM_EFAILED. */
void pm__fail(pm_arena *a, const char *why);

/* The clients' slots, 0 .. below this. */
uint64_t pm__client_high(const pm_arena *a);

/* The first ticket in the line for heap, 0 if nobody stands there. Under the lock; a walk over all
 * clients, only while somebody does. */
uint64_t pm__first_in_line(const pm_arena *a);

/* A free waiter of this client, or -1 if PM_WAITERS threads are waiting already. */
int pm__waiter_take(pm_arena *a);
void pm__waiter_give(pm_arena *a, int waiter);
/* Until all are given back. */
void pm__waiters_drain(pm_arena *a);
static inline pm_waiter_shm *pm__waiter(const pm_arena *a, uint64_t client, int waiter)
{
    return &a->waiters[client * PM_WAITERS + (uint64_t)waiter];
}

#endif
