/* test_lock.c - the robust lock and its journal: every death of an owner leaves the state before or after. */
#include "../../csrc/lock.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>

#include "../../csrc/crash.h"
#include "../../csrc/err.h"
#include "harness.h"

enum { WORDS = 8 };

/* An arena of nothing but a lock and words of each kind. */
typedef struct {
    pm_lock_shm lock;
    pm_j64 word[WORDS];
    pm_p64 published[2];
    pm_j64 many[PM_UNDO_MAX + 8];
    pthread_mutex_t life;
    _Atomic uint64_t go;
} arena;

static arena *arena_new(pm_lock *l)
{
    arena *m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(m != MAP_FAILED);
    CHECK(pm_lock_init(&m->lock) == PM_OK);
    CHECK(pm_life_init(&m->life) == PM_OK);
    pm_lock_open(l, &m->lock, (char *)m);
    return m;
}

static void enter(pm_lock *l)
{
    int rc;
    while ((rc = pm_lock_acquire(l, PM_WAIT)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_OK);
}

static uint64_t published(const arena *m, int i)
{
    return pm_p64_load(&m->published[i]);
}

/* All words equal, and the published ones announce them. */
static uint64_t state_of(const arena *m)
{
    for (int i = 1; i < WORDS; i++)
        CHECK(m->word[i].v == m->word[0].v);
    CHECK(published(m, 0) == m->word[0].v && published(m, 1) == m->word[0].v);
    return m->word[0].v;
}

/* Inside: every word to `value`, twice each. */
static void write_all(pm_lock *l, arena *m, uint64_t value)
{
    for (int i = 0; i < WORDS; i++)
        pm_set(l, &m->word[i], value + 1000);
    pm_publish(l, &m->published[0], value);
    for (int i = 0; i < WORDS; i++)
        pm_set(l, &m->word[i], value);
    pm_publish(l, &m->published[1], value);
}

static void change(pm_lock *l, arena *m, uint64_t value)
{
    enter(l);
    write_all(l, m, value);
    CHECK(pm_lock_release(l) == PM_OK);
}

static bool reap(pid_t pid)
{
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    return status != 0;
}

static bool dies_changing(pm_lock *l, arena *m, uint64_t value, uint64_t nth)
{
    pid_t pid = fork();
    if (pid == 0) {
        pm_crash_arm(nth);
        change(l, m, value);
        pm_crash_arm(0);
        _exit(0);
    }
    return reap(pid);
}

static bool dies_repairing(pm_lock *l, uint64_t nth)
{
    pid_t pid = fork();
    if (pid == 0) {
        pm_crash_arm(nth);
        enter(l);
        pm_crash_arm(0);
        CHECK(pm_lock_release(l) == PM_OK);
        _exit(0);
    }
    return reap(pid);
}

TEST(rollback_restores_the_first_value_of_a_word_written_twice)
{
    pm_lock l;
    arena *m = arena_new(&l);
    change(&l, m, 5);
    enter(&l);
    pm_set(&l, &m->word[0], 7);
    pm_set(&l, &m->word[0], 8);
    pm_publish(&l, &m->published[0], 9);
    pm_lock_rollback(&l);
    CHECK(m->word[0].v == 5);
    CHECK(pm_lock_release(&l) == PM_OK);
    CHECK(state_of(m) == 5);
}

TEST(publish_is_seen_only_after_the_commit)
{
    pm_lock l;
    arena *m = arena_new(&l);
    enter(&l);
    pm_publish(&l, &m->published[0], 4);
    CHECK(published(m, 0) == 0);
    pm_lock_commit(&l);
    CHECK(published(m, 0) == 4);
    CHECK(pm_lock_release(&l) == PM_OK);
}

TEST(later_of_two_publishes_of_a_word_wins)
{
    pm_lock l;
    arena *m = arena_new(&l);
    enter(&l);
    pm_publish(&l, &m->published[0], 4);
    pm_publish(&l, &m->published[0], 6);
    CHECK(pm_lock_release(&l) == PM_OK);
    CHECK(published(m, 0) == 6);
}

TEST(commit_keeps_what_a_later_rollback_would_undo)
{
    pm_lock l;
    arena *m = arena_new(&l);
    enter(&l);
    pm_set(&l, &m->word[0], 1);
    pm_lock_commit(&l);
    pm_set(&l, &m->word[1], 1);
    pm_lock_rollback(&l);
    CHECK(pm_lock_release(&l) == PM_OK);
    CHECK(m->word[0].v == 1 && m->word[1].v == 0);
}

TEST(death_at_every_point_leaves_before_or_after)
{
    pm_lock l;
    arena *m = arena_new(&l);
    uint64_t deaths = 0, before = 0, after = 0;
    for (uint64_t n = 1;; n++) {
        uint64_t then = state_of(m);
        bool died = dies_changing(&l, m, then + 1, n);
        enter(&l);
        uint64_t now =
            state_of(m); /* a published word is never ahead of, nor behind, what it announces */
        CHECK(now == then || now == then + 1);
        CHECK(pm_lock_release(&l) == PM_OK);
        if (!died)
            break;
        deaths++;
        before += now == then;
        after += now == then + 1;
    }
    CHECK(deaths > 30 && before > 0 && after > 0);
    CHECK(pm_a64_load(&m->lock.repairs) > 0);
}

TEST(death_while_repairing_at_every_point_is_repaired_by_the_next)
{
    pm_lock l;
    arena *m = arena_new(&l);
    uint64_t pairs = 0;
    bool died = true;
    for (uint64_t n = 1; died; n++) {
        bool again = true;
        for (uint64_t k = 1; again; k++) {
            uint64_t then = state_of(m);
            died = dies_changing(&l, m, then + 1, n);
            again = dies_repairing(&l, k) && died;
            pairs += again;
            enter(&l);
            uint64_t now = state_of(m);
            CHECK(now == then || now == then + 1);
            CHECK(pm_lock_release(&l) == PM_OK);
        }
    }
    CHECK(pairs > 200);
}

TEST(three_deaths_in_a_row_are_repaired)
{
    pm_lock l;
    arena *m = arena_new(&l);
    for (uint64_t k = 1; k < 16; k++) {
        uint64_t then = state_of(m);
        CHECK(dies_changing(&l, m, then + 1, 24));
        dies_repairing(&l, k);
        dies_repairing(&l, k + 1);
        enter(&l);
        CHECK(state_of(m) == then);
        CHECK(pm_lock_release(&l) == PM_OK);
    }
}

TEST(overrun_of_the_journal_is_refused_undone_and_poisons_the_arena)
{
    pm_lock l;
    arena *m = arena_new(&l);
    enter(&l);
    for (int i = 0; i < PM_UNDO_MAX + 8; i++)
        pm_set(&l, &m->many[i], 1);
    CHECK(m->many[PM_UNDO_MAX].v == 0);
    CHECK(pm_lock_release(&l) == PM_ECORRUPT);
    for (int i = 0; i < PM_UNDO_MAX + 8; i++)
        CHECK(m->many[i].v == 0);
    CHECK(pm_lock_acquire(&l, PM_WAIT) == PM_ECORRUPT);
    CHECK(pm_lock_acquire(&l, PM_TRY) == PM_ECORRUPT);
}

TEST(overrun_of_the_publishes_is_refused)
{
    pm_lock l;
    arena *m = arena_new(&l);
    enter(&l);
    for (int i = 0; i <= PM_PUBLISH_MAX; i++)
        pm_publish(&l, &m->published[0], (uint64_t)i + 1);
    CHECK(pm_lock_release(&l) == PM_ECORRUPT);
    CHECK(published(m, 0) == 0);
}

TEST(room_counts_down_with_writes_and_publishes)
{
    pm_lock l;
    arena *m = arena_new(&l);
    enter(&l);
    uint32_t all = pm_lock_room(&l);
    for (int i = 0; i < PM_UNDO_MAX && pm_lock_room(&l) > 0; i++)
        pm_set(&l, &m->many[i], 1);
    CHECK(pm_lock_room(&l) == 0);
    pm_lock_commit(&l);
    CHECK(pm_lock_room(&l) == all);
    for (int i = 0; pm_lock_room(&l) > 0; i++) {
        CHECK(i < PM_PUBLISH_MAX);
        pm_publish(&l, &m->published[0], 1);
    }
    CHECK(pm_lock_release(&l) == PM_OK);
}

TEST(busy_lock_is_told_to_try_and_to_wait)
{
    pm_lock l;
    arena *m = arena_new(&l);
    enter(&l);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(pm_lock_acquire(&l, PM_TRY) == PM_EAGAIN);
        CHECK(pm_lock_acquire(&l, PM_WAIT) == PM_EAGAIN);
        CHECK(pm_lock_holder(&l) == getppid());
        _exit(0);
    }
    CHECK(!reap(pid));
    CHECK(pm_lock_release(&l) == PM_OK);
    CHECK(pm_lock_holder(&l) == 0);
    (void)m;
}

/* ---- a thread dies, its process lives ---------------------------------------------------------------------- */

typedef struct {
    pm_lock *l;
    arena *m;
} place;

static void *die_inside(void *arg)
{
    place *p = arg;
    enter(p->l);
    pm_set(p->l, &p->m->word[0], 99);
    return NULL; /* with the lock */
}

TEST(death_of_a_thread_without_its_process_is_rolled_back)
{
    pm_lock l;
    arena *m = arena_new(&l);
    place p = {&l, m};
    pthread_t t;
    CHECK(pthread_create(&t, NULL, die_inside, &p) == 0);
    CHECK(pthread_join(t, NULL) == 0);
    CHECK(m->word[0].v == 99);
    enter(&l);
    CHECK(l.repaired && m->word[0].v == 0);
    CHECK(pm_lock_release(&l) == PM_OK);
}

/* ---- life locks -------------------------------------------------------------------------------------------- */

static pid_t hold_life(arena *m, char *const exec[])
{
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(pm_life_take(&m->life) != PM_LIFE_HELD);
        atomic_store(&m->go, 1);
        if (exec) {
            while (atomic_load(&m->go) == 1)
                usleep(100);
            execv(exec[0], exec);
        }
        for (;;)
            pause();
    }
    while (atomic_load(&m->go) == 0)
        usleep(100);
    return pid;
}

TEST(life_lock_is_free_then_held_then_dead)
{
    pm_lock l;
    arena *m = arena_new(&l);
    pid_t pid = hold_life(m, NULL);
    CHECK(pm_life_take(&m->life) == PM_LIFE_HELD);
    CHECK(kill(pid, SIGKILL) == 0);
    reap(pid);
    CHECK(pm_life_take(&m->life) == PM_LIFE_DEAD);
    CHECK(pm_life_take(&m->life) == PM_LIFE_HELD);
    pm_life_give(&m->life);
    CHECK(pm_life_take(&m->life) == PM_LIFE_FREE);
    pm_life_give(&m->life);
}

TEST(life_lock_tells_death_again_if_its_heir_dies_too)
{
    pm_lock l;
    arena *m = arena_new(&l);
    for (int i = 0; i < 3; i++) {
        atomic_store(&m->go, 0);
        pid_t pid = hold_life(m, NULL);
        CHECK(kill(pid, SIGKILL) == 0);
        reap(pid);
    }
    CHECK(pm_life_take(&m->life) == PM_LIFE_DEAD);
    pm_life_give(&m->life);
}

TEST(life_lock_is_dead_after_exec)
{
    pm_lock l;
    arena *m = arena_new(&l);
    char *const sleeper[] = {"/bin/sleep", "100", NULL};
    pid_t pid = hold_life(m, sleeper);
    CHECK(pm_life_take(&m->life) == PM_LIFE_HELD);
    atomic_store(&m->go, 2);
    pm_life life;
    while ((life = pm_life_take(&m->life)) == PM_LIFE_HELD)
        usleep(100);
    CHECK(life == PM_LIFE_DEAD);
    CHECK(kill(pid, 0) == 0); /* the process lives, as another program */
    CHECK(kill(pid, SIGKILL) == 0);
    reap(pid);
    pm_life_give(&m->life);
}

/* ---- contention with kills --------------------------------------------------------------------------------- */

static void count_for_ever(pm_lock *l, arena *m, unsigned seed)
{
    for (;;) {
        if (rand_r(&seed) % 400 == 0)
            pm_crash_arm(1 + (uint64_t)(rand_r(&seed) % 40));
        enter(l);
        write_all(l, m, m->word[0].v + 1);
        CHECK(pm_lock_release(l) == PM_OK);
    }
}

/* Each process adds one to all words in a transaction, and dies at random points of it. The words never part, and
 * the published words never part from them. */
TEST(words_stay_together_while_contenders_are_killed)
{
    enum { CONTENDERS = 4, DEATHS = 300 };
    pm_lock l;
    arena *m = arena_new(&l);
    pid_t pid[CONTENDERS] = {0};
    uint64_t then = 0;
    for (int deaths = 0; deaths < DEATHS; deaths++) {
        int i = deaths % CONTENDERS;
        if (pid[i])
            CHECK(reap(pid[i]));
        if ((pid[i] = fork()) == 0)
            count_for_ever(&l, m, (unsigned)deaths);
        enter(&l);
        CHECK(state_of(m) >= then);
        then = state_of(m);
        CHECK(pm_lock_release(&l) == PM_OK);
    }
    for (int i = 0; i < CONTENDERS; i++)
        CHECK(reap(pid[i]));
    enter(&l);
    CHECK(state_of(m) > DEATHS);
    CHECK(pm_lock_release(&l) == PM_OK);
}

HARNESS_MAIN
