/* test_wait.c - waiting for entries: counts, several threads, timeouts, signals, lost wake-ups, deaths. */
#include <pthread.h>
#include <time.h>

#include "world.h"

enum { MANY = 1000 };

static void nothing(int signal)
{
    (void)signal;
}

static pm_ref pending(const world *w)
{
    pm_ref ref;
    DO(pm_create(w->a, PM_WAIT, 8, NULL, 0, &ref));
    return ref;
}

static int await_all(const world *w, const uint64_t *slots, uint64_t n, uint64_t need,
                     uint64_t deadline)
{
    int rc;
    while ((rc = pm_wait(w->a, slots, n, need, deadline, false)) == PM_EAGAIN || rc == PM_EINTR)
        continue;
    return rc;
}

static uint64_t in_ms(uint64_t ms)
{
    return pm__os_now() + ms * 1000000;
}

/* The other side of most tests: has MANY pending objects, tells of them, and seals as many as word[1] says. */
static void sealer(world *w)
{
    for (int i = 0; i < MANY; i++)
        w->b->refs[i] = pending(w);
    atomic_store(&w->b->word[0], 1);
    for (uint64_t sealed = 0; sealed < MANY;) {
        while (sealed < atomic_load(&w->b->word[1]))
            DO(pm_seal(w->a, PM_WAIT, w->b->refs[sealed++].slot, false));
        usleep(50);
    }
    for (;;)
        pause();
}

static pid_t start_sealer(world *w, uint64_t slots[MANY])
{
    atomic_store(&w->b->word[0], 0);
    atomic_store(&w->b->word[1], 0);
    pid_t pid = spawn(w, sealer);
    AWAIT(atomic_load(&w->b->word[0]));
    for (int i = 0; i < MANY; i++) {
        DO(pm_hold(w->a, PM_WAIT, w->b->refs[i]));
        slots[i] = w->b->refs[i].slot;
    }
    return pid;
}

static void end(world *w, pid_t pid, const uint64_t slots[MANY])
{
    slay(pid);
    CHECK(sweep_dead(w) == 1);
    for (int i = 0; i < MANY; i++)
        pm_drop(w->a, slots[i]);
    DO(pm__settle(w->a, PM_WAIT));
    CHECK(stats(w).entries == 0);
    clean(w);
    pm_close(w->a);
}

static void *seal_later(void *arg)
{
    world *w = arg;
    usleep(3000);
    atomic_store(&w->b->word[1], atomic_load(&w->b->word[2]));
    return NULL;
}

/* Have the sealer bring the number of sealed objects to n, a little later. */
static void later(world *w, uint64_t n)
{
    pthread_t t;
    atomic_store(&w->b->word[2], n);
    CHECK(pthread_create(&t, NULL, seal_later, w) == 0);
    CHECK(pthread_detach(t) == 0);
}

static uint64_t ready(const world *w, const uint64_t *slots, uint64_t n)
{
    uint64_t got = 0;
    for (uint64_t i = 0; i < n; i++)
        got += pm_state(w->a, slots[i]) != PM_PENDING;
    return got;
}

/* ---- counts ------------------------------------------------------------------------------------------------ */

TEST(wait_for_all_of_many_ends_with_the_last)
{
    world w = world_new();
    uint64_t slots[MANY];
    pid_t pid = start_sealer(&w, slots);
    later(&w, MANY);
    CHECK(await_all(&w, slots, MANY, MANY, 0) == PM_OK);
    CHECK(ready(&w, slots, MANY) == MANY);
    clean(&w);
    end(&w, pid, slots);
}

TEST(wait_for_some_ends_when_so_many_are_ready)
{
    world w = world_new();
    uint64_t slots[MANY];
    pid_t pid = start_sealer(&w, slots);
    for (uint64_t need = 1; need <= MANY; need += 37) {
        later(&w, need);
        CHECK(await_all(&w, slots, MANY, need, 0) == PM_OK);
        CHECK(ready(&w, slots, MANY) >= need);
    }
    clean(&w);
    end(&w, pid, slots);
}

TEST(wait_for_none_or_for_what_is_ready_does_not_sleep)
{
    world w = world_new();
    uint64_t slots[MANY];
    pid_t pid = start_sealer(&w, slots);
    CHECK(pm_wait(w.a, slots, 0, 0, 0, false) == PM_OK);
    CHECK(pm_wait(w.a, slots, MANY, 0, 0, false) == PM_OK);
    later(&w, 5);
    CHECK(await_all(&w, slots, MANY, 5, 0) == PM_OK);
    CHECK(pm_wait(w.a, slots, 5, 5, 0, false) == PM_OK);
    end(&w, pid, slots);
}

TEST(one_entry_named_twice_counts_twice)
{
    world w = world_new();
    uint64_t slots[MANY], list[300];
    pid_t pid = start_sealer(&w, slots);
    for (uint64_t need = 1; need <= 300; need += 13) {
        uint64_t from = need * 3; /* the first of the hundred that are still pending */
        for (uint64_t i = 0; i < 300; i++)
            list[i] = slots[from + i * i % 17];
        later(&w, from + 17);
        CHECK(await_all(&w, list, 300, need, 0) == PM_OK);
        CHECK(ready(&w, list, 300) >= need);
        CHECK(await_all(&w, list, 300, 300, 0) == PM_OK);
    }
    for (int i = 0; i < MANY; i++)
        CHECK(atomic_load(&w.a->local[slots[i]].listed) == 0);
    end(&w, pid, slots);
}

/* ---- timeouts, signals ------------------------------------------------------------------------------------- */

TEST(wait_times_out_and_may_be_repeated)
{
    world w = world_new();
    uint64_t slots[MANY];
    pid_t pid = start_sealer(&w, slots);
    for (uint64_t ms = 0; ms < 40; ms += 13) { /* before, during and after the kick of a sleeper */
        uint64_t deadline = in_ms(ms);
        CHECK(await_all(&w, slots, 20, 20, deadline) == PM_ETIMEOUT);
        CHECK(pm__os_now() >= deadline);
    }
    clean(&w); /* stale registrations stand */
    later(&w, 20);
    CHECK(await_all(&w, slots, 20, 20, 0) == PM_OK);
    end(&w, pid, slots);
}

static void *interrupt(void *arg)
{
    usleep(30000);
    CHECK(pthread_kill(*(pthread_t *)arg, SIGUSR1) == 0);
    return NULL;
}

TEST(signal_handler_interrupts_a_wait)
{
    world w = world_new();
    uint64_t slots[MANY];
    pid_t pid = start_sealer(&w, slots);
    pthread_t me = pthread_self(), t;
    struct sigaction sa = {.sa_handler = nothing} /* as Python's: calls are not restarted */;
    CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
    CHECK(pthread_create(&t, NULL, interrupt, &me) == 0);
    int rc;
    while ((rc = pm_wait(w.a, slots, 1, 1, 0, false)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_EINTR);
    CHECK(pthread_join(t, NULL) == 0);
    later(&w, 1);
    CHECK(await_all(&w, slots, 1, 1, 0) == PM_OK);
    end(&w, pid, slots);
}

/* A signal between the caller's last look for one and the sleep does not interrupt it. */
TEST(wait_has_its_caller_look_for_signals_ever_more_rarely)
{
    world w = world_new();
    uint64_t slots[MANY], spent[2];
    pid_t pid = start_sealer(&w, slots);
    for (int i = 0; i < 2; i++) {
        uint64_t began = pm__os_now();
        CHECK(pm_wait(w.a, slots, 1, 1, 0, false) == PM_EAGAIN);
        spent[i] = pm__os_now() - began;
    }
    CHECK(spent[1] >= 200000000);
    CHECK(pm_wait(w.a, slots, 1, 1, pm__os_now() + 100000000, false) == PM_ETIMEOUT);
    later(&w, 1);
    CHECK(await_all(&w, slots, 1, 1, 0) == PM_OK);
    end(&w, pid, slots);
}

TEST(wait_is_told_that_no_worker_can_be_started)
{
    world w = world_new();
    uint64_t slots[MANY];
    pid_t pid = start_sealer(&w, slots);
    pm_fail(w.a, "python not found");
    CHECK(pm_wait(w.a, slots, 1, 1, 0, false) == PM_EFAILED);
    CHECK(strcmp(pm_failure(w.a), "python not found") == 0);
    pm_fail(w.a, "");
    CHECK(await_all(&w, slots, 1, 1, in_ms(5)) == PM_ETIMEOUT);
    end(&w, pid, slots);
}

/* ---- several threads --------------------------------------------------------------------------------------- */

typedef struct {
    world *w;
    const uint64_t *slots;
    uint64_t n, need;
    unsigned seed;
} share;

static void *wait_for_share(void *arg)
{
    share *s = arg;
    CHECK(await_all(s->w, s->slots, s->n, s->need, 0) == PM_OK);
    CHECK(ready(s->w, s->slots, s->n) >= s->need);
    return NULL;
}

TEST(threads_of_one_client_wait_for_the_same_and_for_different_entries)
{
    enum { THREADS = 24 };
    world w = world_new();
    uint64_t slots[MANY];
    pid_t pid = start_sealer(&w, slots);
    pthread_t t[THREADS];
    share s[THREADS];
    for (uint64_t i = 0; i < THREADS; i++) { /* windows that overlap */
        s[i] = (share){.w = &w, .slots = slots + i * 20, .n = 60, .need = 1 + i % 3 * 29};
        CHECK(pthread_create(&t[i], NULL, wait_for_share, &s[i]) == 0);
    }
    usleep(20000);
    clean(&w);
    later(&w, MANY);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(t[i], NULL) == 0);
    CHECK(pm_a64_load(&w.a->clients[w.a->slot].waiters) == 0);
    clean(&w);
    end(&w, pid, slots);
}

TEST(more_threads_than_waiters_take_turns)
{
    enum { THREADS = PM_WAITERS + 20 };
    world w = world_new();
    uint64_t slots[MANY];
    pid_t pid = start_sealer(&w, slots);
    pthread_t t[THREADS];
    share s = {.w = &w, .slots = slots, .n = 2, .need = 1};
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&t[i], NULL, wait_for_share, &s) == 0);
    usleep(20000);
    later(&w, 1);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(t[i], NULL) == 0);
    end(&w, pid, slots);
}

static void *wait_in_bits(void *arg)
{
    share *s = arg;
    for (;;) {
        uint64_t from = (uint64_t)rand_r(&s->seed) % 990,
                 wait = (uint64_t)rand_r(&s->seed) % 300000;
        int rc = await_all(s->w, s->slots + from, 10, 10, pm__os_now() + wait);
        CHECK(rc == PM_OK || rc == PM_ETIMEOUT);
        if (ready(s->w, s->slots, MANY) == MANY)
            return NULL;
    }
}

/* A thread's registration that stands after its wait is taken over by another thread while the first comes back. */
TEST(registrations_that_change_hands_lose_no_wake)
{
    enum { THREADS = 6 };
    world w = world_new();
    for (unsigned round = 0; round < 4; round++) {
        uint64_t slots[MANY];
        pid_t pid = start_sealer(&w, slots);
        pthread_t t[THREADS];
        share s[THREADS];
        for (unsigned i = 0; i < THREADS; i++) {
            s[i] =
                (share){.w = &w, .slots = slots, .n = MANY, .need = MANY, .seed = round * 100 + i};
            CHECK(pthread_create(&t[i], NULL, i == 0 ? wait_for_share : wait_in_bits, &s[i]) == 0);
        }
        for (uint64_t n = 0; n <= MANY; n += 20) {
            atomic_store(&w.b->word[1], n);
            usleep(200);
        }
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_join(t[i], NULL) == 0);
        slay(pid);
        CHECK(sweep_dead(&w) == 1);
        for (int i = 0; i < MANY; i++)
            pm_drop(w.a, slots[i]);
    }
    clean(&w);
    pm_close(w.a);
}

/* The interleaving behind it, step by step: the record counts for waiter A, which is free. Thread B is about to make it
 * its own when A's thread comes back and finds itself counted. */
TEST(waiter_that_comes_back_during_a_takeover_is_counted)
{
    world w = world_new();
    uint64_t slots[MANY];
    pid_t pid = start_sealer(&w, slots);
    CHECK(await_all(&w, slots, 1, 1, in_ms(1)) == PM_ETIMEOUT); /* waiter 0 */
    CHECK(w.a->holds[w.a->local[slots[0]].hold - 1].waiter.v == 1);
    CHECK(pm__waiter_take(w.a) ==
          0); /* is in use by another thread, which trusts its registration */
    CHECK(await_all(&w, slots, 1, 1, in_ms(1)) == PM_ETIMEOUT); /* waiter 1 */
    CHECK(w.a->holds[w.a->local[slots[0]].hold - 1].waiter.v ==
          PM_WAITERS + 1); /* counts for both */
    pm_waiter_shm *first = pm__waiter(w.a, w.a->slot, 0);
    atomic_store(&first->missing.v, 1);
    later(&w, 1);
    AWAIT((int64_t)pm_a64_load(&first->missing) <= 0);
    pm__waiter_give(w.a, 0);
    end(&w, pid, slots);
}

/* ---- working waits ----------------------------------------------------------------------------------------- */

static void *wake_until_told(void *arg)
{
    world *w = arg;
    while (!atomic_load(&w->b->word[4])) {
        pm__wake_everyone(w->a);
        usleep(500);
    }
    return NULL;
}

/* Woken with too little ready, it looks for tasks: the worker that would have taken them may be dead. */
TEST(worker_that_waits_looks_for_work_when_everyone_is_woken)
{
    world w = world_new();
    uint64_t slots[MANY];
    pthread_t t;
    pid_t pid = start_sealer(&w, slots);
    CHECK(pthread_create(&t, NULL, wake_until_told, &w) == 0);
    int rc;
    while ((rc = pm_wait(w.a, slots, 1, 1, 0, true)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_EWORK);
    atomic_store(&w.b->word[4], 1);
    CHECK(pthread_join(t, NULL) == 0);
    end(&w, pid, slots);
}

/* ---- lost wake-ups ----------------------------------------------------------------------------------------- */

/* Two processes hand a turn back and forth, each by an object that the other waits for. */
static void player(world *w)
{
    enum { TURNS = 1500 };
    uint64_t me = atomic_fetch_add(&w->b->word[10], 1), other = 1 - me;
    for (uint64_t turn = 1; turn <= TURNS; turn++) {
        pm_ref mine = pending(w);
        w->b->refs[me] = mine;
        atomic_store(&w->b->word[me], turn);
        while (atomic_load(&w->b->word[other]) < turn)
            usleep(10);
        pm_ref theirs = w->b->refs[other];
        DO(pm_hold(w->a, PM_WAIT, theirs));
        atomic_store(&w->b->word[2 + me], turn); /* both hold both */
        while (atomic_load(&w->b->word[2 + other]) < turn)
            usleep(10);
        if ((turn + me) % 2) {
            for (uint64_t i = 0; i < turn % 64;
                 i++) /* meets the other spinning, on its way to sleep, and asleep */
                pm_cpu_relax();
            DO(pm_seal(w->a, PM_WAIT, mine.slot, false));
        } else {
            CHECK(await_all(w, &theirs.slot, 1, 1, 0) == PM_OK);
            DO(pm_seal(w->a, PM_WAIT, mine.slot, false));
        }
        CHECK(await_all(w, &theirs.slot, 1, 1, 0) == PM_OK);
        pm_drop(w->a, theirs.slot);
        pm_drop(w->a, mine.slot);
    }
}

TEST(no_wake_is_lost_between_two_processes)
{
    world w = world_new();
    pid_t one = spawn(&w, player), two = spawn(&w, player);
    CHECK(!reap(one) && !reap(two));
    CHECK(sweep_dead(&w) == 2);
    CHECK(stats(&w).entries == 0);
    clean(&w);
    pm_close(w.a);
}

/* ---- death ------------------------------------------------------------------------------------------------- */

static void prepare_pending(world *w)
{
    for (int i = 0; i < 40; i++) {
        w->b->refs[i] = pending(w);
        w->b->refs[100 + i] = (pm_ref){w->b->refs[i].slot, 0};
    }
}

static void act_wait(world *w)
{
    uint64_t slots[40];
    for (int i = 0; i < 40; i++)
        slots[i] = w->b->refs[i].slot;
    w->a->spin_ns = 1; /* not to spin for long */
    CHECK(await_all(w, slots, 40, 40, in_ms(1)) == PM_ETIMEOUT);
    for (int i = 0; i < 40; i += 3)
        DO(pm_seal(w->a, PM_WAIT, slots[i], false));
    CHECK(await_all(w, slots, 40, 14, in_ms(1)) == PM_OK);
    for (int i = 0; i < 40; i++)
        pm_drop(w->a, slots[i]);
}

TEST(death_in_registering_and_waiting)
{
    world w = world_new();
    crash_sweep_by(&w, &(operation){.prepare = prepare_pending, .act = act_wait}, 3);
    pm_close(w.a);
}

/* R13: the sealer dies between its commit and the wake. Nobody is told; the sweep of it tells everyone. */
static void seal_and_die(world *w)
{
    pm_ref ref = pending(w);
    w->b->refs[0] = ref;
    atomic_store(&w->b->word[0], 1);
    while (atomic_load(&w->b->word[0]) == 1)
        usleep(100);
    gate_arm(w, "BEFORE_WAKE");
    pm_seal(w->a, PM_WAIT, ref.slot, false);
}

static void *wait_for_first(void *arg)
{
    world *w = arg;
    CHECK(await_all(w, &w->b->refs[0].slot, 1, 1, 0) == PM_OK);
    atomic_store(&w->b->word[3], 1);
    return NULL;
}

TEST(wake_that_died_with_its_sender_is_made_good_by_the_sweep)
{
    world w = world_new();
    pid_t pid = spawn(&w, seal_and_die);
    pthread_t t;
    AWAIT(atomic_load(&w.b->word[0]));
    DO(pm_hold(w.a, PM_WAIT, w.b->refs[0]));
    CHECK(pthread_create(&t, NULL, wait_for_first, &w) == 0);
    AWAIT(pm_a64_load(&w.a->clients[w.a->slot].waiters));
    usleep(30000); /* past its kick: nothing but the wake can end it */
    atomic_store(&w.b->word[0], 2);
    gate_await(&w);
    slay(pid);
    usleep(5000);
    CHECK(!atomic_load(&w.b->word[3]));
    CHECK(sweep_dead(&w) == 1);
    CHECK(pthread_join(t, NULL) == 0);
    clean(&w);
    pm_close(w.a);
}

static void seal_and_stay(world *w)
{
    pm_ref ref = pending(w);
    w->b->refs[0] = ref;
    atomic_store(&w->b->word[0], 1);
    while (atomic_load(&w->b->word[0]) == 1)
        usleep(100);
    gate_arm(w, "COMMITTED");
    pm_seal(w->a, PM_WAIT, ref.slot, false);
}

/* R13: it dies with the lock in its hand. Whoever takes the lock next completes the seal and tells everyone. */
TEST(wake_that_died_under_the_lock_is_made_good_by_the_next_operation)
{
    world w = world_new();
    world other = {.b = w.b};
    pthread_t t;
    DO(pm_open_fd(w.a->fd, PM_GUEST, -1, -1, &other.a));
    pid_t pid = spawn(&w, seal_and_stay);
    AWAIT(atomic_load(&w.b->word[0]));
    DO(pm_hold(w.a, PM_WAIT, w.b->refs[0]));
    CHECK(pthread_create(&t, NULL, wait_for_first, &w) == 0);
    AWAIT(pm_a64_load(&w.a->clients[w.a->slot].waiters));
    usleep(30000);
    atomic_store(&w.b->word[0], 2);
    gate_await(&w);
    slay(pid);
    usleep(5000);
    CHECK(!atomic_load(&w.b->word[3]));
    stats(&other);
    CHECK(pthread_join(t, NULL) == 0);
    CHECK(sweep_dead(&w) == 1);
    clean(&w);
    pm_close(other.a);
    pm_close(w.a);
}

/* Sealers die at random points; whatever became of their objects, a wait for those that were sealed ends. */
static void seal_until_death(world *w)
{
    unsigned seed = (unsigned)atomic_load(&w->b->word[5]);
    for (int i = 0; i < 50; i++)
        w->b->refs[i] = pending(w);
    atomic_store(&w->b->word[0], 1);
    while (atomic_load(&w->b->word[0]) == 1)
        usleep(100);
    pm_crash_arm(1 + (uint64_t)(rand_r(&seed) % 900));
    for (int i = 0; i < 50; i++)
        DO(pm_seal(w->a, PM_WAIT, w->b->refs[i].slot, false));
    for (;;)
        pause();
}

static void *wait_one_by_one(void *arg)
{
    world *w = arg;
    for (uint64_t i = 0; i < 50; i++)
        while (await_all(w, &w->b->refs[i].slot, 1, 1, in_ms(2000)) == PM_ETIMEOUT)
            if (atomic_load(
                    &w->b->word[6])) /* swept, woken, and still pending: it was never sealed */
                return NULL;
    return NULL;
}

TEST(waiters_of_sealers_that_die_anywhere_are_woken)
{
    world w = world_new();
    for (uint64_t round = 0; round < 30; round++) {
        pthread_t t;
        atomic_store(&w.b->word[0], 0);
        atomic_store(&w.b->word[5], round);
        atomic_store(&w.b->word[6], 0);
        pid_t pid = spawn(&w, seal_until_death);
        AWAIT(atomic_load(&w.b->word[0]));
        uint64_t slots[50];
        for (int i = 0; i < 50; i++) {
            DO(pm_hold(w.a, PM_WAIT, w.b->refs[i]));
            slots[i] = w.b->refs[i].slot;
        }
        CHECK(pthread_create(&t, NULL, wait_one_by_one, &w) == 0);
        atomic_store(&w.b->word[0], 2);
        usleep(4000);
        kill(pid, SIGKILL);
        reap(pid);
        CHECK(sweep_dead(&w) == 1);
        uint64_t sealed = ready(&w, slots, 50);
        CHECK(await_all(&w, slots, 50, sealed, 0) == PM_OK);
        atomic_store(&w.b->word[6], 1);
        for (uint64_t i = sealed; i < 50; i++)
            DO(pm_seal(w.a, PM_WAIT, slots[i], true));
        CHECK(pthread_join(t, NULL) == 0);
        for (int i = 0; i < 50; i++)
            pm_drop(w.a, slots[i]);
        clean(&w);
        CHECK(stats(&w).entries == 0);
    }
    pm_close(w.a);
}

HARNESS_MAIN
