/* test_survey.c - the list of objects says what they are and who has them. */
#include "world.h"

static void hold_and_wait(world *w)
{
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    DO(pm_pin(w->a, w->b->refs[0].slot));
    w->b->word[0] = 1;
    pause();
}

TEST(objects_are_listed_with_their_holders)
{
    world w = world_new();
    pm_ref small, big, box;
    uint64_t number = 5;
    DO(pm_put(w.a, PM_WAIT, &number, sizeof number, &small));
    DO(pm_create(w.a, PM_WAIT, 100000, NULL, 0, &big));
    DO(pm_seal(w.a, PM_WAIT, big.slot, false));
    DO(pm_create(w.a, PM_WAIT, 8, &big, 1, &box));
    DO(pm_contain(w.a, PM_WAIT, box.slot));
    w.b->refs[0] = big;
    pid_t pid = spawn(&w, hold_and_wait);
    AWAIT(w.b->word[0]);
    pm_object_info found[10];
    uint64_t from = 0, n = 10, bytes = 0;
    int rc;
    while ((rc = pm_survey(w.a, PM_WAIT, &from, found, &n)) == PM_EAGAIN)
        n = 10;
    CHECK(rc == PM_ENOTFOUND && n == 2 + (pm_state(w.a, box.slot) != PM_PENDING));
    for (uint64_t i = 0; i < n; i++) {
        bytes += found[i].bytes;
        if (found[i].ref.slot == small.slot)
            CHECK(found[i].is_inline && found[i].size == 8 && found[i].nholders == 1);
        if (found[i].ref.slot != big.slot)
            continue;
        CHECK(found[i].state == PM_SEALED && found[i].refs == 3 && found[i].nholders == 2);
        for (int k = 0; k < 2; k++)
            if (found[i].holders[k].pid == (uint64_t)pid)
                CHECK(found[i].holders[k].pins == 1 && found[i].holders[k].kind == PM_WORKER);
            else
                CHECK(found[i].holders[k].pins == 0 && found[i].holders[k].kind == PM_DRIVER);
    }
    CHECK(bytes == stats(&w).heap_used);
    slay(pid);
    sweep_dead(&w);
    pm_close(w.a);
}

TEST(a_long_list_comes_in_pieces)
{
    world w = world_new();
    pm_object_info found[64];
    uint64_t from = 0, n, all = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        pm_ref ref;
        DO(pm_put(w.a, PM_WAIT, &i, sizeof i, &ref));
    }
    int rc;
    do {
        n = 64;
        rc = pm_survey(w.a, PM_WAIT, &from, found, &n);
        CHECK(rc == PM_OK || rc == PM_ENOTFOUND || rc == PM_EAGAIN);
        all += rc == PM_EAGAIN ? 0 : n;
    } while (rc != PM_ENOTFOUND);
    CHECK(all == 1000);
    pm_close(w.a);
}

HARNESS_MAIN
