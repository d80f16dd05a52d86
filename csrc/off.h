/* off.h - offsets into the arena: a type of their own, 0 = null, one function that makes a
 * pointer of one.
 *
 * Nothing in shared memory is a pointer: each process maps the arena elsewhere. */
#ifndef PM_OFF_H
#define PM_OFF_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t o;
} pm_off;

typedef struct {
    char *base; /* read-write map of the arena in this process */
    uint64_t size;
} pm_map;

/* The address of `len` bytes at `off`, or NULL if any of them lies outside the arena. */
static inline void *pm_at(const pm_map *m, pm_off off, uint64_t len)
{
    if (off.o == 0 || off.o > m->size || len > m->size - off.o)
        return NULL;
    return m->base + off.o;
}

#endif
