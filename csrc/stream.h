/* stream.h - what a task yields, before it ends.
 *
 * A task that yields has two results: a gate and `completed`, an ordinary one. Only the process that
 * submitted the task holds the gate. Its state is what a taker waits for:
 *
 *      PENDING ── pm_yield ──► OFFERING ── the last item is taken ──► PENDING
 *         └──────── the task ends ──► SEALED or FAILED
 *
 * so pm_wait() on a gate is waiting for the next item or the end. Items are sealed objects in a list
 * of the gate (pm_stream_shm), each with one reference, which becomes its taker's. What was taken is
 * never made again: a further attempt of the task begins where the former one died.
 *
 * When nobody holds the gate any more the items go at once, and the task when it next yields, unless
 * somebody holds `completed`: then it runs to its end, for its effects. */
#ifndef PM_STREAM_H
#define PM_STREAM_H

#include "wait.h"

typedef struct {
    const void *data; /* at most PM_INLINE bytes, or NULL */
    uint64_t len;
    uint64_t object; /* if data is NULL: slot of a pending object of ours, which holds the value */
    bool failed;
} pm_result;

/* The task that this client runs yields: an object with these bytes, or `object` itself, sealed,
 * whose references stay with the caller. *room: false if it should now pause (pm_await_room()).
 * An item that failed is the last: after it others are PM_EDROPPED, and a second one has no effect.
 * PM_EDROPPED: nobody waits for items or for the end, so the task should end. PM_ETABLE, and as
 * pm_seal(). */
int pm_yield(pm_arena *a, pm_patience how, uint64_t task, const pm_result *item, bool *room);

/* Sleep until the stream of the task that this client runs has room, or nobody takes items:
 * PM_EDROPPED, as above. Call without the GIL. Returns as pm_wait(). */
int pm_await_room(pm_arena *a, uint64_t task, uint64_t deadline);

/* The oldest item of a gate that this process holds, with a reference for this process. PM_ENOTFOUND:
 * there is none now. PM_EEND: nor will there be; *failed, for one caller only, if the task failed:
 * `completed` has the error. PM_ETABLE. No lock while there is nothing. */
int pm_stream_take(pm_arena *a, pm_patience how, uint64_t gate, pm_ref *out, bool *failed);

/* Items that can be taken, and one more for a failure that was not told yet; *ended: PM_EEND would be
 * next, and no failure. */
int pm_stream_look(pm_arena *a, pm_patience how, uint64_t gate, uint64_t *items, bool *ended);

/* A new result of a task is to be its gate. */
void pm__stream_begin(pm_arena *a, uint64_t gate, uint64_t limit);
/* Does anybody wait for items of the task, or for its end. */
bool pm__stream_wanted(const pm_arena *a, uint64_t task);

#endif
