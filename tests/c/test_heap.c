/* test_heap.c - the heap against a model, at its limits, rolled back, and killed at every point. */
#include "../../csrc/heap.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#include "../../csrc/crash.h"
#include "../../csrc/err.h"
#include "harness.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define TIB ((uint64_t)1 << 40)

/* An arena of nothing but a lock and a heap, shared with children. */
typedef struct {
    char *base;
    pm_lock lock;
    pm_heap heap;
    char *state; /* control block and table: all that the heap may change */
    uint64_t state_bytes;
} world;

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

static world world_new(uint64_t heap_bytes)
{
    uint64_t control = round_up(sizeof(pm_lock_shm), 64);
    uint64_t table = control + round_up(sizeof(pm_heap_shm), 64);
    uint64_t first = round_up(table + pm__heap_table_bytes(heap_bytes), PM_HEAP_PAGE);
    char *base = mmap(NULL, first + heap_bytes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(base != MAP_FAILED);
    world w = {.base = base, .state = base + control, .state_bytes = first - control};
    CHECK(pm_lock_init((pm_lock_shm *)base) == PM_OK);
    pm_lock_open(&w.lock, (pm_lock_shm *)base, base);
    pm_heap_shm *shm = (pm_heap_shm *)(base + control);
    pm__heap_open(&w.heap, &w.lock, shm, base, table, first);
    CHECK(pm__heap_format(&w.heap, heap_bytes) == PM_OK);
    return w;
}

/* The world moves when returned by value; its handle's pointer to the lock follows here. */
static void world_enter(world *w)
{
    w->heap.l = &w->lock;
    CHECK(pm_lock_acquire(&w->lock, PM_WAIT) == PM_OK);
}

static void world_leave(world *w)
{
    CHECK(pm_lock_release(&w->lock) == PM_OK);
    CHECK(munmap(w->base, (uint64_t)(w->state - w->base) + w->state_bytes +
                              w->heap.shm->pages * PM_HEAP_PAGE) == 0);
}

static pm_heap_stats stats(const world *w)
{
    pm_heap_stats s;
    pm__heap_stats(&w->heap, &s);
    return s;
}

static void reclaim_all(world *w)
{
    pm_lock_commit(&w->lock);
    for (int i = 0; pm__heap_reclaim(&w->heap); i++) {
        CHECK(i < PM_HEAP_CLASSES);
        pm_lock_commit(&w->lock);
    }
}

static void check_one_free_run(world *w)
{
    reclaim_all(w);
    pm_heap_stats s = stats(w);
    CHECK(pm__heap_check(&w->heap) == PM_OK);
    CHECK(s.used == 0 && s.spans == 0);
    CHECK(s.free == s.capacity && s.largest == s.capacity);
}

/* ---- random numbers, blocks with a seed in them ---- */

static uint64_t rng = 88172645463325252u;

static uint64_t random64(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng;
}

/* Small, middling and large, each spread evenly over the powers of two. */
static uint64_t random_size(uint64_t most)
{
    uint64_t n = random64() % ((uint64_t)2 << random64() % 22);
    return n < most ? n : most;
}

typedef struct {
    uint64_t off, bytes, seed;
} block;

/* One word a 64-byte unit of a slot, one a page of a run, and the last word of either. */
static void block_each(const world *w, const block *b, bool write)
{
    uint64_t step = b->bytes <= PM_HEAP_SMALL ? 64 : PM_HEAP_PAGE;
    for (uint64_t i = 0; i <= b->bytes; i += step) {
        uint64_t *word = (uint64_t *)(w->base + b->off + (i == b->bytes ? i - 8 : i));
        if (write)
            *word = b->seed ^ i;
        CHECK(*word == (b->seed ^ i));
    }
}

static block block_new(world *w, uint64_t nbytes)
{
    block b = {.off = pm__heap_alloc(&w->heap, nbytes), .seed = random64()};
    if (b.off == 0)
        return b;
    b.bytes = pm__heap_usable(&w->heap, b.off);
    CHECK(b.bytes >= nbytes && b.off % 64 == 0);
    CHECK(b.off >= w->heap.first);
    CHECK(b.off + b.bytes <= w->heap.first + w->heap.shm->pages * PM_HEAP_PAGE);
    block_each(w, &b, true);
    return b;
}

static void block_end(world *w, block *b)
{
    CHECK(pm__heap_usable(&w->heap, b->off) == b->bytes);
    block_each(w, b, false);
    pm__heap_free(&w->heap, b->off);
    CHECK(pm__heap_usable(&w->heap, b->off) == 0);
    b->off = 0;
}

static void shuffle(uint64_t *a, uint64_t n)
{
    for (uint64_t i = n; i > 1; i--) {
        uint64_t j = random64() % i, x = a[i - 1];
        a[i - 1] = a[j];
        a[j] = x;
    }
}

/* ---- sizes and alignment ---- */

TEST(a_fresh_heap_of_any_size_is_one_free_run)
{
    uint64_t sizes[] = {64 * KIB, MIB, MIB + 5000, 3 * MIB, GIB, 100 * GIB + 4096, TIB, 8 * TIB};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        world w = world_new(sizes[i]);
        world_enter(&w);
        check_one_free_run(&w);
        CHECK(stats(&w).capacity == sizes[i] / PM_HEAP_PAGE * PM_HEAP_PAGE);
        uint64_t small = pm__heap_alloc(&w.heap, 100),
                 large = pm__heap_alloc(&w.heap, sizes[i] / 2);
        CHECK(small && large && pm__heap_check(&w.heap) == PM_OK);
        pm__heap_free(&w.heap, small);
        pm__heap_free(&w.heap, large);
        check_one_free_run(&w);
        world_leave(&w);
    }
}

TEST(a_heap_too_small_too_large_or_off_a_page_is_refused)
{
    pm_heap_shm shm;
    pm_heap h = {.shm = &shm, .first = PM_HEAP_PAGE};
    CHECK(pm__heap_format(&h, PM_HEAP_PAGE - 1) == PM_EINVAL);
    CHECK(pm__heap_format(&h, PM_HEAP_MAX + 1) == PM_EINVAL);
    h.first += 64;
    CHECK(pm__heap_format(&h, MIB) == PM_EINVAL);
    h.first = 0;
    CHECK(pm__heap_format(&h, MIB) == PM_EINVAL);
}

TEST(every_size_gets_an_aligned_block_that_wastes_at_most_an_eighth)
{
    world w = world_new(64 * MIB);
    world_enter(&w);
    for (uint64_t n = 0; n < 40000; n += n < 2000 ? 1 : 61) {
        block b = block_new(&w, n);
        CHECK(b.off);
        CHECK(n <= PM_HEAP_SMALL || b.off % PM_HEAP_PAGE == 0);
        if (n <= PM_HEAP_SMALL)
            CHECK(b.bytes < n + 64 + n / 8 || n == 0);
        else
            CHECK(b.bytes < n + PM_HEAP_PAGE);
        block_end(&w, &b);
        pm_lock_commit(&w.lock);
    }
    check_one_free_run(&w);
    world_leave(&w);
}

TEST(a_block_of_no_bytes_is_a_block)
{
    world w = world_new(MIB);
    world_enter(&w);
    uint64_t a = pm__heap_alloc(&w.heap, 0), b = pm__heap_alloc(&w.heap, 0);
    CHECK(a && b && a != b && pm__heap_usable(&w.heap, a) == 64);
    pm__heap_free(&w.heap, a);
    pm__heap_free(&w.heap, b);
    check_one_free_run(&w);
    world_leave(&w);
}

TEST(a_request_that_does_not_fit_gets_nothing_and_writes_nothing)
{
    world w = world_new(MIB);
    world_enter(&w);
    uint64_t sizes[] = {MIB + 1,           2 * MIB,        TIB,       TIB + 1,
                        UINT64_MAX - 4096, UINT64_MAX - 1, UINT64_MAX};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        CHECK(pm__heap_alloc(&w.heap, sizes[i]) == 0);
    CHECK(w.lock.undone == 0);
    CHECK(pm__heap_alloc(&w.heap, MIB));
    pm_lock_commit(&w.lock);
    for (unsigned n = 0; n < 40000; n += 1000)
        CHECK(pm__heap_alloc(&w.heap, n) == 0);
    CHECK(w.lock.undone == 0);
    world_leave(&w);
}

TEST(an_object_as_large_as_the_heap_fits_an_empty_one)
{
    uint64_t sizes[] = {MIB, 77 * MIB + 4096, TIB};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        world w = world_new(sizes[i]);
        world_enter(&w);
        for (uint64_t n = 1; n <= PM_HEAP_SMALL && i; n += 64) { /* leaves an empty span a class */
            pm__heap_free(&w.heap, pm__heap_alloc(&w.heap, n));
            pm_lock_commit(&w.lock);
        }
        CHECK(i == 0 || stats(&w).spans == PM_HEAP_CLASSES);
        CHECK(i == 0 || pm__heap_alloc(&w.heap, sizes[i]) == 0);
        reclaim_all(&w);
        uint64_t off = pm__heap_alloc(&w.heap, sizes[i]);
        CHECK(off && pm__heap_usable(&w.heap, off) == sizes[i]);
        CHECK(stats(&w).free == 0 && stats(&w).largest == 0);
        pm__heap_free(&w.heap, off);
        check_one_free_run(&w);
        world_leave(&w);
    }
}

/* ---- coalescing and reuse ---- */

TEST(neighbours_coalesce_in_every_order_of_freeing)
{
    int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (int i = 0; i < 12; i++) {
        world w = world_new(MIB);
        world_enter(&w);
        uint64_t off[3];
        for (int k = 0; k < 3; k++)
            off[k] = pm__heap_alloc(&w.heap, (20 + 100 * k) * KIB);
        uint64_t rest = stats(&w).free, guard = i < 6 ? 0 : pm__heap_alloc(&w.heap, rest);
        for (int k = 0; k < 3; k++) {
            pm__heap_free(&w.heap, off[orders[i % 6][k]]);
            CHECK(pm__heap_check(&w.heap) == PM_OK);
        }
        CHECK(stats(&w).largest == (guard ? MIB - rest : MIB));
        if (guard)
            pm__heap_free(&w.heap, guard);
        check_one_free_run(&w);
        world_leave(&w);
    }
}

TEST(freeing_and_allocating_one_size_returns_the_same_pages)
{
    world w = world_new(GIB);
    world_enter(&w);
    for (uint64_t n = 17 * KIB; n < 200 * MIB; n = n * 5 / 3) {
        uint64_t before = pm__heap_alloc(&w.heap, n), a = pm__heap_alloc(&w.heap, n);
        for (int after = 0; after < 2; after++) { /* then with a used neighbour on its other side */
            uint64_t neighbour = after ? pm__heap_alloc(&w.heap, 5 * PM_HEAP_PAGE) : 0;
            pm__heap_free(&w.heap, a);
            CHECK(pm__heap_alloc(&w.heap, n) == a);
            if (after)
                pm__heap_free(&w.heap, neighbour);
            pm_lock_commit(&w.lock);
        }
        pm__heap_free(&w.heap, before);
        pm__heap_free(&w.heap, a);
    }
    check_one_free_run(&w);
    world_leave(&w);
}

TEST(an_object_that_comes_and_goes_neither_makes_nor_unmakes_a_span)
{
    world w = world_new(64 * MIB);
    world_enter(&w);
    for (uint64_t n = 64; n <= PM_HEAP_SMALL; n += 64) {
        uint64_t held[300];
        for (int count = 0; count < 300; count++) { /* at any fill of the spans before it */
            held[count] = pm__heap_alloc(&w.heap, n);
            pm__heap_free(&w.heap, pm__heap_alloc(&w.heap, n));
            pm_lock_commit(&w.lock);
            uint64_t spans = stats(&w).spans, off = pm__heap_alloc(&w.heap, n);
            CHECK(off && stats(&w).spans == spans);
            pm__heap_free(&w.heap, off);
            CHECK(stats(&w).spans == spans);
            pm_lock_commit(&w.lock);
        }
        for (int i = 0; i < 300; i++) {
            pm__heap_free(&w.heap, held[i]);
            pm_lock_commit(&w.lock);
        }
        CHECK(pm__heap_check(&w.heap) == PM_OK);
    }
    CHECK(stats(&w).spans == PM_HEAP_CLASSES); /* one empty span a class stayed */
    check_one_free_run(&w);
    world_leave(&w);
}

TEST(the_first_span_of_a_class_to_empty_stays_and_the_second_goes)
{
    world w = world_new(MIB);
    uint64_t off[12]; /* three spans of four */
    world_enter(&w);
    for (int i = 0; i < 12; i++)
        off[i] = pm__heap_alloc(&w.heap, 16 * KIB);
    pm__heap_free(&w.heap, off[8]);
    for (int i = 0; i < 4; i++)
        pm__heap_free(&w.heap, off[i]);
    CHECK(stats(&w).spans == 3);
    for (int i = 4; i < 8; i++)
        pm__heap_free(&w.heap, off[i]);
    CHECK(stats(&w).spans == 2 && pm__heap_check(&w.heap) == PM_OK);
    CHECK(pm__heap_alloc(&w.heap, 16 * KIB) == off[8]); /* the empty one is taken from last */
    CHECK(pm__heap_alloc(&w.heap, 16 * KIB) == off[0] && stats(&w).spans == 2);
    world_leave(&w);
}

/* ---- the model ---- */

TEST(a_full_heap_empties_back_into_one_run)
{
    static uint64_t offs[MIB * 4 / 64];
    uint64_t sizes[] = {1,    64,   65,   200,  320,   512,   1000,  1024,
                        1100, 4096, 5000, 9000, 13000, 16384, 16385, 100000};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        world w = world_new(4 * MIB);
        world_enter(&w);
        uint64_t count = 0, usable = 0;
        for (uint64_t off; (off = pm__heap_alloc(&w.heap, sizes[i])) != 0; count++) {
            offs[count] = off;
            usable =
                pm__heap_usable(&w.heap, off) > usable ? pm__heap_usable(&w.heap, off) : usable;
            pm_lock_commit(&w.lock);
        }
        CHECK(pm__heap_check(&w.heap) == PM_OK);
        CHECK(stats(&w).free < (sizes[i] <= PM_HEAP_SMALL ? PM_HEAP_SMALL : sizes[i]));
        CHECK(stats(&w).capacity - stats(&w).free - stats(&w).used < 4 * PM_HEAP_PAGE);
        CHECK(count >= (4 * MIB - 16 * PM_HEAP_PAGE) / usable - 8);
        shuffle(offs, count);
        for (uint64_t k = 0; k < count; k++) {
            pm__heap_free(&w.heap, offs[k]);
            pm_lock_commit(&w.lock);
        }
        check_one_free_run(&w);
        world_leave(&w);
    }
}

enum { SLOTS = 600 };

/* One random step on the model: fill an empty slot or empty a full one. The most writes of each kind are noted. */
static void model_step(world *w, block *model, uint32_t *most_alloc, uint32_t *most_free)
{
    block *b = &model[random64() % SLOTS];
    uint32_t before = w->lock.undone;
    if (b->off == 0) {
        *b = block_new(w, random_size(8 * MIB));
        uint32_t writes = w->lock.undone - before;
        *most_alloc = writes > *most_alloc ? writes : *most_alloc;
    } else {
        block_end(w, b);
        uint32_t writes = w->lock.undone - before;
        *most_free = writes > *most_free ? writes : *most_free;
    }
}

static uint64_t model_bytes(const block *model)
{
    uint64_t sum = 0;
    for (int i = 0; i < SLOTS; i++)
        sum += model[i].off ? model[i].bytes : 0;
    return sum;
}

TEST(random_blocks_never_overlap_and_stay_within_the_write_bounds)
{
    uint64_t sizes[] = {2 * MIB, 32 * MIB, 256 * MIB}; /* often full, now and then, never */
    uint32_t most_alloc = 0, most_free = 0;
    for (unsigned i = 0; i < 3; i++) {
        block model[SLOTS] = {0};
        world w = world_new(sizes[i]);
        world_enter(&w);
        for (int step = 0; step < 30000; step++) {
            model_step(&w, model, &most_alloc, &most_free);
            pm_lock_commit(&w.lock);
            if (step % 50 == 0) {
                CHECK(pm__heap_check(&w.heap) == PM_OK);
                CHECK(stats(&w).used == model_bytes(model));
            }
            if (step % 5000 == 4999)
                reclaim_all(&w);
        }
        for (int k = 0; k < SLOTS; k++) {
            if (model[k].off)
                block_end(&w, &model[k]);
            pm_lock_commit(&w.lock);
        }
        check_one_free_run(&w);
        world_leave(&w);
    }
    fprintf(stderr, "most writes: alloc %u of %d, free %u of %d\n", most_alloc,
            PM_HEAP_ALLOC_WRITES, most_free, PM_HEAP_FREE_WRITES);
    CHECK(most_alloc <= PM_HEAP_ALLOC_WRITES && most_alloc > PM_HEAP_ALLOC_WRITES - 6);
    CHECK(most_free <= PM_HEAP_FREE_WRITES && most_free > PM_HEAP_FREE_WRITES - 6);
}

TEST(the_largest_free_size_reported_can_be_allocated)
{
    world w = world_new(32 * MIB);
    block model[SLOTS] = {0};
    uint32_t ignored = 0;
    world_enter(&w);
    for (int step = 0; step < 3000; step++) {
        model_step(&w, model, &ignored, &ignored);
        pm_lock_commit(&w.lock);
        uint64_t largest = stats(&w).largest;
        CHECK(largest == 0 || pm__heap_alloc(&w.heap, largest));
        pm_lock_rollback(&w.lock);
    }
    world_leave(&w);
}

/* ---- transactions ---- */

TEST(a_rollback_restores_every_bit)
{
    world w = world_new(32 * MIB);
    block model[SLOTS] = {0}, saved[SLOTS];
    char *before = malloc(w.state_bytes);
    uint32_t ignored = 0;
    CHECK(before);
    world_enter(&w);
    for (int round = 0; round < 600; round++) {
        memcpy(saved, model, sizeof model);
        memcpy(before, w.state, w.state_bytes);
        /* Several operations on the same pages in one transaction. Blocks that it frees and that are taken again
         * lose their seeds, so the model is filled anew below. */
        while (pm_lock_room(&w.lock) >= PM_HEAP_FREE_WRITES)
            model_step(&w, model, &ignored, &ignored);
        if (round % 2) {
            pm_lock_commit(&w.lock);
        } else {
            pm_lock_rollback(&w.lock);
            CHECK(memcmp(before, w.state, w.state_bytes) == 0);
            memcpy(model, saved, sizeof model);
            for (int i = 0; i < SLOTS; i++)
                if (model[i].off)
                    block_each(&w, &model[i], true);
        }
        CHECK(pm__heap_check(&w.heap) == PM_OK);
    }
    free(before);
    world_leave(&w);
}

TEST(freeing_what_is_no_block_changes_nothing_and_breaks_the_arena)
{
    for (int i = 0; i < 11; i++) {
        world w = world_new(MIB);
        world_enter(&w);
        uint64_t small = pm__heap_alloc(&w.heap, 128), large = pm__heap_alloc(&w.heap, 100 * KIB);
        uint64_t gone = pm__heap_alloc(&w.heap, 100 * KIB),
                 gone_small = pm__heap_alloc(&w.heap, 128);
        pm__heap_free(&w.heap, gone);
        pm__heap_free(&w.heap, gone_small);
        uint64_t wrong[] = {gone,
                            gone_small,
                            0,
                            64,
                            small + 1,
                            small + 64,
                            large + 64,
                            large + PM_HEAP_PAGE,
                            w.heap.first + MIB,
                            UINT64_MAX,
                            w.heap.first - 64};
        CHECK(pm__heap_usable(&w.heap, wrong[i]) == 0);
        pm_lock_commit(&w.lock);
        pm_heap_stats before = stats(&w), after;
        pm__heap_free(&w.heap, small);
        pm__heap_free(&w.heap, wrong[i]);
        CHECK(pm_lock_release(&w.lock) == PM_ECORRUPT);
        after = stats(&w);
        CHECK(memcmp(&before, &after, sizeof after) == 0);
        CHECK(pm__heap_check(&w.heap) == PM_OK);
        CHECK(pm_lock_acquire(&w.lock, PM_TRY) == PM_ECORRUPT);
    }
}

/* ---- the check itself ---- */

static void check_sees(const world *w, uint64_t *word, uint64_t flip)
{
    *word ^= flip;
    CHECK(pm__heap_check(&w->heap) == PM_ECORRUPT);
    *word ^= flip;
}

TEST(the_check_sees_damage_to_any_word)
{
    world w = world_new(4 * MIB);
    block model[SLOTS] = {0};
    uint32_t ignored = 0;
    world_enter(&w);
    for (int step = 0; step < 900; step++) {
        model_step(&w, model, &ignored, &ignored);
        pm_lock_commit(&w.lock);
    }
    pm_heap_shm *s = w.heap.shm;
    uint64_t *back = (uint64_t *)(w.heap.pages + s->pages + 2);
    CHECK(pm__heap_check(&w.heap) == PM_OK);
    check_sees(&w, &s->used.v, 64);
    check_sees(&w, &s->pages_used.v, 1);
    check_sees(&w, &s->spans.v, 1);
    check_sees(&w, &s->groups.v, 1);
    for (uint64_t *p = (uint64_t *)s->bins; p < (uint64_t *)(s + 1); p++)
        check_sees(&w, p, 1);
    for (uint64_t page = 1, end = 1; page <= s->pages; page++) {
        pm_page_shm *d = &w.heap.pages[page];
        if (page == end)
            end += d->tag.v >> 32;
        if (end - page > 100) /* within a long run the check does not look everywhere */
            page = end - 1, d = &w.heap.pages[page];
        check_sees(&w, &d->tag.v, 1);
        check_sees(&w, &d->tag.v, (uint64_t)1 << 32);
        check_sees(&w, &d->foot.v, 1);
        check_sees(&w, &back[page / 16], (uint64_t)1 << 4 * (page % 16));
        if ((d->tag.v & 0xff) == 1) { /* a free run: its links are live */
            check_sees(&w, &d->link.v, 1);
            check_sees(&w, &d->link.v, (uint64_t)1 << 32);
        }
        if ((d->tag.v & 0xff) == 3) /* a span */
            check_sees(&w, &d->free[0].v, 1);
    }
    CHECK(pm__heap_check(&w.heap) == PM_OK);
    world_leave(&w);
}

/* ---- death ---- */

typedef struct {
    const char *name;
    void (*prepare)(world *w); /* leaves the operation's offsets in place[] */
    void (*run)(world *w);
} operation;

static uint64_t place[8];

static void prepare_nothing(world *w)
{
    (void)w;
}
static void prepare_fragments(world *w)
{
    for (int i = 0; i < 8; i++)
        place[i] = pm__heap_alloc(&w->heap, 40 * KIB);
    pm__heap_free(&w->heap, place[1]);
    pm__heap_free(&w->heap, place[3]);
    pm__heap_free(&w->heap, place[5]);
}
static void prepare_span_but_one(world *w)
{
    for (int i = 0; i < 3; i++)
        place[i] = pm__heap_alloc(&w->heap, 16 * KIB);
}
static void prepare_full_span(world *w)
{
    for (int i = 0; i < 4; i++)
        place[i] = pm__heap_alloc(&w->heap, 16 * KIB);
}
/* Two spans of four slots; the second is empty, the first holds one block and a free run is before it. */
static void prepare_two_spans(world *w)
{
    uint64_t run = pm__heap_alloc(&w->heap, 20 * KIB);
    for (int i = 0; i < 8; i++)
        place[i] = pm__heap_alloc(&w->heap, 16 * KIB);
    for (int i = 7; i > 0; i--)
        pm__heap_free(&w->heap, place[i]);
    pm__heap_free(&w->heap, run);
}
static void alloc_first_slot(world *w)
{
    CHECK(pm__heap_alloc(&w->heap, 256));
}
static void alloc_16k(world *w)
{
    CHECK(pm__heap_alloc(&w->heap, 16 * KIB));
}
static void alloc_run(world *w)
{
    CHECK(pm__heap_alloc(&w->heap, 300 * KIB));
}
static void alloc_exact_run(world *w)
{
    CHECK(pm__heap_alloc(&w->heap, 40 * KIB) == place[5]);
}
static void free_first(world *w)
{
    pm__heap_free(&w->heap, place[0]);
}
static void free_between(world *w)
{
    pm__heap_free(&w->heap, place[2]);
}
static void reclaim(world *w)
{
    CHECK(pm__heap_reclaim(&w->heap));
}
static void free_and_alloc_again(world *w)
{
    pm__heap_free(&w->heap, place[2]);
    CHECK(pm__heap_alloc(&w->heap, 256));
    CHECK(pm__heap_alloc(&w->heap, 100 * KIB));
}

static const operation operations[] = {
    {"alloc makes a span", prepare_fragments, alloc_first_slot},
    {"alloc from a fresh heap", prepare_nothing, alloc_first_slot},
    {"alloc fills a span", prepare_span_but_one, alloc_16k},
    {"alloc cuts a run", prepare_fragments, alloc_run},
    {"alloc takes a whole run", prepare_fragments, alloc_exact_run},
    {"free opens a full span", prepare_full_span, free_first},
    {"free drops a span", prepare_two_spans, free_first},
    {"free joins two runs", prepare_fragments, free_between},
    {"reclaim", prepare_two_spans, reclaim},
    {"free and alloc in one transaction", prepare_fragments, free_and_alloc_again},
};

/* Run the operation in a child armed to die at the nth point; true if it died there. */
static bool dies_at(world *w, const operation *op, uint64_t nth)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        alarm(10);
        pm_crash_arm(nth);
        CHECK(pm_lock_acquire(&w->lock, PM_WAIT) == PM_OK);
        op->run(w);
        CHECK(pm_lock_release(&w->lock) == PM_OK);
        _exit(0);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : status == 0);
    return WIFSIGNALED(status);
}

/* Die at the 1st, 2nd, ... point until the operation outlives it. Each time the next one to lock finds the state
 * before or the state after, to the bit. */
static void sweep(const operation *op)
{
    world w = world_new(2 * MIB);
    char *before = malloc(w.state_bytes), *after = malloc(w.state_bytes);
    uint64_t deaths = 0, befores = 0;
    CHECK(before && after);
    world_enter(&w);
    op->prepare(&w);
    pm_lock_commit(&w.lock);
    memcpy(before, w.state, w.state_bytes);
    op->run(&w);
    CHECK(w.lock.undone > 0);
    memcpy(after, w.state, w.state_bytes);
    pm_lock_rollback(&w.lock);
    CHECK(memcmp(w.state, before, w.state_bytes) == 0);
    CHECK(memcmp(after, before, w.state_bytes) != 0);
    CHECK(pm_lock_release(&w.lock) == PM_OK);
    for (bool died = true; died;) {
        died = dies_at(&w, op, deaths + 1);
        CHECK(pm_lock_acquire(&w.lock, PM_WAIT) == PM_OK);
        CHECK(pm__heap_check(&w.heap) == PM_OK);
        bool is_before = memcmp(w.state, before, w.state_bytes) == 0;
        CHECK(is_before ? died : memcmp(w.state, after, w.state_bytes) == 0);
        deaths += died;
        befores += is_before;
        memcpy(w.state, before, w.state_bytes);
        CHECK(pm_lock_release(&w.lock) == PM_OK);
    }
    fprintf(stderr, "%s: %d deaths, %d rolled back\n", op->name, (int)deaths, (int)befores);
    CHECK(deaths > 4 && befores > 2 && befores < deaths);
    free(before);
    free(after);
}

TEST(death_at_any_point_leaves_the_state_before_or_after)
{
    for (unsigned i = 0; i < sizeof operations / sizeof *operations; i++)
        sweep(&operations[i]);
}

HARNESS_MAIN
