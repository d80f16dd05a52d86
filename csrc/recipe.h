/* recipe.h - how to make a lost object again, from its lineage. */
#ifndef PM_RECIPE_H
#define PM_RECIPE_H

#include "object.h"

/* What its task was submitted with. The references are this process's. */
typedef struct {
    uint64_t index, nrets; /* which of its results */
    char name[PM_TASK_NAME];
    pm_ref function;
    bool packed; /* the arguments are the object `arguments`, else here: */
    pm_ref arguments;
    uint64_t size;
    unsigned char payload[PM_TASK_INLINE];
    uint64_t nargs;
    pm_ref args[PM_TASK_ARGS];
    bool waits[PM_TASK_ARGS];
    uint64_t cpu, retries;
} pm_recipe;

/* PM_ENOTFOUND: it cannot be made again: it was put, or what it was made from is gone. Needs a
 * reference. */
int pm_recipe_of(pm_arena *a, pm_patience how, uint64_t slot, pm_recipe *out);

#endif
