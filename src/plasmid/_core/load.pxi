# Who runs what, for the keeper.

Runner = namedtuple("Runner", "slot epoch pid started memory again actor")


def runners(Arena arena not None):
    """The workers with tasks on their stacks. started: time.monotonic_ns() of the outermost task's;
    memory: bytes that all of them asked for, 0 if none did; again: whether they may be run again,
    or the actor started again; actor: whether it is an actor's process. If there is none, the next
    task that is taken rings the keeper's bell. Cost: the lock, and a look at each client."""
    cdef _c.pm_arena *a = arena.live()
    cdef _c.pm_runner found[_c.PM_CLIENTS]
    cdef uint64_t i, n = 0
    cdef int rc = _c.pm_runners(a, _c.PM_TRY, found, &n)
    while again(rc):
        with nogil:
            rc = _c.pm_runners(a, _c.PM_WAIT, found, &n)
    check(rc, "look who runs tasks")
    return [
        Runner(
            found[i].slot,
            found[i].epoch,
            found[i].pid,
            found[i].started,
            found[i].memory,
            found[i].again,
            found[i].actor,
        )
        for i in range(n)
    ]
