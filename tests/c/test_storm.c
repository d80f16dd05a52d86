/* test_storm.c - everything at once, in several processes that are killed and stopped at random; pm_check() at intervals.
 *
 * STORM_SECONDS (3) and STORM_SEED (the time) are read from the environment; the seed is printed. Before a release: 600. */
#include <time.h>

#include "tasks.h"

enum { WORKERS = 3, SUBMITTERS = 2, POOL = 48, VIEWS = 6, ARRAYS = 4, DEPTH = 4, FAST = 7 };
enum { PAGE = 4096 };
static const uint64_t IN_PLACE = 0x6563616c70206e69; /* first word of an array */

/* Words of the board. */
enum { STOPPING, DONE, RETRIED, NESTED, FREED, SEALED, VIEWED };

/* Bytes that are pinned, and what they were when they were. */
typedef struct {
    uint64_t slot;
    const uint64_t *words;
    uint64_t n, sum;
} view;

typedef struct {
    world *w;
    unsigned seed;
    pm_ref pool[POOL];
    uint64_t n;
    view views[VIEWS];
    uint64_t nviews;
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

/* The second word is a number of its own, and each after it one more: so bytes of two objects that
 * were mixed up show. */
static pm_ref build(actor *x)
{
    static uint64_t words[20000];
    pm_ref refs[20];
    uint64_t n = choose(x, refs, dice(x, 4) ? 3 : 20), stamp = dice(x, UINT32_MAX) << 20;
    uint64_t most = dice(x, 6) ? 400 : 20000, size = dice(x, 3) ? 1 + dice(x, most) : 1;
    for (uint64_t i = 1; i < size; i++)
        words[i] = stamp + i;
    pm_ref ref = pending(x->w, size * 8, 99, refs, n);
    if (size > 1)
        DO(pm_write(x->w->a, ref.slot, 8, &words[1], size * 8 - 8));
    return ref;
}

static bool stamped(const view *v)
{
    for (uint64_t i = 2; i < v->n; i++)
        if (v->words[i] != v->words[1] + i - 1)
            return false;
    return true;
}

static uint64_t sum_of(const view *v)
{
    uint64_t sum = 14695981039346656037u;
    for (uint64_t i = 0; i < v->n; i++)
        sum = (sum ^ v->words[i]) * 1099511628211u;
    return sum;
}

/* Pin an object that is held, if it has a value. Arrays are written by several, so that only their
 * standing still can be seen. */
static bool look_at(const actor *x, uint64_t slot, view *out)
{
    pm_view v;
    int rc = pm_look(x->w->a, slot, &v);
    if (rc == PM_OK)
        rc = pm_pin(x->w->a, slot);
    CHECK(rc == PM_OK || rc == PM_EFREED || rc == PM_ESTATE);
    if (rc)
        return false;
    *out = (view){.slot = slot, .words = v.data, .n = v.size / 8};
    CHECK(v.state == PM_FAILED || v.size < 8 || out->words[0] == IN_PLACE || stamped(out));
    out->sum = sum_of(out);
    atomic_fetch_add(&x->w->b->word[VIEWED], 1);
    return true;
}

static void look_away(const actor *x, const view *v)
{
    CHECK(sum_of(v) == v->sum);
    pm_unpin(x->w->a, v->slot);
}

static void keep_view(actor *x, const view *v)
{
    if (x->nviews == VIEWS) {
        uint64_t i = dice(x, VIEWS);
        look_away(x, &x->views[i]);
        x->views[i] = *v;
    } else
        x->views[x->nviews++] = *v;
}

static void let_all_go(actor *x)
{
    while (x->nviews > 0)
        look_away(x, &x->views[--x->nviews]);
    let_go(x, POOL);
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
    view pinned;
    if (x->n == 0)
        return;
    uint64_t slot = x->pool[dice(x, x->n)].slot;
    if (!look_at(x, slot, &pinned))
        return;
    keep_view(x, &pinned);
    int rc = pm_look(x->w->a, slot, &v);
    if (rc == PM_EFREED || v.nrefs == 0)
        return;
    CHECK(rc == PM_OK);
    pm_ref inner = v.refs[dice(x, v.nrefs)];
    while ((rc = pm_hold(x->w->a, PM_WAIT, inner)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_OK); /* contained in what is pinned, so it lives */
    keep(x, inner);
}

static void release(actor *x)
{
    int rc;
    if (x->n == 0)
        return;
    while ((rc = pm_free(x->w->a, PM_WAIT, x->pool[dice(x, x->n)].slot)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_OK || rc == PM_ESTATE);
    atomic_fetch_add(&x->w->b->word[FREED], rc == PM_OK);
}

/* ---- arrays made in place ---------------------------------------------------------------------------------- */

static void key_of(uint64_t array, unsigned char key[PM_KEY])
{
    memset(key, 0, PM_KEY);
    key[0] = 'a';
    key[1] = (unsigned char)array;
}

/* The array with this key, or a new one. False if another process was faster. */
static bool find_or_create(actor *x, const unsigned char key[PM_KEY], pm_ref *ref)
{
    int rc;
    while ((rc = pm_find(x->w->a, PM_WAIT, key, ref)) == PM_EAGAIN)
        continue;
    if (rc == PM_OK)
        return true;
    DO(pm_create(x->w->a, PM_WAIT, (5 + dice(x, 10)) * PAGE, NULL, 0, ref));
    DO(pm_write(x->w->a, ref->slot, 0, &IN_PLACE, sizeof IN_PLACE));
    while ((rc = pm_keep(x->w->a, PM_WAIT, ref->slot, key)) == PM_EAGAIN)
        continue;
    if (rc)
        drop(x->w, *ref);
    CHECK(rc == PM_OK || rc == PM_EEXISTS);
    return rc == PM_OK;
}

static void scribble(actor *x, const pm_window *window)
{
    uint64_t from = dice(x, window->len), n = dice(x, window->len - from);
    memset(window->at + from, (int)dice(x, 256), n);
}

/* What is written after the seal is private; who views the object sees it stand still. */
static void seal_in_place(actor *x, uint64_t slot, pm_window *window)
{
    int rc = pm_close_leases(x->w->a, slot, pm__os_now() + dice(x, 500000));
    CHECK(rc == PM_OK || rc == PM_ETIMEOUT || rc == PM_ESTATE || rc == PM_EAGAIN);
    if (rc == PM_OK && dice(x, 5) == 0)
        pm_reopen(x->w->a, slot);
    else if (rc == PM_OK) {
        DO(pm_window_freeze(x->w->a, window));
        DO(pm_seal(x->w->a, PM_WAIT, slot, false));
        atomic_fetch_add(&x->w->b->word[SEALED], 1);
    }
    scribble(x, window);
}

static void forget(world *w, const unsigned char key[PM_KEY], uint64_t slot)
{
    int rc;
    while ((rc = pm_unkeep(w->a, PM_WAIT, slot, key)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_OK || rc == PM_ENOTFOUND);
}

static void write_or_view(actor *x)
{
    unsigned char key[PM_KEY];
    pm_window window;
    pm_ref ref;
    view seen;
    int rc;
    key_of(dice(x, ARRAYS), key);
    if (!find_or_create(x, key, &ref))
        return;
    keep(x, ref);
    while ((rc = pm_await_lease(x->w->a, ref.slot, 0)) == PM_EAGAIN || rc == PM_EINTR)
        continue;
    CHECK(rc == PM_OK || rc == PM_ESTATE);
    if (rc == PM_OK) {
        DO(pm_window_open(x->w->a, ref.slot, PAGE, 4 * PAGE, false, &window));
        scribble(x, &window);
        if (dice(x, 2))
            seal_in_place(x, ref.slot, &window);
        pm_window_close(&window);
        pm_unpin(x->w->a, ref.slot);
    } else if (look_at(x, ref.slot, &seen))
        keep_view(x, &seen);
    if (rc == PM_ESTATE && dice(x, 3) == 0)
        forget(x->w, key, ref.slot);
}

/* Nobody writes any more. Tasks may wait for one that is not sealed. */
static void forget_arrays(world *w)
{
    for (uint64_t i = 0; i < ARRAYS; i++) {
        unsigned char key[PM_KEY];
        pm_ref ref;
        int rc;
        key_of(i, key);
        while ((rc = pm_find(w->a, PM_WAIT, key, &ref)) == PM_EAGAIN)
            continue;
        if (rc)
            continue;
        if (pm_state(w->a, ref.slot) == PM_PENDING)
            DO(pm_seal(w->a, PM_WAIT, ref.slot, false));
        forget(w, key, ref.slot);
        drop(w, ref);
    }
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
    switch (dice(x, 11)) {
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
    case 7:
        release(x);
        break;
    case 8:
    case 9:
        write_or_view(x);
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
    let_all_go(&x);
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
        while ((rc = pm_take_awaited(x->w->a, PM_WAIT, slots, n, false, &from, &inner)) ==
               PM_EAGAIN)
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
    for (uint64_t i = 0; i < t->nargs; i++) {
        pm_ref ref = pm_argument_ref(x->w->a, t->task, i);
        view v;
        DO(pm_hold(x->w->a, PM_WAIT, ref));
        CHECK(!pm_argument(x->w->a, t->task, i).waits || state_of(x->w, ref) != PM_PENDING);
        if (look_at(x, ref.slot, &v))
            look_away(x, &v);
        drop(x->w, ref);
    }
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
    let_all_go(&x);
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
    forget_arrays(w);
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
    printf("%lu freed, %lu sealed in place, %lu viewed\n", atomic_load(&w.b->word[FREED]),
           atomic_load(&w.b->word[SEALED]), atomic_load(&w.b->word[VIEWED]));
    CHECK(atomic_load(&w.b->word[DONE]) > 0 && atomic_load(&w.b->word[SEALED]) > 0);
    pm_close(w.a);
}

HARNESS_MAIN
