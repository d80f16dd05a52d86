/* test_object.c - an object's life, by itself and with its process killed at every point of it. */
#include <pthread.h>

#include "world.h"

static const unsigned char KEY[PM_KEY] = "a key that is not an id ....";

static pm_ref put(const world *w, uint64_t value)
{
    pm_ref ref;
    DO(pm_put(w->a, PM_WAIT, &value, sizeof value, &ref));
    return ref;
}

/* One that other processes may hold, too. */
static pm_ref put_shared(const world *w, uint64_t value)
{
    pm_ref ref = put(w, value);
    pm_share(w->a, ref.slot);
    return ref;
}

static uint64_t value_of(const world *w, pm_ref ref)
{
    pm_view v;
    DO(pm_look(w->a, ref.slot, &v));
    CHECK(v.size == 8 && v.is_inline);
    return *(const uint64_t *)v.data;
}

/* A sealed object of `size` bytes, each `fill`, that contains these references. */
static pm_ref build(const world *w, uint64_t size, int fill, const pm_ref *refs, uint64_t nrefs)
{
    pm_ref ref;
    char *bytes = malloc(size + 1);
    memset(bytes, fill, size);
    DO(pm_create(w->a, PM_WAIT, size, refs, nrefs, &ref));
    DO(pm_contain(w->a, PM_WAIT, ref.slot));
    DO(pm_write(w->a, ref.slot, 0, bytes, size / 2));
    DO(pm_write(w->a, ref.slot, size / 2, bytes, size - size / 2));
    DO(pm_seal(w->a, PM_WAIT, ref.slot, false));
    free(bytes);
    return ref;
}

static bool filled(const pm_view *v, int fill)
{
    for (uint64_t i = 0; i < v->size; i++)
        if (((const char *)v->data)[i] != (char)fill)
            return false;
    return true;
}

static void drop(const world *w, pm_ref ref)
{
    pm_drop(w->a, ref.slot);
}

static bool gone(const world *w, pm_ref ref)
{
    return pm_hold(w->a, PM_WAIT, ref) == PM_ENOTFOUND;
}

/* ---- one process ------------------------------------------------------------------------------------------- */

TEST(small_object_is_kept_inline_and_freed_by_its_last_drop)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref ref = put(&w, 42);
    CHECK(pm_state(w.a, ref.slot) == PM_SEALED && value_of(&w, ref) == 42);
    drop(&w, ref);
    CHECK(gone(&w, ref));
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

TEST(slot_is_used_again_under_another_generation)
{
    world w = world_new();
    pm_ref first = put(&w, 1);
    drop(&w, first);
    pm_ref second = put(&w, 2);
    CHECK(second.slot == first.slot && second.generation == first.generation + 1);
    CHECK(gone(&w, first));
    CHECK(value_of(&w, second) == 2);
    CHECK(pm_hold(w.a, PM_WAIT, (pm_ref){UINT64_MAX, 0}) == PM_ENOTFOUND);
    pm_close(w.a);
}

TEST(bytes_of_every_size_come_back_from_the_read_only_map)
{
    world w = world_new();
    pm_stats then = stats(&w);
    const uint64_t sizes[] = {0, 1, 159, 160, 161, 4096, 16384, 16385, 300000, 9000000, 9000000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        pm_ref ref = build(&w, sizes[i], (int)i + 1, NULL, 0);
        pm_view v;
        DO(pm_look(w.a, ref.slot, &v));
        CHECK(v.size == sizes[i] && v.nrefs == 0 && v.is_inline == (sizes[i] <= PM_INLINE) &&
              filled(&v, (int)i + 1));
        if (!v.is_inline)
            CHECK((const char *)v.data >= w.a->readable && (uintptr_t)v.data % 64 == 0);
        clean(&w);
        drop(&w, ref);
    }
    same(&w, then);
    pm_close(w.a);
}

TEST(pieces_are_written_where_they_belong_on_fresh_and_warm_pages)
{
    enum { SIZE = 3000001, PIECE = 700001 };
    world w = world_new();
    unsigned char *bytes = malloc(SIZE);
    for (uint64_t i = 0; i < SIZE; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 4096);
    for (int round = 0; round < 3; round++) {
        pm_ref ref;
        pm_view v;
        DO(pm_create(w.a, PM_WAIT, SIZE, NULL, 0, &ref));
        for (uint64_t at = 0; at < SIZE; at += PIECE)
            DO(pm_write(w.a, ref.slot, at, bytes + at, SIZE - at < PIECE ? SIZE - at : PIECE));
        CHECK(pm_write(w.a, ref.slot, SIZE - 1, bytes, 2) == PM_EINVAL);
        CHECK(pm_write(w.a, ref.slot, UINT64_MAX, bytes, 2) == PM_EINVAL);
        DO(pm_seal(w.a, PM_WAIT, ref.slot, false));
        DO(pm_look(w.a, ref.slot, &v));
        CHECK(memcmp(v.data, bytes, SIZE) == 0);
        drop(&w, ref);
    }
    free(bytes);
    pm_close(w.a);
}

TEST(pending_object_has_no_bytes_to_show_and_is_sealed_once)
{
    world w = world_new();
    pm_ref ref;
    pm_view v;
    DO(pm_create(w.a, PM_WAIT, 500, NULL, 0, &ref));
    CHECK(pm_look(w.a, ref.slot, &v) == PM_ESTATE);
    DO(pm_seal(w.a, PM_WAIT, ref.slot, true));
    CHECK(pm_state(w.a, ref.slot) == PM_FAILED);
    CHECK(pm_seal(w.a, PM_WAIT, ref.slot, false) == PM_ESTATE);
    DO(pm_look(w.a, ref.slot, &v));
    CHECK(v.state == PM_FAILED);
    pm_close(w.a);
}

TEST(further_references_of_a_process_take_no_lock)
{
    world w = world_new();
    pm_ref ref = put(&w, 1);
    pm_op op;
    DO(pm__enter(&op, w.a, PM_WAIT));
    CHECK(pm_hold(w.a, PM_TRY, ref) == PM_OK); /* with the lock taken */
    CHECK(pm_pin(w.a, ref.slot) == PM_OK);
    pm_unpin(w.a, ref.slot);
    drop(&w, ref);
    DO(pm__leave(&op));
    CHECK(value_of(&w, ref) == 1);
    drop(&w, ref);
    CHECK(gone(&w, ref));
    pm_close(w.a);
}

TEST(pin_outlives_the_reference)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref ref = build(&w, 1000, 7, NULL, 0);
    pm_view v;
    DO(pm_look(w.a, ref.slot, &v));
    DO(pm_pin(w.a, ref.slot));
    drop(&w, ref);
    pm_ref other = build(&w, 1000, 8, NULL, 0);
    CHECK(filled(&v, 7));
    pm_unpin(w.a, ref.slot);
    CHECK(pm_pin(w.a, ref.slot) == PM_ENOTFOUND);
    drop(&w, other);
    same(&w, then);
    pm_close(w.a);
}

TEST(contained_object_lives_as_long_as_its_container)
{
    world w = world_new();
    pm_stats then = stats(&w);
    for (uint64_t size = 0; size < 1000; size += 499) { /* the table inline, and in a block */
        pm_ref inner[20];
        for (uint64_t i = 0; i < 20; i++)
            inner[i] = put(&w, i);
        pm_ref outer = build(&w, size, 1, inner, size ? 20 : 3);
        for (uint64_t i = 0; i < 20; i++)
            drop(&w, inner[i]);
        pm_view v;
        DO(pm_look(w.a, outer.slot, &v));
        CHECK(v.nrefs == (size ? 20 : 3) && memcmp(v.refs, inner, v.nrefs * sizeof(pm_ref)) == 0);
        for (uint64_t i = 0; i < v.nrefs; i++) {
            DO(pm_hold(w.a, PM_WAIT, v.refs[i]));
            CHECK(value_of(&w, v.refs[i]) == i);
            drop(&w, v.refs[i]);
        }
        clean(&w);
        drop(&w, outer);
        same(&w, then);
    }
    pm_close(w.a);
}

TEST(object_that_contains_itself_is_refused)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref ref, inner[3] = {put(&w, 1), {0, 0}, put(&w, 2)};
    pm_ref next; /* the slot that the container will get */
    DO(pm_create(w.a, PM_WAIT, 10, NULL, 0, &next));
    drop(&w, next);
    inner[1] = (pm_ref){next.slot, next.generation + 1};
    DO(pm_create(w.a, PM_WAIT, 10, inner, 3, &ref));
    CHECK(ref.slot == inner[1].slot);
    CHECK(pm_contain(w.a, PM_WAIT, ref.slot) == PM_ECYCLE);
    CHECK(pm_seal(w.a, PM_WAIT, ref.slot, false) == PM_ESTATE);
    drop(&w, ref);
    drop(&w, inner[0]);
    drop(&w, inner[2]);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

TEST(name_leads_to_its_object_while_that_lives)
{
    world w = world_new();
    pm_ref ref = put(&w, 5), found, other = put(&w, 6);
    CHECK(pm_find(w.a, PM_WAIT, KEY, &found) == PM_ENOTFOUND);
    DO(pm_name(w.a, PM_WAIT, ref.slot, KEY));
    CHECK(pm_name(w.a, PM_WAIT, other.slot, KEY) == PM_EEXISTS);
    CHECK(pm_name(w.a, PM_WAIT, ref.slot, (const unsigned char *)"another key of 28 bytes ...") ==
          PM_EEXISTS);
    DO(pm_find(w.a, PM_WAIT, KEY, &found));
    CHECK(found.slot == ref.slot && found.generation == ref.generation);
    clean(&w);
    drop(&w, ref);
    DO(pm_find(w.a, PM_WAIT, KEY, &found));
    drop(&w, ref);
    drop(&w, ref);
    CHECK(pm_find(w.a, PM_WAIT, KEY, &found) == PM_ENOTFOUND);
    DO(pm_name(w.a, PM_WAIT, other.slot, KEY));
    clean(&w);
    pm_close(w.a);
}

TEST(many_names_share_buckets)
{
    enum { MANY = 3000 };
    world w = world_new();
    w.a->h->bucket_count = 64; /* long chains; set before the first key */
    pm_ref refs[MANY], found;
    for (uint32_t i = 0; i < MANY; i++) {
        unsigned char key[PM_KEY] = {0};
        memcpy(key, &i, 4);
        refs[i] = put(&w, i);
        DO(pm_name(w.a, PM_WAIT, refs[i].slot, key));
    }
    for (uint32_t i = 0; i < MANY; i += 2)
        drop(&w, refs[i]);
    clean(&w);
    for (uint32_t i = 0; i < MANY; i++) {
        unsigned char key[PM_KEY] = {0};
        memcpy(key, &i, 4);
        CHECK(pm_find(w.a, PM_WAIT, key, &found) == (i % 2 ? PM_OK : PM_ENOTFOUND));
        CHECK(i % 2 == 0 || found.slot == refs[i].slot);
    }
    pm_close(w.a);
}

TEST(boot_object_is_kept_by_the_arena)
{
    world w = world_new();
    pm_ref ref = put(&w, 9), found;
    CHECK(pm_boot(w.a, PM_WAIT, &found) == PM_ENOTFOUND);
    DO(pm_set_boot(w.a, PM_WAIT, ref.slot));
    CHECK(pm_set_boot(w.a, PM_WAIT, ref.slot) == PM_EEXISTS);
    drop(&w, ref);
    DO(pm_boot(w.a, PM_WAIT, &found));
    CHECK(value_of(&w, found) == 9);
    clean(&w);
    drop(&w, found);
    clean(&w);
    pm_close(w.a);
}

/* ---- limits ------------------------------------------------------------------------------------------------ */

TEST(full_heap_is_told_and_has_room_again_after_drops)
{
    world w = world_of(4 << 20, 1);
    pm_stats then = stats(&w);
    pm_ref refs[64], small[300], ref;
    int n = 0, rc;
    for (int i = 0; i < 300; i++) /* spans that stay behind, empty */
        small[i] = build(&w, 200 + (uint64_t)i * 9, 1, NULL, 0);
    for (int i = 0; i < 300; i++)
        drop(&w, small[i]);
    while ((rc = pm_create(w.a, PM_WAIT, 100000, NULL, 0, &ref)) == PM_OK)
        refs[n++] = ref;
    CHECK(rc == PM_EFULL && n == 40); /* spare spans were given back: not one block less fits */
    CHECK(pm_create(w.a, PM_WAIT, UINT64_MAX - 5, NULL, 0, &ref) == PM_EFULL);
    CHECK(pm_create(w.a, PM_WAIT, 5, NULL, UINT64_MAX / 8, &ref) == PM_EFULL);
    ref = put(&w, 1); /* small values need no block */
    drop(&w, ref);
    clean(&w);
    while (n > 0)
        drop(&w, refs[--n]);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

TEST(full_tables_are_told_and_nothing_is_half_done)
{
    world w = world_new();
    pm_header_shm *h = w.a->h;
    pm_ref first = put(&w, 1), ref;
    const struct {
        pm_pool_shm *pool;
    } tables[] = {{&h->entries}, {&h->holds}};
    for (int i = 0; i < 2; i++) {
        uint64_t capacity = tables[i].pool->capacity;
        int n = 0, rc;
        tables[i].pool->capacity = tables[i].pool->high.v; /* nobody else is here to see it */
        while ((rc = pm_put(w.a, PM_WAIT, "x", 1, &ref)) == PM_OK)
            CHECK(n++ < PM_RESERVE); /* out of stock */
        CHECK(rc == PM_ETABLE);
        CHECK(pm_create(w.a, PM_WAIT, 1000, NULL, 0, &ref) == PM_ETABLE);
        clean(&w);
        tables[i].pool->capacity = capacity;
    }
    uint64_t keys = h->keys.capacity;
    h->keys.capacity = 0;
    CHECK(pm_name(w.a, PM_WAIT, first.slot, KEY) == PM_ETABLE);
    h->keys.capacity = keys;
    CHECK(pm_put(w.a, PM_WAIT, "x", PM_INLINE + 1, &ref) == PM_EINVAL);
    clean(&w);
    pm_close(w.a);
}

/* R11: neither recursion nor a transaction that overflows. */
TEST(last_drop_of_deeply_nested_containers_frees_them_all)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref ref = put(&w, 0);
    for (int depth = 0; depth < 100000; depth++) {
        pm_ref outer;
        DO(pm_create(w.a, PM_WAIT, 8, &ref, 1, &outer));
        DO(pm_contain(w.a, PM_WAIT, outer.slot));
        DO(pm_seal(w.a, PM_WAIT, outer.slot, false));
        drop(&w, ref);
        ref = outer;
    }
    CHECK(stats(&w).entries == then.entries + 100001);
    clean(&w);
    drop(&w, ref);
    CHECK(stats(&w).entries == then.entries);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

TEST(last_drop_of_a_wide_container_frees_all_that_nobody_else_holds)
{
    enum { WIDE = 10000 };
    world w = world_new();
    pm_stats then = stats(&w);
    pm_ref *refs = malloc(WIDE * sizeof *refs);
    for (uint64_t i = 0; i < WIDE; i++)
        refs[i] = i % 3 ? put(&w, i) : build(&w, 300, 1, NULL, 0);
    pm_ref outer = build(&w, 0, 0, refs, WIDE);
    for (uint64_t i = 1; i < WIDE; i++)
        drop(&w, refs[i]);
    drop(&w, outer);
    CHECK(stats(&w).entries == then.entries + 1);
    drop(&w, refs[0]);
    same(&w, then);
    clean(&w);
    free(refs);
    pm_close(w.a);
}

/* ---- threads of one process -------------------------------------------------------------------------------- */

static void *churn(void *arg)
{
    world *w = arg;
    unsigned seed = (unsigned)(uintptr_t)&seed;
    for (int i = 0; i < 20000; i++) {
        pm_ref ref = w->b->refs[rand_r(&seed) % 8];
        int rc;
        while ((rc = pm_hold(w->a, PM_WAIT, ref)) == PM_EAGAIN)
            continue;
        CHECK(rc == PM_OK || rc == PM_ENOTFOUND);
        if (rc == PM_OK && i % 3 == 0) {
            DO(pm_pin(w->a, ref.slot));
            pm_unpin(w->a, ref.slot);
        }
        if (rc == PM_OK)
            drop(w, ref);
    }
    return NULL;
}

/* R7: first and last reference of a process under the lock, the others beside it. */
TEST(threads_share_a_process_references)
{
    world w = world_new();
    pm_stats then = stats(&w);
    world other = {.b = w.b};
    pthread_t t[4];
    DO(pm_open_fd(w.a->fd, PM_GUEST, -1, -1, &other.a));
    for (uint64_t i = 0; i < 8; i++)
        w.b->refs[i] = put_shared(&w, i); /* another process keeps them alive */
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&t[i], NULL, churn, &other) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(t[i], NULL) == 0);
    DO(pm__settle(other.a, PM_WAIT));
    clean(&w);
    for (int i = 0; i < 8; i++)
        CHECK(atomic_load(&other.a->local[w.b->refs[i].slot].refs) == 0);
    for (int i = 0; i < 8; i++)
        drop(&w, w.b->refs[i]);
    DO(pm_leave(other.a, true));
    same(&w, then);
    clean(&w);
    pm_close(other.a);
    pm_close(w.a);
}

static void *open_later(void *arg)
{
    usleep(20000);
    gate_open(arg);
    return NULL;
}

/* R7: the last drop of one thread meets a hold of another, which finds no reference to add to. */
TEST(hold_during_the_last_drop_finds_the_object_or_finds_it_gone)
{
    world w = world_new();
    pm_stats then = stats(&w);
    pthread_t opener;
    pm_ref ref = put_shared(&w, 1);
    CHECK(pthread_create(&opener, NULL, open_later, &w) == 0);
    gate_arm(&w, "LOGGED"); /* inside the last drop */
    pthread_t holder;
    CHECK(pthread_create(&holder, NULL, churn, &w) == 0);
    w.b->refs[0] = ref;
    drop(&w, ref);
    CHECK(pthread_join(opener, NULL) == 0 && pthread_join(holder, NULL) == 0);
    DO(pm__settle(w.a, PM_WAIT));
    CHECK(gone(&w, ref));
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

/* ---- R2: what others see of a seal ------------------------------------------------------------------------- */

static void seal_paused(world *w, const char *point)
{
    pm_ref ref;
    DO(pm_create(w->a, PM_WAIT, 1000, NULL, 0, &ref));
    w->b->refs[0] = ref;
    atomic_store(&w->b->word[0], 1);
    while (atomic_load(&w->b->word[0]) == 1)
        usleep(100);
    gate_arm(w, point);
    pm_seal(w->a, PM_WAIT, ref.slot, false);
}

static void seal_paused_before(world *w)
{
    seal_paused(w, "BEFORE_COMMIT");
}

static void seal_paused_after(world *w)
{
    seal_paused(w, "COMMITTED");
}

static enum pm_entry_state state_after_death(void (*run)(world *))
{
    world w = world_new();
    pm_stats then = stats(&w);
    pid_t pid = spawn(&w, run);
    AWAIT(atomic_load(&w.b->word[0]));
    DO(pm_hold(w.a, PM_WAIT, w.b->refs[0]));
    atomic_store(&w.b->word[0], 2);
    gate_await(&w);
    CHECK(pm_state(w.a, w.b->refs[0].slot) == PM_PENDING); /* nobody sees what might be undone */
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    clean(&w);
    enum pm_entry_state state = pm_state(w.a, w.b->refs[0].slot);
    drop(&w, w.b->refs[0]);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
    return state;
}

TEST(seal_is_undone_if_its_process_dies_before_the_commit)
{
    CHECK(state_after_death(seal_paused_before) == PM_PENDING);
}

TEST(seal_is_completed_if_its_process_dies_after_the_commit)
{
    CHECK(state_after_death(seal_paused_after) == PM_SEALED);
}

/* ---- death at every point ---------------------------------------------------------------------------------- */

static void put_inner(world *w)
{
    for (uint64_t i = 0; i < 40; i++)
        w->b->refs[i] = i % 2 ? put_shared(w, i) : build(w, 300, (int)i, NULL, 0);
}

static void check_inner(world *w, bool died)
{
    (void)died;
    for (uint64_t i = 1; i < 40; i += 2)
        CHECK(value_of(w, w->b->refs[i]) == i);
    for (uint64_t i = 0; i < 40; i++)
        drop(w, w->b->refs[i]);
    for (uint64_t i = 0; i < 40; i++)
        CHECK(gone(w, w->b->refs[i]));
}

static void hold_inner(world *w)
{
    for (uint64_t i = 0; i < 40; i++)
        DO(pm_hold(w->a, PM_WAIT, w->b->refs[i]));
}

static void act_put(world *w)
{
    pm_ref first = put(w, 1); /* stocks up */
    put(w, 2);
    drop(w, first);
    CHECK(put(w, 3).slot == first.slot);
}

TEST(death_in_put)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.act = act_put});
    pm_close(w.a);
}

static void act_build(world *w)
{
    build(w, 5000, 3, w->b->refs, 40);
}

TEST(death_in_create_contain_write_seal)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.before = put_inner,
                                 .prepare = hold_inner,
                                 .act = act_build,
                                 .after = check_inner});
    pm_close(w.a);
}

static void act_hold_and_drop(world *w)
{
    for (uint64_t i = 0; i < 4; i++)
        DO(pm_hold(w->a, PM_WAIT, w->b->refs[i]));
    for (uint64_t i = 0; i < 4; i++)
        drop(w, w->b->refs[i]);
}

TEST(death_in_hold_and_drop_of_others_objects)
{
    world w = world_new();
    crash_sweep(&w,
                &(operation){.before = put_inner, .act = act_hold_and_drop, .after = check_inner});
    pm_close(w.a);
}

static void prepare_own(world *w)
{
    pm_ref inner[40];
    for (uint64_t i = 0; i < 40; i++)
        inner[i] = i % 2 ? put(w, i) : build(w, 300, (int)i, NULL, 0);
    w->b->refs[50] = build(w, 20000, 1, inner, 40);
    for (uint64_t i = 0; i < 40; i++)
        drop(w, inner[i]);
    DO(pm_name(w->a, PM_WAIT, w->b->refs[50].slot, KEY));
}

static void act_last_drop(world *w)
{
    drop(w, w->b->refs[50]);
}

static void check_unnamed(world *w, bool died)
{
    pm_ref ref;
    (void)died;
    CHECK(pm_find(w->a, PM_WAIT, KEY, &ref) == PM_ENOTFOUND);
}

TEST(death_in_the_last_drop_of_a_named_container)
{
    world w = world_new();
    crash_sweep(&w,
                &(operation){.prepare = prepare_own, .act = act_last_drop, .after = check_unnamed});
    pm_close(w.a);
}

static void act_name_and_find(world *w)
{
    pm_ref ref = put(w, 3), found; /* named, so no longer its own */
    DO(pm_name(w->a, PM_WAIT, ref.slot, KEY));
    drop(w, ref);
    CHECK(pm_find(w->a, PM_WAIT, KEY, &found) == PM_ENOTFOUND);
    ref = put(w, 3);
    DO(pm_name(w->a, PM_WAIT, ref.slot, KEY));
    DO(pm_find(w->a, PM_WAIT, KEY, &found));
    drop(w, found);
    drop(w, ref);
}

TEST(death_in_name_and_find)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.act = act_name_and_find, .after = check_unnamed});
    pm_close(w.a);
}

static void act_pin(world *w)
{
    DO(pm_hold(w->a, PM_WAIT, w->b->refs[1]));
    DO(pm_pin(w->a, w->b->refs[1].slot));
    drop(w, w->b->refs[1]);
    pm_unpin(w->a, w->b->refs[1].slot);
}

TEST(death_in_pin_and_unpin)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.before = put_inner, .act = act_pin, .after = check_inner});
    pm_close(w.a);
}

static void fragment(world *w)
{
    pm_ref refs[100];
    for (int i = 0; i < 100; i++)
        refs[i] = build(w, 200 + (uint64_t)i * 20, 1, NULL, 0);
    for (int i = 0; i < 100; i++)
        drop(w, refs[i]);
}

static void act_fill(world *w)
{
    pm_ref ref;
    while (pm_create(w->a, PM_WAIT, 900000, NULL, 0, &ref) == PM_OK)
        continue;
}

TEST(death_in_creates_that_fill_the_heap)
{
    world w = world_of(4 << 20, 1);
    crash_sweep_by(&w, &(operation){.before = fragment, .act = act_fill}, 4);
    pm_close(w.a);
}

static void prepare_thousand(world *w)
{
    for (uint64_t i = 0; i < 1000; i++)
        w->b->refs[i] = put(w, i);
    w->b->refs[1000] = build(w, 8, 1, w->b->refs, 1000);
    for (uint64_t i = 0; i < 1000; i++)
        drop(w, w->b->refs[i]);
}

static void act_drop_thousand(world *w)
{
    drop(w, w->b->refs[1000]);
}

static void check_thousand(world *w, bool died)
{
    (void)died;
    for (uint64_t i = 0; i < 1000; i++)
        CHECK(gone(w, w->b->refs[i]));
}

TEST(death_in_freeing_a_container_of_a_thousand)
{
    world w = world_new();
    crash_sweep_by(&w,
                   &(operation){.prepare = prepare_thousand,
                                .act = act_drop_thousand,
                                .after = check_thousand},
                   97);
    pm_close(w.a);
}

static void act_set_boot(world *w)
{
    DO(pm_set_boot(w->a, PM_WAIT, put(w, 4).slot));
}

static void unset_boot(world *w, bool died)
{
    pm_ref ref;
    pm_op op;
    CHECK(pm_boot(w->a, PM_WAIT, &ref) == PM_OK || died);
    if (w->a->h->boot.v == 0)
        return;
    CHECK(value_of(w, ref) == 4);
    DO(pm__enter(&op, w->a, PM_WAIT));
    pm_set(&w->a->lock, &w->a->h->boot, 0);
    pm__entry_unref(&op, ref.slot + 1);
    DO(pm__done(&op));
    drop(w, ref);
}

TEST(death_in_setting_the_configuration)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.act = act_set_boot, .after = unset_boot});
    pm_close(w.a);
}

HARNESS_MAIN
