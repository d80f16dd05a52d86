/* filled.h - large objects of one byte, and the memory that the arena has. */
#ifndef PM_TEST_FILLED_H
#define PM_TEST_FILLED_H

#include <sys/stat.h>

#include "tasks.h"

__attribute__((unused)) static uint64_t backed(const world *w)
{
    struct stat st;
    CHECK(fstat(w->a->fd, &st) == 0);
    return (uint64_t)st.st_blocks * 512;
}

__attribute__((unused)) static pm_ref put_filled(const world *w, uint64_t size, int byte)
{
    pm_ref ref;
    char *data = malloc(size);
    memset(data, byte, size);
    DO(pm_create(w->a, PM_WAIT, size, NULL, 0, &ref));
    DO(pm_write(w->a, ref.slot, 0, data, size));
    DO(pm_seal(w->a, PM_WAIT, ref.slot, false));
    free(data);
    return ref;
}

__attribute__((unused)) static void is_filled(const world *w, pm_ref ref, uint64_t size, int byte)
{
    pm_view v;
    DO(pm_look(w->a, ref.slot, &v));
    CHECK(v.size == size);
    for (uint64_t i = 0; i < size; i++)
        CHECK(((const unsigned char *)v.data)[i] == byte);
}

#endif
