/* lock.c - the one place where another process's death is repaired. */
#include "lock.h"

#include <errno.h>
#include <time.h>

#include "crash.h"
#include "err.h"

enum {
    /* about 2 us of trylock: four times the throughput of sleeping at once [R 28] */
    SPINS = 200,
    /* a sleeping waiter looks up this often, to see signals and stopped owners */
    SLICE_NS = 100000000,
};

#define UNDO_OF(head)    ((uint32_t)((head) & 0xffffffffu))
#define PUBLISH_OF(head) ((uint32_t)((head) >> 32))

static int robust_init(pthread_mutex_t *m)
{
    pthread_mutexattr_t a;
    int e = pthread_mutexattr_init(&a);
    if (e)
        return PM_ESYS;
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    e = pthread_mutex_init(m, &a);
    pthread_mutexattr_destroy(&a);
    errno = e;
    return e ? PM_ESYS : PM_OK;
}

int pm_lock_init(pm_lock_shm *shm)
{
    return robust_init(&shm->mutex);
}

void pm_lock_open(pm_lock *l, pm_lock_shm *shm, char *base)
{
    *l = (pm_lock){.shm = shm, .base = base};
}

static void head_store(pm_lock *l, uint64_t head)
{
    atomic_store_explicit(&l->shm->head, head, memory_order_relaxed);
}

static void undo(pm_lock *l, uint32_t n)
{
    while (n-- > 0) {
        pm_record_shm *r = &l->shm->undo[n];
        ((volatile pm_j64 *)(l->base + r->off))->v = r->value;
        PM_CRASH(UNDOING);
    }
    pm_compiler_fence();
    head_store(l, 0);
}

static void complete(pm_lock *l, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        pm_record_shm *r = &l->shm->publish[i];
        atomic_store_explicit(&((pm_p64 *)(l->base + r->off))->v, r->value, memory_order_release);
        PM_CRASH(PUBLISHING);
    }
    pm_compiler_fence();
    head_store(l, 0);
}

/* Safe to die in: `head` is cleared last, so the next owner repeats the whole. */
static void repair(pm_lock *l)
{
    uint64_t head = atomic_load_explicit(&l->shm->head, memory_order_relaxed);
    PM_CRASH(REPAIRING);
    if (PUBLISH_OF(head))
        complete(l, PUBLISH_OF(head));
    else
        undo(l, UNDO_OF(head));
    pm_a64_add(&l->shm->repairs, 1);
    l->repaired = true;
}

/* The first word of a robust mutex is the kernel's robust futex: the owner's thread id under two
 * flag bits. */
static pid_t owner_of(const pthread_mutex_t *m)
{
    return (pid_t)(*(const volatile uint32_t *)m & 0x3fffffffu);
}

/* Spinning reads the word and tries only when it looks free: every try, failed or not, takes the
 * cache line away from the holder. */
static int take(pthread_mutex_t *m, pm_patience how)
{
    int e = pthread_mutex_trylock(m);
    for (int i = 0; e == EBUSY && i < SPINS; i++) {
        pm_cpu_relax();
        if (owner_of(m) == 0)
            e = pthread_mutex_trylock(m);
    }
    if (e != EBUSY || how == PM_TRY)
        return e;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += SLICE_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    return pthread_mutex_timedlock(m, &until);
}

int pm_lock_acquire(pm_lock *l, pm_patience how)
{
    int e = take(&l->shm->mutex, how);
    if (e == EBUSY || e == ETIMEDOUT)
        return PM_EAGAIN;
    if (e && e != EOWNERDEAD)
        return PM_ECORRUPT;
    l->undone = l->published = 0;
    l->repaired = false;
    if (e == EOWNERDEAD) {
        repair(l);
        PM_CRASH(REPAIRED);
        pthread_mutex_consistent(&l->shm->mutex);
    }
    if (pm_a64_load(&l->shm->broken)) {
        pthread_mutex_unlock(&l->shm->mutex);
        return PM_ECORRUPT;
    }
    PM_CRASH(LOCKED);
    return PM_OK;
}

void pm_lock_commit(pm_lock *l)
{
    PM_CRASH(BEFORE_COMMIT);
    pm_compiler_fence();
    /* The decision. A death before this store rolls all of it back; after it, the publishes are
     * completed. */
    head_store(l, (uint64_t)l->published << 32);
    pm_compiler_fence();
    PM_CRASH(COMMITTED);
    if (l->published)
        complete(l, l->published);
    l->undone = l->published = 0;
}

void pm_lock_rollback(pm_lock *l)
{
    undo(l, l->undone);
    l->undone = l->published = 0;
}

int pm_lock_release(pm_lock *l)
{
    bool broken = pm_a64_load(&l->shm->broken) != 0;
    if (broken)
        pm_lock_rollback(l);
    else
        pm_lock_commit(l);
    PM_CRASH(BEFORE_UNLOCK);
    pthread_mutex_unlock(&l->shm->mutex);
    PM_CRASH(UNLOCKED);
    return broken ? PM_ECORRUPT : PM_OK;
}

pid_t pm_lock_holder(const pm_lock *l)
{
    return owner_of(&l->shm->mutex);
}

void pm_set(pm_lock *l, pm_j64 *word, uint64_t value)
{
    if (l->undone >= PM_UNDO_MAX) {
        pm_a64_store(&l->shm->broken, 1);
        return;
    }
    pm_record_shm *r = &l->shm->undo[l->undone];
    r->off = (uint64_t)((char *)word - l->base);
    r->value = word->v;
    /* order: record -> head -> word. A death between any two leaves a journal that rolls back
     * exactly what reached the word. */
    pm_compiler_fence();
    head_store(l, ++l->undone);
    pm_compiler_fence();
    PM_CRASH(LOGGED);
    word->v = value;
    PM_CRASH(WRITTEN);
}

void pm_publish(pm_lock *l, pm_p64 *word, uint64_t value)
{
    if (l->published >= PM_PUBLISH_MAX) {
        pm_a64_store(&l->shm->broken, 1);
        return;
    }
    l->shm->publish[l->published++] =
        (pm_record_shm){.off = (uint64_t)((char *)word - l->base), .value = value};
}

int pm_life_init(pthread_mutex_t *life)
{
    return robust_init(life);
}

pm_life pm_life_take(pthread_mutex_t *life)
{
    int e = pthread_mutex_trylock(life);
    if (e == EBUSY)
        return PM_LIFE_HELD;
    if (e == EOWNERDEAD)
        pthread_mutex_consistent(life); /* should we die with it, the kernel marks it again */
    return e == EOWNERDEAD ? PM_LIFE_DEAD : PM_LIFE_FREE;
}

bool pm_life_is_held(const pthread_mutex_t *life)
{
    return owner_of(life) != 0; /* at its death the kernel takes the thread's id away */
}

void pm_life_give(pthread_mutex_t *life)
{
    pthread_mutex_unlock(life);
}
