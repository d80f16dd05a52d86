/* trim.h - memory of the store that nobody uses goes back to the machine.
 *
 * Not as objects go: to have a page again costs ten times what using a warm one does. Whoever gives back
 * a large block notes that (`loose`) and rings the keeper, which trims when no block has been made for a
 * while. */
#ifndef PM_TRIM_H
#define PM_TRIM_H

#include "object.h"

/* Give back free memory, all but about `keep` bytes of it; *given: how many. The free runs become objects
 * of ours while their pages go, so nobody gets one, and a death leaves them to the sweep. So the store
 * is full for others meanwhile, some 50 ms for each GB; it ends when somebody makes a block. */
int pm_trim(pm_arena *a, uint64_t keep, uint64_t *given);

#endif
