/* test_free.c - free() beside everything else: tasks that make or take the object, readers, drops and deaths between its steps. */
#include <pthread.h>

#include "tasks.h"

enum { BIG = 300000, MANY = 1000, RESULTS = 60 };

static pm_ref build(const world *w, uint64_t size, uint64_t value, const pm_ref *refs,
                    uint64_t nrefs)
{
    pm_ref ref = pending(w, size, value, refs, nrefs);
    DO(pm_seal(w->a, PM_WAIT, ref.slot, false));
    return ref;
}

static void release(const world *w, pm_ref ref)
{
    DO(pm_free(w->a, PM_WAIT, ref.slot));
}

/* A look only: a pin, refused, would see to its bytes. */
static bool is_freed(const world *w, pm_ref ref)
{
    pm_view v;
    return pm_look(w->a, ref.slot, &v) == PM_EFREED;
}

static uint64_t used(const world *w)
{
    DO(pm__settle(w->a, PM_WAIT));
    return stats(w).heap_used;
}

/* End a task of one result with an object of `size` bytes. */
static void finish_with(const world *w, const pm_running *task, uint64_t size, const pm_ref *refs,
                        uint64_t nrefs)
{
    pm_ref object = pending(w, size, 5, refs, nrefs);
    const pm_result result = {.object = object.slot};
    DO(pm_finish(w->a, PM_WAIT, task->task, &result, NULL));
    drop(w, object);
}

/* ---- results and arguments --------------------------------------------------------------------------------- */

TEST(result_freed_before_its_task_ran_loses_its_bytes_as_they_come)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_running task;
    pm_ref out = submit_one(&w), inner = put(&w, 1);
    release(&w, out);
    release(&w, out);
    CHECK(is_freed(&w, out));
    clean(&w);
    CHECK(take(&w, &task));
    finish_with(&w, &task, BIG, &inner, 1);
    CHECK(is_freed(&w, out) && used(&w) == then.heap_used);
    CHECK(pm_pin(w.a, out.slot) == PM_EFREED);
    clean(&w);
    drop(&w, inner);
    drop(&w, out);
    same(&w, then);
    pm_close(w.a);
}

TEST(result_freed_while_its_task_runs)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_running task;
    pm_ref out = submit_one(&w);
    CHECK(take(&w, &task));
    release(&w, out);
    clean(&w);
    finish(&w, &task);
    CHECK(is_freed(&w, out));
    drop(&w, out);
    same(&w, then);
    pm_close(w.a);
}

static void run_and_die(world *w)
{
    pm_running task;
    CHECK(take(w, &task));
    w->b->word[0] = 1;
    pause();
}

TEST(freed_result_of_a_worker_that_dies_is_made_again_and_stays_freed)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_running task;
    pm_ref out = submit_one(&w);
    pid_t pid = spawn(&w, run_and_die);
    AWAIT(w.b->word[0]);
    release(&w, out);
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    clean(&w);
    CHECK(take(&w, &task) && task.attempt == 2);
    finish_with(&w, &task, BIG, NULL, 0);
    CHECK(is_freed(&w, out) && used(&w) == then.heap_used);
    drop(&w, out);
    same(&w, then);
    pm_close(w.a);
}

static void wait_for_it(world *w)
{
    uint64_t slot = w->b->refs[0].slot;
    int rc;
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    w->b->word[0] = 1;
    while ((rc = pm_wait(w->a, &slot, 1, 1, 0, false)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_OK && is_freed(w, w->b->refs[0]));
}

TEST(who_waits_for_a_result_is_woken_when_it_is_freed)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref out = w.b->refs[0] = submit_one(&w);
    pid_t pid = spawn(&w, wait_for_it);
    AWAIT(w.b->word[0]);
    usleep(20000); /* asleep, as a rule */
    release(&w, out);
    reap(pid);
    sweep_dead(&w);
    CHECK(run_all(&w) == 1);
    drop(&w, out);
    same(&w, then);
    pm_close(w.a);
}

/* More tasks than one lock hold tells: the entry is on the settling list meanwhile. */
TEST(tasks_that_wait_for_a_result_start_when_it_is_freed)
{
    enum { WAITING = 100 };
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref first = submit_one(&w), out[WAITING];
    for (int i = 0; i < WAITING; i++)
        submit(&w, &first, 1, 1, 0, &out[i]);
    release(&w, first);
    clean(&w);
    CHECK(run_all(&w) == WAITING + 1);
    CHECK(is_freed(&w, first));
    for (int i = 0; i < WAITING; i++) {
        CHECK(state_of(&w, out[i]) == PM_SEALED);
        drop(&w, out[i]);
    }
    drop(&w, first);
    same(&w, then);
    pm_close(w.a);
}

/* The bytes of an argument go although queued tasks take it: those fail by name. */
TEST(argument_is_freed_under_queued_tasks)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_running task;
    pm_ref given = build(&w, BIG, 3, NULL, 0), out;
    submit(&w, &given, 1, 1, 0, &out);
    release(&w, given);
    CHECK(used(&w) == then.heap_used);
    drop(&w, given);
    CHECK(take(&w, &task));
    pm_view v;
    CHECK(pm_look(w.a, pm_argument(w.a, task.task, 0).slot, &v) == PM_EFREED);
    finish(&w, &task);
    drop(&w, out);
    same(&w, then);
    pm_close(w.a);
}

TEST(sealed_result_freed_while_tasks_are_told_of_it)
{
    enum { WAITING = 100 };
    world w = world_new();
    pm_stats then = stats(&w);
    pm_running task;
    pm_ref first = submit_one(&w), out[WAITING];
    for (int i = 0; i < WAITING; i++)
        submit(&w, &first, 1, 1, 0, &out[i]);
    CHECK(take(&w, &task));
    pm_ref object = pending(&w, BIG, 5, NULL, 0);
    const pm_result result = {.object = object.slot};
    DO(pm_finish(w.a, PM_WAIT, task.task, &result, NULL));
    drop(&w, object);
    release(&w, first);
    CHECK(used(&w) == then.heap_used && run_all(&w) == WAITING);
    for (int i = 0; i < WAITING; i++)
        drop(&w, out[i]);
    drop(&w, first);
    same(&w, then);
    pm_close(w.a);
}

TEST(failed_object_and_small_ones_of_the_stock_are_freed)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref failed = pending(&w, BIG, 9, NULL, 0);
    DO(pm_seal(w.a, PM_WAIT, failed.slot, true));
    release(&w, failed);
    CHECK(is_freed(&w, failed) && used(&w) == then.heap_used);
    drop(&w, failed);
    for (int round = 0; round < 200;
         round++) { /* an entry of the stock that was freed is not stocked */
        pm_ref small = put(&w, (uint64_t)round);
        release(&w, small);
        CHECK(is_freed(&w, small));
        drop(&w, small);
        CHECK(pm_hold(w.a, PM_WAIT, small) == PM_ENOTFOUND);
    }
    clean(&w);
    same(&w, then);
    pm_close(w.a);
}

/* ---- between the steps ------------------------------------------------------------------------------------- */

static void free_at_gate(world *w)
{
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    gate_arm(w, "FREED");
    release(w, w->b->refs[0]);
    w->b->word[0] = 1;
    AWAIT(w->b->word[1]);
}

/* A reader's pin comes between the state and the look at the pins: it is refused, and the bytes go
 * whether or not the freer saw it. */
TEST(pin_between_the_state_and_the_look_at_pins)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref ref = w.b->refs[0] = build(&w, BIG, 1, NULL, 0);
    pid_t pid = spawn(&w, free_at_gate);
    gate_await(&w);
    pm_view v;
    CHECK(pm_look(w.a, ref.slot, &v) == PM_EFREED);
    /* as in pm_pin(), before it reads the state; its own unpin finds the lock busy */
    CHECK(pm_pin(w.a, ref.slot) == PM_EFREED);
    CHECK(atomic_load(&w.a->local[ref.slot].owed) == 1);
    gate_open(&w);
    AWAIT(w.b->word[0]);
    CHECK(used(&w) == then.heap_used);
    w.b->word[1] = 1;
    reap(pid);
    CHECK(sweep_dead(&w) == 1);
    drop(&w, ref);
    same(&w, then);
    pm_close(w.a);
}

static void pin_and_tell(world *w)
{
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    DO(pm_pin(w->a, w->b->refs[0].slot));
    w->b->word[2] = 1;
    AWAIT(w->b->word[3]);
    pm_unpin(w->a, w->b->refs[0].slot);
    drop(w, w->b->refs[0]);
    w->b->word[2] = 2;
    pause();
}

/* The freer dies between the state and the look at the pins; whoever pins it goes on reading, and
 * its bytes go with the last unpin. */
TEST(freer_dies_before_it_looks_at_the_pins)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref ref = w.b->refs[0] = build(&w, BIG, 1, NULL, 0);
    pid_t reader = spawn(&w, pin_and_tell);
    AWAIT(w.b->word[2]);
    pid_t pid = spawn(&w, free_at_gate);
    gate_await(&w);
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    CHECK(pm_pin(w.a, ref.slot) == PM_EFREED && used(&w) > then.heap_used);
    clean(&w);
    w.b->word[3] = 1;
    AWAIT(w.b->word[2] == 2);
    AWAIT(used(&w) == then.heap_used);
    slay(reader);
    CHECK(sweep_dead(&w) == 1);
    drop(&w, ref);
    same(&w, then);
    pm_close(w.a);
}

/* Nobody pins it, and the freer dies: its sweep does the rest. */
TEST(freer_dies_before_the_bytes_go)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref ref = w.b->refs[0] = build(&w, BIG, 1, NULL, 0);
    pid_t pid = spawn(&w, free_at_gate);
    gate_await(&w);
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    CHECK(used(&w) == then.heap_used);
    drop(&w, ref);
    same(&w, then);
    pm_close(w.a);
}

static void free_many_at_gate(world *w)
{
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    w->b->word[0] = 1;
    AWAIT(w->b->word[1]);
    gate_arm(w, "UNLOCKED");
    release(w, w->b->refs[0]);
    drop(w, w->b->refs[0]);
}

static pm_ref box_of_many(const world *w)
{
    pm_ref inner[MANY];
    for (uint64_t i = 0; i < MANY; i++)
        inner[i] = i % 2 ? put(w, i) : build(w, 300, i, NULL, 0);
    pm_ref box = build(w, BIG, 1, inner, MANY);
    for (int i = 0; i < MANY; i++)
        drop(w, inner[i]);
    return box;
}

/* The last reference, the dead freer's, goes while the entry is on the dying list for its contents. */
TEST(last_reference_goes_while_the_contents_are_given_up)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref box = w.b->refs[0] = box_of_many(&w);
    pid_t pid = spawn(&w, free_many_at_gate);
    AWAIT(w.b->word[0]);
    drop(&w, box);
    w.b->word[1] = 1;
    gate_await(&w);
    CHECK(pm__entry(w.a, box.slot)->strip.v == PM_STRIPPING);
    CHECK(is_freed(&w, box));
    clean(&w);
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    CHECK(pm_hold(w.a, PM_WAIT, box) == PM_ENOTFOUND);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

TEST(freer_dies_while_the_contents_are_given_up)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref box = w.b->refs[0] = box_of_many(&w);
    w.b->word[1] = 1;
    pid_t pid = spawn(&w, free_many_at_gate);
    gate_await(&w);
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    CHECK(used(&w) == then.heap_used && pm__entry(w.a, box.slot)->strip.v == PM_STRIPPED);
    clean(&w);
    drop(&w, box);
    same(&w, then);
    pm_close(w.a);
}

static void seal_at_gate(world *w)
{
    uint64_t me = atomic_fetch_add(&w->b->word[0], 1);
    pm_ref ref = w->b->refs[me];
    DO(pm_hold(w->a, PM_WAIT, ref));
    atomic_fetch_add(&w->b->word[1], 1);
    AWAIT(w->b->word[2] > me);
    gate_arm(w, "UNLOCKED");
    DO(pm_seal(w->a, PM_WAIT, ref.slot, false));
}

/* Freed while it and another are on the settling list: its bytes go when the last of its tasks has
 * been told, and the other's tasks are told, too. */
TEST(sealed_object_is_freed_before_its_tasks_are_told)
{
    enum { WAITING = 100 };
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref out[2][WAITING], *ref = w.b->refs;
    pid_t pid[2];
    for (int k = 0; k < 2; k++) {
        ref[k] = pending(&w, BIG, 1, NULL, 0);
        for (int i = 0; i < WAITING; i++)
            submit(&w, &ref[k], 1, 1, 0, &out[k][i]);
    }
    uint64_t bytes = pm__heap_usable(&w.a->heap, pm__entry(w.a, ref[1].slot)->block.v);
    uint64_t before = used(&w);
    for (int k = 0; k < 2; k++)
        pid[k] = spawn(&w, seal_at_gate);
    AWAIT(w.b->word[1] == 2);
    for (uint64_t k = 0; k < 2; k++) {
        gate_reset(&w);
        w.b->word[2] = k + 1;
        gate_await(&w);
    }
    CHECK(pm__entry(w.a, ref[0].slot)->deps.v && pm__entry(w.a, ref[1].slot)->deps.v);
    release(&w, ref[1]); /* the first of the list */
    CHECK(is_freed(&w, ref[1]) && used(&w) == before - bytes);
    clean(&w);
    gate_open(&w);
    for (int k = 0; k < 2; k++)
        reap(pid[k]);
    CHECK(sweep_dead(&w) == 2);
    CHECK(run_all(&w) == 2 * WAITING);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < WAITING; i++)
            drop(&w, out[k][i]);
        drop(&w, ref[k]);
    }
    same(&w, then);
    pm_close(w.a);
}

static void finish_many_at_gate(world *w)
{
    pm_running task;
    pm_result results[RESULTS];
    CHECK(take(w, &task) && task.nrets == RESULTS);
    for (int i = 0; i < RESULTS; i++)
        results[i] = (pm_result){.object = pending(w, 2000, 1, NULL, 0).slot};
    gate_arm(w, "UNLOCKED");
    DO(pm_finish(w->a, PM_WAIT, task.task, results, NULL));
}

/* Freed results of which some have their bytes, their task not being over: nobody takes those bytes
 * but the next attempt. */
TEST(freed_results_are_left_alone_until_their_task_has_ended)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref out[RESULTS];
    submit(&w, NULL, 0, RESULTS, 1, out);
    for (int i = 0; i < RESULTS; i++)
        release(&w, out[i]);
    pid_t pid = spawn(&w, finish_many_at_gate);
    gate_await(&w);
    CHECK(pm__entry(w.a, out[0].slot)->block.v && !pm__entry(w.a, out[RESULTS - 1].slot)->block.v);
    for (int i = 0; i < RESULTS; i++)
        CHECK(pm_pin(w.a, out[i].slot) == PM_EFREED);
    clean(&w);
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    clean(&w);
    CHECK(run_all(&w) == 1);
    for (int i = 0; i < RESULTS; i++) {
        CHECK(is_freed(&w, out[i]));
        drop(&w, out[i]);
    }
    same(&w, then);
    pm_close(w.a);
}

TEST(object_that_contains_a_freed_one_keeps_its_entry)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref inner = build(&w, BIG, 1, NULL, 0), box = build(&w, 8, 2, &inner, 1);
    release(&w, inner);
    drop(&w, inner);
    DO(pm_hold(w.a, PM_WAIT, inner));
    CHECK(is_freed(&w, inner));
    drop(&w, inner);
    release(&w, box);
    CHECK(pm_hold(w.a, PM_WAIT, inner) == PM_ENOTFOUND);
    drop(&w, box);
    same(&w, then);
    pm_close(w.a);
}

/* ---- threads ----------------------------------------------------------------------------------------------- */

static world *shared;

static void *read_often(void *seen)
{
    pm_ref ref = shared->b->refs[0];
    pm_view v;
    for (;;) {
        int rc = pm_look(shared->a, ref.slot, &v);
        if (rc == PM_OK)
            rc = pm_pin(shared->a, ref.slot);
        if (rc == PM_EFREED)
            break;
        CHECK(rc == PM_OK);
        for (uint64_t i = 0; i < BIG; i += 4096)
            CHECK(((const volatile char *)v.data)[i] == 7);
        pm_unpin(shared->a, ref.slot);
        atomic_fetch_add((_Atomic uint64_t *)seen, 1);
    }
    drop(shared, ref);
    return NULL;
}

/* Threads of one process count their pins in one record; what the freed block becomes next has
 * other bytes. */
TEST(threads_pin_what_another_thread_frees)
{
    enum { THREADS = 3 };
    static char sevens[BIG], nines[BIG];
    world w = world_new();
    pm_stats then = stats(&w);
    shared = &w;
    memset(sevens, 7, BIG);
    memset(nines, 9, BIG);
    for (int round = 0; round < 150; round++) {
        pthread_t thread[THREADS];
        _Atomic uint64_t seen = 0;
        pm_ref ref, next;
        DO(pm_create(w.a, PM_WAIT, BIG, NULL, 0, &ref));
        DO(pm_write(w.a, ref.slot, 0, sevens, BIG));
        DO(pm_seal(w.a, PM_WAIT, ref.slot, false));
        w.b->refs[0] = ref;
        for (int i = 0; i < THREADS; i++) {
            DO(pm_hold(w.a, PM_WAIT, ref));
            CHECK(pthread_create(&thread[i], NULL, read_often, &seen) == 0);
        }
        AWAIT(atomic_load(&seen) > 3);
        release(&w, ref);
        DO(pm_create(w.a, PM_WAIT, BIG, NULL, 0, &next));
        DO(pm_write(w.a, next.slot, 0, nines, BIG));
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_join(thread[i], NULL) == 0);
        drop(&w, next);
        drop(&w, ref);
        CHECK(used(&w) == then.heap_used);
    }
    clean(&w);
    same(&w, then);
    pm_close(w.a);
}

/* ---- deaths ------------------------------------------------------------------------------------------------ */

/* refs[0]: a result that is waited for by 20 tasks, refs[1..20]. */
static void await_result(world *w)
{
    w->b->refs[0] = submit_one(w);
    for (int i = 1; i <= 20; i++)
        submit(w, &w->b->refs[0], 1, 1, 0, &w->b->refs[i]);
}

static void act_free(world *w)
{
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    release(w, w->b->refs[0]);
    drop(w, w->b->refs[0]);
}

static void check_results(world *w, bool died)
{
    CHECK(died || is_freed(w, w->b->refs[0]));
    CHECK(run_all(w) == 21);
    for (int i = 1; i <= 20; i++)
        CHECK(state_of(w, w->b->refs[i]) == PM_SEALED);
    for (int i = 0; i <= 20; i++)
        drop(w, w->b->refs[i]);
}

TEST(death_in_free_of_a_result_that_tasks_wait_for)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.before = await_result, .act = act_free, .after = check_results});
    pm_close(w.a);
}

/* refs[0]: a result, freed before its task runs; refs[1]: what it will contain. */
static void free_result(world *w)
{
    w->b->refs[0] = submit_one(w);
    release(w, w->b->refs[0]);
    w->b->refs[1] = build(w, BIG, 1, NULL, 0);
}

static void act_finish(world *w)
{
    pm_running task;
    CHECK(take(w, &task));
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[1]));
    finish_with(w, &task, BIG, &w->b->refs[1], 1);
    drop(w, w->b->refs[1]);
}

static void check_freed_result(world *w, bool died)
{
    CHECK(is_freed(w, w->b->refs[0]));
    CHECK(run_all(w) == 0 || died);
    drop(w, w->b->refs[1]);
    drop(w, w->b->refs[0]);
}

TEST(death_in_the_end_of_a_task_whose_result_was_freed)
{
    world w = world_new();
    crash_sweep(
        &w, &(operation){.before = free_result, .act = act_finish, .after = check_freed_result});
    pm_close(w.a);
}

/* Two objects that contain each other: refs[0] and refs[1]. */
static void build_cycle(world *w)
{
    pm_ref hole = put(w, 0), a, b;
    DO(pm_create(w->a, PM_WAIT, BIG, &hole, 1, &a));
    b = build(w, BIG, 1, &a, 1);
    pm__contained(w->a, pm__entry(w->a, a.slot))[0] = b;
    DO(pm_contain(w->a, PM_WAIT, a.slot));
    DO(pm_seal(w->a, PM_WAIT, a.slot, false));
    drop(w, hole);
    w->b->refs[0] = a;
    w->b->refs[1] = b;
}

static void break_cycle(world *w, bool died)
{
    (void)died;
    release(w, w->b->refs[0]);
    drop(w, w->b->refs[0]);
    drop(w, w->b->refs[1]);
}

TEST(death_in_free_of_a_cycle)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.before = build_cycle, .act = act_free, .after = break_cycle});
    pm_close(w.a);
}

/* The sweeper dies as well: of a process that freed and pinned. */
static void pin_free_and_stop(world *w)
{
    w->b->refs[0] = box_of_many(w);
    DO(pm_pin(w->a, w->b->refs[0].slot));
    release(w, w->b->refs[0]);
    w->b->word[0] = 1;
    pause();
}

static void leave_a_corpse(world *w)
{
    w->b->word[0] = 0;
    pid_t pid = spawn(w, pin_free_and_stop);
    AWAIT(w->b->word[0]);
    slay(pid);
}

static void act_sweep(world *w)
{
    sweep_dead(w);
}

TEST(death_in_the_sweep_of_who_pinned_a_freed_container)
{
    world w = world_new();
    pm_stats then = stats(&w);
    int deaths = 0;
    for (uint64_t n = 1;; n += 97) {
        const operation op = {.act = act_sweep};
        leave_a_corpse(&w);
        bool died = reap(victim(&w, &op, n));
        deaths += died;
        CHECK(sweep_dead(&w) >= 1);
        clean(&w);
        same(&w, then);
        if (!died)
            break;
    }
    CHECK(deaths > 0);
    pm_close(w.a);
}

HARNESS_MAIN
