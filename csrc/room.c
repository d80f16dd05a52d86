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
    int place;     /* the waiter that stands in line, as long as all of it takes; -1 = none yet */
    bool hopeful;  /* something may be there to be spilled */
    uint64_t seen; /* openings, before we looked for it */
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
 * all who wait (pm__give_block), and so does who makes an object one that may go (pm__may_go_now). Should
 * it die before it wakes, the sweep does. The ticket is no part of the transaction, and leaves the line
 * with its waiter: when that is given back, or its client swept. */
static int look_for_block(pm_op *op, uint64_t what, int waiter)
{
    pm_arena *a = op->a;
    wish *mine = (wish *)(uintptr_t)what;
    if (mine->place < 0)
        mine->place = pm__waiter_take(a);
    stand_in_line(a, pm__waiter(a, a->slot, mine->place < 0 ? waiter : mine->place), mine->ticket);
    int rc = pm__create_locked(op, mine->size, mine->nrefs, *mine->ticket, mine->out);
    if (rc != PM_EFULL)
        return rc;
    bool first = mine->size < PM_IN_LINE || pm__first_in_line(a) == *mine->ticket;
    if (first && (mine->hopeful || pm_a64_load(&a->h->openings) != mine->seen))
        return MAKE_ROOM;
    mine->hopeful = true; /* when it is woken */
    return PM_NOT_YET;
}

static int make_room(pm_arena *a, wish *mine)
{
    uint64_t least = a->h->heap_bytes / SHARE, bytes = mine->size < least ? least : mine->size;
    uint64_t freed;
    mine->seen = pm_a64_load(&a->h->openings);
    int rc = pm_spill(a, bytes < MOST ? bytes : MOST, &freed);
    mine->hopeful = freed > 0;
    return rc ? rc : freed > 0 ? PM_EAGAIN : PM_OK;
}

int pm_create_in_time(pm_arena *a, uint64_t size, const pm_ref *refs, uint64_t nrefs,
                      uint64_t deadline, uint64_t *ticket, pm_ref *out)
{
    wish mine = {size, nrefs, ticket, out, -1, true, 0};
    int rc;
    if (size > a->h->heap_bytes)
        return PM_EFULL;
    do
        rc = pm__await(a, (uintptr_t)&mine, deadline, look_for_block);
    while (rc == MAKE_ROOM && (rc = make_room(a, &mine)) == PM_OK);
    if (mine.place >= 0)
        pm__waiter_give(a, mine.place);
    /* The next in line may find room now, of which we left some, or which was not for us. */
    if (rc != PM_EAGAIN && pm_a64_load(&a->h->lined))
        pm__wake_everyone(a);
    if (rc == PM_OK)
        pm__created(a, out->slot, refs);
    return rc;
}
