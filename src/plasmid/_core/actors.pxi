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


cdef class CallBell:
    """What an event loop learns from that there are calls of the actor that this process hosts.

    Processes and threads: one thread looks and polls; another one, the main thread, is in `relay`
    meanwhile.
    """

    cdef Arena _arena
    cdef _c.pm_relay _r
    cdef bint _has_more  # a call was found: there may be another
    cdef readonly bint is_over

    def __init__(self, Arena arena not None):
        self._arena = arena
        self._has_more = True
        self._r.fd = _os.eventfd(0, _os.EFD_CLOEXEC | _os.EFD_NONBLOCK)

    def look(self):
        """Take a call; None if there is none now. `is_over` from then on: there will be none any
        more, as nobody can call the actor, or the session has ended."""
        cdef _c.pm_arena *a = self._arena.live()
        cdef _c.pm_running out
        cdef int rc = _c.PM_EAGAIN
        if not self._has_more and not _c.pm_rung(a):
            return None
        while again(rc):
            with nogil:
                rc = _c.pm_try_next(a, &out)
        self._has_more = rc == _c.PM_OK
        if rc == _c.PM_ENOTFOUND:
            return None
        if rc == _c.PM_EDROPPED or rc == _c.PM_EGONE or rc == _c.PM_ELEFT:
            self.is_over = True
            return None
        check(rc, "take a call")
        return _running(self._arena, &out)

    def poll(self, int fd, timeout):
        """Sleep until there may be a call, or `fd` is readable, or `timeout` seconds have passed
        (None: any number); sooner is possible."""
        cdef _c.pm_arena *a = self._arena.live()
        cdef int64_t ns = -1 if timeout is None else <int64_t>(timeout * 1e9)
        cdef int rc
        with nogil:
            rc = _c.pm_poll(a, &self._r, fd, ns)
        if again(rc):
            return
        check(rc, "wait for a call")

    def relay(self):
        """Hand rings over to the thread that polls, until `dismiss`. Signal handlers run here."""
        cdef _c.pm_arena *a = self._arena.live()
        cdef int rc = _c.PM_EAGAIN
        while again(rc):
            with nogil:
                rc = _c.pm_relay_run(a, &self._r)
        check(rc, "wait for a call")

    def dismiss(self):
        """Have `relay` return."""
        _c.pm_relay_dismiss(self._arena.live(), &self._r)
