/* test_env.c - tasks with environments, and workers bound to one of them. */
#include "tasks.h"

enum { CAP = 3 };

/* A task that needs a worker in this environment. */
static int ask(const world *w, const pm_ref *env, bool alone, uint64_t cpu, pm_ref *out)
{
    pm_ref function = put(w, 7);
    const pm_task_spec spec = {.function = function.slot,
                               .name = "a task",
                               .payload = "",
                               .packed = -1,
                               .nrets = 1,
                               .cpu = cpu,
                               .retries = 3,
                               .env = env ? env->slot + 1 : 0,
                               .alone = alone};
    int rc = submit_spec(w, &spec, out);
    drop(w, function);
    return rc;
}

static pm_ref want(const world *w, const pm_ref *env)
{
    pm_ref out;
    DO(ask(w, env, false, CPU, &out));
    return out;
}

static uint64_t wanted(const world *w, uint64_t cap)
{
    uint64_t n;
    DO(pm_workers_wanted(w->a, PM_WAIT, cap, &n));
    return n;
}

static const pm_client_shm *client_of(const world *w, pid_t pid)
{
    for (uint64_t i = 0; i < pm__client_high(w->a); i++)
        if (w->a->clients[i].kind.v && (pid_t)w->a->clients[i].pid.v == pid)
            return &w->a->clients[i];
    return NULL;
}

static bool sealed(const world *w, pm_ref ref)
{
    return state_of(w, ref) == PM_SEALED;
}

static bool idle(const world *w, pid_t pid)
{
    const pm_client_shm *c = client_of(w, pid);
    return c && ((const volatile pm_client_shm *)c)->idle.v && atomic_load(&c->asleep.v);
}

/* A worker as worker.py: runs what it gets until it is not wanted any more. */
static void serve(world *w)
{
    pm_running task;
    int rc;
    signal(PM_CANCEL_SIGNAL, SIG_IGN); /* a task that was cancelled as it began is finished, too */
    while ((rc = pm_next(w->a, 0, &task)) != PM_ETIMEOUT) {
        if (rc == PM_EAGAIN)
            continue;
        CHECK(rc == PM_OK);
        finish(w, &task);
    }
    CHECK(pm_has_surplus(w->a));
}

/* One that takes a task, tells so by word 0, and sleeps inside of it. */
static void take_and_sleep(world *w)
{
    pm_running task;
    DO(pm_next(w->a, 0, &task));
    atomic_fetch_add(&w->b->word[0], 1);
    for (;;)
        pause();
}

static void take_and_block(world *w)
{
    pm_running task;
    DO(pm_next(w->a, 0, &task));
    DO(pm_block(w->a, PM_WAIT, task.task));
    atomic_fetch_add(&w->b->word[0], 1);
    for (;;)
        pause();
}

static void end(const world *w, pid_t pid)
{
    slay(pid);
    CHECK(sweep_dead(w) == 1);
    clean(w);
}

/* ---- binding ----------------------------------------------------------------------------------------------- */

TEST(a_worker_runs_tasks_of_its_first_ones_environment_only)
{
    world w = world_new();
    pm_ref red = put(&w, 1), blue = put(&w, 2);
    pm_ref a = want(&w, &red);
    pid_t one = spawn(&w, serve);
    AWAIT(sealed(&w, a) && idle(&w, one));
    pm_ref b = want(&w, &blue), c = want(&w, NULL), d = want(&w, &red);
    AWAIT(sealed(&w, d) && idle(&w, one));
    CHECK(!sealed(&w, b) && !sealed(&w, c));
    CHECK(client_of(&w, one)->env.v == red.slot + 2);
    clean(&w);
    pid_t two = spawn(&w, serve); /* free: takes the oldest */
    AWAIT(sealed(&w, b) && idle(&w, two));
    CHECK(!sealed(&w, c) && client_of(&w, two)->env.v == blue.slot + 2);
    pid_t three = spawn(&w, serve);
    AWAIT(sealed(&w, c) && idle(&w, three));
    CHECK(client_of(&w, three)->env.v == 1);
    clean(&w);
    end(&w, one);
    end(&w, two);
    end(&w, three);
    pm_close(w.a);
}

TEST(an_environment_lives_as_long_as_tasks_of_it)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref red = put(&w, 1), again;
    pm_ref a = want(&w, &red), b = want(&w, &red);
    uint64_t generation = red.generation;
    drop(&w, red);
    clean(&w);
    CHECK(run_all(&w) == 2);
    same(&w, (pm_stats){.entries = then.entries + 2,
                        .holds = then.holds + 2,
                        .heap_used = then.heap_used,
                        .cpu_free = then.cpu_free,
                        .clients = then.clients});
    drop(&w, a);
    drop(&w, b);
    same(&w, then);
    /* a shape of no task tells nothing: another object there is another environment */
    again = put(&w, 3);
    CHECK(again.slot != red.slot || again.generation != generation);
    clean(&w);
    pm_close(w.a);
}

TEST(a_call_goes_to_a_worker_that_suits_past_those_that_do_not)
{
    world w = world_new();
    pm_ref red = put(&w, 1), blue = put(&w, 2);
    pm_ref a = want(&w, &red);
    pid_t one = spawn(&w, serve);
    AWAIT(sealed(&w, a) && idle(&w, one));
    pm_ref b = want(&w, &blue);
    pid_t two = spawn(&w, serve);
    AWAIT(sealed(&w, b) && idle(&w, two));
    /* `two` is first of the idle list, and every round each is called */
    for (int i = 0; i < 50; i++) {
        pm_ref c = want(&w, &red), d = want(&w, &blue);
        AWAIT(sealed(&w, c) && sealed(&w, d));
        drop(&w, c);
        drop(&w, d);
    }
    clean(&w);
    end(&w, one);
    end(&w, two);
    pm_close(w.a);
}

TEST(a_worker_that_was_called_for_nothing_calls_the_one_that_is_needed)
{
    world w = world_new();
    pm_ref red = put(&w, 1), blue = put(&w, 2);
    pm_ref a = want(&w, &red);
    pid_t one = spawn(&w, serve);
    AWAIT(sealed(&w, a) && idle(&w, one));
    pm_ref b = want(&w, &blue);
    pid_t two = spawn(&w, serve);
    AWAIT(sealed(&w, b) && idle(&w, two));
    for (int i = 0; i < 50; i++) {
        pm_ref c = want(&w, &red); /* calls `one`, and is gone before it comes, or not */
        DO(pm_cancel(w.a, c.slot, 0));
        pm_ref d = want(&w, &blue);
        AWAIT(sealed(&w, d));
        drop(&w, c);
        drop(&w, d);
    }
    end(&w, one);
    end(&w, two);
    pm_close(w.a);
}

/* ---- how many workers -------------------------------------------------------------------------------------- */

TEST(a_worker_is_wanted_for_a_task_that_none_suits)
{
    world w = world_of(16 << 20, 1);
    pm_ref red = put(&w, 1);
    pm_ref a = want(&w, NULL);
    CHECK(wanted(&w, CAP) == 1);
    pid_t one = spawn(&w, serve);
    AWAIT(sealed(&w, a) && idle(&w, one));
    CHECK(wanted(&w, CAP) == 0);
    pm_ref b = want(&w, NULL);
    AWAIT(sealed(&w, b) && idle(&w, one));
    pm_ref c = want(&w, &red);
    CHECK(wanted(&w, CAP) == 1);
    pid_t two = spawn(&w, serve);
    AWAIT(sealed(&w, c) && idle(&w, two));
    CHECK(wanted(&w, CAP) == 0);
    end(&w, one);
    end(&w, two);
    pm_close(w.a);
}

TEST(at_the_cap_the_one_that_idles_longest_makes_room)
{
    world w = world_of(16 << 20, 1);
    pm_ref red = put(&w, 1), blue = put(&w, 2);
    pm_ref a = want(&w, NULL);
    pid_t one = spawn(&w, serve);
    AWAIT(sealed(&w, a) && idle(&w, one));
    pm_ref b = want(&w, &red);
    pid_t two = spawn(&w, serve);
    AWAIT(sealed(&w, b) && idle(&w, two));
    pm_ref c = want(&w, &blue);
    CHECK(wanted(&w, 2) == 1);
    CHECK(!reap(one)); /* it ended by itself */
    CHECK(wanted(&w, 2) == 1);
    CHECK(sweep_dead(&w) == 1);
    clean(&w);
    CHECK(!sealed(&w, c) && client_of(&w, two)->idle.v);
    pid_t three = spawn(&w, serve);
    AWAIT(sealed(&w, c) && idle(&w, three));
    CHECK(wanted(&w, 2) == 0);
    end(&w, two);
    end(&w, three);
    pm_close(w.a);
}

TEST(a_dismissed_worker_takes_nothing_any_more)
{
    world w = world_of(16 << 20, 1);
    pid_t one = spawn(&w, serve);
    pm_ref red = put(&w, 1), a = want(&w, NULL);
    AWAIT(sealed(&w, a) && idle(&w, one));
    CHECK(kill(one, SIGSTOP) == 0);
    pm_ref b = want(&w, &red);
    CHECK(wanted(&w, 1) == 1);
    clean(&w);
    pm_ref c = want(&w, NULL);
    CHECK(kill(one, SIGCONT) == 0);
    CHECK(!reap(one));
    CHECK(!sealed(&w, c));
    CHECK(sweep_dead(&w) == 1);
    pid_t two = spawn(&w, serve);
    AWAIT(sealed(&w, b));
    CHECK(!sealed(&w, c) && wanted(&w, 2) == 1);
    end(&w, two);
    pm_close(w.a);
}

/* One of two workers that there may be sleeps in a task of no environment that waits for one of `red`;
 * the other likewise, the other way round. */
TEST(tasks_that_wait_for_those_of_other_environments_get_a_worker_beyond_the_cap)
{
    world w = world_of(16 << 20, 1);
    pm_ref red = put(&w, 1);
    pm_ref a = want(&w, NULL);
    pid_t one = spawn(&w, take_and_block);
    AWAIT(w.b->word[0] == 1);
    pm_ref b = want(&w, &red);
    CHECK(wanted(&w, 1) == 0); /* nobody waits for it: it comes when `one` has done */
    uint64_t from = 0;
    DO(pm_hurry(w.a, PM_WAIT, &b.slot, 1, &from));
    CHECK(wanted(&w, 1) == 1);
    pid_t two = spawn(&w, take_and_block);
    AWAIT(w.b->word[0] == 2);
    CHECK(wanted(&w, 1) == 0);
    pm_ref c = want(&w, NULL);
    from = 0;
    DO(pm_hurry(w.a, PM_WAIT, &c.slot, 1, &from));
    CHECK(wanted(&w, 1) == 1); /* the only one that suits waits, as the one of `red` may for this */
    pid_t three = spawn(&w, take_and_sleep);
    AWAIT(w.b->word[0] == 3);
    pm_ref d;
    DO(ask(&w, NULL, false, 0, &d));
    from = 0;
    DO(pm_hurry(w.a, PM_WAIT, &d.slot, 1, &from));
    CHECK(wanted(&w, 1) == 0); /* `three` will take it */
    (void)a;
    end(&w, one);
    end(&w, two);
    end(&w, three);
    pm_close(w.a);
}

TEST(of_awaited_tasks_the_deepest_is_first)
{
    world w = world_new();
    pm_ref red = put(&w, 1);
    pm_ref refs[] = {want(&w, &red), want(&w, NULL), want(&w, &red)};
    for (int i = 0; i < 2; i++) {
        uint64_t from = 0;
        DO(pm_hurry(w.a, PM_WAIT, &refs[i].slot, 1, &from));
    }
    pm_running t;
    CHECK(take(&w, &t) && t.env == 0); /* refs[1] was submitted later than refs[0] */
    finish(&w, &t);
    CHECK(sealed(&w, refs[1]));
    clean(&w);
    pm_close(w.a);
}

/* ---- on a stack -------------------------------------------------------------------------------------------- */

TEST(awaited_tasks_of_other_environments_and_lone_ones_do_not_run_on_a_stack)
{
    world w = world_new();
    pm_ref red = put(&w, 1), refs[4];
    pm_ref outer = want(&w, &red);
    pm_running t, inner;
    CHECK(take(&w, &t) && t.env == red.slot + 1);
    DO(ask(&w, NULL, false, CPU, &refs[0]));
    DO(ask(&w, &red, true, CPU, &refs[1]));
    DO(ask(&w, &red, false, CPU, &refs[2]));
    uint64_t slots[] = {refs[0].slot, refs[1].slot, refs[2].slot}, from = 0;
    DO(pm_block(w.a, PM_WAIT, t.task));
    DO(pm_take_awaited(w.a, PM_WAIT, slots, 3, true, &from, &inner));
    clean(&w);
    finish(&w, &inner);
    CHECK(sealed(&w, refs[2]) && !sealed(&w, refs[0]) && !sealed(&w, refs[1]));
    from = 0;
    CHECK(pm_take_awaited(w.a, PM_WAIT, slots, 2, true, &from, &inner) == PM_ENOTFOUND);
    DO(pm_resume(w.a, PM_WAIT, t.task));
    finish(&w, &t);
    CHECK(sealed(&w, outer));
    clean(&w);
    pm_close(w.a);
}

static void leave_after_one(world *w)
{
    pm_running task;
    DO(pm_next(w->a, 0, &task));
    finish(w, &task);
    CHECK(pm_dismiss_myself(w->a, PM_WAIT) == PM_OK);
    CHECK(pm_next(w->a, 0, &task) == PM_ETIMEOUT);
    CHECK(pm_take(w->a, PM_WAIT, &task) == PM_ENOTFOUND);
}

TEST(a_worker_that_ends_after_a_task_does_not_count_any_more)
{
    world w = world_of(16 << 20, 1);
    pm_ref a = want(&w, NULL), b = want(&w, NULL);
    pid_t one = spawn(&w, leave_after_one);
    CHECK(!reap(one));
    CHECK(sealed(&w, a) && !sealed(&w, b));
    CHECK(wanted(&w, 1) == 1);
    clean(&w);
    CHECK(sweep_dead(&w) == 1);
    pm_close(w.a);
}

/* ---- deaths ------------------------------------------------------------------------------------------------ */

static void before_env(world *w)
{
    w->b->refs[0] = put(w, 1);
    w->b->refs[1] = want(w, &w->b->refs[0]);
    w->b->refs[2] = want(w, NULL);
    w->b->refs[3] = want(w, &w->b->refs[0]);
}

static void act_serve_env(world *w)
{
    pm_running t;
    CHECK(take(w, &t) && t.env);
    DO(pm_block(w->a, PM_WAIT, t.task));
    DO(pm_resume(w->a, PM_WAIT, t.task));
    pm_running next;
    finish_into(w, &t, &next);
    CHECK(next.task && next.env);
    finish(w, &next);
    CHECK(!take(w, &t));
}

/* The survivor is bound as it took its first task in some round: it runs what others leave. */
static void run_the_rest(world *w)
{
    pm_running t;
    while (take(w, &t))
        finish(w, &t);
}

static void after_env(world *w, bool died)
{
    (void)died;
    for (uint64_t i = 0; i < w->a->h->client_high.v; i++)
        CHECK(w->a->clients[i].kind.v || w->a->clients[i].env.v == 0);
    for (int i = 0; i < 2; i++) { /* one for each environment */
        reap(spawn(w, run_the_rest));
        CHECK(sweep_dead(w) == 1);
    }
    for (int i = 1; i < 4; i++) {
        CHECK(sealed(w, w->b->refs[i]));
        drop(w, w->b->refs[i]);
    }
    drop(w, w->b->refs[0]);
}

TEST(death_at_any_point_of_a_bound_worker)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.before = before_env, .act = act_serve_env, .after = after_env});
    pm_close(w.a);
}

static void act_submit_env(world *w)
{
    pm_ref env = put(w, 1), out[2];
    out[0] = want(w, &env);
    DO(ask(w, &env, true, CPU, &out[1]));
    drop(w, env);
    drop(w, out[0]);
    drop(w, out[1]);
}

static void after_submit_env(world *w, bool died)
{
    (void)died;
    reap(spawn(w, run_the_rest));
    CHECK(sweep_dead(w) == 1);
}

TEST(death_at_any_point_of_submitting_with_an_environment)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.act = act_submit_env, .after = after_submit_env});
    pm_close(w.a);
}

/* The process that counts workers is none here. */
static void step_aside(world *w)
{
    DO(pm_set_aside(w->a, PM_WAIT, w->a->slot, w->a->epoch));
}

static void act_dismiss(world *w)
{
    wanted(w, 0);
}

static void before_dismiss(world *w)
{
    pm_ref plain = want(w, NULL);
    pid_t pid = spawn(w, serve);
    AWAIT(sealed(w, plain) && idle(w, pid));
    drop(w, plain);
    CHECK(kill(pid, SIGSTOP) == 0); /* or it might be dead before the other one is swept */
    w->b->word[1] = (uint64_t)pid;
    w->b->refs[0] = put(w, 1);
    w->b->refs[1] = want(w, &w->b->refs[0]);
}

static void after_dismiss(world *w, bool died)
{
    (void)died;
    while (wanted(w, 0) && client_of(w, (pid_t)w->b->word[1])->aside.v == 0)
        continue;
    CHECK(kill((pid_t)w->b->word[1], SIGCONT) == 0);
    CHECK(!reap((pid_t)w->b->word[1]));
    CHECK(sweep_dead(w) == 1);
    reap(spawn(w, run_the_rest));
    CHECK(sweep_dead(w) == 1);
    CHECK(sealed(w, w->b->refs[1]));
    drop(w, w->b->refs[1]);
    drop(w, w->b->refs[0]);
}

TEST(death_at_any_point_of_dismissing)
{
    world w = world_of(16 << 20, 1);
    crash_sweep(&w, &(operation){.before = before_dismiss,
                                 .prepare = step_aside,
                                 .act = act_dismiss,
                                 .after = after_dismiss});
    pm_close(w.a);
}

HARNESS_MAIN
