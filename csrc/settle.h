/* settle.h - letting go: the operations over a user's n, rolled forward in bounded steps.
 *
 * Six lists in the header are the intent records of the core. What is on one was decided by a
 * committed transaction; the rest is a series of idempotent steps with a cursor in the record,
 * done by whoever leaves the lock next, so a death leaves the remainder to the others [R 10,
 * 11]:
 *
 *   dying      entries without references: their contained references, then their bytes, then the entry
 *   settling   sealed entries: tell one waiting task after the other that its argument is there
 *   finishing  tasks that have ended: their arguments, results, function and tables
 *   (litter    copies on disk without an object: spill.h gives them back, outside of the lock)
 *   removing   placement groups: their bundles go back to the machine, their queued tasks fail
 *   following  calls whose predecessor is ready (mailbox.h): they wait for one thing less
 *   closing    mailboxes of dead actors: their queued calls fail
 *
 * Order inside a transaction: take records before you let go of any; a record given back keeps
 * its published state until the commit, so it must not be taken again before. */
#ifndef PM_SETTLE_H
#define PM_SETTLE_H

#include "lineage.h"
#include "mailbox.h"

enum {
    /* the dearest step: a dying entry gives back block, key and record */
    PM_STEP_WRITES = PM_HEAP_FREE_WRITES + PM_DIRECTORY_WRITES + PM_POOL_WRITES + 20,
    PM_STEPS = 16, /* of one lock hold */
    PM_REACH = 64, /* tasks followed along dependencies in one lock hold */
    PM_RESULT_WRITES = 4,
};
_Static_assert(3 * (int)PM_STEP_WRITES <= (int)PM_UNDO_MAX, "steps fit a transaction");

/* The value of a result that a task which was cancelled did not come to: first byte
 * PM_TAG_CANCELLED, then its serial (8 bytes), 1 if it had been started, and its name. */
enum { PM_TAG_CANCELLED = 0x0d, PM_CANCELLED_BYTES = 10 };

/* The value of a result of a call whose actor is dead: first byte PM_TAG_BEREAVED, then its name; it
 * contains a reference to the obituary. */
enum { PM_TAG_BEREAVED = 0x0c, PM_BEREAVED_BYTES = 1 };

/* Whether this task is to be told that it was cancelled. */
static inline bool pm__is_to_be_told(uint64_t cancel)
{
    return (cancel & (PM_CANCEL_ASKED | PM_CANCEL_TOLD)) == PM_CANCEL_ASKED;
}
/* The same for its runner, without the lock: a word that is about to be rolled back, its canceller
 * dead, costs a look under the lock. */
static inline bool pm__cancel_asked(const pm_arena *a, uint64_t task)
{
    return pm__is_to_be_told(*(const volatile uint64_t *)&pm__task(a, task - 1)->cancel.v);
}

/* The table of contained references follows the payload, at this offset. */
static inline uint64_t pm__refs_offset(uint64_t size)
{
    return (size + 7) & ~UINT64_C(7);
}
pm_ref *pm__contained(const pm_arena *a, const pm_entry_shm *e);
/* Whether its bytes are on disk alone: then its block is the table of what it contains. */
static inline bool pm__is_away(const pm_entry_shm *e)
{
    return e->strip.v == PM_SPILT || e->strip.v == PM_LEAVING || e->strip.v == PM_ITEM_SPILT;
}
/* Whether `block` is one of its own. */
static inline bool pm__has_block(const pm_entry_shm *e)
{
    return e->block.v && e->strip.v != PM_STRIPPED && !(pm__is_away(e) && !e->nrefs.v);
}

/* The block goes back to the heap; those who stand in line for room look again. */
void pm__give_block(pm_op *op, uint64_t block);

/* An object may go to the disk from now on: those who stand in line for room look again. */
void pm__may_go_now(pm_op *op);

/* One reference to the entry (slot + 1) less. */
void pm__entry_unref(pm_op *op, uint64_t entry);

/* Whether a process looks at the entry's bytes, or writes them. Under the lock. */
bool pm__is_pinned(const pm_arena *a, const pm_entry_shm *e);

/* Have an entry in state FREED give up what it contains and its bytes, unless somebody looks at
 * them. Whoever may have been the last to do so calls it again. */
void pm__entry_strip(pm_op *op, uint64_t entry);

/* A pin of the entry is gone: see pm__entry_strip(), and tell who waits to seal it, or to have it
 * back. */
void pm__entry_unpinned(pm_op *op, uint64_t entry);

/* Have every thread that counts the entry look again. */
void pm__entry_notify(pm_op *op, uint64_t entry);

/* The entry has just been published as sealed or failed: count it for those who wait, tell
 * dependants. */
void pm__entry_settled(pm_op *op, uint64_t entry);

/* The stream of a gate. */
static inline pm_stream_shm *pm__stream(const pm_arena *a, uint64_t gate)
{
    return (pm_stream_shm *)pm__entry(a, gate - 1)->bytes;
}
/* Is it a gate: open, or closed because nobody holds it. */
static inline bool pm__is_gate(const pm_arena *a, uint64_t entry)
{
    uint64_t strip = pm__entry(a, entry - 1)->strip.v;
    return strip == PM_GATE || strip == PM_SHUTTING || strip == PM_SHUT;
}
/* Gate of a task that has all its results; 0 if it has none. */
uint64_t pm__task_gate(const pm_arena *a, uint64_t task);
/* Is it a result that never has bytes of its own, a gate or a mailbox. */
static inline bool pm__is_bare(const pm_arena *a, uint64_t entry)
{
    return pm__is_gate(a, entry) || pm__is_mailbox(a, entry);
}
/* The oldest item leaves the stream; the stream's reference is the caller's now. */
uint64_t pm__stream_pop(pm_op *op, uint64_t gate);
/* There may be room, or no taker: have the task go on if it pauses. */
void pm__stream_resume(pm_op *op, uint64_t gate);

/* End client's hold record and its reference. */
void pm__hold_end(pm_op *op, uint64_t hold);

/* One local reference less; see object.h. */
void pm_drop(pm_arena *a, uint64_t slot);
/* n local references less, one of which may have been a pin. */
void pm__drop_locked(pm_op *op, uint64_t entry, uint32_t n);

/* Lists of tasks through next and prev, hung from a client. */
void pm__list_push(pm_op *op, pm_j64 *head, uint64_t task);
void pm__list_remove(pm_op *op, pm_j64 *head, uint64_t task);

/* If the task is an actor: nobody finds it by its name any more. */
void pm__actor_unname(pm_op *op, uint64_t task);

/* One argument less to wait for: queue the task, or let an abandoned one go. */
void pm__task_waited(pm_op *op, uint64_t task);
void pm__task_ready(pm_op *op, uint64_t task, bool first);
/* A queued task on which the entry's value depends, directly or through tasks that wait for
 * arguments; 0 if none of the first PM_REACH tasks looked at is queued. streams: or one that
 * yields. */
uint64_t pm__queued_producer(const pm_arena *a, uint64_t entry, bool streams);
/* One for which everything but CPU is free. */
uint64_t pm__runnable_producer(const pm_arena *a, uint64_t entry, bool streams);
/* All workers are busy, and queued tasks may be awaited inside of running ones: have every
 * thread that sleeps inside a task look whether it can run one. */
void pm__offer_all(pm_op *op);
/* The same for the threads of one client. */
void pm__offer_client(pm_op *op, uint64_t client);
/* The task has ended and is on no list: let go of what it holds. Results that have no bytes say that
 * it was cancelled. It may still wait for arguments. */
void pm__task_end(pm_op *op, uint64_t task);

/* Give the next result of a task these bytes, at most PM_INLINE, unseen. PM_RESULT_WRITES. */
void pm__attach_bytes(pm_op *op, uint64_t task, const void *data, uint64_t len, bool failed);

/* End an operation: deferred drops and steps while the transaction has room, then pm__leave(),
 * then what is left, until nothing is or somebody else is inside. */
int pm__done(pm_op *op);

/* Work the lists down to nothing. PM_EAGAIN if the lock is busy: others, or our watcher thread, will
 * see to the rest. */
int pm__settle(pm_arena *a, pm_patience how);

#endif
