/* test_spill.c - objects that go to the disk for want of memory, and come back; whoever dies meanwhile. */
#include <errno.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "world.h"

enum { HEAP = 16 << 20, BIG = 5 << 20, DISK = 256 << 20, COUNT = 8 };

static world with_disk(uint64_t disk)
{
    return world_with_disk(HEAP, disk, 4);
}

/* ---- objects with a pattern ------------------------------------------------------------------ */

static uint64_t word_at(uint64_t seed, uint64_t i)
{
    return (seed + i) * UINT64_C(0x9e3779b97f4a7c15);
}

static uint64_t patience = 1; /* ns */

static int create(const world *w, uint64_t size, const pm_ref *refs, uint64_t n, pm_ref *out)
{
    int rc = pm_create(w->a, PM_WAIT, size, refs, n, out);
    uint64_t deadline = pm__os_now() + patience, ticket = 0;
    while (rc == PM_EAGAIN || rc == PM_EFULL)
        rc = pm_create_in_time(w->a, size, refs, n, deadline, &ticket, out);
    return rc;
}

static void write_pattern(const world *w, pm_ref ref, uint64_t size, uint64_t seed)
{
    enum { WORDS = 512 };
    uint64_t words[WORDS];
    for (uint64_t at = 0; at < size; at += sizeof words) {
        uint64_t n = size - at < sizeof words ? size - at : sizeof words;
        for (uint64_t i = 0; i < WORDS; i++)
            words[i] = word_at(seed, at / 8 + i);
        DO(pm_write(w->a, ref.slot, at, words, n));
    }
}

static pm_ref put_with(const world *w, uint64_t size, uint64_t seed, const pm_ref *refs, uint64_t n)
{
    pm_ref ref;
    CHECK(create(w, size, refs, n, &ref) == PM_OK);
    DO(pm_contain(w->a, PM_WAIT, ref.slot));
    write_pattern(w, ref, size, seed);
    DO(pm_seal(w->a, PM_WAIT, ref.slot, false));
    return ref;
}

static pm_ref put(const world *w, uint64_t size, uint64_t seed)
{
    return put_with(w, size, seed, NULL, 0);
}

/* As whoever reads does it: pin, or have it back and pin. PM_OK, or why it cannot be. */
static int look_at(const world *w, pm_ref ref, pm_view *v)
{
    for (;;) {
        int rc = pm_pin(w->a, ref.slot);
        if (rc == PM_OK)
            return pm_look(w->a, ref.slot, v);
        if (rc != PM_ESPILLED)
            return rc;
        while ((rc = pm_await_back(w->a, ref.slot)) == PM_EAGAIN)
            ;
        if (rc == PM_ESPILLED) {
            pm_ref into;
            rc = create(w, pm_away_bytes(w->a, ref.slot), NULL, 0, &into);
            if (rc) {
                pm_unpin(w->a, ref.slot);
                return rc;
            }
            rc = pm_bring_back(w->a, ref.slot, into.slot);
            pm_drop(w->a, into.slot);
        }
        if (rc)
            return rc;
    }
}

static bool has_pattern(const pm_view *v, uint64_t size, uint64_t seed)
{
    bool same = v->size == size;
    for (uint64_t i = 0; same && i < size / 8; i++)
        same = ((const uint64_t *)v->data)[i] == word_at(seed, i);
    return same;
}

static void look(const world *w, pm_ref ref, uint64_t size, uint64_t seed)
{
    pm_view v;
    CHECK(look_at(w, ref, &v) == PM_OK);
    CHECK(has_pattern(&v, size, seed));
    pm_unpin(w->a, ref.slot);
}

static bool is_away(const world *w, pm_ref ref)
{
    return pm_state(w->a, ref.slot) == PM_SPILLED;
}

static void spill_all(const world *w)
{
    uint64_t freed;
    DO(pm_spill(w->a, UINT64_MAX, &freed));
}

static void spill_theirs(world *w)
{
    spill_all(w);
}

/* All is given back, also what a watcher thread is about to. */
static void gone_since(const world *w, pm_stats then)
{
    DO(pm__settle(w->a, PM_WAIT));
    AWAIT((pm__spill_trim(w->a),
           stats(w).disk_used == then.disk_used && stats(w).entries == then.entries));
    same(w, then);
    clean(w);
}

/* ---- out and back ---------------------------------------------------------------------------- */

TEST(more_than_fits_goes_out_and_comes_back)
{
    world w = with_disk(DISK);
    pm_stats then = stats(&w);
    pm_ref refs[COUNT];
    for (uint64_t i = 0; i < COUNT; i++)
        refs[i] = put(&w, BIG + 8 * i, i);
    CHECK(is_away(&w, refs[0]) && !is_away(&w, refs[COUNT - 1]));
    clean(&w);
    for (int round = 0; round < 2; round++)
        for (uint64_t i = 0; i < COUNT; i++)
            look(&w, refs[i], BIG + 8 * i, i);
    clean(&w);
    pm_stats now = stats(&w);
    CHECK(now.spills == COUNT && now.restores >= COUNT && now.disk_used > COUNT * (uint64_t)BIG);
    for (uint64_t i = 0; i < COUNT; i++)
        pm_drop(w.a, refs[i].slot);
    gone_since(&w, then);
    pm_close(w.a);
}

TEST(the_least_recently_used_goes_first)
{
    world w = with_disk(DISK);
    pm_ref refs[3];
    uint64_t freed;
    for (uint64_t i = 0; i < 3; i++)
        refs[i] = put(&w, 1 << 20, i);
    pm_ref last = put(&w, 1 << 20, 3); /* a tick of the clock */
    look(&w, refs[0], 1 << 20, 0);
    DO(pm_spill(w.a, 1, &freed));
    CHECK(freed >= 1 << 20 && is_away(&w, refs[1]) && !is_away(&w, refs[0]));
    DO(pm_spill(w.a, 1, &freed));
    CHECK(is_away(&w, refs[2]) && !is_away(&w, refs[0]) && !is_away(&w, last));
    pm_close(w.a);
}

TEST(many_small_objects_go_and_come)
{
    enum { SMALL = 1500, MANY = 2500 }; /* more than are chosen in two looks at the table */
    static pm_ref refs[MANY];
    world w = with_disk(DISK);
    pm_stats then = stats(&w);
    for (uint64_t i = 0; i < MANY; i++)
        refs[i] = put(&w, SMALL, i);
    pm_ref tiny = put(&w, PM_SPILL_LEAST - 8, 1);
    spill_all(&w);
    for (uint64_t i = 0; i < MANY; i++)
        CHECK(is_away(&w, refs[i]));
    CHECK(!is_away(&w, tiny));
    for (uint64_t i = 0; i < MANY; i++)
        look(&w, refs[i], SMALL, i);
    for (uint64_t i = 0; i < MANY; i++)
        pm_drop(w.a, refs[i].slot);
    pm_drop(w.a, tiny.slot);
    gone_since(&w, then);
    pm_close(w.a);
}

TEST(what_is_looked_at_stays)
{
    world w = with_disk(DISK);
    pm_ref ref = put(&w, BIG, 1), other = put(&w, BIG, 2), more;
    pm_view v;
    CHECK(look_at(&w, ref, &v) == PM_OK && look_at(&w, other, &v) == PM_OK);
    spill_all(&w);
    CHECK(!is_away(&w, ref) && has_pattern(&v, BIG, 2));
    CHECK(create(&w, BIG + BIG / 2, NULL, 0, &more) == PM_ETIMEOUT);
    pm_unpin(w.a, other.slot); /* beside what is free */
    CHECK(create(&w, BIG + BIG / 2, NULL, 0, &more) == PM_OK && is_away(&w, other));
    clean(&w);
    pm_close(w.a);
}

TEST(an_object_that_is_back_goes_again_without_a_write)
{
    world w = with_disk(DISK);
    pm_ref ref = put(&w, BIG, 1);
    spill_all(&w);
    look(&w, ref, BIG, 1);
    spill_all(&w);
    CHECK(is_away(&w, ref) && stats(&w).spills == 1);
    look(&w, ref, BIG, 1);
    CHECK(stats(&w).restores == 2);
    clean(&w);
    pm_close(w.a);
}

/* ---- what it contains ------------------------------------------------------------------------ */

TEST(references_inside_of_a_spilled_object_stay)
{
    enum { INNER = 300 };
    static pm_ref inner[INNER];
    world w = with_disk(DISK);
    pm_stats then = stats(&w);
    pm_view v;
    for (uint64_t i = 0; i < INNER; i++)
        inner[i] = put(&w, 200, i);
    pm_ref box = put_with(&w, 10000, 7, inner, INNER);
    for (uint64_t i = 0; i < INNER; i++)
        pm_drop(w.a, inner[i].slot);
    spill_all(&w);
    CHECK(is_away(&w, box));
    clean(&w);
    CHECK(look_at(&w, box, &v) == PM_OK && has_pattern(&v, 10000, 7) && v.nrefs == INNER);
    CHECK(memcmp(v.refs, inner, sizeof inner) == 0);
    pm_unpin(w.a, box.slot);
    spill_all(&w);
    pm_drop(w.a, box.slot); /* away, with all that it contains */
    gone_since(&w, then);
    pm_close(w.a);
}

static void free_away(uint64_t nrefs)
{
    world w = with_disk(DISK);
    pm_stats then = stats(&w);
    pm_ref inner = put(&w, 200, 1), box = put_with(&w, 10000, 7, &inner, nrefs);
    pm_drop(w.a, inner.slot);
    spill_all(&w);
    DO(pm_free(w.a, PM_WAIT, box.slot));
    clean(&w);
    CHECK(pm_pin(w.a, box.slot) == PM_EFREED && stats(&w).heap_used == then.heap_used);
    pm_drop(w.a, box.slot);
    gone_since(&w, then);
    pm_close(w.a);
}

TEST(a_spilled_object_can_be_freed)
{
    free_away(0);
    free_away(1);
}

/* ---- the disk -------------------------------------------------------------------------------- */

static void scribble(const world *w, uint64_t at)
{
    CHECK(pwrite(w->a->disk_fd, "?", 1, (off_t)at) == 1);
}

TEST(damage_is_noticed_and_concerns_one_object)
{
    world w = with_disk(DISK);
    pm_view v;
    pm_ref first = put(&w, BIG, 1), second = put(&w, BIG, 2);
    spill_all(&w);
    uint64_t at = (pm__entry(w.a, first.slot)->copy.v - w.a->disk.first) * PM_DISK_UNIT;
    scribble(&w, at + BIG / 2 + 3);
    CHECK(look_at(&w, first, &v) == PM_ELOST && look_at(&w, first, &v) == PM_ELOST);
    look(&w, second, BIG, 2);
    clean(&w);
    pm_drop(w.a, first.slot);
    pm_drop(w.a, second.slot);
    CHECK(ftruncate(w.a->disk_fd, 0) == 0);
    pm_ref third = put(&w, BIG, 3);
    spill_all(&w);
    CHECK(ftruncate(w.a->disk_fd, BIG) == 0);
    CHECK(look_at(&w, third, &v) == PM_ELOST);
    clean(&w);
    pm_close(w.a);
}

TEST(a_disk_that_is_full_leaves_objects_in_memory)
{
    world w = with_disk(DISK);
    pm_ref more, refs[3];
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit most = {.rlim_cur = 6 << 20, .rlim_max = RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_FSIZE, &most) == 0);
    for (uint64_t i = 0; i < 3; i++)
        refs[i] = put(&w, BIG, i);
    CHECK(create(&w, 2 * BIG, NULL, 0, &more) == PM_ETIMEOUT);
    AWAIT(is_away(&w, refs[0]) + is_away(&w, refs[1]) + is_away(&w, refs[2]) == 1);
    spill_all(&w); /* in vain */
    CHECK(stats(&w).disk_errno == EFBIG);
    clean(&w);
    most.rlim_cur = RLIM_INFINITY; /* it is for the arena, too */
    CHECK(setrlimit(RLIMIT_FSIZE, &most) == 0);
    for (uint64_t i = 0; i < 3; i++)
        look(&w, refs[i], BIG, i);
    pm_close(w.a);
}

TEST(without_room_in_the_file_nothing_goes)
{
    world w = with_disk(BIG + (1 << 20));
    pm_ref refs[3], more;
    for (uint64_t i = 0; i < 3; i++)
        refs[i] = put(&w, BIG, i);
    CHECK(create(&w, 2 * BIG, NULL, 0, &more) == PM_ETIMEOUT);
    clean(&w);
    /* our watcher thread may be at it */
    AWAIT(is_away(&w, refs[0]) + is_away(&w, refs[1]) + is_away(&w, refs[2]) == 1);
    pm_close(w.a);
}

static uint64_t file_bytes(const world *w)
{
    struct stat st;
    CHECK(fstat(w->a->disk_fd, &st) == 0);
    return (uint64_t)st.st_blocks * 512;
}

TEST(the_file_shrinks_when_objects_go)
{
    world w = with_disk(DISK);
    pm_stats then = stats(&w);
    uint64_t given, spare = DISK / 8;
    pm_ref refs[2 * COUNT];
    for (uint64_t i = 0; i < 2 * COUNT; i++)
        refs[i] = put(&w, BIG, i);
    spill_all(&w);
    CHECK(file_bytes(&w) >= 2 * COUNT * (uint64_t)BIG);
    for (uint64_t i = 0; i < 2 * COUNT; i++)
        pm_drop(w.a, refs[i].slot);
    gone_since(&w, then);
    /* two threads with four copies each do not see what the other is about to add */
    CHECK(file_bytes(&w) >= BIG && file_bytes(&w) <= spare + 8 * (uint64_t)BIG);
    DO(pm_trim(w.a, UINT64_MAX / 2, &given)); /* the rest, when nobody makes any more */
    CHECK(given == 0 && file_bytes(&w) < BIG / 4);
    gone_since(&w, then);
    pm_close(w.a);
}

/* ---- several processes ----------------------------------------------------------------------- */

static void hold_and_look(world *w)
{
    pm_ref ref = w->b->refs[0];
    DO(pm_hold(w->a, PM_WAIT, ref));
    w->b->word[0]++;
    AWAIT(w->b->word[1]);
    look(w, ref, BIG, 1);
}

TEST(of_many_who_want_it_one_reads_it)
{
    world w = with_disk(DISK);
    pid_t pids[4];
    w.b->refs[0] = put(&w, BIG, 1);
    for (int i = 0; i < 4; i++)
        pids[i] = spawn(&w, hold_and_look);
    AWAIT(w.b->word[0] == 4);
    spill_all(&w);
    w.b->word[1] = 1;
    for (int i = 0; i < 4; i++)
        CHECK(!reap(pids[i]));
    CHECK(stats(&w).restores == 1);
    CHECK(sweep_dead(&w) == 4);
    clean(&w);
    pm_close(w.a);
}

static void begin_and_stop(world *w)
{
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    CHECK(pm_await_back(w->a, w->b->refs[0].slot) == PM_ESPILLED);
    w->b->word[0] = 1;
    AWAIT(w->b->word[1]);
    pm_ref into;
    CHECK(create(w, BIG, NULL, 0, &into) == PM_OK);
    DO(pm_bring_back(w->a, w->b->refs[0].slot, into.slot)); /* it is here already */
    look(w, w->b->refs[0], BIG, 1);
}

TEST(nobody_waits_for_ever_for_who_brings_it_back)
{
    world w = with_disk(DISK);
    w.b->refs[0] = put(&w, BIG, 1);
    spill_all(&w);
    pid_t pid = spawn(&w, begin_and_stop);
    AWAIT(w.b->word[0]);
    look(&w, w.b->refs[0], BIG, 1);
    clean(&w);
    w.b->word[1] = 1;
    CHECK(!reap(pid));
    CHECK(sweep_dead(&w) == 1);
    clean(&w);
    look(&w, w.b->refs[0], BIG, 1);
    pm_close(w.a);
}

/* Until the other process sleeps for room, and the looks that come without an event are rare. */
static void await_sleeper(world *w)
{
    AWAIT(w->b->word[1]);
    usleep(20000);
}

static void pin_until_told(world *w)
{
    pm_view v;
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
    CHECK(look_at(w, w->b->refs[0], &v) == PM_OK);
    w->b->word[0] = 1;
    await_sleeper(w);
    pm_unpin(w->a, w->b->refs[0].slot);
    AWAIT(w->b->word[2]);
}

static void write_until_told(world *w)
{
    CHECK(create(w, 2 * BIG, NULL, 0, &w->b->refs[0]) == PM_OK);
    w->b->word[0] = 1;
    await_sleeper(w);
    DO(pm_seal(w->a, PM_WAIT, w->b->refs[0].slot, false));
    AWAIT(w->b->word[2]);
}

/* One call that sleeps is enough: it is woken by what makes the object one that may go. */
static void hears_of(world *w, void (*run)(world *))
{
    uint64_t deadline = pm__os_now() + UINT64_C(60000000000), ticket = 0;
    pm_ref more;
    pid_t pid = spawn(w, run);
    AWAIT(w->b->word[0]);
    for (int looks = 0; looks < 2; looks++)
        CHECK(pm_create_in_time(w->a, 2 * BIG, NULL, 0, deadline, &ticket, &more) == PM_EAGAIN);
    w->b->word[1] = 1;
    CHECK(pm_create_in_time(w->a, 2 * BIG, NULL, 0, deadline, &ticket, &more) == PM_EAGAIN);
    CHECK(is_away(w, w->b->refs[0]));
    CHECK(pm_create_in_time(w->a, 2 * BIG, NULL, 0, deadline, &ticket, &more) == PM_OK);
    w->b->word[2] = 1;
    CHECK(!reap(pid));
    CHECK(sweep_dead(w) == 1);
    clean(w);
    pm_close(w->a);
}

TEST(who_waits_for_room_hears_of_a_view_that_ends)
{
    world w = with_disk(DISK);
    w.b->refs[0] = put(&w, 2 * BIG, 1);
    hears_of(&w, pin_until_told);
}

TEST(who_waits_for_room_hears_of_a_seal)
{
    world w = with_disk(DISK);
    hears_of(&w, write_until_told);
}

/* ---- deaths ---------------------------------------------------------------------------------- */

static void put_ours(world *w)
{
    pm_ref inner = put(w, 200, 1);
    w->b->refs[0] = put_with(w, BIG, 5, &inner, 1);
    pm_drop(w->a, inner.slot);
}

static void put_ours_away(world *w)
{
    put_ours(w);
    spill_all(w);
}

static void hold_ours(world *w)
{
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[0]));
}

static void look_at_ours(world *w)
{
    look(w, w->b->refs[0], BIG, 5);
}

static void look_and_drop(world *w, bool died)
{
    (void)died;
    look_at_ours(w);
    spill_all(w);
    look_at_ours(w);
    pm_drop(w->a, w->b->refs[0].slot);
    DO(pm__settle(w->a, PM_WAIT));
    AWAIT((pm__spill_trim(w->a), stats(w).disk_used == 0));
    AWAIT(stats(w).entries == w->b->word[60]);
}

static void count_entries(world *w)
{
    w->b->word[60] = stats(w).entries;
}

static void begin_here(world *w)
{
    count_entries(w);
    put_ours(w);
}

static void begin_away(world *w)
{
    count_entries(w);
    put_ours_away(w);
}

TEST(death_in_spilling)
{
    world w = with_disk(DISK);
    crash_sweep(&w,
                &(operation){.before = begin_here, .act = spill_theirs, .after = look_and_drop});
    pm_close(w.a);
}

TEST(death_in_bringing_back)
{
    world w = with_disk(DISK);
    crash_sweep(&w, &(operation){.before = begin_away,
                                 .prepare = hold_ours,
                                 .act = look_at_ours,
                                 .after = look_and_drop});
    pm_close(w.a);
}

static void make_room(world *w)
{
    pm_ref more;
    CHECK(create(w, 2 * BIG + BIG / 2, NULL, 0, &more) == PM_OK);
}

TEST(death_in_making_room)
{
    world w = with_disk(DISK);
    crash_sweep(&w, &(operation){.before = begin_here, .act = make_room, .after = look_and_drop});
    pm_close(w.a);
}

static void put_theirs_away(world *w)
{
    put_ours_away(w);
}

static void drop_and_trim(world *w)
{
    pm_drop(w->a, w->b->refs[0].slot);
    pm__spill_trim(w->a);
}

static void free_and_trim(world *w)
{
    DO(pm_free(w->a, PM_WAIT, w->b->refs[0].slot));
    drop_and_trim(w);
}

static void nothing_is_left(world *w, bool died)
{
    (void)died;
    AWAIT((pm__spill_trim(w->a), stats(w).disk_used == 0));
    AWAIT(stats(w).entries == w->b->word[60]);
}

TEST(death_in_dropping_what_is_away)
{
    world w = with_disk(DISK);
    crash_sweep(&w, &(operation){.before = count_entries,
                                 .prepare = put_theirs_away,
                                 .act = drop_and_trim,
                                 .after = nothing_is_left});
    crash_sweep(&w, &(operation){.before = count_entries,
                                 .prepare = put_theirs_away,
                                 .act = free_and_trim,
                                 .after = nothing_is_left});
    pm_close(w.a);
}

/* ---- all at once ----------------------------------------------------------------------------- */

static uint64_t random_of(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

/* Objects of its own and of the others, looked at in any order; until it is killed. */
static void work(world *w)
{
    enum { OWN = 12, SIZE = 600000 };
    uint64_t seed = (uint64_t)getpid() * 77 + 1, values[OWN] = {0};
    pm_ref mine[OWN];
    patience = UINT64_C(30000000000);
    for (uint64_t i = 0; i < COUNT; i++)
        DO(pm_hold(w->a, PM_WAIT, w->b->refs[i]));
    for (;;) {
        uint64_t i = random_of(&seed) % OWN;
        if (random_of(&seed) % 3 == 0 || !values[i]) {
            if (values[i])
                pm_drop(w->a, mine[i].slot);
            values[i] = random_of(&seed) | 1;
            pm_ref inner = w->b->refs[random_of(&seed) % COUNT];
            mine[i] = put_with(w, SIZE, values[i], &inner, 1);
        } else
            look(w, mine[i], SIZE, values[i]);
        i = random_of(&seed) % COUNT;
        look(w, w->b->refs[i], SIZE, i);
        w->b->word[0]++;
    }
}

TEST(storm_of_looks_spills_and_deaths)
{
    enum { WORKERS = 3, KILLS = 40, SIZE = 600000 };
    world w = with_disk(DISK);
    pm_stats then = stats(&w);
    pid_t pids[WORKERS];
    for (uint64_t i = 0; i < COUNT; i++)
        w.b->refs[i] = put(&w, SIZE, i);
    for (int i = 0; i < WORKERS; i++)
        pids[i] = spawn(&w, work);
    for (int kill = 0; kill < KILLS; kill++) {
        uint64_t before = w.b->word[0];
        AWAIT(w.b->word[0] > before + 10);
        slay(pids[kill % WORKERS]);
        CHECK(sweep_dead(&w) >= 1);
        clean(&w);
        pids[kill % WORKERS] = spawn(&w, work);
    }
    for (int i = 0; i < WORKERS; i++)
        slay(pids[i]);
    sweep_dead(&w);
    CHECK(stats(&w).spills > 0 && stats(&w).restores > 0);
    for (uint64_t i = 0; i < COUNT; i++) {
        look(&w, w.b->refs[i], SIZE, i);
        pm_drop(w.a, w.b->refs[i].slot);
    }
    gone_since(&w, then);
    pm_close(w.a);
}

HARNESS_MAIN
