/* test_events.c - what became of tasks is told, in order, of the latest, whoever died. */
#include <signal.h>

#include "tasks.h"

static uint64_t events(const world *w, uint64_t from, pm_event *out, uint64_t most)
{
    uint64_t n = most;
    CHECK(pm_events(w->a, &from, out, &n) == PM_ENOTFOUND);
    return n;
}

TEST(each_attempt_leaves_an_event)
{
    world w = world_new();
    pm_running t;
    pm_ref out;
    pm_event e[10];
    submit(&w, NULL, 0, 1, 1, &out);
    CHECK(take(&w, &t));
    pm_account_for(w.a, 7, 8, "ValueError: no");
    DO(pm_retry(w.a, PM_WAIT, t.task));
    CHECK(take(&w, &t));
    pm_account_for(w.a, 9, 10, "");
    finish(&w, &t);
    CHECK(events(&w, 0, e, 10) == 2);
    for (int i = 0; i < 2; i++) {
        CHECK(e[i].serial == t.serial && e[i].parent == 0 && e[i].attempt == (uint64_t)i + 1);
        CHECK(e[i].pid == (uint64_t)getpid() && strcmp(e[i].name, "a task") == 0);
        CHECK(e[i].submitted && e[i].submitted <= e[i].started && e[i].started <= e[i].ended);
    }
    CHECK(e[0].outcome == PM_RETRIED && strcmp(e[0].error, "ValueError: no") == 0);
    CHECK(e[0].began == 7 && e[0].returned == 8 && e[1].began == 9 && e[1].returned == 10);
    CHECK(e[1].outcome == PM_FINISHED && e[1].error[0] == 0);
    CHECK(events(&w, 2, e, 10) == 1 && e[0].attempt == 2);
    drop(&w, out);
    clean(&w);
    pm_close(w.a);
}

TEST(quiet_tasks_leave_none)
{
    world w = world_new();
    pm_ref function = put(&w, 1);
    const pm_task_spec spec = {
        .function = function.slot, .name = "quiet", .packed = -1, .cpu = CPU, .quiet = true};
    DO(submit_spec(&w, &spec, NULL));
    CHECK(run_all(&w) == 1);
    CHECK(events(&w, 0, (pm_event[1]){0}, 1) == 0);
    pm_close(w.a);
}

TEST(the_latest_are_kept)
{
    world w = world_new();
    static pm_event e[PM_EVENTS];
    const uint64_t all = PM_EVENTS + 100;
    for (uint64_t i = 0; i < all; i++) {
        drop(&w, submit_one(&w));
        CHECK(run_all(&w) == 1);
    }
    uint64_t n = events(&w, 0, e, PM_EVENTS);
    CHECK(n == PM_EVENTS && e[0].serial == 101 && e[n - 1].serial == all);
    for (uint64_t i = 1; i < n; i++)
        CHECK(e[i].serial == e[i - 1].serial + 1);
    pm_close(w.a);
}

static void take_and_wait(world *w)
{
    pm_running t;
    DO(pm_next(w->a, 0, &t));
    w->b->word[0] = 1;
    pause();
}

TEST(a_death_is_an_outcome)
{
    world w = world_new();
    pm_event e[3];
    pm_ref out;
    submit(&w, NULL, 0, 1, 1, &out);
    for (int i = 0; i < 2; i++) {
        w.b->word[0] = 0;
        pid_t pid = spawn(&w, take_and_wait);
        AWAIT(w.b->word[0]);
        slay(pid);
        sweep_dead(&w);
        CHECK(events(&w, 0, e, 3) == (uint64_t)i + 1 && e[i].pid == (uint64_t)pid);
    }
    CHECK(e[0].outcome == PM_RETRIED && e[1].outcome == PM_CRASHED && e[1].attempt == 2);
    CHECK(e[1].began == 0 && e[1].error[0] == 0);
    drop(&w, out);
    clean(&w);
    pm_close(w.a);
}

static void finish_one(world *w)
{
    pm_running t;
    DO(pm_next(w->a, 0, &t));
    pm_crash_arm((int)w->b->word[1]);
    finish(w, &t);
}

/* Whatever step of the end its worker dies in, the readers see whole events, and the last of them is
 * the end that the results tell of. */
TEST(death_at_every_step_of_the_end)
{
    world w = world_new();
    pm_event e[4];
    bool died = true;
    int fired = 0;
    for (int n = 1; died; n++) {
        pm_ref out;
        submit(&w, NULL, 0, 1, 0, &out);
        w.b->word[1] = (uint64_t)n;
        died = reap(spawn(&w, finish_one)) != 0;
        fired += died;
        sweep_dead(&w);
        uint64_t from = pm_a64_load(&w.a->h->recorded), found = events(&w, from, e, 4);
        CHECK(found == 1 && e[0].serial == w.a->h->serial.v);
        CHECK((e[0].outcome == PM_CRASHED) == (state_of(&w, out) == PM_FAILED));
        drop(&w, out);
        clean(&w);
    }
    CHECK(fired > 3);
    pm_close(w.a);
}

TEST(tasks_are_listed_with_what_they_wait_for)
{
    world w = world_new();
    pm_ref one, two, three[2];
    pm_task_info t[5];
    uint64_t from = 0, n = 5;
    submit(&w, NULL, 0, 1, 0, &one);
    submit(&w, &one, 1, 1, 0, &two);
    const pm_ref both[] = {one, two};
    submit(&w, both, 2, 2, 3, three);
    pm_running running;
    CHECK(take(&w, &running));
    CHECK(pm_survey_tasks(w.a, PM_WAIT, &from, t, &n) == PM_ENOTFOUND && n == 3);
    CHECK(t[0].state == PM_TASK_RUNNING && t[0].pid == (uint64_t)getpid() && !t[0].blocked);
    CHECK(t[1].state == PM_TASK_WAITING && t[1].waiting == 1 && t[1].deps[0].serial == 1);
    CHECK(t[1].deps[0].ref.slot == one.slot && strcmp(t[1].deps[0].name, "a task") == 0);
    CHECK(t[2].waiting == 2 && t[2].deps[1].serial == 2 && t[2].nargs == 2 && t[2].retries == 3);
    DO(pm_block(w.a, PM_WAIT, running.task));
    from = 0;
    n = 1;
    CHECK(pm_survey_tasks(w.a, PM_WAIT, &from, t, &n) == PM_OK && n == 1 && t[0].blocked);
    pm_close(w.a);
}

HARNESS_MAIN
