/* test_cancel.c - cancelled tasks: in every state, as trees, and with canceller or runner killed at every point. */
#include "tasks.h"

static void close_clean(world *w, pm_stats then)
{
    same(w, then);
    clean(w);
    pm_close(w->a);
}

static void cancel(const world *w, pm_ref ref, unsigned way)
{
    DO(pm_cancel(w->a, ref.slot, way));
}

/* Whether a result says that its task was cancelled; if so, whether it says `started`. */
static bool is_cancelled(const world *w, pm_ref ref, bool started)
{
    pm_view v;
    if (state_of(w, ref) != PM_FAILED)
        return false;
    DO(pm_look(w->a, ref.slot, &v));
    const unsigned char *bytes = v.data;
    if (bytes[0] != PM_TAG_CANCELLED)
        return false;
    CHECK(v.is_inline && v.size == PM_CANCELLED_BYTES + strlen("a task"));
    CHECK(bytes[9] == started && memcmp(bytes + PM_CANCELLED_BYTES, "a task", 6) == 0);
    return true;
}

static bool take_inner(const world *w, pm_ref ref, pm_running *out)
{
    uint64_t from = 0;
    int rc = pm_take_awaited(w->a, PM_WAIT, &ref.slot, 1, false, &from, out);
    CHECK(rc == PM_OK || rc == PM_ENOTFOUND);
    return rc == PM_OK;
}

static void ignore_signals(void)
{
    CHECK(signal(PM_CANCEL_SIGNAL, SIG_IGN) != SIG_ERR);
}

static pm_ref submit_after(const world *w, pm_ref arg)
{
    pm_ref out;
    submit(w, &arg, 1, 1, 0, &out);
    return out;
}

/* ---- queued and waiting ------------------------------------------------------------------------------------ */

TEST(queued_task_ends_at_once_with_all_its_results)
{
    const uint64_t counts[] = {0, 1, 4, 5, 3000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        world w = world_new();
        pm_stats then = stats(&w);
        uint64_t n = counts[i];
        pm_ref *out = calloc(n + 1, sizeof *out), before = submit_one(&w), after;
        submit(&w, NULL, 0, n, 3, out);
        after = submit_one(&w);
        if (n) {
            cancel(&w, out[n / 2], 0);
            cancel(&w, out[n / 2], PM_CANCEL_FORCE | PM_CANCEL_TREE); /* it is over */
        }
        clean(&w);
        for (uint64_t k = 0; k < n; k++)
            CHECK(is_cancelled(&w, out[k], false));
        CHECK(stats(&w).ready == 2 + (n == 0));
        CHECK(run_all(&w) == 2 + (n == 0));
        CHECK(state_of(&w, before) == PM_SEALED && state_of(&w, after) == PM_SEALED);
        for (uint64_t k = 0; k < n; k++)
            drop(&w, out[k]);
        drop(&w, before);
        drop(&w, after);
        free(out);
        close_clean(&w, then);
    }
}

TEST(task_that_waits_tells_at_once_and_goes_with_its_last_argument)
{
    const uint64_t counts[][2] = {{1, 1}, {4, 4}, {5, 1}, {1, 5}, {1000, 300}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        world w = world_new();
        pm_stats then = stats(&w);
        uint64_t nargs = counts[i][0], nrets = counts[i][1];
        pm_ref *args = calloc(nargs, sizeof *args), *out = calloc(nrets, sizeof *out), later;
        for (uint64_t k = 0; k < nargs; k++)
            args[k] = pending(&w, 8, k, NULL, 0);
        submit(&w, args, nargs, nrets, 0, out);
        later = submit_after(&w, out[0]);
        cancel(&w, out[nrets - 1], PM_CANCEL_TREE);
        clean(&w);
        for (uint64_t k = 0; k < nrets; k++)
            CHECK(is_cancelled(&w, out[k], false));
        CHECK(stats(&w).tasks == 2 && stats(&w).ready == 1); /* its dependent runs, and finds out */
        for (uint64_t k = 0; k < nargs; k++) {
            DO(pm_seal(w.a, PM_WAIT, args[k].slot, k % 2));
            CHECK(stats(&w).tasks == (k + 1 < nargs ? 2 : 1));
            if (k < 5)
                clean(&w);
            drop(&w, args[k]);
        }
        CHECK(run_all(&w) == 1);
        for (uint64_t k = 0; k < nrets; k++)
            drop(&w, out[k]);
        drop(&w, later);
        free(args);
        free(out);
        close_clean(&w, then);
    }
}

TEST(chain_is_cancelled_link_by_link)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref link[6];
    link[0] = submit_one(&w);
    for (int i = 1; i < 6; i++)
        link[i] = submit_after(&w, link[i - 1]);
    cancel(&w, link[3], 0);
    cancel(&w, link[5], 0); /* its argument has failed by now: it is queued */
    CHECK(is_cancelled(&w, link[3], false) && is_cancelled(&w, link[5], false));
    cancel(&w, link[0], 0);
    clean(&w);
    CHECK(run_all(&w) == 3); /* 4 with the error of 3; 1 and 2 with that of 0 */
    for (int i = 0; i < 6; i++)
        drop(&w, link[i]);
    close_clean(&w, then);
}

TEST(nothing_to_cancel)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref stored = put(&w, 1), made = pending(&w, 8, 1, NULL, 0), out = submit_one(&w), freed;
    submit(&w, NULL, 0, 1, 0, &freed);
    CHECK(run_all(&w) == 2);
    const pm_ref all[] = {stored, made, out};
    for (int i = 0; i < 3; i++)
        cancel(&w, all[i], PM_CANCEL_FORCE | PM_CANCEL_TREE);
    CHECK(value_of(&w, stored) == 1 && state_of(&w, made) == PM_PENDING);
    CHECK(attempt_of(&w, &out, 1) == 1);
    drop(&w, freed);
    submit(&w, NULL, 0, 1, 0, &freed);
    DO(pm_free(w.a, PM_WAIT, freed.slot));
    cancel(&w, freed, 0); /* freed before it was made: its task is not wanted, either */
    CHECK(state_of(&w, freed) == PM_FREED && stats(&w).ready == 0);
    drop(&w, freed);
    for (int i = 0; i < 3; i++)
        drop(&w, all[i]);
    close_clean(&w, then);
}

/* ---- running ----------------------------------------------------------------------------------------------- */

TEST(running_task_is_told_once_for_each_cancel_and_keeps_what_it_finishes_with)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_running t;
    pm_ref out = submit_one(&w);
    ignore_signals();
    CHECK(take(&w, &t) && !pm_cancel_asked(w.a, t.task));
    CHECK(pm_cancel_tell(w.a, PM_WAIT, t.task) == PM_ENOTFOUND);
    for (int i = 0; i < 2; i++) {
        cancel(&w, out, 0);
        CHECK(state_of(&w, out) == PM_PENDING && pm_cancel_asked(w.a, t.task));
        CHECK(pm_wait(w.a, &out.slot, 1, 1, 0, PM_WAIT_TASK) == PM_ECANCELLED);
        DO(pm_cancel_tell(w.a, PM_WAIT, t.task));
        CHECK(pm_cancel_tell(w.a, PM_WAIT, t.task) == PM_ENOTFOUND &&
              !pm_cancel_asked(w.a, t.task));
        clean(&w);
    }
    finish(&w, &t);
    CHECK(attempt_of(&w, &out, 1) == 1);
    drop(&w, out);
    close_clean(&w, then);
}

TEST(cancelled_task_is_not_tried_again)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_running t;
    pm_ref out[5];
    ignore_signals();
    submit(&w, NULL, 0, 5, PM_RETRY_ALWAYS, out);
    CHECK(take(&w, &t));
    cancel(&w, out[0], 0);
    DO(pm_retry(w.a, PM_WAIT, t.task));
    clean(&w);
    CHECK(!take(&w, &t) && stats(&w).cpu_free == 4 * CPU);
    for (int i = 0; i < 5; i++) {
        CHECK(is_cancelled(&w, out[i], true));
        drop(&w, out[i]);
    }
    close_clean(&w, then);
}

/* Takes a task, and waits to be killed. */
static void take_and_stay(world *w)
{
    pm_running t;
    signal(PM_CANCEL_SIGNAL, SIG_IGN);
    CHECK(take(w, &t));
    atomic_store(&w->b->word[1], t.task);
    for (;;)
        pause();
}

TEST(death_of_the_runner_after_the_cancel_ends_the_task)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref out[5];
    submit(&w, NULL, 0, 5, PM_RETRY_ALWAYS, out);
    pid_t pid = spawn(&w, take_and_stay);
    AWAIT(atomic_load(&w.b->word[1]));
    cancel(&w, out[4], 0);
    CHECK(state_of(&w, out[0]) == PM_PENDING);
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    for (int i = 0; i < 5; i++) {
        CHECK(is_cancelled(&w, out[i], true));
        drop(&w, out[i]);
    }
    close_clean(&w, then);
}

TEST(force_kills_the_runner)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref out = submit_one(&w);
    pid_t pid = spawn(&w, take_and_stay);
    AWAIT(atomic_load(&w.b->word[1]));
    cancel(&w, out, PM_CANCEL_FORCE);
    CHECK(reap(pid));
    CHECK(sweep_dead(&w) == 1);
    CHECK(is_cancelled(&w, out, true) && stats(&w).ready == 0);
    drop(&w, out);
    close_clean(&w, then);
}

/* Taken: word 1 is its number. Finishes when word 2 is set; word 3 says that it is done. */
static void finish_when_told(world *w)
{
    pm_running t, next;
    uint64_t value = UINT64_C(1) << 32;
    signal(PM_CANCEL_SIGNAL, SIG_IGN);
    CHECK(take(w, &t));
    atomic_store(&w->b->word[1], t.task);
    while (!atomic_load(&w->b->word[2]))
        continue;
    const pm_result r = {.data = &value, .len = 8};
    int rc = pm_finish(w->a, PM_WAIT, t.task, &r, &next);
    CHECK(rc == PM_OK || rc == PM_ECANCELLED);
    atomic_store(&w->b->word[3], 1);
    for (;;)
        pause();
}

/* What is killed must not get on to another task first. */
TEST(finish_after_a_cancel_by_force_is_refused)
{
    world w = world_new();
    pm_running t, inner;
    ignore_signals();
    pm_ref out = submit_one(&w);
    CHECK(take(&w, &t));
    pm_ref child = submit_one(&w);
    /* the word alone: as if the canceller had died before the signal */
    pm_set(&w.a->lock, &((pm_task_shm *)pm__task(w.a, t.task - 1))->cancel,
           PM_CANCEL_ASKED | PM_CANCEL_FORCE);
    pm_lock_commit(&w.a->lock);
    uint64_t value = 1;
    const pm_result r = {.data = &value, .len = 8};
    CHECK(pm_finish(w.a, PM_WAIT, t.task, &r, NULL) == PM_ECANCELLED);
    CHECK(pm_retry(w.a, PM_WAIT, t.task) == PM_ECANCELLED);
    CHECK(!take_inner(&w, child, &inner));
    clean(&w);
    drop(&w, out);
    drop(&w, child);
    pm_close(w.a);
}

/* One of the two wins, and the loser leaves no trace: a process that has finished is never killed. */
TEST(cancel_by_force_and_finish_race)
{
    world w = world_new();
    pm_stats then = stats(&w);
    int kept = 0, killed = 0;
    for (int i = 0; i < 150; i++) {
        for (int k = 1; k < 4; k++)
            atomic_store(&w.b->word[k], 0);
        pm_ref out = submit_one(&w);
        pid_t pid = spawn(&w, finish_when_told);
        AWAIT(atomic_load(&w.b->word[1]));
        if (i > 0)
            atomic_store(&w.b->word[2], 1); /* the first is cancelled before it may finish */
        if (i == 1)
            AWAIT(atomic_load(&w.b->word[3])); /* the second after it has */
        else
            for (volatile int spin = i % 10 * 400; spin > 0; spin--)
                continue;
        cancel(&w, out, PM_CANCEL_FORCE);
        if (state_of(&w, out) == PM_SEALED) {
            kept++;
            AWAIT(atomic_load(&w.b->word[3]));
            slay(pid);
        } else {
            killed++;
            CHECK(reap(pid));
        }
        CHECK(sweep_dead(&w) == 1);
        CHECK(is_cancelled(&w, out, true) || attempt_of(&w, &out, 1) == 1);
        clean(&w);
        drop(&w, out);
    }
    CHECK(kept && killed);
    close_clean(&w, then);
}

/* ---- trees ------------------------------------------------------------------------------------------------- */

TEST(tree_is_cancelled_and_nothing_else)
{
    world w = world_of(64 << 20, 8);
    pm_stats then = stats(&w);
    pm_running root, mid;
    enum { N = 300 };
    pm_ref top, kids[N], grand[N], other = submit_one(&w);
    ignore_signals();
    submit(&w, NULL, 0, 1, 0, &top);
    pm_running o;
    CHECK(take(&w, &o));
    finish(&w, &o);
    drop(&w, other);
    CHECK(take(&w, &root));
    for (int i = 0; i < N; i++)
        kids[i] = i % 3 == 2 ? submit_after(&w, kids[i - 1]) : submit_one(&w);
    CHECK(take_inner(&w, kids[N / 2 - N / 2 % 3], &mid));
    for (int i = 0; i < N; i++)
        grand[i] = submit_one(&w);
    cancel(&w, top, PM_CANCEL_TREE);
    clean(&w);
    CHECK(pm_cancel_asked(w.a, root.task) && pm_cancel_asked(w.a, mid.task));
    CHECK(stats(&w).ready == 0);
    for (int i = 0; i < N; i++) {
        CHECK(kids[i].slot == pm_result_ref(w.a, mid.task, 0).slot ||
              is_cancelled(&w, kids[i], false));
        CHECK(is_cancelled(&w, grand[i], false));
        drop(&w, grand[i]);
    }
    pm_ref born = submit_one(&w); /* mid does not know yet */
    CHECK(is_cancelled(&w, born, false));
    drop(&w, born);
    DO(pm_cancel_tell(w.a, PM_WAIT, mid.task));
    pm_ref meant = submit_one(&w); /* and now it does */
    CHECK(take_inner(&w, meant, &o));
    finish(&w, &o);
    CHECK(state_of(&w, meant) == PM_SEALED);
    drop(&w, meant);
    finish(&w, &mid);
    born = submit_one(&w); /* root's turn */
    CHECK(is_cancelled(&w, born, false));
    drop(&w, born);
    finish(&w, &root);
    pm_ref free_ = submit_one(&w); /* the program's */
    CHECK(run_all(&w) == 1 && state_of(&w, free_) == PM_SEALED);
    drop(&w, free_);
    for (int i = 0; i < N; i++)
        drop(&w, kids[i]);
    drop(&w, top);
    close_clean(&w, then);
}

TEST(without_the_tree_only_the_root_is_cancelled)
{
    world w = world_of(64 << 20, 8);
    pm_stats then = stats(&w);
    pm_running root, kid;
    ignore_signals();
    pm_ref top = submit_one(&w);
    CHECK(take(&w, &root));
    pm_ref child = submit_one(&w);
    cancel(&w, top, 0);
    pm_ref later = submit_one(&w);
    CHECK(take_inner(&w, child, &kid));
    finish(&w, &kid);
    CHECK(take_inner(&w, later, &kid));
    finish(&w, &kid);
    finish(&w, &root);
    drop(&w, top);
    drop(&w, child);
    drop(&w, later);
    close_clean(&w, then);
}

/* The child of a cancelled task, half built when the cancel comes. */
static void build_slowly(world *w)
{
    pm_running root;
    pm_ref out[40], args[10];
    signal(PM_CANCEL_SIGNAL, SIG_IGN);
    CHECK(take(w, &root));
    pm_ref function = put(w, 1);
    pm_task_argument given[10];
    for (uint64_t i = 0; i < 10; i++) {
        args[i] = pending(w, 8, i, NULL, 0);
        given[i] = (pm_task_argument){.slot = args[i].slot, .waits = true};
    }
    const pm_task_spec spec = {.function = function.slot,
                               .name = "a task",
                               .payload = "",
                               .packed = -1,
                               .args = given,
                               .nargs = 10,
                               .nrets = 40,
                               .cpu = CPU};
    gate_arm(w, "BEFORE_WAKE"); /* of its first transaction */
    DO(submit_spec(w, &spec, out));
    drop(w, function);
    for (uint64_t i = 0; i < 40; i++) {
        CHECK(is_cancelled(w, out[i], false));
        drop(w, out[i]);
    }
    finish(w, &root);
    for (uint64_t i = 0; i < 10; i++) {
        DO(pm_seal(w->a, PM_WAIT, args[i].slot, false));
        drop(w, args[i]);
    }
}

TEST(task_being_built_is_cancelled_when_it_is_complete)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref top = submit_one(&w);
    gate_reset(&w);
    pid_t pid = spawn(&w, build_slowly);
    gate_await(&w);
    bool building = false;
    for (uint64_t i = 0; i < w.a->h->tasks.high.v; i++)
        building |= pm__task(w.a, i)->state.v == PM_TASK_BUILDING;
    CHECK(building);
    cancel(&w, top, PM_CANCEL_TREE);
    clean(&w);
    gate_open(&w);
    CHECK(!reap(pid));
    CHECK(sweep_dead(&w) == 1);
    CHECK(attempt_of(&w, &top, 1) == 1);
    drop(&w, top);
    close_clean(&w, then);
}

/* ---- deaths ------------------------------------------------------------------------------------------------ */

enum { RETS = 9, ARGS = 6 };

/* refs: ARGS arguments, RETS results, one dependent */
static void before_waiting(world *w)
{
    pm_ref *r = w->b->refs;
    for (uint64_t i = 0; i < ARGS; i++)
        r[i] = pending(w, 8, i, NULL, 0);
    submit(w, r, ARGS, RETS, 0, r + ARGS);
    r[ARGS + RETS] = submit_after(w, r[ARGS]);
}

static void act_cancel_held(world *w)
{
    pm_ref ref = w->b->refs[ARGS + 2];
    DO(pm_hold(w->a, PM_WAIT, ref));
    cancel(w, ref, PM_CANCEL_TREE);
    drop(w, ref);
}

static void settle_arguments(world *w)
{
    for (uint64_t i = 0; i < ARGS; i++)
        if (state_of(w, w->b->refs[i]) == PM_PENDING)
            DO(pm_seal(w->a, PM_WAIT, w->b->refs[i].slot, false));
}

static void after_waiting(world *w, bool died)
{
    pm_ref *r = w->b->refs;
    bool cancelled = is_cancelled(w, r[ARGS], false);
    CHECK(cancelled || died);
    settle_arguments(w);
    run_all(w);
    for (uint64_t i = 0; i < RETS; i++)
        CHECK(is_cancelled(w, r[ARGS + i], false) == cancelled);
    if (!cancelled)
        CHECK(attempt_of(w, r + ARGS, RETS) == 1);
    for (uint64_t i = 0; i < ARGS + RETS + 1; i++)
        drop(w, r[i]);
}

TEST(death_in_the_cancel_of_a_task_that_waits)
{
    world w = world_new();
    crash_sweep(
        &w, &(operation){.before = before_waiting, .act = act_cancel_held, .after = after_waiting});
    pm_close(w.a);
}

static void before_queued(world *w)
{
    submit(w, NULL, 0, RETS, 0, w->b->refs + ARGS);
}

static void after_queued(world *w, bool died)
{
    pm_ref *r = w->b->refs + ARGS;
    bool cancelled = is_cancelled(w, r[0], false);
    CHECK(cancelled || died);
    CHECK(run_all(w) == !cancelled);
    for (uint64_t i = 0; i < RETS; i++) {
        CHECK(is_cancelled(w, r[i], false) == cancelled);
        drop(w, r[i]);
    }
}

TEST(death_in_the_cancel_of_a_queued_task)
{
    world w = world_new();
    crash_sweep(
        &w, &(operation){.before = before_queued, .act = act_cancel_held, .after = after_queued});
    pm_close(w.a);
}

/* A task that runs here, with kids: some are queued, each third waits for the one before it. */
enum { KIDS = 6 };
static pm_running root;

static void before_tree(world *w)
{
    pm_ref *r = w->b->refs;
    submit(w, NULL, 0, 1, 0, &r[0]);
    CHECK(take(w, &root));
    for (int i = 1; i <= KIDS; i++)
        r[i] = i % 3 == 0 ? submit_after(w, r[i - 1]) : submit_one(w);
}

static void act_cancel_tree(world *w)
{
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    cancel(w, w->b->refs[0], PM_CANCEL_TREE);
}

/* What a dead canceller has left out another one does. */
static void after_tree(world *w, bool died)
{
    pm_ref *r = w->b->refs;
    if (died)
        cancel(w, r[0], PM_CANCEL_TREE);
    clean(w);
    CHECK(pm_cancel_asked(w->a, root.task));
    for (int i = 1; i <= KIDS; i++) {
        CHECK(is_cancelled(w, r[i], false));
        drop(w, r[i]);
    }
    DO(pm_cancel_tell(w->a, PM_WAIT, root.task));
    finish(w, &root);
    CHECK(run_all(w) == 0);
    drop(w, r[0]);
}

TEST(death_in_the_cancel_of_a_tree)
{
    world w = world_new();
    ignore_signals();
    crash_sweep(&w,
                &(operation){.before = before_tree, .act = act_cancel_tree, .after = after_tree});
    pm_close(w.a);
}

static void before_cancelled(world *w)
{
    before_waiting(w);
    cancel(w, w->b->refs[ARGS], 0);
}

/* The arguments of a cancelled task, sealed by one who dies. */
static void act_settle(world *w)
{
    for (uint64_t i = 0; i < ARGS; i++)
        DO(pm_hold(w->a, PM_WAIT, w->b->refs[i]));
    for (uint64_t i = 0; i < ARGS; i++)
        DO(pm_seal(w->a, PM_WAIT, w->b->refs[i].slot, false));
}

TEST(death_while_the_arguments_of_a_cancelled_task_settle)
{
    world w = world_new();
    crash_sweep_by(
        &w, &(operation){.before = before_cancelled, .act = act_settle, .after = after_waiting}, 2);
    pm_close(w.a);
}

/* The runner: asked, told, ends it by a retry; dies somewhere in between. */
static void act_run_cancelled(world *w)
{
    pm_running t;
    signal(PM_CANCEL_SIGNAL, SIG_IGN);
    CHECK(take(w, &t));
    pm_ref child = submit_one(w);
    pm_ref ref = w->b->refs[ARGS];
    DO(pm_hold(w->a, PM_WAIT, ref));
    cancel(w, ref, PM_CANCEL_TREE);
    DO(pm_cancel_tell(w->a, PM_WAIT, t.task));
    DO(pm_retry(w->a, PM_WAIT, t.task));
    drop(w, child);
    drop(w, ref);
}

static void before_retries(world *w)
{
    submit(w, NULL, 0, RETS, PM_RETRY_ALWAYS, w->b->refs + ARGS);
}

static void after_run_cancelled(world *w, bool died)
{
    pm_ref *r = w->b->refs + ARGS;
    run_all(w);
    bool cancelled = is_cancelled(w, r[0], true);
    CHECK(cancelled || died);
    if (!cancelled)
        CHECK(attempt_of(w, r, RETS) > 0);
    for (uint64_t i = 0; i < RETS; i++) {
        CHECK(is_cancelled(w, r[i], true) == cancelled);
        drop(w, r[i]);
    }
}

TEST(death_of_a_runner_that_is_asked_and_told)
{
    world w = world_new();
    crash_sweep_by(&w,
                   &(operation){.before = before_retries,
                                .act = act_run_cancelled,
                                .after = after_run_cancelled},
                   2);
    pm_close(w.a);
}

/* A child submitted by a cancelled task, cancelled at birth: its submitter dies. refs[0] is the result of a task
 * that has not run. */
static void before_asked(world *w)
{
    before_retries(w);
    w->b->refs[0] = submit_one(w);
}

static void prepare_asked(world *w)
{
    pm_running t;
    signal(PM_CANCEL_SIGNAL, SIG_IGN);
    CHECK(take(w, &t));
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[ARGS]));
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    cancel(w, w->b->refs[ARGS], PM_CANCEL_TREE);
}

static void act_submit_stillborn(world *w)
{
    pm_ref few, many[30], args[6];
    submit(w, NULL, 0, 1, 0, &few);
    for (uint64_t i = 0; i < 6; i++)
        args[i] = i % 2 ? few : w->b->refs[0];
    submit(w, args, 6, 30, 0, many);
    CHECK(is_cancelled(w, few, false) && is_cancelled(w, many[29], false));
}

static void after_stillborn(world *w, bool died)
{
    (void)died;
    CHECK(run_all(w) == 1); /* neither the children nor their parent */
    for (uint64_t i = 0; i < RETS; i++) {
        CHECK(is_cancelled(w, w->b->refs[ARGS + i], true));
        drop(w, w->b->refs[ARGS + i]);
    }
    drop(w, w->b->refs[0]);
}

TEST(death_in_the_submit_of_a_task_that_is_cancelled_at_birth)
{
    world w = world_new();
    crash_sweep_by(&w,
                   &(operation){.before = before_asked,
                                .prepare = prepare_asked,
                                .act = act_submit_stillborn,
                                .after = after_stillborn},
                   3);
    pm_close(w.a);
}

/* ---- death of submitter and runner ------------------------------------------------------------------------- */

enum { OVER = 5 };

static void act_submit_and_cancel(world *w)
{
    pm_ref one, two, three[12], late = w->b->refs[0];
    DO(pm_hold(w->a, PM_WAIT, late));
    submit(w, NULL, 0, 1, 1, &one);
    submit(w, &one, 1, 1, 0, &two);
    const pm_ref args[] = {one, two, late};
    submit(w, args, 3, 12, 1, three);
    cancel(w, one, PM_CANCEL_FORCE); /* queued, running, finished: as it comes */
    cancel(w, three[0], PM_CANCEL_FORCE | PM_CANCEL_TREE);
    drop(w, one);
}

static bool some_ready(const world *w)
{
    return *(volatile uint64_t *)&w->a->h->ready.v != 0;
}

/* Cancelled by force it cannot finish: whoever did so may have died before the kill. */
static void finish_or_die(const world *w, const pm_running *t)
{
    uint64_t value = 1;
    pm_result results[12];
    for (uint64_t i = 0; i < t->nrets; i++)
        results[i] = (pm_result){.data = &value, .len = 8};
    int rc;
    while ((rc = pm_finish(w->a, PM_WAIT, t->task, results, NULL)) == PM_EAGAIN)
        continue;
    if (rc == PM_ECANCELLED)
        raise(SIGKILL);
    DO(rc);
}

/* Points are counted from when there is something to take. */
static void act_run_until_over(world *w)
{
    for (;;) {
        pm_running t;
        while (!some_ready(w) && !atomic_load(&w->b->word[OVER]))
            sched_yield();
        if (!some_ready(w))
            return;
        if (!take(w, &t))
            continue;
        DO(pm_block(w->a, PM_WAIT, t.task));
        DO(pm_resume(w->a, PM_WAIT, t.task));
        int rc = PM_ESTATE;
        if (t.attempt == 1 && t.retries)
            while ((rc = pm_retry(w->a, PM_WAIT, t.task)) == PM_EAGAIN)
                continue;
        if (rc == PM_ECANCELLED)
            raise(SIGKILL);
        if (rc != PM_OK)
            finish_or_die(w, &t);
    }
}

/* Both at once: each point of the one beside every 15th of the other, others each time. */
TEST(death_of_submitter_and_runner)
{
    world w = world_new();
    int both = 0;
    bool died = true;
    for (uint64_t n = 1; died; n++)
        for (uint64_t m = 1 + n % 15; m < 60; m += 15) {
            pm_stats then = stats(&w);
            pm_ref late = w.b->refs[0] = pending(&w, 8, 1, NULL, 0);
            atomic_store(&w.b->word[OVER], 0);
            pid_t runner = victim(&w, &(operation){.act = act_run_until_over}, m);
            died = reap(victim(&w, &(operation){.act = act_submit_and_cancel}, n));
            atomic_store(&w.b->word[OVER], 1);
            both += reap(runner) && died;
            CHECK(sweep_dead(&w) == 2);
            clean(&w);
            DO(pm_seal(w.a, PM_WAIT, late.slot, false));
            drop(&w, late);
            run_all(&w);
            CHECK(stats(&w).tasks == 0 && stats(&w).cpu_free == 4 * CPU);
            same(&w, then);
            clean(&w);
        }
    CHECK(both > 0);
    pm_close(w.a);
}

HARNESS_MAIN
