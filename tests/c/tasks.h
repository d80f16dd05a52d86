/* tasks.h - submitting and running tasks in C tests. The value of result i is attempt << 32 | i. */
#ifndef PM_TEST_TASKS_H
#define PM_TEST_TASKS_H

#include "world.h"

enum { CPU = 10000 };

__attribute__((unused)) static pm_ref put(const world *w, uint64_t value)
{
    pm_ref ref;
    DO(pm_put(w->a, PM_WAIT, &value, sizeof value, &ref));
    return ref;
}

__attribute__((unused)) static void drop(const world *w, pm_ref ref)
{
    pm_drop(w->a, ref.slot);
}

__attribute__((unused)) static uint64_t value_of(const world *w, pm_ref ref)
{
    pm_view v;
    DO(pm_look(w->a, ref.slot, &v));
    CHECK(v.state == PM_SEALED && v.size >= 8);
    return *(const uint64_t *)v.data;
}

__attribute__((unused)) static enum pm_entry_state state_of(const world *w, pm_ref ref)
{
    return pm_state(w->a, ref.slot);
}

/* An object that will be sealed when its maker likes, or become a result. */
__attribute__((unused)) static pm_ref pending(const world *w, uint64_t size, uint64_t value,
                                              const pm_ref *refs, uint64_t nrefs)
{
    pm_ref ref;
    DO(pm_create(w->a, PM_WAIT, size, refs, nrefs, &ref));
    DO(pm_contain(w->a, PM_WAIT, ref.slot));
    DO(pm_write(w->a, ref.slot, 0, &value, sizeof value));
    return ref;
}

/* ---- submitting -------------------------------------------------------------------------------------------- */

__attribute__((unused)) static int submit_spec(const world *w, const pm_task_spec *spec,
                                               pm_ref *out)
{
    pm_submission s = {0};
    int rc;
    while ((rc = pm_submit(w->a, PM_WAIT, spec, &s, out)) == PM_EAGAIN)
        continue;
    CHECK(s.task == 0);
    if (rc)
        for (uint64_t i = 0; i < s.made; i++)
            drop(w, out[i]);
    return rc;
}

/* A task that waits for args[nargs] and makes out[nrets]. Its function's object is its own. */
__attribute__((unused)) static void submit(const world *w, const pm_ref *args, uint64_t nargs,
                                           uint64_t nrets, uint64_t retries, pm_ref *out)
{
    pm_ref function = put(w, 77);
    pm_task_argument *given = calloc(nargs + 1, sizeof *given);
    for (uint64_t i = 0; i < nargs; i++)
        given[i] = (pm_task_argument){.slot = args[i].slot, .waits = true};
    const pm_task_spec spec = {.function = function.slot,
                               .name = "a task",
                               .payload = "payload",
                               .size = 8,
                               .packed = -1,
                               .args = given,
                               .nargs = nargs,
                               .nrets = nrets,
                               .cpu = CPU,
                               .retries = retries};
    DO(submit_spec(w, &spec, out));
    drop(w, function);
    free(given);
}

__attribute__((unused)) static pm_ref submit_one(const world *w)
{
    pm_ref out;
    submit(w, NULL, 0, 1, 1, &out);
    return out;
}

/* ---- running ----------------------------------------------------------------------------------------------- */

__attribute__((unused)) static bool take(const world *w, pm_running *task)
{
    int rc;
    while ((rc = pm_take(w->a, PM_WAIT, task)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_OK || rc == PM_ENOTFOUND);
    return rc == PM_OK;
}

/* End a task with values; all inline. */
__attribute__((unused)) static void finish_into(const world *w, const pm_running *task,
                                                pm_running *next)
{
    uint64_t *values = calloc(task->nrets + 1, sizeof *values);
    pm_result *results = calloc(task->nrets + 1, sizeof *results);
    for (uint64_t i = 0; i < task->nrets; i++) {
        values[i] = task->attempt << 32 | i;
        results[i] = (pm_result){.data = &values[i], .len = 8};
    }
    DO(pm_finish(w->a, PM_WAIT, task->task, results, next));
    free(values);
    free(results);
}

__attribute__((unused)) static void finish(const world *w, const pm_running *task)
{
    finish_into(w, task, NULL);
}

/* Take and finish until nothing is ready. */
__attribute__((unused)) static int run_all(const world *w)
{
    pm_running task;
    int n = 0;
    for (; take(w, &task); n++)
        finish(w, &task);
    return n;
}

/* The results of one task: of one attempt, and in order. Returns the attempt; 0 if they failed. */
__attribute__((unused)) static uint64_t attempt_of(const world *w, const pm_ref *refs, uint64_t n)
{
    if (state_of(w, refs[0]) == PM_FAILED) {
        for (uint64_t i = 0; i < n; i++) {
            pm_view v;
            DO(pm_look(w->a, refs[i].slot, &v));
            CHECK(v.state == PM_FAILED && v.is_inline &&
                  *(const unsigned char *)v.data == PM_TAG_CRASH);
        }
        return 0;
    }
    uint64_t attempt = value_of(w, refs[0]) >> 32;
    for (uint64_t i = 0; i < n; i++)
        CHECK(value_of(w, refs[i]) == (attempt << 32 | i));
    return attempt;
}

#endif
