/* pool.h - tables of records with a free list. Index words hold index + 1, 0 = none. */
#ifndef PM_POOL_H
#define PM_POOL_H

#include "client.h"

enum { PM_POOL_WRITES = 3 };

/* A record, or 0 if the table is full. Latest freed first: its memory is warm. */
uint64_t pm__pool_take(pm_op *op, pm_pool_shm *pool);
void pm__pool_give(pm_op *op, pm_pool_shm *pool, uint64_t record);
static inline uint64_t pm__pool_room(const pm_pool_shm *pool)
{
    return pool->capacity - pool->live.v;
}

#endif
