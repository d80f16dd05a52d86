/* directory.h - key -> entry, a hash table for ids that come from outside: content keys of
 * functions, names.
 *
 * References carry slot and generation, so no hot path comes here. A key does not keep its entry
 * alive: it goes with it. Chains hang off a power-of-two table of buckets; expected O(1). */
#ifndef PM_DIRECTORY_H
#define PM_DIRECTORY_H

#include "pool.h"

enum { PM_DIRECTORY_WRITES = PM_POOL_WRITES + 4 };

/* Where the chain of keys with this one's hash begins. */
pm_j64 *pm__directory_bucket(const pm_arena *a, const unsigned char key[PM_KEY]);

/* The entry under this key (slot + 1), or 0. */
uint64_t pm__directory_find(const pm_op *op, const unsigned char key[PM_KEY]);
/* Link key -> entry. PM_EEXISTS if either has a partner already, PM_ETABLE. */
int pm__directory_add(pm_op *op, const unsigned char key[PM_KEY], uint64_t entry);
/* Unlink the entry's key, if it has one. */
void pm__directory_remove(pm_op *op, uint64_t entry);

#endif
