/* directory.c - see directory.h. */
#include "directory.h"

#include <string.h>

pm_j64 *pm__directory_bucket(const pm_arena *a, const unsigned char key[PM_KEY])
{
    uint64_t hash = UINT64_C(0x9e3779b97f4a7c15);
    for (int i = 0; i < PM_KEY; i += 4) {
        uint32_t part;
        memcpy(&part, key + i, sizeof part);
        hash = (hash ^ part) * UINT64_C(0xff51afd7ed558ccd);
        hash ^= hash >> 33;
    }
    return &a->buckets[hash & (a->h->bucket_count - 1)];
}

static pm_key_shm *key_at(const pm_arena *a, uint64_t index)
{
    return &a->keys[index - 1];
}

uint64_t pm__directory_find(const pm_op *op, const unsigned char key[PM_KEY])
{
    for (uint64_t k = pm__directory_bucket(op->a, key)->v; k; k = key_at(op->a, k)->next.v)
        if (memcmp(key_at(op->a, k)->bytes, key, PM_KEY) == 0)
            return key_at(op->a, k)->entry.v;
    return 0;
}

int pm__directory_add(pm_op *op, const unsigned char key[PM_KEY], uint64_t entry)
{
    pm_lock *l = &op->a->lock;
    if (pm__directory_find(op, key) || pm__entry(op->a, entry - 1)->key.v)
        return PM_EEXISTS;
    uint64_t k = pm__pool_take(op, &op->a->h->keys);
    if (!k)
        return PM_ETABLE;
    pm_j64 *bucket = pm__directory_bucket(op->a, key);
    memcpy(key_at(op->a, k)->bytes, key, PM_KEY); /* unreachable until the bucket names it */
    pm_init(&key_at(op->a, k)->entry, entry);
    pm_init(&key_at(op->a, k)->kept, 0);
    pm_set(l, &key_at(op->a, k)->next, bucket->v);
    pm_set(l, bucket, k);
    pm_set(l, &pm__entry(op->a, entry - 1)->key, k);
    return PM_OK;
}

void pm__directory_remove(pm_op *op, uint64_t entry)
{
    pm_lock *l = &op->a->lock;
    uint64_t k = pm__entry(op->a, entry - 1)->key.v;
    if (!k)
        return;
    pm_j64 *at = pm__directory_bucket(op->a, key_at(op->a, k)->bytes);
    while (at->v != k)
        at = &key_at(op->a, at->v)->next;
    pm_set(l, at, key_at(op->a, k)->next.v);
    pm_set(l, &pm__entry(op->a, entry - 1)->key, 0);
    pm_set(l, &key_at(op->a, k)->kept, 0); /* for who walks over the table */
    pm__pool_give(op, &op->a->h->keys, k);
}
