/* trim.h - what nobody uses goes back to the machine: memory of the store, and of the spill file.
 *
 * Not as objects go: to have a page again costs ten times what using a warm one does. Whoever gives back
 * a large block, or drops what has a copy, notes that (`loose`) and rings the keeper, which trims when no
 * block has been made for a while. */
#ifndef PM_TRIM_H
#define PM_TRIM_H

#include "spill.h"

/* Give back free memory, all but about `keep` bytes of it, and all of the file that no copy has; *given:
 * bytes of memory. What is free becomes objects of ours while its pages go, so nobody gets it, and a death
 * leaves it to the sweep. So the store is full for others meanwhile, some 50 ms for each GB: who needs room
 * waits for that, up to a second, before anything is spilled, and we end as soon as we see it. */
int pm_trim(pm_arena *a, uint64_t keep, uint64_t *given);

#endif
