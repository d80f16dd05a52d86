/* check.c - pm_check(): count everything again from the records, compare with what they say. See
 * check.h.
 *
 * The order matters twice. Free lists come first, so that every later step can ask whether a
 * record is live; who refers to what is collected by all walks before the entries' counts are
 * compared. */
#include "check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "settle.h"

/* Flags of a record. */
enum {
    FREE_LISTED = 1,
    LISTED = 2,     /* a hold in its client's list; a task in the list that its state says */
    DYING = 4,      /* an entry on the dying list */
    SETTLING = 8,   /* an entry on the settling list */
    ITEM = 16,      /* an entry in the list of a gate */
    CLOSING = 32,   /* a mailbox on the closing list */
    FOLLOWING = 64, /* a call on the following list */
    LITTER = 128,   /* an entry on the list of those of which a copy on disk is left */
};

/* What the walks have found. */
typedef struct {
    pm_arena *a;
    pm_header_shm *h;
    char *why;
    size_t len;
    uint64_t *refs; /* by entry: references to it */
    uint64_t *made; /* by task: entries whose lineage it is */
    uint64_t *deps; /* by task: its arguments on lists of entries that it waits for */
    unsigned char *entries, *holds, *tasks, *keys; /* by record: flags */
    uint64_t listed_holds, entry_holds;
    uint64_t users[PM_SHAPES];
    uint64_t blocks;                     /* bytes of the heap that records name */
    uint64_t copies;                     /* units of the spill file that entries name */
    uint64_t kept;                       /* tasks in that state */
    uint64_t cpu;                        /* units that tasks hold */
    uint64_t held[PM_BUNDLES][PM_KINDS]; /* by bundle: what tasks have of it */
    uint64_t parts[PM_DEVICES];          /* units of each GPU that tasks or slices have */
    uint64_t whole;                      /* mask of the GPUs that are somebody's as a whole */
    uint64_t split;                      /* mask of those in use in parts */
} survey;

__attribute__((format(printf, 2, 3))) static int broken(survey *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (s->why)
        vsnprintf(s->why, s->len, format, args);
    va_end(args);
    return PM_ECORRUPT;
}

/* In a function that returns an error: return it, with the reason, unless `cond` holds. */
#define MUST(cond, ...)                                                                            \
    do {                                                                                           \
        if (!(cond))                                                                               \
            return broken(s, __VA_ARGS__);                                                         \
    } while (0)

static bool is_live(const pm_pool_shm *pool, const unsigned char *flags, uint64_t record)
{
    return record > 0 && record <= pool->high.v && !(flags[record - 1] & FREE_LISTED);
}

static bool entry_live(const survey *s, uint64_t entry)
{
    return is_live(&s->h->entries, s->entries, entry);
}

static bool task_live(const survey *s, uint64_t task)
{
    return is_live(&s->h->tasks, s->tasks, task);
}

static bool hold_live(const survey *s, uint64_t hold)
{
    return is_live(&s->h->holds, s->holds, hold);
}

static enum pm_entry_state state_of(const survey *s, uint64_t entry)
{
    return (enum pm_entry_state)(pm_p64_load(&pm__entry(s->a, entry - 1)->state) & 0xff);
}

/* ---- pools ----------------------------------------------------------------------------------- */

static int check_pool(survey *s, const pm_pool_shm *pool, const char *name, unsigned char *flags)
{
    uint64_t n = 0;
    for (uint64_t i = pool->free.v; i; n++) {
        MUST(i <= pool->high.v, "%s: free list leads to %" PRIu64 " of %" PRIu64, name, i,
             pool->high.v);
        MUST(!(flags[i - 1] & FREE_LISTED), "%s %" PRIu64 " is twice on the free list", name, i);
        flags[i - 1] |= FREE_LISTED;
        i = ((pm_j64 *)(s->a->map.base + pool->offset + (i - 1) * pool->stride + pool->link))->v;
    }
    MUST(pool->live.v == pool->high.v - n,
         "%s: %" PRIu64 " live, but %" PRIu64 " used and %" PRIu64 " free", name, pool->live.v,
         pool->high.v, n);
    return PM_OK;
}

static int check_pools(survey *s)
{
    int rc = check_pool(s, &s->h->entries, "entry", s->entries);
    if (!rc)
        rc = check_pool(s, &s->h->holds, "hold", s->holds);
    if (!rc)
        rc = check_pool(s, &s->h->tasks, "task", s->tasks);
    if (!rc)
        rc = check_pool(s, &s->h->keys, "key", s->keys);
    for (uint64_t i = 0; !rc && i < s->h->entries.high.v; i++)
        if ((s->entries[i] & FREE_LISTED) && state_of(s, i + 1) != PM_FREE)
            rc = broken(s, "entry %" PRIu64 " is on the free list in state %d", i + 1,
                        state_of(s, i + 1));
    return rc;
}

/* A block in use by `what`, with room for `bytes`. */
static int check_block(survey *s, uint64_t block, uint64_t bytes, const char *what, uint64_t record)
{
    uint64_t usable = pm__heap_usable(&s->a->heap, block);
    MUST(usable >= bytes && usable,
         "%s %" PRIu64 ": block %" PRIx64 " has %" PRIu64 " bytes, not %" PRIu64, what, record,
         block, usable, bytes);
    s->blocks += usable;
    return PM_OK;
}

/* ---- clients --------------------------------------------------------------------------------- */

static int check_own(survey *s, uint64_t hold)
{
    const pm_hold_shm *r = &s->a->holds[hold - 1];
    const pm_local *own = &s->a->local[r->entry.v - 1];
    /* an own entry goes into stock and comes out of it beside the lock: then its words change
     * one by one */
    bool counted = atomic_load(&own->refs) > 0 || atomic_load(&own->own) != PM_SHARED;
    MUST(own->hold == hold && counted && atomic_load(&own->waiter) == r->waiter.v,
         "entry %" PRIu64 ": hold %" PRIu64 " counts for waiter %" PRIu64
         ", this process knows hold %" PRIu64 ", %u references, waiter %u",
         r->entry.v, hold, r->waiter.v, own->hold, atomic_load(&own->refs),
         atomic_load(&own->waiter));
    return PM_OK;
}

static int check_holds(survey *s, uint64_t client)
{
    uint64_t prev = 0;
    for (uint64_t i = s->a->clients[client].holds.v; i; prev = i, i = s->a->holds[i - 1].next.v) {
        MUST(hold_live(s, i) && !(s->holds[i - 1] & LISTED),
             "client %" PRIu64 ": hold %" PRIu64 " is free or listed twice", client, i);
        const pm_hold_shm *r = &s->a->holds[i - 1];
        s->holds[i - 1] |= LISTED;
        MUST(r->client.v == client && r->prev.v == prev,
             "hold %" PRIu64 ": client %" PRIu64 " prev %" PRIu64 ", not %" PRIu64 " and %" PRIu64,
             i, r->client.v, r->prev.v, client, prev);
        MUST(entry_live(s, r->entry.v),
             "hold %" PRIu64 " of client %" PRIu64 ": entry %" PRIu64 " is free", i, client,
             r->entry.v);
        MUST(r->waiter.v <= PM_WAITERS + 1, "hold %" PRIu64 ": waiter %" PRIu64, i, r->waiter.v);
        s->refs[r->entry.v - 1]++;
        s->listed_holds++;
        int rc = client == s->a->slot && s->a->clients[client].epoch.v == s->a->epoch
                     ? check_own(s, i)
                     : PM_OK;
        if (rc)
            return rc;
    }
    return PM_OK;
}

/* Tasks linked from head, all in this state; the last one and their number. */
static int check_list(survey *s, uint64_t head, bool both_ways, uint64_t state, uint64_t *last,
                      uint64_t *n)
{
    *last = *n = 0;
    for (uint64_t i = head; i; *last = i, ++*n, i = pm__task(s->a, i - 1)->next.v) {
        MUST(task_live(s, i) && !(s->tasks[i - 1] & LISTED),
             "task %" PRIu64 " is listed, but free or listed twice", i);
        const pm_task_shm *t = pm__task(s->a, i - 1);
        s->tasks[i - 1] |= LISTED;
        MUST(t->state.v == state,
             "task %" PRIu64 ": on the list of state %" PRIu64 " in state %" PRIu64, i, state,
             t->state.v);
        MUST(!both_ways || t->prev.v == *last, "task %" PRIu64 ": prev %" PRIu64 ", not %" PRIu64,
             i, t->prev.v, *last);
    }
    return PM_OK;
}

static int check_client(survey *s, uint64_t i)
{
    const pm_client_shm *c = &s->a->clients[i];
    uint64_t last, n;
    if (c->kind.v == 0) {
        MUST(c->holds.v == 0 && c->building.v == 0 && c->running.v == 0 && c->idle.v == 0 &&
                 c->env.v == 0 && c->hosts.v == 0,
             "client %" PRIu64 " is free but holds something", i);
        return PM_OK;
    }
    MUST(c->kind.v <= PM_GUEST, "client %" PRIu64 ": kind %" PRIu64, i, c->kind.v);
    int rc = check_holds(s, i);
    if (!rc)
        rc = check_list(s, c->building.v, true, PM_TASK_BUILDING, &last, &n);
    if (!rc)
        rc = check_list(s, c->running.v, true, PM_TASK_RUNNING, &last, &n);
    for (uint64_t t = c->running.v; !rc && t; t = pm__task(s->a, t - 1)->next.v) {
        uint64_t env = s->h->shapes[pm__task(s->a, t - 1)->shape.v - 1].env.v;
        MUST(pm__task(s->a, t - 1)->runner.v == i + 1,
             "task %" PRIu64 ": runner %" PRIu64 ", in the list of client %" PRIu64, t,
             pm__task(s->a, t - 1)->runner.v, i);
        MUST(c->env.v == env + 1 || pm__called(s->a, pm__task(s->a, t - 1)),
             "task %" PRIu64 ": environment %" PRIu64 ", run by client %" PRIu64
             ", bound to %" PRIu64,
             t, env, i, c->env.v - 1);
    }
    return rc;
}

static int check_idle(survey *s)
{
    const pm_header_shm *h = s->h;
    uint64_t n = 0, flagged = 0, prev = 0, called = h->called.v == 0;
    for (uint64_t i = h->idle.v; i; prev = i, i = s->a->clients[i - 1].idle_next.v) {
        MUST(i <= h->client_high.v && ++n <= h->client_high.v, "idle list leads to client %" PRIu64,
             i - 1);
        const pm_client_shm *c = &s->a->clients[i - 1];
        MUST(c->kind.v && c->idle.v && c->idle_prev.v == prev,
             "idle client %" PRIu64 ": kind %" PRIu64 " idle %" PRIu64 " prev %" PRIu64, i - 1,
             c->kind.v, c->idle.v, c->idle_prev.v);
        called |= h->called.v == i;
    }
    for (uint64_t i = 0; i < h->client_high.v; i++)
        flagged += s->a->clients[i].idle.v;
    MUST(n == h->idle_count.v && n == flagged,
         "idle: %" PRIu64 " listed, %" PRIu64 " counted, %" PRIu64 " flagged", n, h->idle_count.v,
         flagged);
    MUST(called, "called client %" PRIu64 " is not idle", h->called.v - 1);
    return PM_OK;
}

static int check_clients(survey *s)
{
    uint64_t workers = 0, busy = 0, aside = 0, hosts = 0;
    MUST(s->h->client_high.v <= PM_CLIENTS, "%" PRIu64 " clients", s->h->client_high.v);
    for (uint64_t i = 0; i < s->h->client_high.v; i++) {
        int rc = check_client(s, i);
        if (rc)
            return rc;
        workers += s->a->clients[i].kind.v == PM_WORKER;
        busy += s->a->clients[i].running.v != 0;
        aside += s->a->clients[i].aside.v != 0;
        hosts += s->a->clients[i].hosts.v != 0;
        MUST(!s->a->clients[i].aside.v || !(s->a->clients[i].idle.v || s->a->clients[i].running.v),
             "client %" PRIu64 " is set aside, but idle or busy", i);
    }
    MUST(busy == s->h->busy.v, "%" PRIu64 " clients run tasks, %" PRIu64 " counted", busy,
         s->h->busy.v);
    MUST(aside == s->h->aside.v, "%" PRIu64 " clients are set aside, %" PRIu64 " counted", aside,
         s->h->aside.v);
    MUST(hosts == s->h->hosts.v, "%" PRIu64 " clients host actors, %" PRIu64 " counted", hosts,
         s->h->hosts.v);
    MUST(workers == s->h->workers.v, "%" PRIu64 " workers attached, %" PRIu64 " counted", workers,
         s->h->workers.v);
    MUST(s->listed_holds == s->h->holds.live.v,
         "%" PRIu64 " holds in clients' lists, %" PRIu64 " live", s->listed_holds,
         s->h->holds.live.v);
    return check_idle(s);
}

/* ---- entries' lists -------------------------------------------------------------------------- */

static int mark_entries(survey *s, uint64_t head, unsigned char flag)
{
    for (uint64_t i = head; i; i = pm__entry(s->a, i - 1)->link.v) {
        MUST(entry_live(s, i) && !(s->entries[i - 1] & (DYING | SETTLING | CLOSING | LITTER)),
             "entry %" PRIu64 " is free, or twice on the dying, settling, closing or litter list",
             i);
        s->entries[i - 1] |= flag;
    }
    return PM_OK;
}

/* Arguments of tasks that wait for this entry. */
static int check_deps(survey *s, uint64_t entry)
{
    for (uint64_t at = pm__entry(s->a, entry - 1)->deps.v; at;) {
        const pm_arg_shm *arg = pm_at(&s->a->map, (pm_off){at}, sizeof *arg);
        MUST(arg && task_live(s, arg->task.v),
             "entry %" PRIu64 ": argument at %" PRIx64 " is of no task", entry, at);
        const pm_task_shm *t = pm__task(s->a, arg->task.v - 1);
        uint64_t i = (uint64_t)(arg - pm__task_arg(s->a, t, 0));
        MUST(i < t->args_held.v && arg->entry.v == ((entry - 1) << 1 | 1),
             "entry %" PRIu64 ": waited for by argument %" PRIu64 " of task %" PRIu64
             ", which names %" PRIu64,
             entry, i, arg->task.v, arg->entry.v);
        MUST(++s->deps[arg->task.v - 1] <= t->args_held.v,
             "task %" PRIu64 ": an argument waits twice", arg->task.v);
        at = arg->next.v;
    }
    return PM_OK;
}

static int check_holders(survey *s, uint64_t entry)
{
    uint64_t prev = 0;
    for (uint64_t i = pm__entry(s->a, entry - 1)->holders.v; i;
         prev = i, i = s->a->holds[i - 1].enext.v) {
        MUST(hold_live(s, i), "entry %" PRIu64 ": its hold %" PRIu64 " is free", entry, i);
        const pm_hold_shm *r = &s->a->holds[i - 1];
        MUST(r->entry.v == entry && r->eprev.v == prev,
             "hold %" PRIu64 ": on the list of entry %" PRIu64 " after %" PRIu64
             ", but entry %" PRIu64 " eprev %" PRIu64,
             i, entry, prev, r->entry.v, r->eprev.v);
        s->entry_holds++;
    }
    return PM_OK;
}

static int check_contained(survey *s, uint64_t entry, const pm_entry_shm *e)
{
    const pm_ref *refs = pm__contained(s->a, e);
    for (uint64_t i = 0; i < e->held.v; i++) {
        MUST(refs[i].slot < s->h->entries.capacity && entry_live(s, refs[i].slot + 1) &&
                 pm_p64_load(&pm__entry(s->a, refs[i].slot)->state) >> 8 == refs[i].generation,
             "entry %" PRIu64 ": contained reference %" PRIu64 " is slot %" PRIu64
             " generation %" PRIu64 ", which is gone",
             entry, i, refs[i].slot, refs[i].generation);
        s->refs[refs[i].slot]++;
    }
    return PM_OK;
}

static bool is_item(const survey *s, uint64_t entry)
{
    uint64_t strip = pm__entry(s->a, entry - 1)->strip.v;
    return strip == PM_ITEM || strip == PM_ITEM_SPILT;
}

/* The items of a gate: sealed, linked, and as many as it says. */
static int check_gate(survey *s, uint64_t entry, const pm_entry_shm *e)
{
    const pm_stream_shm *q = pm__stream(s->a, entry);
    enum pm_entry_state state = state_of(s, entry);
    uint64_t n = 0, last = 0;
    for (uint64_t i = q->head.v; i; n++, last = i, i = pm__entry(s->a, i - 1)->link.v) {
        MUST(entry_live(s, i) && !(s->entries[i - 1] & (DYING | SETTLING | ITEM)),
             "gate %" PRIu64 ": its item %" PRIu64 " is free, or on another list", entry, i);
        MUST(is_item(s, i) && (state_of(s, i) == PM_SEALED || state_of(s, i) == PM_FAILED ||
                               state_of(s, i) == PM_SPILLED),
             "gate %" PRIu64 ": its item %" PRIu64 " is in state %d, strip %" PRIu64, entry, i,
             state_of(s, i), pm__entry(s->a, i - 1)->strip.v);
        s->entries[i - 1] |= ITEM;
        s->refs[i - 1]++;
    }
    MUST(n == e->held.v && q->tail.v == last && q->made.v >= n,
         "gate %" PRIu64 ": %" PRIu64 " items, %" PRIu64 " counted, tail %" PRIu64 ", not %" PRIu64
         ", %" PRIu64 " made",
         entry, n, e->held.v, q->tail.v, last, q->made.v);
    bool open = e->strip.v == PM_GATE && e->refs.v;
    MUST(open == (e->holders.v != 0), "gate %" PRIu64 ": strip %" PRIu64 ", holders %" PRIu64,
         entry, e->strip.v, e->holders.v);
    MUST(!open || !e->task.v || state == (n ? PM_OFFERING : PM_PENDING),
         "gate %" PRIu64 ": state %d with %" PRIu64 " items", entry, state, n);
    MUST(e->strip.v != PM_SHUT || n == 0, "gate %" PRIu64 ": closed with %" PRIu64 " items", entry,
         n);
    MUST(e->block.v == 0 && e->nrefs.v == 0 && e->deps.v == 0 && e->key.v == 0,
         "gate %" PRIu64 " has what only objects have", entry);
    MUST(q->pausing.v <= PM_CLIENTS * (uint64_t)PM_WAITERS, "gate %" PRIu64 ": waiter %" PRIu64,
         entry, q->pausing.v);
    return PM_OK;
}

/* The calls of a mailbox: those ready in its queue, of those that wait the callers' latest. */
static int check_mailbox(survey *s, uint64_t entry, const pm_entry_shm *e)
{
    const pm_mailbox_shm *m = pm__mailbox(s->a, entry);
    uint64_t last, n;
    for (uint64_t t = m->head.v; t; t = pm__task(s->a, t - 1)->next.v)
        MUST(task_live(s, t) && pm__task(s->a, t - 1)->function.v == entry,
             "mailbox %" PRIu64 ": task %" PRIu64 " is none of its calls", entry, t);
    int rc = check_list(s, m->head.v, true, PM_TASK_READY, &last, &n);
    MUST(rc || m->tail.v == last, "mailbox %" PRIu64 ": tail %" PRIu64 ", not %" PRIu64, entry,
         m->tail.v, last);
    MUST(rc || n <= m->calls.v, "mailbox %" PRIu64 ": %" PRIu64 " calls queued of %" PRIu64, entry,
         n, m->calls.v);
    n = 0;
    for (uint64_t t = m->tails.v; !rc && t; t = pm__task(s->a, t - 1)->prev.v)
        MUST(task_live(s, t) && pm__task(s->a, t - 1)->function.v == entry &&
                 pm__task(s->a, t - 1)->seq.v && pm__task(s->a, t - 1)->waiting.v &&
                 !pm__task(s->a, t - 1)->lent.v && ++n <= m->calls.v,
             "mailbox %" PRIu64 ": task %" PRIu64 " is none of its callers' latest", entry, t);
    uint64_t host = m->host.v;
    MUST(rc || !host ||
             (host <= s->h->client_high.v && e->task.v &&
              s->a->clients[host - 1].hosts.v == entry &&
              pm__task(s->a, e->task.v - 1)->runner.v == host),
         "mailbox %" PRIu64 ": host %" PRIu64 ", task %" PRIu64, entry, host, e->task.v);
    MUST(rc || (m->closing.v != 0) == ((s->entries[entry - 1] & CLOSING) != 0),
         "mailbox %" PRIu64 ": closing %" PRIu64, entry, m->closing.v);
    MUST(rc || (m->closing.v != 0) == (!e->task.v && m->head.v),
         "mailbox %" PRIu64 ": closing %" PRIu64 ", head %" PRIu64 ", task %" PRIu64, entry,
         m->closing.v, m->head.v, e->task.v);
    return rc;
}

/* What stands for its bytes: a block, the table of what they contain, a copy on disk. */
static int check_bytes(survey *s, uint64_t entry, const pm_entry_shm *e)
{
    enum pm_entry_state state = state_of(s, entry);
    uint64_t table = e->nrefs.v * sizeof(pm_ref),
             bytes = table ? pm__refs_offset(e->size.v) + table : e->size.v;
    bool sealed = state == PM_SEALED || state == PM_FAILED || state == PM_SPILLED;
    /* a pending object whose bytes became a result's has a size, but neither block nor
     * references */
    MUST(e->block.v || bytes <= PM_INLINE || (!sealed && e->nrefs.v == 0),
         "entry %" PRIu64 ": %" PRIu64 " bytes inline", entry, bytes);
    MUST(!pm__is_away(e) || (e->copy.v && (state == PM_SPILLED || state == PM_FREED)),
         "entry %" PRIu64 ": state %d, strip %" PRIu64 ", copy at %" PRIx64, entry, state,
         e->strip.v, e->copy.v);
    MUST(e->strip.v != PM_LITTER || (e->copy.v && !e->block.v),
         "entry %" PRIu64 ": litter with block %" PRIx64 ", copy at %" PRIx64, entry, e->block.v,
         e->copy.v);
    uint64_t kept = e->block.v ? pm__lineage_task(pm__lineage((pm_entry_shm *)e)->v) : 0;
    MUST(!kept || task_live(s, kept), "entry %" PRIu64 ": made by task %" PRIu64 ", which is free",
         entry, kept);
    if (kept)
        s->made[kept - 1]++;
    if (e->copy.v) {
        uint64_t units = pm__heap_usable(&s->a->disk, e->copy.v);
        MUST(units, "entry %" PRIu64 ": there is no extent at %" PRIx64, entry, e->copy.v);
        s->copies += units;
    }
    return pm__has_block(e)
               ? check_block(s, e->block.v, pm__is_away(e) ? table : bytes, "entry", entry)
               : PM_OK;
}

/* Everything of an entry but its count of references. */
static int check_entry(survey *s, uint64_t entry)
{
    const pm_entry_shm *e = pm__entry(s->a, entry - 1);
    enum pm_entry_state state = state_of(s, entry);
    unsigned char flags = s->entries[entry - 1];
    bool sealed = state == PM_SEALED || state == PM_FAILED || state == PM_SPILLED,
         freed = state == PM_FREED;
    bool gate = pm__is_gate(s->a, entry);
    MUST(sealed || freed || state == PM_PENDING || (gate && state == PM_OFFERING),
         "entry %" PRIu64 " is live in state %d", entry, state);
    MUST(gate || (e->held.v <= e->nrefs.v && (!sealed || flags & DYING || e->held.v == e->nrefs.v)),
         "entry %" PRIu64 ": state %d, %" PRIu64 " of %" PRIu64 " contained references", entry,
         state, e->held.v, e->nrefs.v);
    MUST(e->strip.v == PM_WHOLE || e->strip.v > PM_STRIPPED || freed,
         "entry %" PRIu64 ": state %d, strip %" PRIu64, entry, state, e->strip.v);
    int rc = check_bytes(s, entry, e);
    if (!rc)
        rc = gate ? check_gate(s, entry, e) : check_contained(s, entry, e);
    if (!rc && pm__is_mailbox(s->a, entry))
        rc = check_mailbox(s, entry, e);
    MUST(rc || e->task.v == 0 || (task_live(s, e->task.v) && !sealed),
         "entry %" PRIu64 ": state %d, made by task %" PRIu64, entry, state, e->task.v);
    MUST(rc || e->producer.v <= s->h->serial.v,
         "entry %" PRIu64 ": a result of task number %" PRIu64 ", latest %" PRIu64, entry,
         e->producer.v, s->h->serial.v);
    MUST(rc || !e->task.v || e->producer.v == pm__task(s->a, e->task.v - 1)->serial.v,
         "entry %" PRIu64 ": a result of task number %" PRIu64 ", not of task %" PRIu64, entry,
         e->producer.v, e->task.v);
    MUST(rc || e->key.v == 0 ||
             (is_live(&s->h->keys, s->keys, e->key.v) && s->a->keys[e->key.v - 1].entry.v == entry),
         "entry %" PRIu64 ": key %" PRIu64 " is free or another's", entry, e->key.v);
    MUST(rc || (flags & SETTLING ? state != PM_PENDING && e->deps.v
                                 : state == PM_PENDING || !e->deps.v),
         "entry %" PRIu64 ": state %d, deps %" PRIx64 ", settling %d", entry, state, e->deps.v,
         flags & SETTLING);
    if (!rc)
        rc = check_deps(s, entry);
    return rc ? rc : check_holders(s, entry);
}

static int check_entries(survey *s)
{
    int rc = mark_entries(s, s->h->dying.v, DYING);
    if (!rc)
        rc = mark_entries(s, s->h->settling.v, SETTLING);
    if (!rc)
        rc = mark_entries(s, s->h->closing.v, CLOSING);
    if (!rc)
        rc = mark_entries(s, s->h->litter.v, LITTER);
    for (uint64_t i = 1; !rc && i <= s->h->entries.high.v; i++)
        if (entry_live(s, i))
            rc = check_entry(s, i);
    MUST(rc || s->entry_holds == s->listed_holds,
         "%" PRIu64 " holds in entries' lists, %" PRIu64 " in clients'", s->entry_holds,
         s->listed_holds);
    return rc;
}

static int compare_refs(survey *s)
{
    if (s->h->boot.v) {
        MUST(entry_live(s, s->h->boot.v), "boot entry %" PRIu64 " is free", s->h->boot.v);
        s->refs[s->h->boot.v - 1]++;
    }
    for (uint64_t k = 0; k < s->h->keys.high.v; k++)
        if (s->a->keys[k].kept.v)
            s->refs[s->a->keys[k].entry.v - 1]++;
    for (uint64_t i = 1; i <= s->h->entries.high.v; i++) {
        if (!entry_live(s, i))
            continue;
        uint64_t refs = pm__entry(s->a, i - 1)->refs.v;
        MUST(refs == s->refs[i - 1],
             "entry %" PRIu64 ": %" PRIu64 " references, but %" PRIu64 " found", i, refs,
             s->refs[i - 1]);
        uint64_t strip = pm__entry(s->a, i - 1)->strip.v;
        bool litter = strip == PM_LITTER, goes = (refs == 0 && !litter) || strip == PM_STRIPPING ||
                                                 strip == PM_LEAVING || strip == PM_SHUTTING;
        MUST(litter == ((s->entries[i - 1] & LITTER) != 0) && (!litter || refs == 0),
             "entry %" PRIu64 ": strip %" PRIu64 ", %" PRIu64 " references, litter %d", i, strip,
             refs, (s->entries[i - 1] & LITTER) != 0);
        MUST(goes == ((s->entries[i - 1] & DYING) != 0),
             "entry %" PRIu64 ": %" PRIu64 " references, strip %" PRIu64 ", dying %d", i, refs,
             strip, (s->entries[i - 1] & DYING) != 0);
        MUST(is_item(s, i) == ((s->entries[i - 1] & ITEM) != 0),
             "entry %" PRIu64 ": strip %" PRIu64 ", in the list of a gate %d", i, strip,
             (s->entries[i - 1] & ITEM) != 0);
    }
    return PM_OK;
}

/* ---- tasks ----------------------------------------------------------------------------------- */

static int check_queues(survey *s)
{
    uint64_t ready = 0, last, n;
    for (uint64_t i = 0; i < PM_SHAPES; i++) {
        const pm_shape_shm *q = &s->h->shapes[i];
        int rc = check_list(s, q->head.v, true, PM_TASK_READY, &last, &n);
        if (rc)
            return rc;
        MUST(q->tail.v == last, "queue %" PRIu64 ": tail %" PRIu64 ", not %" PRIu64, i, q->tail.v,
             last);
        for (uint64_t t = q->head.v, seq = 0; t;
             seq = pm__task(s->a, t - 1)->seq.v, t = pm__task(s->a, t - 1)->next.v)
            MUST(pm__task(s->a, t - 1)->shape.v == i + 1 && pm__task(s->a, t - 1)->seq.v >= seq,
                 "task %" PRIu64 ": shape %" PRIu64 " seq %" PRIu64 ", in queue %" PRIu64
                 " after seq %" PRIu64,
                 t, pm__task(s->a, t - 1)->shape.v, pm__task(s->a, t - 1)->seq.v, i, seq);
        ready += n;
        MUST((s->h->queued[i / 64].v >> i % 64 & 1) == (n != 0),
             "queue %" PRIu64 ": %" PRIu64 " tasks, marked %" PRIu64, i, n,
             s->h->queued[i / 64].v >> i % 64 & 1);
    }
    MUST(ready == s->h->ready.v, "%" PRIu64 " tasks in queues, %" PRIu64 " counted", ready,
         s->h->ready.v);
    return check_list(s, s->h->finishing.v, false, PM_TASK_FINISHING, &last, &n);
}

/* A call of a dead actor. */
static bool is_bereaved(const survey *s, const pm_task_shm *t)
{
    uint64_t mailbox = pm__called(s->a, t);
    return mailbox && pm__entry(s->a, mailbox - 1)->task.v == 0;
}

static int check_cursors(survey *s, uint64_t task, const pm_task_shm *t)
{
    bool whole = t->args_held.v == t->nargs.v && t->rets_made.v == t->nrets.v;
    uint64_t listed = (s->tasks[task - 1] & LISTED) != 0, state = t->state.v;
    MUST(state >= PM_TASK_BUILDING && state <= PM_TASK_KEPT,
         "task %" PRIu64 " is live in state %" PRIu64, task, state);
    MUST(t->args_held.v <= t->nargs.v && t->rets_made.v <= t->nrets.v &&
             t->attached.v <= t->nrets.v,
         "task %" PRIu64 ": %" PRIu64 " arguments held, %" PRIu64 " results made, %" PRIu64
         " attached, of %" PRIu64 " and %" PRIu64,
         task, t->args_held.v, t->rets_made.v, t->attached.v, t->nargs.v, t->nrets.v);
    MUST(whole || state == PM_TASK_BUILDING || state == PM_TASK_FINISHING ||
             state == PM_TASK_ABANDONED || state == PM_TASK_KEPT,
         "task %" PRIu64 ": incomplete in state %" PRIu64, task, state);
    MUST(t->attached.v == 0 || state == PM_TASK_RUNNING || state == PM_TASK_FINISHING ||
             state == PM_TASK_KEPT ||
             (state == PM_TASK_READY && (pm__removed_group_of(s->a, task) || is_bereaved(s, t))),
         "task %" PRIu64 ": %" PRIu64 " results in state %" PRIu64, task, t->attached.v, state);
    MUST(t->serial.v > t->parent.v && t->serial.v <= s->h->serial.v,
         "task %" PRIu64 ": serial %" PRIu64 ", parent %" PRIu64 ", latest %" PRIu64, task,
         t->serial.v, t->parent.v, s->h->serial.v);
    MUST(listed ==
             (state != PM_TASK_WAITING && state != PM_TASK_ABANDONED && state != PM_TASK_KEPT),
         "task %" PRIu64 ": state %" PRIu64 ", on %" PRIu64 " lists", task, state, listed);
    MUST(t->cancel.v == 0 || (state != PM_TASK_WAITING && state != PM_TASK_READY),
         "task %" PRIu64 ": cancelled, but in state %" PRIu64, task, state);
    bool waits =
             state == PM_TASK_BUILDING || state == PM_TASK_WAITING || state == PM_TASK_ABANDONED,
         cancelled = t->cancel.v && state == PM_TASK_FINISHING;
    MUST(t->waiting.v == s->deps[task - 1] + (state == PM_TASK_BUILDING) &&
             ((t->waiting.v != 0) == waits || cancelled),
         "task %" PRIu64 ": state %" PRIu64 " waits for %" PRIu64 ", %" PRIu64
         " of its arguments are listed",
         task, state, t->waiting.v, s->deps[task - 1]);
    return PM_OK;
}

static int count_ref(survey *s, uint64_t task, uint64_t entry, const char *what)
{
    MUST(entry_live(s, entry), "task %" PRIu64 ": its %s, entry %" PRIu64 ", is free", task, what,
         entry);
    s->refs[entry - 1]++;
    return PM_OK;
}

static int count_refs(survey *s, uint64_t task, const pm_task_shm *t)
{
    int rc = t->function.v || t->state.v == PM_TASK_FINISHING
                 ? PM_OK
                 : broken(s, "task %" PRIu64 " has no function", task);
    if (!rc && t->function.v)
        rc = count_ref(s, task, t->function.v, "function");
    if (!rc && t->payload.v)
        rc = count_ref(s, task, t->payload.v, "payload");
    for (uint64_t i = 0; !rc && i < t->args_held.v; i++) {
        const pm_arg_shm *arg = pm__task_arg(s->a, t, i);
        rc = count_ref(s, task, (arg->entry.v >> 1) + 1, "argument");
        MUST(rc ||
                 pm_p64_load(&pm__entry(s->a, arg->entry.v >> 1)->state) >> 8 == arg->generation.v,
             "task %" PRIu64 ": argument %" PRIu64 " has generation %" PRIu64, task, i,
             arg->generation.v);
    }
    for (uint64_t i = 0; !rc && i < t->rets_made.v; i++) {
        uint64_t entry = pm__task_ret(s->a, t, i)->v >> 1;
        rc = count_ref(s, task, entry, "result");
        MUST(rc || (pm__entry(s->a, entry - 1)->task.v == task &&
                    (state_of(s, entry) == PM_PENDING || state_of(s, entry) == PM_FREED ||
                     (i == 0 && pm__is_gate(s->a, entry) && state_of(s, entry) == PM_OFFERING))),
             "task %" PRIu64 ": result %" PRIu64 " is entry %" PRIu64
             " in state %d, made by task %" PRIu64,
             task, i, entry, state_of(s, entry), pm__entry(s->a, entry - 1)->task.v);
    }
    return rc;
}

/* Each GPU once: as a whole, or in parts. */
static int take_whole(survey *s, uint64_t devices, const char *what, uint64_t record)
{
    MUST(!(devices & s->whole), "%s %" PRIu64 ": GPUs %" PRIx64 ", of which %" PRIx64 " are taken",
         what, record, devices, devices & s->whole);
    s->whole |= devices;
    return PM_OK;
}

/* What a task has, counted where it will come back to. */
static int check_held(survey *s, uint64_t task, const pm_task_shm *t)
{
    const pm_shape_shm *q = &s->h->shapes[t->shape.v - 1];
    uint64_t gpu = q->need[PM_GPU].v;
    MUST((t->bundle.v != 0) == (t->state.v == PM_TASK_RUNNING) && t->bundle.v <= PM_BUNDLES,
         "task %" PRIu64 ": state %" PRIu64 ", draws on bundle %" PRIu64, task, t->state.v,
         t->bundle.v);
    MUST(t->held.v == 0 || (t->held.v == q->need[PM_CPU].v && t->bundle.v),
         "task %" PRIu64 ": state %" PRIu64 " holds %" PRIu64 " CPU units of %" PRIu64, task,
         t->state.v, t->held.v, q->need[PM_CPU].v);
    uint64_t n = (uint64_t)__builtin_popcountll(t->devices.v);
    MUST(n == (!t->bundle.v || !gpu ? 0
               : gpu < PM_UNITS     ? 1
                                    : gpu / PM_UNITS),
         "task %" PRIu64 ": needs %" PRIu64 " GPU units, has %" PRIu64 " devices", task, gpu, n);
    s->cpu += t->held.v;
    if (!t->bundle.v)
        return PM_OK;
    const pm_bundle_shm *from = pm__bundle(s->a, t->bundle.v);
    MUST(from->group.v == q->group.v,
         "task %" PRIu64 ": draws on group %" PRIu64 ", is of %" PRIu64, task, from->group.v,
         q->group.v);
    uint64_t *held = s->held[from->moved.v ? 0 : t->bundle.v - 1];
    held[PM_CPU] += t->held.v;
    for (uint64_t k = PM_CPU + 1; k < PM_KINDS; k++)
        held[k] += q->need[k].v;
    if (gpu >= PM_UNITS)
        return take_whole(s, t->devices.v, "task", task);
    if (gpu && (!from->slice.v || from->moved.v))
        s->parts[__builtin_ctzll(t->devices.v)] += gpu;
    return PM_OK;
}

/* Kept for its results' lineage, or finishing after that. */
static int check_kept(survey *s, uint64_t task, const pm_task_shm *t)
{
    bool kept = t->state.v == PM_TASK_KEPT;
    MUST((kept || t->state.v == PM_TASK_FINISHING) && !t->shape.v && !t->rets_made.v &&
             !t->args_held.v && !t->table.v,
         "task %" PRIu64 ": state %" PRIu64 ", shape %" PRIu64 ", %" PRIu64 " results, %" PRIu64
         " arguments",
         task, t->state.v, t->shape.v, t->rets_made.v, t->args_held.v);
    MUST(t->lent.v == s->made[task - 1] && (t->lent.v != 0) == kept,
         "task %" PRIu64 " is kept for %" PRIu64 " results, %" PRIu64 " found", task, t->lent.v,
         s->made[task - 1]);
    s->kept += kept;
    int rc = check_cursors(s, task, t);
    return rc ? rc : count_refs(s, task, t);
}

static int check_task(survey *s, uint64_t task)
{
    const pm_task_shm *t = pm__task(s->a, task - 1);
    bool large = t->nargs.v > PM_TASK_ARGS || t->nrets.v > PM_TASK_RETS;
    if (t->state.v == PM_TASK_KEPT || !t->shape.v)
        return check_kept(s, task, t);
    MUST(t->shape.v >= 1 && t->shape.v <= PM_SHAPES, "task %" PRIu64 ": shape %" PRIu64, task,
         t->shape.v);
    s->users[t->shape.v - 1]++;
    MUST((t->table.v != 0) == large, "task %" PRIu64 ": table %" PRIx64, task, t->table.v);
    int rc = check_cursors(s, task, t);
    if (!rc)
        rc = check_held(s, task, t);
    if (!rc && large)
        rc = check_block(s, t->table.v,
                         t->nargs.v * sizeof(pm_arg_shm) + t->nrets.v * sizeof(pm_j64), "task",
                         task);
    return rc ? rc : count_refs(s, task, t);
}

static int check_shape(survey *s, uint64_t i)
{
    const pm_shape_shm *q = &s->h->shapes[i];
    MUST(s->users[i] == q->users.v, "shape %" PRIu64 ": %" PRIu64 " users, %" PRIu64 " found", i,
         q->users.v, s->users[i]);
    if (q->users.v == 0 || !(q->env.v || q->alone.v))
        return PM_OK;
    MUST(s->h->mixed.v, "shape %" PRIu64 " is not for every worker, which the header denies", i);
    if (q->env.v == 0)
        return PM_OK;
    MUST(entry_live(s, q->env.v), "shape %" PRIu64 ": its environment, entry %" PRIu64 ", is free",
         i, q->env.v);
    s->refs[q->env.v - 1]++;
    return PM_OK;
}

/* A call that waits has the next one of its caller wait for it. */
static int check_successor(survey *s, const pm_task_shm *t)
{
    uint64_t next = pm__called(s->a, t) && t->seq.v && t->waiting.v ? t->lent.v : 0;
    if (next == 0)
        return PM_OK;
    MUST(task_live(s, next) && pm__task(s->a, next - 1)->function.v == t->function.v &&
             pm__task(s->a, next - 1)->seq.v == t->seq.v &&
             pm__task(s->a, pm__task(s->a, next - 1)->runner.v - 1) == t,
         "task %" PRIu64 " follows a call of another", next);
    s->deps[next - 1]++;
    return PM_OK;
}

static int check_tasks(survey *s)
{
    int rc = check_queues(s);
    for (uint64_t i = 1; !rc && i <= s->h->tasks.high.v; i++)
        if (task_live(s, i))
            rc = check_successor(s, pm__task(s->a, i - 1));
    for (uint64_t i = s->h->following.v; !rc && i; i = pm__task(s->a, i - 1)->started.v) {
        MUST(task_live(s, i) && !(s->tasks[i - 1] & FOLLOWING), "task %" PRIu64 " follows twice",
             i);
        s->tasks[i - 1] |= FOLLOWING;
        s->deps[i - 1]++;
    }
    for (uint64_t i = 1; !rc && i <= s->h->tasks.high.v; i++)
        if (task_live(s, i))
            rc = check_task(s, i);
    MUST(rc || s->h->kept.v == s->kept, "%" PRIu64 " tasks are kept, %" PRIu64 " counted", s->kept,
         s->h->kept.v);
    for (uint64_t i = 0; !rc && i < PM_SHAPES; i++)
        rc = check_shape(s, i);
    MUST(rc || s->h->cpu_used.v == s->cpu, "CPU: %" PRIu64 " units in use, %" PRIu64 " held",
         s->h->cpu_used.v, s->cpu);
    return rc;
}

/* ---- resources ------------------------------------------------------------------------------- */

static int check_bundle(survey *s, uint64_t bundle)
{
    const pm_bundle_shm *b = pm__bundle(s->a, bundle);
    for (uint64_t k = 0; k < PM_KINDS; k++)
        MUST(b->total[k].v == b->free[k].v + s->held[bundle - 1][k],
             "bundle %" PRIu64 ": of %s %" PRIu64 ", %" PRId64 " free, %" PRIu64 " held", bundle,
             k < s->h->kinds ? s->h->kind_names[k] : "nothing", b->total[k].v,
             (int64_t)b->free[k].v, s->held[bundle - 1][k]);
    if (b->slice.v)
        return PM_OK;
    uint64_t free = PM_UNITS * (uint64_t)__builtin_popcountll(b->devices.v);
    for (uint64_t d = 0; d < PM_DEVICES; d++)
        if (b->partial.v >> d & 1)
            free += s->h->left[d].v;
    MUST(free == b->free[PM_GPU].v,
         "bundle %" PRIu64 ": %" PRIu64 " GPU units free, its devices have %" PRIu64, bundle,
         b->free[PM_GPU].v, free);
    MUST(!(b->partial.v & s->split), "bundle %" PRIu64 ": parts of another's GPUs", bundle);
    s->split |= b->partial.v;
    return take_whole(s, b->devices.v | b->partial.v, "bundle", bundle);
}

/* A group's bundles; what it has reserved counts as held of the machine. */
static int check_group(survey *s, uint64_t group, unsigned char *seen)
{
    const pm_group_shm *g = pm__group(s->a, group);
    uint64_t n = 0, moved = 0, users = 0;
    for (uint64_t b = g->first.v; b; b = pm__bundle(s->a, b)->next.v, n++) {
        const pm_bundle_shm *r = pm__bundle(s->a, b);
        MUST(b > 1 && b <= PM_BUNDLES && !seen[b - 1] && r->group.v == group,
             "group %" PRIu64 ": bundle %" PRIu64 " is another's", group, b);
        seen[b - 1] = 1;
        moved += b == g->cursor.v && r->moved.v;
        if (g->state.v == PM_GROUP_PENDING || r->moved.v)
            continue;
        if (g->state.v == PM_GROUP_REMOVED && g->cursor.v == 0)
            continue; /* it was never reserved */
        for (uint64_t k = 0; k < PM_KINDS; k++)
            s->held[0][k] += r->total[k].v;
        if (r->slice.v)
            s->parts[r->slice.v - 1] += r->total[PM_GPU].v;
        int rc = check_bundle(s, b);
        if (rc)
            return rc;
    }
    for (uint64_t i = 0; i < PM_SHAPES; i++)
        if (s->h->shapes[i].group.v == group && s->h->shapes[i].serial.v == g->serial.v)
            users += s->users[i];
    MUST(n == g->count.v && moved == 0 && users == g->users.v,
         "group %" PRIu64 ": %" PRIu64 " bundles of %" PRIu64 ", %" PRIu64 " users of %" PRIu64,
         group, n, g->count.v, users, g->users.v);
    MUST(g->state.v == PM_GROUP_REMOVED || (g->cursor.v == 0 && g->listed.v == 0),
         "group %" PRIu64 ": state %" PRIu64 ", cursor %" PRIu64, group, g->state.v, g->cursor.v);
    MUST(g->state.v != PM_GROUP_REMOVED || g->listed.v || g->users.v,
         "group %" PRIu64 " is removed, unused and not free", group);
    return PM_OK;
}

static int check_resources(survey *s)
{
    unsigned char seen[PM_BUNDLES] = {1};
    uint64_t pending = 0, listed = 0, flagged = 0;
    int rc = PM_OK;
    for (uint64_t i = 1; !rc && i <= PM_GROUPS; i++)
        if (pm__group(s->a, i)->state.v != PM_GROUP_FREE) {
            pending += pm__group(s->a, i)->state.v == PM_GROUP_PENDING;
            flagged += pm__group(s->a, i)->listed.v;
            rc = check_group(s, i, seen);
        }
    for (uint64_t b = s->h->bundle_free.v; !rc && b; b = pm__bundle(s->a, b)->next.v) {
        MUST(b <= PM_BUNDLES && !seen[b - 1], "bundle %" PRIu64 " is free, and in use", b);
        seen[b - 1] = 1;
    }
    for (uint64_t b = 0; !rc && b < PM_BUNDLES; b++)
        MUST(seen[b], "bundle %" PRIu64 " is nobody's", b + 1);
    for (uint64_t g = s->h->removing.v; !rc && g; g = pm__group(s->a, g)->next.v)
        MUST(++listed <= flagged, "too many groups on the list of those to remove, at %" PRIu64, g);
    MUST(rc || (pending == s->h->pending.v && listed == flagged),
         "groups: %" PRIu64 " pending, %" PRIu64 " counted; %" PRIu64 " listed, %" PRIu64
         " flagged",
         pending, s->h->pending.v, listed, flagged);
    for (uint64_t k = 0; !rc && k < PM_KINDS; k++)
        MUST(s->h->total[k] == s->h->bundles[0].total[k].v, "kind %" PRIu64 ": total", k);
    if (!rc)
        rc = check_bundle(s, 1);
    uint64_t gpus = s->h->total[PM_GPU] / PM_UNITS,
             all = gpus == 64 ? UINT64_MAX : (UINT64_C(1) << gpus) - 1;
    MUST(rc || s->whole == all, "GPUs %" PRIx64 ", found %" PRIx64, all, s->whole);
    for (uint64_t d = 0; !rc && d < gpus; d++)
        MUST(s->parts[d] + (s->split >> d & 1 ? s->h->left[d].v : PM_UNITS) == PM_UNITS,
             "GPU %" PRIu64 ": %" PRIu64 " units left, %" PRIu64 " in use", d, s->h->left[d].v,
             s->parts[d]);
    return rc;
}

/* ---- directory ------------------------------------------------------------------------------- */

/* The chain in which key k belongs, live or not: only live keys are on it, and k if it is live. */
static int check_chain(survey *s, uint64_t k)
{
    const pm_key_shm *keys = s->a->keys;
    const pm_j64 *bucket = pm__directory_bucket(s->a, keys[k - 1].bytes);
    bool live = is_live(&s->h->keys, s->keys, k), found = false;
    uint64_t n = 0;
    for (uint64_t i = bucket->v; i; i = keys[i - 1].next.v) {
        MUST(is_live(&s->h->keys, s->keys, i) && ++n <= s->h->keys.live.v &&
                 pm__directory_bucket(s->a, keys[i - 1].bytes) == bucket,
             "key %" PRIu64 " is free, or in another's bucket", i);
        found |= i == k;
    }
    MUST(found == live, "key %" PRIu64 ": live %d, linked %d", k, live, found);
    MUST(!live || (entry_live(s, keys[k - 1].entry.v) &&
                   pm__entry(s->a, keys[k - 1].entry.v - 1)->key.v == k),
         "key %" PRIu64 ": entry %" PRIu64 " is free or has another key", k, keys[k - 1].entry.v);
    return PM_OK;
}

static int check_directory(survey *s)
{
    int rc = PM_OK;
    for (uint64_t k = 1; !rc && k <= s->h->keys.high.v; k++)
        rc = check_chain(s, k);
    return rc;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int check_heap(survey *s)
{
    pm_heap_stats stats;
    MUST(pm__heap_check(&s->a->heap) == PM_OK, "the heap's page table is broken");
    pm__heap_stats(&s->a->heap, &stats);
    MUST(stats.used == s->blocks, "heap: %" PRIu64 " bytes used, records name %" PRIu64, stats.used,
         s->blocks);
    if (s->h->disk_bytes == 0)
        return PM_OK;
    MUST(pm__heap_check(&s->a->disk) == PM_OK, "the spill file's page table is broken");
    pm__heap_stats(&s->a->disk, &stats);
    MUST(stats.used == s->copies, "spill file: %" PRIu64 " units used, entries name %" PRIu64,
         stats.used, s->copies);
    return PM_OK;
}

static int check_all(survey *s)
{
    int (*const steps[])(survey *) = {check_pools,     check_clients, check_entries,   check_tasks,
                                      check_resources, compare_refs,  check_directory, check_heap};
    int rc = PM_OK;
    for (size_t i = 0; rc == PM_OK && i < sizeof steps / sizeof *steps; i++)
        rc = steps[i](s);
    return rc;
}

static int allocate(survey *s)
{
    const pm_header_shm *h = s->h;
    const pm_pool_shm *pools[] = {&h->entries, &h->holds, &h->tasks, &h->keys};
    for (int i = 0; i < 4; i++)
        MUST(pools[i]->high.v <= pools[i]->capacity, "table %d: %" PRIu64 " records of %" PRIu64, i,
             pools[i]->high.v, pools[i]->capacity);
    s->refs = calloc(h->entries.high.v + 1, sizeof *s->refs);
    s->deps = calloc(h->tasks.high.v + 1, sizeof *s->deps);
    s->made = calloc(h->tasks.high.v + 1, sizeof *s->made);
    s->entries = calloc(h->entries.high.v + 1, 1);
    s->holds = calloc(h->holds.high.v + 1, 1);
    s->tasks = calloc(h->tasks.high.v + 1, 1);
    s->keys = calloc(h->keys.high.v + 1, 1);
    return s->refs && s->deps && s->made && s->entries && s->holds && s->tasks && s->keys ? PM_OK
                                                                                          : PM_ESYS;
}

int pm_check(pm_arena *a, char *why, size_t len)
{
    survey s = {.a = a, .h = a->h, .why = why, .len = len};
    pm_op op;
    int rc;
    if (why && len)
        why[0] = 0;
    while ((rc = pm__enter(&op, a, PM_WAIT)) == PM_EAGAIN)
        ;
    if (rc)
        return rc;
    rc = allocate(&s);
    if (rc == PM_OK)
        rc = check_all(&s);
    int left = pm__leave(&op);
    free(s.refs);
    free(s.deps);
    free(s.made);
    free(s.entries);
    free(s.holds);
    free(s.tasks);
    free(s.keys);
    return rc ? rc : left;
}
