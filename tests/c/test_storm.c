/* test_storm.c - everything at once, in several processes that are killed and stopped at random; pm_check() at intervals.
 *
 * STORM_SECONDS (3) and STORM_SEED (the time) are read from the environment; the seed is printed. Before a release: 600. */
#include <time.h>

#include "tasks.h"

enum { WORKERS = 3, SUBMITTERS = 2, POOL = 48, DEPTH = 4, FAST = 7 };

/* Words of the board. */
enum { STOPPING, DONE, RETRIED, NESTED };

typedef struct {
    world *w;
    unsigned seed;
    pm_ref pool[POOL];
    uint64_t n;
} actor;

static uint64_t dice(actor *x, uint64_t sides)
{
    return (uint64_t)rand_r(&x->seed) % sides;
}

/* ---- what both kinds do ------------------------------------------------------------------------------------ */

static void keep(actor *x, pm_ref ref)
{
    if (x->n == POOL) {
        uint64_t i = dice(x, POOL);
        drop(x->w, x->pool[i]);
        x->pool[i] = ref;
    } else
        x->pool[x->n++] = ref;
}

static void let_go(actor *x, uint64_t n)
{
    for (; n > 0 && x->n > 0; n--) {
        uint64_t i = dice(x, x->n);
        drop(x->w, x->pool[i]);
        x->pool[i] = x->pool[--x->n];
    }
}

static uint64_t choose(actor *x, pm_ref *out, uint64_t most)
{
    uint64_t n = x->n ? dice(x, most + 1) : 0;
    for (uint64_t i = 0; i < n; i++)
        out[i] = x->pool[dice(x, x->n)];
    return n;
}

static pm_ref build(actor *x)
{
    pm_ref refs[20];
    uint64_t n = choose(x, refs, dice(x, 4) ? 3 : 20);
    return pending(x->w, dice(x, 3) ? 8 + dice(x, 3000) : 8, 99, refs, n);
}

static void submit_some(actor *x, uint64_t most_args, pm_ref *out, uint64_t *nrets)
{
    pm_ref refs[40], function = put(x->w, 1);
    pm_task_argument args[40];
    uint64_t n = choose(x, refs, most_args);
    for (uint64_t i = 0; i < n; i++)
        args[i] = (pm_task_argument){refs[i].slot, dice(x, 2)};
    *nrets = dice(x, 10) ? dice(x, 4) : dice(x, 40);
    const pm_task_spec spec = {.function = function.slot,
                               .name = "storm",
                               .payload = "",
                               .packed = -1,
                               .args = args,
                               .nargs = n,
                               .nrets = *nrets,
                               .cpu = dice(x, 4) ? CPU : dice(x, 2) * CPU / 2,
                               .retries = dice(x, 4)};
    DO(submit_spec(x->w, &spec, out));
    drop(x->w, function);
}

/* Look into a sealed object and at what it contains. */
static void explore(actor *x)
{
    pm_view v;
    if (x->n == 0 || pm_look(x->w->a, x->pool[dice(x, x->n)].slot, &v) != PM_OK || v.nrefs == 0)
        return;
    pm_ref inner = v.refs[dice(x, v.nrefs)];
    int rc;
    while ((rc = pm_hold(x->w->a, PM_WAIT, inner)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_OK); /* contained, so it lives */
    keep(x, inner);
}

static void name_or_find(actor *x)
{
    unsigned char key[PM_KEY] = "storm";
    pm_ref found;
    int rc;
    key[10] = (unsigned char)dice(x, 8);
    if (dice(x, 2) && x->n)
        while ((rc = pm_name(x->w->a, PM_WAIT, x->pool[dice(x, x->n)].slot, key)) == PM_EAGAIN)
            continue;
    else {
        while ((rc = pm_find(x->w->a, PM_WAIT, key, &found)) == PM_EAGAIN)
            continue;
        if (rc == PM_OK)
            keep(x, found);
    }
    CHECK(rc == PM_OK || rc == PM_EEXISTS || rc == PM_ENOTFOUND);
}

static void wait_for_some(actor *x)
{
    uint64_t slots[10], n = x->n ? dice(x, 10) : 0;
    for (uint64_t i = 0; i < n; i++)
        slots[i] = x->pool[dice(x, x->n)].slot;
    int rc;
    while ((rc = pm_wait(x->w->a, slots, n, n ? 1 + dice(x, n) : 0, pm__os_now() + dice(x, 3000000),
                         false)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_OK || rc == PM_ETIMEOUT);
}

/* ---- submitters -------------------------------------------------------------------------------------------- */

static void act(actor *x)
{
    pm_ref out[40];
    uint64_t n;
    switch (dice(x, 8)) {
    case 0:
        keep(x, put(x->w, dice(x, 1000)));
        break;
    case 1: {
        pm_ref ref = build(x);
        DO(pm_seal(x->w->a, PM_WAIT, ref.slot, dice(x, 5) == 0));
        keep(x, ref);
        break;
    }
    case 2:
    case 3:
        if (stats(x->w).tasks > 500)
            break;
        submit_some(x, dice(x, 5) ? 3 : 40, out, &n);
        for (uint64_t i = 0; i < n; i++)
            keep(x, out[i]);
        break;
    case 4:
        wait_for_some(x);
        break;
    case 5:
        let_go(x, dice(x, 10));
        break;
    case 6:
        explore(x);
        break;
    default:
        name_or_find(x);
    }
}

/* Half of them die at a point of their own; the others when they are killed. */
static void arm(actor *x)
{
    if (dice(x, 2))
        pm_crash_arm(1 + dice(x, dice(x, 2) ? 300 : 20000));
}

static void run_submitter(world *w)
{
    actor x = {.w = w, .seed = (unsigned)getpid()};
    arm(&x);
    while (!atomic_load(&w->b->word[STOPPING]))
        act(&x);
    let_go(&x, POOL);
    pm_crash_arm(0);
}

/* ---- workers ----------------------------------------------------------------------------------------------- */

static void run_task(actor *x, const pm_running *t, uint64_t depth);

/* Inside a task: submit others and wait for them, running here what is queued. */
static void nest(actor *x, uint64_t task, uint64_t depth)
{
    pm_ref out[40];
    uint64_t n, slots[40], from;
    pm_running inner;
    int rc;
    submit_some(x, 0, out, &n);
    for (uint64_t i = 0; i < n; i++)
        slots[i] = out[i].slot;
    DO(pm_block(x->w->a, PM_WAIT, task));
    do {
        from = 0;
        while ((rc = pm_take_awaited(x->w->a, PM_WAIT, slots, n, &from, &inner)) == PM_EAGAIN)
            continue;
        if (rc == PM_OK)
            run_task(x, &inner, depth + 1);
        while ((rc = pm_wait(x->w->a, slots, n, n, 0, true)) == PM_EAGAIN)
            continue;
    } while (rc == PM_EWORK);
    CHECK(rc == PM_OK);
    DO(pm_resume(x->w->a, PM_WAIT, task));
    if (n)
        attempt_of(x->w, out, n);
    for (uint64_t i = 0; i < n; i++)
        drop(x->w, out[i]);
    atomic_fetch_add(&x->w->b->word[NESTED], 1);
}

static void read_arguments(const actor *x, const pm_running *t)
{
    pm_view v;
    for (uint64_t i = 0; i < t->nargs; i++)
        if (pm_argument(x->w->a, t->task, i).waits)
            DO(pm_look(x->w->a, pm_argument(x->w->a, t->task, i).slot, &v));
}

/* Half of the results inline, half as objects with references to others. */
static void end_task(actor *x, const pm_running *t)
{
    pm_result r[40];
    uint64_t values[40];
    bool objects = dice(x, 3) == 0;
    for (uint64_t i = 0; i < t->nrets; i++) {
        values[i] = t->attempt << 32 | i;
        r[i] = (pm_result){.data = &values[i], .len = 8};
        if (objects && i % 2) {
            pm_ref object = build(x);
            DO(pm_write(x->w->a, object.slot, 0, &values[i], 8));
            r[i] = (pm_result){.object = object.slot};
        }
    }
    DO(pm_finish(x->w->a, PM_WAIT, t->task, r, NULL));
    for (uint64_t i = 1; objects && i < t->nrets; i += 2)
        pm_drop(x->w->a, r[i].object);
    atomic_fetch_add(&x->w->b->word[DONE], 1);
}

static void run_task(actor *x, const pm_running *t, uint64_t depth)
{
    read_arguments(x, t);
    if (depth < DEPTH && dice(x, 5) == 0)
        nest(x, t->task, depth);
    if (t->retries && dice(x, 8) == 0) {
        DO(pm_retry(x->w->a, PM_WAIT, t->task));
        atomic_fetch_add(&x->w->b->word[RETRIED], 1);
        return;
    }
    if (dice(x, 4) == 0)
        keep(x, put(x->w, 5));
    if (dice(x, 10) == 0)
        usleep((useconds_t)dice(x, 300));
    end_task(x, t);
    let_go(x, dice(x, 3));
}

static void run_worker(world *w)
{
    actor x = {.w = w, .seed = (unsigned)getpid()};
    pm_running t;
    int rc;
    arm(&x);
    for (;;) {
        while ((rc = pm_next(w->a, 0, &t)) == PM_EAGAIN || rc == PM_EINTR)
            continue;
        if (rc == PM_EGONE)
            break;
        CHECK(rc == PM_OK);
        run_task(&x, &t, 0);
        if (atomic_load(&w->b->word[STOPPING]))
            pm_crash_arm(0);
    }
    let_go(&x, POOL);
}

/* ---- the storm --------------------------------------------------------------------------------------------- */

static pid_t start(world *w, int i)
{
    return i < WORKERS ? spawn(w, run_worker) : spawn_kind(w, PM_GUEST, run_submitter);
}

/* Whether it ended; if not by a death we meant, the test has failed. */
static bool ended(pid_t pid)
{
    int status;
    pid_t got = waitpid(pid, &status, WNOHANG);
    if (got == pid && status && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)) {
        fprintf(stderr, "process %d ended with status %#x\n", (int)pid, (unsigned)status);
        CHECK(false);
    }
    return got == pid;
}

static int replace_the_dead(world *w, pid_t pid[])
{
    int n = 0;
    for (int i = 0; i < WORKERS + SUBMITTERS; i++) {
        if (!ended(pid[i]))
            continue;
        sweep_dead(w);
        pid[i] = start(w, i);
        n++;
    }
    return n;
}

static void strike(pid_t pid, unsigned *seed)
{
    if (rand_r(seed) % 3) {
        kill(pid, SIGKILL);
        return;
    }
    kill(pid, SIGSTOP);
    usleep((useconds_t)(rand_r(seed) % 30000));
    kill(pid, SIGCONT);
}

/* No more deaths: what was submitted must end. */
static void calm_down(world *w, pid_t pid[])
{
    atomic_store(&w->b->word[STOPPING], 1);
    for (int i = WORKERS; i < WORKERS + SUBMITTERS; i++)
        while (!ended(pid[i]))
            usleep(1000);
    sweep_dead(w);
    for (int tries = 0; stats(w).tasks; tries++) {
        replace_the_dead(w, pid);
        usleep(1000);
        if (tries == 20000) {
            char *text;
            DO(pm_dump(w->a, 50, &text));
            fprintf(stderr, "tasks are left that nobody runs:\n%s", text);
            CHECK(false);
        }
    }
    DO(pm_end(w->a));
    for (int i = 0; i < WORKERS; i++)
        while (!ended(pid[i]))
            usleep(1000);
    sweep_dead(w);
}

static unsigned from_environment(const char *name, unsigned otherwise)
{
    const char *s = getenv(name);
    return s ? (unsigned)strtoul(s, NULL, 0) : otherwise;
}

TEST(survivors_go_on_and_nothing_leaks)
{
    unsigned seed = from_environment("STORM_SEED", (unsigned)time(NULL));
    uint64_t until = pm__os_now() + from_environment("STORM_SECONDS", 3) * UINT64_C(1000000000);
    world w = world_of(64 << 20, 2);
    pm_stats then = stats(&w);
    pid_t pid[WORKERS + SUBMITTERS];
    unsigned deaths = 0, checks = 0;
    printf("STORM_SEED=%u\n", seed);
    for (int i = 0; i < WORKERS + SUBMITTERS; i++)
        pid[i] = start(&w, i);
    for (uint64_t progress = 0; pm__os_now() < until; checks++) {
        usleep((useconds_t)(rand_r(&seed) % 12000));
        strike(pid[rand_r(&seed) % (WORKERS + SUBMITTERS)], &seed);
        deaths += (unsigned)replace_the_dead(&w, pid);
        if (checks % FAST == 0)
            clean(&w);
        CHECK(atomic_load(&w.b->word[DONE]) >= progress);
        progress = atomic_load(&w.b->word[DONE]);
    }
    calm_down(&w, pid);
    clean(&w);
    same(&w, then);
    printf("%u deaths, %lu tasks, %lu retried, %lu nested, %lu repairs\n", deaths,
           atomic_load(&w.b->word[DONE]), atomic_load(&w.b->word[RETRIED]),
           atomic_load(&w.b->word[NESTED]), stats(&w).repairs);
    CHECK(atomic_load(&w.b->word[DONE]) > 0);
    pm_close(w.a);
}

HARNESS_MAIN
