/* heap.c - two layers: runs of pages, and slots in spans of pages.
 *
 * Runs are a two-level segregated fit (bitmaps of bins, one list each), coalesced at once
 * through the tag of the page behind and the foot of the page before. A search first looks at a
 * few runs of the request's own bin, where not every run is long enough, then takes the first
 * run of the next bin that has one, where every run is: O(1), and the shortest bin that fits.
 * Blocks are cut from the front of a run and the untouched end of the heap is the longest run,
 * so warm low memory is used before fresh memory and a free and alloc of one size returns the
 * same pages. Spans are cut from the end of one: they live longer than what is large, and would
 * stand in the middle of what it leaves.
 *
 * Slots: a class's slot size is m << s bytes with m from 9 to 16, so a span of m pages holds
 * 4096 >> s slots and no rest; below 320 bytes 256 slots are enough, which keeps all that is
 * known of a span in one cache line. The map of distances leads from any page of a span to that
 * line.
 *
 * An empty span stays, as the last of its class's list, until a second one is empty: an object
 * that comes and goes does not make and unmake spans.
 *
 * Measured, ns an alloc and a free, each in a transaction of its own, warm, EPYC, gcc 12 -O2;
 * with a lock and unlock around each of the two (39 alone): 64 B 77, 1 KiB 75, 16 KiB 76, 100 MB
 * 95. Inside one lock: 1 KiB 37, 100 MB 64, 1 MB among 4000 free runs of up to 2 MB 38, random
 * of 4096 live of 32 B - 8 KiB 50, of 2 million live of 32 B - 2 KiB 345 (cache misses). Spans
 * then held 0.5 % more than their blocks. A check of these 42,575 spans: 6 ms.
 */
#include "heap.h"

#include <stddef.h>

#include "err.h"

_Static_assert(sizeof(pm_page_shm) == 64, "one descriptor, one cache line");
_Static_assert(offsetof(pm_page_shm, free) == 32, "layout");
_Static_assert(offsetof(pm_heap_shm, bins) == 64, "the counters share one cache line");
_Static_assert(sizeof(pm_heap_shm) == 64 + 8 * (27 + 48 + 27 * 64), "no padding");

enum {
    PAGE_SHIFT = 12,
    UNIT_SHIFT = 6,                                  /* sizes and addresses are multiples of 64 */
    TABLE_PAGE = PM_HEAP_PAGE / sizeof(pm_page_shm), /* descriptors in a page of the table */
    FIT_TRIES = 8, /* runs of the request's own bin that a search looks at */
};

/* The write bounds of heap.h, added up. Each line is the worst path through the function it
 * names. */
enum {
    W_LIST_PUSH = 4,
    W_LIST_REMOVE = 3,
    /* an empty list takes two writes less, and two for the bitmaps */
    W_BIN_ADD = 2 + W_LIST_PUSH,
    W_BIN_REMOVE = W_LIST_REMOVE, /* likewise */
    W_RUN_TAKE = W_BIN_REMOVE + W_BIN_ADD + 3,
    W_RUN_GIVE = (W_BIN_REMOVE + 2) + (W_BIN_REMOVE + 1) + W_BIN_ADD + 1,
    W_SPAN_MAKE = W_RUN_TAKE + 4 + 2 + 2 + 1,
    W_SPAN_DROP = W_LIST_REMOVE + 2 + 1 + W_RUN_GIVE,
};
_Static_assert(PM_HEAP_ALLOC_WRITES == W_SPAN_MAKE + 2, "the worst alloc makes a span");
_Static_assert(PM_HEAP_FREE_WRITES == W_SPAN_DROP + 2, "the worst free drops a span");

/* A tag: kind in bits 0-7, class in bits 8-15, pages in the high half. */
enum { FREE = 1, BLOCK = 2, SPAN = 3 };

static uint64_t tag_make(unsigned kind, unsigned class, uint64_t pages)
{
    return pages << 32 | class << 8 | kind;
}
static unsigned tag_kind(uint64_t tag)
{
    return tag & 0xff;
}
static unsigned tag_class(uint64_t tag)
{
    return tag >> 8 & 0xff;
}
static uint64_t tag_pages(uint64_t tag)
{
    return tag >> 32;
}

static unsigned log2_of(uint64_t x)
{
    return 63u - (unsigned)__builtin_clzll(x);
}

static uint64_t offset_of_page(const pm_heap *h, uint64_t page)
{
    return h->first + ((page - 1) << PAGE_SHIFT);
}

/* The word of the map of distances that has this page's 4 bits. */
static pm_j64 *back_word(const pm_heap *h, uint64_t page)
{
    return (pm_j64 *)(h->pages + h->shm->pages + 2) + page / 16;
}
static uint64_t distance_of(const pm_heap *h, uint64_t page)
{
    return back_word(h, page)->v >> 4 * (page % 16) & 15;
}

static void add(pm_heap *h, pm_j64 *word, uint64_t n)
{
    pm_set(h->l, word, word->v + n);
}

/* ---- circular lists of runs, through their first pages' links -------------------------------- */

static uint64_t next_of(const pm_heap *h, uint64_t page)
{
    return h->pages[page].link.v >> 32;
}
static uint64_t prev_of(const pm_heap *h, uint64_t page)
{
    return h->pages[page].link.v & 0xffffffffu;
}
static void set_link(pm_heap *h, uint64_t page, uint64_t next, uint64_t prev)
{
    pm_set(h->l, &h->pages[page].link, next << 32 | prev);
}

static void list_push(pm_heap *h, pm_j64 *head, uint64_t page)
{
    uint64_t first = head->v;
    if (first == 0) {
        set_link(h, page, page, page);
    } else {
        uint64_t last = prev_of(h, first);
        set_link(h, page, first, last);
        set_link(h, first, next_of(h, first), page);
        /* reads what the line above wrote if last == first */
        set_link(h, last, page, prev_of(h, last));
    }
    pm_set(h->l, head, page);
}

static void list_remove(pm_heap *h, pm_j64 *head, uint64_t page)
{
    uint64_t next = next_of(h, page), prev = prev_of(h, page);
    if (next == page) {
        pm_set(h->l, head, 0);
        return;
    }
    set_link(h, prev, next, prev_of(h, prev));
    set_link(h, next, next_of(h, next), prev);
    if (head->v == page)
        pm_set(h->l, head, next);
}

/* In a circular list the last is what stands before the first. */
static void list_move_last(pm_heap *h, pm_j64 *head, uint64_t page)
{
    if (head->v != page) {
        list_remove(h, head, page);
        list_push(h, head, page);
    }
    pm_set(h->l, head, next_of(h, page));
}

/* ---- bins: free runs by length --------------------------------------------------------------- */

/* The bin that holds runs of this length: group * 64 + bin. */
static unsigned bin_of(uint64_t pages)
{
    if (pages < PM_HEAP_BINS)
        return (unsigned)pages;
    unsigned e = log2_of(pages);
    return (e - 5) * PM_HEAP_BINS + (unsigned)(pages >> (e - 6) & (PM_HEAP_BINS - 1));
}

/* The first bin of which every run has at least this length. */
static unsigned bin_above(uint64_t pages)
{
    uint64_t step = pages < PM_HEAP_BINS ? 1 : (uint64_t)1 << (log2_of(pages) - 6);
    return bin_of(pages + step - 1);
}

static void bin_add(pm_heap *h, uint64_t page, uint64_t pages)
{
    pm_heap_shm *s = h->shm;
    unsigned bin = bin_of(pages), group = bin / PM_HEAP_BINS;
    pm_set(h->l, &h->pages[page].tag, tag_make(FREE, 0, pages));
    pm_set(h->l, &h->pages[page + pages - 1].foot, pages);
    if (s->runs[bin].v == 0) {
        if (s->bins[group].v == 0)
            pm_set(h->l, &s->groups, s->groups.v | (uint64_t)1 << group);
        pm_set(h->l, &s->bins[group], s->bins[group].v | (uint64_t)1 << bin % PM_HEAP_BINS);
    }
    list_push(h, &s->runs[bin], page);
}

/* Take a run out of its bin. Its tag and foot are the caller's to change. */
static void bin_remove(pm_heap *h, uint64_t page, uint64_t pages)
{
    pm_heap_shm *s = h->shm;
    unsigned bin = bin_of(pages), group = bin / PM_HEAP_BINS;
    list_remove(h, &s->runs[bin], page);
    if (s->runs[bin].v)
        return;
    pm_set(h->l, &s->bins[group], s->bins[group].v & ~((uint64_t)1 << bin % PM_HEAP_BINS));
    if (s->bins[group].v == 0)
        pm_set(h->l, &s->groups, s->groups.v & ~((uint64_t)1 << group));
}

/* ---- runs ------------------------------------------------------------------------------------ */

/* A run of at least `pages` in the one bin that also holds shorter ones, or 0. */
static uint64_t find_in_own_bin(const pm_heap *h, uint64_t pages)
{
    uint64_t first = h->shm->runs[bin_of(pages)].v, page = first;
    for (int i = 0; page && i < FIT_TRIES; i++) {
        if (tag_pages(h->pages[page].tag.v) >= pages)
            return page;
        page = next_of(h, page);
        if (page == first)
            break;
    }
    return 0;
}

static uint64_t find_run(const pm_heap *h, uint64_t pages)
{
    const pm_heap_shm *s = h->shm;
    uint64_t page = find_in_own_bin(h, pages);
    if (page)
        return page;
    unsigned bin = bin_above(pages), group = bin / PM_HEAP_BINS;
    if (group >= PM_HEAP_GROUPS)
        return 0;
    uint64_t bits = s->bins[group].v & ~(uint64_t)0 << bin % PM_HEAP_BINS;
    if (bits == 0) {
        uint64_t groups = s->groups.v & ~(uint64_t)0 << (group + 1);
        if (groups == 0)
            return 0;
        group = (unsigned)__builtin_ctzll(groups);
        bits = s->bins[group].v;
    }
    return s->runs[group * PM_HEAP_BINS + (unsigned)__builtin_ctzll(bits)].v;
}

/* First page of a run with this tag, cut from a free one; 0 if there is none. */
static uint64_t run_take(pm_heap *h, uint64_t tag)
{
    uint64_t pages = tag_pages(tag), page = find_run(h, pages);
    if (page == 0)
        return 0;
    uint64_t found = tag_pages(h->pages[page].tag.v);
    bin_remove(h, page, found);
    if (found > pages && tag_kind(tag) == BLOCK)
        bin_add(h, page + pages, found - pages); /* renews the foot of the last page */
    else
        pm_set(h->l, &h->pages[page + found - 1].foot, 0);
    if (found > pages && tag_kind(tag) == SPAN) {
        bin_add(h, page, found - pages);
        page += found - pages;
    }
    pm_set(h->l, &h->pages[page].tag, tag);
    add(h, &h->shm->pages_used, pages);
    return page;
}

static void run_give(pm_heap *h, uint64_t page)
{
    uint64_t pages = tag_pages(h->pages[page].tag.v), start = page, end = page + pages;
    uint64_t before = h->pages[page - 1].foot.v, after = h->pages[end].tag.v;
    add(h, &h->shm->pages_used, -pages);
    if (before) {
        start -= before;
        bin_remove(h, start, before);
        pm_set(h->l, &h->pages[page - 1].foot, 0);
        pm_set(h->l, &h->pages[page].tag, 0);
    }
    if (tag_kind(after) == FREE) {
        bin_remove(h, end, tag_pages(after));
        pm_set(h->l, &h->pages[end].tag, 0);
        end += tag_pages(after);
    }
    bin_add(h, start, end - start);
}

/* ---- classes and spans ----------------------------------------------------------------------- */

static unsigned class_of(uint64_t nbytes)
{
    uint64_t v = nbytes ? (nbytes - 1) >> UNIT_SHIFT : 0; /* units - 1 */
    unsigned s = v < 16 ? 0 : log2_of(v) - 3;
    return 8 * s + (unsigned)(v >> s);
}

/* How a span of a class is cut. units: size of a slot / 64. pages * 64 == slots * units. */
typedef struct {
    unsigned units, slots, pages;
} shape;

static shape shape_of(unsigned class)
{
    unsigned s = class < 16 ? 0 : class / 8 - 1;
    unsigned m = class - 8 * s + 1;
    /* a span of a small class is this many of 64 slots */
    unsigned times = m <= 4 ? 4 : m <= 8 ? 2 : 1;
    return (shape){.units = m << s, .slots = 64 * times >> s, .pages = m * times};
}
static unsigned words_of(shape f)
{
    return f.slots <= 64 ? 1 : f.slots / 64;
}
static uint64_t all_free(shape f)
{
    return f.slots < 64 ? ((uint64_t)1 << f.slots) - 1 : ~(uint64_t)0;
}

static bool span_full(const pm_page_shm *d, shape f)
{
    uint64_t any = 0;
    for (unsigned w = 0; w < words_of(f); w++)
        any |= d->free[w].v;
    return any == 0;
}
static bool span_empty(const pm_page_shm *d, shape f)
{
    uint64_t all = ~(uint64_t)0;
    for (unsigned w = 0; w < words_of(f); w++)
        all &= d->free[w].v;
    return all == all_free(f);
}

/* Enter the pages of a span in the map of distances, or take them out: outside spans the map is
 * 0. */
static void back_toggle(pm_heap *h, uint64_t page, unsigned pages)
{
    uint64_t distances = 0xfedcba9876543210u & ~(uint64_t)0 >> (64 - 4 * pages);
    pm_j64 *word = back_word(h, page);
    unsigned at = page % 16;
    pm_set(h->l, word, word->v ^ distances << 4 * at);
    if (at + pages > 16)
        pm_set(h->l, word + 1, word[1].v ^ distances >> 4 * (16 - at));
}

/* A new span of a class that has none with a free slot; 0 if there is no run for it. */
static uint64_t span_make(pm_heap *h, unsigned class)
{
    shape f = shape_of(class);
    uint64_t page = run_take(h, tag_make(SPAN, class, f.pages));
    if (page == 0)
        return 0;
    for (unsigned w = 0; w < words_of(f); w++)
        pm_set(h->l, &h->pages[page].free[w], all_free(f));
    back_toggle(h, page, f.pages);
    list_push(h, &h->shm->classes[class], page);
    add(h, &h->shm->spans, 1);
    return page;
}

static void span_drop(pm_heap *h, uint64_t page, unsigned class)
{
    list_remove(h, &h->shm->classes[class], page);
    back_toggle(h, page, shape_of(class).pages);
    add(h, &h->shm->spans, (uint64_t)-1);
    run_give(h, page);
}

static uint64_t slot_take(pm_heap *h, unsigned class)
{
    pm_j64 *head = &h->shm->classes[class];
    uint64_t page = head->v ? head->v : span_make(h, class);
    if (page == 0)
        return 0;
    shape f = shape_of(class);
    pm_page_shm *d = &h->pages[page];
    unsigned w = 0;
    while (d->free[w].v == 0)
        w++; /* a listed span has a free slot */
    uint64_t slot = 64 * w + (unsigned)__builtin_ctzll(d->free[w].v);
    pm_set(h->l, &d->free[w], d->free[w].v & (d->free[w].v - 1));
    if (span_full(d, f))
        list_remove(h, head, page);
    add(h, &h->shm->used, (uint64_t)f.units << UNIT_SHIFT);
    return offset_of_page(h, page) + (slot * f.units << UNIT_SHIFT);
}

static void slot_give(pm_heap *h, uint64_t page, unsigned class, unsigned slot)
{
    shape f = shape_of(class);
    pm_page_shm *d = &h->pages[page];
    pm_j64 *head = &h->shm->classes[class];
    bool was_full = span_full(d, f);
    pm_set(h->l, &d->free[slot / 64], d->free[slot / 64].v | (uint64_t)1 << slot % 64);
    add(h, &h->shm->used, -((uint64_t)f.units << UNIT_SHIFT));
    if (was_full) {
        list_push(h, head, page);
    } else if (span_empty(d, f) && prev_of(h, head->v) != page) {
        if (span_empty(&h->pages[prev_of(h, head->v)], f))
            span_drop(h, page, class);
        else
            list_move_last(h, head, page);
    }
}

/* ---- blocks ---------------------------------------------------------------------------------- */

typedef struct {
    uint64_t page; /* first of its run; 0: no block begins at the offset */
    uint64_t tag;
    unsigned slot;
} place;

/* The one way from an offset to a block; proves that it is one that is in use. */
static place place_of(const pm_heap *h, uint64_t off)
{
    const place none = {0};
    uint64_t at = off - h->first;
    if (off < h->first || at >> PAGE_SHIFT >= h->shm->pages)
        return none;
    uint64_t page = (at >> PAGE_SHIFT) + 1;
    page -= distance_of(h, page);
    place b = {.page = page, .tag = h->pages[page].tag.v};
    uint64_t into = off - offset_of_page(h, page);
    if (tag_kind(b.tag) == BLOCK)
        return into == 0 ? b : none;
    if (tag_kind(b.tag) != SPAN)
        return none;
    unsigned bytes = shape_of(tag_class(b.tag)).units << UNIT_SHIFT;
    b.slot = (unsigned)into / bytes;
    bool in_use = (h->pages[page].free[b.slot / 64].v >> b.slot % 64 & 1) == 0;
    return into == (uint64_t)b.slot * bytes && in_use ? b : none;
}

uint64_t pm__heap_alloc(pm_heap *h, uint64_t nbytes)
{
    if (nbytes > h->shm->pages << PAGE_SHIFT)
        return 0;
    if (nbytes <= PM_HEAP_SMALL) {
        uint64_t off = slot_take(h, class_of(nbytes));
        if (off)
            return off;
    }
    /* Large, or small in a heap so full that no span fits: then a page or more of its own. */
    uint64_t pages = nbytes ? ((nbytes - 1) >> PAGE_SHIFT) + 1 : 1;
    uint64_t page = run_take(h, tag_make(BLOCK, 0, pages));
    if (page == 0)
        return 0;
    add(h, &h->shm->used, pages << PAGE_SHIFT);
    return offset_of_page(h, page);
}

void pm__heap_free(pm_heap *h, uint64_t off)
{
    place b = place_of(h, off);
    if (b.page == 0) {
        pm_a64_store(&h->l->shm->broken, 1);
    } else if (tag_kind(b.tag) == SPAN) {
        slot_give(h, b.page, tag_class(b.tag), b.slot);
    } else {
        add(h, &h->shm->used, -(tag_pages(b.tag) << PAGE_SHIFT));
        run_give(h, b.page);
    }
}

bool pm__heap_reclaim(pm_heap *h)
{
    bool any = false;
    for (unsigned class = 0; class < PM_HEAP_CLASSES; class++) {
        uint64_t first = h->shm->classes[class].v;
        if (first == 0 || pm_lock_room(h->l) < PM_HEAP_FREE_WRITES)
            continue;
        uint64_t last = prev_of(h, first);
        if (span_empty(&h->pages[last], shape_of(class))) {
            span_drop(h, last, class);
            any = true;
        }
    }
    return any;
}

uint64_t pm__heap_usable(const pm_heap *h, uint64_t off)
{
    place b = place_of(h, off);
    if (b.page == 0)
        return 0;
    if (tag_kind(b.tag) == SPAN)
        return (uint64_t)shape_of(tag_class(b.tag)).units << UNIT_SHIFT;
    return tag_pages(b.tag) << PAGE_SHIFT;
}

/* ---- the whole ------------------------------------------------------------------------------- */

uint64_t pm__heap_table_bytes(uint64_t heap_bytes)
{
    uint64_t descriptors = (heap_bytes >> PAGE_SHIFT) + 2;
    return descriptors * sizeof(pm_page_shm) + (descriptors / 16 + 1) * sizeof(pm_j64);
}

void pm__heap_open(pm_heap *h, pm_lock *l, pm_heap_shm *shm, char *base, uint64_t table,
                   uint64_t first)
{
    *h = (pm_heap){.l = l, .shm = shm, .pages = (pm_page_shm *)(base + table), .first = first};
}

int pm__heap_format(pm_heap *h, uint64_t heap_bytes)
{
    pm_heap_shm *s = h->shm;
    pm_page_shm *d = h->pages;
    if (h->first == 0 || h->first % PM_HEAP_PAGE || heap_bytes < PM_HEAP_PAGE ||
        heap_bytes > PM_HEAP_MAX)
        return PM_EINVAL;
    uint64_t pages = heap_bytes >> PAGE_SHIFT;
    unsigned bin = bin_of(pages), group = bin / PM_HEAP_BINS;
    s->pages = pages;
    s->groups.v = (uint64_t)1 << group;
    s->bins[group].v = (uint64_t)1 << bin % PM_HEAP_BINS;
    s->runs[bin].v = 1;
    d[1].tag.v = tag_make(FREE, 0, pages);
    d[1].link.v = (uint64_t)1 << 32 | 1;
    d[pages].foot.v = pages;
    d[pages + 1].tag.v = tag_make(BLOCK, 0, 1); /* the fence; the one at 0 is all zero */
    return PM_OK;
}

/* The longest run that find_run() would find: one of the first in the highest bin. */
static uint64_t longest_run(const pm_heap *h)
{
    if (h->shm->groups.v == 0)
        return 0;
    unsigned group = log2_of(h->shm->groups.v);
    uint64_t page = h->shm->runs[group * PM_HEAP_BINS + log2_of(h->shm->bins[group].v)].v, most = 0;
    for (int i = 0; i < FIT_TRIES; i++, page = next_of(h, page)) {
        uint64_t pages = tag_pages(h->pages[page].tag.v);
        most = pages > most ? pages : most;
    }
    return most;
}

void pm__heap_stats(const pm_heap *h, pm_heap_stats *out)
{
    const pm_heap_shm *s = h->shm;
    *out = (pm_heap_stats){
        .capacity = s->pages << PAGE_SHIFT,
        .used = s->used.v,
        .free = (s->pages - s->pages_used.v) << PAGE_SHIFT,
        .largest = longest_run(h) << PAGE_SHIFT,
        .spans = s->spans.v,
    };
}

/* ---- check ----------------------------------------------------------------------------------- */

/* What a walk over all runs counts, to be compared with the lists and the counters. */
typedef struct {
    uint64_t used, pages_used, spans, free_runs, listed_spans;
} tally;

/* The pages of a run agree with its tag: none but the first has one, none but the last of a free
 * run has a foot, and only a span's are in the map of distances. */
static bool pages_valid(const pm_heap *h, uint64_t page, uint64_t tag)
{
    uint64_t last = page + tag_pages(tag) - 1;
    if (h->pages[last].foot.v != (tag_kind(tag) == FREE ? tag_pages(tag) : 0))
        return false;
    for (uint64_t p = page; p <= last; p++) {
        if (p / TABLE_PAGE > page / TABLE_PAGE && p / TABLE_PAGE < last / TABLE_PAGE)
            p = last / TABLE_PAGE * TABLE_PAGE;
        if (p > page && h->pages[p].tag.v)
            return false;
        if (p < last && h->pages[p].foot.v)
            return false;
        if (distance_of(h, p) != (tag_kind(tag) == SPAN ? p - page : 0))
            return false;
    }
    return true;
}

static bool span_valid(const pm_heap *h, uint64_t page, uint64_t tag, tally *t)
{
    if (tag_class(tag) >= PM_HEAP_CLASSES)
        return false;
    shape f = shape_of(tag_class(tag));
    const pm_page_shm *d = &h->pages[page];
    unsigned free = 0;
    for (unsigned w = 0; w < words_of(f); w++) {
        if (d->free[w].v & ~all_free(f))
            return false;
        free += (unsigned)__builtin_popcountll(d->free[w].v);
    }
    t->spans++;
    t->listed_spans += free > 0;
    t->used += (uint64_t)(f.slots - free) * f.units << UNIT_SHIFT;
    return tag_pages(tag) == f.pages;
}

static bool run_valid(const pm_heap *h, uint64_t page, uint64_t tag, tally *t)
{
    if (tag_pages(tag) == 0 || tag_pages(tag) > h->shm->pages + 1 - page ||
        !pages_valid(h, page, tag))
        return false;
    if (tag_kind(tag) == FREE) {
        t->free_runs++;
        return h->pages[page - 1].foot.v == 0; /* else it would be one run with the one before */
    }
    t->pages_used += tag_pages(tag);
    if (tag_kind(tag) == SPAN)
        return span_valid(h, page, tag, t);
    t->used += tag_pages(tag) << PAGE_SHIFT;
    return tag_kind(tag) == BLOCK;
}

/* Belongs to bin `list`, or to class `list`. */
static bool member_valid(const pm_heap *h, uint64_t page, bool spans, unsigned list, uint64_t first)
{
    uint64_t tag = h->pages[page].tag.v;
    if (!spans)
        return tag_kind(tag) == FREE && bin_of(tag_pages(tag)) == list;
    if (tag_kind(tag) != SPAN || tag_class(tag) != list ||
        span_full(&h->pages[page], shape_of(list)))
        return false;
    return !span_empty(&h->pages[page], shape_of(list)) || next_of(h, page) == first;
}

/* Walk one list and count its members down from *left. A broken list runs out of its count, so
 * the walk ends. */
static bool list_valid(const pm_heap *h, bool spans, unsigned list, uint64_t *left)
{
    uint64_t first = spans ? h->shm->classes[list].v : h->shm->runs[list].v, page = first;
    if (first == 0)
        return true;
    do {
        if (page == 0 || page > h->shm->pages || (*left)-- == 0)
            return false;
        uint64_t next = next_of(h, page);
        if (!member_valid(h, page, spans, list, first) || next == 0 || next > h->shm->pages)
            return false;
        if (prev_of(h, next) != page)
            return false;
        page = next;
    } while (page != first);
    return true;
}

static bool bitmaps_valid(const pm_heap_shm *s)
{
    for (unsigned bin = 0; bin < PM_HEAP_GROUPS * PM_HEAP_BINS; bin++)
        if ((s->bins[bin / PM_HEAP_BINS].v >> bin % PM_HEAP_BINS & 1) != (s->runs[bin].v != 0))
            return false;
    for (unsigned group = 0; group < PM_HEAP_GROUPS; group++)
        if ((s->groups.v >> group & 1) != (s->bins[group].v != 0))
            return false;
    return s->groups.v >> PM_HEAP_GROUPS == 0;
}

int pm__heap_check(const pm_heap *h)
{
    const pm_heap_shm *s = h->shm;
    tally t = {0};
    if (h->pages[0].foot.v || h->pages[s->pages + 1].tag.v != tag_make(BLOCK, 0, 1))
        return PM_ECORRUPT;
    for (uint64_t page = 1; page <= s->pages; page += tag_pages(h->pages[page].tag.v))
        if (!run_valid(h, page, h->pages[page].tag.v, &t))
            return PM_ECORRUPT;
    if (t.used != s->used.v || t.pages_used != s->pages_used.v || t.spans != s->spans.v)
        return PM_ECORRUPT;
    /* The lists' members are distinct runs of the walk above, so equal counts mean the same
     * runs. */
    for (unsigned bin = 0; bin < PM_HEAP_GROUPS * PM_HEAP_BINS; bin++)
        if (!list_valid(h, false, bin, &t.free_runs))
            return PM_ECORRUPT;
    for (unsigned class = 0; class < PM_HEAP_CLASSES; class++)
        if (!list_valid(h, true, class, &t.listed_spans))
            return PM_ECORRUPT;
    return t.free_runs == 0 && t.listed_spans == 0 && bitmaps_valid(s) ? PM_OK : PM_ECORRUPT;
}
