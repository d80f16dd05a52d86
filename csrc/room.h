/* room.h - a full store: whoever makes an object has others go to the disk (spill.h), and where none
 * can, waits until some have gone or may.
 *
 * They stand in line. Were it not so, a task that runs later could take each block that goes back
 * while an earlier one, whose result somebody waits for, gets none for ever. What is smaller than
 * PM_IN_LINE goes past the line if it finds room. */
#ifndef PM_ROOM_H
#define PM_ROOM_H

#include "object.h"

/* pm_create() when there is room, at the latest at `deadline` (CLOCK_MONOTONIC, ns): PM_ETIMEOUT, if
 * there has been none; PM_EFULL: there never will be. Else as pm_create() and pm_wait(). *ticket: 0 at
 * first; then the place in the line, which is kept from call to call after PM_EAGAIN. */
int pm_create_in_time(pm_arena *a, uint64_t size, const pm_ref *refs, uint64_t nrefs,
                      uint64_t deadline, uint64_t *ticket, pm_ref *out);

#endif
