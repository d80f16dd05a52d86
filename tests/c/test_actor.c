/* test_actor.c - actors: order of calls, scope, restarts, and deaths on either side. */
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>

#include "tasks.h"

enum { CALLS = 5 };

/* ---- both sides ------------------------------------------------------------------------------ */

typedef struct {
    pm_ref mailbox, obituary;
} actor;

static actor create_spec(const world *w, uint64_t restarts, bool unordered, uint64_t limit)
{
    pm_ref function = put(w, 77), out[2];
    const pm_task_spec spec = {.function = function.slot,
                               .name = "an actor",
                               .packed = -1,
                               .nrets = 2,
                               .hosted = true,
                               .alone = true,
                               .unordered = unordered,
                               .most_calls = limit,
                               .cpu = CPU,
                               .retries = restarts};
    DO(submit_spec(w, &spec, out));
    drop(w, function);
    return (actor){out[0], out[1]};
}

static actor create(const world *w, uint64_t restarts)
{
    return create_spec(w, restarts, false, 0);
}

static int try_call(const world *w, pm_ref mailbox, const char *name, const pm_ref *arg,
                    uint64_t retries, pm_ref *out)
{
    const pm_task_argument given = {.slot = arg ? arg->slot : 0, .waits = true};
    const pm_task_spec spec = {.function = mailbox.slot,
                               .name = name,
                               .packed = -1,
                               .args = &given,
                               .nargs = arg != NULL,
                               .nrets = 1,
                               .retries = retries};
    return submit_spec(w, &spec, out);
}

static pm_ref call(const world *w, pm_ref mailbox, const char *name, const pm_ref *arg,
                   uint64_t retries)
{
    pm_ref out;
    DO(try_call(w, mailbox, name, arg, retries, &out));
    return out;
}

static pm_running host(const world *w)
{
    pm_running t;
    CHECK(take(w, &t) && t.hosted && !t.call && t.nrets == 1);
    return t;
}

/* The host's next call, of this name. */
static void serve(const world *w, const char *name)
{
    pm_running t;
    CHECK(take(w, &t) && t.call && !t.hosted);
    CHECK(strcmp(t.name, name) == 0);
    finish(w, &t);
}

/* The actor ends, and this process is no host any more, as if it were the next one. */
static void end_actor(const world *w, const pm_running *t)
{
    pm_op op;
    finish(w, t);
    DO(pm__enter(&op, w->a, PM_WAIT));
    pm_set(&w->a->lock, &w->a->h->hosts, w->a->h->hosts.v - 1);
    pm_set(&w->a->lock, &pm__me(w->a)->hosts, 0);
    DO(pm__leave(&op));
}

static bool idle(const world *w)
{
    pm_running t;
    return !take(w, &t);
}

static int next_within(const world *w, uint64_t ns, pm_running *t)
{
    int rc;
    while ((rc = pm_next(w->a, pm__os_now() + ns, t)) == PM_EAGAIN)
        continue;
    return rc;
}

static unsigned char tag_of(const world *w, pm_ref ref)
{
    pm_view v;
    DO(pm_look(w->a, ref.slot, &v));
    CHECK(v.state == PM_FAILED && v.is_inline);
    return *(const unsigned char *)v.data;
}

/* The call failed because its actor is dead, and names the obituary. */
static void check_bereaved(const world *w, pm_ref ref, actor of)
{
    pm_view v;
    CHECK(tag_of(w, ref) == PM_TAG_BEREAVED);
    DO(pm_look(w->a, ref.slot, &v));
    CHECK(v.nrefs == 1 && v.refs[0].slot == of.obituary.slot &&
          v.refs[0].generation == of.obituary.generation);
    CHECK(pm_state(w->a, of.obituary.slot) != PM_PENDING);
}

static void drop_actor(const world *w, actor of)
{
    drop(w, of.mailbox);
    drop(w, of.obituary);
}

/* ---- calls ----------------------------------------------------------------------------------- */

TEST(calls_run_in_order_and_on_the_host_only)
{
    world w = world_new();
    pm_stats then = stats(&w);
    actor a = create(&w, 0);
    pm_ref early = call(&w, a.mailbox, "early", NULL, 0);
    clean(&w);
    pm_running t = host(&w);
    pm_ref task = submit_one(&w), late = call(&w, a.mailbox, "late", NULL, 0);
    clean(&w);
    serve(&w, "early");
    serve(&w, "late");
    CHECK(idle(&w)); /* the task is not for a host */
    clean(&w);
    pm_actor_info info;
    DO(pm_actor_look(w.a, PM_WAIT, a.mailbox.slot, &info));
    CHECK(!info.dead && info.serial == t.serial && info.calls == 0 &&
          info.pid == (uint64_t)getpid());
    end_actor(&w, &t);
    DO(pm_actor_look(w.a, PM_WAIT, a.mailbox.slot, &info));
    CHECK(info.dead);
    drop(&w, early);
    drop(&w, late);
    drop_actor(&w, a);
    clean(&w);
    DO(pm_cancel(w.a, task.slot, 0));
    drop(&w, task);
    same(&w, then);
    pm_close(w.a);
}

/* Hosts an actor, serves its calls, and ends when it is told to. */
static void host_to_the_end(world *w)
{
    pm_running t = host(w), one = {0};
    int rc;
    while ((rc = pm_next(w->a, 0, &one)) != PM_EDROPPED) {
        CHECK((rc == PM_OK && one.call) || rc == PM_EAGAIN);
        if (rc == PM_OK) {
            w->b->word[1]++;
            AWAIT(w->b->word[2]);
            finish(w, &one);
        }
    }
    finish(w, &t);
}

TEST(a_host_is_told_when_nobody_can_call_it)
{
    world w = world_new();
    pm_stats then = stats(&w);
    actor a = create(&w, 0);
    pid_t pid = spawn(&w, host_to_the_end);
    drop(&w, a.obituary);
    AWAIT(pm__mailbox(w.a, a.mailbox.slot + 1)->host.v);
    pm_ref last = call(&w, a.mailbox, "last", NULL, 0);
    drop(&w, a.mailbox);
    AWAIT(w.b->word[1]);
    clean(&w);
    w.b->word[2] = 1; /* only now: the call keeps it */
    CHECK(!reap(pid));
    CHECK(value_of(&w, last) == (uint64_t)1 << 32);
    drop(&w, last);
    sweep_dead(&w);
    clean(&w);
    same(&w, then);
    pm_close(w.a);
}

typedef struct {
    pm_arena *a;
    pm_relay relay;
} polling;

static void *relaying(void *arg)
{
    polling *p = arg;
    CHECK(pm_relay_run(p->a, &p->relay) == PM_OK);
    return NULL;
}

/* The same as an event loop does, which listens to a pipe, too: word 3 counts what came that way. */
static void host_that_polls(world *w)
{
    polling p = {w->a, {.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)}};
    pm_running t = host(w), one = {0};
    pthread_t thread;
    char byte;
    int rc, fd = (int)w->b->word[4];
    CHECK(!pthread_create(&thread, NULL, relaying, &p));
    while ((rc = pm_try_next(w->a, &one)) != PM_EDROPPED) {
        CHECK((rc == PM_OK && one.call) || rc == PM_EAGAIN || rc == PM_ENOTFOUND);
        if (rc == PM_OK) {
            finish(w, &one);
            w->b->word[1]++;
        } else if (rc == PM_ENOTFOUND) {
            CHECK(pm_poll(w->a, &p.relay, fd, -1) == PM_OK);
            while (read(fd, &byte, 1) == 1)
                w->b->word[3]++;
        }
    }
    pm_relay_dismiss(w->a, &p.relay);
    CHECK(!pthread_join(thread, NULL));
    close(p.relay.fd);
    finish(w, &t);
}

TEST(a_relay_whose_eventfd_is_another_file_says_so)
{
    world w = world_new();
    pm_relay r = {.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    char byte;
    int pipe_[2];
    CHECK(!pipe2(pipe_, O_CLOEXEC | O_NONBLOCK));
    CHECK(write(pipe_[1], "", 1) == 1);
    CHECK(dup2(pipe_[0], r.fd) == r.fd);
    CHECK(pm_poll(w.a, &r, pipe_[1], -1) == PM_ESYS && errno == EBADF);
    CHECK(read(pipe_[0], &byte, 1) == 1); /* it is still there */
    CHECK(dup2(pipe_[1], r.fd) == r.fd);
    CHECK(pm_relay_run(w.a, &r) == PM_ESYS && errno == EBADF);
    CHECK(read(pipe_[0], &byte, 1) < 0); /* nothing has rung */
    close(pipe_[0]);
    close(pipe_[1]);
    close(r.fd);
    pm_close(w.a);
}

TEST(a_host_that_polls_hears_calls_and_descriptors)
{
    enum { ROUNDS = 300 };
    world w = world_new();
    pm_stats then = stats(&w);
    int pipe_[2];
    CHECK(!pipe2(pipe_, O_CLOEXEC | O_NONBLOCK));
    w.b->word[4] = (uint64_t)pipe_[0];
    actor a = create(&w, 0);
    pid_t pid = spawn(&w, host_that_polls);
    drop(&w, a.obituary);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        pm_ref ref = call(&w, a.mailbox, "call", NULL, 0);
        if (i % 2) /* it is in the middle of a look, a spin, or a sleep */
            usleep((useconds_t)(i * 7 % 300));
        CHECK(write(pipe_[1], "", 1) == 1);
        AWAIT(w.b->word[1] == i + 1 && w.b->word[3] == i + 1);
        drop(&w, ref);
    }
    drop(&w, a.mailbox);
    CHECK(!reap(pid));
    sweep_dead(&w);
    clean(&w);
    same(&w, then);
    close(pipe_[0]);
    close(pipe_[1]);
    pm_close(w.a);
}

static void submit_waiting(const world *w, pm_ref mailbox, pm_ref *args, pm_ref *calls)
{
    static const char *const NAMES[CALLS] = {"0", "1", "2", "3", "4"};
    for (int i = 0; i < CALLS; i++) {
        args[i] = i % 2 ? put(w, 1) : pending(w, 8, 1, NULL, 0);
        calls[i] = call(w, mailbox, NAMES[i], &args[i], 0);
        clean(w);
    }
}

static void seal(const world *w, pm_ref ref)
{
    DO(pm_seal(w->a, PM_WAIT, ref.slot, false));
}

TEST(a_call_waits_for_those_before_it)
{
    world w = world_new();
    pm_stats then = stats(&w);
    for (int cancelled = -1; cancelled < CALLS; cancelled++) {
        pm_ref args[CALLS], calls[CALLS];
        actor a = create(&w, 0);
        pm_running t = host(&w);
        submit_waiting(&w, a.mailbox, args, calls);
        CHECK(idle(&w));
        seal(&w, args[4]);
        seal(&w, args[2]);
        clean(&w);
        CHECK(idle(&w));
        if (cancelled >= 0)
            DO(pm_cancel(w.a, calls[cancelled].slot, 0));
        clean(&w);
        seal(&w, args[0]);
        clean(&w);
        for (int i = 0; i < CALLS; i++) {
            char name[2] = {(char)('0' + i), 0};
            if (i == cancelled)
                CHECK(tag_of(&w, calls[i]) == PM_TAG_CANCELLED);
            else
                serve(&w, name);
            clean(&w);
        }
        CHECK(idle(&w));
        end_actor(&w, &t);
        for (int i = 0; i < CALLS; i++) {
            drop(&w, args[i]);
            drop(&w, calls[i]);
        }
        drop_actor(&w, a);
        same(&w, then);
        clean(&w);
    }
    pm_close(w.a);
}

TEST(an_unordered_actor_takes_what_is_ready)
{
    world w = world_new();
    pm_ref args[CALLS], calls[CALLS];
    actor a = create_spec(&w, 0, true, 0);
    pm_running t = host(&w);
    submit_waiting(&w, a.mailbox, args, calls);
    serve(&w, "1");
    serve(&w, "3");
    CHECK(idle(&w));
    seal(&w, args[4]);
    serve(&w, "4");
    end_actor(&w, &t);
    seal(&w, args[0]); /* calls of a dead actor fail as they come */
    seal(&w, args[2]);
    check_bereaved(&w, calls[0], a);
    check_bereaved(&w, calls[2], a);
    clean(&w);
    pm_close(w.a);
}

TEST(many_calls_wait_for_one)
{
    enum { MANY = 1000 };
    world w = world_new();
    pm_ref arg = pending(&w, 8, 1, NULL, 0), *refs = calloc(MANY, sizeof *refs);
    actor a = create(&w, 0);
    pm_running t = host(&w), one;
    for (int i = 0; i < MANY; i++)
        refs[i] = call(&w, a.mailbox, "many", i ? NULL : &arg, 0);
    clean(&w);
    CHECK(idle(&w));
    seal(&w, arg);
    clean(&w);
    for (int i = 0; i < MANY; i++) {
        CHECK(take(&w, &one) && one.serial == t.serial + 1 + (uint64_t)i);
        finish(&w, &one);
    }
    clean(&w);
    free(refs);
    pm_close(w.a);
}

TEST(no_more_calls_than_allowed)
{
    world w = world_new();
    actor a = create_spec(&w, 0, false, 2);
    pm_ref refs[3];
    pm_running t = host(&w);
    refs[0] = call(&w, a.mailbox, "a", NULL, 0);
    refs[1] = call(&w, a.mailbox, "b", NULL, 0);
    CHECK(try_call(&w, a.mailbox, "c", NULL, 0, &refs[2]) == PM_ECROWDED);
    clean(&w);
    serve(&w, "a");
    refs[2] = call(&w, a.mailbox, "c", NULL, 0);
    clean(&w);
    end_actor(&w, &t);
    check_bereaved(&w, refs[1], a);
    check_bereaved(&w, refs[2], a);
    pm_close(w.a);
}

TEST(killed_before_it_started)
{
    world w = world_new();
    pm_stats then = stats(&w);
    actor a = create(&w, PM_RETRY_ALWAYS);
    pm_ref before = call(&w, a.mailbox, "before", NULL, 3);
    DO(pm_cancel(w.a, a.mailbox.slot, PM_CANCEL_FORCE));
    pm_ref after = call(&w, a.mailbox, "after", NULL, 3);
    check_bereaved(&w, before, a);
    check_bereaved(&w, after, a);
    CHECK(tag_of(&w, a.obituary) == PM_TAG_CANCELLED);
    CHECK(idle(&w));
    clean(&w);
    drop_actor(&w, a);
    drop(&w, before);
    drop(&w, after);
    same(&w, then);
    pm_close(w.a);
}

TEST(its_name_is_free_when_it_ends)
{
    world w = world_new();
    pm_stats then = stats(&w);
    const unsigned char key[PM_KEY] = "a name";
    for (int kept = 0; kept < 2; kept++) {
        actor a = create(&w, 0);
        if (kept)
            DO(pm_keep(w.a, PM_WAIT, a.mailbox.slot, key));
        else
            DO(pm_name(w.a, PM_WAIT, a.mailbox.slot, key));
        drop_actor(&w, a);
        clean(&w);
        pm_running t = host(&w), none;
        CHECK(next_within(&w, 1000, &none) == (kept ? PM_ETIMEOUT : PM_EDROPPED));
        pm_ref found;
        if (kept) {
            DO(pm_find(w.a, PM_WAIT, key, &found));
            end_actor(&w, &t);
            drop(&w, found);
        } else
            end_actor(&w, &t);
        CHECK(pm_find(w.a, PM_WAIT, key, &found) == PM_ENOTFOUND);
        clean(&w);
        same(&w, then);
    }
    pm_close(w.a);
}

/* ---- deaths of the host ---------------------------------------------------------------------- */

/* Hosts, serves word[0] calls, and dies in the next one. */
static void host_and_die(world *w)
{
    pm_running t;
    while (!take(w, &t))
        usleep(100);
    CHECK(t.hosted);
    for (uint64_t i = 0; i < w->b->word[0]; i++) {
        pm_running one;
        while (!take(w, &one))
            usleep(100);
        finish(w, &one);
    }
    while (!take(w, &t))
        usleep(100);
    w->b->word[1] = 1;
    pause();
}

TEST(death_without_restarts)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref refs[4];
    actor a = create(&w, 0);
    for (int i = 0; i < 4; i++)
        refs[i] = call(&w, a.mailbox, "call", NULL, 5);
    w.b->word[0] = 1;
    pid_t pid = spawn(&w, host_and_die);
    AWAIT(w.b->word[1]);
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    clean(&w);
    CHECK(tag_of(&w, a.obituary) == PM_TAG_CRASH);
    CHECK(state_of(&w, refs[0]) == PM_SEALED);
    for (int i = 1; i < 4; i++)
        check_bereaved(&w, refs[i], a);
    for (int i = 0; i < 4; i++)
        drop(&w, refs[i]);
    drop_actor(&w, a);
    same(&w, then);
    pm_close(w.a);
}

TEST(death_with_restarts)
{
    world w = world_new();
    pm_stats then = stats(&w);
    for (uint64_t retries = 0; retries < 2; retries++) {
        pm_ref refs[4];
        static const char *const NAMES[] = {"0", "1", "2", "3"};
        actor a = create(&w, 1);
        for (int i = 0; i < 4; i++)
            refs[i] = call(&w, a.mailbox, NAMES[i], NULL, retries);
        w.b->word[0] = 1;
        w.b->word[1] = 0;
        pid_t pid = spawn(&w, host_and_die);
        AWAIT(w.b->word[1]);
        slay(pid);
        CHECK(sweep_dead(&w) == 1);
        clean(&w);
        pm_running t = host(&w);
        CHECK(t.attempt == 2 && t.retries == 0);
        if (retries)
            serve(&w, "1");
        else
            CHECK(tag_of(&w, refs[1]) == PM_TAG_UNAVAILABLE);
        serve(&w, "2");
        serve(&w, "3");
        end_actor(&w, &t);
        clean(&w);
        for (int i = 0; i < 4; i++)
            drop(&w, refs[i]);
        drop_actor(&w, a);
        same(&w, then);
    }
    pm_close(w.a);
}

/* ---- crash sweeps ---------------------------------------------------------------------------- */

static void act_create_and_call(world *w)
{
    pm_ref arg = submit_one(w), refs[3];
    actor a = create(w, 0);
    pm_running t;
    for (int i = 0; i < 3; i++)
        refs[i] = call(w, a.mailbox, "call", i == 1 ? &arg : NULL, 0);
    CHECK(take(w, &t) && !t.hosted);
    finish(w, &t);
    for (int i = 0; i < 3; i++)
        drop(w, refs[i]);
    drop_actor(w, a);
    drop(w, arg);
}

/* What a dead creator leaves: an actor that may be taken, runs its calls, and is not wanted. */
static void after_create(world *w, bool died)
{
    pm_running t, one;
    (void)died;
    while (take(w, &t) && !t.hosted)
        finish(w, &t);
    if (!pm__served(w->a))
        return;
    while (take(w, &one))
        finish(w, &one);
    if (stats(w).ready == 0) /* else the argument is made once more, and a call waits for it */
        CHECK(next_within(w, 1000, &one) == PM_EDROPPED);
    end_actor(w, &t);
    run_all(w);
}

TEST(death_in_creating_and_calling)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.act = act_create_and_call, .after = after_create});
    pm_close(w.a);
}

static actor open_actor(const world *w)
{
    return (actor){w->b->refs[0], w->b->refs[1]};
}

static void before_calls(world *w)
{
    actor a = create(w, w->b->word[2]);
    w->b->refs[0] = a.mailbox;
    w->b->refs[1] = a.obituary;
    for (int i = 0; i < CALLS; i++)
        w->b->refs[2 + i] = call(w, a.mailbox, "call", NULL, w->b->word[3]);
}

static void act_serve(world *w)
{
    pm_running t = host(w);
    for (int i = 0; i < CALLS - 1; i++)
        serve(w, "call");
    finish(w, &t);
}

static void after_serve(world *w, bool died)
{
    actor a = open_actor(w);
    pm_running t;
    (void)died;
    bool again = take(w, &t);
    if (again) {
        CHECK(t.hosted && t.attempt <= 2);
        pm_running one;
        while (take(w, &one))
            finish(w, &one);
        end_actor(w, &t);
    }
    clean(w);
    for (int i = 0; i < CALLS; i++) {
        pm_ref ref = w->b->refs[2 + i];
        if (state_of(w, ref) == PM_SEALED)
            CHECK((value_of(w, ref) & 0xffffffff) == 0);
        else if (tag_of(w, ref) != PM_TAG_UNAVAILABLE)
            check_bereaved(w, ref, a);
        else
            CHECK(w->b->word[2] && !w->b->word[3]);
        drop(w, ref);
    }
    CHECK(state_of(w, a.obituary) != PM_PENDING);
    drop_actor(w, a);
}

TEST(death_in_hosting)
{
    world w = world_new();
    for (uint64_t i = 0; i < 4; i++) {
        w.b->word[2] = i & 1;
        w.b->word[3] = i >> 1;
        crash_sweep(&w,
                    &(operation){.before = before_calls, .act = act_serve, .after = after_serve});
    }
    pm_close(w.a);
}

static void act_kill(world *w)
{
    pm_ref ref = open_actor(w).mailbox;
    DO(pm_hold(w->a, PM_WAIT, ref));
    DO(pm_cancel(w->a, ref.slot, PM_CANCEL_FORCE));
    drop(w, ref);
}

TEST(death_in_killing)
{
    world w = world_new();
    w.b->word[2] = w.b->word[3] = 1;
    crash_sweep(&w, &(operation){.before = before_calls, .act = act_kill, .after = after_serve});
    pm_close(w.a);
}

HARNESS_MAIN
