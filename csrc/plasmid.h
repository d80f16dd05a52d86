/* plasmid.h - the core's public face, and the only header Cython includes.
 *
 *   arena     pm_open_new, pm_open_fd, pm_close     object.h  put, create, seal, hold, pin, look
 *   wait.h    pm_wait                               task.h    submit, next, finish, block
 *   cancel.h  pm_cancel                             recover.h pm_sweep
 *   check.h   pm_check, pm_dump                     events.h  what became of tasks
 *   window.h  mappings of one object, for writing   survey.h  objects and tasks, one by one
 *   stream.h  what a task yields                    group.h   placement groups
 *   guard.h   the thread that keeps the keeper alive
 *   actor.h   actors                                relay.h   their bell, for event loops
 *   disk.h    the spill file                        spill.h   objects on disk for want of memory
 *   recipe.h  how to make a lost object again       load.h    who runs what
 *   prefetch.h what queued tasks take comes back     trim.h    free memory goes back to the machine
 *
 * Every function returns PM_OK or a negative PM_E* (err.h); PM_ESYS means: read errno. */
#ifndef PLASMID_H
#define PLASMID_H

#include "actor.h"
#include "cancel.h"
#include "check.h"
#include "disk.h"
#include "group.h"
#include "guard.h"
#include "load.h"
#include "os.h"
#include "prefetch.h"
#include "recipe.h"
#include "recover.h"
#include "relay.h"
#include "room.h"
#include "spill.h"
#include "survey.h"
#include "trim.h"
#include "warm.h"
#include "window.h"

/* A fresh session's arena, with this process as its driver. disk_bytes: that may be spilled, to the file
 * of pm_disk_use(). totals: what tasks may use, CPU first,
 * GPU, memory, then others by name. PM_EINVAL: more than PM_KINDS of them or PM_DEVICES GPUs. */
int pm_open_new(uint64_t heap_bytes, uint64_t disk_bytes, const pm_total *totals, uint64_t n,
                pm_arena **out);
/* Join the arena behind fd (which stays the caller's); driver_pidfd too. bell: eventfd of the
 * keeper, or -1. */
int pm_open_fd(int fd, enum pm_kind kind, int driver_pidfd, int bell, pm_arena **out);
/* The keeper's eventfd, once, before the session is told to anyone. The arena keeps a copy of
 * its own. */
int pm_set_bell(pm_arena *a, int fd);
/* The session is over: nobody may attach any more, sleepers are woken with PM_EGONE, and a guest's
 * operations return that from now on. */
int pm_end(pm_arena *a);
/* Leave: to all others this client is dead, and if `sweep` it cleans up after itself. Views stay
 * valid until pm_close(). */
int pm_leave(pm_arena *a, bool sweep);
/* A guest leaves a session that goes on: it holds nothing any more but what it has pinned, and every
 * operation but pm_unpin() is PM_ELEFT. Nobody of this process may be in pm_unpin() or pm_drop()
 * meanwhile, nor call pm_drop() afterwards. */
int pm_retire(pm_arena *a);
void pm_close(pm_arena *a);

/* True once pm_end() was called. */
bool pm_is_ending(const pm_arena *a);

/* Whether there are more workers than the session's CPUs ask for, none of them needed now, or this one
 * was dismissed. A hint. */
bool pm_has_surplus(const pm_arena *a);

/* Whether all workers are at tasks and yet there is CPU left, so that a queued task may lack only a
 * process. A hint. */
bool pm_is_short_of_workers(const pm_arena *a);

/* Whether there has been a task that not every worker may run, or not on any stack. A hint. */
bool pm_is_mixed(const pm_arena *a);

/* True in a forked child of the process that opened the arena: it has neither maps nor a slot,
 * and may only pm_forget(). */
bool pm_is_inherited(const pm_arena *a);
void pm_forget(pm_arena *a);

/* Say why no worker can be started, or "" that they can again. Meanwhile waits for results end
 * with PM_EFAILED. */
void pm_fail(pm_arena *a, const char *why);
const char *pm_failure(const pm_arena *a);

/* When the keeper should look at kept objects: at `ns` (pm__os_now()) or earlier; rings its bell. */
void pm_expire_by(pm_arena *a, uint64_t ns);

/* The session's configuration: an object that the arena itself keeps. PM_ENOTFOUND before it is
 * set. */
int pm_set_boot(pm_arena *a, pm_patience how, uint64_t slot);
int pm_boot(pm_arena *a, pm_patience how, pm_ref *out);

const char *pm_strerror(int rc);
const char *pm_err_class(int rc);

#endif
