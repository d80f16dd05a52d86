/* room.c - see room.h. */
#include "room.h"

#include "wait.h"

typedef struct {
    uint64_t size, nrefs, *ticket;
    pm_ref *out;
} wish;

static void stand_in_line(const pm_arena *a, pm_waiter_shm *w, uint64_t *ticket)
{
    if (!*ticket) {
        *ticket = pm_a64_load(&a->h->tickets) + 1;
        pm_a64_store(&a->h->tickets, *ticket);
    }
    pm_a64_store(&w->ticket, *ticket);
    pm_a64_store(&a->h->lined, 1);
}

/* Found full and in line in one lock hold: whoever gives a block back after it finds us there and wakes
 * all who wait (pm__give_block). Should it die before it wakes, the sweep does. The ticket is no part
 * of the transaction, and leaves the line with its waiter: when that is given back, or its client
 * swept. */
static int look_for_block(pm_op *op, uint64_t what, int waiter)
{
    const wish *mine = (const wish *)(uintptr_t)what;
    pm_waiter_shm *w = pm__waiter(op->a, op->a->slot, waiter);
    stand_in_line(op->a, w, mine->ticket);
    int rc = pm__create_locked(op, mine->size, mine->nrefs, *mine->ticket, mine->out);
    return rc == PM_EFULL ? PM_NOT_YET : rc;
}

int pm_create_in_time(pm_arena *a, uint64_t size, const pm_ref *refs, uint64_t nrefs,
                      uint64_t deadline, uint64_t *ticket, pm_ref *out)
{
    const wish mine = {size, nrefs, ticket, out};
    int rc = pm__await(a, (uintptr_t)&mine, deadline, look_for_block);
    /* The next in line may find room now, of which we left some, or which was not for us. */
    if (pm_a64_load(&a->h->lined))
        pm__wake_everyone(a);
    if (rc == PM_OK)
        pm__created(a, out->slot, refs);
    return rc;
}
