/* wait.c - see wait.h. */
#include "wait.h"

#include "crash.h"
#include "os.h"

enum {
    NONE_NEEDED = -1000, /* beside the PM_E* codes */
    SPIN_MAX_NS = 100000,
    SPIN_MIN_NS = 1000,
    /* from the wake to running again, at most: 40 us are common on a virtual machine, up to 90 seen */
    WAKE_NS = 100000,
    BATCH = 16, /* records linked in one lock hold */
    LOOKS = 64, /* entries looked at in one lock hold */
    /* the first sleep is looked at after this long, the next after ten times as long, and so on */
    PATIENCE_NS = 20000000,
    FREE_WAITER_NS = 100000000,
};

/* ---- spinning -------------------------------------------------------------------------------- */

/* Spinning pays only while a core is free for it: not beside as many running tasks as there are
 * cores. The word is read beside the lock; a stale value costs a few microseconds. */
static bool core_free(const pm_arena *a)
{
    uint64_t units = *(const volatile uint64_t *)&a->h->cpu_used.v;
    return (units + PM_UNITS - 1) / PM_UNITS < (uint64_t)a->cores;
}

bool pm__spin(pm_arena *a, const pm_a64 *word, bool (*changed)(uint64_t), uint64_t *began)
{
    if (changed(pm_a64_load(word)))
        return true;
    *began = pm__os_now();
    if (!core_free(a))
        return false;
    uint64_t until = *began + atomic_load_explicit(&a->spin_ns, memory_order_relaxed);
    do {
        for (int i = 0; i < 16; i++) {
            pm_cpu_relax();
            if (changed(pm_a64_load(word)))
                return true;
        }
    } while (pm__os_now() < until);
    return false;
}

void pm__slept(pm_arena *a, uint64_t began)
{
    uint32_t budget = atomic_load_explicit(&a->spin_ns, memory_order_relaxed);
    bool would_have_paid = pm__os_now() - began < SPIN_MAX_NS + WAKE_NS;
    budget = would_have_paid ? budget * 2 : budget / 2;
    budget = budget > SPIN_MAX_NS ? SPIN_MAX_NS : budget < SPIN_MIN_NS ? SPIN_MIN_NS : budget;
    atomic_store_explicit(&a->spin_ns, budget, memory_order_relaxed);
}

/* ---- counting -------------------------------------------------------------------------------- */

static bool is_ready(const pm_arena *a, uint64_t slot)
{
    return pm_state(a, slot) != PM_PENDING;
}

/* Have the entry count for our waiter when it is sealed. A record that counts for another
 * thread's waiter, which is in use, is made to count for all of the client's. */
void pm__count_for(pm_op *op, uint64_t slot, int waiter)
{
    pm_arena *a = op->a;
    pm_local *own = &a->local[slot];
    pm_hold_shm *r = &a->holds[own->hold - 1];
    uint64_t mine = (uint64_t)waiter + 1, now = r->waiter.v;
    /* order: own->waiter = ours -> read the waiters in use; a thread that takes waiter `now`
     * meanwhile does the reverse (pm__waiter_take, then counted), so either it sees that the
     * record is not its own or we see it. */
    atomic_store(&own->waiter, (uint32_t)mine);
    if (now && now != mine && now <= PM_WAITERS &&
        atomic_load(&pm__me(a)->waiters.v) >> (now - 1) & 1)
        mine = PM_WAITERS + 1;
    pm_set(&a->lock, &r->waiter, mine);
    atomic_store(&own->waiter, (uint32_t)mine);
    /* Of a task that becomes ready later the record tells; one that is ready already has told
     * nobody. */
    uint64_t task =
        pm__all_busy(a->h) || a->h->mixed.v ? pm__queued_producer(a, slot + 1, true) : 0;
    if (task && pm__none_free(a, &a->h->shapes[pm__task(a, task - 1)->shape.v - 1]))
        pm_a64_store(&pm__waiter(a, a->slot, waiter)->work, 1);
}

static bool counted(const pm_arena *a, uint64_t slot, int waiter)
{
    uint32_t w = atomic_load(&a->local[slot].waiter);
    return w == (uint32_t)waiter + 1 || w == PM_WAITERS + 1;
}

/* Link up to BATCH uncounted pending entries from slots[*i] on; adds those found ready to *got. */
static int count_batch(pm_arena *a, const uint64_t *slots, uint64_t n, int waiter, uint64_t *i,
                       uint64_t *got)
{
    pm_op op;
    int rc = pm__enter(&op, a, PM_WAIT);
    if (rc)
        return rc;
    int looked = 0;
    for (int linked = 0; *i < n && linked < BATCH && looked < LOOKS; ++*i, looked++) {
        if (is_ready(a, slots[*i]))
            ++*got;
        else if (!counted(a, slots[*i], waiter)) {
            pm__count_for(&op, slots[*i], waiter);
            linked++;
        }
    }
    return pm__done(&op);
}

/* Until `need` are found ready, or all others are counted. */
static int count_all(pm_arena *a, const uint64_t *slots, uint64_t n, int waiter, uint64_t need,
                     uint64_t *got)
{
    uint64_t i = 0;
    while (i < n && *got < need) {
        if (is_ready(a, slots[i])) {
            ++*got;
            i++;
        } else if (counted(a, slots[i], waiter))
            i++;
        else {
            int rc = count_batch(a, slots, n, waiter, &i, got);
            if (rc)
                return rc;
        }
    }
    return PM_OK;
}

/* Of the list, those whose completion will not be told to us any more: they are ready, or stand
 * in it before. Each entry tells once however often it is listed. */
static uint64_t untold(pm_arena *a, const uint64_t *slots, uint64_t n, int waiter)
{
    uint64_t bit = UINT64_C(1) << waiter, count = 0;
    for (uint64_t i = 0; i < n; i++)
        count +=
            is_ready(a, slots[i]) ||
            atomic_fetch_or_explicit(&a->local[slots[i]].listed, bit, memory_order_relaxed) & bit;
    for (uint64_t i = 0; i < n; i++)
        atomic_fetch_and_explicit(&a->local[slots[i]].listed, ~bit, memory_order_relaxed);
    return count;
}

/* ---- sleeping -------------------------------------------------------------------------------- */

static bool none_missing(uint64_t missing)
{
    return (int64_t)missing <= 0;
}

/* Ready tasks beside idle workers: the worker that was called does not come. Call another. Whether it
 * is so; also if that cannot be known: the wait looks why when it begins anew. */
static bool kick(pm_arena *a)
{
    pm_op op;
    if (pm__enter(&op, a, PM_WAIT))
        return true;
    pm__call_worker(&op);
    bool odd = a->h->ready.v && a->h->idle.v;
    pm__done(&op);
    return odd;
}

/* order: this side   asleep = 1 -> read missing -> sleep while asleep is 1
 *        other side  missing lowered -> read and clear asleep -> wake      (pm__leave, look_again in client.c)
 * Both are sequentially consistent, so one of the two sees the other. */
static int sleep_until(pm_waiter_shm *w, uint64_t deadline)
{
    int rc = PM_OK;
    atomic_store(&w->asleep.v, 1);
    if (!none_missing(atomic_load(&w->missing.v)))
        rc = pm__os_sleep(&w->asleep, 1, deadline);
    atomic_store(&w->asleep.v, 0);
    return rc;
}

/* A sleep ends now and then without an event. Of ready tasks beside idle workers one is called then;
 * and the caller is to look for signals: one that came after its last look and before the sleep has
 * interrupted nothing. Ever more rarely, so that who waits for an hour wakes six times in it. */
static _Thread_local uint64_t patience = PATIENCE_NS;

/* What look() of pm__await() says beside an error is no end of the wait. */
static int after_wait(int rc)
{
    if (rc != PM_EAGAIN && rc <= PM_OK)
        patience = PATIENCE_NS;
    return rc;
}

static int await(pm_arena *a, pm_waiter_shm *w, uint64_t deadline, bool working)
{
    uint64_t began;
    if (pm__spin(a, &w->missing, none_missing, &began))
        return PM_OK;
    uint64_t slice = pm__os_now() + patience;
    bool last = deadline && deadline <= slice;
    int rc = sleep_until(w, last ? deadline : slice);
    pm__slept(a, began);
    if (rc != PM_ETIMEOUT || last)
        return rc;
    bool odd = kick(a);
    if (odd && working)
        return PM_OK; /* no worker may come at all */
    if (!odd)
        patience *= 10;
    return PM_EAGAIN;
}

bool pm_linger(const pm_arena *a, uint64_t slot, uint64_t ns)
{
    uint64_t until = pm__os_now() + ns;
    while (!is_ready(a, slot)) {
        if (pm__os_now() >= until || !core_free(a))
            return false;
        for (int i = 0; i < 16; i++)
            pm_cpu_relax();
    }
    return true;
}

static bool is_enough(const pm_arena *a, const uint64_t *slots, uint64_t n, uint64_t need)
{
    for (uint64_t i = 0; i < n && need > 0; i++)
        need -= is_ready(a, slots[i]);
    return need == 0;
}

/* A waiter of our own. While other threads of this process have them all, states are looked at now
 * and then: what we wait for may be what those others wait for. */
static int waiter_for(pm_arena *a, const uint64_t *slots, uint64_t n, uint64_t need,
                      uint64_t deadline)
{
    int w, rc;
    while ((w = pm__waiter_take(a)) < 0) {
        if (is_enough(a, slots, n, need))
            return NONE_NEEDED;
        if ((rc = pm__over_for_sleepers(a)))
            return rc;
        uint64_t slice = pm__os_now() + FREE_WAITER_NS;
        atomic_store(&a->want_waiter.v, 1);
        if ((w = pm__waiter_take(a)) >= 0)
            break;
        rc = pm__os_sleep(&a->want_waiter, 1, deadline && deadline < slice ? deadline : slice);
        if (rc == PM_EINTR || (rc == PM_ETIMEOUT && deadline && pm__os_now() >= deadline))
            return rc;
        if (rc == PM_ETIMEOUT)
            return PM_EAGAIN;
    }
    return w;
}

static bool is_asked_to_end(const pm_arena *a)
{
    uint64_t task = *(const volatile uint64_t *)&pm__me(a)->running.v; /* ours alone */
    return task && pm__cancel_asked(a, task);
}

static int wait_with(pm_arena *a, int waiter, const uint64_t *slots, uint64_t n, uint64_t need,
                     uint64_t deadline, unsigned mode)
{
    const bool working = mode & PM_WAIT_WORKING;
    pm_waiter_shm *w = pm__waiter(a, a->slot, waiter);
    for (bool woken = false;; woken = true) {
        uint64_t got = 0;
        /* order: missing = need -> read states. An entry sealed before its state is read is in
         * `got`, one sealed after lowers `missing`; one that does both only makes us look again. */
        atomic_store(&w->missing.v, need);
        int rc = count_all(a, slots, n, waiter, need, &got);
        if (rc)
            return rc;
        if (got >= need)
            return PM_OK;
        if ((rc = pm__over_for_sleepers(a)))
            return rc;
        if (pm_a64_load(&a->h->failed))
            return PM_EFAILED;
        PM_CRASH(COUNTED);
        /* order: missing = need -> read the word; the other side commits it, then missing = 0
         * (cancel.c, pm__leave) */
        if (mode & PM_WAIT_TASK && is_asked_to_end(a))
            return PM_ECANCELLED;
        /* order: missing = need -> read work; the other side sets work, then missing = 0 (look()
         * in settle.c, pm__leave). Woken with too little ready, a worker looks for work too:
         * what it was woken for may be a death. */
        if (working && (pm_a64_swap(&w->work, 0) || woken))
            return PM_EWORK;
        /* Up to need - 1 is taken off at once: should duplicates make that too little, one
         * completion more has us look. */
        if (need - got > 1 && (got = untold(a, slots, n, waiter)) >= need)
            got = need - 1;
        if ((int64_t)(atomic_fetch_sub(&w->missing.v, got) - got) <= 0)
            continue;
        rc = await(a, w, deadline, working);
        if (rc)
            return rc;
    }
}

int pm_wait(pm_arena *a, const uint64_t *slots, uint64_t n, uint64_t need, uint64_t deadline,
            unsigned mode)
{
    int waiter = waiter_for(a, slots, n, need, deadline);
    if (waiter < 0)
        return after_wait(waiter == NONE_NEEDED ? PM_OK : waiter);
    int rc = wait_with(a, waiter, slots, n, need, deadline, mode);
    pm__waiter_give(a, waiter);
    return after_wait(rc);
}

int pm__await(pm_arena *a, uint64_t what, uint64_t deadline,
              int (*look)(pm_op *op, uint64_t what, int waiter))
{
    int rc, waiter = waiter_for(a, NULL, 0, 1, deadline);
    if (waiter < 0)
        return after_wait(waiter);
    pm_waiter_shm *w = pm__waiter(a, a->slot, waiter);
    for (;;) {
        pm_op op;
        atomic_store(&w->missing.v, 1);
        rc = pm__enter(&op, a, PM_WAIT);
        if (rc)
            break;
        rc = look(&op, what, waiter);
        int left = pm__done(&op);
        rc = left ? left : rc;
        if (rc != PM_NOT_YET)
            break;
        PM_CRASH(AWAITING);
        if ((rc = pm__over_for_sleepers(a)))
            break;
        if ((rc = await(a, w, deadline, false)))
            break;
    }
    pm__waiter_give(a, waiter);
    return after_wait(rc);
}

/* Refused and counted for in one lock hold: who gives a lease back, or seals it, after it tells
 * us. */
static int or_count_for(pm_op *op, uint64_t slot, int waiter, int refused)
{
    if (refused != PM_ELEASED)
        return refused;
    pm__count_for(op, slot, waiter);
    return PM_NOT_YET;
}

static int look_to_close(pm_op *op, uint64_t slot, int waiter)
{
    return or_count_for(op, slot, waiter, pm__close_locked(op->a, slot));
}

static int look_to_lease(pm_op *op, uint64_t slot, int waiter)
{
    return or_count_for(op, slot, waiter, pm__lease_locked(op->a, slot));
}

int pm_close_leases(pm_arena *a, uint64_t slot, uint64_t deadline)
{
    return pm__await(a, slot, deadline, look_to_close);
}

int pm_await_lease(pm_arena *a, uint64_t slot, uint64_t deadline)
{
    return pm__await(a, slot, deadline, look_to_lease);
}
