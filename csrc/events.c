/* events.c - see events.h. */
#include "events.h"

#include "mailbox.h"

#include <string.h>

enum { WORDS = sizeof(pm_event) / sizeof(uint64_t), PAGE = 4096 };

_Static_assert(sizeof(pm_event) == sizeof(((pm_event_shm *)0)->words), "word by word");

static pm_event_shm *place(const pm_arena *a, uint64_t number)
{
    return &a->events[number % PM_EVENTS];
}

/* Have the pages of the events to come mapped, so that nobody faults under the lock. */
static void look_ahead(pm_op *op, const char *at)
{
    const char *ahead = at + 2 * PAGE;
    if (ahead >= (const char *)&op->a->events[PM_EVENTS])
        ahead -= PM_EVENTS * sizeof(pm_event_shm);
    if ((uintptr_t)at % PAGE < sizeof(pm_event_shm))
        op->touch = ahead;
}

/* order: number = 0 -> words -> number; a reader sees the same number before and after the words
 * only if nobody was here in between. A writer that dies leaves 0, and the next takes its place. */
static void record(pm_op *op, const pm_event *e)
{
    uint64_t number = pm_a64_load(&op->a->h->recorded) + 1, raw[WORDS];
    pm_event_shm *at = place(op->a, number);
    memcpy(raw, e, sizeof raw);
    pm_a64_store(&at->number, 0);
    atomic_thread_fence(memory_order_release);
    for (int i = 0; i < WORDS; i++)
        atomic_store_explicit(&at->words[i].v, raw[i], memory_order_relaxed);
    pm_a64_store(&at->number, number);
    pm_a64_store(&op->a->h->recorded, number);
    look_ahead(op, (const char *)at);
}

void pm__event_of_task(pm_op *op, uint64_t task, enum pm_outcome outcome, uint64_t now)
{
    pm_arena *a = op->a;
    const pm_task_shm *t = pm__task(a, task - 1);
    const pm_account *own = &a->account;
    bool ours = t->runner.v == a->slot + 1;
    if (t->submitted.v == 0)
        return;
    uint64_t mailbox = pm__task_mailbox(a, task);
    if (!mailbox)
        mailbox = pm__called(a, t);
    pm_event e = {
        .serial = t->serial.v,
        .parent = t->parent.v,
        .attempt = t->attempt.v,
        .outcome = outcome,
        .pid = t->runner.v ? a->clients[t->runner.v - 1].pid.v : 0,
        .submitted = t->submitted.v,
        .started = t->state.v == PM_TASK_WAITING ? 0 : t->started.v, /* a link then */
        .began = ours ? own->began : 0,
        .returned = ours ? own->returned : 0,
        .ended = now,
        .actor = mailbox ? pm__entry(a, mailbox - 1)->producer.v : 0,
    };
    memcpy(e.name, t->name, sizeof e.name);
    if (ours)
        memcpy(e.error, own->error, sizeof e.error);
    record(op, &e);
}

static bool copy(const pm_arena *a, uint64_t number, pm_event *out)
{
    const pm_event_shm *at = place(a, number);
    uint64_t raw[WORDS];
    if (pm_a64_load(&at->number) != number)
        return false;
    for (int i = 0; i < WORDS; i++)
        raw[i] = atomic_load_explicit(&at->words[i].v, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    memcpy(out, raw, sizeof *out);
    return atomic_load_explicit(&at->number.v, memory_order_relaxed) == number;
}

int pm_events(const pm_arena *a, uint64_t *from, pm_event *out, uint64_t *n)
{
    uint64_t last = pm_a64_load(&a->h->recorded), most = *n;
    if (last >= PM_EVENTS && *from <= last - PM_EVENTS)
        *from = last - PM_EVENTS + 1;
    if (*from == 0)
        *from = 1;
    for (*n = 0; *from <= last && *n < most; ++*from)
        *n += copy(a, *from, &out[*n]);
    return *from > last ? PM_ENOTFOUND : PM_OK;
}
