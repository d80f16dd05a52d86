/* test_room.c - a full store: who waits for room is woken, whoever dies meanwhile. */
#include "world.h"

enum { HEAP = 16 << 20, BIG = 10 << 20 }; /* two do not fit */

static bool is_waited_for(const world *w)
{
    pm_op op;
    DO(pm__enter(&op, w->a, PM_WAIT));
    bool waited = pm__first_in_line(w->a) != 0;
    pm__leave(&op);
    return waited;
}

static uint64_t in_ms(uint64_t ms)
{
    return pm__os_now() + ms * 1000000;
}

static int make_in_time(const world *w, uint64_t ms, pm_ref *out)
{
    uint64_t deadline = in_ms(ms), ticket = 0;
    int rc;
    while ((rc = pm_create_in_time(w->a, BIG, NULL, 0, deadline, &ticket, out)) == PM_EAGAIN)
        continue;
    return rc;
}

static pm_ref make(const world *w)
{
    pm_ref out;
    DO(pm_create(w->a, PM_WAIT, BIG, NULL, 0, &out));
    return out;
}

static void drop_all(const world *w, pm_ref ref)
{
    pm_drop(w->a, ref.slot);
    DO(pm__settle(w->a, PM_WAIT));
}

/* Fill the store; go on when somebody waits for room. */
static void fill(world *w)
{
    w->b->refs[0] = make(w);
    w->b->word[0] = 1;
    AWAIT(is_waited_for(w));
}

static void give_back(world *w)
{
    drop_all(w, w->b->refs[0]);
}

static void fill_and_give_back(world *w)
{
    fill(w);
    give_back(w);
}

/* Waits for room, gets it, and stays until it is told to go. */
static void want(world *w)
{
    pm_ref mine;
    AWAIT(w->b->word[0]);
    CHECK(make_in_time(w, 60000, &mine) == PM_OK);
    drop_all(w, mine);
    w->b->word[1] = 1;
    AWAIT(w->b->word[2]);
}

TEST(who_waits_is_woken_when_a_block_goes_back)
{
    world w = world_of(HEAP, 4);
    pm_stats then = stats(&w);
    pm_ref mine;
    pid_t pid = spawn(&w, fill_and_give_back);
    AWAIT(w.b->word[0]);
    CHECK(make_in_time(&w, 60000, &mine) == PM_OK);
    CHECK(pm_write(w.a, mine.slot, BIG - 1, "x", 1) == PM_OK);
    drop_all(&w, mine);
    CHECK(!reap(pid));
    sweep_dead(&w);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

TEST(without_room_the_wait_ends_in_time)
{
    world w = world_of(HEAP, 4);
    pm_ref first = make(&w), second;
    pm_stats then = stats(&w);
    CHECK(make_in_time(&w, 0, &second) == PM_ETIMEOUT);
    uint64_t until = in_ms(30);
    CHECK(make_in_time(&w, 30, &second) == PM_ETIMEOUT && pm__os_now() >= until);
    same(&w, then);
    drop_all(&w, first);
    CHECK(make_in_time(&w, 0, &second) == PM_OK);
    drop_all(&w, second);
    clean(&w);
    pm_close(w.a);
}

/* ---- deaths ---------------------------------------------------------------------------------- */

static pid_t waiter;

static void begin_to_wait(world *w)
{
    memset((void *)w->b->word, 0, sizeof w->b->word);
    waiter = spawn(w, want);
}

static void waiter_has_got_room(world *w, bool died)
{
    (void)died;
    AWAIT(w->b->word[1]);
    w->b->word[2] = 1;
    CHECK(!reap(waiter));
    CHECK(sweep_dead(w) == 1);
}

TEST(death_in_giving_back)
{
    world w = world_of(HEAP, 4);
    crash_sweep(&w, &(operation){.before = begin_to_wait,
                                 .prepare = fill,
                                 .act = give_back,
                                 .after = waiter_has_got_room});
    pm_close(w.a);
}

static void fill_ours(world *w)
{
    w->b->refs[1] = make(w);
}

static void want_in_vain(world *w)
{
    pm_ref mine;
    CHECK(make_in_time(w, 5, &mine) == PM_ETIMEOUT);
}

static void want_and_get(world *w)
{
    pm_ref mine;
    CHECK(make_in_time(w, 5, &mine) == PM_OK);
}

/* Has the slot and the waiters of the one that died. */
static void wait_for_something_else(world *w)
{
    int taken[PM_WAITERS];
    for (int i = 0; i < PM_WAITERS; i++)
        taken[i] = pm__waiter_take(w->a);
    pm_a64_store(&w->a->h->lined, 1);
    CHECK(!is_waited_for(w));
    for (int i = 0; i < PM_WAITERS; i++)
        pm__waiter_give(w->a, taken[i]);
}

static void empty_ours(world *w, bool died)
{
    (void)died;
    CHECK(!reap(spawn(w, wait_for_something_else)));
    CHECK(sweep_dead(w) == 1);
    drop_all(w, w->b->refs[1]);
}

TEST(death_in_waiting)
{
    world w = world_of(HEAP, 4);
    crash_sweep(&w, &(operation){.before = fill_ours, .act = want_in_vain, .after = empty_ours});
    crash_sweep(&w, &(operation){.act = want_and_get});
    pm_close(w.a);
}

HARNESS_MAIN
