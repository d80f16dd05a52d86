/* mailbox.h - actors: where their calls queue, and who runs them.
 *
 * An actor is a task that runs as long as the actor lives, on a worker that does nothing else from then
 * on, its host. So what holds for tasks holds for actors: what they need they hold until they end, a
 * death of their process has them run again (restarted), with the arguments that the task keeps, and
 * a cancel by force kills them.
 *
 * The task has two results, a mailbox and an obituary. References to the mailbox are what handles are
 * made of. A call is a task whose function is the mailbox; when it is ready it goes to the mailbox's
 * queue in place of its shape's, and the host takes it from there. When nobody has a reference but the
 * actor itself, no call can come any more, and it is to end (pm_next() says PM_EDROPPED).
 *
 * Order: calls of one caller (a process) become ready in the order in which it launched them. One that
 * must wait, for arguments or for those before it, is its caller's latest in the mailbox's list of
 * tails; the next one hangs from it, and counts it as one more thing to wait for. Calls pay nothing
 * for this while none waits.
 *
 * A call of a dead actor fails with a reference to the obituary: those that are queued when it dies,
 * and those that come later, alike (`closing` in settle.h). */
#ifndef PM_MAILBOX_H
#define PM_MAILBOX_H

#include "queue.h"

static inline bool pm__is_mailbox(const pm_arena *a, uint64_t entry)
{
    return pm__entry(a, entry - 1)->strip.v == PM_MAILBOX;
}
static inline pm_mailbox_shm *pm__mailbox(const pm_arena *a, uint64_t entry)
{
    return (pm_mailbox_shm *)pm__entry(a, entry - 1)->bytes;
}

/* The mailbox of the actor that this task is; 0 if it is none. */
static inline uint64_t pm__task_mailbox(const pm_arena *a, uint64_t task)
{
    uint64_t first = pm__task_first(a, task);
    return first && pm__is_mailbox(a, first) ? first : 0;
}
/* The mailbox that this task is a call to; 0 if it is none. */
static inline uint64_t pm__called(const pm_arena *a, const pm_task_shm *t)
{
    return t->function.v && pm__is_mailbox(a, t->function.v) ? t->function.v : 0;
}

/* A new entry, a task's first result, is to be its mailbox. */
void pm__mailbox_begin(pm_arena *a, uint64_t entry, uint64_t limit, bool unordered);

/* A call that was built and waits: for as many arguments as it counts beside the building, and from
 * here on for its caller's calls before it, if need be. */
void pm__mailbox_join(pm_op *op, uint64_t task);
/* It waits for nothing any more: the next of its caller is on the list `following`, if there is one. */
void pm__mailbox_pass(pm_op *op, uint64_t task);
/* It was cancelled while it waited: those after it wait for those before it. */
void pm__mailbox_leave(pm_op *op, uint64_t task);

/* A ready call joins the queue, and the host is rung. */
void pm__mailbox_push(pm_op *op, uint64_t task, bool first);
void pm__mailbox_remove(pm_op *op, uint64_t task);
/* A queued task leaves its queue, a mailbox or its shape's. */
void pm__unqueue(pm_op *op, uint64_t task);

/* The mailbox that this client serves now, 0 if it is no host or its actor has ended. */
uint64_t pm__served(const pm_arena *a);
/* Whether nobody can call its actor any more. */
bool pm__is_unwanted(const pm_arena *a, uint64_t mailbox);
/* References have gone: have the host look. */
void pm__mailbox_look(pm_op *op, uint64_t mailbox);

#endif
