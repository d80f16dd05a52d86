/* group.h - placement groups: bundles of resources, reserved together for the tasks that name them.
 *
 *   create ─► PENDING ─► READY (its bundles are its own) ─► REMOVED ─► free, when no task names it
 *
 * Nobody has to run for it: whoever gives resources back reserves what fits then, oldest first
 * (regroup in settle.c), and no task overtakes a group that could be reserved. Removal is one
 * decision; bundles, queued tasks and at last the record go in steps by whoever leaves the lock
 * next. What runs in a removed group the keeper ends, see pm_group_runners(). It cannot finish any
 * more, so the kill never hits a process that has gone on to another task. */
#ifndef PM_GROUP_H
#define PM_GROUP_H

#include "task.h"

typedef struct {
    const uint64_t (*bundles)[PM_KINDS]; /* what each is to have */
    uint64_t count;                      /* from 1 to PM_BUNDLES - 1 */
    const char *name;                    /* at most PM_GROUP_NAME - 1 bytes, "" = none */
    uint64_t how;                        /* for readers */
    bool never;                          /* it cannot be on one machine: it stays pending */
    bool mine;                           /* it goes when this client does */
} pm_group_spec;

/* PM_EINVAL: more than PM_DEVICES bundles with GPUs, or one with neither whole GPUs nor a part of
 * one. PM_EEXISTS: the name is taken. PM_ETABLE: too many groups or bundles. PM_EAGAIN. */
int pm_group_create(pm_arena *a, pm_patience how, const pm_group_spec *spec, uint64_t *serial);

/* No harm if it is gone already. PM_EAGAIN. */
int pm_group_remove(pm_arena *a, pm_patience how, uint64_t serial);

typedef struct {
    uint64_t serial;
    uint64_t state; /* enum pm_group_state */
    uint64_t how;
    uint64_t count;
    bool stays; /* until it is removed */
    char name[PM_GROUP_NAME];
} pm_group_info;

/* out[PM_GROUPS]: all there are; PM_EAGAIN. */
int pm_groups(pm_arena *a, pm_patience how, pm_group_info *out, uint64_t *n);
/* out[PM_BUNDLES]: what each of its bundles was to have. PM_EREMOVED, PM_EAGAIN. */
int pm_group_bundles(pm_arena *a, pm_patience how, uint64_t serial, uint64_t (*out)[PM_KINDS],
                     uint64_t *n);
/* out[PM_CLIENTS]: slots of the clients that run tasks of removed groups. PM_EAGAIN. */
int pm_group_runners(pm_arena *a, pm_patience how, uint64_t *out, uint64_t *n);

/* Remove the groups that go with a client. Waits for the lock. */
int pm__groups_leave(pm_arena *a, uint64_t slot, uint64_t epoch);

#endif
