/* test_prefetch.c - what queued tasks take comes back from the disk while others run. */
#include "tasks.h"

enum { HEAP = 16 << 20, BIG = 3 << 20, DISK = 64 << 20 };

static pm_ref put_big(const world *w, uint64_t value)
{
    pm_ref ref = pending(w, BIG, value, NULL, 0);
    DO(pm_seal(w->a, PM_WAIT, ref.slot, false));
    return ref;
}

static void spill_all(const world *w)
{
    uint64_t freed;
    DO(pm_spill(w->a, UINT64_MAX, &freed));
}

/* A task that runs here, and one that is queued behind it and takes the object. */
static pm_ref queue_one(const world *w, pm_ref argument, pm_running *first)
{
    pm_ref one = submit_one(w), two;
    submit(w, &argument, 1, 1, 1, &two);
    CHECK(take(w, first));
    drop(w, one);
    return two;
}

static void run_both(const world *w, const pm_running *first)
{
    pm_running next;
    finish(w, first);
    while (take(w, &next))
        finish(w, &next);
}

TEST(what_the_next_task_takes_comes_back)
{
    world w = world_with_disk(HEAP, DISK, 1);
    pm_ref wanted = put_big(&w, 1), other = put_big(&w, 2);
    pm_running first;
    spill_all(&w);
    CHECK(state_of(&w, wanted) == PM_SPILLED && state_of(&w, other) == PM_SPILLED);
    pm_ref out = queue_one(&w, wanted, &first);
    AWAIT(state_of(&w, wanted) == PM_SEALED); /* by our watcher thread */
    CHECK(state_of(&w, other) == PM_SPILLED);
    CHECK(value_of(&w, wanted) == 1);
    run_both(&w, &first);
    drop(&w, out);
    drop(&w, wanted);
    drop(&w, other);
    pm_close(w.a);
}

TEST(no_more_than_its_share_of_the_store_comes_back)
{
    world w = world_with_disk(HEAP, DISK, 1);
    pm_ref wanted[4], out;
    pm_running first;
    for (uint64_t i = 0; i < 4; i++)
        wanted[i] = put_big(&w, i);
    spill_all(&w);
    pm_ref one = submit_one(&w);
    CHECK(take(&w, &first));
    submit(&w, wanted, 4, 1, 1, &out);
    atomic_store(&w.a->prefetch, true);
    pm__prefetch(w.a);
    AWAIT(state_of(&w, wanted[0]) == PM_SEALED); /* here or there */
    CHECK(state_of(&w, wanted[3]) == PM_SPILLED);
    run_both(&w, &first);
    drop(&w, one);
    drop(&w, out);
    for (uint64_t i = 0; i < 4; i++)
        drop(&w, wanted[i]);
    pm_close(w.a);
}

/* ---- deaths ---------------------------------------------------------------------------------- */

static pm_running running;

static void queue_away(world *w)
{
    w->b->word[60] = stats(w).entries;
    w->b->refs[0] = put_big(w, 7);
    w->b->refs[1] = queue_one(w, w->b->refs[0], &running);
    CHECK(!atomic_load(&w->a->prefetch)); /* nothing was on disk: our own thread will do nothing */
    spill_all(w);
    CHECK(state_of(w, w->b->refs[0]) == PM_SPILLED);
}

static void prefetch(world *w)
{
    atomic_store(&w->a->prefetch, true);
    pm__prefetch(w->a);
}

static void run_and_drop(world *w, bool died)
{
    CHECK(died || state_of(w, w->b->refs[0]) == PM_SEALED);
    CHECK(state_of(w, w->b->refs[0]) == PM_SEALED || state_of(w, w->b->refs[0]) == PM_SPILLED);
    run_both(w, &running);
    drop(w, w->b->refs[0]);
    drop(w, w->b->refs[1]);
    DO(pm__settle(w->a, PM_WAIT));
    AWAIT((pm__spill_trim(w->a), stats(w).disk_used == 0));
    AWAIT(stats(w).entries == w->b->word[60]);
}

TEST(death_in_prefetching)
{
    world w = world_with_disk(HEAP, DISK, 1);
    crash_sweep(&w, &(operation){.before = queue_away, .act = prefetch, .after = run_and_drop});
    pm_close(w.a);
}

HARNESS_MAIN
