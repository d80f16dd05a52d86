/* test_warm.c - memory that the next large objects will want exists before they come. */
#include "filled.h"

enum { HEAP = 128 << 20, AHEAD = HEAP / 4, BIG = 20 << 20, SMALL = 7 << 20 };

static uint64_t warm_all(const world *w)
{
    uint64_t made = 0, more;
    while ((more = pm_warm(w->a)) > 0)
        made += more;
    return made;
}

TEST(what_a_large_put_will_be_followed_by_exists_and_no_more)
{
    world w = world_of(HEAP, 4);
    pm_ref ref = put_filled(&w, BIG, 1);
    uint64_t before = backed(&w), made = warm_all(&w);
    CHECK(made > AHEAD - 2 * PM_CHUNK && made <= AHEAD);
    CHECK(backed(&w) - before <= AHEAD && backed(&w) - before + PM_CHUNK >= made);
    CHECK(pm_a64_load(&w.a->h->loose)); /* it goes back if nobody uses it */
    CHECK(warm_all(&w) == 0);
    before = backed(&w);
    pm_ref next = put_filled(&w, BIG, 2);
    CHECK(backed(&w) - before <= PM_CHUNK); /* it was there */
    is_filled(&w, ref, BIG, 1);
    is_filled(&w, next, BIG, 2);
    CHECK(warm_all(&w) == 0); /* it met nothing that did not exist */
    pm_close(w.a);
}

TEST(nothing_is_made_for_small_objects)
{
    world w = world_of(HEAP, 4);
    put_filled(&w, SMALL, 1);
    CHECK(warm_all(&w) == 0);
    pm_close(w.a);
}

TEST(what_was_not_made_is_not_made_later)
{
    world w = world_of(HEAP, 4);
    put_filled(&w, BIG, 1);
    CHECK(pm_a64_load(&w.a->h->warm_from));
    pm_warm_not(w.a);
    CHECK(warm_all(&w) == 0);
    put_filled(&w, BIG, 2);
    CHECK(warm_all(&w) > 0);
    pm_close(w.a);
}

TEST(nothing_is_made_behind_the_heap)
{
    world w = world_of(HEAP, 4);
    uint64_t before = backed(&w);
    put_filled(&w, HEAP - SMALL, 1);
    CHECK(warm_all(&w) <= SMALL);
    CHECK(backed(&w) - before <= HEAP + PM_CHUNK);
    CHECK(pm_a64_load(&w.a->h->warm_from) == 0);
    pm_close(w.a);
}

/* Whether or not this machine gives any. */
TEST(what_is_put_on_huge_pages_is_whole)
{
    world w = world_of(HEAP, 4);
    pm_huge_pages(w.a);
    pm_ref first = put_filled(&w, BIG, 1);
    warm_all(&w);
    pm_ref second = put_filled(&w, BIG + 4097, 2);
    uint64_t given, before = backed(&w);
    drop(&w, first);
    DO(pm_trim(w.a, 0, &given));
    CHECK(backed(&w) + BIG / 2 < before);
    pm_ref third = put_filled(&w, BIG, 3);
    is_filled(&w, second, BIG + 4097, 2);
    is_filled(&w, third, BIG, 3);
    pm_close(w.a);
}

static void warm_on(world *w)
{
    for (;;)
        pm_warm(w->a);
}

/* Both come to the same pages at the same time, as often as not. */
TEST(what_is_put_meanwhile_stays_as_it_was_put)
{
    enum { COUNT = 5 };
    world w = world_of(HEAP, 4);
    pm_ref refs[COUNT];
    pid_t keeper = spawn_kind(&w, PM_KEEPER, warm_on);
    for (int i = 0; i < COUNT; i++)
        refs[i] = put_filled(&w, BIG, i + 1);
    for (int i = 0; i < COUNT; i++)
        is_filled(&w, refs[i], BIG, i + 1);
    slay(keeper);
    pm_close(w.a);
}

/* ---- deaths ---------------------------------------------------------------------------------- */

static pm_ref kept;

static void ask(world *w)
{
    uint64_t given;
    kept = put_filled(w, BIG, 1);
    DO(pm_trim(w->a, 0, &given)); /* what earlier rounds have warmed */
    pm_a64_store(&w->a->h->warm_from, BIG);
}

static void warm(world *w)
{
    warm_all(w);
}

static void the_next_put_is_whole(world *w, bool died)
{
    CHECK(died || pm_a64_load(&w->a->h->warm_from) == 0);
    pm_ref next = put_filled(w, BIG, 2);
    is_filled(w, kept, BIG, 1);
    is_filled(w, next, BIG, 2);
    drop(w, kept);
    drop(w, next);
}

TEST(death_in_warming)
{
    world w = world_of(HEAP, 4);
    crash_sweep(&w, &(operation){.before = ask, .act = warm, .after = the_next_put_is_whole});
    pm_close(w.a);
}

HARNESS_MAIN
