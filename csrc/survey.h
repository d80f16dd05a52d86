/* survey.h - what is in the arena, for people: object by object, task by task. */
#ifndef PM_SURVEY_H
#define PM_SURVEY_H

#include "task.h"

enum { PM_SURVEY_HOLDERS = 8, PM_SURVEY_DEPS = 4 };

typedef struct {
    uint64_t client, pid, kind, pins;
} pm_holder_info;

typedef struct {
    pm_ref ref;
    enum pm_entry_state state;
    bool is_inline, stripped, kept, boot;
    uint64_t size;  /* payload */
    uint64_t bytes; /* of its block, as the heap counts them; 0 = none */
    uint64_t refs, nrefs;
    bool has_task; /* a task will produce it, of this name */
    char task[PM_TASK_NAME];
    char site[PM_SITE];
    uint64_t nholders; /* clients that hold it; the first of them: */
    pm_holder_info holders[PM_SURVEY_HOLDERS];
} pm_object_info;

/* The live objects from slot *from on, at most *n and as many as one lock hold of a bounded length
 * finds; those in stock are left out. PM_ENOTFOUND: these were the last. PM_EAGAIN. */
int pm_survey(pm_arena *a, pm_patience how, uint64_t *from, pm_object_info *out, uint64_t *n);

/* An argument that a task waits for, and the task that will make it, if there is one. */
typedef struct {
    pm_ref ref;
    uint64_t serial;
    char name[PM_TASK_NAME];
} pm_dependency;

typedef struct {
    uint64_t serial, parent;
    enum pm_task_state state;
    bool blocked; /* running, and asleep in a wait */
    char name[PM_TASK_NAME];
    uint64_t pid;   /* of its runner; 0 = none */
    uint64_t actor; /* serial: its own of an actor, of a call its actor's; else 0 */
    pm_ref mailbox; /* of an actor that is not being killed: `actor` is its own serial */
    uint64_t calls; /* of an actor, not ended */
    uint64_t attempt, retries;
    uint64_t nargs, nrets;
    uint64_t submitted, started; /* pm__os_now() */
    uint64_t waiting;            /* arguments that are not there; the first of them: */
    pm_dependency deps[PM_SURVEY_DEPS];
} pm_task_info;

/* The tasks that have not ended, likewise. Their order is that of the table. */
int pm_survey_tasks(pm_arena *a, pm_patience how, uint64_t *from, pm_task_info *out, uint64_t *n);

#endif
