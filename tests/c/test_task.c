/* test_task.c - tasks from submit to finish, and with their submitter or worker killed at every point. */
#include <pthread.h>

#include "tasks.h"

static void close_clean(world *w, pm_stats then)
{
    same(w, then);
    clean(w);
    pm_close(w->a);
}

/* ---- one process plays all parts --------------------------------------------------------------------------- */

TEST(task_is_taken_as_it_was_submitted)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref function = put(&w, 1), kept = put(&w, 2), waited = put(&w, 3), out[2];
    const pm_task_argument args[] = {{kept.slot, false}, {waited.slot, true}};
    const pm_task_spec spec = {.function = function.slot,
                               .name =
                                   "a name that is longer than the forty bytes there are for it",
                               .payload = "some bytes",
                               .size = 10,
                               .packed = -1,
                               .args = args,
                               .nargs = 2,
                               .nrets = 2,
                               .cpu = CPU / 2,
                               .retries = 3};
    DO(submit_spec(&w, &spec, out));
    clean(&w);
    drop(&w, function);
    drop(&w, kept);
    drop(&w, waited);
    pm_running t;
    CHECK(take(&w, &t) && !take(&w, &(pm_running){0}));
    CHECK(t.function == function.slot && t.function_generation == function.generation &&
          t.size == 10 && t.packed == -1);
    CHECK(memcmp(t.payload, "some bytes", 10) == 0 &&
          strncmp(t.name, "a name that is longer", 21) == 0 && strlen(t.name) == 39);
    CHECK(t.nargs == 2 && t.nrets == 2 && t.attempt == 1 && t.retries == 3);
    CHECK(pm_argument(w.a, t.task, 0).slot == kept.slot && !pm_argument(w.a, t.task, 0).waits);
    CHECK(pm_argument_ref(w.a, t.task, 1).generation == waited.generation &&
          pm_argument(w.a, t.task, 1).waits);
    CHECK(pm_result_ref(w.a, t.task, 1).slot == out[1].slot);
    CHECK(stats(&w).cpu_free == 3 * CPU + CPU / 2);
    CHECK(value_of(&w, kept) == 2); /* the task holds it */
    clean(&w);
    finish(&w, &t);
    CHECK(attempt_of(&w, out, 2) == 1);
    drop(&w, out[0]);
    drop(&w, out[1]);
    close_clean(&w, then);
}

TEST(task_knows_its_number_and_that_of_the_task_that_submitted_it)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_running outer, inner, later;
    pm_ref a = submit_one(&w);
    CHECK(take(&w, &outer) && outer.parent == 0);
    pm_ref b = submit_one(&w); /* on behalf of the task that this client runs */
    uint64_t from = 0;
    DO(pm_take_awaited(w.a, PM_WAIT, &b.slot, 1, false, &from, &inner));
    CHECK(inner.serial > outer.serial && inner.parent == outer.serial);
    finish(&w, &inner);
    finish(&w, &outer);
    pm_ref c = submit_one(&w);
    CHECK(take(&w, &later) && later.serial > inner.serial && later.parent == 0);
    finish(&w, &later);
    drop(&w, a);
    drop(&w, b);
    drop(&w, c);
    close_clean(&w, then);
}

TEST(results_know_the_number_of_their_task_also_when_it_is_gone)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_running task;
    pm_ref rets[10], other = put(&w, 1);
    submit(&w, NULL, 0, 10, 1, rets);
    CHECK(take(&w, &task) && task.serial);
    uint64_t serial = task.serial;
    CHECK(pm_producer(w.a, rets[0].slot) == serial && pm_producer(w.a, other.slot) == 0);
    finish(&w, &task);
    for (int i = 0; i < 10; i++) {
        CHECK(pm_producer(w.a, rets[i].slot) == serial);
        drop(&w, rets[i]);
    }
    pm_ref again[12]; /* in the places of those */
    for (int i = 0; i < 12; i++) {
        again[i] = put(&w, 2);
        CHECK(pm_producer(w.a, again[i].slot) == 0);
        drop(&w, again[i]);
    }
    drop(&w, other);
    close_clean(&w, then);
}

TEST(many_arguments_results_and_a_packed_payload)
{
    const uint64_t counts[][2] = {{0, 0}, {4, 4}, {5, 0}, {0, 5}, {10, 10}, {10000, 3000}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        world w = world_new();
        pm_stats then = stats(&w);
        uint64_t nargs = counts[i][0], nrets = counts[i][1];
        pm_ref *args = calloc(nargs + 1, sizeof *args), *out = calloc(nrets + 1, sizeof *out);
        pm_task_argument *given = calloc(nargs + 1, sizeof *given);
        pm_ref packed = pending(&w, 1000, 5, NULL, 0), function = put(&w, 1);
        DO(pm_seal(w.a, PM_WAIT, packed.slot, false));
        for (uint64_t k = 0; k < nargs; k++) {
            args[k] = put(&w, k);
            given[k] = (pm_task_argument){.slot = args[k].slot, .waits = k % 2};
        }
        const pm_task_spec spec = {.function = function.slot,
                                   .name = "",
                                   .packed = (int64_t)packed.slot,
                                   .args = given,
                                   .nargs = nargs,
                                   .nrets = nrets,
                                   .cpu = 0,
                                   .retries = 0};
        DO(submit_spec(&w, &spec, out));
        for (uint64_t k = 0; k < nargs; k++)
            drop(&w, args[k]);
        drop(&w, packed);
        drop(&w, function);
        clean(&w);
        pm_running t;
        CHECK(take(&w, &t) && t.packed == (int64_t)packed.slot);
        for (uint64_t k = 0; k < nargs; k++)
            CHECK(value_of(&w, pm_argument_ref(w.a, t.task, k)) == k);
        finish(&w, &t);
        if (nrets)
            CHECK(attempt_of(&w, out, nrets) == 1);
        clean(&w);
        for (uint64_t k = 0; k < nrets; k++)
            drop(&w, out[k]);
        free(args);
        free(out);
        free(given);
        close_clean(&w, then);
    }
}

TEST(task_waits_for_its_arguments)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref args[6], out;
    for (uint64_t i = 0; i < 5; i++)
        args[i] = i % 2 ? pending(&w, 8, i, NULL, 0) : put(&w, i);
    args[5] = args[1]; /* the same twice */
    submit(&w, args, 6, 1, 0, &out);
    clean(&w);
    pm_running t;
    CHECK(!take(&w, &t));
    DO(pm_seal(w.a, PM_WAIT, args[3].slot, false));
    CHECK(!take(&w, &t));
    clean(&w);
    DO(pm_seal(w.a, PM_WAIT, args[1].slot, true)); /* a failure is a value too */
    CHECK(take(&w, &t));
    finish(&w, &t);
    CHECK(value_of(&w, out) == (UINT64_C(1) << 32));
    for (int i = 0; i < 5; i++)
        drop(&w, args[i]);
    drop(&w, out);
    close_clean(&w, then);
}

TEST(chain_and_fan_of_dependants_run_in_order)
{
    enum { N = 10000 };
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref first = submit_one(&w), *fan = calloc(N, sizeof *fan), last = first;
    for (int i = 0; i < N; i++)
        submit(&w, &first, 1, 1, 0, &fan[i]);
    for (int i = 0; i < N; i++) {
        pm_ref next;
        submit(&w, &last, 1, 1, 0, &next);
        if (i)
            drop(&w, last);
        last = next;
    }
    CHECK(stats(&w).ready == 1);
    clean(&w);
    CHECK(run_all(&w) == 2 * N + 1);
    CHECK(state_of(&w, last) == PM_SEALED);
    for (int i = 0; i < N; i++)
        drop(&w, fan[i]);
    drop(&w, first);
    drop(&w, last);
    free(fan);
    close_clean(&w, then);
}

TEST(oldest_task_that_fits_the_free_cpus_is_taken)
{
    world w = world_of(16 << 20, 2);
    pm_stats then = stats(&w);
    pm_ref function = put(&w, 1), out;
    const uint64_t cpus[] = {2 * CPU, 0, CPU, CPU, CPU / 2, 2 * CPU};
    pm_running t[6];
    for (uint64_t i = 0; i < 6; i++) {
        const pm_task_spec spec = {.function = function.slot,
                                   .name = "",
                                   .payload = &i,
                                   .size = 8,
                                   .packed = -1,
                                   .cpu = cpus[i],
                                   .nrets = 1};
        DO(submit_spec(&w, &spec, &out));
        drop(&w, out);
    }
    drop(&w, function);
    const int order[] = {0, 1}; /* both CPUs, then what needs none */
    for (int i = 0; i < 2; i++)
        CHECK(take(&w, &t[i]) && *(const int *)t[i].payload == order[i]);
    CHECK(!take(&w, &t[2]));
    finish(&w, &t[0]);
    for (int i = 2; i < 4; i++)
        CHECK(take(&w, &t[i]) && *(const int *)t[i].payload == i);
    CHECK(!take(&w, &t[4]));
    clean(&w);
    finish(&w, &t[2]);
    CHECK(take(&w, &t[4]) && *(const int *)t[4].payload == 4);
    CHECK(!take(&w, &t[5])); /* half a CPU is free */
    finish(&w, &t[1]);
    finish(&w, &t[3]);
    finish(&w, &t[4]);
    CHECK(run_all(&w) == 1);
    close_clean(&w, then);
}

TEST(shapes_come_and_go_and_too_many_at_once_are_told)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref function = put(&w, 1), out[3 * PM_SHAPES];
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < PM_SHAPES; i++) {
            const pm_task_spec spec = {.function = function.slot,
                                       .name = "",
                                       .payload = "",
                                       .packed = -1,
                                       .cpu = (uint64_t)round * 100 + i,
                                       .nrets = 1};
            DO(submit_spec(&w, &spec, &out[i]));
        }
        const pm_task_spec more = {.function = function.slot,
                                   .name = "",
                                   .payload = "",
                                   .packed = -1,
                                   .cpu = 9999,
                                   .nrets = 1};
        CHECK(submit_spec(&w, &more, out) == PM_ETABLE);
        clean(&w);
        CHECK(run_all(&w) == PM_SHAPES);
        for (int i = 0; i < PM_SHAPES; i++)
            drop(&w, out[i]);
    }
    drop(&w, function);
    close_clean(&w, then);
}

TEST(hurried_tasks_come_first)
{
    world w = world_of(16 << 20, 100);
    pm_stats then = stats(&w);
    pm_ref out[200];
    uint64_t slots[200], from = 0;
    for (int i = 0; i < 200; i++) {
        out[i] = submit_one(&w);
        slots[i] = out[i].slot;
    }
    DO(pm_hurry(w.a, PM_WAIT, slots + 50, 100, &from));
    CHECK(from == 100);
    from = 0;
    DO(pm_hurry(w.a, PM_WAIT, slots + 50, 100, &from)); /* once more changes nothing */
    clean(&w);
    for (int i = 0; i < 100; i++) {
        pm_running t;
        CHECK(take(&w, &t));
        uint64_t slot = pm_result_ref(w.a, t.task, 0).slot;
        finish(&w, &t);
        bool hurried = false;
        for (int k = 50; k < 150; k++)
            hurried |= slots[k] == slot;
        CHECK(hurried);
    }
    CHECK(run_all(&w) == 100);
    for (int i = 0; i < 200; i++)
        drop(&w, out[i]);
    close_clean(&w, then);
}

TEST(awaited_task_is_taken_whatever_cpu_is_free)
{
    world w = world_of(16 << 20, 1);
    pm_stats then = stats(&w);
    pm_ref out[100];
    uint64_t slots[100], from = 0;
    pm_running t, inner;
    for (int i = 0; i < 100; i++) {
        out[i] = submit_one(&w);
        slots[i] = out[i].slot;
    }
    CHECK(take(&w, &t)); /* the only CPU */
    DO(pm_take_awaited(w.a, PM_WAIT, slots + 90, 10, false, &from, &inner));
    CHECK(from == 1 && stats(&w).cpu_free == -CPU);
    clean(&w);
    finish(&w, &inner);
    CHECK(state_of(&w, out[90]) == PM_SEALED);
    finish(&w, &t);
    from = 0;
    CHECK(pm_take_awaited(w.a, PM_WAIT, slots, 1, false, &from, &inner) == PM_ENOTFOUND &&
          from == 1);
    CHECK(run_all(&w) == 98);
    for (int i = 0; i < 100; i++)
        drop(&w, out[i]);
    close_clean(&w, then);
}

TEST(blocked_task_lends_its_cpu_and_wakes_in_debt)
{
    world w = world_of(16 << 20, 1);
    pm_stats then = stats(&w);
    pm_ref one = submit_one(&w), two = submit_one(&w);
    pm_running t, other;
    CHECK(take(&w, &t) && !take(&w, &other));
    DO(pm_block(w.a, PM_WAIT, t.task));
    DO(pm_block(w.a, PM_WAIT, t.task));
    CHECK(stats(&w).cpu_free == CPU && take(&w, &other));
    DO(pm_resume(w.a, PM_WAIT, t.task));
    DO(pm_resume(w.a, PM_WAIT, t.task));
    CHECK(stats(&w).cpu_free == -CPU);
    clean(&w);
    finish(&w, &other);
    DO(pm_block(w.a, PM_WAIT, t.task));
    finish(&w, &t); /* blocked: returned once, not twice */
    drop(&w, one);
    drop(&w, two);
    close_clean(&w, then);
}

TEST(retried_task_runs_again_until_no_retry_is_left)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref out[2], always;
    pm_running t;
    submit(&w, NULL, 0, 2, 2, out);
    for (uint64_t attempt = 1; attempt <= 2; attempt++) {
        CHECK(take(&w, &t) && t.attempt == attempt && t.retries == 3 - attempt);
        DO(pm_retry(w.a, PM_WAIT, t.task));
        clean(&w);
    }
    CHECK(take(&w, &t) && t.retries == 0);
    CHECK(pm_retry(w.a, PM_WAIT, t.task) == PM_ESTATE);
    finish(&w, &t);
    CHECK(attempt_of(&w, out, 2) == 3);
    submit(&w, NULL, 0, 1, PM_RETRY_ALWAYS, &always);
    for (int i = 0; i < 5; i++) {
        CHECK(take(&w, &t) && t.retries == PM_RETRY_ALWAYS);
        DO(pm_retry(w.a, PM_WAIT, t.task));
    }
    CHECK(run_all(&w) == 1);
    drop(&w, out[0]);
    drop(&w, out[1]);
    drop(&w, always);
    close_clean(&w, then);
}

TEST(finish_takes_the_next_task_in_the_same_step)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref out[3] = {submit_one(&w), submit_one(&w), submit_one(&w)};
    pm_running t, next;
    CHECK(take(&w, &t));
    int n = 1;
    for (; finish_into(&w, &t, &next), next.task; n++)
        t = next;
    CHECK(n == 3);
    for (int i = 0; i < 3; i++)
        drop(&w, out[i]);
    close_clean(&w, then);
}

/* ---- results ----------------------------------------------------------------------------------------------- */

TEST(object_becomes_the_result_with_its_bytes_and_references)
{
    world w = world_new();
    pm_stats then = stats(&w);
    for (uint64_t size = 8; size < 5000; size += 4000) {
        pm_ref out = submit_one(&w), inner[2] = {put(&w, 5), put(&w, 6)};
        pm_running t;
        pm_view v;
        CHECK(take(&w, &t));
        pm_ref object = pending(&w, size, 99, inner, 2);
        const pm_result r = {.object = object.slot, .failed = size > 8};
        DO(pm_finish(w.a, PM_WAIT, t.task, &r, NULL));
        clean(&w);
        drop(&w, object);
        drop(&w, inner[0]);
        drop(&w, inner[1]);
        DO(pm_look(w.a, out.slot, &v));
        CHECK(v.size == size && *(const uint64_t *)v.data == 99 && v.nrefs == 2 &&
              v.state == (size > 8 ? PM_FAILED : PM_SEALED));
        CHECK(value_of(&w, v.refs[1]) == 6);
        clean(&w);
        drop(&w, out);
        same(&w, then);
    }
    close_clean(&w, then);
}

TEST(results_that_cannot_be_are_refused_before_anything_is_done)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref out[30], sealed = put(&w, 1), inner[2];
    pm_running t;
    submit(&w, NULL, 0, 30, 0, out);
    CHECK(take(&w, &t));
    pm_result r[30];
    for (int i = 0; i < 30; i++)
        r[i] = (pm_result){.object = pending(&w, 300, 1, NULL, 0).slot};
    pm_ref good = {r[29].object, 0};
    inner[0] = sealed;
    inner[1] = out[29];
    pm_ref cycle = pending(&w, 8, 1, inner, 2);
    r[29].object = cycle.slot;
    CHECK(pm_finish(w.a, PM_WAIT, t.task, r, NULL) == PM_ECYCLE);
    r[29].object = sealed.slot;
    CHECK(pm_finish(w.a, PM_WAIT, t.task, r, NULL) == PM_ESTATE);
    char bytes[PM_INLINE + 1] = {0};
    r[29] = (pm_result){.data = bytes, .len = sizeof bytes};
    CHECK(pm_finish(w.a, PM_WAIT, t.task, r, NULL) == PM_EINVAL);
    CHECK(pm__task(w.a, t.task - 1)->attached.v == 0);
    clean(&w);
    r[29] = (pm_result){.object = good.slot};
    DO(pm_finish(w.a, PM_WAIT, t.task, r, NULL));
    for (int i = 0; i < 30; i++) {
        CHECK(value_of(&w, out[i]) == 1);
        pm_drop(w.a, r[i].object);
        drop(&w, out[i]);
    }
    drop(&w, cycle);
    drop(&w, sealed);
    close_clean(&w, then);
}

/* R18: there is always room to say that there is no room. */
TEST(error_fits_when_heap_and_tables_are_full)
{
    world w = world_of(1 << 20, 1);
    pm_stats then = stats(&w);
    pm_ref out[20], more, fill[64];
    int n = 0;
    pm_running t;
    char error[PM_INLINE] = {0};
    pm_result r[20];
    submit(&w, NULL, 0, 20, 0, out);
    CHECK(take(&w, &t));
    while (pm_create(w.a, PM_WAIT, 20000, NULL, 0, &more) == PM_OK)
        fill[n++] = more;
    while (pm_create(w.a, PM_WAIT, 4000, NULL, 0, &more) == PM_OK)
        fill[n++] = more;
    uint64_t entries = w.a->h->entries.capacity, holds = w.a->h->holds.capacity;
    w.a->h->entries.capacity = w.a->h->entries.high.v;
    w.a->h->holds.capacity = w.a->h->holds.high.v;
    while (pm_put(w.a, PM_WAIT, "x", 1, &more) == PM_OK)
        fill[n++] = more;
    for (int i = 0; i < 20; i++)
        r[i] = (pm_result){.data = error, .len = sizeof error, .failed = true};
    DO(pm_finish(w.a, PM_WAIT, t.task, r, NULL));
    for (int i = 0; i < 20; i++)
        CHECK(state_of(&w, out[i]) == PM_FAILED);
    w.a->h->entries.capacity = entries;
    w.a->h->holds.capacity = holds;
    clean(&w);
    while (n > 0)
        drop(&w, fill[--n]);
    for (int i = 0; i < 20; i++)
        drop(&w, out[i]);
    close_clean(&w, then);
}

TEST(submit_that_finds_no_room_gives_back_what_it_took)
{
    world w = world_of(1 << 20, 1);
    pm_stats then = stats(&w);
    pm_ref function = put(&w, 1), out[3000], arg = put(&w, 2);
    pm_task_argument args[100];
    for (int i = 0; i < 100; i++)
        args[i] = (pm_task_argument){arg.slot, true};
    pm_task_spec spec = {.function = function.slot,
                         .name = "",
                         .payload = out,
                         .size = 8,
                         .packed = -1,
                         .args = args,
                         .nargs = 100,
                         .nrets = 3000,
                         .cpu = CPU};
    pm_pool_shm *pools[] = {&w.a->h->entries, &w.a->h->holds, &w.a->h->tasks};
    for (int i = 0; i < 3; i++) { /* found out before the first step */
        uint64_t capacity = pools[i]->capacity;
        pools[i]->capacity = pools[i]->live.v + (i < 2 ? 2999 : 0);
        CHECK(submit_spec(&w, &spec, out) == PM_ETABLE);
        clean(&w);
        pools[i]->capacity = capacity;
    }
    spec.nrets = 200000;
    CHECK(submit_spec(&w, &spec, out) == PM_EFULL);
    spec.nrets = 1;
    spec.size = PM_TASK_INLINE + 1;
    CHECK(submit_spec(&w, &spec, out) == PM_EINVAL);
    clean(&w);
    drop(&w, function);
    drop(&w, arg);
    close_clean(&w, then);
}

/* Others fill the table while a large submit is between two of its steps. */
static void *fill_table(void *arg)
{
    world *w = arg;
    gate_await(w);
    w->a->h->holds.capacity = w->a->h->holds.live.v;
    gate_open(w);
    return NULL;
}

TEST(submit_that_runs_out_of_room_half_way_gives_back_what_it_took)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref function = put(&w, 1), args[20], *out = calloc(600, sizeof *out);
    pm_task_argument given[20];
    for (int i = 0; i < 20; i++) {
        args[i] = i % 2 ? submit_one(&w) : put(&w, 1);
        given[i] = (pm_task_argument){args[i].slot, true};
    }
    const pm_task_spec spec = {.function = function.slot,
                               .name = "",
                               .payload = "",
                               .packed = -1,
                               .args = given,
                               .nargs = 20,
                               .nrets = 600,
                               .cpu = CPU};
    pthread_t t;
    uint64_t capacity = w.a->h->holds.capacity;
    CHECK(pthread_create(&t, NULL, fill_table, &w) == 0);
    gate_arm(&w, "UNLOCKED");
    CHECK(submit_spec(&w, &spec, out) == PM_ETABLE);
    CHECK(pthread_join(t, NULL) == 0);
    w.a->h->holds.capacity = capacity;
    clean(&w);
    CHECK(run_all(&w) ==
          10); /* the abandoned task goes when the last argument it waited for is there */
    for (int i = 0; i < 20; i++)
        drop(&w, args[i]);
    drop(&w, function);
    free(out);
    close_clean(&w, then);
}

TEST(results_of_a_failed_submit_never_become_visible)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref function = put(&w, 1), out[600];
    const pm_task_spec spec = {.function = function.slot,
                               .name = "",
                               .payload = "",
                               .packed = -1,
                               .nrets = 600,
                               .cpu = CPU};
    pm_submission s = {0};
    pthread_t t;
    uint64_t capacity = w.a->h->holds.capacity;
    int rc;
    CHECK(pthread_create(&t, NULL, fill_table, &w) == 0);
    gate_arm(&w, "UNLOCKED");
    while ((rc = pm_submit(w.a, PM_WAIT, &spec, &s, out)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_ETABLE && s.made > 0);
    CHECK(pthread_join(t, NULL) == 0);
    w.a->h->holds.capacity = capacity;
    clean(&w);
    CHECK(stats(&w).tasks == 0);
    for (uint64_t i = 0; i < s.made; i++) {
        CHECK(state_of(&w, out[i]) == PM_PENDING);
        drop(&w, out[i]);
    }
    drop(&w, function);
    close_clean(&w, then);
}

TEST(task_is_awaited_as_long_as_anybody_has_a_result_of_it)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_running t;
    pm_ref out = submit_one(&w);
    CHECK(take(&w, &t) && pm_is_awaited(w.a, t.task));
    drop(&w, out);
    CHECK(!pm_is_awaited(w.a, t.task));
    finish(&w, &t);
    close_clean(&w, then);
}

TEST(results_dropped_before_the_end_are_freed_with_the_task)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref out[10], inner = put(&w, 4);
    pm_running t;
    submit(&w, NULL, 0, 10, 0, out);
    CHECK(take(&w, &t));
    pm_result r[10];
    for (int i = 0; i < 10; i++) {
        r[i] = (pm_result){.object = pending(&w, 1000, 1, &inner, 1).slot};
        drop(&w, out[i]);
    }
    DO(pm_finish(w.a, PM_WAIT, t.task, r, NULL));
    for (int i = 0; i < 10; i++)
        pm_drop(w.a, r[i].object);
    drop(&w, inner);
    close_clean(&w, then);
}

/* ---- workers ----------------------------------------------------------------------------------------------- */

static void work(world *w)
{
    pm_running t;
    uint64_t me = atomic_fetch_add(&w->b->word[0], 1);
    for (;;) {
        int rc;
        while ((rc = pm_next(w->a, 0, &t)) == PM_EAGAIN)
            continue;
        if (rc == PM_EGONE)
            return;
        CHECK(rc == PM_OK);
        finish(w, &t);
        atomic_fetch_add(&w->b->word[10 + me], 1);
    }
}

static void await_all(const world *w, const pm_ref *refs, uint64_t n)
{
    uint64_t *slots = calloc(n, sizeof *slots);
    for (uint64_t i = 0; i < n; i++)
        slots[i] = refs[i].slot;
    int rc;
    while ((rc = pm_wait(w->a, slots, n, n, 0, false)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_OK);
    free(slots);
}

TEST(idle_workers_are_woken_and_share_the_tasks)
{
    enum { N = 3000, WORKERS = 3 };
    world w = world_new();
    pid_t pid[WORKERS];
    pm_ref *out = calloc(N, sizeof *out);
    for (int i = 0; i < WORKERS; i++)
        pid[i] = spawn(&w, work);
    AWAIT(stats(&w).idle == WORKERS);
    clean(&w);
    for (int i = 0; i < N; i++)
        out[i] = submit_one(&w);
    await_all(&w, out, N);
    for (int i = 0; i < N; i++) {
        pm_ref one = submit_one(&w); /* one at a time: each a sleep and a wake */
        if (i % 10 == 0)
            await_all(&w, &one, 1);
        drop(&w, one);
        drop(&w, out[i]);
    }
    DO(pm_end(w.a));
    for (int i = 0; i < WORKERS; i++)
        CHECK(!reap(pid[i]));
    CHECK(sweep_dead(&w) == WORKERS);
    run_all(&w);
    CHECK(stats(&w).entries == 0 && stats(&w).tasks == 0 && stats(&w).workers == 0);
    clean(&w);
    free(out);
    pm_close(w.a);
}

TEST(idle_worker_gives_up_after_its_deadline)
{
    world w = world_new();
    pm_running t;
    uint64_t deadline = pm__os_now() + 5000000;
    int rc;
    while ((rc = pm_next(w.a, deadline, &t)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_ETIMEOUT && pm__os_now() >= deadline);
    clean(&w);
    pm_close(w.a);
}

TEST(more_workers_are_wanted_while_tasks_would_run_on_them)
{
    world w = world_of(16 << 20, 2);
    uint64_t wanted;
    DO(pm_workers_wanted(w.a, PM_WAIT, 8, &wanted));
    CHECK(wanted == 2); /* one a CPU, from the start */
    pid_t one = spawn(&w, work), two = spawn(&w, work);
    AWAIT(stats(&w).idle == 2);
    DO(pm_workers_wanted(w.a, PM_WAIT, 8, &wanted));
    CHECK(wanted == 0);
    slay(one);
    slay(two);
    pm_close(w.a);
}

TEST(stall_is_when_all_wait_and_a_queued_task_fits)
{
    world w = world_of(16 << 20, 1);
    uint64_t moved, later;
    pm_running outer, inner;
    pm_ref out = submit_one(&w);
    CHECK(take(&w, &outer));
    pm_ref queued = submit_one(&w);
    CHECK(pm_stall(w.a, PM_WAIT, &moved) == PM_ENOTFOUND); /* it goes on */
    DO(pm_block(w.a, PM_WAIT, outer.task));
    CHECK(pm_stall(w.a, PM_WAIT, &moved) == PM_OK);
    pm_ref more = submit_one(&w);
    CHECK(pm_stall(w.a, PM_WAIT, &later) == PM_OK && later == moved);
    CHECK(take(&w, &inner));
    CHECK(pm_stall(w.a, PM_WAIT, &later) == PM_ENOTFOUND);
    finish(&w, &inner);
    CHECK(pm_stall(w.a, PM_WAIT, &later) == PM_OK && later == moved + 1);
    CHECK(take(&w, &inner));
    finish(&w, &inner);
    CHECK(pm_stall(w.a, PM_WAIT, &later) == PM_ENOTFOUND); /* nothing is queued */
    finish(&w, &outer);
    drop(&w, out);
    drop(&w, queued);
    drop(&w, more);
    CHECK(stats(&w).entries == 0);
    clean(&w);
    pm_close(w.a);
}

TEST(worker_set_aside_does_not_count_until_it_looks_for_a_task_again)
{
    world w = world_of(16 << 20, 1);
    uint64_t wanted, slot = 0;
    pid_t pid = spawn(&w, work);
    AWAIT(stats(&w).idle == 1);
    while (w.a->clients[slot].pid.v != (uint64_t)pid)
        slot++;
    CHECK(kill(pid, SIGSTOP) == 0);
    DO(pm_set_aside(w.a, PM_WAIT, slot, 77)); /* another epoch: another client */
    CHECK(stats(&w).idle == 1);
    DO(pm_set_aside(w.a, PM_WAIT, slot, w.a->clients[slot].epoch.v));
    clean(&w);
    DO(pm_workers_wanted(w.a, PM_WAIT, 8, &wanted));
    CHECK(wanted == 1 && stats(&w).idle == 0);
    pm_ref out = submit_one(&w);
    CHECK(kill(pid, SIGCONT) == 0);
    pm__wake_everyone(w.a);
    await_all(&w, &out, 1);
    clean(&w);
    CHECK(kill(pid, SIGSTOP) == 0);
    AWAIT(pm__os_stopped(pid));
    if (stats(&w).idle == 1) /* it may have been stopped on its way there */
        DO(pm_set_aside(w.a, PM_WAIT, slot, w.a->clients[slot].epoch.v));
    slay(pid); /* dies while aside */
    CHECK(sweep_dead(&w) == 1);
    clean(&w);
    drop(&w, out);
    CHECK(stats(&w).entries == 0);
    pm_close(w.a);
}

static void stop_when_woken(world *w)
{
    pm_running t;
    pm_next(w->a, 0, &t);
    _exit(8);
}

/* R12: nothing is handed to a worker, so nothing is lost with one that does not come. */
TEST(task_goes_to_another_worker_if_the_woken_one_is_stopped)
{
    world w = world_new();
    pid_t good = spawn(&w, work);
    AWAIT(stats(&w).idle == 1);
    pid_t bad = spawn(&w, stop_when_woken); /* latest on the idle list, so it is called first */
    AWAIT(stats(&w).idle == 2);
    CHECK(kill(bad, SIGSTOP) == 0);
    for (int i = 0; i < 5; i++) {
        pm_ref out = submit_one(&w);
        await_all(&w, &out, 1);
        drop(&w, out);
    }
    slay(bad);
    slay(good);
    CHECK(sweep_dead(&w) == 2);
    clean(&w);
    pm_close(w.a);
}

/* R13: the same for one that dies between the wake and the task, found by its sweep. */
TEST(task_goes_to_another_worker_if_the_woken_one_is_dead)
{
    world w = world_new();
    pid_t good = spawn(&w, work);
    AWAIT(stats(&w).idle == 1);
    for (int i = 0; i < 5; i++) {
        pid_t bad = spawn(&w, stop_when_woken);
        AWAIT(stats(&w).idle == 2);
        slay(bad);
        pm_ref out = submit_one(&w);
        CHECK(sweep_dead(&w) == 1);
        await_all(&w, &out, 1);
        drop(&w, out);
    }
    slay(good);
    pm_close(w.a);
}

static void submit_and_pause(world *w)
{
    atomic_store(&w->b->word[5], 1);
    while (atomic_load(&w->b->word[5]) == 1)
        usleep(100);
    const pm_task_spec spec = {.function = put(w, 1).slot,
                               .name = "",
                               .payload = "",
                               .packed = -1,
                               .nrets = 1,
                               .cpu = CPU};
    pm_ref out;
    gate_arm(w, "BEFORE_WAKE");
    submit_spec(w, &spec, &out);
}

/* R13: the submitter dies between its commit and the wake. */
TEST(task_of_a_submitter_that_died_before_the_wake_is_run)
{
    world w = world_new();
    pid_t good = spawn(&w, work), bad = spawn(&w, submit_and_pause);
    AWAIT(atomic_load(&w.b->word[5]) && stats(&w).idle == 1);
    usleep(20000); /* asleep, past its spin */
    atomic_store(&w.b->word[5], 2);
    gate_await(&w);
    slay(bad);
    CHECK(sweep_dead(&w) == 1);
    AWAIT(atomic_load(&w.b->word[10]) == 1);
    slay(good);
    CHECK(sweep_dead(&w) == 1);
    CHECK(stats(&w).entries == 0);
    clean(&w);
    pm_close(w.a);
}

/* A task whose body submits another and waits for it, on one worker: it runs the inner one on its own stack [R 14]. */
static void nest(world *w, uint64_t depth)
{
    pm_running inner;
    pm_ref out = submit_one(w);
    uint64_t from;
    int rc;
    do {
        from = 0;
        while ((rc = pm_take_awaited(w->a, PM_WAIT, &out.slot, 1, false, &from, &inner)) ==
               PM_EAGAIN)
            continue;
        if (rc == PM_OK) {
            if (depth > 1)
                nest(w, depth - 1);
            finish(w, &inner);
        }
        rc = pm_wait(w->a, &out.slot, 1, 1, 0, true);
    } while (rc == PM_EWORK || rc == PM_EAGAIN);
    CHECK(rc == PM_OK);
    drop(w, out);
}

static void work_nested(world *w)
{
    pm_running t;
    while (pm_next(w->a, 0, &t) == PM_OK) {
        DO(pm_block(w->a, PM_WAIT, t.task));
        nest(w, 20);
        DO(pm_resume(w->a, PM_WAIT, t.task));
        finish(w, &t);
    }
}

TEST(nested_tasks_run_on_one_worker)
{
    world w = world_of(16 << 20, 1);
    pid_t pid = spawn(&w, work_nested);
    for (int i = 0; i < 20; i++) {
        pm_ref out = submit_one(&w);
        await_all(&w, &out, 1);
        drop(&w, out);
    }
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    clean(&w);
    pm_close(w.a);
}

/* Queued while there was somebody to take it, or before anybody waited: it was offered to nobody. */
TEST(waiting_worker_is_told_of_a_task_that_is_queued_already)
{
    world w = world_of(16 << 20, 1);
    pm_ref outer = submit_one(&w), inner;
    pm_running t, found;
    uint64_t from = 0;
    CHECK(take(&w, &t));
    inner = submit_one(&w);
    int rc;
    while ((rc = pm_wait(w.a, &inner.slot, 1, 1, pm__os_now() + 200000000, true)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_EWORK);
    DO(pm_take_awaited(w.a, PM_WAIT, &inner.slot, 1, false, &from, &found));
    finish(&w, &found);
    finish(&w, &t);
    drop(&w, outer);
    drop(&w, inner);
    clean(&w);
    pm_close(w.a);
}

/* The inner task waits for an argument when its waiter goes to sleep, and is made ready by the driver. */
static void wait_for_late(world *w)
{
    pm_running t, inner;
    uint64_t from;
    int rc;
    DO(pm_next(w->a, 0, &t));
    pm_ref late = pm_argument_ref(w->a, t.task, 0), out;
    DO(pm_hold(w->a, PM_WAIT, late));
    submit(w, &late, 1, 1, 0, &out);
    atomic_store(&w->b->word[1], 1);
    while ((rc = pm_wait(w->a, &out.slot, 1, 1, 0, true)) == PM_EAGAIN || rc == PM_EWORK) {
        from = 0;
        if (rc == PM_EWORK &&
            pm_take_awaited(w->a, PM_WAIT, &out.slot, 1, false, &from, &inner) == PM_OK)
            finish(w, &inner);
    }
    CHECK(rc == PM_OK);
    finish(w, &t);
}

TEST(waiting_worker_is_told_when_its_task_becomes_ready)
{
    for (useconds_t delay = 0; delay < 60000;
         delay += 7000) { /* before it sleeps, asleep, past its kicks */
        world w = world_of(16 << 20, 1);
        pm_ref late = pending(&w, 8, 1, NULL, 0), function = put(&w, 1), out;
        const pm_task_argument arg = {late.slot, false};
        const pm_task_spec spec = {.function = function.slot,
                                   .name = "",
                                   .payload = "",
                                   .packed = -1,
                                   .args = &arg,
                                   .nargs = 1,
                                   .nrets = 1,
                                   .cpu = CPU};
        pid_t pid = spawn(&w, wait_for_late);
        DO(submit_spec(&w, &spec, &out));
        AWAIT(atomic_load(&w.b->word[1]));
        usleep(delay);
        DO(pm_seal(w.a, PM_WAIT, late.slot, false));
        await_all(&w, &out, 1);
        CHECK(!reap(pid));
        pm_close(w.a);
    }
}

/* ---- death of the submitter -------------------------------------------------------------------------------- */

static void run_the_rest(world *w, bool died)
{
    (void)died;
    run_all(w); /* what was submitted stays submitted */
    CHECK(stats(w).tasks == 0);
}

static void act_submit_small(world *w)
{
    pm_ref one, two[4], arg = put(w, 3);
    submit(w, &arg, 1, 1, 0, &one);
    submit(w, &one, 1, 4, 0, two);
    drop(w, one);
    drop(w, two[1]);
}

TEST(death_in_submit)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.act = act_submit_small, .after = run_the_rest});
    pm_close(w.a);
}

static void act_submit_large(world *w)
{
    pm_ref first[10], out[40], args[10];
    submit(w, NULL, 0, 10, 0, first);
    for (uint64_t i = 0; i < 10; i++)
        args[i] = i % 2 ? first[i] : put(w, i);
    submit(w, args, 10, 40, 0, out);
}

TEST(death_in_submit_of_a_large_task)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.act = act_submit_large, .after = run_the_rest});
    pm_close(w.a);
}

static void act_submit_packed(world *w)
{
    pm_ref packed = pending(w, 3000, 1, NULL, 0), function = put(w, 1), out[10];
    DO(pm_seal(w->a, PM_WAIT, packed.slot, false));
    const pm_task_spec spec = {.function = function.slot,
                               .name = "",
                               .packed = (int64_t)packed.slot,
                               .nrets = 10,
                               .cpu = CPU};
    DO(submit_spec(w, &spec, out));
    drop(w, packed);
}

TEST(death_in_submit_of_a_packed_payload)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.act = act_submit_packed, .after = run_the_rest});
    pm_close(w.a);
}

/* ---- death of the worker ----------------------------------------------------------------------------------- */

enum {
    TASKS = 3,
    RETS = 12
}; /* of the tasks below: two of RETS results, one that depends on both */

static void submit_three(world *w, uint64_t retries)
{
    pm_ref *r = w->b->refs;
    submit(w, NULL, 0, RETS, retries, r);
    submit(w, NULL, 0, RETS, retries, r + RETS);
    const pm_ref args[] = {r[0], r[RETS], r[3]};
    submit(w, args, 3, RETS, retries, r + 2 * RETS);
}

static void before_no_retry(world *w)
{
    submit_three(w, 0);
}

static void before_one_retry(world *w)
{
    submit_three(w, 1);
}

static void check_three(world *w, bool died, bool may_fail)
{
    run_all(w);
    for (uint64_t i = 0; i < TASKS; i++) {
        uint64_t attempt = attempt_of(w, &w->b->refs[i * RETS], RETS);
        CHECK(attempt <= 2 && (attempt || (died && may_fail)));
    }
    for (uint64_t i = 0; i < TASKS * RETS; i++)
        drop(w, w->b->refs[i]);
    CHECK(stats(w).tasks == 0);
}

static void after_no_retry(world *w, bool died)
{
    check_three(w, died, true);
}

static void after_one_retry(world *w, bool died)
{
    check_three(w, died, false);
}

static void act_run_all(world *w)
{
    run_all(w);
}

TEST(death_in_take_and_finish_fails_the_task)
{
    world w = world_new();
    crash_sweep(
        &w, &(operation){.before = before_no_retry, .act = act_run_all, .after = after_no_retry});
    pm_close(w.a);
}

TEST(death_in_take_and_finish_with_a_retry_runs_it_again)
{
    world w = world_new();
    crash_sweep(
        &w, &(operation){.before = before_one_retry, .act = act_run_all, .after = after_one_retry});
    pm_close(w.a);
}

/* Every second result by an object of its own, with references. */
static void finish_with_objects(world *w, const pm_running *t, pm_running *next)
{
    pm_result r[64];
    uint64_t values[64];
    pm_ref inner[2] = {put(w, 1), put(w, 2)};
    for (uint64_t i = 0; i < t->nrets; i++) {
        values[i] = t->attempt << 32 | i;
        r[i] = i % 2
                   ? (pm_result){.data = &values[i], .len = 8}
                   : (pm_result){.object = pending(w, i % 4 ? 8 : 3000, values[i], inner, 2).slot};
    }
    DO(pm_finish(w->a, PM_WAIT, t->task, r, next));
    for (uint64_t i = 0; i < t->nrets; i += 2)
        pm_drop(w->a, r[i].object);
    drop(w, inner[0]);
    drop(w, inner[1]);
}

static void act_finish_with_objects(world *w)
{
    pm_running t, next;
    if (take(w, &t))
        for (; finish_with_objects(w, &t, &next), next.task;)
            t = next;
}

TEST(death_in_finish_with_objects_and_nested_references)
{
    world w = world_new();
    crash_sweep_by(&w,
                   &(operation){.before = before_one_retry,
                                .act = act_finish_with_objects,
                                .after = after_one_retry},
                   3);
    pm_close(w.a);
}

static void before_many(world *w)
{
    submit(w, NULL, 0, 60, 1, w->b->refs);
}

static void after_many(world *w, bool died)
{
    run_all(w);
    CHECK(attempt_of(w, w->b->refs, 60) == 2 || !died || attempt_of(w, w->b->refs, 60) == 1);
    for (uint64_t i = 0; i < 60; i++)
        drop(w, w->b->refs[i]);
}

static void prepare_take(world *w)
{
    pm_running t;
    CHECK(take(w, &t));
    atomic_store(&w->b->word[7], t.task);
}

static void act_finish_many(world *w)
{
    uint64_t values[60];
    pm_result r[60];
    for (uint64_t i = 0; i < 60; i++) {
        values[i] = UINT64_C(1) << 32 | i;
        r[i] = (pm_result){.data = &values[i], .len = 8};
    }
    DO(pm_finish(w->a, PM_WAIT, atomic_load(&w->b->word[7]), r, NULL));
}

TEST(death_in_a_finish_of_several_transactions)
{
    world w = world_new();
    crash_sweep_by(&w,
                   &(operation){.before = before_many,
                                .prepare = prepare_take,
                                .act = act_finish_many,
                                .after = after_many},
                   5);
    pm_close(w.a);
}

static void act_retry_block_resume(world *w)
{
    pm_running t;
    CHECK(take(w, &t));
    DO(pm_block(w->a, PM_WAIT, t.task));
    DO(pm_resume(w->a, PM_WAIT, t.task));
    DO(pm_block(w->a, PM_WAIT, t.task));
    DO(pm_retry(w->a, PM_WAIT, t.task));
}

static void before_retries(world *w)
{
    submit_three(w, 3);
}

static void after_retries(world *w, bool died)
{
    (void)died;
    CHECK(stats(w).cpu_free == 4 * CPU); /* R15: returned exactly once */
    check_three(w, died, false);
}

TEST(death_in_retry_block_and_resume)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.before = before_retries,
                                 .act = act_retry_block_resume,
                                 .after = after_retries});
    pm_close(w.a);
}

static void act_awaited(world *w)
{
    uint64_t slots[TASKS * RETS], from = 0;
    pm_running t;
    for (int i = 0; i < TASKS * RETS; i++)
        slots[i] = w->b->refs[i].slot;
    for (int i = 0; i < TASKS * RETS; i++)
        DO(pm_hold(w->a, PM_WAIT, w->b->refs[i]));
    DO(pm_hurry(w->a, PM_WAIT, slots, TASKS * RETS, &from));
    from = 0;
    DO(pm_take_awaited(w->a, PM_WAIT, slots + RETS, 2 * RETS, false, &from, &t));
    finish(w, &t);
}

TEST(death_in_hurry_and_take_awaited)
{
    world w = world_new();
    crash_sweep_by(
        &w, &(operation){.before = before_one_retry, .act = act_awaited, .after = after_one_retry},
        3);
    pm_close(w.a);
}

static void act_next(world *w)
{
    pm_running t;
    for (int i = 0; i < 2; i++) {
        DO(pm_next(w->a, pm__os_now() + 1000000, &t));
        finish(w, &t);
    }
    DO(pm_next(w->a, 0, &t));
    finish(w, &t);
    int rc;
    while ((rc = pm_next(w->a, pm__os_now() + 1000000, &t)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_ETIMEOUT);
}

TEST(death_in_waiting_for_tasks)
{
    world w = world_new();
    crash_sweep_by(
        &w, &(operation){.before = before_one_retry, .act = act_next, .after = after_one_retry}, 2);
    pm_close(w.a);
}

HARNESS_MAIN
