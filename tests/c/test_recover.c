/* test_recover.c - sweeping what the dead left: whatever they did, and though the sweeper dies as well. */
#include <pthread.h>

#include "tasks.h"

static void sweep_as_child(world *w)
{
    sweep_dead(w);
}

/* A victim acts, whole (nth 0) or until its nth point; then a sweeper dies at each of its points in turn, and the next one
 * completes its work. */
static void sweeper_sweep(world *w, const operation *op, uint64_t nth)
{
    const operation sweeping = {.act = sweep_as_child};
    int deaths = 0;
    for (uint64_t n = 1;; n++) {
        pm_stats then = stats(w);
        run_if(op->before, w);
        reap(victim(w, op, nth));
        bool died = reap(victim(w, &sweeping, n));
        deaths += died;
        int swept = sweep_dead(w); /* the sweeper, and what it did not complete */
        CHECK(swept == 1 || (swept == 2 && died));
        clean(w);
        if (op->after)
            op->after(w, true);
        same(w, then);
        clean(w);
        if (!died)
            break;
    }
    CHECK(deaths > 10);
}

/* ---- what a client may leave ------------------------------------------------------------------------------- */

static void hold_things(world *w)
{
    pm_ref inner[6];
    for (uint64_t i = 0; i < 6; i++)
        inner[i] = i % 2 ? put(w, i) : pending(w, 300, i, NULL, 0);
    pm_ref outer = pending(w, 1000, 1, inner, 5);
    DO(pm_seal(w->a, PM_WAIT, outer.slot, false));
    pending(w, 8, 1, inner + 5, 1); /* unsealed */
    DO(pm_name(w->a, PM_WAIT, outer.slot, (const unsigned char *)"the key of an object, 28 ch."));
    uint64_t slots[] = {inner[0].slot, inner[2].slot, inner[4].slot};
    CHECK(pm_wait(w->a, slots, 3, 1, pm__os_now() + 1000, false) == PM_ETIMEOUT);
    DO(pm_pin(w->a, outer.slot));
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    for (uint64_t i = 0; i < 6; i++)
        drop(w, inner[i]);
}

static void put_one(world *w)
{
    w->b->refs[0] = put(w, 5);
    pm_share(w->a, w->b->refs[0].slot);
}

static void find_one(world *w, bool died)
{
    (void)died;
    CHECK(value_of(w, w->b->refs[0]) == 5);
    drop(w, w->b->refs[0]);
}

TEST(sweeper_dies_over_holds_pins_waits_names_and_unsealed_objects)
{
    world w = world_new();
    sweeper_sweep(&w, &(operation){.before = put_one, .act = hold_things, .after = find_one}, 0);
    pm_close(w.a);
}

/* A stream whose items nobody took, of which the victim yields more. */
static void before_streaming(world *w)
{
    pm_ref function = put(w, 77);
    const pm_task_spec spec = {.function = function.slot,
                               .name = "a generator",
                               .packed = -1,
                               .nrets = 2,
                               .yields = true,
                               .cpu = CPU,
                               .retries = w->b->word[0]};
    DO(submit_spec(w, &spec, w->b->refs));
    drop(w, function);
}

static void act_streaming(world *w)
{
    pm_running t;
    bool room;
    CHECK(take(w, &t));
    for (uint64_t i = 0; i < 4; i++) {
        pm_ref inner = put(w, i), object = pending(w, 300, i, &inner, 1);
        const pm_result item = {.object = object.slot};
        DO(pm_yield(w->a, PM_WAIT, t.task, &item, &room));
        if (i < 3) /* the last is not let go of */
            drop(w, object);
        drop(w, inner);
    }
    /* and it is the submitter, and nested taker, of another */
    before_streaming(w);
    CHECK(take(w, &t));
    const pm_result item = {.data = &t.task, .len = 8};
    DO(pm_yield(w->a, PM_WAIT, t.task, &item, &room));
}

static void after_streaming(world *w, bool died)
{
    (void)died;
    pm_running t;
    bool failed;
    pm_ref item;
    while (take(w, &t)) /* the second stream has nobody who wants it */
        finish(w, &t);
    for (uint64_t i = 0; i < 4; i++) {
        DO(pm_stream_take(w->a, PM_WAIT, w->b->refs[2].slot, &item, &failed));
        CHECK(value_of(w, item) == i);
        drop(w, item);
    }
    CHECK(pm_stream_take(w->a, PM_WAIT, w->b->refs[2].slot, &item, &failed) == PM_EEND &&
          failed == (w->b->word[0] == 0));
    drop(w, w->b->refs[2]);
    drop(w, w->b->refs[3]);
}

static void before_kept_streaming(world *w)
{
    before_streaming(w);
    w->b->refs[2] = w->b->refs[0]; /* the victim's own goes to the first two */
    w->b->refs[3] = w->b->refs[1];
}

TEST(sweeper_dies_over_tasks_that_yield_and_a_taker)
{
    world w = world_new();
    for (w.b->word[0] = 0; w.b->word[0] < 2; w.b->word[0]++)
        sweeper_sweep(&w,
                      &(operation){.before = before_kept_streaming,
                                   .act = act_streaming,
                                   .after = after_streaming},
                      0);
    pm_close(w.a);
}

static void before_tasks(world *w)
{
    submit(w, NULL, 0, 2, 0, w->b->refs);     /* its worker dies: fails */
    submit(w, NULL, 0, 8, 1, w->b->refs + 2); /* is run again */
    submit(w, w->b->refs, 1, 1, 0, w->b->refs + 10);
}

static void run_two(world *w)
{
    pm_running t, blocked;
    uint64_t from = 0;
    CHECK(take(w, &t));
    DO(pm_block(w->a, PM_WAIT, t.task));
    DO(pm_take_awaited(w->a, PM_WAIT, &w->b->refs[2].slot, 1, false, &from, &blocked));
    /* attach half of the results, as a death in a long finish leaves them */
    pm_op op;
    pm_ref inner = put(w, 4), object = pending(w, 2000, 3, &inner, 1);
    DO(pm__enter(&op, w->a, PM_WAIT));
    pm_task_shm *task = pm__task(w->a, blocked.task - 1);
    for (uint64_t i = 0; i < 2; i++) {
        pm_entry_shm *e = pm__entry(w->a, (pm__task_ret(w->a, task, i)->v >> 1) - 1),
                     *from_ = pm__entry(w->a, object.slot);
        if (i == 1) {
            pm_set(&w->a->lock, &e->block, from_->block.v);
            pm_set(&w->a->lock, &e->size, from_->size.v);
            pm_set(&w->a->lock, &e->nrefs, 1);
            pm_set(&w->a->lock, &e->held, 1);
            pm_set(&w->a->lock, &from_->block, 0);
            pm_set(&w->a->lock, &from_->nrefs, 0);
            pm_set(&w->a->lock, &from_->held, 0);
        }
        pm_set(&w->a->lock, &task->attached, i + 1);
    }
    DO(pm__leave(&op));
}

static void after_tasks(world *w, bool died)
{
    (void)died;
    CHECK(stats(w).cpu_free == 4 * CPU);
    run_all(w);
    CHECK(attempt_of(w, w->b->refs, 2) == 0);
    CHECK(attempt_of(w, w->b->refs + 2, 8) == 2);
    CHECK(attempt_of(w, w->b->refs + 10, 1) == 1);
    for (int i = 0; i < 11; i++)
        drop(w, w->b->refs[i]);
}

TEST(sweeper_dies_over_running_blocked_and_half_finished_tasks)
{
    world w = world_new();
    sweeper_sweep(&w, &(operation){.before = before_tasks, .act = run_two, .after = after_tasks},
                  0);
    pm_close(w.a);
}

static void submit_much(world *w)
{
    pm_ref first[10], out[60], args[10];
    submit(w, NULL, 0, 10, 0, first);
    for (uint64_t i = 0; i < 10; i++)
        args[i] = i % 2 ? first[i] : put(w, i);
    submit(w, args, 10, 60, 0, out);
}

static void run_the_rest(world *w, bool died)
{
    (void)died;
    run_all(w);
    CHECK(stats(w).tasks == 0);
}

TEST(sweeper_dies_over_a_task_that_was_being_submitted)
{
    world w = world_new();
    const uint64_t points[] = {200, 330, 700};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        sweeper_sweep(&w, &(operation){.act = submit_much, .after = run_the_rest}, points[i]);
    pm_close(w.a);
}

static void finish_all(world *w)
{
    run_all(w);
}

TEST(sweeper_dies_over_a_finish_that_was_decided_or_not)
{
    world w = world_new();
    const uint64_t points[] = {40, 70, 95, 130, 180};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        const operation op = {.before = before_tasks, .act = finish_all};
        for (uint64_t n = 1, died = true; died; n += 3) {
            pm_stats then = stats(&w);
            before_tasks(&w);
            reap(victim(&w, &op, points[i]));
            died = reap(victim(&w, &(operation){.act = sweep_as_child}, n));
            sweep_dead(&w);
            clean(&w);
            run_all(&w);
            attempt_of(&w, w.b->refs, 2);
            CHECK(attempt_of(&w, w.b->refs + 2, 8) > 0);
            for (int k = 0; k < 11; k++)
                drop(&w, w.b->refs[k]);
            same(&w, then);
        }
    }
    clean(&w);
    pm_close(w.a);
}

static void drop_thousand(world *w)
{
    pm_ref inner[1000];
    for (uint64_t i = 0; i < 1000; i++)
        inner[i] = put(w, i);
    pm_ref outer = pending(w, 8, 1, inner, 1000);
    DO(pm_seal(w->a, PM_WAIT, outer.slot, false));
    for (uint64_t i = 0; i < 1000; i++)
        drop(w, inner[i]);
    gate_reset(w);
    pm_crash_arm(400);
    drop(w, outer);
}

/* Three deaths over one dying list: who dropped, who swept it, who swept that one. */
TEST(dying_list_survives_deaths_of_those_who_drain_it)
{
    world w = world_new();
    pm_stats then = stats(&w);
    for (uint64_t n = 100; n < 8000; n = n * 5 / 3) {
        CHECK(reap(victim(&w, &(operation){.act = drop_thousand}, 0)));
        reap(victim(&w, &(operation){.act = sweep_as_child}, n));
        reap(victim(&w, &(operation){.act = sweep_as_child}, n / 2));
        sweep_dead(&w);
        same(&w, then);
        clean(&w);
    }
    pm_close(w.a);
}

/* ---- one sweeper at a time --------------------------------------------------------------------------------- */

static void hold_many(world *w)
{
    for (uint64_t i = 0; i < 3000; i++)
        put(w, i);
}

static void sweep_paused(world *w)
{
    gate_arm(w, "SWEEPING");
    sweep_dead(w);
}

TEST(second_sweeper_leaves_a_client_to_the_first_and_takes_over_if_it_dies)
{
    world w = world_new();
    pm_stats then = stats(&w);
    reap(spawn(&w, hold_many));
    pid_t first = spawn(&w, sweep_paused);
    gate_await(&w);
    CHECK(sweep_dead(&w) == 0);
    slay(first);
    CHECK(sweep_dead(&w) == 2);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

static void *sweep_thread(void *arg)
{
    world *w = arg;
    return (void *)(intptr_t)sweep_dead(w);
}

TEST(many_sweepers_at_once_sweep_each_client_once)
{
    world w = world_new();
    pm_stats then = stats(&w);
    for (int round = 0; round < 10; round++) {
        pthread_t t[4];
        void *n;
        intptr_t sum = 0;
        for (int i = 0; i < 4; i++)
            reap(spawn(&w, hold_many));
        for (int i = 0; i < 4; i++)
            CHECK(pthread_create(&t[i], NULL, sweep_thread, &w) == 0);
        for (int i = 0; i < 4; i++) {
            CHECK(pthread_join(t[i], &n) == 0);
            sum += (intptr_t)n;
        }
        CHECK(sum == 4);
        same(&w, then);
        clean(&w);
    }
    pm_close(w.a);
}

/* ---- single interleavings ---------------------------------------------------------------------------------- */

static void block_and_pause(world *w)
{
    pm_running t;
    CHECK(take(w, &t));
    DO(pm_block(w->a, PM_WAIT, t.task));
    atomic_store(&w->b->word[0], 1);
    for (;;)
        pause();
}

/* R15 */
TEST(cpu_of_a_worker_that_died_blocked_is_returned_once)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref out = submit_one(&w);
    pid_t pid = spawn(&w, block_and_pause);
    AWAIT(atomic_load(&w.b->word[0]));
    CHECK(stats(&w).cpu_free == 4 * CPU);
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    CHECK(stats(&w).cpu_free == 4 * CPU);
    clean(&w);
    CHECK(run_all(&w) == 1);
    drop(&w, out);
    same(&w, then);
    pm_close(w.a);
}

static void take_and_create(world *w)
{
    pm_running t;
    pm_ref refs[8];
    CHECK(take(w, &t));
    for (int i = 0; i < 8; i++)
        refs[i] = pending(w, 5000, 7, NULL, 0);
    w->b->refs[900] = refs[0];
    atomic_store(&w->b->word[0], 1);
    for (;;)
        pause();
}

static void sweep_until_requeued(world *w)
{
    gate_arm(w, "SWEPT_TASKS");
    sweep_dead(w);
}

/* R16: the task is back in the queue while the sweep is not at the dead worker's objects yet. Another worker runs it, with
 * objects of its own; the sweep goes by owner and leaves those alone. */
TEST(task_is_run_again_beside_the_sweep_of_its_first_worker)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref out = submit_one(&w);
    pid_t worker = spawn(&w, take_and_create);
    AWAIT(atomic_load(&w.b->word[0]));
    slay(worker);
    pm_running t;
    pid_t sweeper = spawn(&w, sweep_until_requeued);
    gate_await(&w);
    CHECK(take(&w, &t) && t.attempt == 2);
    pm_ref object = pending(&w, 5000, 8, NULL, 0);
    const pm_result r = {.object = object.slot};
    DO(pm_finish(w.a, PM_WAIT, t.task, &r, NULL));
    drop(&w, object);
    gate_open(&w);
    CHECK(!reap(sweeper));
    CHECK(sweep_dead(&w) == 1);
    CHECK(value_of(&w, out) == 8);
    clean(&w);
    drop(&w, out);
    same(&w, then);
    pm_close(w.a);
}

TEST(cause_and_name_of_a_crashed_task_reach_those_who_wait)
{
    world w = world_new();
    pm_ref out;
    pm_view v;
    submit(&w, NULL, 0, 1, 0, &out);
    pid_t pid = spawn(&w, block_and_pause);
    AWAIT(atomic_load(&w.b->word[0]));
    slay(pid);
    pm_death how = {PM_CAUSE_MEMORY, 1, 2, 3, 4, 5};
    uint64_t slot = w.a->slot == 0; /* the other of two */
    CHECK(pm_sweep(w.a, slot, w.a->clients[slot].epoch.v, &how) == PM_OK);
    DO(pm_look(w.a, out.slot, &v));
    const char *told = v.data;
    uint64_t dead;
    memcpy(&dead, told + 1, sizeof dead);
    CHECK(v.state == PM_FAILED && v.size == PM_CRASH_BYTES + 6 && dead == (uint64_t)pid);
    CHECK(memcmp(told + 9, &how, sizeof how) == 0);
    CHECK(memcmp(told + PM_CRASH_BYTES, "a task", 6) == 0);
    pm_close(w.a);
}

TEST(objects_of_the_dead_live_on_while_others_hold_them)
{
    world w = world_new();
    pm_stats then = stats(&w);
    put_one(&w);
    pid_t pid = spawn(&w, hold_things);
    CHECK(!reap(pid));
    pm_ref outer;
    DO(pm_find(w.a, PM_WAIT, (const unsigned char *)"the key of an object, 28 ch.", &outer));
    CHECK(sweep_dead(&w) == 1);
    pm_view v;
    DO(pm_look(w.a, outer.slot, &v));
    CHECK(v.size == 1000 && v.nrefs == 5 && value_of(&w, v.refs[1]) == 1);
    clean(&w);
    drop(&w, outer);
    find_one(&w, true);
    same(&w, then);
    pm_close(w.a);
}

HARNESS_MAIN
