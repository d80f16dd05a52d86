# Arena: one process's handle to the session's shared memory. Objects and waiting.

from collections import namedtuple

Client = namedtuple("Client", "slot epoch kind pid start_time lifeline pipe")
Holder = namedtuple("Holder", "client pid kind pins")
StoredObject = namedtuple(
    "StoredObject",
    "id state size bytes is_inline stripped kept refs contained task site holder_count holders",
)
_STATES = ("free", "pending", "sealed", "exception", "freed", "offering", "spilled")
# Why a process can do nothing in a session any more.
SHUT_DOWN = "the session has been shut down"
LEFT = _c.pm_strerror(_c.PM_ELEFT).decode() + "; init() joins it again, or begins another"
GONE = _c.pm_strerror(_c.PM_EGONE).decode() + "; init() begins another, or joins one"
_UNSEALED = object()  # read() of an entry that has no value yet
UNSEALED = _UNSEALED

cdef enum:
    GIL_BYTES = 65536  # a longer copy lets other threads run


@cython.final
@cython.no_gc
cdef class Arena:
    """The arena of a session, mapped into this process, and this process's place in it.

    `hooks` is the engine's, None in a process without one: load(buffer, refs, writable) makes a
    value of stored bytes, failed(error) raises a stored exception, future(ref), get_one(ref,
    timeout) waits for a value, capsules makes capsules of it, patience(nbytes), full(nbytes,
    waited) and spilling() are about a full store, remake(ref) makes a lost object again.

    Processes and threads: all methods may be called from any thread. Those that may sleep (wait,
    next_task, and any that finds the lock busy) do so without the GIL and see signals. After fork()
    every method raises SessionError in the child. Failures of the arena itself are
    StoreCorruptError, StoreLockedError, SessionError.
    """
    cdef _c.pm_arena *_a
    cdef readonly bytes session
    cdef public object hooks
    cdef bint _left, _ended
    cdef Pin _pins  # head of the list of this process's views
    cdef _c.pm_arena *_heir  # in a forked child: its own handle, which pins what it inherited
    cdef object __weakref__
    cdef object _leases  # slot -> Lease, weakly
    cdef Py_ssize_t _unsealed  # of them

    def __cinit__(self):
        self._leases = WeakValueDictionary()
        self._pins.next = self._pins.prev = &self._pins
        _arenas.add(self)

    @staticmethod
    def create(heap_bytes, cpus, others=(), disk_bytes=0):
        """A new session's arena with a heap of that many bytes; `cpus` in 1/10000 CPU. This process
        is its driver. others: (name as bytes, amount) of what else tasks may use: GPU, then memory,
        then what they ask for by name; at most KINDS - 1. disk_bytes: that may be spilled."""
        cdef Arena self = Arena.__new__(Arena)
        cdef uint64_t heap = heap_bytes, disk = disk_bytes, n = 1 + len(others)
        cdef _c.pm_total totals[_c.PM_KINDS]
        cdef int rc
        if n > _c.PM_KINDS:
            raise ValueError(f"more than {_c.PM_KINDS} kinds of resources")
        totals[0].name, totals[0].amount = b"CPU", cpus
        for i, (name, amount) in enumerate(others, start=1):
            totals[i].name, totals[i].amount = name, amount
        with nogil:
            rc = _c.pm_open_new(heap, disk, totals, n, &self._a)
        check(rc, f"create an arena of {heap_bytes} bytes")
        self.session = self._a.h.session[:16]
        return self

    @staticmethod
    def attach(int fd, int kind, int driver_pidfd=-1, int bell=-1):
        """Join the arena behind fd as core.KEEPER, WORKER or GUEST. When the driver behind the
        pidfd ends, a keeper or worker is killed at once by a C thread; a guest's calls raise
        SessionError. SessionNotFoundError if it has ended already. The descriptors stay the
        caller's."""
        cdef Arena self = Arena.__new__(Arena)
        cdef int rc
        with nogil:
            rc = _c.pm_open_fd(fd, <_c.pm_kind>kind, driver_pidfd, bell, &self._a)
        if rc == _c.PM_EGONE:
            over = _c.pm_strerror(rc).decode()
            raise _exceptions.SessionNotFoundError(f"join the session: {over}")
        check(rc, "join the session")
        self.session = self._a.h.session[:16]
        return self

    def __dealloc__(self):
        _close(self._a)
        _close(self._heir)

    cdef _c.pm_arena *live(self) except NULL:
        cdef int rc = _c.PM_ELEFT if self._left else _c.pm__over(self._a)
        if rc != _c.PM_OK:
            raise self._over(rc)
        return self._a

    cdef _c.pm_arena *mine(self) except NULL:
        """The same in a session that is over, as long as this process has not left it."""
        cdef int rc = _c.PM_ELEFT if self._left else _c.pm__over(self._a)
        if rc != _c.PM_OK and rc != _c.PM_EGONE:
            raise self._over(rc)
        return self._a

    cdef object _over(self, int rc):
        """The error that says why this process can do nothing here any more."""
        if rc == _c.PM_EFORKED:
            return _exceptions.SessionError(
                "this process is a fork of a member of the session; call init() in it, or start it "
                "another way"
            )
        if self._ended:
            return _exceptions.SessionError(SHUT_DOWN)
        return _exceptions.SessionError(LEFT if rc == _c.PM_ELEFT else GONE)

    # ---- the session

    @property
    def fd(self):
        return self._a.fd

    @property
    def bell(self):
        return self._a.bell

    def set_bell(self, int fd):
        """Ring this eventfd when the keeper should look. Once, before anybody joins; the arena
        keeps a copy of the descriptor."""
        check(_c.pm_set_bell(self.live(), fd), "keep the keeper's bell")

    def use_disk(self, int fd):
        """Spill to this file. Once, before anybody joins; the arena keeps a copy of the
        descriptor."""
        check(_c.pm_disk_use(self.live(), fd), "keep the spill file")

    def use_huge_pages(self):
        """Have objects on huge pages, where the machine gives them to shared memory. Once, before
        anybody joins."""
        _c.pm_huge_pages(self.live())

    @property
    def slot(self):
        return self._a.slot

    @property
    def epoch(self):
        return self._a.epoch

    @property
    def cpu_total(self):
        return self.live().h.total[_c.PM_CPU] / 10000.0

    @property
    def cpu_free(self):
        """CPUs that no running task has; negative while tasks that woke up are in debt."""
        return <int64_t>self.live().h.bundles[0].free[_c.PM_CPU].v / 10000.0

    def resources(self):
        """Name -> (total, free) of each kind of resource, in the core's order of kinds and its
        units; free is negative while tasks that woke up are in debt."""
        cdef _c.pm_header_shm *h = self.live().h
        return {
            h.kind_names[k].decode(): (h.total[k], <int64_t>h.bundles[0].free[k].v)
            for k in range(h.kinds)
        }

    @property
    def heap_bytes(self):
        return self.live().h.heap_bytes

    def clients(self):
        """The attached processes, the dead that nobody has swept yet included."""
        cdef _c.pm_arena *a = self.live()
        cdef uint64_t i
        self.stats()  # takes the lock once: what a death left half written is repaired first
        found = []
        for i in range(_c.pm__client_high(a)):
            if a.clients[i].kind.v:
                found.append(
                    Client(
                        i,
                        a.clients[i].epoch.v,
                        a.clients[i].kind.v,
                        a.clients[i].pid.v,
                        a.clients[i].start_time.v,
                        <int>a.clients[i].lifeline.v - 1,
                        a.clients[i].pipe.v,
                    )
                )
        return found

    def sweep(
        self, uint64_t slot, uint64_t epoch, int64_t cause, tuple memory=(0, 0, 0, 0, 0)
    ):
        """Give back what a dead client held; retry or fail what it ran. cause: exit status,
        -signal, CAUSE_UNKNOWN, or with what is known of that, 0 where nothing is, CAUSE_MEMORY,
        CAUSE_SHORT or CAUSE_EXCESS: used, peak, limit, group_used and group_peak of an
        OutOfMemoryError. False if it is alive, or was swept before."""
        cdef _c.pm_death how
        cdef _c.pm_arena *a = self.live()
        how.cause = cause
        how.used, how.peak, how.limit, how.group_used, how.group_peak = memory
        cdef int rc = _c.PM_EAGAIN
        while again(rc):
            with nogil:
                rc = _c.pm_sweep(a, slot, epoch, &how)
        if rc == _c.PM_EALIVE or rc == _c.PM_ENOTFOUND:
            return False
        check(rc, "sweep a dead client")
        return True

    def wake_all(self):
        _c.pm__wake_everyone(self.live())

    def set_aside(self, uint64_t slot, uint64_t epoch):
        """That worker has been stopped: if it runs nothing, others come in its place until it goes
        on."""
        cdef _c.pm_arena *a = self.live()
        cdef int rc = _c.PM_EAGAIN
        while again(rc):
            with nogil:
                rc = _c.pm_set_aside(a, _c.PM_WAIT, slot, epoch)
        check(rc, "set a stopped worker aside")

    def dismiss_myself(self):
        """This worker, which runs nothing, takes no task any more, and another may come in its
        place."""
        cdef _c.pm_arena *a = self.live()
        cdef int rc = _c.PM_EAGAIN
        while again(rc):
            with nogil:
                rc = _c.pm_dismiss_myself(a, _c.PM_WAIT)
        check(rc, "leave the workers")

    @property
    def is_mixed(self):
        """Whether there has been a task that not every worker may run, or not on any stack."""
        return _c.pm_is_mixed(self.live())

    def workers_wanted(self, uint64_t cap):
        """How many more workers would help now, given at most `cap` in all."""
        cdef _c.pm_arena *a = self.live()
        cdef uint64_t wanted = 0
        cdef int rc = _c.pm_workers_wanted(a, _c.PM_TRY, cap, &wanted)
        while again(rc):
            with nogil:
                rc = _c.pm_workers_wanted(a, _c.PM_WAIT, cap, &wanted)
        check(rc, "count wanted workers")
        return wanted

    def stall(self):
        """If no task goes on though a queued one fits, since all workers are at tasks that wait: a
        number that grows with each task that leaves a queue. Else None."""
        cdef _c.pm_arena *a = self.live()
        cdef uint64_t moved = 0
        cdef int rc = _c.pm_stall(a, _c.PM_TRY, &moved)
        while again(rc):
            with nogil:
                rc = _c.pm_stall(a, _c.PM_WAIT, &moved)
        if rc == _c.PM_ENOTFOUND:
            return None
        check(rc, "look whether tasks go on")
        return moved

    def set_boot(self, bytes blob):
        """Keep the session's configuration in the arena; once."""
        cdef ObjectRef ref = self.put_bytes(blob)
        cdef _c.pm_arena *a = self.live()
        cdef uint64_t slot = ref.slot
        cdef int rc = _c.PM_EAGAIN
        while again(rc):
            with nogil:
                rc = _c.pm_set_boot(a, _c.PM_WAIT, slot)
        check(rc, "store the session's configuration")

    def boot(self):
        """The session's configuration."""
        cdef _c.pm_arena *a = self.live()
        cdef _c.pm_ref ref
        cdef _c.pm_view view
        cdef int rc = _c.PM_EAGAIN
        while again(rc):  # many who join at once are at the lock
            with nogil:
                rc = _c.pm_boot(a, _c.PM_WAIT, &ref)
        check(rc, "read the session's configuration")
        holder = _new_ref(self, ref.slot, ref.generation)
        check(_c.pm_look(self._a, ref.slot, &view), "read the session's configuration")
        return PyBytes_FromStringAndSize(<const char *>view.data, view.size)

    def set_failure(self, bytes why):
        """Say why no worker can be started, b"" that they can again. Meanwhile waiting calls raise
        SessionError with it."""
        _c.pm_fail(self.live(), why)

    def failure(self):
        return _c.pm_failure(self.live()).decode(errors="replace")

    @property
    def has_surplus(self):
        """Whether there are more workers than num_cpus asks for, or this one was dismissed."""
        return _c.pm_has_surplus(self.live())

    @property
    def is_short_of_workers(self):
        """Whether all workers are at tasks, blocked ones too, and yet CPU is left."""
        return _c.pm_is_short_of_workers(self.live())

    def check(self):
        """Prove every invariant of the arena; StoreCorruptError names what is wrong. Takes the lock
        for O(everything)."""
        cdef _c.pm_arena *a = self.live()
        cdef char why[512]
        cdef int rc = _c.PM_EAGAIN
        why[0] = 0
        while again(rc):
            with nogil:
                rc = _c.pm_check(a, why, sizeof(why))
        if rc != _c.PM_OK and why[0]:
            raise _exceptions.StoreCorruptError(f"check: {why.decode(errors='replace')}")
        check(rc, "check")

    def stats(self):
        """What is in the arena, as a dict of counts and bytes; cpu_* in 1/10000 CPU."""
        cdef _c.pm_arena *a = self.live()
        cdef _c.pm_stats found
        cdef int rc = _c.pm_stats_read(a, _c.PM_TRY, &found)
        while again(rc):
            with nogil:
                rc = _c.pm_stats_read(a, _c.PM_WAIT, &found)
        check(rc, "read statistics")
        return found

    def dump(self, uint64_t most=100):
        """The arena as text for people, at most that many records of each table. Takes the lock
        while it formats."""
        cdef _c.pm_arena *a = self.live()
        cdef char *text = NULL
        cdef int rc = _c.PM_EAGAIN
        while again(rc):
            with nogil:
                rc = _c.pm_dump(a, most, &text)
        check(rc, "dump")
        try:
            return text.decode(errors="replace")
        finally:
            free(text)

    def end(self):
        """Nobody may join any more; idle workers leave."""
        cdef _c.pm_arena *a = self.live()
        self._ended = True
        _c.pm_end(a)

    @property
    def closing(self):
        """Whether end() was called, by anyone."""
        return _c.pm_is_ending(self.live())

    @property
    def is_over(self):
        """Of a guest: whether the driver has ended, or has shut the session down. Every call raises
        SessionError then."""
        return _c.pm__over(self.mine()) == _c.PM_EGONE

    def leave(self):
        """Leave the session. Views of its objects stay valid as long as they live; every other use
        raises SessionError."""
        cdef _c.pm_arena *a = self.mine()
        self._left = True
        with nogil:
            _c.pm_leave(a, False)

    def retire(self):
        """Leave a session that goes on: references of this process keep nothing any more. Views
        stay valid and their objects in the store as long as they live; every other use raises
        SessionError."""
        cdef _c.pm_arena *a = self.mine()
        self._left = True
        # With the GIL: so no reference or view of another thread goes meanwhile.
        check(_c.pm_retire(a), "leave the session")

    # ---- objects

    def put_small(self, value):
        """A reference to a sealed None, bool, int of 64 bits, float, short str or bytes; None for
        any other value."""
        cdef unsigned char raw[_c.PM_INLINE]
        cdef Py_ssize_t size = encode_small(value, raw, _c.PM_INLINE)
        if size == 0:
            return None
        return self._put(raw, size)

    def put_bytes(self, bytes raw):
        """A sealed object of exactly these stored bytes."""
        if len(raw) <= _c.PM_INLINE:
            return self._put(<const unsigned char *>PyBytes_AS_STRING(raw), len(raw))
        pending = self.create_object(len(raw), ())
        pending.write(0, raw)
        return pending.seal()

    cdef ObjectRef _put(self, const unsigned char *raw, Py_ssize_t size):
        cdef _c.pm_arena *a = self.live()
        cdef _c.pm_ref ref
        cdef int rc = _c.pm_put(a, _c.PM_TRY, raw, size, &ref)
        while again(rc):
            with nogil:
                rc = _c.pm_put(a, _c.PM_WAIT, raw, size, &ref)
        check(rc, "put")
        return _new_ref(self, ref.slot, ref.generation)

    def create_object(self, uint64_t nbytes, refs):
        """A Pending object of nbytes that contains these references (a sequence of ObjectRef).

        When no free block is that large, others go to the disk. Raises ObjectStoreFullError when
        none can, nor a block comes to be free in the time that hooks.patience() gives. Cost: a
        block, and the lock once per 16 references."""
        cdef _c.pm_arena *a = self.live()
        cdef Py_ssize_t i, n = len(refs)
        cdef _c.pm_ref out
        cdef _c.pm_ref *table = NULL
        cdef int rc
        if n:
            table = <_c.pm_ref *>PyMem_Malloc(n * sizeof(_c.pm_ref))
            if table == NULL:
                raise MemoryError()
        try:
            for i in range(n):
                table[i] = self._own(refs[i])
            rc = _c.pm_create(a, _c.PM_TRY, nbytes, table, n, &out)
            while again(rc):
                with nogil:
                    rc = _c.pm_create(a, _c.PM_WAIT, nbytes, table, n, &out)
            if rc == _c.PM_EFULL:
                self._create_in_time(nbytes, table, n, &out)
                rc = _c.PM_OK
        finally:
            PyMem_Free(table)
        check(rc, f"create an object of {nbytes} bytes")
        if self.hooks is not None and _c.pm_tell_of_spilling(a):
            self.hooks.spilling()
        cdef Pending pending = Pending.__new__(Pending)
        pending._arena = self
        pending.ref = _new_ref(self, out.slot, out.generation)
        pending.nbytes = nbytes
        rc = _c.pm_contain(a, _c.PM_TRY, out.slot)
        while again(rc):
            with nogil:
                rc = _c.pm_contain(a, _c.PM_WAIT, out.slot)
        check(rc, "store references inside an object")
        return pending

    cdef int _create_in_time(
        self, uint64_t nbytes, const _c.pm_ref *refs, uint64_t n, _c.pm_ref *out
    ) except -1:
        """Stand in line for room, as long as hooks.patience() says."""
        cdef double patience = 0 if self.hooks is None else self.hooks.patience(nbytes)
        cdef double first = min(patience, 0.1)
        cdef uint64_t ticket = 0
        cdef int rc = self._stand_in_line(nbytes, refs, n, first, &ticket, out)
        if rc == _c.PM_ETIMEOUT:
            _gc.collect()  # what only a cycle keeps; it may take longer than others' next drop
            rc = self._stand_in_line(nbytes, refs, n, patience - first, &ticket, out)
        if rc == _c.PM_ETIMEOUT:
            rc = _c.PM_EFULL
        if rc == _c.PM_EFULL and self.hooks is not None:
            raise self.hooks.full(nbytes, patience)
        check(rc, f"create an object of {nbytes} bytes")
        return 0

    cdef int _stand_in_line(
        self,
        uint64_t nbytes,
        const _c.pm_ref *refs,
        uint64_t n,
        double patience,
        uint64_t *ticket,
        _c.pm_ref *out,
    ) except? -1:
        cdef uint64_t deadline = _c.pm__os_now() + <uint64_t>(patience * 1e9)
        cdef int rc = _c.PM_EAGAIN
        while again(rc):
            with nogil:
                rc = _c.pm_create_in_time(self._a, nbytes, refs, n, deadline, ticket, out)
        return rc

    def create_in_place(self, uint64_t nbytes):
        """A Lease of a new object with room for nbytes of data, at DATA_OFFSET from its first byte,
        after a header that is yet to be written. The data begins on a page and holds anything."""
        pending = self.create_object(max(DATA_OFFSET + nbytes, _IN_PLACE_MINIMUM), ())
        return _lease(self, (<Pending>pending).ref, nbytes)

    def in_place(self):
        """Whether this process has a lease of any object that has not been sealed."""
        return self._unsealed > 0

    def lease_of(self, ObjectRef ref not None):
        """This process's lease of an object that has not been sealed, or None."""
        found = self._leases.get(ref.slot)
        if found is None or (<Lease>found).sealed or found.ref.generation != ref.generation:
            return None
        return found

    def locate(self, data):
        """Whose memory a contiguous buffer is: (reference, offset from the object's first byte).
        None if it is not in the arena. Two comparisons for memory that is not."""
        cdef Py_buffer view
        cdef _c.pm_arena *a = self.live()
        cdef _c.pm_ref ref
        cdef uint64_t offset
        cdef const char *at
        cdef int rc
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        at = <const char *>view.buf
        cdef uint64_t nbytes = view.len
        PyBuffer_Release(&view)
        rc = _c.pm_locate(a, at, nbytes, &ref, &offset)
        if rc == _c.PM_OK:
            return _new_ref(self, ref.slot, ref.generation), offset
        if self._unsealed:
            for found in list(self._leases.values()):
                lease = <Lease>found
                if not lease.sealed and lease._window.at <= at and (
                    at + nbytes <= lease._window.at + lease.nbytes
                ):
                    return lease.ref, DATA_OFFSET + <uint64_t>(at - lease._window.at)
        return None

    def open(self, ObjectRef ref not None, uint64_t offset, uint64_t nbytes, bint writable=False):
        """A memoryview of stored bytes that owns a pin: read-only; writable for an object that is
        not sealed yet; with `writable` private. ObjectFreedError, ObjectCorruptedError if there are
        no such bytes."""
        cdef _c.pm_arena *a = self.live()
        cdef _c.pm_view view
        cdef uint64_t start = 0, length
        self._own(ref)
        if _c.pm_state(a, ref.slot) == _c.PM_PENDING:
            length = a.entries[ref.slot].size.v - DATA_OFFSET
            buffer = _lease(self, ref, length)
            start = DATA_OFFSET
        else:
            buffer = None
        if buffer is None:
            buffer = _new_buffer(self, ref.slot, &view)
            length = view.size
            if view.is_inline and not writable:  # the entry itself is not for users' eyes
                buffer = PyBytes_FromStringAndSize(<const char *>view.data, view.size)
            if writable:
                buffer = _private(self, ref.slot, &view)
        if offset < start or offset - start > length or nbytes > length - (offset - start):
            raise _exceptions.ObjectCorruptedError(
                f"{nbytes} bytes at {offset} of {ref!r}, which has {start + length}"
            )
        return memoryview(buffer)[offset - start : offset - start + nbytes]

    def small_bytes(self, ObjectRef ref not None):
        """What stands after the tag of a value that put_small() stored; None for other objects."""
        cdef _c.pm_view view
        self._own(ref)
        cdef int rc = _c.pm_look(self.live(), ref.slot, &view)
        if rc == _c.PM_ESPILLED:
            return None
        check(rc, f"get the bytes of {ref!r}")
        if not view.is_inline or view.size == 0 or (<const unsigned char *>view.data)[0] >= TAG_END:
            return None
        return PyBytes_FromStringAndSize(<const char *>view.data + 1, view.size - 1)

    def contained(self, ObjectRef ref not None):
        """The references that a sealed object contains, in order."""
        cdef _c.pm_view view
        cdef uint64_t i
        self._own(ref)
        cdef int rc = _c.pm_look(self.live(), ref.slot, &view)
        if rc != _c.PM_ESPILLED:
            check(rc, f"read {ref!r}")
        if view.nrefs == 0:
            return []
        pin = _new_buffer(self, ref.slot, &view)  # free() takes none of them away meanwhile
        return [self._hold(view.refs[i]) for i in range(view.nrefs)]

    def free(self, ObjectRef ref not None):
        """Give up the object's bytes, whoever has references. Reading it is ObjectFreedError from
        now on. ValueError if it is still being written."""
        cdef _c.pm_arena *a = self.live()
        self._own(ref)
        cdef int rc = _c.pm_free(a, _c.PM_TRY, ref.slot)
        while again(rc):
            with nogil:
                rc = _c.pm_free(a, _c.PM_WAIT, ref.slot)
        check(rc, f"free {ref!r}")

    cdef _c.pm_ref _own(self, object ref) except *:
        cdef _c.pm_ref out
        if type(ref) is not ObjectRef:
            raise TypeError(f"expected an ObjectRef, not {type(ref).__name__}")
        if (<ObjectRef>ref)._arena is not self:
            raise _exceptions.ObjectLostError(
                f"{ref!r} belongs to an earlier session of this program, which it has shut down or "
                "left"
            )
        out.slot = (<ObjectRef>ref).slot
        out.generation = (<ObjectRef>ref).generation
        return out

    def is_ready(self, ObjectRef ref not None):
        """Whether the value is there. One load."""
        return bool(self._is_ready(self.live(), ref))

    def linger(self, ObjectRef ref not None, double seconds):
        """Whether the value is there, or comes within so short a time. Spins, without the GIL."""
        cdef const _c.pm_arena *a = self.live()
        self._own(ref)
        cdef uint64_t slot = ref.slot
        cdef bint ready
        with nogil:
            ready = _c.pm_linger(a, slot, <uint64_t>(seconds * 1e9))
        return bool(ready)

    def is_failed(self, ObjectRef ref not None):
        """Whether an error is there in place of a value. One load."""
        self._own(ref)
        return _c.pm_state(self.live(), ref.slot) == _c.PM_FAILED

    def size_of(self, ObjectRef ref not None):
        """Stored bytes of an object, None while it has no value."""
        cdef _c.pm_view view
        self._own(ref)
        cdef int rc = _c.pm_look(self.live(), ref.slot, &view)
        return view.size if rc == _c.PM_OK or rc == _c.PM_ESPILLED else None

    def read(self, ObjectRef ref not None, bint writable=False):
        """The value, or UNSEALED; a stored exception is raised by hooks.failed. writable: buffers
        are private copies, made page by page as they are written."""
        self._own(ref)
        self.live()
        return self._read(ref.slot, writable)

    cdef object _read(self, uint64_t slot, bint writable):
        """Of an entry that this process holds, or that a task it runs takes as an argument."""
        cdef _c.pm_view view
        cdef uint64_t i
        cdef object value, buffer
        cdef int rc = _c.pm_look(self._a, slot, &view)
        if rc == _c.PM_ESTATE:
            return _UNSEALED
        if rc == _c.PM_EFREED:
            raise _freed(self, slot)
        if rc != _c.PM_ESPILLED:
            check(rc, "get")
        if view.is_inline and view.size and (<const unsigned char *>view.data)[0] < TAG_END:
            if (<const unsigned char *>view.data)[0] == _c.PM_TAG_BEREAVED:
                value = self._bereaved(&view)
            else:
                value = decode_small(<const unsigned char *>view.data, view.size)
        else:
            # The pin before the references inside: free() takes away neither while it is there.
            buffer = None if view.is_inline and not view.nrefs else _new_buffer(self, slot, &view)
            refs = [self._hold(view.refs[i]) for i in range(view.nrefs)] if view.nrefs else ()
            if writable and view.state == _c.PM_SEALED:
                buffer = _private(self, slot, &view)
                value = self.hooks.load(buffer, refs, True)
            elif view.is_inline:
                value = self.hooks.load(
                    PyBytes_FromStringAndSize(<const char *>view.data, view.size), refs
                )
            else:
                value = self.hooks.load(buffer, refs)
        if view.state == _c.PM_FAILED:
            return self.hooks.failed(value)
        return value

    cdef int _bring_back(self, uint64_t slot) except -1:
        """Have the bytes of an object that was spilled in the store again. ObjectLostError,
        ObjectStoreFullError."""
        cdef _c.pm_arena *a = self._a
        cdef uint64_t into
        cdef int rc = _c.PM_EAGAIN
        while again(rc):
            with nogil:
                rc = _c.pm_await_back(a, slot)
        if rc != _c.PM_ESPILLED:
            return check(rc, "get")
        try:
            carrier = self.create_object(_c.pm_away_bytes(a, slot), ())
        except BaseException:
            _c.pm_unpin(a, slot)
            raise
        into = (<Pending>carrier).ref.slot
        with nogil:
            rc = _c.pm_bring_back(a, slot, into)
        if rc == _c.PM_ELOST and self.hooks is not None:
            self._replace(slot, self.hooks.remake(self._hold(_c.pm_ref_of(a, slot))))
            return 0
        return check(rc, f"get ObjectRef({_id(self, _c.pm_ref_of(a, slot)).hex()})")

    cdef int _replace(self, uint64_t slot, ObjectRef made) except -1:
        """Give a lost object the bytes of another, unless it has been brought back meanwhile."""
        cdef _c.pm_view view
        cdef uint64_t i, into
        cdef _c.pm_arena *a = self._a
        cdef Pending pending
        cdef int rc = _c.PM_EAGAIN
        buffer = _new_buffer(self, made.slot, &view)
        if view.is_inline:  # what was lost had a block
            raise _exceptions.ObjectReconstructionFailedError(
                f"get: ObjectRef({_id(self, _c.pm_ref_of(a, slot)).hex()}) was lost, and its task "
                "returns something else when it is run again: a few bytes"
            )
        refs = [self._hold(view.refs[i]) for i in range(view.nrefs)]
        while again(rc):
            with nogil:
                rc = _c.pm_await_back(a, slot)
        if rc != _c.PM_ESPILLED:
            return check(rc, "get")
        try:
            pending = self.create_object(view.size, refs)
            pending.write(0, buffer)
        except BaseException:
            _c.pm_unpin(a, slot)
            raise
        into = pending.ref.slot
        with nogil:
            rc = _c.pm_replace(a, slot, into)
        return check(rc, "replace a lost object")

    def recipe(self, ref):
        """How to make an object again: (index of it among its task's results, the first arguments
        of submit()). None if it was put, or something that it was made from is gone."""
        cdef _c.pm_arena *a = self.live()
        cdef _c.pm_recipe found
        cdef uint64_t i
        cdef uint64_t slot = self._own(ref).slot
        cdef int rc = _c.PM_EAGAIN
        while again(rc):
            with nogil:
                rc = _c.pm_recipe_of(a, _c.PM_WAIT, slot, &found)
        if rc == _c.PM_ENOTFOUND:
            return None
        check(rc, "look how a lost object was made")
        function = _new_ref(self, found.function.slot, found.function.generation)
        args = [
            _new_ref(self, found.args[i].slot, found.args[i].generation)
            for i in range(found.nargs)
        ]
        payload = packed = None
        if found.packed:
            packed = _new_ref(self, found.arguments.slot, found.arguments.generation)
        else:
            payload = PyBytes_FromStringAndSize(<const char *>found.payload, found.size)
        waits = sum(found.waits[i] for i in range(found.nargs))
        retries = -1 if found.retries == _c.PM_RETRY_ALWAYS else found.retries
        spec = (function, <bytes>found.name, payload, packed, args, waits)
        return found.index, (*spec, found.nrets, found.cpu, retries)

    cdef object _bereaved(self, const _c.pm_view *view):
        """What a call of a dead actor has for a result: made from what became of the actor."""
        cdef uint64_t head = _c.PM_BEREAVED_BYTES
        name = PyBytes_FromStringAndSize(<const char *>view.data + head, view.size - head)
        cdef ObjectRef obituary = self._hold(view.refs[0])
        try:
            cause = self._read(obituary.slot, False)
        except Exception as error:
            cause = error.with_traceback(None)  # which leads to whoever reads, and the reference
        return _exceptions.ActorDiedError.of(
            name.decode(errors="replace"),
            _ids.of_actor(self.session, obituary.producer).hex(),
            cause,
        )

    cdef ObjectRef _hold(self, _c.pm_ref ref):
        cdef _c.pm_arena *a = self._a
        cdef int rc = _c.pm_hold(a, _c.PM_TRY, ref)
        while again(rc):
            with nogil:
                rc = _c.pm_hold(a, _c.PM_WAIT, ref)
        if rc:
            check(rc, f"take a reference to ObjectRef({_id(self, ref).hex()})")
        return _new_ref(self, ref.slot, ref.generation)

    def ref_from_id(self, bytes binary):
        """The reference with this id. ObjectLostError if it is of another session or no longer
        alive."""
        cdef _c.pm_ref ref
        cdef uint32_t slot
        self.live()
        if len(binary) != _c.PM_KEY:
            raise ValueError(f"an object id has {_c.PM_KEY} bytes, not {len(binary)}")
        if binary[:16] != self.session:
            raise _exceptions.ObjectLostError(
                f"ObjectRef({binary.hex()}) belongs to another session"
            )
        memcpy(&slot, PyBytes_AS_STRING(binary) + 16, 4)
        memcpy(&ref.generation, PyBytes_AS_STRING(binary) + 20, 8)
        ref.slot = slot
        return self._hold(ref)

    def find(self, bytes key):
        """The object with this key, or None."""
        cdef _c.pm_arena *a = self.live()
        cdef _c.pm_ref ref
        cdef const unsigned char *raw = _key(key)
        cdef int rc = _c.pm_find(a, _c.PM_TRY, raw, &ref)
        while again(rc):
            with nogil:
                rc = _c.pm_find(a, _c.PM_WAIT, raw, &ref)
        if rc == _c.PM_ENOTFOUND:
            return None
        check(rc, "find")
        return _new_ref(self, ref.slot, ref.generation)

    def name(self, ObjectRef ref not None, bytes key):
        """Give an object a key that goes with it. False if another object has it."""
        cdef _c.pm_arena *a = self.live()
        cdef const unsigned char *raw = _key(key)
        self._own(ref)
        cdef int rc = _c.pm_name(a, _c.PM_TRY, ref.slot, raw)
        while again(rc):
            with nogil:
                rc = _c.pm_name(a, _c.PM_WAIT, ref.slot, raw)
        if rc == _c.PM_EEXISTS:
            return False
        check(rc, "name an object")
        return True

    def keep(self, ObjectRef ref not None, bytes key):
        """Give an object a key that keeps it alive, until unkeep(). False if another object has
        it."""
        cdef _c.pm_arena *a = self.live()
        cdef const unsigned char *raw = _key(key)
        self._own(ref)
        cdef int rc = _c.pm_keep(a, _c.PM_TRY, ref.slot, raw)
        while again(rc):
            with nogil:
                rc = _c.pm_keep(a, _c.PM_WAIT, ref.slot, raw)
        if rc == _c.PM_EEXISTS:
            return False
        check(rc, "keep an object")
        return True

    def unkeep(self, ObjectRef ref not None, bytes key):
        """Undo keep(). False if that object does not have that key any more."""
        cdef _c.pm_arena *a = self.live()
        cdef const unsigned char *raw = _key(key)
        self._own(ref)
        cdef int rc = _c.pm_unkeep(a, _c.PM_TRY, ref.slot, raw)
        while again(rc):
            with nogil:
                rc = _c.pm_unkeep(a, _c.PM_WAIT, ref.slot, raw)
        if rc == _c.PM_ENOTFOUND:
            return False
        check(rc, "forget a key")
        return True

    def kept(self):
        """The objects that keep() keeps. Cost: the lock once per 256 keys ever used at a time."""
        cdef _c.pm_arena *a = self.live()
        cdef _c.pm_ref refs[64]
        cdef uint64_t start = 0, n, i
        cdef int rc = _c.PM_OK
        found = []
        while rc != _c.PM_ENOTFOUND:
            n = 64
            rc = _c.pm_kept(a, _c.PM_TRY, &start, refs, &n)
            while again(rc):
                n = 64
                with nogil:
                    rc = _c.pm_kept(a, _c.PM_WAIT, &start, refs, &n)
            if rc != _c.PM_ENOTFOUND:
                check(rc, "list kept objects")
            for i in range(n):
                try:
                    found.append(self._hold(refs[i]))
                except _exceptions.ObjectLostError:
                    pass  # forgotten since it was listed
        return found

    @property
    def expiry(self):
        """When the keeper should look at kept objects, on the monotonic clock in ns; 0: never."""
        return _c.pm_a64_load(&self.live().h.expiry)

    def expire_by(self, uint64_t ns):
        """Have the keeper look at kept objects then, if not before."""
        _c.pm_expire_by(self.live(), ns)

    @property
    def clock(self):
        """How many blocks have been made in this session."""
        return _c.pm_a64_load(&self.live().h.clock)

    @property
    def is_loose(self):
        """Whether large blocks have been given back since trim()."""
        return bool(_c.pm_a64_load(&self.live().h.loose))

    def trim(self, uint64_t keep):
        """Give free memory of the store back to the machine, all but about `keep` bytes. Bytes that
        went. For others the store is full meanwhile, some 50 ms for each GB; it ends when somebody
        makes an object."""
        cdef _c.pm_arena *a = self.live()
        cdef uint64_t given = 0
        cdef int rc
        with nogil:
            rc = _c.pm_trim(a, keep, &given)
        check(rc, "give memory back")
        return given

    @property
    def is_cold(self):
        """Whether a large object has met memory that the machine had not given yet, and warm() has
        something to do."""
        return _c.pm_a64_load(&self.live().h.warm_from) != 0

    def warm(self):
        """Have the machine give some of the memory that the next large objects will take, up to 16
        MB in some 5 ms. Bytes; 0 when there is enough. Others put meanwhile."""
        cdef _c.pm_arena *a = self.live()
        cdef uint64_t made
        with nogil:
            made = _c.pm_warm(a)
        return made

    def warm_not(self):
        """Have warm() do nothing until a large object meets such memory again."""
        _c.pm_warm_not(self.live())

    @property
    def serializers(self):
        """How often count_serializers() was called in this session."""
        return _c.pm_a64_load(&self.live().h.serializers)

    def count_serializers(self):
        """The registry of custom serializers has changed."""
        _c.pm_a64_add(&self.live().h.serializers, 1)

    def expect_no_expiry(self):
        """The keeper is about to look, and will say when next."""
        _c.pm_a64_store(&self.live().h.expiry, 0)

    def objects(self):
        """The live objects, as a list of StoredObject; those of one lock hold at a time, so not of
        one moment. Cost: the lock once per 64 objects or 256 slots."""
        cdef _c.pm_arena *a = self.live()
        cdef _c.pm_object_info infos[64]
        cdef uint64_t start = 0, n, i, k
        cdef int rc = _c.PM_OK
        found = []
        while rc != _c.PM_ENOTFOUND:
            n = 64
            rc = _c.pm_survey(a, _c.PM_TRY, &start, infos, &n)
            while again(rc):
                n = 64
                with nogil:
                    rc = _c.pm_survey(a, _c.PM_WAIT, &start, infos, &n)
            if rc != _c.PM_ENOTFOUND:
                check(rc, "list objects")
            for i in range(n):
                info = &infos[i]
                holders = [
                    Holder(
                        info.holders[k].client,
                        info.holders[k].pid,
                        info.holders[k].kind,
                        info.holders[k].pins,
                    )
                    for k in range(min(info.nholders, <uint64_t>_c.PM_SURVEY_HOLDERS))
                ]
                found.append(
                    StoredObject(
                        _id(self, info.ref),
                        _STATES[info.state],
                        info.size,
                        info.bytes,
                        info.is_inline,
                        info.stripped,
                        "session" if info.boot else "name" if info.kept else "",
                        info.refs,
                        info.nrefs,
                        (<bytes>info.task).decode(errors="replace") if info.has_task else "",
                        (<bytes>info.site).decode(errors="replace"),
                        info.nholders,
                        holders,
                    )
                )
        return found

    # ---- waiting

    def wait(self, list refs, uint64_t need, timeout, bint working=False, bint in_task=False):
        """Sleep until `need` of the references have values. timeout in seconds or None. False if it
        ran out; None, if the caller is `working` on a task, when one that produces a reference may
        be queued with no worker to take it, and, with `in_task`, when the innermost task was asked
        to end.

        Without the GIL; a signal handler that raises ends it. Cost: a load a reference, and the
        lock once per 16 not waited for before."""
        cdef _c.pm_arena *a = self.live()
        cdef uint64_t n = len(refs), deadline = 0
        cdef uint64_t *slots = self._slots(refs)
        cdef int rc = _c.PM_EAGAIN
        cdef unsigned mode = (_c.PM_WAIT_WORKING if working else 0) | (
            _c.PM_WAIT_TASK if in_task else 0
        )
        try:
            if timeout is not None:
                deadline = _c.pm__os_now() + <uint64_t>(min(max(timeout, 0), 1e9) * 1e9) + 1
            while again(rc):
                with nogil:
                    rc = _c.pm_wait(a, slots, n, need, deadline, mode)
        finally:
            PyMem_Free(slots)
        if rc == _c.PM_ETIMEOUT:
            return False
        if rc == _c.PM_EWORK or rc == _c.PM_ECANCELLED:
            return None
        if rc == _c.PM_EFAILED:
            raise _exceptions.SessionError(self.failure())
        if rc == _c.PM_EGONE or rc == _c.PM_ELEFT:
            raise self._over(rc)
        check(rc, "wait")
        return True

    def count_ready(self, list refs not None):
        """How many items of the list have values: one load of shared memory each."""
        cdef _c.pm_arena *a = self.live()
        cdef Py_ssize_t count = 0
        for ref in refs:
            count += self._is_ready(a, ref)
        return count

    def pending(self, list refs not None):
        """Those that have no value yet, each once, in their order."""
        cdef _c.pm_arena *a = self.live()
        cdef uint64_t stamp = _c.pm_stamp(a)
        cdef list found = []
        for ref in refs:
            if not self._is_ready(a, ref) and not _c.pm_met(a, (<ObjectRef>ref).slot, stamp):
                found.append(ref)
        return found

    def partition(self, list refs not None, Py_ssize_t most, bint checked=False):
        """What wait() returns: (the first `most` that have values, all others), each in the order
        of refs. Unless it was `checked` before: TypeError if an item is no reference, ValueError if
        one stands in the list twice.

        Cost: 3 to 5 ns an item, and one load of shared memory for each before the last that is
        ready."""
        cdef _c.pm_arena *a = self.live()
        cdef uint64_t stamp = _c.pm_stamp(a), slot
        cdef list ready = [], others = []
        for ref in refs:
            if type(ref) is not ObjectRef:
                raise TypeError(
                    f"wait: expected a list of ObjectRefs, but {ref!r:.60} "
                    f"({type(ref).__name__}) is in it"
                )
            if (<ObjectRef>ref)._arena is not self:
                self._own(ref)  # says why not
            slot = (<ObjectRef>ref).slot
            if not checked and _c.pm_met(a, slot, stamp):
                raise ValueError(f"wait: {ref!r} is in the list more than once")
            if most > 0 and _c.pm_state(a, slot) != _c.PM_PENDING:
                ready.append(ref)
                most -= 1
            else:
                others.append(ref)
        return ready, others

    cdef bint _is_ready(self, _c.pm_arena *a, object ref) except -1:
        if type(ref) is not ObjectRef or (<ObjectRef>ref)._arena is not self:
            self._own(ref)  # says why not
        return _c.pm_state(a, (<ObjectRef>ref).slot) != _c.PM_PENDING

    # ---- what tasks yield

    def next_item(self, ObjectRef gate not None, ObjectRef completed not None):
        """The oldest item of a stream that nobody has taken; None while there is none. When the
        task has failed, `completed` once; after that, and when it has ended, raises
        ObjectRefStreamEndOfStreamError. Cost: the lock; a load while there is none."""
        cdef _c.pm_arena *a = self.live()
        cdef uint64_t slot = self._own(gate).slot
        cdef _c.pm_ref ref
        cdef _c.c_bool failed = False
        cdef int rc = _c.pm_stream_take(a, _c.PM_TRY, slot, &ref, &failed)
        while again(rc):
            with nogil:
                rc = _c.pm_stream_take(a, _c.PM_WAIT, slot, &ref, &failed)
        if rc == _c.PM_ENOTFOUND:
            return None
        if failed:
            return completed
        check(rc, "next")
        return _new_ref(self, ref.slot, ref.generation)

    def look_at_stream(self, ObjectRef gate not None):
        """(items that next_item() would return now, whether it would raise)."""
        cdef _c.pm_arena *a = self.live()
        cdef uint64_t items = 0, slot = self._own(gate).slot
        cdef _c.c_bool ended = False
        cdef int rc = _c.pm_stream_look(a, _c.PM_TRY, slot, &items, &ended)
        while again(rc):
            with nogil:
                rc = _c.pm_stream_look(a, _c.PM_WAIT, slot, &items, &ended)
        check(rc, "look at a generator")
        return items, bool(ended)

    cdef uint64_t *_slots(self, list refs) except NULL:
        cdef Py_ssize_t i = 0
        cdef uint64_t *slots = <uint64_t *>PyMem_Malloc((len(refs) or 1) * sizeof(uint64_t))
        if slots == NULL:
            raise MemoryError()
        try:
            for ref in refs:
                if type(ref) is not ObjectRef or (<ObjectRef>ref)._arena is not self:
                    self._own(ref)  # says why not
                slots[i] = (<ObjectRef>ref).slot
                i += 1
        except BaseException:
            PyMem_Free(slots)
            raise
        return slots


cdef object _freed(Arena arena, uint64_t slot):
    cdef _c.pm_ref ref = _c.pm_ref_of(arena._a, slot)
    return _exceptions.ObjectFreedError(
        f"get: ObjectRef({_id(arena, ref).hex()}) was given up by free()"
    )


cdef bytes _id(Arena arena, _c.pm_ref ref):
    cdef uint32_t slot = <uint32_t>ref.slot
    return (
        arena.session
        + PyBytes_FromStringAndSize(<const char *>&slot, 4)
        + PyBytes_FromStringAndSize(<const char *>&ref.generation, 8)
    )


cdef const unsigned char *_key(bytes key) except NULL:
    if len(key) != _c.PM_KEY:
        raise ValueError(f"a key has {_c.PM_KEY} bytes, not {len(key)}")
    return <const unsigned char *>PyBytes_AS_STRING(key)


@cython.final
@cython.no_gc
cdef class Pending:
    """An object being written. write() its bytes, then seal() it once; dropped unsealed, it gives
    everything back.

    Processes and threads: disjoint pieces may be written by several threads at once.
    """
    cdef Arena _arena
    cdef readonly ObjectRef ref
    cdef readonly uint64_t nbytes

    def write(self, uint64_t offset, data):
        """Copy a contiguous buffer to offset. Without the GIL for more than 64 KB."""
        cdef Py_buffer view
        cdef _c.pm_arena *a = self._arena.live()
        cdef uint64_t slot = self.ref.slot
        cdef int rc
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if view.len > GIL_BYTES:
                with nogil:
                    rc = _c.pm_write(a, slot, offset, view.buf, view.len)
            else:
                rc = _c.pm_write(a, slot, offset, view.buf, view.len)
            check(rc, f"write {view.len} bytes at {offset} of an object of {self.nbytes}")
        finally:
            PyBuffer_Release(&view)

    def label(self, bytes site not None):
        """Say where it was made. No effect on an object of INLINE_BYTES or less."""
        _c.pm_label(self._arena.live(), self.ref.slot, PyBytes_AS_STRING(site))

    def seal(self, bint failed=False):
        """Make it immutable and visible; returns its reference. failed: reading it raises it."""
        cdef _c.pm_arena *a = self._arena.live()
        cdef uint64_t slot = self.ref.slot
        cdef int rc = _c.pm_seal(a, _c.PM_TRY, slot, failed)
        while again(rc):
            with nogil:
                rc = _c.pm_seal(a, _c.PM_WAIT, slot, failed)
        check(rc, "seal")
        return self.ref
