/* client.c - see client.h. */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crash.h"
#include "os.h"

enum {
    STOPPED_NS = 1000000000, /* how long a stopped holder of the lock is waited for [R 9] */
    PAGE = 4096,
    LATE_MS = 1, /* an operation of this process within it saves the watcher its work */
};

struct pm_watch {
    pthread_t thread;
    pm_arena *a;
    enum pm_kind kind;
    int driver;            /* pidfd of our own, or -1 */
    pm_file opened;        /* what that is */
    _Atomic int bell;      /* eventfd: one of the two below is set */
    int lifeline;          /* or -1 */
    uint64_t pipe;         /* inode of the lifeline */
    struct pm_watch *next; /* of this process */
    _Atomic bool stop;
    _Atomic bool called;
    void (*late)(pm_arena *);
    int rc; /* of the claim */
    sem_t claimed;
};

static _Atomic uint32_t forks; /* of this process and its ancestors since they loaded the core */

static pthread_mutex_t watches_lock = PTHREAD_MUTEX_INITIALIZER; /* a leaf */
static struct pm_watch *watches;

static void close_lifeline(struct pm_watch *w)
{
    if (w->lifeline >= 0)
        close(w->lifeline);
    w->lifeline = -1;
}

static void before_fork(void)
{
    pthread_mutex_lock(&watches_lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&watches_lock);
}

static void forked(void)
{
    forks++;
    for (; watches; watches = watches->next)
        close_lifeline(watches); /* at once: the parent may end, or exec, before the child does */
    pthread_mutex_unlock(&watches_lock);
}

__attribute__((constructor)) static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork, forked);
}

bool pm__inherited(const pm_arena *a)
{
    return a->forks != forks;
}

int pm__over(const pm_arena *a)
{
    if (pm__inherited(a))
        return PM_EFORKED;
    int gone = a->gone;
    if (gone)
        return gone;
    /* Of an orderly end no event tells the watcher of a guest, whose driver's process may live on.
     * The others need the core to the last: they end the session, or are killed. */
    return a->kind == PM_GUEST && pm_a64_load(&a->h->ending) ? PM_EGONE : PM_OK;
}

int pm__over_for_sleepers(const pm_arena *a)
{
    int rc = pm__over(a);
    return rc == PM_OK && pm_a64_load(&a->h->ending) ? PM_EGONE : rc;
}

/* ---- entering and leaving -------------------------------------------------------------------- */

static _Thread_local struct {
    pid_t holder;
    uint64_t since;
    pid_t stopped;
} patience;

static uint64_t kind_of_process(const pm_arena *a, pid_t pid)
{
    for (uint64_t i = 0; i < pm__client_high(a); i++)
        if (a->clients[i].kind.v && (pid_t)a->clients[i].pid.v == pid)
            /* read beside the lock: a slot changes hands only when its owner is gone */
            return a->clients[i].kind.v;
    return PM_GUEST;
}

/* The lock was busy for a whole slice. An undo journal must not be stolen from a live process,
 * so a stopped one is either made dead or named. */
static int diagnose(pm_arena *a)
{
    pid_t holder = pm_lock_holder(&a->lock);
    uint64_t now = pm__os_now();
    if (holder != patience.holder || holder == 0) {
        patience.holder = holder;
        patience.since = now;
        return PM_EAGAIN;
    }
    if (now - patience.since < STOPPED_NS || !pm__os_stopped(holder))
        return PM_EAGAIN;
    if (pm_lock_holder(&a->lock) != holder)
        return PM_EAGAIN; /* it let go, and was stopped afterwards */
    pid_t pid = pm__os_process_of(holder);
    uint64_t kind = kind_of_process(a, pid);
    if (kind == PM_KEEPER || kind == PM_WORKER) {
        kill(pid, SIGKILL);
        return PM_EAGAIN;
    }
    patience.stopped = pid;
    return PM_ESTOPPED;
}

pid_t pm__stopped_holder(void)
{
    return patience.stopped;
}

int pm__enter(pm_op *op, pm_arena *a, pm_patience how)
{
    int rc = pm__over(a);
    if (rc)
        return rc;
    rc = pm_lock_acquire(&a->lock, how);
    if (rc == PM_EAGAIN && how == PM_WAIT)
        return diagnose(a);
    if (rc)
        return rc;
    patience.holder = 0;
    op->a = a;
    op->nwakes = op->ncounts = op->nlooks = 0;
    op->fresh = NULL;
    op->touch = NULL;
    op->ring = op->everyone = a->lock.repaired;
    op->prefetch = false;
    /* pm_leave() on another thread was faster: what this process held is no longer its own; or
     * pm_end(), which takes the lock: nobody who is told of the end meets a later operation */
    rc = pm__over(a);
    if (rc)
        pm__leave(op);
    return rc;
}

static void look_again(pm_a64 *word, uint64_t value, pm_futex *asleep)
{
    atomic_store(&word->v, value);
    if (atomic_exchange(&asleep->v, 0))
        pm__os_wake(asleep, 1);
}

/* Fault the pages that the next records will need while nobody waits for us: a fault under the
 * lock costs everyone 3 us [R 26]. */
static void touch_ahead(const pm_op *op)
{
    const char *ahead = op->fresh + 2 * PAGE;
    if (((uintptr_t)op->fresh & (PAGE - 1)) < PAGE / 4 && ahead < op->a->map.base + op->a->map.size)
        (void)*(const volatile char *)ahead;
}

int pm__leave(pm_op *op)
{
    int rc = pm_lock_release(&op->a->lock);
    PM_CRASH(BEFORE_WAKE);
    if (op->fresh)
        touch_ahead(op);
    if (op->touch)
        (void)*(const volatile char *)op->touch;
    /* order: the commit published the entries -> missing -> asleep; the other side is await() in
     * wait.c */
    for (uint32_t i = 0; i < op->ncounts; i++)
        if ((int64_t)atomic_fetch_sub(&op->counts[i]->missing.v, 1) <= 1 &&
            atomic_exchange(&op->counts[i]->asleep.v, 0))
            pm__os_wake(&op->counts[i]->asleep, 1);
    for (uint32_t i = 0; i < op->nlooks; i++)
        look_again(&op->looks[i]->missing, 0, &op->looks[i]->asleep);
    for (uint32_t i = 0; i < op->nwakes; i++)
        if (atomic_exchange(&op->wakes[i]->v, 0))
            pm__os_wake(op->wakes[i], 1);
    if (op->everyone)
        pm__wake_everyone(op->a);
    if (op->ring)
        pm__os_eventfd_ring(op->a->bell);
    return rc;
}

/* ---- waking ---------------------------------------------------------------------------------- */

void pm__wake_later(pm_op *op, pm_futex *asleep)
{
    if (atomic_load(&asleep->v) == 0)
        return; /* it looks again before it sleeps: see the order box in wait.c */
    if (op->nwakes == PM_WAKES)
        op->everyone = true;
    else
        op->wakes[op->nwakes++] = asleep;
}

void pm__wake_everyone(pm_arena *a)
{
    for (uint64_t i = 0; i < pm__client_high(a); i++) {
        pm_client_shm *c = &a->clients[i];
        look_again(&c->bell, 1, &c->asleep);
        uint64_t used = pm_a64_load(&c->waiters);
        for (int w = 0; w < PM_WAITERS; w++)
            if (used >> w & 1)
                look_again(&pm__waiter(a, i, w)->missing, 0, &pm__waiter(a, i, w)->asleep);
    }
}

void pm__fail(pm_arena *a, const char *why)
{
    /* Keeper and guard may both write; a reader beside them may see a mixture of texts, which
     * are for people. */
    pm_a64_store(&a->h->failed, 0);
    strncpy(a->h->failure, why, PM_FAILURE - 1);
    pm_a64_store(&a->h->failed, *why != 0);
    pm__wake_everyone(a);
}

uint64_t pm__client_high(const pm_arena *a)
{
    /* A journaled word read beside the lock: too low misses a client that is only just attaching
     * and will look for itself, too high looks at a slot that was never used, whose words are
     * all 0. */
    uint64_t high = *(const volatile uint64_t *)&a->h->client_high.v;
    return high < PM_CLIENTS ? high : PM_CLIENTS;
}

int pm__waiter_take(pm_arena *a)
{
    pm_a64 *used = &pm__me(a)->waiters;
    uint64_t bits = pm_a64_load(used);
    for (;;) {
        int w = __builtin_ctzll(~bits); /* PM_WAITERS < 64: a bit is always clear */
        if (w >= PM_WAITERS)
            return -1;
        if (pm_a64_cas(used, &bits, bits | UINT64_C(1) << w))
            return w;
    }
}

uint64_t pm__first_in_line(const pm_arena *a)
{
    uint64_t first = 0;
    if (!pm_a64_load(&a->h->lined))
        return 0;
    for (uint64_t i = 0; i < pm__client_high(a); i++) {
        uint64_t used = pm_a64_load(&a->clients[i].waiters); /* a sweep clears it */
        for (; used; used &= used - 1) {
            uint64_t ticket = pm_a64_load(&pm__waiter(a, i, __builtin_ctzll(used))->ticket);
            if (ticket && (!first || ticket < first))
                first = ticket;
        }
    }
    if (!first)
        pm_a64_store(&a->h->lined, 0);
    return first;
}

void pm__waiter_give(pm_arena *a, int waiter)
{
    pm_a64_store(&pm__waiter(a, a->slot, waiter)->ticket, 0);
    atomic_fetch_and(&pm__me(a)->waiters.v, ~(UINT64_C(1) << waiter));
    if (atomic_load(&a->want_waiter.v) && atomic_exchange(&a->want_waiter.v, 0))
        pm__os_wake(&a->want_waiter, PM_CLIENTS);
}

void pm__waiters_drain(pm_arena *a)
{
    atomic_store(&a->want_waiter.v, 1);
    while (atomic_load(&pm__me(a)->waiters.v)) {
        pm__os_sleep(&a->want_waiter, 1, 0);
        atomic_store(&a->want_waiter.v, 1);
    }
}

/* ---- the watcher thread ---------------------------------------------------------------------- */

/* A slot whose life lock we now hold. The lock is taken before the slot is marked as used, so a
 * used slot always has an owner whose death shows. */
static int free_slot(pm_op *op, uint64_t *slot)
{
    pm_arena *a = op->a;
    uint64_t high = a->h->client_high.v;
    for (uint64_t i = 0; i < high; i++) {
        if (a->clients[i].kind.v == 0 && pm_life_take(&a->clients[i].life) != PM_LIFE_HELD) {
            *slot = i;
            return PM_OK;
        }
    }
    if (high == PM_CLIENTS)
        return PM_ETABLE;
    int rc = pm_life_init(&a->clients[high].life);
    if (rc)
        return rc;
    /* Committed before the life lock is taken: nobody ever makes a lock anew that may be held. */
    pm_set(&a->lock, &a->h->client_high, high + 1);
    pm_lock_commit(&a->lock);
    pm_life_take(&a->clients[high].life);
    *slot = high;
    return PM_OK;
}

static int claim(struct pm_watch *w)
{
    pm_arena *a = w->a;
    pm_op op;
    uint64_t start = pm__os_start_time(getpid());
    int rc;
    while ((rc = pm__enter(&op, a, PM_WAIT)) == PM_EAGAIN)
        ;
    if (rc)
        return rc;
    rc = pm_a64_load(&a->h->ending) ? PM_EGONE : free_slot(&op, &a->slot);
    if (rc == PM_OK) {
        pm_client_shm *c = pm__me(a);
        a->epoch = c->epoch.v;
        a->kind = w->kind;
        pm_set(&a->lock, &c->kind, w->kind);
        pm_set(&a->lock, &c->pid, (uint64_t)getpid());
        pm_set(&a->lock, &c->start_time, start);
        pm_set(&a->lock, &c->lifeline, (uint64_t)(w->lifeline + 1));
        pm_set(&a->lock, &c->pipe, w->pipe);
        if (w->kind == PM_WORKER)
            pm_set(&a->lock, &a->h->workers, a->h->workers.v + 1);
        op.ring = true; /* the keeper opens a pidfd for us */
    }
    int left = pm__leave(&op);
    return rc ? rc : left;
}

/* The driver is gone. Whoever sees it ends the others too: one that is stopped cannot see to its
 * own end. */
static void end_session(const pm_arena *a)
{
    pid_t own = getpid();
    for (uint64_t i = 0; i < pm__client_high(a); i++) {
        const pm_client_shm *c = &a->clients[i];
        /* read beside the lock; the start time tells whether it is still that process */
        pid_t pid = (pid_t)c->pid.v;
        if ((c->kind.v == PM_WORKER || c->kind.v == PM_KEEPER) && pid != own &&
            pm__os_start_time(pid) == c->start_time.v)
            kill(pid, SIGKILL);
    }
    kill(own, SIGKILL);
}

static void driver_ended(const struct pm_watch *w)
{
    if (w->kind != PM_GUEST)
        end_session(w->a);
    int none = 0;
    atomic_compare_exchange_strong(&w->a->gone, &none, PM_EGONE); /* unless it has left */
    pm__wake_everyone(w->a);
}

static const pm_client_shm *driver_of(const pm_arena *a)
{
    for (uint64_t i = 0; i < pm__client_high(a); i++)
        if (a->clients[i].kind.v == PM_DRIVER)
            return &a->clients[i]; /* read beside the lock: it stays that as long as it lives */
    return NULL;
}

static bool is_ours(const struct pm_watch *w)
{
    return w->driver >= 0 && pm__os_is_file(w->driver, w->opened);
}

/* Before Linux 6.9 all descriptors of events and of processes are one file: the bell's is that, too. */
static bool is_like_others(const struct pm_watch *w)
{
    return pm__os_is_file(w->bell, w->opened);
}

/* There is an event of the driver's descriptor: its end, if the descriptor is the one we opened; else
 * we watch by a new one. Returns what to poll. */
static int look_at_driver(struct pm_watch *w)
{
    const pm_client_shm *driver = driver_of(w->a);
    bool lives = driver && pm_life_is_held(&driver->life);
    if (is_ours(w) && !(lives && is_like_others(w))) {
        driver_ended(w);
        return -1;
    }
    w->driver = -1; /* not ours to close any more */
    if (lives)
        w->driver = pm__os_pidfd((pid_t)driver->pid.v);
    w->opened = pm__os_file(w->driver);
    if (w->driver < 0 || !pm_life_is_held(&driver->life))
        driver_ended(w); /* the last was asked after the open: else it is that process */
    return w->driver;
}

static void *watch(void *arg)
{
    struct pm_watch *w = arg;
    pthread_setname_np(pthread_self(), "plasmid-watch");
    w->rc = claim(w);
    bool claimed = w->rc == PM_OK;
    sem_post(&w->claimed);
    if (!claimed)
        return NULL;
    struct pollfd fds[2] = {{.fd = w->bell, .events = POLLIN}, {.fd = w->driver, .events = POLLIN}};
    uint64_t rings;
    for (;;) {
        int n = poll(fds, 2, atomic_load(&w->called) ? LATE_MS : -1);
        if (atomic_load(&w->stop))
            return NULL; /* the life lock is not given back: to all others this is a death */
        if (n == 0) {
            atomic_store(&w->called, false); /* first: a call from here on is another one */
            w->late(w->a);
        }
        if (n > 0 && fds[0].revents & POLLIN)
            (void)!read(w->bell, &rings, sizeof rings);
        else if (n > 0 && fds[0].revents) /* closed by the program, as the driver's may be */
            fds[0].fd = w->bell = eventfd(0, EFD_CLOEXEC);
        if (n > 0 && fds[1].revents)
            fds[1].fd = look_at_driver(w);
    }
}

void pm__call_watcher(pm_arena *a)
{
    if (a->watch && !atomic_exchange(&a->watch->called, true))
        pm__os_eventfd_ring(a->watch->bell);
}

static int open_lifeline(struct pm_watch *w)
{
    struct stat st = {0};
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return PM_ESYS;
    close(ends[0]);
    fstat(ends[1], &st);
    w->pipe = st.st_ino;
    pthread_mutex_lock(&watches_lock);
    w->lifeline = ends[1];
    w->next = watches;
    watches = w;
    pthread_mutex_unlock(&watches_lock);
    return PM_OK;
}

static void cut_lifeline(struct pm_watch *w)
{
    pthread_mutex_lock(&watches_lock);
    for (struct pm_watch **at = &watches; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            break;
        }
    close_lifeline(w);
    pthread_mutex_unlock(&watches_lock);
}

static void free_watch(struct pm_watch *w)
{
    cut_lifeline(w);
    pm__os_close_event(w->bell);
    if (is_ours(w))
        close(w->driver);
    sem_destroy(&w->claimed);
    free(w);
}

int pm__client_attach(pm_arena *a, enum pm_kind kind, int driver_pidfd, void (*late)(pm_arena *))
{
    struct pm_watch *w = calloc(1, sizeof *w);
    if (!w)
        return PM_ESYS;
    *w = (struct pm_watch){.a = a,
                           .kind = kind,
                           .driver = -1,
                           .late = late,
                           .lifeline = -1,
                           .bell = eventfd(0, EFD_CLOEXEC)};
    sem_init(&w->claimed, 0, 0);
    a->forks = forks;
    if (driver_pidfd >= 0)
        w->driver = fcntl(driver_pidfd, F_DUPFD_CLOEXEC, 3);
    w->opened = pm__os_file(w->driver);
    int rc = w->bell >= 0 && (driver_pidfd < 0 || w->driver >= 0) ? PM_OK : PM_ESYS;
    if (rc == PM_OK && kind == PM_GUEST)
        rc = open_lifeline(w);
    if (rc == PM_OK)
        rc = pm__os_thread(&w->thread, watch, w);
    if (rc == PM_OK) {
        while (sem_wait(&w->claimed))
            ;
        rc = w->rc;
        if (rc)
            pthread_join(w->thread, NULL);
    }
    if (rc) {
        free_watch(w);
        return rc;
    }
    a->watch = w;
    return PM_OK;
}

int pm__driver_fd(const pm_arena *a)
{
    return a->watch ? a->watch->driver : -1;
}

void pm__client_stop(pm_arena *a)
{
    struct pm_watch *w = a->watch;
    if (!w || atomic_exchange(&w->stop, true))
        return;
    pm__os_eventfd_ring(w->bell);
    pthread_join(w->thread, NULL);
    cut_lifeline(w); /* after the life lock shows it, too */
    if (w->driver >= 0)
        close(w->driver);
    w->driver = -1;
}

void pm__client_free(pm_arena *a)
{
    if (a->watch)
        free_watch(a->watch);
    a->watch = NULL;
}
