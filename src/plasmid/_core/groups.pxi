# Placement groups.

Group = namedtuple("Group", "serial state how size stays name")
_GROUP_STATES = ("free", "pending", "ready", "removed")


def create_group(Arena arena not None, list bundles, bytes name, uint64_t how, never, mine):
    """A group that is reserved as soon as all of it is free; its serial. bundles: of each a dict
    kind -> units. never: it cannot be on one machine; mine: it goes when this process leaves.
    ObjectExistsError if the name is taken."""
    cdef _c.pm_arena *a = arena.live()
    cdef _c.pm_group_spec spec
    cdef uint64_t serial = 0
    cdef uint64_t table[_c.PM_BUNDLES][16]
    cdef Py_ssize_t i
    if len(bundles) >= _c.PM_BUNDLES:
        raise ValueError(f"more than {_c.PM_BUNDLES - 1} bundles")
    memset(table, 0, sizeof(table))
    for i, bundle in enumerate(bundles):
        for kind, units in bundle.items():
            if not 0 <= kind < _c.PM_KINDS:
                raise ValueError(f"there is no resource {kind}")
            table[i][<Py_ssize_t>kind] = units
    spec.bundles = table
    spec.count = len(bundles)
    spec.name = name
    spec.how = how
    spec.never = never
    spec.mine = mine
    cdef int rc = _c.pm_group_create(a, _c.PM_TRY, &spec, &serial)
    while again(rc):
        with nogil:
            rc = _c.pm_group_create(a, _c.PM_WAIT, &spec, &serial)
    check(rc, "create a placement group")
    return serial


def remove_group(Arena arena not None, uint64_t serial):
    """Take a group away: what is queued in it fails, what runs in it the keeper kills. No harm if
    it is gone already."""
    cdef _c.pm_arena *a = arena.live()
    cdef int rc = _c.pm_group_remove(a, _c.PM_TRY, serial)
    while again(rc):
        with nogil:
            rc = _c.pm_group_remove(a, _c.PM_WAIT, serial)
    check(rc, "remove a placement group")


def groups(Arena arena not None):
    """The groups there are; removed ones as long as tasks name them."""
    cdef _c.pm_arena *a = arena.live()
    cdef _c.pm_group_info found[_c.PM_GROUPS]
    cdef uint64_t i, n = 0
    cdef int rc = _c.pm_groups(a, _c.PM_TRY, found, &n)
    while again(rc):
        with nogil:
            rc = _c.pm_groups(a, _c.PM_WAIT, found, &n)
    check(rc, "list placement groups")
    return [
        Group(
            found[i].serial,
            _GROUP_STATES[found[i].state],
            found[i].how,
            found[i].count,
            found[i].stays,
            found[i].name.decode(errors="replace"),
        )
        for i in range(n)
    ]


def group_bundles(Arena arena not None, uint64_t serial):
    """What each bundle of a group was to have: dicts kind -> units. TaskPlacementGroupRemoved."""
    cdef _c.pm_arena *a = arena.live()
    cdef uint64_t table[_c.PM_BUNDLES][16]
    cdef uint64_t i, k, n = 0
    cdef int rc = _c.pm_group_bundles(a, _c.PM_TRY, serial, table, &n)
    while again(rc):
        with nogil:
            rc = _c.pm_group_bundles(a, _c.PM_WAIT, serial, table, &n)
    check(rc, "look at a placement group")
    return [{k: table[i][k] for k in range(_c.PM_KINDS) if table[i][k]} for i in range(n)]


def group_runners(Arena arena not None):
    """(slot, epoch, pid) of the workers that run tasks of removed groups."""
    cdef _c.pm_arena *a = arena.live()
    cdef uint64_t slots[_c.PM_CLIENTS]
    cdef uint64_t i, n = 0
    cdef int rc = _c.pm_group_runners(a, _c.PM_TRY, slots, &n)
    while again(rc):
        with nogil:
            rc = _c.pm_group_runners(a, _c.PM_WAIT, slots, &n)
    check(rc, "look for tasks of removed placement groups")
    return [
        (slots[i], a.clients[slots[i]].epoch.v, a.clients[slots[i]].pid.v) for i in range(n)
    ]
