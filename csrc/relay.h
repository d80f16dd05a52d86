/* relay.h - a client's bell for a thread that waits for descriptors, too: an event loop.
 *
 * The bell is a futex, and no thread sleeps on a futex and on descriptors at once. So a second thread
 * of the process sleeps on the bell whenever the first one polls, and hands each ring over to an
 * eventfd. A ring that comes while the first one spins costs neither of them a sleep. */
#ifndef PM_RELAY_H
#define PM_RELAY_H

#include "arena.h"

typedef struct {
    int fd;           /* an eventfd, non-blocking; the caller's */
    pm_futex armed;   /* 1: the relaying thread is to sleep for the bell */
    pm_a64 dismissed; /* 1: it is to return */
} pm_relay;

/* Whether pm_try_next() may find something. */
bool pm_rung(const pm_arena *a);
/* Until the bell rings, the descriptor (of an epoll instance, say) is readable or `ns` have passed (-1:
 * any number); sooner is possible. Called by the thread that calls pm_try_next(), without the GIL. */
int pm_poll(pm_arena *a, pm_relay *r, int fd, int64_t ns);

/* The second thread: hand over until dismissed (PM_OK), or a signal handler has run (PM_EINTR). Both
 * fail with PM_ESYS, EBADF, when the eventfd is none any more: a program closes all descriptors. */
int pm_relay_run(pm_arena *a, pm_relay *r);
void pm_relay_dismiss(pm_arena *a, pm_relay *r);

#endif
