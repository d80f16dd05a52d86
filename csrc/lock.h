/* lock.h - the arena's one lock: a robust process-shared mutex with an undo journal.
 *
 * Lock rule:   rank 1 of 1: the lock is a leaf and the only one. While holding it: no system call, no Python, no
 *              allocation outside the arena, no unbounded loop. Wake-ups happen after the unlock.
 * Crash rule:  journaled words (pm_j64) change by pm_set(): the old value reaches the journal
 * before the new one
 *              reaches the word. pm_lock_commit() is the decision: one store of `head` empties the undo list and
 *              names the publishes to do. Whoever gets the lock from a dead owner rolls an undecided transaction
 *              back and completes the publishes of a decided one, so everyone else sees the state before the
 *              operation or after it. Repair is idempotent: dying in it repeats it.
 *
 * This file is the only one that knows EOWNERDEAD. Life locks (client.h) are made of the same
 * mutex.
 */
#ifndef PM_LOCK_H
#define PM_LOCK_H

#include <pthread.h>
#include <sys/types.h>

#include "atomic.h"

enum {
    PM_UNDO_MAX = 320, /* journaled writes of one transaction; each operation's bound is below it */
    PM_PUBLISH_MAX = 32,
};

typedef struct {
    uint64_t off; /* from the arena's start */
    uint64_t value;
} pm_record_shm;

/* head = undo records in the low half, publishes to complete in the high half; never both. */
typedef struct {
    pthread_mutex_t mutex;
    pm_a64 repairs; /* transactions of dead owners rolled back or completed */
    pm_a64 broken;  /* not 0: an operation overran its bound; the arena refuses further use */
    _Atomic uint64_t head;
    pm_record_shm undo[PM_UNDO_MAX];
    pm_record_shm publish[PM_PUBLISH_MAX];
} pm_lock_shm;

/* One process's handle. `undone` and `published` are the open transaction's counts, valid inside
 * the lock. */
typedef struct {
    pm_lock_shm *shm;
    char *base;
    uint32_t undone;
    uint32_t published;
    bool repaired; /* this acquisition repaired a death: the caller must wake everyone */
} pm_lock;

typedef enum {
    PM_TRY,  /* about 2 us of spinning: may be called with the GIL held */
    PM_WAIT, /* sleeps for at most 100 ms: call it without the GIL */
} pm_patience;

int pm_lock_init(pm_lock_shm *shm);
void pm_lock_open(pm_lock *l, pm_lock_shm *shm, char *base);

/* Take the lock and repair what a dead owner left. PM_EAGAIN if it is busy, PM_ECORRUPT if the
 * arena is broken. */
int pm_lock_acquire(pm_lock *l, pm_patience how);

/* Decide the open transaction and start the next one, keeping the lock. Costs two stores and the
 * publishes. */
void pm_lock_commit(pm_lock *l);

/* Undo the open transaction, keeping the lock. */
void pm_lock_rollback(pm_lock *l);

/* Commit and unlock. PM_ECORRUPT if the transaction overran its bound: it is rolled back, the
 * arena refuses use. */
int pm_lock_release(pm_lock *l);

/* Kernel id of the thread that is inside, or 0. A hint, read beside the mutex. */
pid_t pm_lock_holder(const pm_lock *l);

/* Journaled writes that still fit in the open transaction. */
static inline uint32_t pm_lock_room(const pm_lock *l)
{
    uint32_t undo = PM_UNDO_MAX - l->undone;
    /* a step publishes at most once per 8 writes */
    uint32_t pub = (PM_PUBLISH_MAX - l->published) * 8;
    return undo < pub ? undo : pub;
}

/* Change a journaled word inside the open transaction. */
void pm_set(pm_lock *l, pm_j64 *word, uint64_t value);

/* Give a word its first value: only in a record that no committed state reaches, so that
 * rollback need not restore it. Free-list links are reachable and must use pm_set(). */
static inline void pm_init(pm_j64 *word, uint64_t value)
{
    word->v = value;
}

/* Store a published word when the open transaction commits. Reads inside the transaction still
 * see the old value. */
void pm_publish(pm_lock *l, pm_p64 *word, uint64_t value);

/* Life locks: a robust mutex that a client's watcher thread holds for its whole life. */
typedef enum { PM_LIFE_HELD, PM_LIFE_FREE, PM_LIFE_DEAD } pm_life;
int pm_life_init(pthread_mutex_t *life);
/* Try to take it. HELD: its owner lives. FREE: taken, nobody held it. DEAD: taken from a dead
 * owner; proof of death. */
pm_life pm_life_take(pthread_mutex_t *life);
void pm_life_give(pthread_mutex_t *life);
/* Whether its owner lives: one load, of a lock of anybody. */
bool pm_life_is_held(const pthread_mutex_t *life);

#endif
