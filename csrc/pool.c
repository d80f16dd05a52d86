/* pool.c - see pool.h. */
#include "pool.h"

static pm_j64 *link_of(const pm_op *op, const pm_pool_shm *pool, uint64_t record)
{
    return (pm_j64 *)(op->a->map.base + pool->offset + (record - 1) * pool->stride + pool->link);
}

uint64_t pm__pool_take(pm_op *op, pm_pool_shm *pool)
{
    pm_lock *l = &op->a->lock;
    uint64_t record = pool->free.v;
    if (record)
        pm_set(l, &pool->free, link_of(op, pool, record)->v);
    else if (pool->high.v < pool->capacity) {
        record = pool->high.v + 1;
        pm_set(l, &pool->high, record);
        op->fresh = (char *)link_of(op, pool, record);
    } else
        return 0;
    pm_set(l, &pool->live, pool->live.v + 1);
    return record;
}

void pm__pool_give(pm_op *op, pm_pool_shm *pool, uint64_t record)
{
    pm_lock *l = &op->a->lock;
    pm_set(l, link_of(op, pool, record), pool->free.v);
    pm_set(l, &pool->free, record);
    pm_set(l, &pool->live, pool->live.v - 1);
}
