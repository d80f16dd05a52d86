/* window.h - a process's own mapping of one block.
 *
 *   shared    the block's pages, writable: an array that is filled in place, before its seal
 *   private   copy-on-write: a writable view of a sealed object, which nobody else sees
 *
 * What users write to is never the map that the core works with: an overrun reaches no other
 * block. Windows are on whole pages, so blocks that have one are larger than PM_HEAP_SMALL. The
 * object is pinned, or leased, by whoever opens one, for as long as the window is there: pages of
 * a private one that were never written are still the block's. */
#ifndef PM_WINDOW_H
#define PM_WINDOW_H

#include "arena.h"

typedef struct {
    char *at;
    /* of a shared one: addresses for its mapping once it is frozen, nobody knows them */
    char *aside;
    uint64_t len;
    uint64_t span;   /* bytes of address space from each on; what is beyond len faults */
    uint64_t offset; /* in the arena */
} pm_window;

/* Bytes [from, from + len) of the entry's block; from on a page. PM_EINVAL if they are not in a
 * block that begins on a page, PM_ESYS (ENOMEM: too many maps). */
int pm_window_open(pm_arena *a, uint64_t slot, uint64_t from, uint64_t len, bool is_private,
                   pm_window *out);

/* Make a shared window private where it is: pointers into it stay good, and what is written
 * through them from now on reaches nobody [R 5]. There is no way back: whoever calls this has seen
 * to it that the object will be sealed (pm_close_leases). The former mapping stands aside until the
 * window is closed. Moving the page tables of 1 GB costs 30 us if they move as a whole, see
 * window.c; changing every entry of them (mprotect) takes 7 ms. PM_ESYS: it is as it was. */
int pm_window_freeze(pm_arena *a, pm_window *w);

/* Whether forked children inherit a private window, as pm_map_inherit(). */
void pm_window_inherit(const pm_window *w, bool inherit);

/* Unmap it all, in a thread of its own if it is large (15 ms for 1 GB). */
void pm_window_close(const pm_window *w);

#endif
