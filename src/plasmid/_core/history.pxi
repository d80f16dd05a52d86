# What tasks do, and what became of the latest: for people.

Dependency = namedtuple("Dependency", "id serial name")
# actor: its serial, of an actor and its calls; mailbox: of an actor, the id of the reference.
TaskRecord = namedtuple(
    "TaskRecord",
    "serial parent name state attempt pid nargs nrets submitted started began returned ended error "
    "waiting waits_for actor mailbox calls",
    defaults=(0, None, 0),
)
_TASK_STATES = {
    _c.PM_TASK_BUILDING: "building",
    _c.PM_TASK_WAITING: "waiting",
    _c.PM_TASK_READY: "ready",
    _c.PM_TASK_RUNNING: "running",
    _c.PM_TASK_ABANDONED: "abandoned",
}
_OUTCOMES = {
    _c.PM_FINISHED: "finished",
    _c.PM_RAISED: "failed",
    _c.PM_CRASHED: "crashed",
    _c.PM_CANCELLED: "cancelled",
    _c.PM_RETRIED: "retried",
}


def ended_tasks(Arena arena not None, uint64_t start=0):
    """(TaskRecords of the attempts that ended, from event `start` on; the event to go on from). The
    latest 16,384 are kept. Times in ns of the monotonic clock; 0: never, or not known. No lock."""
    cdef _c.pm_arena *a = arena.live()
    cdef _c.pm_event events[64]
    cdef uint64_t n, i
    cdef int rc = _c.PM_OK
    found = []
    while rc != _c.PM_ENOTFOUND:
        n = 64
        rc = _c.pm_events(a, &start, events, &n)
        for i in range(n):
            found.append(_ended(&events[i]))
    return found, start


cdef object _ended(const _c.pm_event *e):
    return TaskRecord(
        e.serial,
        e.parent,
        (<bytes>e.name).decode(errors="replace"),
        _OUTCOMES[e.outcome],
        e.attempt,
        e.pid,
        0,
        0,
        e.submitted,
        e.started,
        e.began,
        e.returned,
        e.ended,
        (<bytes>e.error).decode(errors="replace"),
        0,
        (),
        e.actor,
    )


def live_tasks(Arena arena not None):
    """TaskRecords of the tasks that have not ended; those of one lock hold at a time, so not of one
    moment. `blocked` is running, asleep in a wait. waits_for: of the `waiting` arguments that are
    not there, the first four. Cost: the lock once per 64 tasks or 256 records."""
    cdef _c.pm_arena *a = arena.live()
    cdef _c.pm_task_info infos[64]
    cdef uint64_t start = 0, n, i
    cdef int rc = _c.PM_OK
    found = []
    while rc != _c.PM_ENOTFOUND:
        n = 64
        rc = _c.pm_survey_tasks(a, _c.PM_TRY, &start, infos, &n)
        while again(rc):
            n = 64
            with nogil:
                rc = _c.pm_survey_tasks(a, _c.PM_WAIT, &start, infos, &n)
        if rc != _c.PM_ENOTFOUND:
            check(rc, "list tasks")
        for i in range(n):
            found.append(_live(arena, &infos[i]))
    return found


cdef object _live(Arena arena, const _c.pm_task_info *t):
    cdef int k
    waits_for = [
        Dependency(
            _id(arena, t.deps[k].ref),
            t.deps[k].serial,
            (<bytes>t.deps[k].name).decode(errors="replace"),
        )
        for k in range(<int>min(t.waiting, <uint64_t>_c.PM_SURVEY_DEPS))
        if t.state == _c.PM_TASK_WAITING and t.deps[k].ref.generation
    ]
    return TaskRecord(
        t.serial,
        t.parent,
        (<bytes>t.name).decode(errors="replace"),
        "blocked" if t.blocked else _TASK_STATES[t.state],
        t.attempt,
        t.pid,
        t.nargs,
        t.nrets,
        t.submitted,
        t.started,
        0,
        0,
        0,
        "",
        t.waiting,
        tuple(waits_for),
        t.actor,
        _id(arena, t.mailbox) if t.actor == t.serial else None,
        t.calls,
    )
