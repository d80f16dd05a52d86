/* plasmid.c - opening and closing, and what an error code means; see plasmid.h. */
#include "plasmid.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What was given back beside a busy lock; of a guest that left, what it had still pinned. And a
 * cancel that its task has not noticed. */
static void see_to_it(pm_arena *a)
{
    pm__settle(a->heir ? a->heir : a, PM_WAIT);
    pm__spill_trim(a->heir ? a->heir : a);
    if (!a->heir) {
        pm__prefetch(a);
        pm__spill_ahead(a);
    }
    if (a->kind == PM_WORKER && pm__cancel_remind(a))
        pm__call_watcher(a);
}

static int attached(pm_arena *a, int rc, enum pm_kind kind, int driver_pidfd, pm_arena **out)
{
    if (rc == PM_OK) {
        rc = pm__client_attach(a, kind, driver_pidfd, see_to_it);
        if (rc)
            pm__arena_unmap(a);
    }
    if (rc)
        free(a);
    else
        *out = a;
    return rc;
}

int pm_open_new(uint64_t heap_bytes, uint64_t disk_bytes, const pm_total *totals, uint64_t n,
                pm_arena **out)
{
    pm_arena *a = malloc(sizeof *a);
    return a ? attached(a, pm__arena_create(heap_bytes, disk_bytes, totals, n, a), PM_DRIVER, -1,
                        out)
             : PM_ESYS;
}

int pm_open_fd(int fd, enum pm_kind kind, int driver_pidfd, int bell, pm_arena **out)
{
    pm_arena *a = malloc(sizeof *a);
    if (!a)
        return PM_ESYS;
    int rc = pm__arena_attach(fd, a);
    if (rc == PM_OK && (rc = pm_set_bell(a, bell)))
        pm__arena_unmap(a);
    if (rc == PM_OK)
        pm__disk_open(a);
    if (rc == PM_OK && kind == PM_KEEPER)
        pm_a64_store(&a->h->trimming, 0); /* its predecessor may have died of it */
    return attached(a, rc, kind, driver_pidfd, out);
}

int pm_set_bell(pm_arena *a, int fd)
{
    if (fd >= 0 && (a->bell = fcntl(fd, F_DUPFD_CLOEXEC, 3)) < 0)
        return PM_ESYS;
    return PM_OK;
}

int pm_end(pm_arena *a)
{
    pm_op op;
    int rc;
    /* Under the lock: who is attaching now is in the client table, or finds the session ended. */
    while ((rc = pm__enter(&op, a, PM_WAIT)) == PM_EAGAIN)
        ;
    pm_a64_store(&a->h->ending, 1);
    if (rc == PM_OK)
        rc = pm__leave(&op);
    pm__wake_everyone(a);
    return rc;
}

/* From here on no operation of ours begins: pm__enter() looks at `gone` with the lock in its
 * hand. Our threads that wait are woken, and have their waiters back before the slot can be
 * another's. */
static void stop_operations(pm_arena *a)
{
    pm_op op;
    int rc;
    while ((rc = pm__enter(&op, a, PM_WAIT)) == PM_EAGAIN)
        ;
    a->gone = PM_ELEFT;
    if (rc == PM_OK)
        pm__leave(&op);
    pm__reserve_stop(a);
    pm__wake_everyone(a);
    pm__waiters_drain(a);
}

int pm_leave(pm_arena *a, bool sweep)
{
    stop_operations(a);
    pm__client_stop(a);
    pm__disk_end(a);
    if (!sweep)
        return PM_OK;
    pm_arena other = *a; /* the same maps, none of our references: those are swept, not dropped */
    pm__arena_alias(&other);
    return pm_sweep(&other, a->slot, a->epoch, &(pm_death){.cause = 0});
}

/* Another thread of ours may be copying bytes into it, beside the lock. */
static bool is_being_written(const pm_arena *a, uint64_t slot)
{
    return pm_state(a, slot) == PM_PENDING && pm__entry(a, slot)->block.v != 0;
}

/* What is not pinned is let go; a pinned entry keeps its record, and counts its pins alone. What is
 * being written stays until the handle is closed. True if there is more to look at, from *at on. */
static bool retire_some(pm_op *op, pm_local *local, uint64_t *at)
{
    pm_arena *a = op->a;
    while (*at && pm_lock_room(&a->lock) >= 3 * PM_STEP_WRITES) {
        const pm_hold_shm *r = &a->holds[*at - 1];
        pm_local *own = &local[r->entry.v - 1];
        uint64_t hold = *at, pins = pm_a64_load(&r->pins) & ~PM_CLOSED;
        *at = r->next.v;
        atomic_store(&own->refs, (uint32_t)pins);
        atomic_store(&own->owed, 0);
        atomic_store(&own->own, PM_SHARED);
        if (pins == 0 && !is_being_written(a, r->entry.v - 1))
            pm__hold_end(op, hold);
    }
    return *at != 0;
}

int pm_retire(pm_arena *a)
{
    pm_arena *heir = malloc(sizeof *heir);
    pm_op op;
    bool more = true;
    int rc = PM_OK;
    if (!heir)
        return PM_ESYS;
    stop_operations(a);
    *heir = *a;
    pm__arena_alias(heir);
    /* No other thread of ours is in the core, so our list of holds stands still between the steps;
     * a death of ours leaves the rest to the sweep. */
    for (uint64_t at = pm__me(a)->holds.v; more && rc == PM_OK;) {
        while ((rc = pm__enter(&op, heir, PM_WAIT)) == PM_EAGAIN)
            ;
        if (rc)
            break;
        more = retire_some(&op, a->local, &at);
        pm_a64_store(&pm__me(a)->reserve, 0);
        rc = pm__done(&op);
    }
    if (rc == PM_OK)
        rc = pm__groups_leave(heir, a->slot, a->epoch);
    if (rc == PM_EGONE)
        rc = PM_OK; /* the session is over, and nobody will use what is given back */
    heir->local = a->local;
    heir->watch = a->watch;
    a->heir = heir;
    return rc;
}

void pm_close(pm_arena *a)
{
    pm__client_stop(a);
    pm__client_free(a);
    free(a->heir);
    pm__arena_unmap(a);
    free(a);
}

bool pm_is_ending(const pm_arena *a)
{
    return pm_a64_load(&a->h->ending) != 0;
}

bool pm_has_surplus(const pm_arena *a)
{
    /* read beside the lock: if two workers leave upon one surplus, the keeper has one started
     * again */
    return pm__me(a)->aside.v == PM_DISMISSED ||
           a->h->workers.v - a->h->hosts.v > (a->h->total[PM_CPU] + PM_UNITS - 1) / PM_UNITS;
}

bool pm_is_mixed(const pm_arena *a)
{
    return a->h->mixed.v != 0; /* beside the lock: who submits knows what it has submitted */
}

bool pm_is_short_of_workers(const pm_arena *a)
{
    /* beside the lock, too: whoever acts on it takes a task by the truth */
    return pm__all_busy(a->h) && a->h->cpu_used.v < a->h->total[PM_CPU];
}

bool pm_is_inherited(const pm_arena *a)
{
    return pm__inherited(a);
}

void pm_forget(pm_arena *a)
{
    pm__arena_close(a);
    pm__client_free(a); /* the descriptors and memory of a thread that does not exist here */
    free(a->heir);
    free(a);
}

void pm_fail(pm_arena *a, const char *why)
{
    pm__fail(a, why);
}

const char *pm_failure(const pm_arena *a)
{
    return pm_a64_load(&a->h->failed) ? a->h->failure : "";
}

void pm_expire_by(pm_arena *a, uint64_t ns)
{
    uint64_t now = pm_a64_load(&a->h->expiry);
    while ((now == 0 || ns < now) && !pm_a64_cas(&a->h->expiry, &now, ns))
        ;
    pm__os_eventfd_ring(a->bell);
}

int pm_set_boot(pm_arena *a, pm_patience how, uint64_t slot)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    pm_entry_shm *e = pm__entry(a, slot);
    if (a->h->boot.v)
        rc = PM_EEXISTS;
    else {
        pm_share(a, slot);
        pm_set(&a->lock, &a->h->boot, slot + 1);
        pm_set(&a->lock, &e->refs, e->refs.v + 1);
    }
    int left = pm__leave(&op);
    return rc ? rc : left;
}

int pm_boot(pm_arena *a, pm_patience how, pm_ref *out)
{
    uint64_t entry = a->h->boot.v; /* set once, before anyone else is told of the session */
    if (!entry)
        return PM_ENOTFOUND;
    *out = (pm_ref){.slot = entry - 1, .generation = pm__generation(a, entry)};
    return pm_hold(a, how, *out);
}

const char *pm_strerror(int rc)
{
    switch (rc) {
#define X(code, name, py, text)                                                                    \
    case code:                                                                                     \
        return text;
        PM_ERR_MAP(X)
#undef X
    default:
        return "unknown error of the core";
    }
}

const char *pm_err_class(int rc)
{
    switch (rc) {
#define X(code, name, py, text)                                                                    \
    case code:                                                                                     \
        return #py;
        PM_ERR_MAP(X)
#undef X
    default:
        return "PlasmidError";
    }
}
