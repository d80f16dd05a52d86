/* group.c - see group.h. */
#include "group.h"

#include <string.h>

static pm_lock *lock_of(pm_op *op)
{
    return &op->a->lock;
}

/* ---- create ---------------------------------------------------------------------------------- */

static int valid(const pm_group_spec *spec)
{
    uint64_t gpus = 0;
    if (spec->count < 1 || spec->count >= PM_BUNDLES || strlen(spec->name) >= PM_GROUP_NAME)
        return PM_EINVAL;
    for (uint64_t i = 0; i < spec->count; i++) {
        uint64_t need = spec->bundles[i][PM_GPU];
        if (need > PM_UNITS && need % PM_UNITS)
            return PM_EINVAL;
        gpus += need != 0;
    }
    return gpus <= PM_DEVICES ? PM_OK : PM_EINVAL;
}

static bool is_live(const pm_group_shm *g)
{
    return g->state.v == PM_GROUP_PENDING || g->state.v == PM_GROUP_READY;
}

/* A free record; PM_EEXISTS if a live group has the name. */
static int find_room(const pm_arena *a, const char *name, uint64_t *group)
{
    *group = 0;
    for (uint64_t i = 1; i <= PM_GROUPS; i++) {
        const pm_group_shm *g = pm__group(a, i);
        if (g->state.v == PM_GROUP_FREE)
            *group = *group ? *group : i;
        else if (is_live(g) && name[0] && strcmp(name, g->name) == 0)
            return PM_EEXISTS;
    }
    return *group ? PM_OK : PM_ETABLE;
}

/* The first `count` records of the free list, which are a chain already. */
static int take_bundles(pm_op *op, const pm_group_spec *spec, uint64_t group, uint64_t *first)
{
    pm_header_shm *h = op->a->h;
    uint64_t last = 0, next = *first = h->bundle_free.v;
    for (uint64_t i = 0; i < spec->count; i++) {
        if (next == 0)
            return PM_ETABLE;
        last = next;
        next = pm__bundle(op->a, last)->next.v;
    }
    pm_set(lock_of(op), &h->bundle_free, next);
    pm_set(lock_of(op), &pm__bundle(op->a, last)->next, 0);
    uint64_t b = *first;
    for (uint64_t i = 0; i < spec->count; i++, b = pm__bundle(op->a, b)->next.v) {
        pm_bundle_shm *r = pm__bundle(op->a, b);
        pm_init(&r->group, group);
        pm_init(&r->moved, 0);
        pm_init(&r->slice, 0);
        pm_init(&r->devices, 0);
        pm_init(&r->partial, 0);
        for (uint64_t k = 0; k < PM_KINDS; k++) {
            pm_init(&r->total[k], spec->bundles[i][k]);
            pm_init(&r->free[k], spec->bundles[i][k]);
        }
    }
    return PM_OK;
}

static int create(pm_op *op, const pm_group_spec *spec, uint64_t *serial)
{
    pm_header_shm *h = op->a->h;
    uint64_t group, first;
    int rc = find_room(op->a, spec->name, &group);
    if (!rc)
        rc = take_bundles(op, spec, group, &first);
    if (rc)
        return rc;
    pm_group_shm *g = pm__group(op->a, group);
    *serial = h->group_serial.v + 1;
    pm_set(lock_of(op), &g->state, PM_GROUP_PENDING);
    pm_init(&g->serial, *serial);
    pm_init(&g->seq, h->seq.v + 1);
    pm_init(&g->owner, spec->mine ? op->a->slot + 1 : 0);
    pm_init(&g->epoch, op->a->epoch);
    pm_init(&g->first, first);
    pm_init(&g->count, spec->count);
    pm_init(&g->never, spec->never);
    pm_init(&g->how, spec->how);
    pm_init(&g->users, 0);
    pm_init(&g->listed, 0);
    pm_init(&g->cursor, 0);
    memset(g->name, 0, sizeof g->name);
    memcpy(g->name, spec->name, strlen(spec->name));
    pm_set(lock_of(op), &h->group_serial, *serial);
    pm_set(lock_of(op), &h->seq, h->seq.v + 1);
    pm_set(lock_of(op), &h->pending, h->pending.v + 1);
    pm_set(lock_of(op), &h->regroup, 1);
    return PM_OK;
}

int pm_group_create(pm_arena *a, pm_patience how, const pm_group_spec *spec, uint64_t *serial)
{
    pm_op op;
    int rc = valid(spec);
    if (!rc)
        rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    rc = create(&op, spec, serial);
    if (rc)
        pm_lock_rollback(&a->lock);
    int left = pm__done(&op);
    return left ? left : rc;
}

/* ---- remove ---------------------------------------------------------------------------------- */

static void remove_group(pm_op *op, uint64_t group)
{
    pm_group_shm *g = pm__group(op->a, group);
    pm_header_shm *h = op->a->h;
    if (g->state.v == PM_GROUP_PENDING)
        pm_set(lock_of(op), &h->pending, h->pending.v - 1);
    else /* it has something to give back */
        pm_set(lock_of(op), &g->cursor, g->first.v);
    pm_set(lock_of(op), &g->state, PM_GROUP_REMOVED);
    pm__group_list(op, group);
    op->ring = true; /* the keeper ends what runs in it */
}

int pm_group_remove(pm_arena *a, pm_patience how, uint64_t serial)
{
    pm_op op;
    uint64_t group, bundle;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    if (pm__group_find(a, serial, -1, &group, &bundle) == PM_OK)
        remove_group(&op, group);
    pm__call_worker(&op); /* a task may have waited for a group that now waits no more */
    return pm__done(&op);
}

static int leave_one(pm_arena *a, uint64_t slot, uint64_t epoch, bool *found)
{
    pm_op op;
    int rc = pm__enter(&op, a, PM_WAIT);
    if (rc)
        return rc;
    *found = false;
    for (uint64_t i = 1; i <= PM_GROUPS && !*found; i++) {
        const pm_group_shm *g = pm__group(a, i);
        *found = is_live(g) && g->owner.v == slot + 1 && g->epoch.v == epoch;
        if (*found)
            remove_group(&op, i);
    }
    return pm__done(&op);
}

int pm__groups_leave(pm_arena *a, uint64_t slot, uint64_t epoch)
{
    bool found = true;
    int rc = PM_OK;
    while (found && (rc == PM_OK || rc == PM_EAGAIN))
        rc = leave_one(a, slot, epoch, &found);
    return rc;
}

/* ---- look ------------------------------------------------------------------------------------ */

int pm_groups(pm_arena *a, pm_patience how, pm_group_info *out, uint64_t *n)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    *n = 0;
    for (uint64_t i = 1; i <= PM_GROUPS; i++) {
        const pm_group_shm *g = pm__group(a, i);
        if (g->state.v == PM_GROUP_FREE)
            continue;
        out[*n] = (pm_group_info){.serial = g->serial.v,
                                  .state = g->state.v,
                                  .how = g->how.v,
                                  .count = g->count.v,
                                  .stays = g->owner.v == 0};
        memcpy(out[(*n)++].name, g->name, PM_GROUP_NAME);
    }
    return pm__leave(&op);
}

int pm_group_bundles(pm_arena *a, pm_patience how, uint64_t serial, uint64_t (*out)[PM_KINDS],
                     uint64_t *n)
{
    pm_op op;
    uint64_t group, bundle;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    *n = 0;
    rc = pm__group_find(a, serial, -1, &group, &bundle);
    if (rc == PM_OK)
        for (uint64_t b = pm__group(a, group)->first.v; b; b = pm__bundle(a, b)->next.v, ++*n)
            for (uint64_t k = 0; k < PM_KINDS; k++)
                out[*n][k] = pm__bundle(a, b)->total[k].v;
    int left = pm__leave(&op);
    return left ? left : rc;
}

int pm_group_runners(pm_arena *a, pm_patience how, uint64_t *out, uint64_t *n)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    *n = 0;
    for (uint64_t i = 0; i < a->h->client_high.v; i++)
        for (uint64_t t = a->clients[i].running.v; t; t = pm__task(a, t - 1)->next.v)
            if (pm__removed_group_of(a, t)) {
                out[(*n)++] = i;
                break;
            }
    return pm__leave(&op);
}
