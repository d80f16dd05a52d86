/* survey.h - what is in the directory, object by object, for those who look for memory. */
#ifndef PM_SURVEY_H
#define PM_SURVEY_H

#include "object.h"

enum { PM_SURVEY_HOLDERS = 8 };

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
    char site[PM_INLINE];
    uint64_t nholders; /* clients that hold it; the first of them: */
    pm_holder_info holders[PM_SURVEY_HOLDERS];
} pm_object_info;

/* The live objects from slot *from on, at most *n and as many as one lock hold of a bounded length
 * finds; those in stock are left out. PM_ENOTFOUND: these were the last. PM_EAGAIN. */
int pm_survey(pm_arena *a, pm_patience how, uint64_t *from, pm_object_info *out, uint64_t *n);

#endif
