/* test_lineage.c - tasks that are kept, since a result can be made again by them. */
#include "tasks.h"

enum { SIZE = 4096 };

typedef struct {
    pm_ref function, argument, results[2];
} made;

static made submit_made(const world *w, uint64_t retries, uint64_t payload)
{
    static const char BYTES[PM_TASK_INLINE] = "packed";
    made m = {.function = put(w, 1), .argument = put(w, 2)};
    pm_task_spec spec = {.function = m.function.slot,
                         .name = "make",
                         .payload = BYTES,
                         .size = 6,
                         .packed = -1,
                         .args = &(pm_task_argument){m.argument.slot, true},
                         .nargs = 1,
                         .nrets = 2,
                         .cpu = CPU,
                         .retries = retries};
    pm_ref packed;
    if (payload) {
        packed = pending(w, payload, 5, NULL, 0);
        DO(pm_seal(w->a, PM_WAIT, packed.slot, false));
        spec.packed = (int64_t)packed.slot;
    }
    CHECK(submit_spec(w, &spec, m.results) == PM_OK);
    if (payload)
        drop(w, packed);
    return m;
}

static pm_running begin(const world *w)
{
    pm_running t;
    DO(pm_take(w->a, PM_WAIT, &t));
    return t;
}

/* With a first result of `size` bytes, and a second that is short. */
static void end(const world *w, const pm_running *t, uint64_t size)
{
    uint64_t value = 7;
    pm_ref object = pending(w, size, t->attempt, NULL, 0);
    const pm_result r[2] = {{.object = object.slot}, {.data = &value, .len = sizeof value}};
    DO(pm_finish(w->a, PM_WAIT, t->task, r, NULL));
    drop(w, object);
}

static void run(const world *w, uint64_t size)
{
    pm_running t = begin(w);
    end(w, &t, size);
}

static void drop_made(const world *w, const made *m)
{
    drop(w, m->results[0]);
    drop(w, m->results[1]);
    drop(w, m->function);
    drop(w, m->argument);
}

static void drop_recipe(const world *w, const pm_recipe *r)
{
    drop(w, r->function);
    if (r->packed)
        drop(w, r->arguments);
    for (uint64_t i = 0; i < r->nargs; i++)
        drop(w, r->args[i]);
}

static int recipe_of(const world *w, pm_ref ref, pm_recipe *out)
{
    int rc;
    while ((rc = pm_recipe_of(w->a, PM_WAIT, ref.slot, out)) == PM_EAGAIN)
        continue;
    return rc;
}

static bool is_kept(uint64_t retries, uint64_t payload, uint64_t size)
{
    world w = world_new();
    pm_stats then = stats(&w);
    made m = submit_made(&w, retries, payload);
    pm_recipe r;
    run(&w, size);
    clean(&w);
    bool kept = stats(&w).kept == 1;
    CHECK(stats(&w).tasks == 0);
    CHECK(recipe_of(&w, m.results[0], &r) == (kept ? PM_OK : PM_ENOTFOUND));
    if (kept) {
        CHECK(r.index == 0 && r.nrets == 2 && r.nargs == 1 && r.waits[0] && r.cpu == CPU);
        CHECK(r.function.slot == m.function.slot && r.args[0].slot == m.argument.slot);
        CHECK(r.packed == (payload != 0) && !strcmp(r.name, "make"));
        CHECK(payload || (r.size == 6 && !memcmp(r.payload, "packed", 6)));
        drop_recipe(&w, &r);
    }
    CHECK(recipe_of(&w, m.results[1], &r) == PM_ENOTFOUND);
    drop_made(&w, &m);
    DO(pm__settle(w.a, PM_WAIT));
    CHECK(stats(&w).kept == 0);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
    return kept;
}

TEST(what_may_be_spilled_and_run_again_is_kept)
{
    CHECK(is_kept(3, 0, SIZE));
    CHECK(is_kept(PM_RETRY_ALWAYS, 3000, SIZE));
    CHECK(!is_kept(0, 0, SIZE));
    CHECK(!is_kept(3, 0, 200));
    CHECK(!is_kept(3, 5000, SIZE));
}

TEST(what_it_took_is_not_kept)
{
    world w = world_new();
    made m = submit_made(&w, 3, 0);
    pm_recipe r;
    run(&w, SIZE);
    drop(&w, m.argument);
    CHECK(recipe_of(&w, m.results[0], &r) == PM_ENOTFOUND);
    pm_ref other = put(&w, 9); /* in its place */
    CHECK(recipe_of(&w, m.results[0], &r) == PM_ENOTFOUND);
    CHECK(recipe_of(&w, other, &r) == PM_ENOTFOUND);
    clean(&w);
    pm_close(w.a);
}

/* ---- replacing ------------------------------------------------------------------------------- */

static uint64_t first_word(const world *w, pm_ref ref)
{
    pm_view v;
    DO(pm_pin(w->a, ref.slot));
    DO(pm_look(w->a, ref.slot, &v));
    uint64_t word = *(const uint64_t *)v.data;
    pm_unpin(w->a, ref.slot);
    return word;
}

/* As if its task had been run again, with another value: here it contains a reference, too. */
static void replace(const world *w, pm_ref lost)
{
    pm_ref inner = put(w, 3), again = pending(w, 2 * SIZE, 77, &inner, 1);
    drop(w, inner);
    int rc = pm_await_back(w->a, lost.slot);
    if (rc == PM_ESPILLED)
        DO(pm_replace(w->a, lost.slot, again.slot));
    drop(w, again);
}

static void replace_ours(world *w)
{
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    replace(w, w->b->refs[0]);
}

static made ours;

static void make_and_spill(world *w)
{
    uint64_t freed;
    w->b->word[60] = stats(w).entries;
    ours = submit_made(w, 3, 0);
    run(w, SIZE);
    w->b->refs[0] = ours.results[0];
    DO(pm_spill(w->a, UINT64_MAX, &freed));
    CHECK(state_of(w, ours.results[0]) == PM_SPILLED);
}

static void replace_and_drop(world *w, bool died)
{
    (void)died;
    replace(w, ours.results[0]);
    CHECK(first_word(w, ours.results[0]) == 77);
    clean(w);
    drop_made(w, &ours);
    DO(pm__settle(w->a, PM_WAIT));
    AWAIT((pm__spill_trim(w->a), stats(w).disk_used == 0));
    AWAIT(stats(w).entries == w->b->word[60]);
    CHECK(stats(w).kept == 0);
}

TEST(what_has_no_block_replaces_nothing)
{
    world w = world_with_disk(16 << 20, 16 << 20, 4);
    make_and_spill(&w);
    pm_ref few = pending(&w, 8, 5, NULL, 0);
    CHECK(pm_await_back(w.a, ours.results[0].slot) == PM_ESPILLED);
    CHECK(pm_replace(w.a, ours.results[0].slot, few.slot) == PM_EINVAL);
    CHECK(state_of(&w, ours.results[0]) == PM_SPILLED);
    clean(&w);
    pm_close(w.a);
}

TEST(death_in_replacing)
{
    world w = world_with_disk(16 << 20, 16 << 20, 4);
    crash_sweep(
        &w, &(operation){.before = make_and_spill, .act = replace_ours, .after = replace_and_drop});
    pm_close(w.a);
}

/* ---- deaths ---------------------------------------------------------------------------------- */

static void submit_ours(world *w)
{
    ours = submit_made(w, 3, 0);
}

static void run_ours(world *w)
{
    run(w, SIZE);
}

static void run_and_drop(world *w, bool died)
{
    (void)died;
    pm_running t;
    if (state_of(w, ours.results[0]) == PM_PENDING) {
        DO(pm_take(w->a, PM_WAIT, &t));
        end(w, &t, SIZE);
    }
    clean(w);
    CHECK(stats(w).kept == 1);
    drop_made(w, &ours);
    DO(pm__settle(w->a, PM_WAIT));
    CHECK(stats(w).kept == 0);
}

TEST(death_in_finishing_what_is_kept)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.before = submit_ours, .act = run_ours, .after = run_and_drop});
    pm_close(w.a);
}

static void make_theirs(world *w)
{
    ours = submit_made(w, 3, 0);
    run(w, SIZE);
}

static void drop_theirs(world *w)
{
    drop_made(w, &ours);
}

static void none_is_kept(world *w, bool died)
{
    (void)died;
    CHECK(stats(w).kept == 0);
}

TEST(death_in_dropping_what_is_kept)
{
    world w = world_new();
    crash_sweep(&w,
                &(operation){.prepare = make_theirs, .act = drop_theirs, .after = none_is_kept});
    pm_close(w.a);
}

HARNESS_MAIN
