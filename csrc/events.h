/* events.h - what became of tasks: a ring of the latest PM_EVENTS attempts.
 *
 * Written under the lock by whoever ends an attempt, but not journaled: events are for people. One
 * that was written in a transaction whose process died before the commit tells of an end that was
 * then told again, by another event. Read without the lock. */
#ifndef PM_EVENTS_H
#define PM_EVENTS_H

#include "client.h"

enum pm_outcome {
    PM_FINISHED = 1,
    PM_RAISED,    /* its function did, or its arguments could not be had */
    PM_CRASHED,   /* its worker died, and no attempt was left */
    PM_CANCELLED, /* somebody asked for it */
    PM_RETRIED,   /* one of the two first, and another attempt follows */
};

enum { PM_EVENT_ERROR = 56 };

/* Times are of pm__os_now(), 0 = never or not known. */
typedef struct {
    uint64_t serial, parent, attempt, outcome;
    uint64_t pid;                /* of its worker; 0 = it never ran */
    uint64_t submitted, started; /* started: taken by a worker */
    uint64_t began, returned;    /* its function, after the arguments and before the results */
    uint64_t ended;
    uint64_t actor; /* serial: its own of an actor, of a call its actor's; else 0 */
    char name[PM_TASK_NAME];
    char error[PM_EVENT_ERROR]; /* what it raised, cut */
} pm_event;

/* Under the lock: an attempt of the task ends, by its runner, who has given account of it (pm_account),
 * or by others. */
void pm__event_of_task(pm_op *op, uint64_t task, enum pm_outcome outcome, uint64_t now);

/* Events from number *from on, which are still there: up to *n of them. *from: the first not looked
 * at. PM_ENOTFOUND: these were the latest. No lock. */
int pm_events(const pm_arena *a, uint64_t *from, pm_event *out, uint64_t *n);

#endif
