/* test_client.c - who is attached: slots, epochs, deaths, forks, stopped processes, leaving. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "world.h"

static int pidfd_of(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    CHECK(fd >= 0);
    return fd;
}

static pm_ref put(const world *w, uint64_t value)
{
    pm_ref ref;
    DO(pm_put(w->a, PM_WAIT, &value, sizeof value, &ref));
    return ref;
}

static void sleep_for_ever(world *w)
{
    (void)w;
    for (;;)
        pause();
}

static void say_and_sleep(world *w)
{
    atomic_store(&w->b->word[0], w->a->slot + 1);
    sleep_for_ever(w);
}

/* ---- slots ------------------------------------------------------------------------------------------------- */

TEST(attached_clients_are_listed_with_kind_and_pid)
{
    world w = world_new();
    pid_t pid = spawn_kind(&w, PM_GUEST, say_and_sleep);
    AWAIT(atomic_load(&w.b->word[0]));
    const pm_client_shm *c = &w.a->clients[atomic_load(&w.b->word[0]) - 1];
    CHECK(c->kind.v == PM_GUEST && c->pid.v == (uint64_t)pid &&
          c->start_time.v == pm__os_start_time(pid));
    CHECK(stats(&w).clients == 2 && stats(&w).workers == 0);
    slay(pid);
    pm_close(w.a);
}

TEST(living_client_cannot_be_swept)
{
    world w = world_new();
    pid_t pid = spawn(&w, say_and_sleep);
    AWAIT(atomic_load(&w.b->word[0]));
    uint64_t slot = atomic_load(&w.b->word[0]) - 1;
    CHECK(pm_sweep(w.a, slot, w.a->clients[slot].epoch.v, &killed) == PM_EALIVE);
    CHECK(pm_sweep(w.a, w.a->slot, w.a->epoch, &killed) == PM_EALIVE);
    slay(pid);
    CHECK(pm_sweep(w.a, slot, 0, &killed) == PM_OK);
    CHECK(pm_sweep(w.a, slot, 0, &killed) == PM_ENOTFOUND);
    CHECK(pm_sweep(w.a, PM_CLIENTS + 5, 0, &killed) == PM_ENOTFOUND);
    clean(&w);
    pm_close(w.a);
}

TEST(slot_of_a_swept_client_is_used_again_under_another_epoch)
{
    world w = world_new();
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        atomic_store(&w.b->word[0], 0);
        pid_t pid = spawn(&w, say_and_sleep);
        AWAIT(atomic_load(&w.b->word[0]));
        CHECK(atomic_load(&w.b->word[0]) == w.a->slot + 2);
        CHECK(w.a->clients[w.a->slot + 1].epoch.v == epoch);
        slay(pid);
        CHECK(sweep_dead(&w) == 1);
        clean(&w);
    }
    pm_close(w.a);
}

TEST(death_at_every_point_of_joining_leaves_no_trace)
{
    world w = world_new();
    int deaths = 0;
    bool died;
    for (uint64_t n = 1; died = false, n < 1000; n++) {
        pm_stats then = stats(&w);
        pid_t pid = fork();
        if (pid == 0) {
            pm_arena *a;
            pm_crash_arm(n);
            DO(pm_open_fd(w.a->fd, PM_WORKER, -1, -1, &a));
            pm_crash_arm(0);
            _exit(0);
        }
        died = reap(pid);
        deaths += died;
        sweep_dead(&w);
        same(&w, then);
        clean(&w);
        if (!died)
            break;
    }
    CHECK(deaths > 8 && !died);
    CHECK(pm__client_high(w.a) == 2);
    pm_close(w.a);
}

TEST(full_table_of_clients_is_told)
{
    world w = world_new();
    pm_op op;
    pm_arena *a;
    DO(pm__enter(&op, w.a,
                 PM_WAIT)); /* as if all other slots had been taken by processes that live */
    pm_set(&w.a->lock, &w.a->h->client_high, PM_CLIENTS);
    for (uint64_t i = 1; i < PM_CLIENTS; i++) {
        CHECK(pm_life_init(&w.a->clients[i].life) == PM_OK);
        CHECK(pm_life_take(&w.a->clients[i].life) == PM_LIFE_FREE);
    }
    DO(pm__leave(&op));
    CHECK(pm_open_fd(w.a->fd, PM_GUEST, -1, -1, &a) == PM_ETABLE);
    pm_life_give(&w.a->clients[700].life);
    DO(pm_open_fd(w.a->fd, PM_GUEST, -1, -1, &a));
    CHECK(a->slot == 700);
    pm_close(a);
    for (uint64_t i = 1; i < PM_CLIENTS; i++)
        if (i != 700)
            pm_life_give(
                &w.a->clients[i].life); /* in this thread's robust list, which outlives the map */
    pm_close(w.a);
}

TEST(another_layout_or_size_is_refused)
{
    world w = world_new();
    pm_arena *a;
    int fd = memfd_create("other", 0);
    CHECK(pm_open_fd(fd, PM_GUEST, -1, -1, &a) == PM_ELAYOUT);
    CHECK(ftruncate(fd, 1 << 20) == 0);
    CHECK(pm_open_fd(fd, PM_GUEST, -1, -1, &a) == PM_ELAYOUT);
    w.a->h->fingerprint ^= 1;
    CHECK(pm_open_fd(w.a->fd, PM_GUEST, -1, -1, &a) == PM_ELAYOUT);
    w.a->h->fingerprint ^= 1;
    w.a->h->pid_ns ^= 1;
    CHECK(pm_open_fd(w.a->fd, PM_GUEST, -1, -1, &a) == PM_ENAMESPACE);
    CHECK(pm_open_fd(-1, PM_GUEST, -1, -1, &a) == PM_ESYS);
    close(fd);
    pm_close(w.a);
}

/* ---- the driver ends --------------------------------------------------------------------------------------- */

/* A process that plays the driver for the one that joins with its pidfd. */
static pid_t mortal(void)
{
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    return pid;
}

static pid_t join_with_driver(world *w, enum pm_kind kind, int driver)
{
    pid_t pid = fork();
    if (pid == 0) {
        world mine = {.b = w->b};
        DO(pm_open_fd(w->a->fd, kind, driver, -1, &mine.a));
        pm_ref ref;
        uint64_t size = 300;
        DO(pm_create(mine.a, PM_WAIT, size, NULL, 0, &ref));
        atomic_store(&w->b->word[0], 1);
        int rc;
        while ((rc = pm_wait(mine.a, &ref.slot, 1, 1, 0, false)) == PM_EAGAIN)
            continue;
        atomic_store(&w->b->word[1], (uint64_t)-rc);
        CHECK(pm_put(mine.a, PM_WAIT, &size, 8, &ref) == PM_EGONE);
        _exit(7);
    }
    return pid;
}

TEST(worker_and_keeper_are_killed_when_the_driver_ends)
{
    world w = world_new();
    for (enum pm_kind kind = PM_KEEPER; kind <= PM_WORKER; kind++) {
        atomic_store(&w.b->word[0], 0);
        pid_t driver = mortal(), pid = join_with_driver(&w, kind, pidfd_of(driver));
        AWAIT(atomic_load(&w.b->word[0]));
        slay(driver);
        CHECK(reap(pid));
        CHECK(sweep_dead(&w) == 1);
    }
    clean(&w);
    pm_close(w.a);
}

TEST(guest_is_told_that_the_driver_ended_also_while_it_waits)
{
    world w = world_new();
    int status;
    pid_t driver = mortal(), pid = join_with_driver(&w, PM_GUEST, pidfd_of(driver));
    AWAIT(atomic_load(&w.b->word[0]));
    slay(driver);
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    CHECK(atomic_load(&w.b->word[1]) == -PM_EGONE);
    pm_close(w.a);
}

/* ---- the lifeline of a guest -------------------------------------------------------------------------------- */

static int keepers_end(const world *w)
{
    const pm_client_shm *c = &w->a->clients[1];
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)c->pid.v, (int)c->lifeline.v - 1);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

static bool hangs_up(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, ms) == 1 && (p.revents & POLLHUP);
}

static void fork_and_sleep(world *w)
{
    pid_t pid = fork();
    if (pid == 0)
        prctl(PR_SET_PDEATHSIG, 0);
    else
        atomic_store(&w->b->word[0], (uint64_t)pid);
    for (;;)
        pause();
}

TEST(lifeline_hangs_up_when_the_guest_dies_though_its_child_lives_on)
{
    world w = world_new();
    pid_t pid = spawn_kind(&w, PM_GUEST, fork_and_sleep);
    AWAIT(atomic_load(&w.b->word[0]));
    int end = keepers_end(&w);
    CHECK(!hangs_up(end, 0));
    slay(pid);
    CHECK(hangs_up(end, -1));
    CHECK(sweep_dead(&w) == 1); /* the life lock tells by then */
    kill((pid_t)w.b->word[0], SIGKILL);
    close(end);
    pm_close(w.a);
}

TEST(lifeline_hangs_up_when_the_guest_becomes_another_program)
{
    world w = world_new();
    int go[2];
    CHECK(pipe(go) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        world mine = {.b = w.b};
        char byte;
        DO(pm_open_fd(w.a->fd, PM_GUEST, -1, -1, &mine.a));
        put(&mine, 1);
        atomic_store(&w.b->word[0], 1);
        CHECK(read(go[0], &byte, 1) == 1);
        execl("/bin/sleep", "sleep", "1000", NULL);
        _exit(1);
    }
    AWAIT(atomic_load(&w.b->word[0]));
    int end = keepers_end(&w);
    CHECK(write(go[1], "x", 1) == 1);
    CHECK(hangs_up(end, -1));
    CHECK(sweep_dead(&w) == 1);
    clean(&w);
    slay(pid);
    close(end);
    pm_close(w.a);
}

TEST(lifeline_hangs_up_when_the_guest_leaves_for_good_and_its_process_lives_on)
{
    world w = world_new();
    pm_arena *a;
    DO(pm_open_fd(w.a->fd, PM_GUEST, -1, -1, &a));
    int end = keepers_end(&w);
    DO(pm_retire(a));
    CHECK(!hangs_up(end, 0)); /* it may have pins */
    pm_close(a);
    CHECK(hangs_up(end, -1));
    CHECK(sweep_dead(&w) == 1);
    CHECK(w.a->clients[0].lifeline.v == 0); /* a driver has none */
    close(end);
    pm_close(w.a);
}

/* ---- end, leave, fork -------------------------------------------------------------------------------------- */

TEST(nobody_joins_a_session_that_has_ended)
{
    world w = world_new();
    pm_arena *a;
    CHECK(!pm_is_ending(w.a));
    DO(pm_end(w.a));
    CHECK(pm_is_ending(w.a));
    CHECK(pm_open_fd(w.a->fd, PM_GUEST, -1, -1, &a) == PM_EGONE);
    pm_close(w.a);
}

static void wait_for_task(world *w)
{
    pm_running task;
    atomic_store(&w->b->word[0], 1);
    int rc = pm_next(w->a, 0, &task);
    CHECK(rc == PM_EGONE);
}

static int wait_for_nothing(const world *w)
{
    pm_ref ref;
    DO(pm_create(w->a, PM_WAIT, 300, NULL, 0, &ref));
    atomic_store(&w->b->word[0], 1);
    int rc;
    while ((rc = pm_wait(w->a, &ref.slot, 1, 1, 0, false)) == PM_EAGAIN)
        ;
    return rc;
}

static void wait_for_object(world *w)
{
    CHECK(wait_for_nothing(w) == PM_EGONE);
}

TEST(end_wakes_idle_workers_and_waiters)
{
    void (*const sleepers[])(world *) = {wait_for_task, wait_for_object};
    for (int i = 0; i < 40; i++) {
        world w = world_new();
        pid_t pid = spawn(&w, sleepers[i % 2]);
        AWAIT(atomic_load(&w.b->word[0]));
        usleep(i % 8 * 50); /* on its way to sleep, and asleep */
        DO(pm_end(w.a));
        CHECK(!reap(pid));
        pm_close(w.a);
    }
}

static void use_until_over(world *w)
{
    pm_ref ref = put(w, 1), big = {0};
    pm_share(w->a, ref.slot);
    AWAIT(atomic_load(&w->b->word[1]));
    CHECK(pm_put(w->a, PM_TRY, "x", 1, &big) == PM_EGONE); /* its stock is not empty */
    CHECK(pm_create(w->a, PM_WAIT, 300, NULL, 0, &big) == PM_EGONE);
    CHECK(pm_pin(w->a, ref.slot) == PM_OK); /* what it sees goes on being there */
    pm_drop(w->a, ref.slot);
    DO(pm_retire(w->a));
    CHECK(pm_put(w->a, PM_TRY, "x", 1, &big) == PM_ELEFT);
    pm_unpin(w->a, ref.slot);
    pm_close(w->a);
}

/* The driver's process lives on, so its pidfd tells nobody. */
TEST(guest_does_nothing_more_in_a_session_that_was_shut_down)
{
    world w = world_new();
    pm_ref ref;
    pid_t pid = spawn_kind(&w, PM_GUEST, use_until_over);
    AWAIT(pm_a64_load(&w.a->clients[1].reserve));
    DO(pm_end(w.a));
    DO(pm_put(w.a, PM_WAIT, "x", 1, &ref)); /* of a driver all still works */
    atomic_store(&w.b->word[1], 1);
    CHECK(!reap(pid));
    pm_close(w.a);
}

TEST(leaving_gives_back_what_the_client_held)
{
    world w = world_new();
    pm_stats then = stats(&w);
    world other = {.b = w.b};
    DO(pm_open_fd(w.a->fd, PM_GUEST, -1, -1, &other.a));
    for (uint64_t i = 0; i < 100; i++)
        put(&other, i);
    DO(pm_leave(other.a, true));
    CHECK(pm_hold(other.a, PM_WAIT, (pm_ref){900, 0}) == PM_ELEFT);
    same(&w, then);
    clean(&w);
    pm_close(other.a);
    pm_close(w.a);
}

TEST(client_that_left_without_sweeping_is_swept_by_others_and_drops_nothing_twice)
{
    world w = world_new();
    pm_stats then = stats(&w);
    world other = {.b = w.b};
    DO(pm_open_fd(w.a->fd, PM_GUEST, -1, -1, &other.a));
    pm_ref ref = put(&other, 1);
    pm_share(other.a, ref.slot);
    DO(pm_hold(w.a, PM_WAIT, ref));
    DO(pm_leave(other.a, false));
    CHECK(sweep_dead(&w) == 1);
    pm_drop(other.a, ref.slot);
    clean(&w);
    pm_drop(w.a, ref.slot);
    same(&w, then);
    pm_close(other.a);
    pm_close(w.a);
}

/* A drop that found the lock busy waits in a list of its process. Leaving sweeps the hold; the list must not end it a
 * second time. */
TEST(deferred_drop_is_not_done_again_after_leaving)
{
    world w = world_new();
    pm_stats then = stats(&w);
    world other = {.b = w.b};
    pm_op op;
    DO(pm_open_fd(w.a->fd, PM_GUEST, -1, -1, &other.a));
    pm_ref ref = put(&other, 1);
    pm_share(other.a, ref.slot);
    DO(pm__enter(&op, w.a, PM_WAIT));
    pm_drop(other.a, ref.slot);
    CHECK(atomic_load(&other.a->deferred) == ref.slot + 1);
    DO(pm__leave(&op));
    DO(pm_leave(other.a, true));
    same(&w, then);
    clean(&w);
    pm_close(other.a);
    pm_close(w.a);
}

static void *drop_many(void *arg)
{
    world *w = arg;
    for (int i = 0; i < 1000; i++)
        pm_drop(w->a, w->b->refs[i].slot);
    return NULL;
}

TEST(threads_may_drop_while_their_process_leaves)
{
    world w = world_new();
    pm_stats then = stats(&w);
    for (int round = 0; round < 20; round++) {
        world other = {.b = w.b};
        pthread_t t;
        DO(pm_open_fd(w.a->fd, PM_GUEST, -1, -1, &other.a));
        for (uint64_t i = 0; i < 1000; i++)
            w.b->refs[i] = put(&other, i);
        CHECK(pthread_create(&t, NULL, drop_many, &other) == 0);
        usleep((useconds_t)round * 50);
        DO(pm_leave(other.a, true));
        CHECK(pthread_join(t, NULL) == 0);
        same(&w, then);
        clean(&w);
        pm_close(other.a);
    }
    pm_close(w.a);
}

static void *put_until_gone(void *arg)
{
    world *w = arg;
    pm_ref ref;
    int rc;
    while ((rc = pm_put(w->a, PM_WAIT, "mine", 5, &ref)) != PM_ELEFT)
        if (rc == PM_OK)
            pm_drop(w->a, ref.slot);
    return NULL;
}

/* A put fills an entry beside the lock. None may still be at it when the entry is swept and becomes another's. */
TEST(threads_may_put_while_their_process_leaves)
{
    world w = world_new();
    for (useconds_t round = 0; round < 40; round++) {
        world other = {.b = w.b};
        pthread_t t[2];
        pm_ref refs[200];
        DO(pm_open_fd(w.a->fd, PM_GUEST, -1, -1, &other.a));
        for (int i = 0; i < 2; i++)
            CHECK(pthread_create(&t[i], NULL, put_until_gone, &other) == 0);
        usleep(round * 20);
        DO(pm_leave(other.a, true));
        for (uint64_t i = 0; i < 200; i++)
            refs[i] = put(&w, i);
        for (int i = 0; i < 2; i++)
            CHECK(pthread_join(t[i], NULL) == 0);
        for (uint64_t i = 0; i < 200; i++) {
            pm_view v;
            DO(pm_look(w.a, refs[i].slot, &v));
            CHECK(v.size == 8 && *(const uint64_t *)v.data == i);
            pm_drop(w.a, refs[i].slot);
        }
        clean(&w);
        pm_close(other.a);
    }
    pm_close(w.a);
}

static void *wait_until_gone(void *arg)
{
    CHECK(wait_for_nothing(arg) == PM_ELEFT);
    return NULL;
}

TEST(leaving_wakes_the_process_own_waiting_threads)
{
    world w = world_new();
    world other = {.b = w.b};
    pthread_t t;
    DO(pm_open_fd(w.a->fd, PM_GUEST, -1, -1, &other.a));
    CHECK(pthread_create(&t, NULL, wait_until_gone, &other) == 0);
    AWAIT(atomic_load(&w.b->word[0]));
    DO(pm_leave(other.a, true));
    CHECK(pthread_join(t, NULL) == 0);
    pm_close(other.a);
    clean(&w);
    pm_close(w.a);
}

TEST(forked_child_may_do_nothing_but_forget)
{
    world w = world_new();
    pm_ref ref = put(&w, 1);
    pid_t pid = fork();
    if (pid == 0) {
        pm_ref other;
        CHECK(pm_is_inherited(w.a));
        CHECK(pm_put(w.a, PM_TRY, "x", 1, &other) == PM_EFORKED);
        pm_forget(w.a);
        _exit(0);
    }
    CHECK(!reap(pid));
    CHECK(!pm_is_inherited(w.a));
    pm_drop(w.a, ref.slot);
    clean(&w);
    pm_close(w.a);
}

/* ---- stopped processes ------------------------------------------------------------------------------------- */

static void stop_inside(world *w)
{
    pm_ref ref;
    gate_arm(w, "LOCKED");
    pm_put(w->a, PM_WAIT, "x", 1, &ref);
    _exit(9);
}

/* R9: an undo journal must not be stolen from a live process. */
TEST(stopped_worker_that_holds_the_lock_is_killed_and_repaired)
{
    world w = world_new();
    pid_t pid = spawn(&w, stop_inside);
    gate_await(&w);
    CHECK(kill(pid, SIGSTOP) == 0);
    pm_ref ref;
    CHECK(pm_put(w.a, PM_TRY, "y", 1, &ref) == PM_EAGAIN);
    DO(pm_put(w.a, PM_WAIT, "y", 1, &ref));
    CHECK(reap(pid));
    CHECK(sweep_dead(&w) == 1);
    clean(&w);
    pm_close(w.a);
}

TEST(stopped_guest_that_holds_the_lock_is_named)
{
    world w = world_new();
    pid_t pid = spawn_kind(&w, PM_GUEST, stop_inside);
    gate_await(&w);
    CHECK(kill(pid, SIGSTOP) == 0);
    pm_ref ref;
    int rc;
    while ((rc = pm_put(w.a, PM_WAIT, "y", 1, &ref)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_ESTOPPED && pm__stopped_holder() == pid);
    slay(pid);
    DO(pm_put(w.a, PM_WAIT, "y", 1, &ref));
    CHECK(sweep_dead(&w) == 1);
    clean(&w);
    pm_close(w.a);
}

/* R17: __dealloc__ may run while another process is inside. */
TEST(drop_beside_a_busy_lock_is_done_by_the_next_operation)
{
    world w = world_new();
    pm_stats then = stats(&w);
    for (uint64_t i = 0; i < 300; i++)
        pm_share(w.a, (w.b->refs[i] = put(&w, i)).slot);
    pm_ref kept = put(&w, 7), next;
    pid_t pid = spawn(&w, stop_inside);
    gate_await(&w);
    for (uint64_t i = 0; i < 300; i++)
        pm_drop(w.a, w.b->refs[i].slot);
    CHECK(atomic_load(&w.a->deferred));
    slay(pid);
    DO(pm_create(w.a, PM_WAIT, 300, NULL, 0, &next));
    pm_drop(w.a, next.slot);
    pm_drop(w.a, kept.slot);
    CHECK(atomic_load(&w.a->deferred) == 0);
    CHECK(sweep_dead(&w) == 1);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

/* ---- check itself ------------------------------------------------------------------------------------------ */

static bool finds(const world *w, const char *what)
{
    char why[300];
    int rc = pm_check(w->a, why, sizeof why);
    CHECK(rc == PM_ECORRUPT);
    CHECK(pm_check(w->a, NULL, 0) == PM_ECORRUPT);
    if (!strstr(why, what))
        fprintf(stderr, "%s\n", why);
    return strstr(why, what) != NULL;
}

TEST(check_finds_what_is_wrong_and_names_it)
{
    world w = world_new();
    pm_ref ref = put(&w, 1), gone = put(&w, 2);
    pm_header_shm *h = w.a->h;
    pm_entry_shm *e = pm__entry(w.a, ref.slot);
    pm_drop(w.a, gone.slot);
    clean(&w);
    const struct {
        pm_j64 *word;
        const char *told;
    } lies[] = {
        {&e->refs, "references"},
        {&h->entries.live, "live"},
        {&h->entries.free, "free list"},
        {&h->cpu_used, "CPU"},
        {&h->bundles[0].free[PM_CPU], "of CPU"},
        {&h->bundles[0].free[PM_MEMORY], "of memory"},
        {&h->bundles[0].devices, "devices"},
        {&h->queued[0], "marked"},
        {&h->pending, "pending"},
        {&h->bundle_free, "bundle"},
        {&h->heap_shm.used, "page table"},
        {&h->ready, "in queues"},
        {&h->idle_count, "idle"},
        {&h->workers, "workers"},
        {&h->dying, "dying"},
        {&w.a->clients[w.a->slot].holds, "hold"},
        {&e->size, "inline"},
        {&e->key, "key"},
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        uint64_t truth = lies[i].word->v;
        lies[i].word->v = truth + 1000;
        CHECK(finds(&w, lies[i].told));
        lies[i].word->v = truth;
        clean(&w);
    }
    pm_close(w.a);
}

TEST(dump_tells_of_every_table)
{
    world w = world_new();
    char *text;
    put(&w, 1);
    DO(pm_dump(w.a, 100, &text));
    CHECK(strstr(text, "driver") && strstr(text, "sealed") && !strstr(text, " more"));
    free(text);
    DO(pm_dump(w.a, 1, &text));
    CHECK(strstr(text, " more"));
    free(text);
    pm_close(w.a);
}

HARNESS_MAIN
