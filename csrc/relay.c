/* relay.c - see relay.h. */
#include "relay.h"

#include <errno.h>

#include "os.h"
#include "wait.h"

bool pm_rung(const pm_arena *a)
{
    return pm__rung(pm_a64_load(&pm__me(a)->bell));
}

/* order: this side  bell = 0 (pm_try_next) -> asleep = 1 -> read bell -> armed = 1 -> poll
 *        relay      armed = 0 -> sleep while asleep is 1 -> ring the eventfd
 *        caller     bell = 1 -> read and clear asleep -> wake
 * The relay stays armed until it rings, which it does whenever it finds `asleep` cleared: too often at
 * worst. When poll returns for another reason than the bell, the relay sleeps on, armed, and `asleep`
 * is 0, so that callers need not wake it; the next poll sets it again, and then they do. */
int pm_poll(pm_arena *a, pm_relay *r, int fd, int64_t ns)
{
    pm_client_shm *me = pm__me(a);
    uint64_t began;
    if (pm__spin(a, &me->bell, pm__rung, &began))
        return PM_OK;
    int rc = PM_OK;
    atomic_store(&me->asleep.v, 1);
    if (!atomic_load(&me->bell.v)) {
        if (!atomic_exchange(&r->armed.v, 1))
            pm__os_wake(&r->armed, 1);
        rc = pm__os_poll(r->fd, fd, ns);
    }
    atomic_store(&me->asleep.v, 0);
    pm__slept(a, began);
    return rc;
}

int pm_relay_run(pm_arena *a, pm_relay *r)
{
    pm_client_shm *me = pm__me(a);
    int rc = PM_OK;
    while (!pm_a64_load(&r->dismissed)) {
        if (!atomic_load(&r->armed.v)) {
            if ((rc = pm__os_sleep(&r->armed, 0, 0)))
                break;
            continue;
        }
        if ((rc = pm__os_sleep(&me->asleep, 1, 0)))
            break;
        if (atomic_load(&me->asleep.v))
            continue;
        atomic_store(&r->armed.v, 0);
        if (!pm__os_is_event(r->fd)) { /* closed by the program: the ring would be lost */
            errno = EBADF;
            return PM_ESYS;
        }
        if ((rc = pm__os_eventfd_ring(r->fd)))
            break;
    }
    return rc;
}

void pm_relay_dismiss(pm_arena *a, pm_relay *r)
{
    pm_a64_store(&r->dismissed, 1);
    atomic_store(&r->armed.v, 1);
    pm__os_wake(&r->armed, 1);
    atomic_store(&pm__me(a)->asleep.v, 0);
    pm__os_wake(&pm__me(a)->asleep, 1);
}
