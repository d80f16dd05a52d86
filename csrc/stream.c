/* stream.c - see stream.h. */
#include "stream.h"

#include <string.h>

#include "crash.h"

/* Under the lock, or of a gate that this process holds. */
static enum pm_entry_state state_of(const pm_arena *a, uint64_t gate)
{
    return pm_state(a, gate - 1);
}

/* ---- the task's side ------------------------------------------------------------------------- */

/* The record is new: its first values need no journal. */
void pm__stream_begin(pm_arena *a, uint64_t gate, uint64_t limit)
{
    pm_stream_shm *s = pm__stream(a, gate);
    pm_init(&pm__entry(a, gate - 1)->strip, PM_GATE);
    pm_init(&s->head, 0);
    pm_init(&s->tail, 0);
    pm_init(&s->made, 0);
    pm_init(&s->limit, limit);
    pm_init(&s->told, 0);
    pm_init(&s->pausing, 0);
}

static bool is_open(const pm_arena *a, uint64_t gate)
{
    return pm__entry(a, gate - 1)->strip.v == PM_GATE;
}

bool pm__stream_wanted(const pm_arena *a, uint64_t task)
{
    const pm_task_shm *t = pm__task(a, task - 1);
    return is_open(a, pm__task_ret(a, t, 0)->v >> 1) ||
           pm__entry(a, (pm__task_ret(a, t, 1)->v >> 1) - 1)->refs.v > 1;
}

/* Of a task whose gate is closed: is it to go on. */
static int without_taker(const pm_arena *a, uint64_t task)
{
    return pm__stream_wanted(a, task) ? PM_OK : PM_EDROPPED;
}

static bool has_room(const pm_arena *a, uint64_t gate)
{
    const pm_stream_shm *s = pm__stream(a, gate);
    return !is_open(a, gate) || s->limit.v == 0 || pm__entry(a, gate - 1)->held.v < s->limit.v;
}

/* The item's value, sealed, with a reference for the stream. PM_ETABLE; as pm_seal(). */
static int make_item(pm_op *op, uint64_t task, const pm_result *r, uint64_t *item)
{
    pm_lock *l = &op->a->lock;
    if (r->data) {
        if (!(*item = pm__entry_new(op)))
            return PM_ETABLE;
        pm_entry_shm *e = pm__entry(op->a, *item - 1);
        memcpy(e->bytes, r->data, r->len);
        pm_init(&e->size, r->len);
        pm__entry_publish(op, *item, r->failed ? PM_FAILED : PM_SEALED);
    } else {
        int rc = pm__seal_locked(op, r->object, r->failed);
        if (rc)
            return rc;
        *item = r->object + 1;
        pm_share(op->a, r->object);
        pm_set(l, &pm__entry(op->a, r->object)->refs, pm__entry(op->a, r->object)->refs.v + 1);
    }
    pm_set(l, &pm__entry(op->a, *item - 1)->strip, PM_ITEM);
    pm_set(l, &pm__entry(op->a, *item - 1)->link, 0);
    pm_set(l, &pm__entry(op->a, *item - 1)->producer, pm__task(op->a, task - 1)->serial.v);
    return PM_OK;
}

static void append(pm_op *op, uint64_t gate, uint64_t item, bool failed)
{
    pm_lock *l = &op->a->lock;
    pm_entry_shm *e = pm__entry(op->a, gate - 1);
    pm_stream_shm *s = pm__stream(op->a, gate);
    pm_set(l, s->tail.v ? &pm__entry(op->a, s->tail.v - 1)->link : &s->head, item);
    pm_set(l, &s->tail, item);
    pm_set(l, &s->made, s->made.v + 1);
    if (failed)
        pm_set(l, &s->told, 1);
    pm_set(l, &e->held, e->held.v + 1);
    if (state_of(op->a, gate) == PM_PENDING) {
        pm__entry_publish(op, gate, PM_OFFERING);
        pm__entry_notify(op, gate);
    }
}

static int yield(pm_op *op, uint64_t task, const pm_result *r, bool *room)
{
    uint64_t gate = pm__task_gate(op->a, task), item;
    *room = true;
    if (!is_open(op->a, gate))
        return without_taker(op->a, task);
    /* A former attempt has told of its end, and died before it had ended. */
    if (pm__stream(op->a, gate)->told.v)
        return r->failed ? PM_OK : PM_EDROPPED;
    int rc = make_item(op, task, r, &item);
    if (rc)
        return rc;
    append(op, gate, item, r->failed);
    *room = has_room(op->a, gate);
    return PM_OK;
}

static int try_yield(pm_arena *a, pm_patience how, uint64_t task, const pm_result *item, bool *room)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    PM_CRASH(YIELDING);
    rc = yield(&op, task, item, room);
    int left = pm__done(&op);
    return rc ? rc : left;
}

int pm_yield(pm_arena *a, pm_patience how, uint64_t task, const pm_result *item, bool *room)
{
    if (item->data && item->len > PM_INLINE)
        return PM_EINVAL;
    int rc = try_yield(a, how, task, item, room);
    if (rc == PM_ETABLE) {
        /* what was dropped and not yet given back may be just what is missing */
        int settled = pm__settle(a, how);
        rc = settled ? settled : try_yield(a, how, task, item, room);
    }
    return rc;
}

/* Found full and told where to wake us in one lock hold: who takes an item after it does. */
static int look_for_room(pm_op *op, uint64_t task, int waiter)
{
    uint64_t gate = pm__task_gate(op->a, task);
    if (has_room(op->a, gate))
        return is_open(op->a, gate) ? PM_OK : without_taker(op->a, task);
    pm_set(&op->a->lock, &pm__stream(op->a, gate)->pausing,
           op->a->slot * PM_WAITERS + (uint64_t)waiter + 1);
    return PM_NOT_YET;
}

int pm_await_room(pm_arena *a, uint64_t task, uint64_t deadline)
{
    return pm__await(a, task, deadline, look_for_room);
}

/* ---- the taker's side ------------------------------------------------------------------------ */

/* The stream's reference becomes this process's; or goes, if another thread has made the item and
 * not yet let go of it. */
static int take_item(pm_op *op, uint64_t gate, pm_ref *out)
{
    pm_arena *a = op->a;
    uint64_t item = pm__stream(a, gate)->head.v;
    *out = (pm_ref){.slot = item - 1, .generation = pm__generation(a, item)};
    if (pm__take_one_more(a, item - 1)) {
        pm__stream_pop(op, gate);
        pm__entry_unref(op, item);
    } else {
        if (!pm__hold_begin(op, item))
            return PM_ETABLE;
        pm__stream_pop(op, gate);
    }
    if (pm__entry(a, gate - 1)->held.v == 0 && state_of(a, gate) == PM_OFFERING)
        pm__entry_publish(op, gate, PM_PENDING);
    pm__stream_resume(op, gate);
    return PM_OK;
}

static int take(pm_op *op, uint64_t gate, pm_ref *out, bool *failed)
{
    enum pm_entry_state state = state_of(op->a, gate);
    if (pm__entry(op->a, gate - 1)->held.v)
        return take_item(op, gate, out);
    if (state == PM_PENDING)
        return PM_ENOTFOUND;
    *failed = state == PM_FAILED;
    if (*failed)
        pm__entry_publish(op, gate, PM_SEALED); /* told once */
    return PM_EEND;
}

int pm_stream_take(pm_arena *a, pm_patience how, uint64_t gate, pm_ref *out, bool *failed)
{
    pm_op op;
    *failed = false;
    if (pm_state(a, gate) == PM_PENDING && pm__over(a) == PM_OK)
        return PM_ENOTFOUND;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    PM_CRASH(TAKING);
    rc = take(&op, gate + 1, out, failed);
    int left = pm__done(&op);
    return left ? left : rc;
}

int pm_stream_look(pm_arena *a, pm_patience how, uint64_t gate, uint64_t *items, bool *ended)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    *items = pm__entry(a, gate)->held.v + (pm_state(a, gate) == PM_FAILED);
    *ended = *items == 0 && pm_state(a, gate) == PM_SEALED;
    return pm__leave(&op);
}
