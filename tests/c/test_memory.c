/* test_memory.c - objects that are freed, leased, mapped, located and kept; deaths in each of these. */
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>

#include "world.h"

static const unsigned char KEY[PM_KEY] = "a key that is not an id ....";
enum { BIG = 300000, PAGE = 4096 };

static pm_ref make(const world *w, uint64_t size, int fill, const pm_ref *refs, uint64_t nrefs)
{
    pm_ref ref;
    char *bytes = malloc(size + 1);
    memset(bytes, fill, size);
    DO(pm_create(w->a, PM_WAIT, size, refs, nrefs, &ref));
    DO(pm_contain(w->a, PM_WAIT, ref.slot));
    DO(pm_write(w->a, ref.slot, 0, bytes, size));
    free(bytes);
    return ref;
}

static pm_ref build(const world *w, uint64_t size, int fill, const pm_ref *refs, uint64_t nrefs)
{
    pm_ref ref = make(w, size, fill, refs, nrefs);
    DO(pm_seal(w->a, PM_WAIT, ref.slot, false));
    return ref;
}

static void drop(const world *w, pm_ref ref)
{
    pm_drop(w->a, ref.slot);
}

static const char *data_of(const world *w, pm_ref ref)
{
    pm_view v;
    DO(pm_look(w->a, ref.slot, &v));
    return v.data;
}

static bool filled(const world *w, pm_ref ref, int fill)
{
    pm_view v;
    DO(pm_look(w->a, ref.slot, &v));
    for (uint64_t i = 0; i < v.size; i++)
        if (((const char *)v.data)[i] != (char)fill)
            return false;
    return true;
}

static bool freed(const world *w, pm_ref ref)
{
    pm_view v;
    return pm_look(w->a, ref.slot, &v) == PM_EFREED && pm_pin(w->a, ref.slot) == PM_EFREED;
}

static uint64_t used(const world *w)
{
    DO(pm__settle(w->a, PM_WAIT));
    return stats(w).heap_used;
}

/* ---- freed ------------------------------------------------------------------------------------------------- */

TEST(freed_object_loses_its_bytes_and_keeps_its_references)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref refs[] = {build(&w, BIG, 1, NULL, 0), build(&w, 50, 2, NULL, 0)};
    for (int i = 0; i < 2; i++) {
        DO(pm_free(w.a, PM_WAIT, refs[i].slot));
        CHECK(freed(&w, refs[i]));
        DO(pm_free(w.a, PM_WAIT, refs[i].slot));
        clean(&w);
    }
    CHECK(used(&w) == then.heap_used);
    DO(pm_hold(w.a, PM_WAIT, refs[0]));
    drop(&w, refs[0]);
    for (int i = 0; i < 2; i++)
        drop(&w, refs[i]);
    same(&w, then);
    pm_close(w.a);
}

TEST(bytes_of_a_freed_object_go_with_the_last_pin)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref ref = build(&w, BIG, 1, NULL, 0);
    DO(pm_pin(w.a, ref.slot));
    DO(pm_pin(w.a, ref.slot));
    pm_view v;
    DO(pm_look(w.a, ref.slot, &v));
    DO(pm_free(w.a, PM_WAIT, ref.slot));
    clean(&w);
    pm_unpin(w.a, ref.slot);
    CHECK(used(&w) > then.heap_used && ((const char *)v.data)[BIG - 1] == 1);
    pm_unpin(w.a, ref.slot);
    CHECK(used(&w) == then.heap_used);
    clean(&w);
    drop(&w, ref);
    same(&w, then);
    pm_close(w.a);
}

static void pin_and_stop(world *w)
{
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    DO(pm_pin(w->a, w->b->refs[0].slot));
    w->b->word[0] = 1;
    pause();
}

TEST(bytes_of_a_freed_object_go_with_the_death_of_who_pins_them)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref ref = w.b->refs[0] = build(&w, BIG, 1, NULL, 0);
    pid_t pid = spawn(&w, pin_and_stop);
    AWAIT(w.b->word[0]);
    DO(pm_free(w.a, PM_WAIT, ref.slot));
    CHECK(used(&w) > then.heap_used);
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    CHECK(used(&w) == then.heap_used);
    clean(&w);
    drop(&w, ref);
    same(&w, then);
    pm_close(w.a);
}

/* The unpin finds the lock busy: it is done by the next operation. */
TEST(bytes_of_a_freed_object_go_with_a_deferred_unpin)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref ref = build(&w, BIG, 1, NULL, 0);
    for (int i = 0; i < 3; i++)
        DO(pm_pin(w.a, ref.slot));
    DO(pm_free(w.a, PM_WAIT, ref.slot));
    pm_op op;
    DO(pm__enter(&op, w.a, PM_WAIT));
    for (int i = 0; i < 3; i++)
        pm_unpin(w.a, ref.slot);
    CHECK(atomic_load(&w.a->local[ref.slot].owed) == 3);
    DO(pm__leave(&op));
    CHECK(used(&w) == then.heap_used);
    CHECK(atomic_load(&w.a->local[ref.slot].refs) == 1);
    clean(&w);
    drop(&w, ref);
    same(&w, then);
    pm_close(w.a);
}

TEST(freed_objects_that_contain_each_other_go)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref refs[3];
    /* each contains the one before; the first, still unsealed, contains the last */
    pm_ref hole = build(&w, 8, 0, NULL, 0);
    DO(pm_create(w.a, PM_WAIT, BIG, &hole, 1, &refs[0]));
    refs[1] = build(&w, BIG, 1, &refs[0], 1);
    refs[2] = build(&w, 8, 2, &refs[1], 1);
    pm_ref *table = pm__contained(w.a, pm__entry(w.a, refs[0].slot));
    table[0] = refs[2];
    DO(pm_contain(w.a, PM_WAIT, refs[0].slot));
    DO(pm_seal(w.a, PM_WAIT, refs[0].slot, false));
    drop(&w, hole);
    clean(&w);
    drop(&w, refs[0]);
    drop(&w, refs[1]);
    clean(&w);
    CHECK(used(&w) > then.heap_used);
    DO(pm_free(w.a, PM_WAIT, refs[2].slot));
    drop(&w, refs[2]);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

TEST(freed_container_of_a_thousand_lets_them_go_when_it_is_read_no_more)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref refs[1000];
    for (int i = 0; i < 1000; i++)
        refs[i] = build(&w, 200, i, NULL, 0);
    pm_ref box = build(&w, 8, 1, refs, 1000);
    for (int i = 0; i < 1000; i++)
        drop(&w, refs[i]);
    DO(pm_pin(w.a, box.slot));
    DO(pm_free(w.a, PM_WAIT, box.slot));
    for (int i = 0; i < 1000; i++)
        CHECK(pm_state(w.a, refs[i].slot) == PM_SEALED);
    pm_unpin(w.a, box.slot);
    CHECK(used(&w) == then.heap_used);
    clean(&w);
    drop(&w, box);
    same(&w, then);
    pm_close(w.a);
}

TEST(unsealed_object_cannot_be_freed)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref ref = make(&w, BIG, 1, NULL, 0);
    CHECK(pm_free(w.a, PM_WAIT, ref.slot) == PM_ESTATE);
    DO(pm_seal(w.a, PM_WAIT, ref.slot, false));
    drop(&w, ref);
    same(&w, then);
    pm_close(w.a);
}

static void pin_often(world *w)
{
    uint64_t seen = 0, slot = w->b->refs[0].slot;
    pm_view v;
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    DO(pm_look(w->a, slot, &v));
    for (w->b->word[0] = 1; pm_pin(w->a, slot) == PM_OK; seen++) {
        for (uint64_t i = 0; i < v.size; i++)
            CHECK(((const volatile char *)v.data)[i] == 7);
        pm_unpin(w->a, slot);
    }
    w->b->word[1] = seen + 1;
}

/* Free and pin side by side, over and over: who has a pin sees the bytes, and they always go. */
TEST(pin_and_free_meet)
{
    world w = world_new();
    pm_stats then = stats(&w);
    for (int round = 0; round < 200; round++) {
        pm_ref ref = w.b->refs[0] = build(&w, 20000, 7, NULL, 0);
        w.b->word[0] = w.b->word[1] = 0;
        pid_t pid = spawn(&w, pin_often);
        AWAIT(w.b->word[0]);
        DO(pm_free(w.a, PM_WAIT, ref.slot));
        reap(pid);
        CHECK(w.b->word[1]);
        CHECK(sweep_dead(&w) == 1);
        CHECK(used(&w) == then.heap_used);
        drop(&w, ref);
    }
    clean(&w);
    same(&w, then);
    pm_close(w.a);
}

/* ---- leased and mapped ------------------------------------------------------------------------------------- */

/* A pending object of whole pages, data from the second on, and this process's window to it. */
static pm_ref lease(const world *w, uint64_t size, pm_window *window)
{
    pm_ref ref;
    DO(pm_create(w->a, PM_WAIT, size + PAGE, NULL, 0, &ref));
    DO(pm_lease(w->a, PM_WAIT, ref.slot));
    DO(pm_window_open(w->a, ref.slot, PAGE, size, false, window));
    return ref;
}

static void give_back(const world *w, pm_ref ref, const pm_window *window)
{
    pm_window_close(window);
    pm_unpin(w->a, ref.slot);
    drop(w, ref);
}

static void write_half(world *w)
{
    pm_window window;
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    DO(pm_lease(w->a, PM_WAIT, w->b->refs[0].slot));
    DO(pm_window_open(w->a, w->b->refs[0].slot, PAGE, BIG, false, &window));
    memset(window.at + BIG / 2, 9, BIG / 2);
    w->b->word[0] = 1;
    AWAIT(w->b->word[1]);
    if (w->b->word[1] == 2)
        pause();
    pm_window_close(&window);
    pm_unpin(w->a, w->b->refs[0].slot);
    /* what could not be done beside a busy lock is this process's to do, so it stays */
    AWAIT(w->b->word[1] == 3 || pm_state(w->a, w->b->refs[0].slot) == PM_SEALED);
    drop(w, w->b->refs[0]);
}

TEST(two_processes_write_one_object_and_one_seals_it)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_window window;
    pm_ref ref = w.b->refs[0] = lease(&w, BIG, &window);
    pid_t pid = spawn(&w, write_half);
    memset(window.at, 8, BIG / 2);
    AWAIT(w.b->word[0]);
    uint64_t lessee;
    DO(pm_lessee(w.a, PM_WAIT, ref.slot, &lessee));
    CHECK(lessee == (uint64_t)pid);
    CHECK(pm_seal(w.a, PM_WAIT, ref.slot, false) == PM_ELEASED);
    CHECK(pm_close_leases(w.a, ref.slot, pm__os_now() + 1000000) == PM_ETIMEOUT);
    clean(&w);
    w.b->word[1] = 1;
    int rc;
    while ((rc = pm_close_leases(w.a, ref.slot, 0)) == PM_EAGAIN || rc == PM_EINTR)
        continue;
    CHECK(rc == PM_OK);
    DO(pm_lessee(w.a, PM_WAIT, ref.slot, &lessee));
    CHECK(lessee == 0);
    DO(pm_seal(w.a, PM_WAIT, ref.slot, false));
    CHECK(pm_lease(w.a, PM_WAIT, ref.slot) == PM_ESTATE);
    reap(pid);
    sweep_dead(&w);
    pm_view v;
    DO(pm_look(w.a, ref.slot, &v));
    const char *data = (const char *)v.data + PAGE;
    CHECK(data[0] == 8 && data[BIG / 2 - 1] == 8 && data[BIG / 2] == 9 && data[BIG - 1] == 9);
    give_back(&w, ref, &window);
    same(&w, then);
    pm_close(w.a);
}

TEST(death_of_a_writer_lets_others_seal)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_window window;
    pm_ref ref = w.b->refs[0] = lease(&w, BIG, &window);
    pid_t pid = spawn(&w, write_half);
    AWAIT(w.b->word[0]);
    w.b->word[1] = 2;
    CHECK(pm_seal(w.a, PM_WAIT, ref.slot, false) == PM_ELEASED);
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    int rc;
    while ((rc = pm_close_leases(w.a, ref.slot, 0)) == PM_EAGAIN || rc == PM_EINTR)
        continue;
    CHECK(rc == PM_OK);
    DO(pm_seal(w.a, PM_WAIT, ref.slot, false));
    give_back(&w, ref, &window);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

static void create_lease_and_die(world *w)
{
    pm_window window;
    w->b->refs[0] = lease(w, BIG, &window);
    window.at[0] = 5;
    w->b->word[0] = 1;
    pause();
}

TEST(others_can_seal_what_a_dead_process_began)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pid_t pid = spawn(&w, create_lease_and_die);
    AWAIT(w.b->word[0]);
    pm_ref ref = w.b->refs[0];
    DO(pm_hold(w.a, PM_WAIT, ref));
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    DO(pm_seal(w.a, PM_WAIT, ref.slot, false));
    pm_view v;
    DO(pm_look(w.a, ref.slot, &v));
    CHECK(((const char *)v.data)[PAGE] == 5);
    drop(&w, ref);
    same(&w, then);
    pm_close(w.a);
}

/* Who creates it dies, then the only other one that holds and writes it: it goes with its bytes. */
static void join_in_and_die(world *w)
{
    pm_window window;
    AWAIT(w->b->word[0]);
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    DO(pm_lease(w->a, PM_WAIT, w->b->refs[0].slot));
    DO(pm_window_open(w->a, w->b->refs[0].slot, PAGE, BIG, false, &window));
    window.at[1] = 6;
    w->b->word[1] = 1;
    pause();
}

TEST(unsealed_object_goes_when_all_who_write_it_are_dead)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pid_t second = spawn(&w, join_in_and_die), first = spawn(&w, create_lease_and_die);
    AWAIT(w.b->word[1]);
    slay(first);
    CHECK(sweep_dead(&w) == 1);
    clean(&w);
    CHECK(used(&w) > then.heap_used);
    slay(second);
    CHECK(sweep_dead(&w) == 1);
    CHECK(pm_hold(w.a, PM_WAIT, w.b->refs[0]) == PM_ENOTFOUND);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

/* Await, then seal; word[1] counts those who did, word[2] those who found it done. */
static void seal_too(world *w)
{
    uint64_t slot = w->b->refs[0].slot;
    int rc;
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    w->b->word[0]++;
    do {
        while ((rc = pm_close_leases(w->a, slot, 0)) == PM_EAGAIN || rc == PM_EINTR)
            continue;
        if (rc == PM_OK)
            while ((rc = pm_seal(w->a, PM_WAIT, slot, false)) == PM_EAGAIN)
                continue;
    } while (rc == PM_ELEASED);
    CHECK(rc == PM_OK || rc == PM_ESTATE);
    w->b->word[rc == PM_OK ? 1 : 2]++;
}

TEST(one_of_two_sealers_seals_and_the_other_is_told)
{
    world w = world_new();
    pm_stats then = stats(&w);
    for (int round = 0; round < 20; round++) {
        pm_window window;
        pm_ref ref = w.b->refs[0] = lease(&w, BIG, &window);
        for (int i = 0; i < 3; i++)
            w.b->word[i] = 0;
        pid_t pid[] = {spawn(&w, seal_too), spawn(&w, seal_too)};
        AWAIT(w.b->word[0] == 2);
        CHECK(w.b->word[1] == 0);
        pm_window_close(&window);
        pm_unpin(w.a, ref.slot);
        reap(pid[0]);
        reap(pid[1]);
        CHECK(w.b->word[1] == 1 && w.b->word[2] == 1);
        CHECK(sweep_dead(&w) == 2);
        drop(&w, ref);
    }
    same(&w, then);
    pm_close(w.a);
}

/* What others are told between the decision to seal and the seal. */
static void lease_what_is_closed(world *w)
{
    uint64_t slot = w->b->refs[0].slot;
    int rc;
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    while ((rc = pm_lease(w->a, PM_WAIT, slot)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_ELEASED);
    CHECK(pm_await_lease(w->a, slot, pm__os_now() + 1000000) == PM_ETIMEOUT);
    CHECK(pm_close_leases(w->a, slot, pm__os_now() + 1000000) == PM_ETIMEOUT);
    while ((rc = pm_seal(w->a, PM_WAIT, slot, false)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_ELEASED);
    w->b->word[0] = 1;
    while ((rc = pm_await_lease(w->a, slot, 0)) == PM_EAGAIN || rc == PM_EINTR)
        continue;
    w->b->word[1] = rc == PM_OK ? 1 : rc == PM_ESTATE ? 2 : 3;
    if (rc == PM_OK)
        pm_unpin(w->a, slot);
    drop(w, w->b->refs[0]);
}

TEST(closed_object_is_leased_by_nobody_else_until_it_is_sealed_or_reopened)
{
    world w = world_new();
    pm_stats then = stats(&w);
    for (int sealed = 0; sealed < 2; sealed++) {
        pm_window window;
        pm_ref ref = w.b->refs[0] = lease(&w, BIG, &window);
        w.b->word[0] = w.b->word[1] = 0;
        for (int twice = 0; twice < 2; twice++) /* say, by two threads */
            DO(pm_close_leases(w.a, ref.slot, 0));
        pid_t pid = spawn(&w, lease_what_is_closed);
        AWAIT(w.b->word[0]);
        CHECK(pm_state(w.a, ref.slot) == PM_PENDING && w.b->word[1] == 0);
        clean(&w);
        if (sealed)
            DO(pm_seal(w.a, PM_WAIT, ref.slot, false));
        else
            pm_reopen(w.a, ref.slot);
        reap(pid);
        CHECK(w.b->word[1] == (sealed ? 2 : 1));
        CHECK(sweep_dead(&w) == 1);
        pm_reopen(w.a, ref.slot); /* of what is not closed: nothing */
        give_back(&w, ref, &window);
    }
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

static void close_freeze_and_pause(world *w)
{
    pm_window window;
    w->b->refs[0] = lease(w, BIG, &window);
    window.at[0] = 5;
    DO(pm_close_leases(w->a, w->b->refs[0].slot, 0));
    gate_arm(w, "FREEZING");
    DO(pm_window_freeze(w->a, &window));
    pause();
}

/* Parked with its page tables aside and nothing in their place. */
TEST(death_between_decision_and_seal_lets_others_write_and_seal)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pid_t pid = spawn(&w, close_freeze_and_pause);
    gate_await(&w);
    pm_ref ref = w.b->refs[0];
    pid_t other = spawn(&w, lease_what_is_closed);
    AWAIT(w.b->word[0]);
    DO(pm_hold(w.a, PM_WAIT, ref));
    CHECK(pm_lease(w.a, PM_WAIT, ref.slot) == PM_ELEASED && w.b->word[1] == 0);
    slay(pid);
    int swept = sweep_dead(&w); /* the other one may have ended meanwhile */
    reap(other);
    CHECK(w.b->word[1] == 1);
    CHECK(swept + sweep_dead(&w) == 2);
    DO(pm_lease(w.a, PM_WAIT, ref.slot));
    DO(pm_close_leases(w.a, ref.slot, 0));
    DO(pm_seal(w.a, PM_WAIT, ref.slot, false));
    CHECK(data_of(&w, ref)[PAGE] == 5);
    pm_unpin(w.a, ref.slot);
    drop(&w, ref);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

/* The nth page of the window gets n, one after the other, until the last. */
enum { SERIES = 4000 };

static void *write_series(void *window)
{
    for (int i = 0; i < SERIES; i++) {
        *(volatile int *)(((pm_window *)window)->at + (size_t)i * PAGE) = i + 1;
        usleep(10);
    }
    return NULL;
}

static void hold_the_lock_until_told(world *w)
{
    pm_op op;
    AWAIT(w->b->word[0]);
    DO(pm__enter(&op, w->a, PM_WAIT));
    w->b->word[1] = 1;
    AWAIT(w->b->word[2]);
    DO(pm__leave(&op));
}

/* A thread of ours goes on writing while the seal finds the lock busy: the object is what was
 * written before the freeze, and the window has the rest as well. */
TEST(what_threads_write_while_a_seal_waits_for_the_lock_is_not_lost)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_window window;
    pthread_t writer;
    pm_ref ref = lease(&w, (uint64_t)SERIES * PAGE, &window);
    pid_t pid = spawn(&w, hold_the_lock_until_told);
    CHECK(pthread_create(&writer, NULL, write_series, &window) == 0);
    AWAIT(*(volatile int *)(window.at + 100 * PAGE));
    DO(pm_close_leases(w.a, ref.slot, 0));
    w.b->word[0] = 1;
    AWAIT(w.b->word[1]);
    DO(pm_window_freeze(w.a, &window));
    for (int i = 0; i < 3; i++)
        CHECK(pm_seal(w.a, PM_TRY, ref.slot, false) == PM_EAGAIN);
    pthread_join(writer, NULL);
    w.b->word[2] = 1;
    DO(pm_seal(w.a, PM_WAIT, ref.slot, false));
    const char *stored = data_of(&w, ref) + PAGE;
    int n = 0;
    while (n < SERIES && *(const int *)(stored + (size_t)n * PAGE) == n + 1)
        n++;
    CHECK(n >= 100);
    for (int i = 0; i < SERIES; i++) {
        CHECK(*(const int *)(stored + (size_t)i * PAGE) == (i < n ? i + 1 : 0));
        CHECK(*(const int *)(window.at + (size_t)i * PAGE) == i + 1);
    }
    reap(pid);
    CHECK(sweep_dead(&w) == 1);
    give_back(&w, ref, &window);
    same(&w, then);
    pm_close(w.a);
}

static void adopt_and_stop(world *w)
{
    DO(pm_adopt(w->a, PM_WAIT, w->b->refs[0]));
    w->b->word[0] = 1;
    pause();
}

/* A forked child pins what it inherits, also an array that it has no window to. */
TEST(forked_child_does_not_refuse_what_is_decided)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_window window;
    pm_ref ref = w.b->refs[0] = lease(&w, BIG, &window);
    DO(pm_close_leases(w.a, ref.slot, 0));
    pid_t pid = spawn(&w, adopt_and_stop);
    AWAIT(w.b->word[0]);
    DO(pm_seal(w.a, PM_WAIT, ref.slot, false));
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    give_back(&w, ref, &window);
    same(&w, then);
    pm_close(w.a);
}

/* Two who both write wait for each other until one's patience ends. */
TEST(sealers_that_both_write_time_out)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_window window;
    pm_ref ref = w.b->refs[0] = lease(&w, BIG, &window);
    pid_t pid = spawn(&w, write_half);
    AWAIT(w.b->word[0]);
    for (int i = 0; i < 3; i++)
        CHECK(pm_close_leases(w.a, ref.slot, pm__os_now() + 2000000) == PM_ETIMEOUT);
    CHECK(pm_close_leases(w.a, ref.slot, 1) == PM_ETIMEOUT);
    CHECK(pm_state(w.a, ref.slot) == PM_PENDING);
    w.b->word[1] = 3;
    reap(pid);
    CHECK(sweep_dead(&w) == 1);
    DO(pm_seal(w.a, PM_WAIT, ref.slot, false));
    CHECK(pm_close_leases(w.a, ref.slot, 0) == PM_ESTATE);
    give_back(&w, ref, &window);
    same(&w, then);
    pm_close(w.a);
}

TEST(result_of_a_task_cannot_be_leased)
{
    world w = world_new();
    pm_ref sealed = build(&w, BIG, 1, NULL, 0), function = build(&w, 8, 1, NULL, 0), out;
    pm_submission s = {0};
    const pm_task_spec spec = {.function = function.slot, .name = "", .packed = -1, .nrets = 1};
    CHECK(pm_lease(w.a, PM_WAIT, sealed.slot) == PM_ESTATE);
    DO(pm_submit(w.a, PM_WAIT, &spec, &s, &out));
    CHECK(pm_lease(w.a, PM_WAIT, out.slot) == PM_ESTATE);
    CHECK(pm_seal(w.a, PM_WAIT, out.slot, false) == PM_ESTATE);
    pm_close(w.a);
}

static void look_through_a_window(world *w)
{
    pm_window window;
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    DO(pm_lease(w->a, PM_WAIT, w->b->refs[0].slot));
    DO(pm_window_open(w->a, w->b->refs[0].slot, PAGE, BIG, false, &window));
    w->b->word[0] = 1;
    AWAIT(*(volatile char *)&window.at[5] == 55);
    window.at[6] = 66;
    w->b->word[1] = 1;
    AWAIT(w->b->word[2]); /* frozen over there: what is written here still arrives in the object */
    CHECK(window.at[5] == 55);
    window.at[7] = 77;
    give_back(w, w->b->refs[0], &window);
}

TEST(windows_of_two_processes_show_the_same_until_one_is_frozen)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_window window;
    pm_ref ref = w.b->refs[0] = lease(&w, BIG, &window);
    pid_t pid = spawn(&w, look_through_a_window);
    AWAIT(w.b->word[0]);
    window.at[5] = 55;
    AWAIT(w.b->word[1]);
    CHECK(window.at[6] == 66);
    DO(pm_window_freeze(w.a, &window));
    window.at[5] = 1;
    w.b->word[2] = 1;
    reap(pid);
    CHECK(sweep_dead(&w) == 1);
    CHECK(window.at[5] == 1 && window.at[6] == 66);
    CHECK(window.aside[5] == 55 && window.aside[7] == 77);
    give_back(&w, ref, &window);
    same(&w, then);
    pm_close(w.a);
}

static bool is_mapped(const void *at)
{
    unsigned char there;
    return mincore((void *)((uintptr_t)at / PAGE * PAGE), PAGE, &there) == 0;
}

TEST(windows_are_not_inherited_by_forked_children)
{
    world w = world_new();
    pm_window writing, private;
    pm_ref ref = lease(&w, BIG, &writing), sealed = build(&w, BIG, 1, NULL, 0);
    DO(pm_pin(w.a, sealed.slot));
    DO(pm_window_open(w.a, sealed.slot, 0, BIG, true, &private));
    pid_t pid = fork();
    if (pid == 0)
        _exit(is_mapped(writing.at) || is_mapped(private.at));
    CHECK(!reap(pid));
    pm_window_inherit(&private, true);
    private.at[9] = 9;
    pid = fork();
    if (pid == 0)
        _exit(is_mapped(writing.at) || private.at[9] != 9 || private.at[8] != 1);
    CHECK(!reap(pid));
    DO(pm_window_freeze(w.a, &writing));
    pid = fork();
    if (pid == 0)
        _exit(is_mapped(writing.at) || is_mapped(writing.aside));
    CHECK(!reap(pid));
    pm_window_close(&private);
    pm_unpin(w.a, sealed.slot);
    drop(&w, sealed);
    give_back(&w, ref, &writing);
    pm_close(w.a);
}

/* Pages of address space that this process has mapped. */
static uint64_t mapped(void)
{
    char text[100]; /* no FILE: what malloc maps for it would count, and ASan keeps what is freed */
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, text, sizeof text - 1);
    CHECK(fd >= 0 && n > 0);
    close(fd);
    text[n] = 0;
    return strtoul(text, NULL, 10);
}

TEST(window_without_address_space_leaves_nothing_mapped)
{
    const uint64_t size = UINT64_C(300) << 20;
    world w = world_of(size + (8 << 20), 1);
    pm_window window;
    pm_ref ref;
    DO(pm_create(w.a, PM_WAIT, size + PAGE, NULL, 0, &ref));
    DO(pm_lease(w.a, PM_WAIT, ref.slot));
    for (uint64_t room = size / 2; room < 2 * size + (64 << 20); room += size / 2) {
        uint64_t before = mapped();
        struct rlimit all, some;
        CHECK(getrlimit(RLIMIT_AS, &all) == 0);
        some = (struct rlimit){.rlim_cur = before * PAGE + room, .rlim_max = all.rlim_max};
        CHECK(setrlimit(RLIMIT_AS, &some) == 0);
        int rc = pm_window_open(w.a, ref.slot, PAGE, size, false, &window);
        CHECK(setrlimit(RLIMIT_AS, &all) == 0);
        if (rc == PM_OK) {
            window.at[size - 1] = 1;
            pm_window_close(&window);
            AWAIT(mapped() < before + (size >> 12)); /* a thread of its own unmaps it */
        } else {
            CHECK(rc == PM_ESYS && errno == ENOMEM);
            CHECK(mapped() == before);
        }
    }
    pm_unpin(w.a, ref.slot);
    drop(&w, ref);
    pm_close(w.a);
}

static void freeze_and_write(uint64_t size)
{
    world w = world_of(size * 2 + (8 << 20), 1);
    pm_stats then = stats(&w);
    pm_window window;
    pm_ref ref = lease(&w, size, &window);
    char *first = window.at, *last = window.at + size - 1;
    *first = 1;
    *last = 2;
    DO(pm_window_freeze(w.a, &window));
    CHECK(window.at == first && *first == 1 && *last == 2);
    *first = 3; /* private by now */
    DO(pm_seal(w.a, PM_WAIT, ref.slot, false));
    *last = 3;
    pm_view v;
    DO(pm_look(w.a, ref.slot, &v));
    const char *data = (const char *)v.data + PAGE;
    CHECK(data[0] == 1 && data[size - 1] == 2 && *first == 3 && *last == 3);
    pm_window other;
    DO(pm_window_open(w.a, ref.slot, PAGE, size, true, &other));
    DO(pm_pin(w.a, ref.slot));
    CHECK(other.at[0] == 1);
    other.at[0] = 4;
    CHECK(data[0] == 1 && *first == 3);
    pm_window_close(&other);
    pm_unpin(w.a, ref.slot);
    give_back(&w, ref, &window);
    same(&w, then);
    pm_close(w.a);
}

TEST(frozen_window_is_private_where_it_was)
{
    freeze_and_write(PAGE);
    freeze_and_write(BIG);
    freeze_and_write((2 << 20) + 5 * PAGE);
    freeze_and_write(UINT64_C(33) << 20);
}

TEST(frozen_window_of_a_gigabyte)
{
    freeze_and_write((UINT64_C(1) << 30) + PAGE); /* sparse: few pages of it are touched */
    freeze_and_write(1000000000); /* its page tables move with the rest of their directory */
}

/* As a system call sees it, without a signal. */
static bool is_accessible(const char *at)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    bool could = write(ends[1], at, 1) == 1;
    CHECK(could || errno == EFAULT);
    close(ends[0]);
    close(ends[1]);
    return could;
}

/* Bytes of others lie behind the block, but not behind the window: not before the freeze, not after
 * it, and not when the pages there are given back and taken again. */
TEST(overrun_of_a_window_faults)
{
    static const uint64_t sizes[] = {BIG, UINT64_C(900) << 20, 1000000000, UINT64_C(1500) << 20};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t size = (sizes[i] + PAGE - 1) / PAGE * PAGE;
        world w = world_of(size + (64 << 20), 1);
        pm_stats then = stats(&w);
        pm_window window;
        pm_ref ref = lease(&w, size, &window), next = build(&w, 10 << 20, 5, NULL, 0);
        char *end = window.at + size;
        end[-1] = 2;
        CHECK(window.len == size && window.span - size <= size / 4);
        for (uint64_t beyond = 0; beyond < window.span - size; beyond += 1 << 20)
            CHECK(!is_accessible(end + beyond));
        CHECK(fallocate(w.a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        (off_t)(window.offset + size), 5 << 20) == 0);
        pm_write(w.a, next.slot, 0, "again", 5);
        DO(pm_close_leases(w.a, ref.slot, 0));
        for (int frozen = 0; frozen < 2; frozen++) {
            CHECK(is_accessible(end - 1));
            for (uint64_t beyond = 0; beyond < window.span - size; beyond += 1 << 20)
                CHECK(!is_accessible(end + beyond));
            if (!frozen)
                DO(pm_window_freeze(w.a, &window));
        }
        DO(pm_seal(w.a, PM_WAIT, ref.slot, false));
        uint64_t before = mapped();
        give_back(&w, ref, &window);
        /* All of it is unmapped; what the thread that does so has for itself may stay. */
        uint64_t own = size > (16 << 20) ? (64 << 20) >> 12 : 0;
        AWAIT(mapped() <= before - 2 * (window.span >> 12) + own);
        drop(&w, next);
        same(&w, then);
        pm_close(w.a);
    }
}

TEST(window_needs_a_block_on_a_page)
{
    world w = world_new();
    pm_window window;
    pm_ref small = build(&w, 100, 1, NULL, 0), slot = build(&w, 1000, 1, NULL, 0);
    CHECK(pm_window_open(w.a, small.slot, 0, 100, true, &window) == PM_EINVAL);
    pm_ref ref = build(&w, BIG, 1, NULL, 0);
    CHECK(pm_window_open(w.a, ref.slot, 5, 100, true, &window) == PM_EINVAL);
    CHECK(pm_window_open(w.a, ref.slot, 0, 0, true, &window) == PM_EINVAL);
    drop(&w, small);
    drop(&w, slot);
    drop(&w, ref);
    pm_close(w.a);
}

/* ---- given back beside the lock ---------------------------------------------------------------------------- */

/* What a process gives back while the lock is busy, it gives back although it never calls again. */
static void give_back_and_sleep(world *w)
{
    pm_ref ref = w->b->refs[0];
    DO(pm_hold(w->a, PM_WAIT, ref));
    if (pm_state(w->a, ref.slot) == PM_PENDING)
        DO(pm_lease(w->a, PM_WAIT, ref.slot));
    else
        DO(pm_pin(w->a, ref.slot));
    w->b->word[0] = 1;
    AWAIT(w->b->word[1]);
    pm_unpin(w->a, ref.slot);
    pm_drop(w->a, ref.slot);
    w->b->word[0] = 2;
    pause();
}

static void hold_the_lock_meanwhile(world *w)
{
    pm_op op;
    DO(pm__enter(&op, w->a, PM_WAIT));
    w->b->word[1] = 1;
    AWAIT(w->b->word[0] == 2);
    DO(pm__leave(&op));
}

TEST(lease_given_back_beside_the_lock_wakes_who_seals)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref ref = w.b->refs[0] = make(&w, BIG, 1, NULL, 0);
    pid_t pid = spawn(&w, give_back_and_sleep);
    AWAIT(w.b->word[0]);
    CHECK(pm_seal(w.a, PM_WAIT, ref.slot, false) == PM_ELEASED);
    hold_the_lock_meanwhile(&w);
    int rc;
    while ((rc = pm_close_leases(w.a, ref.slot, 0)) == PM_EAGAIN || rc == PM_EINTR)
        continue;
    CHECK(rc == PM_OK);
    DO(pm_seal(w.a, PM_WAIT, ref.slot, false));
    drop(&w, ref);
    AWAIT(used(&w) == then.heap_used);
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    same(&w, then);
    pm_close(w.a);
}

TEST(view_given_back_beside_the_lock_lets_freed_bytes_go)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref ref = w.b->refs[0] = build(&w, BIG, 1, NULL, 0);
    pid_t pid = spawn(&w, give_back_and_sleep);
    AWAIT(w.b->word[0]);
    DO(pm_free(w.a, PM_WAIT, ref.slot));
    CHECK(used(&w) > then.heap_used);
    hold_the_lock_meanwhile(&w);
    AWAIT(used(&w) == then.heap_used);
    drop(&w, ref);
    AWAIT(stats(&w).entries == then.entries);
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    same(&w, then);
    pm_close(w.a);
}

TEST(object_dropped_beside_the_lock_goes)
{
    world w = world_new();
    pm_stats then = stats(&w);
    w.b->refs[0] = build(&w, BIG, 1, NULL, 0);
    pid_t pid = spawn(&w, give_back_and_sleep);
    AWAIT(w.b->word[0]);
    drop(&w, w.b->refs[0]);
    hold_the_lock_meanwhile(&w);
    AWAIT(used(&w) == then.heap_used);
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    same(&w, then);
    pm_close(w.a);
}

/* ---- located ----------------------------------------------------------------------------------------------- */

TEST(memory_of_a_sealed_object_is_found_by_its_address)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref found;
    uint64_t sizes[] = {65536, 65537, 100000, 131072, 5000000}, offset;
    for (int i = 0; i < 5; i++) {
        pm_ref gap = build(&w, 20000, 1, NULL, 0); /* so that blocks begin anywhere in a chunk */
        pm_ref ref = build(&w, sizes[i], 1, NULL, 0);
        const char *data = data_of(&w, ref);
        uint64_t at[] = {0, 1, 4096, sizes[i] / 2, sizes[i] - 1};
        for (int k = 0; k < 5; k++) {
            DO(pm_locate(w.a, data + at[k], 1, &found, &offset));
            CHECK(found.slot == ref.slot && found.generation == ref.generation && offset == at[k]);
            drop(&w, found);
        }
        DO(pm_locate(w.a, data, sizes[i], &found, &offset));
        drop(&w, found);
        CHECK(pm_locate(w.a, data, sizes[i] + 1, &found, &offset) == PM_ENOTFOUND);
        CHECK(pm_locate(w.a, data + sizes[i], 1, &found, &offset) == PM_ENOTFOUND);
        w.b->refs[2 * i] = gap;
        w.b->refs[2 * i + 1] = ref;
    }
    CHECK(pm_locate(w.a, &found, 1, &found, &offset) == PM_ENOTFOUND);
    CHECK(pm_locate(w.a, w.a->readable, UINT64_MAX, &found, &offset) == PM_ENOTFOUND);
    const char *data = data_of(&w, w.b->refs[9]);
    DO(pm_pin(w.a, w.b->refs[9].slot));
    DO(pm_free(w.a, PM_WAIT, w.b->refs[9].slot));
    CHECK(pm_locate(w.a, data, 1, &found, &offset) == PM_ENOTFOUND);
    pm_unpin(w.a, w.b->refs[9].slot);
    for (int i = 0; i < 10; i++)
        drop(&w, w.b->refs[i]);
    CHECK(pm_locate(w.a, data, 1, &found, &offset) == PM_ENOTFOUND);
    same(&w, then);
    pm_close(w.a);
}

TEST(memory_of_a_result_is_its_results)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref function = build(&w, 8, 1, NULL, 0), out, found;
    pm_submission s = {0};
    pm_running task;
    uint64_t offset;
    const pm_task_spec spec = {.function = function.slot, .name = "", .packed = -1, .nrets = 1};
    DO(pm_submit(w.a, PM_WAIT, &spec, &s, &out));
    DO(pm_take(w.a, PM_WAIT, &task));
    pm_ref object = make(&w, BIG, 4, NULL, 0);
    const char *data = w.a->readable + (pm__entry(w.a, object.slot)->block.v - w.a->h->heap);
    CHECK(pm_locate(w.a, data, 1, &found, &offset) == PM_ENOTFOUND); /* not sealed */
    const pm_result result = {.object = object.slot};
    DO(pm_finish(w.a, PM_WAIT, task.task, &result, NULL));
    drop(&w, object);
    for (uint64_t at = 0; at < BIG; at += 999) {
        DO(pm_locate(w.a, data + at, 1, &found, &offset));
        CHECK(found.slot == out.slot && offset == at);
        drop(&w, found);
    }
    drop(&w, out);
    CHECK(pm_locate(w.a, data, 1, &found, &offset) == PM_ENOTFOUND);
    drop(&w, function);
    same(&w, then);
    pm_close(w.a);
}

static void hold_and_locate(world *w)
{
    pm_ref found;
    uint64_t offset;
    uint64_t from = pm__entry(w->a, w->b->refs[0].slot)->block.v - w->a->h->heap;
    CHECK(pm_locate(w->a, w->a->readable + from, 1, &found, &offset) == PM_ENOTFOUND);
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    DO(pm_locate(w->a, w->a->readable + from + 7, 1, &found, &offset));
    CHECK(found.slot == w->b->refs[0].slot && offset == 7);
}

TEST(memory_is_located_by_those_who_hold_its_object)
{
    world w = world_new();
    w.b->refs[0] = build(&w, BIG, 1, NULL, 0);
    CHECK(!reap(spawn(&w, hold_and_locate)));
    pm_close(w.a);
}

/* Objects come and go over the same chunks, in any order: what is found is always who is there. */
TEST(located_is_never_another_object)
{
    enum { LIVE = 24 };
    world w = world_of(8 << 20, 1);
    pm_ref refs[LIVE], found;
    bool there[LIVE] = {false};
    unsigned seed = 5;
    uint64_t offset, hits = 0;
    for (int round = 0; round < 5000; round++) {
        int i = rand_r(&seed) % LIVE;
        uint64_t size = 1 + (uint64_t)rand_r(&seed) % 250000;
        if (there[i])
            drop(&w, refs[i]);
        there[i] = pm_create(w.a, PM_WAIT, size, NULL, 0, &refs[i]) == PM_OK;
        if (!there[i])
            continue;
        DO(pm_seal(w.a, PM_WAIT, refs[i].slot, false));
        pm_view v;
        DO(pm_look(w.a, refs[i].slot, &v));
        uint64_t at = (uint64_t)rand_r(&seed) % size;
        int rc = pm_locate(w.a, (const char *)v.data + at, 1, &found, &offset);
        CHECK(rc == PM_OK || (rc == PM_ENOTFOUND && size < 65536));
        if (rc == PM_OK) {
            CHECK(found.slot == refs[i].slot && offset == at);
            drop(&w, found);
            hits++;
        }
    }
    CHECK(hits > 1000);
    clean(&w);
    pm_close(w.a);
}

TEST(memory_used_again_is_its_new_objects)
{
    world w = world_of(4 << 20, 1);
    pm_ref found, first = build(&w, 3 << 20, 1, NULL, 0), small[40];
    uint64_t offset;
    drop(&w, first);
    for (int i = 0; i < 40; i++)
        small[i] = build(&w, 17000, 1, NULL, 0); /* over the same chunks, none as long as one */
    for (int i = 0; i < 40; i++)
        CHECK(pm_locate(w.a, data_of(&w, small[i]), 100, &found, &offset) == PM_ENOTFOUND ||
              (found.slot == small[i].slot && offset == 0));
    pm_close(w.a);
}

/* ---- kept -------------------------------------------------------------------------------------------------- */

static uint64_t count_kept(const world *w)
{
    pm_ref refs[3];
    uint64_t from = 0, n, all = 0;
    int rc;
    do {
        n = 3;
        rc = pm_kept(w->a, PM_WAIT, &from, refs, &n);
        CHECK(rc == PM_OK || rc == PM_ENOTFOUND || rc == PM_EAGAIN);
        all += rc == PM_EAGAIN ? 0 : n;
    } while (rc != PM_ENOTFOUND);
    return all;
}

TEST(kept_object_needs_nobody_who_holds_it)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref ref = build(&w, BIG, 1, NULL, 0), found, other = build(&w, 8, 1, NULL, 0);
    DO(pm_keep(w.a, PM_WAIT, ref.slot, KEY));
    CHECK(pm_keep(w.a, PM_WAIT, other.slot, KEY) == PM_EEXISTS);
    drop(&w, ref);
    clean(&w);
    CHECK(count_kept(&w) == 1);
    DO(pm_find(w.a, PM_WAIT, KEY, &found));
    CHECK(found.slot == ref.slot && filled(&w, found, 1));
    CHECK(pm_unkeep(w.a, PM_WAIT, other.slot, KEY) == PM_ENOTFOUND);
    DO(pm_free(w.a, PM_WAIT, found.slot));
    CHECK(count_kept(&w) == 1);
    DO(pm_unkeep(w.a, PM_WAIT, found.slot, KEY));
    CHECK(pm_unkeep(w.a, PM_WAIT, found.slot, KEY) == PM_ENOTFOUND);
    CHECK(count_kept(&w) == 0);
    drop(&w, found);
    drop(&w, other);
    same(&w, then);
    pm_close(w.a);
}

static void keep_and_die(world *w)
{
    pm_ref ref = build(w, BIG, 3, NULL, 0);
    DO(pm_keep(w->a, PM_WAIT, ref.slot, KEY));
    w->b->refs[0] = ref;
}

static void forget_it(world *w)
{
    pm_ref found;
    DO(pm_find(w->a, PM_WAIT, KEY, &found));
    DO(pm_unkeep(w->a, PM_WAIT, found.slot, KEY));
    CHECK(filled(w, found, 3)); /* held here: it goes with us */
}

TEST(kept_object_outlives_its_maker_and_is_forgotten_by_another)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref found;
    for (int round = 0; round < 3; round++) {
        CHECK(!reap(spawn(&w, keep_and_die)));
        CHECK(sweep_dead(&w) == 1 && count_kept(&w) == 1);
        clean(&w);
        CHECK(!reap(spawn(&w, forget_it)));
        CHECK(sweep_dead(&w) == 1 && count_kept(&w) == 0);
        CHECK(pm_find(w.a, PM_WAIT, KEY, &found) == PM_ENOTFOUND);
        same(&w, then);
    }
    pm_close(w.a);
}

TEST(key_that_does_not_keep_is_not_forgotten)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref ref = build(&w, BIG, 1, NULL, 0), found;
    DO(pm_name(w.a, PM_WAIT, ref.slot, KEY));
    CHECK(pm_unkeep(w.a, PM_WAIT, ref.slot, KEY) == PM_ENOTFOUND && count_kept(&w) == 0);
    CHECK(pm_keep(w.a, PM_WAIT, ref.slot, KEY) == PM_EEXISTS);
    drop(&w, ref);
    CHECK(pm_find(w.a, PM_WAIT, KEY, &found) == PM_ENOTFOUND);
    same(&w, then);
    pm_close(w.a);
}

TEST(freed_object_keeps_its_key_and_not_its_bytes)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref ref = build(&w, BIG, 1, NULL, 0), found;
    DO(pm_keep(w.a, PM_WAIT, ref.slot, KEY));
    DO(pm_free(w.a, PM_WAIT, ref.slot));
    drop(&w, ref);
    CHECK(used(&w) == then.heap_used && count_kept(&w) == 1);
    DO(pm_find(w.a, PM_WAIT, KEY, &found));
    CHECK(found.slot == ref.slot && freed(&w, found));
    clean(&w);
    DO(pm_unkeep(w.a, PM_WAIT, found.slot, KEY));
    drop(&w, found);
    same(&w, then);
    pm_close(w.a);
}

TEST(many_are_kept_and_listed)
{
    world w = world_new();
    pm_stats then = stats(&w);
    unsigned char key[PM_KEY] = {0};
    for (uint64_t i = 0; i < 1000; i++) {
        w.b->refs[i] = build(&w, 8, 1, NULL, 0);
        memcpy(key, &i, sizeof i);
        DO(pm_keep(w.a, PM_WAIT, w.b->refs[i].slot, key));
    }
    CHECK(count_kept(&w) == 1000);
    for (uint64_t i = 0; i < 1000; i++) {
        memcpy(key, &i, sizeof i);
        DO(pm_unkeep(w.a, PM_WAIT, w.b->refs[i].slot, key));
        drop(&w, w.b->refs[i]);
    }
    CHECK(count_kept(&w) == 0);
    same(&w, then);
    pm_close(w.a);
}

/* ---- deaths ------------------------------------------------------------------------------------------------ */

static void put_box(world *w)
{
    pm_ref inner[20];
    for (int i = 0; i < 20; i++)
        inner[i] = build(w, i % 2 ? 300 : 8, i, NULL, 0);
    w->b->refs[0] = build(w, BIG, 1, inner, 20);
    for (int i = 0; i < 20; i++)
        drop(w, inner[i]);
}

static void act_free(world *w)
{
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    DO(pm_pin(w->a, w->b->refs[0].slot));
    DO(pm_free(w->a, PM_WAIT, w->b->refs[0].slot));
    pm_unpin(w->a, w->b->refs[0].slot);
    drop(w, w->b->refs[0]);
}

/* Whole or freed; and if freed, without its bytes, though its freer is dead. */
static void check_box(world *w, bool died)
{
    uint64_t before = used(w);
    if (pm_state(w->a, w->b->refs[0].slot) == PM_FREED)
        CHECK(before < BIG);
    else
        CHECK(died && filled(w, w->b->refs[0], 1));
    drop(w, w->b->refs[0]);
}

TEST(death_in_free)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.before = put_box, .act = act_free, .after = check_box});
    pm_close(w.a);
}

static void begin_array(world *w)
{
    pm_ref ref;
    DO(pm_create(w->a, PM_WAIT, BIG + PAGE, NULL, 0, &ref));
    w->b->refs[0] = ref;
}

static void act_in_place(world *w)
{
    pm_window window;
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    DO(pm_lease(w->a, PM_WAIT, w->b->refs[0].slot));
    DO(pm_window_open(w->a, w->b->refs[0].slot, PAGE, BIG, false, &window));
    memset(window.at, 6, BIG);
    DO(pm_close_leases(w->a, w->b->refs[0].slot, 0));
    DO(pm_window_freeze(w->a, &window));
    DO(pm_seal(w->a, PM_WAIT, w->b->refs[0].slot, false));
    give_back(w, w->b->refs[0], &window);
}

static void check_array(world *w, bool died)
{
    if (pm_state(w->a, w->b->refs[0].slot) == PM_PENDING) {
        CHECK(died);
        DO(pm_seal(w->a, PM_WAIT, w->b->refs[0].slot, false)); /* nobody has a lease any more */
    } else
        CHECK(data_of(w, w->b->refs[0])[PAGE] == 6);
    drop(w, w->b->refs[0]);
}

TEST(death_in_lease_freeze_and_seal)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.before = begin_array, .act = act_in_place, .after = check_array});
    pm_close(w.a);
}

static void act_create_in_place(world *w)
{
    pm_window window;
    pm_ref ref = lease(w, BIG, &window);
    give_back(w, ref, &window);
}

TEST(death_in_creation_in_place)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.act = act_create_in_place});
    pm_close(w.a);
}

static void act_keep(world *w)
{
    pm_ref ref = build(w, BIG, 1, NULL, 0);
    DO(pm_keep(w->a, PM_WAIT, ref.slot, KEY));
    drop(w, ref);
}

static void forget(world *w, bool died)
{
    pm_ref ref;
    CHECK(count_kept(w) == 1 || died);
    if (count_kept(w) == 0)
        return;
    DO(pm_find(w->a, PM_WAIT, KEY, &ref));
    CHECK(filled(w, ref, 1));
    DO(pm_unkeep(w->a, PM_WAIT, ref.slot, KEY));
    drop(w, ref);
}

TEST(death_in_keep)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.act = act_keep, .after = forget});
    pm_close(w.a);
}

static void keep_one(world *w)
{
    act_keep(w);
}

static void act_unkeep(world *w)
{
    pm_ref ref;
    DO(pm_find(w->a, PM_WAIT, KEY, &ref));
    DO(pm_unkeep(w->a, PM_WAIT, ref.slot, KEY));
    drop(w, ref);
}

static void check_forgotten(world *w, bool died)
{
    CHECK(count_kept(w) == 0 || died);
    if (count_kept(w))
        forget(w, true);
}

TEST(death_in_unkeep)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.before = keep_one, .act = act_unkeep, .after = check_forgotten});
    pm_close(w.a);
}

HARNESS_MAIN
