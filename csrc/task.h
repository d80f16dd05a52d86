/* task.h - submit, take, finish; blocking and resuming.
 *
 *   submit ─► BUILDING ─► WAITING (arguments) ─► READY ─► RUNNING ─► FINISHING ─► free
 *                  └► ABANDONED (submitter died)            └► READY again (worker died, retries left)
 *
 * Workers pull: nothing is handed to anybody, so nothing must be taken back. Finish is one
 * decision: results are attached unseen first, then one transaction ends the task, and from
 * there everything rolls forward (settle.h). */
#ifndef PM_TASK_H
#define PM_TASK_H

#include "events.h"
#include "stream.h"

#define PM_RETRY_ALWAYS UINT64_MAX

typedef struct {
    uint64_t slot; /* held by the caller */
    bool waits;    /* the task starts when it is sealed; else the task only keeps it */
} pm_task_argument;

typedef struct {
    uint64_t function;   /* slot of the function's object, held by the caller */
    const char *name;    /* for messages; cut to PM_TASK_NAME - 1 bytes */
    const void *payload; /* packed arguments, at most PM_TASK_INLINE bytes */
    uint64_t size;
    int64_t packed; /* slot of an object with the packed arguments instead, or -1 */
    const pm_task_argument *args;
    uint64_t nargs;
    uint64_t nrets;
    bool yields;         /* then nrets is 2: a gate, and `completed` (stream.h) */
    uint64_t limit;      /* it pauses while so many items have not been taken; 0 = never */
    uint64_t cpu;        /* units of 1/10000 */
    const pm_need *more; /* needs beside CPU, no kind twice */
    uint64_t nmore;
    uint64_t group;   /* serial of a placement group, 0 = none */
    int64_t bundle;   /* index of one of its bundles, -1 = any */
    uint64_t retries; /* after deaths of its worker; PM_RETRY_ALWAYS */
    bool quiet;       /* it leaves no event */
    uint64_t env;     /* slot + 1 of the object that tells of its environment, held; 0 = none */
    bool alone;       /* on a stack of its own, as its worker is to end after it */
    /* It is an actor (mailbox.h): then nrets is 2, a mailbox and an obituary, and alone is true. */
    bool hosted;
    bool unordered;      /* its calls run as their arguments come */
    uint64_t most_calls; /* so many may be pending; 0 = any number */
    uint64_t parent;     /* serial of the task of ours that submits it; 0 = the innermost */
} pm_task_spec;

/* A submission in progress: zero it, then call pm_submit() until it returns something else than
 * PM_EAGAIN. */
typedef struct {
    uint64_t task; /* 0 before the first step and after the last */
    uint64_t made; /* results that exist: on failure the caller drops these */
} pm_submission;

/* out[nrets]: the results, each held by this process. One transaction for few arguments and
 * results, bounded steps for many. A function that is a mailbox makes it a call: it needs nothing, and
 * fails if the actor is dead. PM_ETABLE, PM_EFULL, PM_EAGAIN, PM_EINVAL (no such kind or bundle),
 * PM_EREMOVED: there is no such group any more. PM_ECROWDED: a call, and too many are pending. */
int pm_submit(pm_arena *a, pm_patience how, const pm_task_spec *spec, pm_submission *s,
              pm_ref *out);

/* A task this client runs. Everything it points to is constant until pm_finish(). */
typedef struct {
    uint64_t task;
    uint64_t serial, parent; /* the session's number of it, and of the task that submitted it */
    uint64_t function;       /* slot; the task holds it */
    uint64_t function_generation;
    const char *name;
    const void *payload;
    uint64_t size;
    int64_t packed;
    uint64_t nargs, nrets; /* results without a gate */
    bool yields, wanted;   /* wanted: if it yields, somebody waits for items or for its end */
    bool hosted;           /* an actor: from now on this client takes its calls, and nothing else */
    bool call;             /* of the actor that this client hosts */
    uint64_t made;         /* items that earlier attempts have yielded */
    uint64_t attempt;
    uint64_t retries;
    uint64_t group;   /* serial of the placement group that it is in, 0 = none */
    uint64_t devices; /* mask of its GPUs */
    uint64_t env;     /* slot + 1 of the object that tells of its environment; the task keeps it */
} pm_running;

/* Take the oldest task that fits into what is free, of the environment that this client is bound to;
 * the first one binds it. PM_ENOTFOUND: none. */
int pm_take(pm_arena *a, pm_patience how, pm_running *out);
/* The same; from PM_ENOTFOUND on this client's bell rings when it should look again. PM_ETIMEOUT of a
 * worker that was dismissed, PM_EAGAIN, PM_EGONE. Of a host PM_EDROPPED: nobody can call its actor any
 * more, and all calls that came have ended. */
int pm_try_next(pm_arena *a, pm_running *out);
/* The same, waiting for one; without the GIL. PM_ETIMEOUT after `deadline`, too; PM_EINTR. */
int pm_next(pm_arena *a, uint64_t deadline, pm_running *out);
/* Take a queued task that produces one of these pending entries, whatever CPU is free: its
 * waiter has stopped using its own. What else it needs must be free, and its environment this
 * client's. PM_ENOTFOUND: none of slots[*from..n) is queued so. *from: where to go on. streams: also
 * one that yields, whose items nobody takes while it runs on top of their taker. */
int pm_take_awaited(pm_arena *a, pm_patience how, const uint64_t *slots, uint64_t n, bool streams,
                    uint64_t *from, pm_running *out);
/* Put queued tasks that produce these entries before all others. A bounded number a call; *from
 * as above. */
int pm_hurry(pm_arena *a, pm_patience how, const uint64_t *slots, uint64_t n, uint64_t *from);

/* What a task that this client runs needs of this kind. Constant meanwhile. */
uint64_t pm_task_need(const pm_arena *a, uint64_t task, uint64_t kind);

pm_task_argument pm_argument(const pm_arena *a, uint64_t task, uint64_t i);
pm_ref pm_argument_ref(const pm_arena *a, uint64_t task, uint64_t i);
pm_ref pm_result_ref(const pm_arena *a, uint64_t task, uint64_t i);
/* Of an actor that this client hosts. */
pm_ref pm_mailbox_ref(const pm_arena *a, uint64_t task);

/* Attach results [*from, *from + n) while PM_EAGAIN and cursor say so, end the task, and with
 * `next` take another in the same lock hold (PM_ENOTFOUND in next->task = 0: none). The objects'
 * own references stay with the caller, who drops them. A stream ends as results[0] does, failed or
 * not. PM_ECYCLE (a result contains a reference to itself), PM_ESTATE (an object is not pending),
 * PM_EINVAL: nothing was done. PM_ECANCELLED: by force, or its placement group is removed: this
 * process must end. */
int pm_finish(pm_arena *a, pm_patience how, uint64_t task, const pm_result *results,
              pm_running *next);

/* Say of the task that this process finishes or retries next when its function began and returned, and
 * what it raised: for the event. */
void pm_account_for(pm_arena *a, uint64_t began, uint64_t returned, const char *error);

/* Put the task back into the queue, last, with one retry less: its function asked for it. One that
 * was cancelled ends instead. PM_ESTATE: none is left. PM_ECANCELLED: as above. */
int pm_retry(pm_arena *a, pm_patience how, uint64_t task);

/* A worker's innermost task stops using its CPU, and takes it back, in debt if need be. The rest of
 * what it has it keeps. */
int pm_block(pm_arena *a, pm_patience how, uint64_t task);
int pm_resume(pm_arena *a, pm_patience how, uint64_t task);

/* This client has been stopped (SIGSTOP): if it runs nothing, do without it until it looks for a
 * task again. */
int pm_set_aside(pm_arena *a, pm_patience how, uint64_t slot, uint64_t epoch);

/* The worker that this is takes no task any more, and ends. PM_ESTATE: it runs one. */
int pm_dismiss_myself(pm_arena *a, pm_patience how);

/* How many more workers would help now, given at most `cap` of them. At the cap, when none suits a task
 * that could run, one that is idle is dismissed for another in its place. A task that another one waits
 * for may need one beyond the cap: none of those that suit would ever come if all wait like that. */
int pm_workers_wanted(pm_arena *a, pm_patience how, uint64_t cap, uint64_t *wanted);

/* Whether anybody but this task of ours has a result of it, or will be able to take one. A hint,
 * without the lock: who holds it may be about to die. */
bool pm_is_awaited(const pm_arena *a, uint64_t task);

/* PM_OK if no task goes on though a queued one fits: all workers are at tasks, and none of these has
 * CPU. *moved: grows with each task that leaves a queue. PM_ENOTFOUND: it is not so. */
int pm_stall(pm_arena *a, pm_patience how, uint64_t *moved);

/* For cancel.c and recover.c. */
int pm__attach_failure(pm_arena *a, uint64_t task, const void *data, uint64_t len);
int pm__detach(pm_arena *a, uint64_t task);
/* Put it back into the queue, with one retry less; if it was cancelled it ends. Nothing is attached. */
void pm__task_rerun(pm_op *op, uint64_t task, uint64_t now);

#endif
