/* resource.c - see resource.h. */
#include "resource.h"

#include <string.h>

enum { MACHINE = 1 };

static pm_lock *lock_of(pm_op *op)
{
    return &op->a->lock;
}

static void add(pm_op *op, pm_j64 *word, uint64_t amount)
{
    pm_set(lock_of(op), word, word->v + amount);
}

static uint64_t bit(uint64_t device)
{
    return UINT64_C(1) << device;
}

static uint64_t count(uint64_t mask)
{
    return (uint64_t)__builtin_popcountll(mask);
}

static uint64_t lowest(uint64_t mask)
{
    return (uint64_t)__builtin_ctzll(mask);
}

/* for each kind of the mask */
#define EACH(k, mask)                                                                              \
    for (uint64_t left_ = (mask), k; left_ && (k = lowest(left_), true); left_ &= left_ - 1)

/* ---- shapes ---------------------------------------------------------------------------------- */

static uint64_t hash_of(const pm_demand *d, uint64_t serial)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ d->kinds ^ serial << 20 ^ d->bundle << 48 ^
                 d->env << 24 ^ d->alone << 63;
    EACH(k, d->kinds)
    h = (h ^ d->need[k]) * UINT64_C(0x100000001b3);
    return h | 1;
}

static bool is_shape(const pm_shape_shm *s, const pm_demand *d, uint64_t serial)
{
    if (s->kinds.v != d->kinds || s->group.v != d->group || s->serial.v != serial ||
        s->bundle.v != d->bundle || s->env.v != d->env || s->alone.v != d->alone)
        return false;
    EACH(k, d->kinds)
    if (s->need[k].v != d->need[k])
        return false;
    return true;
}

static void become(pm_op *op, pm_shape_shm *s, const pm_demand *d, uint64_t serial, uint64_t hash)
{
    pm_set(lock_of(op), &s->hash, hash);
    /* nobody uses it, and who looks for a shape compares all of these */
    pm_init(&s->kinds, d->kinds);
    pm_init(&s->group, d->group);
    pm_init(&s->serial, serial);
    pm_init(&s->bundle, d->bundle);
    pm_init(&s->env, d->env);
    pm_init(&s->alone, d->alone);
    for (uint64_t k = 0; k < PM_KINDS; k++)
        pm_init(&s->need[k], d->need[k]);
}

uint64_t pm__shape_of(pm_op *op, const pm_demand *d)
{
    pm_header_shm *h = op->a->h;
    uint64_t serial = d->group ? pm__group(op->a, d->group)->serial.v : 0;
    uint64_t hash = hash_of(d, serial), empty = 0;
    for (uint64_t i = 0; i < h->shape_high.v; i++) {
        if (h->shapes[i].hash.v == hash && is_shape(&h->shapes[i], d, serial))
            return i + 1;
        if (!empty && h->shapes[i].users.v == 0)
            empty = i + 1;
    }
    if (h->shape_high.v < PM_SHAPES) {
        empty = h->shape_high.v + 1;
        pm_set(lock_of(op), &h->shape_high, empty);
    }
    if (empty)
        become(op, &h->shapes[empty - 1], d, serial, hash);
    return empty;
}

/* ---- fitting --------------------------------------------------------------------------------- */

static bool gpu_fits(const pm_header_shm *h, const pm_bundle_shm *b, uint64_t need)
{
    if (b->slice.v)
        return b->free[PM_GPU].v >= need;
    if (need >= PM_UNITS)
        return count(b->devices.v) >= need / PM_UNITS;
    if (b->devices.v)
        return true;
    EACH(d, b->partial.v)
    if (h->left[d].v >= need)
        return true;
    return false;
}

static bool bundle_fits(const pm_header_shm *h, const pm_bundle_shm *b, const pm_shape_shm *s,
                        uint64_t kinds)
{
    EACH(k, kinds)
    if ((int64_t)b->free[k].v < (int64_t)s->need[k].v)
        return false;
    return !(kinds & bit(PM_GPU)) || gpu_fits(h, b, s->need[PM_GPU].v);
}

static uint64_t any_fits(const pm_arena *a, const pm_shape_shm *s, uint64_t kinds)
{
    const pm_group_shm *g = pm__group(a, s->group.v);
    if (g->state.v != PM_GROUP_READY)
        return 0;
    if (s->bundle.v)
        return bundle_fits(a->h, pm__bundle(a, s->bundle.v), s, kinds) ? s->bundle.v : 0;
    for (uint64_t b = g->first.v; b; b = pm__bundle(a, b)->next.v)
        if (bundle_fits(a->h, pm__bundle(a, b), s, kinds))
            return b;
    return 0;
}

static uint64_t fits_now(const pm_arena *a, const pm_shape_shm *s, uint64_t kinds)
{
    if (s->group.v)
        return any_fits(a, s, kinds);
    return bundle_fits(a->h, &a->h->bundles[0], s, kinds) ? MACHINE : 0;
}

uint64_t pm__fits(const pm_arena *a, const pm_shape_shm *s, bool but_cpu)
{
    uint64_t bundle = fits_now(a, s, s->kinds.v);
    return bundle || !but_cpu ? bundle : fits_now(a, s, s->kinds.v & ~bit(PM_CPU));
}

/* ---- devices --------------------------------------------------------------------------------- */

/* Take a part of a device: of those in use in parts the one with the least left that is enough,
 * else of a free one. */
static uint64_t take_part(pm_op *op, pm_bundle_shm *b, uint64_t need)
{
    pm_j64 *left = op->a->h->left;
    uint64_t best = PM_DEVICES;
    EACH(d, b->partial.v)
    if (left[d].v >= need && (best == PM_DEVICES || left[d].v < left[best].v))
        best = d;
    if (best == PM_DEVICES) {
        best = lowest(b->devices.v);
        pm_set(lock_of(op), &b->devices, b->devices.v & ~bit(best));
        pm_set(lock_of(op), &b->partial, b->partial.v | bit(best));
        pm_set(lock_of(op), &left[best], PM_UNITS);
    }
    add(op, &left[best], -need);
    return best;
}

static void give_part(pm_op *op, pm_bundle_shm *b, uint64_t device, uint64_t amount)
{
    pm_j64 *left = &op->a->h->left[device];
    add(op, left, amount);
    if (left->v == PM_UNITS) {
        pm_set(lock_of(op), &b->partial, b->partial.v & ~bit(device));
        pm_set(lock_of(op), &b->devices, b->devices.v | bit(device));
    }
}

static uint64_t first_of(uint64_t mask, uint64_t n)
{
    uint64_t taken = 0;
    for (; n; n--, mask &= mask - 1)
        taken |= bit(lowest(mask));
    return taken;
}

static uint64_t take_devices(pm_op *op, pm_bundle_shm *b, uint64_t need)
{
    if (b->slice.v)
        return bit(b->slice.v - 1);
    if (need < PM_UNITS)
        return bit(take_part(op, b, need));
    uint64_t taken = first_of(b->devices.v, need / PM_UNITS);
    pm_set(lock_of(op), &b->devices, b->devices.v & ~taken);
    return taken;
}

static void give_devices(pm_op *op, pm_bundle_shm *b, uint64_t devices, uint64_t need)
{
    if (b->slice.v)
        return;
    if (need < PM_UNITS)
        give_part(op, b, lowest(devices), need);
    else
        pm_set(lock_of(op), &b->devices, b->devices.v | devices);
}

/* ---- drawing --------------------------------------------------------------------------------- */

static pm_shape_shm *shape_of(const pm_arena *a, const pm_task_shm *t)
{
    return &a->h->shapes[t->shape.v - 1];
}

/* To whom what the task has comes back. */
static pm_bundle_shm *home_of(const pm_arena *a, const pm_task_shm *t)
{
    pm_bundle_shm *b = pm__bundle(a, t->bundle.v);
    return b->moved.v ? pm__bundle(a, MACHINE) : b;
}

static void take_cpu(pm_op *op, pm_task_shm *t, pm_bundle_shm *b)
{
    uint64_t cpu = shape_of(op->a, t)->need[PM_CPU].v;
    if (cpu == 0)
        return;
    pm_set(lock_of(op), &t->held, cpu);
    add(op, &b->free[PM_CPU], -cpu);
    add(op, &op->a->h->cpu_used, cpu);
}

static void give_cpu(pm_op *op, pm_task_shm *t, pm_bundle_shm *b)
{
    uint64_t cpu = t->held.v;
    if (cpu == 0)
        return;
    pm_set(lock_of(op), &t->held, 0);
    add(op, &b->free[PM_CPU], cpu);
    add(op, &op->a->h->cpu_used, -cpu);
}

/* Something came back: a group may wait for it. */
static void returned(pm_op *op)
{
    pm_header_shm *h = op->a->h;
    if (h->pending.v && !h->regroup.v)
        pm_set(lock_of(op), &h->regroup, 1);
}

void pm__draw(pm_op *op, uint64_t task, uint64_t bundle)
{
    pm_task_shm *t = pm__task(op->a, task - 1);
    pm_shape_shm *s = shape_of(op->a, t);
    pm_bundle_shm *b = pm__bundle(op->a, bundle);
    pm_set(lock_of(op), &t->bundle, bundle);
    take_cpu(op, t, b);
    EACH(k, s->kinds.v & ~bit(PM_CPU))
    add(op, &b->free[k], -s->need[k].v);
    if (s->kinds.v & bit(PM_GPU))
        pm_set(lock_of(op), &t->devices, take_devices(op, b, s->need[PM_GPU].v));
}

void pm__return_cpu(pm_op *op, uint64_t task)
{
    pm_task_shm *t = pm__task(op->a, task - 1);
    if (t->held.v == 0)
        return;
    give_cpu(op, t, home_of(op->a, t));
    returned(op);
}

void pm__draw_cpu(pm_op *op, uint64_t task)
{
    pm_task_shm *t = pm__task(op->a, task - 1);
    if (t->held.v == 0)
        take_cpu(op, t, home_of(op->a, t));
}

void pm__return_all(pm_op *op, uint64_t task)
{
    pm_task_shm *t = pm__task(op->a, task - 1);
    pm_shape_shm *s = shape_of(op->a, t);
    if (t->bundle.v == 0)
        return;
    pm_bundle_shm *from = pm__bundle(op->a, t->bundle.v), *b = home_of(op->a, t);
    give_cpu(op, t, b);
    EACH(k, s->kinds.v & ~bit(PM_CPU))
    add(op, &b->free[k], s->need[k].v);
    if (s->kinds.v & bit(PM_GPU)) {
        if (from->slice.v && b != from) /* the slice has gone back to its device */
            give_part(op, b, from->slice.v - 1, s->need[PM_GPU].v);
        else
            give_devices(op, b, t->devices.v, s->need[PM_GPU].v);
        pm_set(lock_of(op), &t->devices, 0);
    }
    pm_set(lock_of(op), &t->bundle, 0);
    returned(op);
}

/* ---- placement groups ------------------------------------------------------------------------ */

/* The machine's devices as they would be after bundles had theirs. */
typedef struct {
    uint64_t devices, partial, touched;
    uint64_t left[PM_DEVICES];
} plan;

static plan plan_of(const pm_header_shm *h)
{
    plan p = {.devices = h->bundles[0].devices.v, .partial = h->bundles[0].partial.v};
    for (uint64_t d = 0; d < PM_DEVICES; d++)
        p.left[d] = h->left[d].v;
    return p;
}

/* Whole devices: a mask. A slice: its device in *slice. False: there are not so many. */
static bool plan_bundle(plan *p, uint64_t need, uint64_t *devices, uint64_t *slice)
{
    uint64_t best = PM_DEVICES;
    *devices = *slice = 0;
    if (need >= PM_UNITS) {
        if (count(p->devices) < need / PM_UNITS)
            return false;
        *devices = first_of(p->devices, need / PM_UNITS);
        p->devices &= ~*devices;
        return true;
    }
    EACH(d, p->partial)
    if (p->left[d] >= need && (best == PM_DEVICES || p->left[d] < p->left[best]))
        best = d;
    if (best == PM_DEVICES) {
        if (p->devices == 0)
            return false;
        best = lowest(p->devices);
        p->devices &= ~bit(best);
        p->partial |= bit(best);
        p->left[best] = PM_UNITS;
    }
    p->left[best] -= need;
    p->touched |= bit(best);
    *slice = best + 1;
    return true;
}

int pm__group_find(const pm_arena *a, uint64_t serial, int64_t index, uint64_t *group,
                   uint64_t *bundle)
{
    *group = *bundle = 0;
    for (uint64_t i = 1; i <= PM_GROUPS && !*group; i++) {
        const pm_group_shm *g = pm__group(a, i);
        if (g->serial.v == serial &&
            (g->state.v == PM_GROUP_PENDING || g->state.v == PM_GROUP_READY))
            *group = i;
    }
    if (!*group)
        return PM_EREMOVED;
    if (index < 0)
        return PM_OK;
    for (*bundle = pm__group(a, *group)->first.v; *bundle && index > 0; index--)
        *bundle = pm__bundle(a, *bundle)->next.v;
    return *bundle ? PM_OK : PM_EINVAL;
}

static void sum_up(const pm_arena *a, const pm_group_shm *g, uint64_t sum[PM_KINDS])
{
    memset(sum, 0, PM_KINDS * sizeof *sum);
    for (uint64_t b = g->first.v; b; b = pm__bundle(a, b)->next.v)
        for (uint64_t k = 0; k < PM_KINDS; k++)
            sum[k] += pm__bundle(a, b)->total[k].v;
}

static bool group_fits(const pm_arena *a, const pm_group_shm *g)
{
    uint64_t sum[PM_KINDS], devices, slice;
    sum_up(a, g, sum);
    for (uint64_t k = 0; k < PM_KINDS; k++)
        if (sum[k] && (int64_t)a->h->bundles[0].free[k].v < (int64_t)sum[k])
            return false;
    if (sum[PM_GPU] == 0)
        return true;
    plan p = plan_of(a->h);
    for (uint64_t b = g->first.v; b; b = pm__bundle(a, b)->next.v)
        if (pm__bundle(a, b)->total[PM_GPU].v &&
            !plan_bundle(&p, pm__bundle(a, b)->total[PM_GPU].v, &devices, &slice))
            return false;
    return true;
}

uint64_t pm__group_that_fits(const pm_arena *a)
{
    uint64_t best = 0;
    for (uint64_t i = 1; i <= PM_GROUPS; i++) {
        const pm_group_shm *g = pm__group(a, i);
        if (g->state.v == PM_GROUP_PENDING && !g->never.v &&
            (!best || g->seq.v < pm__group(a, best)->seq.v) && group_fits(a, g))
            best = i;
    }
    return best;
}

static void reserve_devices(pm_op *op, const pm_group_shm *g)
{
    pm_header_shm *h = op->a->h;
    plan p = plan_of(h);
    uint64_t devices, slice;
    for (uint64_t i = g->first.v; i; i = pm__bundle(op->a, i)->next.v) {
        pm_bundle_shm *b = pm__bundle(op->a, i);
        if (b->total[PM_GPU].v == 0)
            continue;
        plan_bundle(&p, b->total[PM_GPU].v, &devices, &slice);
        pm_set(lock_of(op), slice ? &b->slice : &b->devices, slice ? slice : devices);
    }
    pm_set(lock_of(op), &h->bundles[0].devices, p.devices);
    pm_set(lock_of(op), &h->bundles[0].partial, p.partial);
    EACH(d, p.touched)
    pm_set(lock_of(op), &h->left[d], p.left[d]);
}

void pm__group_reserve(pm_op *op, uint64_t group)
{
    pm_header_shm *h = op->a->h;
    pm_group_shm *g = pm__group(op->a, group);
    uint64_t sum[PM_KINDS];
    sum_up(op->a, g, sum);
    for (uint64_t k = 0; k < PM_KINDS; k++)
        if (sum[k])
            add(op, &h->bundles[0].free[k], -sum[k]);
    if (sum[PM_GPU])
        reserve_devices(op, g);
    pm_set(lock_of(op), &g->state, PM_GROUP_READY);
    pm_set(lock_of(op), &h->pending, h->pending.v - 1);
}

void pm__bundle_move(pm_op *op, uint64_t bundle)
{
    pm_header_shm *h = op->a->h;
    pm_bundle_shm *b = pm__bundle(op->a, bundle), *machine = &h->bundles[0];
    for (uint64_t k = 0; k < PM_KINDS; k++)
        if (b->free[k].v)
            add(op, &machine->free[k], b->free[k].v);
    if (b->slice.v && b->free[PM_GPU].v)
        give_part(op, machine, b->slice.v - 1, b->free[PM_GPU].v);
    if (b->devices.v)
        pm_set(lock_of(op), &machine->devices, machine->devices.v | b->devices.v);
    if (b->partial.v)
        pm_set(lock_of(op), &machine->partial, machine->partial.v | b->partial.v);
    pm_set(lock_of(op), &b->moved, 1);
    returned(op);
}

void pm__group_list(pm_op *op, uint64_t group)
{
    pm_group_shm *g = pm__group(op->a, group);
    if (g->listed.v)
        return;
    pm_set(lock_of(op), &g->listed, 1);
    pm_set(lock_of(op), &g->next, op->a->h->removing.v);
    pm_set(lock_of(op), &op->a->h->removing, group);
}

uint64_t pm__removed_group_of(const pm_arena *a, uint64_t task)
{
    uint64_t group = shape_of(a, pm__task(a, task - 1))->group.v;
    return group && pm__group(a, group)->state.v == PM_GROUP_REMOVED ? group : 0;
}
