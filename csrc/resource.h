/* resource.h - what tasks need, what they hold, and what is left of it.
 *
 * A task draws on one bundle: the machine, or one that a placement group has reserved. Its shape
 * says what it needs, and its record what it has at this moment: `bundle` and `devices` from start
 * to end, `held` (CPU) while it is not blocked. Each step moves amounts from one record to the
 * other in the transaction that says so, so a death gives back what the record says, once [R 15].
 *
 * GPUs are devices. A task that needs n of them gets n free ones; one that needs a part of one gets
 * it from the device that is used most of those that have so much left. A group's bundle has
 * devices of its own, or a slice of one.
 *
 * What a bundle of a removed group has free goes to the machine at once, in one step; from then on
 * it is `moved`, and what comes back to it is the machine's. */
#ifndef PM_RESOURCE_H
#define PM_RESOURCE_H

#include "client.h"

enum {
    PM_DRAW_WRITES = PM_KINDS + 8,
    /* a step of a group: every kind, and a device or slice of each of PM_DEVICES bundles */
    PM_GROUP_WRITES = 2 * PM_KINDS + 2 * PM_DEVICES + 24,
};

/* So much of a kind of resource. */
typedef struct {
    uint64_t kind;
    uint64_t amount;
} pm_need;

/* What a task needs, and of what. */
typedef struct {
    uint64_t need[PM_KINDS];
    uint64_t kinds;  /* mask of those that are not 0 */
    uint64_t group;  /* record of a group, 0 = of the machine */
    uint64_t bundle; /* record of one of its bundles, 0 = of any */
    uint64_t env;    /* entry of the environment, 0 = none */
    uint64_t alone;  /* 1: on a stack of its own */
} pm_demand;

/* The shape of tasks with this demand; shapes come and go. 0 if all PM_SHAPES are in use. */
uint64_t pm__shape_of(pm_op *op, const pm_demand *d);

/* Where a task of this shape could start now: a bundle, 0 = nowhere. but_cpu: whatever CPU is
 * free; then where there is CPU, if anywhere. */
uint64_t pm__fits(const pm_arena *a, const pm_shape_shm *s, bool but_cpu);

/* The task has what it needs of this bundle, from which it fits, or fits but for CPU. */
void pm__draw(pm_op *op, uint64_t task, uint64_t bundle);
/* It gives back its CPU only, and takes it again, in debt if need be. */
void pm__return_cpu(pm_op *op, uint64_t task);
void pm__draw_cpu(pm_op *op, uint64_t task);
/* It gives back all it has. */
void pm__return_all(pm_op *op, uint64_t task);

/* ---- placement groups ------------------------------------------------------------------------ */

static inline pm_group_shm *pm__group(const pm_arena *a, uint64_t group)
{
    return &a->h->groups[group - 1];
}
static inline pm_bundle_shm *pm__bundle(const pm_arena *a, uint64_t bundle)
{
    return &a->h->bundles[bundle - 1];
}

/* The record of a group, and of its bundle of this index (-1: of any, 0). PM_EREMOVED, PM_EINVAL:
 * there is no such bundle. */
int pm__group_find(const pm_arena *a, uint64_t serial, int64_t index, uint64_t *group,
                   uint64_t *bundle);

/* The oldest group that waits and could be reserved now, or 0. */
uint64_t pm__group_that_fits(const pm_arena *a);
/* Reserve it: its bundles have their totals, free. Up to PM_GROUP_WRITES. */
void pm__group_reserve(pm_op *op, uint64_t group);
/* What a bundle of a removed group has free is the machine's. */
void pm__bundle_move(pm_op *op, uint64_t bundle);
/* Put a removed group on the list of those to clear up after. */
void pm__group_list(pm_op *op, uint64_t group);

/* The group that the task's shape names, if it is removed; 0. */
uint64_t pm__removed_group_of(const pm_arena *a, uint64_t task);

#endif
