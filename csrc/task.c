/* task.c - see task.h. */
#include "task.h"

#include <string.h>

#include "crash.h"
#include "os.h"

enum {
    ARG_WRITES = 8,
    RET_WRITES = PM_POOL_WRITES * 2 + 6,
    ATTACH_WRITES = 12,
    SCAN = 64, /* entries looked at in one lock hold */
    /* to end a task and take another */
    END_WRITES = 2 * PM_DRAW_WRITES + 64,
};

static pm_lock *lock_of(pm_op *op)
{
    return &op->a->lock;
}

/* ---- submit ---------------------------------------------------------------------------------- */

static bool small(const pm_task_spec *spec)
{
    return spec->nargs <= PM_TASK_ARGS && spec->nrets <= PM_TASK_RETS;
}

static int room_for(const pm_arena *a, uint64_t nrets)
{
    const pm_header_shm *h = a->h;
    return pm__pool_room(&h->tasks) && pm__pool_room(&h->entries) >= nrets &&
                   pm__pool_room(&h->holds) >= nrets
               ? PM_OK
               : PM_ETABLE;
}

static void take_ref(pm_op *op, uint64_t entry)
{
    pm_entry_shm *e = pm__entry(op->a, entry - 1);
    pm_share(op->a, entry - 1);
    pm_set(lock_of(op), &e->refs, e->refs.v + 1);
}

/* What the task needs, as a demand. */
static int demand_of(const pm_arena *a, const pm_task_spec *spec, pm_demand *d)
{
    *d = (pm_demand){.need = {spec->cpu}, .kinds = spec->cpu != 0};
    for (uint64_t i = 0; i < spec->nmore; i++) {
        if (spec->more[i].kind == PM_CPU || spec->more[i].kind >= a->h->kinds)
            return PM_EINVAL;
        d->need[spec->more[i].kind] = spec->more[i].amount;
        d->kinds |= (uint64_t)(spec->more[i].amount != 0) << spec->more[i].kind;
    }
    d->env = spec->env;
    d->alone = spec->alone;
    return spec->group ? pm__group_find(a, spec->group, spec->bundle, &d->group, &d->bundle)
                       : PM_OK;
}

/* The task on whose behalf this client submits, the innermost that it runs if it does not say: its
 * serial; and what is asked of its children, as long as it does not know of it. */
static uint64_t parent_of(const pm_arena *a, uint64_t serial, uint64_t *cancel)
{
    uint64_t task = pm__me(a)->running.v;
    while (task && serial && pm__task(a, task - 1)->serial.v != serial)
        task =
            pm__task(a, task - 1)->next.v; /* those that it runs at the same time, or its stack */
    const pm_task_shm *t = task ? pm__task(a, task - 1) : NULL;
    bool born = t && (t->cancel.v & (PM_CANCEL_TREE | PM_CANCEL_TOLD)) == PM_CANCEL_TREE;
    *cancel = born ? PM_CANCEL_ASKED | PM_CANCEL_TREE : 0;
    return t ? t->serial.v : 0;
}

static void join_shape(pm_op *op, pm_shape_shm *s)
{
    pm_header_shm *h = op->a->h;
    if (s->env.v && s->users.v == 0)
        take_ref(op, s->env.v);
    pm_set(lock_of(op), &s->users, s->users.v + 1);
    if ((s->env.v || s->alone.v) && !h->mixed.v)
        pm_set(lock_of(op), &h->mixed, 1);
    if (s->group.v)
        pm_set(lock_of(op), &pm__group(op->a, s->group.v)->users,
               pm__group(op->a, s->group.v)->users.v + 1);
}

static bool is_crowded(const pm_arena *a, const pm_task_spec *spec)
{
    if (!pm__is_mailbox(a, spec->function + 1))
        return false;
    const pm_mailbox_shm *m = pm__mailbox(a, spec->function + 1);
    return m->limit.v && m->calls.v >= m->limit.v;
}

static void take_function(pm_op *op, uint64_t entry)
{
    take_ref(op, entry);
    if (!pm__is_mailbox(op->a, entry))
        return;
    pm_mailbox_shm *m = pm__mailbox(op->a, entry);
    pm_set(lock_of(op), &m->calls, m->calls.v + 1);
}

/* The record, unreachable but for the building list: its first values need no journal. */
static int begin(pm_op *op, const pm_task_spec *spec, uint64_t now, uint64_t *out)
{
    pm_arena *a = op->a;
    pm_lock *l = lock_of(op);
    uint64_t table = 0, cancel;
    pm_demand demand;
    int rc = room_for(a, spec->nrets);
    if (!rc)
        rc = demand_of(a, spec, &demand);
    if (!rc && is_crowded(a, spec))
        rc = PM_ECROWDED;
    if (rc)
        return rc;
    uint64_t shape = pm__shape_of(op, &demand);
    if (!shape)
        return PM_ETABLE;
    if (!small(spec) && !(table = pm__heap_alloc(&a->heap, spec->nargs * sizeof(pm_arg_shm) +
                                                               spec->nrets * sizeof(pm_j64))))
        return PM_EFULL;
    uint64_t task = pm__pool_take(op, &a->h->tasks);
    pm_task_shm *t = pm__task(a, task - 1);
    pm_set(l, &t->state, PM_TASK_BUILDING); /* after a death it must read as free again */
    pm_init(&t->serial, a->h->serial.v + 1);
    pm_init(&t->parent, parent_of(a, spec->parent, &cancel));
    pm_init(&t->cancel, cancel);
    pm_init(&t->seq, 0);
    pm_init(&t->shape, shape);
    pm_init(&t->function, spec->function + 1);
    pm_init(&t->runner, 0);
    pm_init(&t->waiting, 1);
    pm_init(&t->nargs, spec->nargs);
    pm_init(&t->nrets, spec->nrets);
    pm_init(&t->args_held, 0);
    pm_init(&t->rets_made, 0);
    pm_init(&t->attached, 0);
    pm_init(&t->retries, spec->retries);
    pm_init(&t->attempt, 0);
    pm_init(&t->held, 0);
    pm_init(&t->lent, 0);
    pm_init(&t->bundle, 0);
    pm_init(&t->devices, 0);
    pm_init(&t->table, table);
    pm_init(&t->payload, (uint64_t)(spec->packed + 1));
    pm_init(&t->size, spec->size);
    pm_init(&t->submitted, spec->quiet ? 0 : now);
    pm_init(&t->started, 0);
    strncpy(t->name, spec->name, PM_TASK_NAME - 1);
    t->name[PM_TASK_NAME - 1] = 0;
    if (spec->packed < 0 && spec->size)
        memcpy(t->bytes, spec->payload, spec->size);
    pm_set(l, &a->h->serial, a->h->serial.v + 1);
    join_shape(op, &a->h->shapes[shape - 1]);
    take_function(op, spec->function + 1);
    if (spec->packed >= 0)
        take_ref(op, (uint64_t)spec->packed + 1);
    if (!small(spec))
        pm__list_push(op, &pm__me(a)->building, task);
    *out = task;
    return PM_OK;
}

static void add_argument(pm_op *op, uint64_t task, pm_task_argument given)
{
    pm_arena *a = op->a;
    pm_lock *l = lock_of(op);
    pm_task_shm *t = pm__task(a, task - 1);
    pm_entry_shm *e = pm__entry(a, given.slot);
    pm_arg_shm *arg = pm__task_arg(a, t, t->args_held.v);
    pm_init(&arg->entry, given.slot << 1 | given.waits);
    pm_init(&arg->generation, pm__generation(a, given.slot + 1));
    pm_init(&arg->task, task);
    pm_init(&arg->next, 0);
    take_ref(op, given.slot + 1);
    pm_set(l, &t->args_held, t->args_held.v + 1);
    /* On the settling list the entry still reads as pending only inside the transaction that
     * seals it, not here. */
    if (given.waits && pm_state(a, given.slot) == PM_PENDING) {
        pm_init(&arg->next, e->deps.v);
        pm_set(l, &e->deps, (uint64_t)((char *)arg - a->map.base));
        pm_set(l, &t->waiting, t->waiting.v + 1);
    }
}

/* The mailbox contains a reference to the obituary, its task's second result. */
static void tie(pm_op *op, uint64_t mailbox, uint64_t obituary)
{
    pm_entry_shm *e = pm__entry(op->a, mailbox - 1);
    pm_set(lock_of(op), &e->size, sizeof(pm_mailbox_shm));
    *pm__contained(op->a, e) = (pm_ref){obituary - 1, pm__generation(op->a, obituary)};
    pm_set(lock_of(op), &e->nrefs, 1);
    pm_set(lock_of(op), &e->held, 1);
    take_ref(op, obituary);
}

static bool add_result(pm_op *op, uint64_t task, const pm_task_spec *spec, pm_ref *out)
{
    pm_arena *a = op->a;
    pm_task_shm *t = pm__task(a, task - 1);
    if (pm__pool_room(&a->h->entries) == 0 || pm__pool_room(&a->h->holds) == 0)
        return false;
    uint64_t entry = pm__entry_new(op);
    pm__hold_begin(op, entry);
    pm_entry_shm *e = pm__entry(a, entry - 1);
    pm_init(&e->refs, 2); /* ours and the task's */
    pm_init(&e->task, task);
    pm_init(&e->producer, t->serial.v);
    if (spec->yields && t->rets_made.v == 0)
        pm__stream_begin(a, entry, spec->limit);
    if (spec->hosted && t->rets_made.v == 0)
        pm__mailbox_begin(a, entry, spec->most_calls, spec->unordered);
    if (spec->hosted && t->rets_made.v == 1)
        tie(op, pm__task_ret(a, t, 0)->v >> 1, entry);
    *out = (pm_ref){.slot = entry - 1, .generation = pm__generation(a, entry)};
    pm_publish(lock_of(op), &e->state, out->generation << 8 | PM_PENDING);
    pm_init(pm__task_ret(a, t, t->rets_made.v), entry << 1);
    pm_set(lock_of(op), &t->rets_made, t->rets_made.v + 1);
    return true;
}

/* As many steps as the transaction has room for. True when the task is complete. */
static int build(pm_op *op, const pm_task_spec *spec, pm_submission *s, pm_ref *out)
{
    pm_task_shm *t = pm__task(op->a, s->task - 1);
    while (t->args_held.v < spec->nargs && pm_lock_room(lock_of(op)) >= 2 * ARG_WRITES)
        add_argument(op, s->task, spec->args[t->args_held.v]);
    while (t->args_held.v == spec->nargs && t->rets_made.v < spec->nrets &&
           pm_lock_room(lock_of(op)) >= 2 * RET_WRITES) {
        if (!add_result(op, s->task, spec, &out[s->made]))
            return PM_ETABLE;
        s->made++;
    }
    return t->args_held.v == spec->nargs && t->rets_made.v == spec->nrets &&
                   pm_lock_room(lock_of(op)) >= 32
               ? PM_OK
               : PM_EAGAIN;
}

static void launch(pm_op *op, const pm_task_spec *spec, pm_submission *s, uint64_t now)
{
    pm_task_shm *t = pm__task(op->a, s->task - 1);
    if (!small(spec))
        pm__list_remove(op, &pm__me(op->a)->building, s->task);
    pm_set(lock_of(op), &t->state, PM_TASK_WAITING);
    if (t->cancel.v) {
        pm_set(lock_of(op), &t->waiting, t->waiting.v - 1);
        pm__event_of_task(op, s->task, PM_CANCELLED, now);
        pm__task_end(op, s->task);
    } else {
        if (pm__called(op->a, t))
            pm__mailbox_join(op, s->task);
        pm__task_waited(op, s->task);
    }
    s->task = 0;
}

/* The task cannot be completed: its results are never made visible, what it took goes back. */
static void abandon(pm_op *op, pm_submission *s)
{
    pm_task_shm *t = pm__task(op->a, s->task - 1);
    pm__list_remove(op, &pm__me(op->a)->building, s->task);
    pm_set(lock_of(op), &t->state, PM_TASK_ABANDONED);
    pm__task_waited(op, s->task);
    s->task = 0;
}

int pm_submit(pm_arena *a, pm_patience how, const pm_task_spec *spec, pm_submission *s, pm_ref *out)
{
    pm_op op;
    int rc, left;
    uint64_t now = pm__os_now();
    if ((spec->packed < 0 && spec->size > PM_TASK_INLINE) ||
        ((spec->yields || spec->hosted) && spec->nrets != 2) || (spec->hosted && !spec->alone))
        return PM_EINVAL;
    do {
        rc = pm__enter(&op, a, how);
        if (rc)
            return rc;
        if (!s->task && (rc = begin(&op, spec, now, &s->task))) {
            pm_lock_rollback(&a->lock);
            left = pm__leave(&op);
            return left ? left : rc;
        }
        rc = build(&op, spec, s, out);
        if (rc == PM_OK)
            launch(&op, spec, s, now);
        else if (rc != PM_EAGAIN)
            abandon(&op, s);
        left = rc == PM_EAGAIN ? pm__leave(&op) : pm__done(&op);
    } while (rc == PM_EAGAIN && left == PM_OK);
    return left ? left : rc;
}

/* ---- take ------------------------------------------------------------------------------------ */

/* On its runner's stack: a client with tasks is busy, asleep inside one or not. */
static void stack_push(pm_op *op, uint64_t task)
{
    pm_header_shm *h = op->a->h;
    pm_j64 *stack = &pm__me(op->a)->running;
    if (stack->v == 0) {
        pm_set(lock_of(op), &h->busy, h->busy.v + 1);
        op->ring = op->ring || pm_a64_load(&h->unwatched);
    }
    pm__list_push(op, stack, task);
}

static void stack_remove(pm_op *op, uint64_t task)
{
    pm_header_shm *h = op->a->h;
    pm_task_shm *t = pm__task(op->a, task - 1);
    pm_j64 *stack = &op->a->clients[t->runner.v - 1].running;
    pm__list_remove(op, stack, task);
    if (t->lent.v)
        pm_set(lock_of(op), &t->lent, 0); /* the attempt ended so */
    if (stack->v == 0)
        pm_set(lock_of(op), &h->busy, h->busy.v - 1);
}

/* Cancelled by force, or its placement group is removed: its process is being killed, and must take
 * nothing to its end, or the kill could hit what it took next. */
static bool is_doomed(const pm_arena *a, uint64_t task)
{
    return pm__task(a, task - 1)->cancel.v & PM_CANCEL_FORCE || pm__removed_group_of(a, task);
}

/* Result i has no bytes of its own. Also without the lock: what kind of gate it is may change
 * meanwhile, that it is one does not. */
static bool is_bare(const pm_arena *a, uint64_t task, uint64_t i)
{
    const pm_task_shm *t = pm__task(a, task - 1);
    return i < t->nrets.v && pm__is_bare(a, pm__task_ret(a, t, i)->v >> 1);
}

bool pm_is_awaited(const pm_arena *a, uint64_t task)
{
    const pm_task_shm *t = pm__task(a, task - 1);
    for (uint64_t i = 0; i < t->nrets.v; i++) {
        const pm_entry_shm *e = pm__entry(a, (pm__task_ret(a, t, i)->v >> 1) - 1);
        if (*(const volatile uint64_t *)&e->refs.v > 1)
            return true;
    }
    return false;
}

static void describe(const pm_arena *a, uint64_t task, pm_running *out)
{
    const pm_task_shm *t = pm__task(a, task - 1);
    uint64_t gate = pm__task_gate(a, task), mailbox = pm__task_mailbox(a, task);
    *out = (pm_running){
        .task = task,
        .serial = t->serial.v,
        .parent = t->parent.v,
        .function = t->function.v - 1,
        .function_generation = pm__generation(a, t->function.v),
        .name = t->name,
        .payload = t->bytes,
        .size = t->size.v,
        .packed = (int64_t)t->payload.v - 1,
        .nargs = t->nargs.v,
        .nrets = t->nrets.v - (gate || mailbox),
        .yields = gate != 0,
        .wanted = gate && pm__stream_wanted(a, task),
        .made = gate ? pm__stream(a, gate)->made.v : 0,
        .hosted = mailbox != 0,
        .call = pm__called(a, t) != 0,
        .attempt = t->attempt.v,
        .retries = t->retries.v,
        .group = a->h->shapes[t->shape.v - 1].serial.v,
        .devices = t->devices.v,
        .env = a->h->shapes[t->shape.v - 1].env.v,
    };
}

/* This client becomes the process of an actor: there is a worker less. */
static void become_host(pm_op *op, uint64_t mailbox)
{
    pm_header_shm *h = op->a->h;
    pm_set(lock_of(op), &pm__mailbox(op->a, mailbox)->host, op->a->slot + 1);
    pm_set(lock_of(op), &pm__me(op->a)->hosts, mailbox);
    pm_set(lock_of(op), &h->hosts, h->hosts.v + 1);
    op->ring = true;
}

/* Its process is no host of it any more. */
static void leave_host(pm_op *op, uint64_t task)
{
    uint64_t mailbox = pm__task_mailbox(op->a, task);
    if (mailbox)
        pm_set(lock_of(op), &pm__mailbox(op->a, mailbox)->host, 0);
}

static void start(pm_op *op, uint64_t task, uint64_t bundle, uint64_t now, pm_running *out)
{
    pm_arena *a = op->a;
    pm_lock *l = lock_of(op);
    pm_task_shm *t = pm__task(a, task - 1);
    uint64_t mailbox = pm__task_mailbox(a, task);
    if (pm__me(a)->env.v == 0)
        pm_set(l, &pm__me(a)->env, a->h->shapes[t->shape.v - 1].env.v + 1);
    if (mailbox)
        become_host(op, mailbox);
    pm__unqueue(op, task);
    pm_set(l, &t->state, PM_TASK_RUNNING);
    pm_set(l, &t->runner, a->slot + 1);
    pm_set(l, &t->attempt, t->attempt.v + 1);
    pm_set(l, &t->started, now);
    pm__draw(op, task, bundle);
    stack_push(op, task);
    describe(a, task, out);
}

static bool is_dismissed(const pm_arena *a)
{
    return pm__me(a)->aside.v == PM_DISMISSED;
}

/* A host takes calls of its actor, and only as long as that is not to be killed. */
static bool take_call(pm_op *op, uint64_t now, pm_running *out)
{
    uint64_t mailbox = pm__served(op->a);
    uint64_t task = mailbox ? pm__mailbox(op->a, mailbox)->head.v : 0;
    if (!task || is_doomed(op->a, pm__entry(op->a, mailbox - 1)->task.v))
        return false;
    start(op, task, 1, now, out);
    return true;
}

/* Take the next task, if any, and call one more worker if there is work for it: also if there is none
 * for us, as long as we were on our way no other was called. */
static bool take(pm_op *op, uint64_t now, pm_running *out)
{
    if (pm__me(op->a)->hosts.v)
        return take_call(op, now, out);
    if (is_dismissed(op->a))
        return false;
    uint64_t bundle, task = pm__queue_pick(op, &bundle);
    pm__idle_leave(op, op->a->slot);
    pm__aside_leave(op, op->a->slot);
    if (task)
        start(op, task, bundle, now, out);
    if (task || op->a->h->mixed.v)
        pm__call_worker(op);
    if (task)
        pm__prefetch_later(op);
    return task != 0;
}

int pm_take(pm_arena *a, pm_patience how, pm_running *out)
{
    pm_op op;
    uint64_t now = pm__os_now();
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    rc = take(&op, now, out) ? PM_OK : PM_ENOTFOUND;
    int left = pm__done(&op);
    return left ? left : rc;
}

/* order: this side   on the idle list -> bell = 0 (both under the lock) -> asleep = 1 -> read bell -> sleep
 *        other side  task queued (under the lock) -> bell = 1 -> read and clear asleep -> wake  (call() in queue.c) */
static int sleep_for_bell(pm_arena *a, uint64_t deadline)
{
    pm_client_shm *me = pm__me(a);
    int rc = PM_OK;
    uint64_t began;
    if (pm__spin(a, &me->bell, pm__rung, &began))
        return PM_OK;
    atomic_store(&me->asleep.v, 1);
    if (!atomic_load(&me->bell.v))
        rc = pm__os_sleep(&me->asleep, 1, deadline);
    atomic_store(&me->asleep.v, 0);
    pm__slept(a, began);
    return rc;
}

/* Not asleep any more, and not looking either: a call would be wasted on us. */
static void leave_idle(pm_arena *a)
{
    pm_op op;
    if (pm__enter(&op, a, PM_WAIT))
        return; /* then a call to us grows stale, and another is called */
    pm__idle_leave(&op, a->slot);
    pm__call_worker(&op);
    pm__done(&op);
}

int pm_try_next(pm_arena *a, pm_running *out)
{
    pm_op op;
    uint64_t now = pm__os_now();
    int rc = pm__enter(&op, a, PM_WAIT);
    if (rc)
        return rc;
    bool found = !pm_a64_load(&a->h->ending) && take(&op, now, out);
    bool dismissed = is_dismissed(a), hosts = pm__me(a)->hosts.v != 0;
    uint64_t mailbox = found ? 0 : pm__served(a);
    bool unwanted = mailbox && pm__is_unwanted(a, mailbox);
    if (!found && !dismissed) {
        if (!hosts)
            pm__idle_enter(&op);
        atomic_store(&pm__me(a)->bell.v, 0);
    }
    rc = pm__done(&op);
    if (rc || found)
        return rc;
    if (dismissed)
        return PM_ETIMEOUT;
    if (unwanted)
        return PM_EDROPPED;
    PM_CRASH(IDLE);
    /* order: bell = 0 -> read these; the other side sets one of them, then the bell
     * (look_again in client.c) */
    rc = pm__over_for_sleepers(a);
    return rc ? rc : PM_ENOTFOUND;
}

int pm_next(pm_arena *a, uint64_t deadline, pm_running *out)
{
    int rc;
    while ((rc = pm_try_next(a, out)) == PM_ENOTFOUND)
        if ((rc = sleep_for_bell(a, deadline))) {
            leave_idle(a);
            break;
        }
    return rc;
}

int pm_take_awaited(pm_arena *a, pm_patience how, const uint64_t *slots, uint64_t n, bool streams,
                    uint64_t *from, pm_running *out)
{
    while (*from < n) {
        pm_op op;
        uint64_t task = 0, now = pm__os_now();
        int rc = pm__enter(&op, a, how);
        if (rc)
            return rc;
        uint64_t waits = pm__me(a)->running.v;
        if (waits && is_doomed(a, waits))
            *from = n;
        for (int i = 0; i < SCAN && *from < n && !task; i++, ++*from)
            task = pm__runnable_producer(a, slots[*from] + 1, streams);
        if (task)
            start(&op, task, pm__fits(a, &a->h->shapes[pm__task(a, task - 1)->shape.v - 1], true),
                  now, out);
        rc = pm__done(&op);
        if (rc || task)
            return rc;
    }
    return PM_ENOTFOUND;
}

int pm_hurry(pm_arena *a, pm_patience how, const uint64_t *slots, uint64_t n, uint64_t *from)
{
    while (*from < n) {
        pm_op op;
        int rc = pm__enter(&op, a, how);
        if (rc)
            return rc;
        for (int i = 0;
             i < SCAN && *from < n && pm_lock_room(&a->lock) > 4 * PM_QUEUE_REMOVE_WRITES;
             i++, ++*from) {
            uint64_t task = pm__queued_producer(a, slots[*from] + 1, true);
            if (task && pm__task(a, task - 1)->seq.v) {
                pm__queue_remove(&op, task);
                pm__task_ready(&op, task, true);
            }
        }
        rc = pm__done(&op);
        if (rc)
            return rc;
    }
    return PM_OK;
}

uint64_t pm_task_need(const pm_arena *a, uint64_t task, uint64_t kind)
{
    return a->h->shapes[pm__task(a, task - 1)->shape.v - 1].need[kind].v;
}

pm_task_argument pm_argument(const pm_arena *a, uint64_t task, uint64_t i)
{
    uint64_t word = pm__task_arg(a, pm__task(a, task - 1), i)->entry.v;
    return (pm_task_argument){.slot = word >> 1, .waits = word & 1};
}

pm_ref pm_argument_ref(const pm_arena *a, uint64_t task, uint64_t i)
{
    const pm_arg_shm *arg = pm__task_arg(a, pm__task(a, task - 1), i);
    return (pm_ref){.slot = arg->entry.v >> 1, .generation = arg->generation.v};
}

pm_ref pm_result_ref(const pm_arena *a, uint64_t task, uint64_t i)
{
    uint64_t first = is_bare(a, task, 0);
    uint64_t entry = pm__task_ret(a, pm__task(a, task - 1), first + i)->v >> 1;
    return (pm_ref){.slot = entry - 1, .generation = pm__generation(a, entry)};
}

pm_ref pm_mailbox_ref(const pm_arena *a, uint64_t task)
{
    uint64_t mailbox = pm__task_mailbox(a, task);
    return (pm_ref){.slot = mailbox - 1, .generation = pm__generation(a, mailbox)};
}

/* ---- finish ---------------------------------------------------------------------------------- */

/* What result i ends with; one without bytes as the next does. */
static const pm_result *given(const pm_arena *a, uint64_t task, const pm_result *results,
                              uint64_t i)
{
    return &results[i && is_bare(a, task, 0) ? i - 1 : i];
}

/* An object that may become the value of result `slot`. Pending and ours, so it is read without
 * the lock. */
static int valid_object(const pm_arena *a, uint64_t object, uint64_t slot)
{
    const pm_entry_shm *from = pm__entry(a, object);
    const pm_ref *refs = pm__contained(a, from);
    if (pm_state(a, object) != PM_PENDING || from->held.v != from->nrefs.v || from->task.v)
        return PM_ESTATE;
    for (uint64_t i = 0; i < from->nrefs.v; i++)
        if (refs[i].slot == slot)
            return PM_ECYCLE;
    return PM_OK;
}

/* All that can be wrong with results is found before the first is attached. */
static int valid_results(const pm_arena *a, uint64_t task, const pm_result *results)
{
    const pm_task_shm *t = pm__task(a, task - 1);
    int rc = PM_OK;
    for (uint64_t i = t->attached.v; rc == PM_OK && i < t->nrets.v; i++) {
        const pm_result *r = given(a, task, results, i);
        if (r->data)
            rc = r->len <= PM_INLINE ? PM_OK : PM_EINVAL;
        else
            rc = valid_object(a, r->object, (pm__task_ret(a, t, i)->v >> 1) - 1);
    }
    return rc;
}

/* Blocks that are about to become results'. The objects are pending and ours: no lock. */
static void own_results(pm_arena *a, uint64_t task, const pm_result *results)
{
    const pm_task_shm *t = pm__task(a, task - 1);
    for (uint64_t i = t->attached.v; i < t->nrets.v; i++) {
        const pm_result *r = given(a, task, results, i);
        if (!r->data && !is_bare(a, task, i))
            pm__own_chunks(a, (pm__task_ret(a, t, i)->v >> 1) - 1, pm__entry(a, r->object));
    }
}

/* Move a pending object's bytes and contained references into the result entry. */
static void attach_object(pm_op *op, pm_entry_shm *e, uint64_t object)
{
    pm_lock *l = lock_of(op);
    pm_entry_shm *from = pm__entry(op->a, object);
    memcpy(e->bytes, from->bytes, PM_INLINE); /* the value, or its call site */
    pm_set(l, &e->block, from->block.v);
    pm_set(l, &e->size, from->size.v);
    pm_set(l, &e->nrefs, from->nrefs.v);
    pm_set(l, &e->held, from->held.v);
    pm_set(l, &from->block, 0);
    pm_set(l, &from->held, 0);
    pm_set(l, &from->nrefs, 0);
}

/* Give the next result its bytes, unseen. */
static void attach(pm_op *op, uint64_t task, const pm_result *r)
{
    pm_lock *l = lock_of(op);
    pm_task_shm *t = pm__task(op->a, task - 1);
    pm_j64 *ret = pm__task_ret(op->a, t, t->attached.v);
    uint64_t entry = ret->v >> 1;
    if (r->data || pm__is_bare(op->a, entry)) {
        pm__attach_bytes(op, task, r->data, r->len, r->failed);
        return;
    }
    attach_object(op, pm__entry(op->a, entry - 1), r->object);
    pm_set(l, ret, entry << 1 | r->failed);
    pm_set(l, &t->attached, t->attached.v + 1);
}

/* As many as the transaction has room for. True when all are attached, with room to end the
 * task. */
static bool attach_some(pm_op *op, uint64_t task, const pm_result *results)
{
    pm_task_shm *t = pm__task(op->a, task - 1);
    while (t->attached.v < t->nrets.v && pm_lock_room(lock_of(op)) >= 2 * ATTACH_WRITES)
        attach(op, task, given(op->a, task, results, t->attached.v));
    return t->attached.v == t->nrets.v && pm_lock_room(lock_of(op)) >= END_WRITES;
}

/* What it needed beside CPU may be what a queued task waits for that a blocked worker could run. */
static void return_all(pm_op *op, uint64_t task)
{
    bool more = op->a->h->shapes[pm__task(op->a, task - 1)->shape.v - 1].kinds.v >> (PM_CPU + 1);
    pm__return_all(op, task);
    if (more && pm__short_of_workers(op->a))
        pm__offer_all(op);
}

void pm_account_for(pm_arena *a, uint64_t began, uint64_t returned, const char *error)
{
    a->account = (pm_account){.began = began, .returned = returned};
    strncpy(a->account.error, error, sizeof a->account.error - 1);
}

/* The decision: from here on it is not run again. */
static void decide(pm_op *op, uint64_t task, enum pm_outcome outcome, uint64_t now)
{
    bool cancelled = pm__task(op->a, task - 1)->cancel.v && outcome != PM_FINISHED;
    pm__event_of_task(op, task, cancelled ? PM_CANCELLED : outcome, now);
    leave_host(op, task);
    stack_remove(op, task);
    return_all(op, task);
    pm__task_end(op, task);
}

int pm_finish(pm_arena *a, pm_patience how, uint64_t task, const pm_result *results,
              pm_running *next)
{
    pm_op op;
    bool all = false;
    uint64_t now = pm__os_now();
    int rc = valid_results(a, task, results);
    if (rc == PM_OK)
        own_results(a, task, results);
    while (rc == PM_OK && !all) {
        rc = pm__enter(&op, a, how);
        if (rc)
            return rc;
        if (is_doomed(a, task)) {
            rc = pm__leave(&op);
            return rc ? rc : PM_ECANCELLED;
        }
        all = attach_some(&op, task, results);
        if (all) {
            decide(&op, task, *a->account.error ? PM_RAISED : PM_FINISHED, now);
            if (next) {
                next->task = 0;
                take(&op, now, next);
            }
            pm__call_worker(&op);
        }
        rc = all ? pm__done(&op) : pm__leave(&op);
    }
    if (rc == PM_OK) {
        a->account = (pm_account){0};
        pm__settle(a, PM_TRY);
    }
    return rc;
}

/* Take attached bytes away again, before a retry or a failure in their place. */
static void detach(pm_op *op, uint64_t task)
{
    pm_lock *l = lock_of(op);
    pm_task_shm *t = pm__task(op->a, task - 1);
    uint64_t n = t->attached.v - 1;
    pm_entry_shm *e = pm__entry(op->a, (pm__task_ret(op->a, t, n)->v >> 1) - 1);
    if (is_bare(op->a, task, n)) {
        pm_set(l, &t->attached, n);
        return;
    }
    if (e->held.v) {
        pm_set(l, &e->held, e->held.v - 1);
        pm__entry_unref(op, pm__contained(op->a, e)[e->held.v].slot + 1);
        return;
    }
    if (e->block.v)
        pm__give_block(op, e->block.v);
    pm_set(l, &e->block, 0);
    pm_set(l, &e->nrefs, 0);
    pm_set(l, &e->size, 0);
    pm_set(l, &t->attached, n);
}

int pm__detach(pm_arena *a, uint64_t task)
{
    pm_op op;
    while (pm__task(a, task - 1)->attached.v) {
        int rc = pm__enter(&op, a, PM_WAIT);
        if (rc)
            return rc;
        for (int i = 0; i < 4 && pm__task(a, task - 1)->attached.v; i++)
            detach(&op, task);
        rc = pm__done(&op);
        if (rc)
            return rc;
    }
    return PM_OK;
}

int pm__attach_failure(pm_arena *a, uint64_t task, const void *data, uint64_t len)
{
    const pm_result r = {.data = data, .len = len, .failed = true};
    pm_task_shm *t = pm__task(a, task - 1);
    pm_op op;
    uint64_t now = pm__os_now();
    for (;;) {
        int rc = pm__enter(&op, a, PM_WAIT);
        if (rc)
            return rc;
        while (t->attached.v < t->nrets.v && pm_lock_room(&a->lock) >= 2 * ATTACH_WRITES)
            attach(&op, task, &r);
        bool all = t->attached.v == t->nrets.v && pm_lock_room(&a->lock) >= END_WRITES;
        if (all)
            decide(&op, task, PM_CRASHED, now);
        rc = pm__done(&op);
        if (rc || all)
            return rc;
    }
}

/* ---- retry, block, resume -------------------------------------------------------------------- */

static void requeue(pm_op *op, uint64_t task, uint64_t now)
{
    pm_lock *l = lock_of(op);
    pm_task_shm *t = pm__task(op->a, task - 1);
    uint64_t mailbox = pm__called(op->a, t);
    /* of a dead actor: then it fails where it is queued, and says so */
    if (!mailbox || pm__entry(op->a, mailbox - 1)->task.v)
        pm__event_of_task(op, task, PM_RETRIED, now);
    leave_host(op, task);
    stack_remove(op, task);
    return_all(op, task);
    if (t->retries.v && t->retries.v != PM_RETRY_ALWAYS)
        pm_set(l, &t->retries, t->retries.v - 1);
    pm_set(l, &t->runner, 0);
    /* last: who takes it now finds nothing of the former attempt [R 16] */
    pm__task_ready(op, task, mailbox != 0); /* a call again before those that came after it */
}

void pm__task_rerun(pm_op *op, uint64_t task, uint64_t now)
{
    if (pm__task(op->a, task - 1)->cancel.v)
        decide(op, task, PM_CANCELLED, now);
    else
        requeue(op, task, now);
}

int pm_retry(pm_arena *a, pm_patience how, uint64_t task)
{
    pm_op op;
    uint64_t now = pm__os_now();
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    const pm_task_shm *t = pm__task(a, task - 1);
    rc = is_doomed(a, task) ? PM_ECANCELLED : t->retries.v || t->cancel.v ? PM_OK : PM_ESTATE;
    if (rc) {
        int left = pm__leave(&op);
        return left ? left : rc;
    }
    pm__task_rerun(&op, task, now);
    rc = pm__done(&op);
    a->account = (pm_account){0};
    return rc;
}

static void set_lent(pm_op *op, uint64_t task, uint64_t lent)
{
    pm_j64 *word = &pm__task(op->a, task - 1)->lent;
    if (word->v != lent)
        pm_set(lock_of(op), word, lent);
}

int pm_block(pm_arena *a, pm_patience how, uint64_t task)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    pm__return_cpu(&op, task);
    set_lent(&op, task, 1);
    pm__call_worker(&op);
    if (pm__short_of_workers(a))
        /* what is queued was not offered while there was a worker to take it: us */
        pm__offer_all(&op);
    return pm__done(&op);
}

int pm_resume(pm_arena *a, pm_patience how, uint64_t task)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    pm__draw_cpu(&op, task);
    set_lent(&op, task, 0);
    return pm__done(&op);
}

int pm_set_aside(pm_arena *a, pm_patience how, uint64_t slot, uint64_t epoch)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    if (slot < a->h->client_high.v && a->clients[slot].epoch.v == epoch)
        pm__aside_enter(&op, slot);
    pm__call_worker(&op);
    return pm__done(&op);
}

int pm_dismiss_myself(pm_arena *a, pm_patience how)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    pm__aside_enter(&op, a->slot);
    rc = pm__me(a)->aside.v ? PM_OK : PM_ESTATE;
    if (rc == PM_OK)
        pm_set(&a->lock, &pm__me(a)->aside, PM_DISMISSED);
    pm__call_worker(&op);
    int left = pm__done(&op);
    return left ? left : rc;
}

/* Whether none of the workers that run anything will ever come to this shape's tasks: those that suit
 * all wait inside of tasks, and what they wait for they need not be able to run themselves. */
static bool is_stuck(const pm_arena *a, const pm_shape_shm *s)
{
    bool barred = s->alone.v;
    for (uint64_t i = 0; i < a->h->client_high.v; i++) {
        const pm_client_shm *c = &a->clients[i];
        if (c->kind.v != PM_WORKER || !c->running.v || c->hosts.v)
            continue;
        if (!pm__suits(c, s))
            barred = true;
        else if (!pm__task(a, c->running.v - 1)->lent.v)
            return false;
    }
    return barred;
}

/* When there are as many as there may be. */
static bool wants_exchange(pm_op *op)
{
    if (!op->a->h->mixed.v || !pm__stranded(op->a, false))
        return false;
    const pm_shape_shm *awaited = pm__stranded(op->a, true);
    return pm__dismiss(op) || (awaited && is_stuck(op->a, awaited));
}

int pm_workers_wanted(pm_arena *a, pm_patience how, uint64_t cap, uint64_t *wanted)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    pm_header_shm *h = a->h;
    uint64_t base = (h->total[PM_CPU] + PM_UNITS - 1) / PM_UNITS;
    uint64_t have = h->workers.v - h->aside.v - h->hosts.v;
    *wanted = have < base ? base - have : 0;
    if (*wanted == 0 && have >= cap)
        *wanted = wants_exchange(&op);
    else if (*wanted == 0 && pm__stranded(a, false)) {
        /* something queued fits, if only because it takes no CPU */
        int64_t spare = ((int64_t)(h->total[PM_CPU] - h->cpu_used.v) + PM_UNITS - 1) / PM_UNITS;
        uint64_t cores = spare > 1 ? (uint64_t)spare : 1;
        *wanted = h->ready.v < cores ? h->ready.v : cores;
        if (*wanted > cap - have)
            *wanted = cap - have;
    }
    return pm__leave(&op);
}

int pm_stall(pm_arena *a, pm_patience how, uint64_t *moved)
{
    pm_op op;
    uint64_t bundle;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    const pm_header_shm *h = a->h;
    if (!pm__all_busy(h) || h->cpu_used.v || h->ready.v == 0 || !pm__queue_pick(&op, &bundle))
        rc = PM_ENOTFOUND;
    *moved = h->seq.v - h->ready.v; /* who joins a queue raises both */
    int left = pm__leave(&op);
    return left ? left : rc;
}
