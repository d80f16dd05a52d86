/* room.c - see room.h. */
#include "room.h"

#include "spill.h"
#include "wait.h"

enum {
    MAKE_ROOM = 2,    /* beside PM_NOT_YET: it is for us to make it */
    SHARE = 64,       /* of the heap: less is not made at a time */
    MOST = 256 << 20, /* bytes, without a look for signals */
};

typedef struct {
    uint64_t size, nrefs, *ticket;
    pm_ref *out;
    bool hopeful; /* something may be there to be spilled */
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
    wish *mine = (wish *)(uintptr_t)what;
    pm_waiter_shm *w = pm__waiter(op->a, op->a->slot, waiter);
    stand_in_line(op->a, w, mine->ticket);
    int rc = pm__create_locked(op, mine->size, mine->nrefs, *mine->ticket, mine->out);
    if (rc != PM_EFULL)
        return rc;
    bool first = mine->size < PM_IN_LINE || pm__first_in_line(op->a) == *mine->ticket;
    if (first && mine->hopeful)
        return MAKE_ROOM;
    mine->hopeful = true; /* when it is woken */
    return PM_NOT_YET;
}

/* Standing in line all the while: what goes is for us. */
static int make_room(pm_arena *a, wish *mine)
{
    pm_op op;
    uint64_t least = a->h->heap_bytes / SHARE, bytes = mine->size < least ? least : mine->size,
             freed;
    int waiter = pm__waiter_take(a), rc = pm__enter(&op, a, PM_WAIT);
    if (rc == PM_OK) {
        if (waiter >= 0)
            stand_in_line(a, pm__waiter(a, a->slot, waiter), mine->ticket);
        rc = pm__leave(&op);
    }
    if (rc == PM_OK)
        rc = pm_spill(a, bytes < MOST ? bytes : MOST, &freed);
    if (rc == PM_OK) {
        mine->hopeful = freed > 0;
        rc = freed > 0 ? PM_EAGAIN : PM_OK;
    }
    if (waiter >= 0)
        pm__waiter_give(a, waiter);
    return rc;
}

int pm_create_in_time(pm_arena *a, uint64_t size, const pm_ref *refs, uint64_t nrefs,
                      uint64_t deadline, uint64_t *ticket, pm_ref *out)
{
    wish mine = {size, nrefs, ticket, out, true};
    int rc;
    do
        rc = pm__await(a, (uintptr_t)&mine, deadline, look_for_block);
    while (rc == MAKE_ROOM && (rc = make_room(a, &mine)) == PM_OK);
    /* The next in line may find room now, of which we left some, or which was not for us. */
    if (rc != PM_EAGAIN && pm_a64_load(&a->h->lined))
        pm__wake_everyone(a);
    if (rc == PM_OK)
        pm__created(a, out->slot, refs);
    return rc;
}
