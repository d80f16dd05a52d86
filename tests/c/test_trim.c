/* test_trim.c - memory of the store that nobody uses goes back to the machine. */
#include "filled.h"

enum { HEAP = 16 << 20, BIG = 5 << 18, COUNT = 4, DISK = 64 << 20 };

/* Every other of them goes, so that what is free lies between what is not. */
static void put_and_drop(const world *w, pm_ref refs[COUNT])
{
    for (int i = 0; i < COUNT; i++)
        refs[i] = put_filled(w, BIG + 4096 * (uint64_t)i, i + 1);
    for (int i = 0; i < COUNT; i += 2)
        drop(w, refs[i]);
}

TEST(free_memory_goes_and_the_rest_stays)
{
    world w = world_of(HEAP, 4);
    pm_ref refs[COUNT];
    uint64_t given, before = backed(&w);
    put_and_drop(&w, refs);
    CHECK(pm_a64_load(&w.a->h->loose));
    CHECK(backed(&w) - before >= COUNT * (uint64_t)BIG);
    pm_a64_store(&w.a->h->lined, 1); /* a hint, of somebody who is gone */
    DO(pm_trim(w.a, 0, &given));
    CHECK(given >= COUNT / 2 * (uint64_t)BIG);
    CHECK(backed(&w) - before < (COUNT / 2 + 1) * (uint64_t)BIG);
    for (int i = 1; i < COUNT; i += 2)
        is_filled(&w, refs[i], BIG + 4096 * (uint64_t)i, i + 1);
    pm_ref again = put_filled(&w, BIG, 99);
    is_filled(&w, again, BIG, 99);
    for (int i = 1; i < COUNT; i += 2)
        is_filled(&w, refs[i], BIG + 4096 * (uint64_t)i, i + 1);
    pm_close(w.a);
}

TEST(so_much_stays_as_is_to_be_kept)
{
    world w = world_of(HEAP, 4);
    uint64_t given;
    drop(&w, put_filled(&w, 8 * (uint64_t)BIG, 1));
    DO(pm_trim(w.a, HEAP, &given));
    CHECK(given == 0);
    pm_close(w.a);
}

TEST(nothing_is_spilled_for_want_of_what_is_being_trimmed)
{
    world w = world_with_disk(HEAP, DISK, 4);
    uint64_t freed, second = 1000000000;
    pm_ref ref = put_filled(&w, BIG, 1);
    pm_a64_store(&w.a->h->trimming, pm__os_now() + 100 * second);
    DO(pm_spill(w.a, BIG, &freed));
    CHECK(freed == 0 && state_of(&w, ref) == PM_SEALED);
    pm_a64_store(&w.a->h->trimming, pm__os_now() - 1); /* its keeper was stopped */
    DO(pm_spill(w.a, BIG, &freed));
    CHECK(freed >= BIG && state_of(&w, ref) == PM_SPILLED);
    drop(&w, ref);
    pm_close(w.a);
}

/* ---- deaths ---------------------------------------------------------------------------------- */

static pm_ref kept[COUNT];

static void leave_free_memory(world *w)
{
    uint64_t freed;
    pm_ref away = put_filled(w, BIG, 55);
    DO(pm_spill(w->a, BIG, &freed));
    CHECK(state_of(w, away) == PM_SPILLED);
    drop(w, away);
    AWAIT((pm__spill_trim(w->a), stats(w).disk_used == 0));
    CHECK(pm__disk_spare(w->a) >= BIG);
    put_and_drop(w, kept);
    DO(pm__settle(w->a, PM_WAIT));
    w->b->word[60] = stats(w).entries;
    w->b->word[61] = stats(w).heap_used;
}

static void trim(world *w)
{
    uint64_t given;
    DO(pm_trim(w->a, 0, &given));
}

static void nothing_has_changed(world *w, bool died)
{
    pm_a64_store(&w->a->h->trimming, 0); /* as the next keeper does */
    DO(pm__settle(w->a, PM_WAIT));
    AWAIT((pm__spill_trim(w->a), stats(w).entries == w->b->word[60]));
    CHECK(died || pm__disk_spare(w->a) < BIG / 4);
    CHECK(stats(w).heap_used == w->b->word[61]);
    drop(w, put_filled(w, BIG, 77));
    for (int i = 1; i < COUNT; i += 2) {
        is_filled(w, kept[i], BIG + 4096 * (uint64_t)i, i + 1);
        drop(w, kept[i]);
    }
}

TEST(death_in_trimming)
{
    world w = world_with_disk(HEAP, DISK, 4);
    crash_sweep(
        &w, &(operation){.before = leave_free_memory, .act = trim, .after = nothing_has_changed});
    pm_close(w.a);
}

HARNESS_MAIN
