/* test_retire.c - a guest that leaves a session which goes on. */
#include "filled.h"

enum { BIG = 300000, FEW = 24 };

static void hold(world *w, uint64_t small)
{
    for (uint64_t i = 0; i < small; i++)
        DO(pm_put(w->a, PM_WAIT, &i, sizeof i, &w->b->refs[10 + i]));
    w->b->refs[1] = put_filled(w, BIG, 1);
    w->b->refs[2] = put_filled(w, BIG, 2);
    DO(pm_pin(w->a, w->b->refs[2].slot));
    DO(pm_pin(w->a, w->b->refs[2].slot));
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    DO(pm_pin(w->a, w->b->refs[0].slot));
}

static void join_and_hold(world *w)
{
    hold(w, 100);
}

static void leave(world *w)
{
    pm_ref ref;
    uint64_t n = 0;
    DO(pm_retire(w->a));
    CHECK(pm_put(w->a, PM_WAIT, &n, sizeof n, &ref) == PM_ELEFT);
    const char *bytes =
        w->a->readable + (pm__entry(w->a, w->b->refs[2].slot)->block.v - w->a->h->heap);
    CHECK(bytes[BIG - 1] == 2);
    pm_unpin(w->a, w->b->refs[2].slot);
    CHECK(bytes[BIG - 1] == 2);
}

static void join_leave_and_wait(world *w)
{
    join_and_hold(w);
    leave(w);
    w->b->word[0] = 1;
    AWAIT(w->b->word[1]);
    pm_unpin(w->a, w->b->refs[2].slot);
    pm_unpin(w->a, w->b->refs[0].slot);
    w->b->word[0] = 2;
    AWAIT(w->b->word[1] == 2);
    pm_close(w->a);
}

static bool alive(const world *w, pm_ref ref)
{
    int rc = pm_hold(w->a, PM_WAIT, ref);
    if (rc == PM_OK)
        pm_drop(w->a, ref.slot);
    return rc == PM_OK;
}

TEST(guest_that_left_keeps_what_it_sees_and_nothing_else)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref mine = w.b->refs[0] = put_filled(&w, BIG, 0);
    pid_t pid = spawn_kind(&w, PM_GUEST, join_leave_and_wait);
    AWAIT(w.b->word[0] == 1);
    clean(&w);
    CHECK(!alive(&w, w.b->refs[1]) && !alive(&w, w.b->refs[50]) && alive(&w, w.b->refs[2]));
    pm_drop(w.a, mine.slot);
    CHECK(alive(&w, mine)); /* the guest still sees it */
    w.b->word[1] = 1;
    AWAIT(w.b->word[0] == 2);
    CHECK(!alive(&w, mine) && !alive(&w, w.b->refs[2]));
    clean(&w);
    w.b->word[1] = 2;
    reap(pid);
    CHECK(sweep_dead(&w) == 1);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

/* Its unpins find the lock busy: the next one does them. */
static void unpin_beside_the_lock(world *w)
{
    pm_op op;
    join_and_hold(w);
    leave(w);
    DO(pm__enter(&op, w->a->heir, PM_WAIT));
    pm_unpin(w->a, w->b->refs[2].slot);
    DO(pm__leave(&op));
    pm_unpin(w->a, w->b->refs[0].slot);
    w->b->word[0] = 1;
    AWAIT(w->b->word[1]);
}

TEST(unpin_of_a_guest_that_left_is_deferred)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref mine = w.b->refs[0] = put_filled(&w, BIG, 0);
    pid_t pid = spawn_kind(&w, PM_GUEST, unpin_beside_the_lock);
    AWAIT(w.b->word[0]);
    CHECK(!alive(&w, w.b->refs[2]));
    w.b->word[1] = 1;
    reap(pid);
    CHECK(sweep_dead(&w) == 1);
    pm_drop(w.a, mine.slot);
    same(&w, then);
    pm_close(w.a);
}

/* Small ones enough for several transactions: each passes the same points as the one before. */
static void join_and_hold_a_few(world *w)
{
    hold(w, FEW);
}

static void put_mine(world *w)
{
    w->b->refs[0] = put_filled(w, BIG, 0);
}

static void drop_mine(world *w, bool died)
{
    (void)died;
    pm_drop(w->a, w->b->refs[0].slot);
}

TEST(death_in_leaving)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.before = put_mine,
                                 .prepare = join_and_hold_a_few,
                                 .act = leave,
                                 .after = drop_mine});
    pm_close(w.a);
}

HARNESS_MAIN
