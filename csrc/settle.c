/* settle.c - see settle.h. */
#include "settle.h"

#include <string.h>

#include "crash.h"
#include "events.h"
#include "os.h"

enum { LARGE = 1 << 20 }; /* bytes of a block that the keeper should know of when it goes */

static pm_lock *lock_of(pm_op *op)
{
    return &op->a->lock;
}

/* ---- entries --------------------------------------------------------------------------------- */

static enum pm_entry_state state_of(const pm_arena *a, uint64_t entry)
{
    return (enum pm_entry_state)(pm_p64_load(&pm__entry(a, entry - 1)->state) & 0xff);
}

/* The keeper should see whether memory or disk can be given back to the machine (trim.h), which it does
 * not for what it has taken to do so. */
static void note_loose(pm_op *op)
{
    pm_header_shm *h = op->a->h;
    if (pm_a64_load(&h->loose) || op->a->kind == PM_KEEPER)
        return;
    pm_a64_store(&h->loose, 1); /* even if this is rolled back: once too often */
    op->ring = true;
}

void pm__give_block(pm_op *op, uint64_t block)
{
    bool large = pm__heap_usable(&op->a->heap, block) >= LARGE;
    pm__heap_free(&op->a->heap, block);
    if (pm__first_in_line(op->a))
        op->everyone = true;
    if (large)
        note_loose(op);
}

void pm__may_go_now(pm_op *op)
{
    if (!pm_a64_load(&op->a->h->lined))
        return;
    pm_a64_add(&op->a->h->openings, 1);
    op->everyone = true;
}

/* Its place in the table goes with its copy on disk: not before the file has been seen to. */
static void leave_litter(pm_op *op, uint64_t entry, uint64_t generation)
{
    pm_lock *l = lock_of(op);
    pm_entry_shm *e = pm__entry(op->a, entry - 1);
    pm_publish(l, &e->state, generation << 8 | PM_PENDING);
    pm_set(l, &e->block, 0);
    pm_set(l, &e->size, 0);
    pm_set(l, &e->nrefs, 0);
    pm_set(l, &e->strip, PM_LITTER);
    pm_set(l, &e->link, op->a->h->litter.v);
    pm_set(l, &op->a->h->litter, entry);
    note_loose(op);
}

static void entry_free(pm_op *op, uint64_t entry)
{
    pm_entry_shm *e = pm__entry(op->a, entry - 1);
    uint64_t generation = (pm_p64_load(&e->state) >> 8) + 1;
    if (pm__has_block(e))
        pm__give_block(op, e->block.v);
    pm__directory_remove(op, entry);
    if (pm__lineage_end(op, e))
        pm__task_end(op, pm__lineage_task(pm__lineage(e)->v));
    if (e->copy.v) {
        leave_litter(op, entry, generation);
        return;
    }
    pm_publish(lock_of(op), &e->state, generation << 8 | PM_FREE);
    pm__pool_give(op, &op->a->h->entries, entry);
}

static void push_dying(pm_op *op, uint64_t entry)
{
    pm_set(lock_of(op), &pm__entry(op->a, entry - 1)->link, op->a->h->dying.v);
    pm_set(lock_of(op), &op->a->h->dying, entry);
}

/* An entry with nothing inside goes at once if the transaction has room; the others join the
 * dying list, so that the last drop of a list of a million references neither recurses nor
 * overflows the journal. */
static void entry_gone(pm_op *op, uint64_t entry)
{
    pm_entry_shm *e = pm__entry(op->a, entry - 1);
    if (e->strip.v == PM_STRIPPING || e->strip.v == PM_LEAVING || e->strip.v == PM_SHUTTING)
        return; /* it is on the list, and goes with its last step there */
    if (e->held.v == 0 && pm_lock_room(lock_of(op)) >= 2 * PM_STEP_WRITES)
        entry_free(op, entry);
    else
        push_dying(op, entry);
}

bool pm__is_pinned(const pm_arena *a, const pm_entry_shm *e)
{
    for (uint64_t i = e->holders.v; i; i = a->holds[i - 1].enext.v)
        if (pm_a64_load(&a->holds[i - 1].pins))
            return true;
    return false;
}

void pm__entry_strip(pm_op *op, uint64_t entry)
{
    pm_entry_shm *e = pm__entry(op->a, entry - 1);
    bool away = e->strip.v == PM_SPILT;
    if (state_of(op->a, entry) != PM_FREED || !(away || e->strip.v == PM_WHOLE) ||
        !(e->block.v || e->held.v))
        return;
    if (e->refs.v == 0 || e->task.v || e->deps.v)
        return; /* it goes anyway; its bytes may still come; its link is in use */
    /* order: state FREED -> read pins. A reader pins, then reads the state (pm_pin): one of us
     * sees the other, and who gives back the last pin of a freed entry comes here again. */
    atomic_thread_fence(memory_order_seq_cst);
    if (pm__is_pinned(op->a, e))
        return;
    if (!pm__has_block(e) && !e->held.v) {
        pm_set(lock_of(op), &e->strip, PM_STRIPPED);
        return;
    }
    pm_set(lock_of(op), &e->strip, away ? PM_LEAVING : PM_STRIPPING);
    push_dying(op, entry);
}

void pm__entry_unref(pm_op *op, uint64_t entry)
{
    pm_entry_shm *e = pm__entry(op->a, entry - 1);
    pm_set(lock_of(op), &e->refs, e->refs.v - 1);
    if (e->refs.v == 0)
        entry_gone(op, entry);
    else if (e->strip.v == PM_MAILBOX)
        pm__mailbox_look(op, entry);
}

pm_ref *pm__contained(const pm_arena *a, const pm_entry_shm *e)
{
    const char *bytes = e->block.v ? a->map.base + e->block.v : (const char *)e->bytes;
    return (pm_ref *)(pm__is_away(e) ? bytes : bytes + pm__refs_offset(e->size.v));
}

static void step_dying(pm_op *op, uint64_t entry)
{
    pm_entry_shm *e = pm__entry(op->a, entry - 1);
    uint64_t n = e->held.v;
    pm_header_shm *h = op->a->h;
    if (n > 0 && pm__is_gate(op->a, entry)) {
        pm__entry_unref(op, pm__stream_pop(op, entry));
        return;
    }
    if (n > 0) {
        pm_set(lock_of(op), &e->held, n - 1);
        pm__entry_unref(op, pm__contained(op->a, e)[n - 1].slot + 1);
        return;
    }
    pm_set(lock_of(op), &h->dying, e->link.v);
    if (e->refs.v == 0) {
        entry_free(op, entry);
        return;
    }
    pm_set(lock_of(op), &e->strip, e->strip.v == PM_SHUTTING ? PM_SHUT : PM_STRIPPED);
    if (e->block.v)
        pm__give_block(op, e->block.v);
}

void pm__entry_notify(pm_op *op, uint64_t entry)
{
    for (uint64_t i = pm__entry(op->a, entry - 1)->holders.v; i; i = op->a->holds[i - 1].enext.v) {
        pm_hold_shm *r = &op->a->holds[i - 1];
        uint64_t waiter = r->waiter.v;
        if (waiter == 0)
            continue;
        if (waiter > PM_WAITERS || op->ncounts == PM_WAKES)
            op->everyone = true;
        else
            op->counts[op->ncounts++] = pm__waiter(op->a, r->client.v, (int)waiter - 1);
    }
}

void pm__entry_settled(pm_op *op, uint64_t entry)
{
    pm_entry_shm *e = pm__entry(op->a, entry - 1);
    pm__entry_notify(op, entry); /* a loop over the clients that hold it, not over a user's n */
    if (e->block.v)
        pm__may_go_now(op);
    if (e->deps.v) {
        pm_set(lock_of(op), &e->link, op->a->h->settling.v);
        pm_set(lock_of(op), &op->a->h->settling, entry);
    }
}

static void step_settling(pm_op *op, uint64_t entry)
{
    pm_entry_shm *e = pm__entry(op->a, entry - 1);
    pm_arg_shm *arg = (pm_arg_shm *)(op->a->map.base + e->deps.v);
    pm_set(lock_of(op), &e->deps, arg->next.v);
    uint64_t task = arg->task.v;
    if (arg->next.v == 0) {
        pm_set(lock_of(op), &op->a->h->settling, e->link.v);
        pm__entry_strip(op, entry);
    }
    pm__task_waited(op, task);
}

/* ---- streams --------------------------------------------------------------------------------- */

uint64_t pm__task_gate(const pm_arena *a, uint64_t task)
{
    uint64_t first = pm__task_first(a, task);
    return first && pm__is_gate(a, first) ? first : 0;
}

uint64_t pm__stream_pop(pm_op *op, uint64_t gate)
{
    pm_lock *l = lock_of(op);
    pm_entry_shm *e = pm__entry(op->a, gate - 1);
    pm_stream_shm *s = pm__stream(op->a, gate);
    uint64_t item = s->head.v;
    pm_entry_shm *first = pm__entry(op->a, item - 1);
    pm_set(l, &s->head, first->link.v);
    if (first->link.v == 0)
        pm_set(l, &s->tail, 0);
    pm_set(l, &e->held, e->held.v - 1);
    pm_set(l, &first->strip, first->strip.v == PM_ITEM ? PM_WHOLE : PM_SPILT);
    return item;
}

void pm__stream_resume(pm_op *op, uint64_t gate)
{
    pm_stream_shm *s = pm__stream(op->a, gate);
    uint64_t waiter = s->pausing.v;
    if (waiter == 0)
        return;
    pm_set(lock_of(op), &s->pausing, 0);
    if (op->ncounts == PM_WAKES)
        op->everyone = true;
    else
        op->counts[op->ncounts++] = &op->a->waiters[waiter - 1];
}

/* Nobody can take an item any more, and its task has not ended: the items go now, the task when it
 * next yields. */
static void gate_close(pm_op *op, uint64_t gate)
{
    pm_entry_shm *e = pm__entry(op->a, gate - 1);
    pm_set(lock_of(op), &e->strip, e->held.v ? PM_SHUTTING : PM_SHUT);
    if (e->held.v)
        push_dying(op, gate);
    pm__stream_resume(op, gate);
}

/* ---- hold records ---------------------------------------------------------------------------- */

void pm__hold_end(pm_op *op, uint64_t hold)
{
    pm_lock *l = lock_of(op);
    pm_hold_shm *holds = op->a->holds, *r = &holds[hold - 1];
    uint64_t entry = r->entry.v, next = r->next.v, prev = r->prev.v;
    pm_set(l, r->eprev.v ? &holds[r->eprev.v - 1].enext : &pm__entry(op->a, entry - 1)->holders,
           r->enext.v);
    if (r->enext.v)
        pm_set(l, &holds[r->enext.v - 1].eprev, r->eprev.v);
    pm_set(l, prev ? &holds[prev - 1].next : &op->a->clients[r->client.v].holds, next);
    if (next)
        pm_set(l, &holds[next - 1].prev, prev);
    pm__pool_give(op, &op->a->h->holds, hold);
    pm__entry_unref(op, entry);
    const pm_entry_shm *e = pm__entry(op->a, entry - 1);
    if (e->strip.v == PM_GATE && e->refs.v && e->holders.v == 0)
        gate_close(op, entry);
    /* Of a dead client: its pins, or the step between its last unpin and what follows. Who waits
     * for its leases is woken when its sweep ends. */
    pm__entry_strip(op, entry);
}

void pm__entry_unpinned(pm_op *op, uint64_t entry)
{
    enum pm_entry_state state = state_of(op->a, entry);
    if (state == PM_PENDING || state == PM_SPILLED)
        pm__entry_notify(op, entry); /* whoever wants to seal it, or have it back, looks again */
    else
        pm__entry_strip(op, entry);
}

void pm__drop_locked(pm_op *op, uint64_t entry, uint32_t n)
{
    pm_local *own = &op->a->local[entry - 1];
    if (atomic_fetch_sub(&own->refs, n) == n)
        pm__hold_end(op, own->hold);
    if (pm__entry(op->a, entry - 1)->refs.v)
        pm__entry_unpinned(op, entry);
}

static void drop_deferred(pm_op *op)
{
    pm_arena *a = op->a;
    uint64_t slot = atomic_exchange(&a->deferred, 0);
    while (slot && pm_lock_room(lock_of(op)) >= 2 * PM_STEP_WRITES) {
        pm_local *own = &a->local[slot - 1];
        uint64_t entry = slot;
        slot = own->deferred;
        /* after `deferred` was read: from here on it may be put on the list again */
        pm__drop_locked(op, entry, atomic_exchange(&own->owed, 0));
    }
    while (slot) { /* no room: back on the list */
        pm_local *own = &a->local[slot - 1];
        uint64_t next = own->deferred, first = atomic_load(&a->deferred);
        do
            own->deferred = first;
        while (!atomic_compare_exchange_weak(&a->deferred, &first, slot));
        slot = next;
    }
}

/* ---- tasks ----------------------------------------------------------------------------------- */

void pm__list_push(pm_op *op, pm_j64 *head, uint64_t task)
{
    pm_task_shm *t = pm__task(op->a, task - 1);
    pm_set(lock_of(op), &t->prev, 0);
    pm_set(lock_of(op), &t->next, head->v);
    if (head->v)
        pm_set(lock_of(op), &pm__task(op->a, head->v - 1)->prev, task);
    pm_set(lock_of(op), head, task);
}

void pm__list_remove(pm_op *op, pm_j64 *head, uint64_t task)
{
    pm_task_shm *t = pm__task(op->a, task - 1);
    pm_set(lock_of(op), t->prev.v ? &pm__task(op->a, t->prev.v - 1)->next : head, t->next.v);
    if (t->next.v)
        pm_set(lock_of(op), &pm__task(op->a, t->next.v - 1)->prev, t->prev.v);
}

/* ---- tasks that are awaited inside of tasks -------------------------------------------------- */

static bool is_runnable(const pm_arena *a, const pm_task_shm *t)
{
    const pm_shape_shm *s = &a->h->shapes[t->shape.v - 1];
    const pm_client_shm *me = pm__me(a);
    return pm__suits(me, s) && !s->alone.v && !me->hosts.v && pm__fits(a, s, true) != 0;
}

static uint64_t queued_below(const pm_arena *a, uint64_t entry, bool runnable, bool streams,
                             int *budget)
{
    uint64_t task = pm__entry(a, entry - 1)->task.v;
    if (!task || --*budget < 0)
        return 0;
    const pm_task_shm *t = pm__task(a, task - 1);
    if (t->state.v == PM_TASK_READY)
        return !pm__called(a, t) && (streams || !pm__task_gate(a, task)) &&
                       (!runnable || is_runnable(a, t))
                   ? task
                   : 0;
    if (t->state.v != PM_TASK_WAITING)
        return 0;
    for (uint64_t i = 0; i < t->nargs.v && --*budget >= 0; i++) {
        uint64_t word = pm__task_arg(a, t, i)->entry.v, found;
        if ((word & 1) && (found = queued_below(a, (word >> 1) + 1, runnable, streams, budget)))
            return found;
    }
    return 0;
}

uint64_t pm__queued_producer(const pm_arena *a, uint64_t entry, bool streams)
{
    int budget = PM_REACH;
    return queued_below(a, entry, false, streams, &budget);
}

uint64_t pm__runnable_producer(const pm_arena *a, uint64_t entry, bool streams)
{
    int budget = PM_REACH;
    return queued_below(a, entry, true, streams, &budget);
}

static void look(pm_op *op, pm_waiter_shm *w)
{
    pm_a64_store(&w->work, 1);
    if (op->nlooks == PM_WAKES)
        op->everyone = true;
    else
        op->looks[op->nlooks++] = w;
}

void pm__offer_client(pm_op *op, uint64_t client)
{
    uint64_t used = pm_a64_load(&op->a->clients[client].waiters);
    for (int w = 0; w < PM_WAITERS; w++)
        if (used >> w & 1)
            look(op, pm__waiter(op->a, client, w));
}

void pm__offer_all(pm_op *op)
{
    for (uint64_t i = 0; i < pm__client_high(op->a); i++)
        if (op->a->clients[i].running.v)
            pm__offer_client(op, i);
}

/* Those who wait for a result of the task inside of another task, directly or for a result that
 * depends on it. False when the dependencies reach further than the budget. */
static bool offer_above(pm_op *op, uint64_t task, int *budget)
{
    const pm_arena *a = op->a;
    const pm_task_shm *t = pm__task(a, task - 1);
    for (uint64_t i = 0; i < t->rets_made.v; i++) {
        const pm_entry_shm *e = pm__entry(a, (pm__task_ret(a, t, i)->v >> 1) - 1);
        if (--*budget < 0)
            return false;
        for (uint64_t h = e->holders.v; h; h = a->holds[h - 1].enext.v) {
            const pm_hold_shm *r = &a->holds[h - 1];
            if (r->waiter.v == 0 || a->clients[r->client.v].running.v == 0)
                continue;
            if (r->waiter.v > PM_WAITERS)
                pm__offer_client(op, r->client.v);
            else
                look(op, pm__waiter(a, r->client.v, (int)r->waiter.v - 1));
        }
        for (uint64_t at = e->deps.v; at; at = ((pm_arg_shm *)(a->map.base + at))->next.v)
            if (--*budget < 0 ||
                !offer_above(op, ((pm_arg_shm *)(a->map.base + at))->task.v, budget))
                return false;
    }
    return true;
}

/* No worker is free: a worker asleep inside another task may be waiting for just this one, and
 * can run it. */
static void offer(pm_op *op, uint64_t task)
{
    int budget = PM_REACH;
    if (!offer_above(op, task, &budget))
        pm__offer_all(op);
}

/* Whoever it is that sees the last of a dead actor's calls come fails them all. */
static void mailbox_close(pm_op *op, uint64_t mailbox)
{
    pm_entry_shm *e = pm__entry(op->a, mailbox - 1);
    pm_mailbox_shm *m = pm__mailbox(op->a, mailbox);
    if (e->task.v || m->head.v == 0 || m->closing.v)
        return;
    pm_set(lock_of(op), &e->link, op->a->h->closing.v);
    pm_set(lock_of(op), &op->a->h->closing, mailbox);
    pm_set(lock_of(op), &m->closing, 1);
}

static void call_ready(pm_op *op, uint64_t task, uint64_t mailbox, bool first)
{
    pm_set(lock_of(op), &pm__task(op->a, task - 1)->state, PM_TASK_READY);
    pm__mailbox_push(op, task, first);
    mailbox_close(op, mailbox);
}

void pm__task_ready(pm_op *op, uint64_t task, bool first)
{
    pm_task_shm *t = pm__task(op->a, task - 1);
    pm_header_shm *h = op->a->h;
    uint64_t mailbox = pm__called(op->a, t);
    if (mailbox) {
        call_ready(op, task, mailbox, first);
        return;
    }
    pm_set(lock_of(op), &t->state, PM_TASK_READY);
    pm_set(lock_of(op), &t->seq, first ? 0 : h->seq.v + 1);
    if (!first)
        pm_set(lock_of(op), &h->seq, h->seq.v + 1);
    pm__queue_push(op, task, first);
    uint64_t removed = pm__removed_group_of(op->a, task);
    if (removed) {
        pm__group_list(op, removed); /* where it fails */
        return;
    }
    pm__call_worker(op);
    const pm_shape_shm *s = &h->shapes[t->shape.v - 1];
    bool none_free = pm__none_free(op->a, s);
    if (none_free)
        offer(op, task);
    if (h->disk_shm.used.v && (none_free || !pm__fits(op->a, s, false)))
        pm__prefetch_later(op);
}

void pm__task_waited(pm_op *op, uint64_t task)
{
    pm_task_shm *t = pm__task(op->a, task - 1);
    pm_set(lock_of(op), &t->waiting, t->waiting.v - 1);
    if (t->waiting.v)
        return;
    if (pm__called(op->a, t))
        pm__mailbox_pass(op, task);
    if (t->state.v == PM_TASK_ABANDONED)
        pm__task_end(op, task);
    else if (t->state.v != PM_TASK_FINISHING) /* cancelled: it is on its way */
        pm__task_ready(op, task, false);
}

void pm__task_end(pm_op *op, uint64_t task)
{
    pm_task_shm *t = pm__task(op->a, task - 1);
    pm_set(lock_of(op), &t->state, PM_TASK_FINISHING);
    pm_set(lock_of(op), &t->next, op->a->h->finishing.v);
    pm_set(lock_of(op), &op->a->h->finishing, task);
}

static void let_go_of(pm_op *op, pm_j64 *word)
{
    uint64_t entry = word->v;
    pm_set(lock_of(op), word, 0);
    pm__entry_unref(op, entry);
}

static void let_go_of_function(pm_op *op, pm_task_shm *t)
{
    uint64_t mailbox = pm__called(op->a, t);
    if (mailbox) {
        pm_mailbox_shm *m = pm__mailbox(op->a, mailbox);
        pm_set(lock_of(op), &m->calls, m->calls.v - 1);
    }
    let_go_of(op, &t->function);
}

/* The entry is pending: nobody reads its bytes. */
static void write_cancelled(pm_op *op, pm_entry_shm *e, const pm_task_shm *t)
{
    size_t name = strnlen(t->name, PM_TASK_NAME);
    e->bytes[0] = PM_TAG_CANCELLED;
    memcpy(e->bytes + 1, &t->serial.v, 8);
    e->bytes[9] = t->attempt.v > 0;
    memcpy(e->bytes + PM_CANCELLED_BYTES, t->name, name);
    pm_set(lock_of(op), &e->size, PM_CANCELLED_BYTES + name);
}

static void unname(pm_op *op, uint64_t mailbox)
{
    const pm_entry_shm *e = pm__entry(op->a, mailbox - 1);
    bool kept = e->key.v && op->a->keys[e->key.v - 1].kept.v;
    pm__directory_remove(op, mailbox);
    if (kept)
        pm__entry_unref(op, mailbox);
}

void pm__actor_unname(pm_op *op, uint64_t task)
{
    uint64_t mailbox = pm__task_mailbox(op->a, task);
    if (mailbox)
        unname(op, mailbox);
}

/* Its name is free, and its calls fail. */
static void actor_ended(pm_op *op, uint64_t mailbox)
{
    mailbox_close(op, mailbox);
    unname(op, mailbox);
}

/* A result becomes visible: with its bytes, or because the task was cancelled. Of a task whose
 * submitter died there are neither, and nobody to see it. */
static void end_result(pm_op *op, uint64_t task, uint64_t i)
{
    const pm_task_shm *t = pm__task(op->a, task - 1);
    uint64_t ret = pm__task_ret(op->a, t, i)->v, entry = ret >> 1;
    bool attached = i < t->attached.v;
    pm_entry_shm *e = pm__entry(op->a, entry - 1);
    pm_set(lock_of(op), &e->task, 0);
    if (state_of(op->a, entry) == PM_FREED)
        pm__entry_strip(op, entry);
    else if ((attached || t->cancel.v) && e->refs.v > 1) {
        uint64_t generation = pm_p64_load(&e->state) >> 8;
        bool failed = ret & 1 || !attached;
        if (!attached && !pm__is_bare(op->a, entry))
            write_cancelled(op, e, t);
        pm_publish(lock_of(op), &e->state, generation << 8 | (failed ? PM_FAILED : PM_SEALED));
        if (!failed)
            pm__lineage_begin(op, task, i);
        pm__entry_settled(op, entry);
    }
    if (e->strip.v == PM_MAILBOX)
        actor_ended(op, entry);
    pm__entry_unref(op, entry);
}

static void leave_shape(pm_op *op, pm_shape_shm *s)
{
    pm_set(lock_of(op), &s->users, s->users.v - 1);
    if (s->env.v && s->users.v == 0)
        pm__entry_unref(op, s->env.v);
    if (s->group.v == 0)
        return;
    pm_group_shm *g = pm__group(op->a, s->group.v);
    pm_set(lock_of(op), &g->users, g->users.v - 1);
    if (g->users.v == 0 && g->state.v == PM_GROUP_REMOVED)
        pm__group_list(op, s->group.v);
}

static void step_finishing(pm_op *op, uint64_t task)
{
    pm_lock *l = lock_of(op);
    pm_task_shm *t = pm__task(op->a, task - 1);
    uint64_t n;
    if ((n = t->rets_made.v) > 0) {
        pm_set(l, &t->rets_made, n - 1);
        end_result(op, task, n - 1);
    } else if (t->waiting.v) {
        /* Lists of entries lead to its arguments: pm__task_waited() ends it when none does. */
        pm_set(l, &op->a->h->finishing, t->next.v);
        pm_set(l, &t->state, PM_TASK_ABANDONED);
    } else if ((n = t->args_held.v) > 0) {
        pm_set(l, &t->args_held, n - 1);
        pm__entry_unref(op, (pm__task_arg(op->a, t, n - 1)->entry.v >> 1) + 1);
    } else if (t->lent.v && !pm__called(op->a, t)) {
        pm_set(l, &op->a->h->finishing, t->next.v);
        leave_shape(op, &op->a->h->shapes[t->shape.v - 1]);
        pm__lineage_keep(op, task);
    } else if (t->payload.v)
        let_go_of(op, &t->payload);
    else if (t->function.v)
        let_go_of_function(op, t);
    else {
        if (t->table.v)
            pm__give_block(op, t->table.v);
        if (t->shape.v)
            leave_shape(op, &op->a->h->shapes[t->shape.v - 1]);
        pm_set(l, &op->a->h->finishing, t->next.v);
        pm_set(l, &t->state, PM_TASK_FREE);
        pm__pool_give(op, &op->a->h->tasks, task);
    }
}

void pm__attach_bytes(pm_op *op, uint64_t task, const void *data, uint64_t len, bool failed)
{
    pm_task_shm *t = pm__task(op->a, task - 1);
    pm_j64 *ret = pm__task_ret(op->a, t, t->attached.v);
    uint64_t entry = ret->v >> 1;
    if (!pm__is_bare(op->a, entry)) { /* whose bytes are its list of items, or calls */
        memcpy(pm__entry(op->a, entry - 1)->bytes, data, len); /* pending: nobody reads them */
        pm_set(lock_of(op), &pm__entry(op->a, entry - 1)->size, len);
    }
    pm_set(lock_of(op), ret, entry << 1 | failed);
    pm_set(lock_of(op), &t->attached, t->attached.v + 1);
}

/* ---- placement groups ------------------------------------------------------------------------ */

/* What a task's results say when its group is gone: class and message, as core.decode_error reads it. */
static uint64_t removed_message(const pm_task_shm *t, char out[PM_INLINE])
{
    static const char HEAD[] = "\x0eTaskPlacementGroupRemoved\0";
    static const char TAIL[] = "(): its placement group was removed before it had ended";
    uint64_t name = strnlen(t->name, PM_TASK_NAME);
    memcpy(out, HEAD, sizeof HEAD - 1);
    memcpy(out + sizeof HEAD - 1, t->name, name);
    memcpy(out + sizeof HEAD - 1 + name, TAIL, sizeof TAIL - 1);
    return sizeof HEAD - 1 + name + sizeof TAIL - 1;
}

/* The first queued task of the group, or 0. */
static uint64_t queued_of(const pm_arena *a, uint64_t group)
{
    for (uint64_t w = 0; w < PM_SHAPES / 64; w++)
        for (uint64_t bits = a->h->queued[w].v; bits; bits &= bits - 1) {
            const pm_shape_shm *s = &a->h->shapes[w * 64 + (uint64_t)__builtin_ctzll(bits)];
            if (s->group.v == group)
                return s->head.v;
        }
    return 0;
}

/* The cursor is the task's own: results attached so far. */
static void step_failing(pm_op *op, uint64_t task)
{
    pm_task_shm *t = pm__task(op->a, task - 1);
    char message[PM_INLINE];
    uint64_t len = removed_message(t, message);
    while (t->attached.v < t->nrets.v && pm_lock_room(lock_of(op)) >= 2 * PM_STEP_WRITES)
        pm__attach_bytes(op, task, message, len, true);
    if (t->attached.v < t->nrets.v)
        return;
    pm__queue_remove(op, task);
    pm__event_of_task(op, task, PM_CANCELLED, pm__os_now());
    pm__task_end(op, task);
}

/* ---- calls of dead actors -------------------------------------------------------------------- */

/* A call's next result says so, unseen, with a reference to the obituary. */
static void attach_bereaved(pm_op *op, uint64_t task, uint64_t mailbox)
{
    const pm_arena *a = op->a;
    pm_task_shm *t = pm__task(a, task - 1);
    uint64_t entry = pm__task_ret(a, t, t->attached.v)->v >> 1;
    pm_entry_shm *e = pm__entry(a, entry - 1);
    char message[PM_BEREAVED_BYTES + PM_TASK_NAME] = {PM_TAG_BEREAVED};
    uint64_t name = strnlen(t->name, PM_TASK_NAME);
    memcpy(message + PM_BEREAVED_BYTES, t->name, name);
    pm__attach_bytes(op, task, message, PM_BEREAVED_BYTES + name, true);
    if (pm__is_bare(a, entry))
        return;
    pm_ref obituary = *pm__contained(a, pm__entry(a, mailbox - 1));
    *pm__contained(a, e) = obituary; /* pending: nobody reads it */
    pm_entry_shm *held = pm__entry(a, obituary.slot);
    pm_set(lock_of(op), &held->refs, held->refs.v + 1);
    pm_set(lock_of(op), &e->nrefs, 1);
    pm_set(lock_of(op), &e->held, 1);
}

/* The cursor is the call's own: results attached so far. */
static void step_closing(pm_op *op, uint64_t mailbox)
{
    pm_mailbox_shm *m = pm__mailbox(op->a, mailbox);
    uint64_t task = m->head.v;
    pm_task_shm *t = pm__task(op->a, task - 1);
    while (t->attached.v < t->nrets.v && pm_lock_room(lock_of(op)) >= 2 * PM_STEP_WRITES)
        attach_bereaved(op, task, mailbox);
    if (t->attached.v < t->nrets.v)
        return;
    pm__mailbox_remove(op, task);
    if (m->head.v == 0) { /* before the last call lets go of the mailbox */
        pm_set(lock_of(op), &op->a->h->closing, pm__entry(op->a, mailbox - 1)->link.v);
        pm_set(lock_of(op), &m->closing, 0);
    }
    pm__event_of_task(op, task, PM_CRASHED, pm__os_now());
    pm__task_end(op, task);
}

static void step_following(pm_op *op, uint64_t task)
{
    pm_task_shm *t = pm__task(op->a, task - 1);
    pm_set(lock_of(op), &op->a->h->following, t->started.v);
    pm_set(lock_of(op), &t->started, 0);
    pm__task_waited(op, task);
}

/* ---- removing groups ------------------------------------------------------------------------- */

static void group_free(pm_op *op, pm_group_shm *g)
{
    pm_header_shm *h = op->a->h;
    uint64_t last = g->first.v;
    while (pm__bundle(op->a, last)->next.v)
        last = pm__bundle(op->a, last)->next.v;
    pm_set(lock_of(op), &pm__bundle(op->a, last)->next, h->bundle_free.v);
    pm_set(lock_of(op), &h->bundle_free, g->first.v);
    pm_set(lock_of(op), &g->state, PM_GROUP_FREE);
}

static void step_removing(pm_op *op, uint64_t group)
{
    pm_group_shm *g = pm__group(op->a, group);
    uint64_t task;
    if (g->cursor.v) {
        uint64_t bundle = g->cursor.v;
        pm_set(lock_of(op), &g->cursor, pm__bundle(op->a, bundle)->next.v);
        pm__bundle_move(op, bundle);
        pm__call_worker(op);
    } else if ((task = queued_of(op->a, group)))
        step_failing(op, task);
    else {
        pm_set(lock_of(op), &op->a->h->removing, g->next.v);
        pm_set(lock_of(op), &g->listed, 0);
        if (g->users.v == 0)
            group_free(op, g);
    }
}

static void step_regroup(pm_op *op)
{
    uint64_t group = pm__group_that_fits(op->a);
    if (group == 0) {
        pm_set(lock_of(op), &op->a->h->regroup, 0);
        return;
    }
    pm__group_reserve(op, group);
    pm__call_worker(op);
    if (pm__short_of_workers(op->a))
        pm__offer_all(op);
}

/* ---- rolling forward ------------------------------------------------------------------------- */

static bool step(pm_op *op)
{
    pm_header_shm *h = op->a->h;
    /* What somebody may be waiting for comes first. */
    if (h->settling.v)
        step_settling(op, h->settling.v);
    else if (h->following.v)
        step_following(op, h->following.v);
    else if (h->finishing.v)
        step_finishing(op, h->finishing.v);
    else if (h->dying.v)
        step_dying(op, h->dying.v);
    else if (h->closing.v)
        step_closing(op, h->closing.v);
    else if (pm_lock_room(lock_of(op)) < PM_GROUP_WRITES)
        return false; /* what is left is done in a transaction of its own */
    else if (h->removing.v)
        step_removing(op, h->removing.v);
    else if (h->regroup.v)
        step_regroup(op);
    else
        return false;
    PM_CRASH(STEPPED);
    return true;
}

/* Each of these unlocked reads may be stale: too late a look is made good by the next
 * operation's pm__done(). */
static bool work_left(const pm_arena *a)
{
    const pm_header_shm *h = a->h;
    return *(const volatile uint64_t *)&h->dying.v | *(const volatile uint64_t *)&h->settling.v |
           *(const volatile uint64_t *)&h->finishing.v |
           *(const volatile uint64_t *)&h->following.v | *(const volatile uint64_t *)&h->closing.v |
           *(const volatile uint64_t *)&h->removing.v | *(const volatile uint64_t *)&h->regroup.v |
           atomic_load_explicit(&a->deferred, memory_order_relaxed);
}

static int step_and_leave(pm_op *op)
{
    if (atomic_load_explicit(&op->a->deferred, memory_order_relaxed))
        drop_deferred(op);
    for (int i = 0; i < PM_STEPS && pm_lock_room(lock_of(op)) >= 2 * PM_STEP_WRITES; i++)
        if (!step(op))
            break;
    int rc = pm__leave(op);
    if (op->prefetch || *(const volatile uint64_t *)&op->a->h->litter.v)
        pm__call_watcher(op->a);
    return rc;
}

/* The last one out clears up: whoever finds the lock busy here leaves the rest to the one
 * inside, who looks again after leaving, or to its own watcher thread: the one inside may be only
 * looking, and cannot know what another process has deferred. So nothing decided is left to nobody;
 * deaths and stops are made good by sweeps and by kick() in wait.c. */
int pm__done(pm_op *op)
{
    pm_arena *a = op->a;
    int rc = step_and_leave(op);
    if (rc == PM_OK)
        pm__settle(a, PM_TRY);
    return rc;
}

int pm__settle(pm_arena *a, pm_patience how)
{
    pm_op op;
    int rc = PM_OK;
    while (rc == PM_OK && work_left(a)) {
        rc = pm__enter(&op, a, how);
        if (rc == PM_OK)
            rc = step_and_leave(&op);
    }
    if (rc == PM_EAGAIN)
        pm__call_watcher(a);
    return rc;
}
