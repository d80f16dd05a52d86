# Actors, for those who have a reference to their mailbox.

Actor = namedtuple("Actor", "serial is_dead state attempt restarts_left pid calls")
_UNKNOWN = "unknown"


def actor(Arena arena not None, ObjectRef mailbox not None):
    """What an actor is and does: (Actor, its card or None if it is dead). Cost: the lock, twice."""
    cdef _c.pm_arena *a = arena.live()
    cdef uint64_t slot = arena._own(mailbox).slot
    cdef _c.pm_actor_info info
    cdef int rc = _c.pm_actor_look(a, _c.PM_TRY, slot, &info)
    while again(rc):
        with nogil:
            rc = _c.pm_actor_look(a, _c.PM_WAIT, slot, &info)
    check(rc, f"look at the actor of {mailbox!r}")
    card = None
    if not info.dead:
        try:
            card = arena._hold(info.card)
        except _exceptions.ObjectLostError:  # it has died meanwhile
            info.dead = True
    return Actor(
        info.serial,
        bool(info.dead),
        "dead" if info.dead else _TASK_STATES.get(info.state, _UNKNOWN),
        info.attempt,
        -1 if info.retries == _c.PM_RETRY_ALWAYS else info.retries,
        info.pid,
        info.calls,
    ), card


def restart_actor(Arena arena not None, ObjectRef mailbox not None):
    """Kill the process that an actor lives in; it is started again if it may be. No effect if it
    has none at this moment."""
    cdef _c.pm_arena *a = arena.live()
    cdef uint64_t slot = arena._own(mailbox).slot
    cdef int rc
    with nogil:
        rc = _c.pm_actor_kill(a, slot)
    if rc != _c.PM_ESTATE:
        check(rc, f"kill the process of {mailbox!r}")
