/* cancel.h - ending tasks that nobody wants any more.
 *
 *   WAITING, READY ─► FINISHING    at once: its results say that it was cancelled
 *   BUILDING                       the same, when its submitter has done with it
 *   RUNNING                        its runner is asked (PM_CANCEL_ASKED), and interrupts it; or killed
 *                                  (PM_CANCEL_FORCE), and its sweep ends the task instead of running it again
 *
 * Each task is one decision under the lock. The word in its record is the truth; the signal and the
 * wakes that follow are hints that it should be looked at. Whether a task that was asked ends as
 * cancelled is its own affair: one that finishes first keeps its value. One cancelled by force
 * cannot finish any more, so the kill never hits a process that has gone on to another task.
 *
 * A tree is cancelled from the root down, one generation after the other. What a running task
 * submits between being asked and being told of it is cancelled at birth (begin() in task.c), what
 * it submits after that is meant to run. So a generation is complete when the tasks are looked
 * through once, up to the latest number that there was when its parent was asked. A canceller that
 * dies leaves the tasks that it has not come to as they were. */
#ifndef PM_CANCEL_H
#define PM_CANCEL_H

#include "task.h"

enum { PM_CANCEL_SIGNAL = 47 }; /* SIGRTMIN + 13: programs have no use for it */

/* Cancel the task that produces this entry, held by the caller; with PM_CANCEL_FORCE its process is
 * killed if it runs, with PM_CANCEL_TREE the tasks that it has submitted are cancelled, too. No
 * effect if it has finished, or the entry is no task's. PM_EINVAL: a call by force. PM_ESTOPPED, PM_EGONE,
 * PM_ESYS (no memory).
 * Cost: the lock once; for each generation of a tree once per SCAN records of the task table.
 * Call without the GIL. */
int pm_cancel(pm_arena *a, uint64_t slot, unsigned way);

/* Whether a running task of ours was asked to end and does not know it yet. A hint, without the lock. */
bool pm_cancel_asked(const pm_arena *a, uint64_t task);
/* It is being told now. PM_ENOTFOUND: there is nothing to be told, or another thread does. */
int pm_cancel_tell(pm_arena *a, pm_patience how, uint64_t task);

/* Send the signal to this process's main thread if its innermost task is still to be told: the one
 * that came may have been too early for the system call that the thread is now in. False: it needs
 * no reminder. For the watcher thread, which the signal's handler calls (pm__call_watcher()). */
bool pm__cancel_remind(const pm_arena *a);

#endif
