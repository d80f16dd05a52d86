# Submitting tasks, and what a worker runs.

from libc cimport errno as _errno
from posix.signal cimport sigaction, sigaction_t, sigemptyset


cdef extern from "Python.h":
    int PyErr_SetInterruptEx(int number) nogil


cdef bint _is_plain(object value) noexcept:
    """Whether it is of a type that pickles alike in every process."""
    cdef type kind = type(value)
    if kind is int or kind is str or kind is float:
        return True
    return value is None or kind is bool or kind is bytes


def gather(tuple args not None, dict kwargs not None):
    """(references, where each belongs, whether all others are plain) of what stands directly among
    arguments. Where: an index of args or a name of kwargs. Plain: int, float, bool, str, bytes of
    no subclass, and None, which pickle alike in every process."""
    cdef bint plain = True
    cdef Py_ssize_t index
    refs, where = [], []
    for index in range(len(args)):
        value = args[index]
        if type(value) is ObjectRef:
            refs.append(value)
            where.append(index)
        elif not _is_plain(value):
            plain = False
    for name, value in kwargs.items():
        if type(value) is ObjectRef:
            refs.append(value)
            where.append(name)
        elif not _is_plain(value):
            plain = False
    return refs, where, plain


cdef class _Packed:
    """Scratch arrays of one submit."""
    cdef _c.pm_task_argument *args
    cdef _c.pm_ref *rets

    def __dealloc__(self):
        PyMem_Free(self.args)
        PyMem_Free(self.rets)


def submit(
    Arena arena not None,
    ObjectRef function not None,
    bytes name not None,
    bytes payload,
    ObjectRef packed,
    args,
    Py_ssize_t waits,
    uint64_t nrets,
    uint64_t cpu,
    int64_t retries,
    more=(),
    uint64_t group=0,
    int64_t bundle=-1,
    int64_t limit=-1,
    bint quiet=False,
    ObjectRef environment=None,
    bint alone=False,
    uint64_t parent=0,
    bint hosted=False,
    bint unordered=False,
    uint64_t most_calls=0,
):
    """Queue a task; the list of its results' references.

    payload: packed arguments of at most TASK_INLINE_BYTES, or None and `packed`, an object that
    holds them. args: references that the task keeps; it starts when the first `waits` of them have
    values. cpu in 1/10000 CPU. retries after deaths of its worker; RETRY_ALWAYS. more: (kind,
    units) of what else it needs; group: serial of a placement group, 0 for none; bundle: index of
    one of its bundles, -1 for any. limit: if not negative it yields: the results are its gate, for
    `Arena.next_item`, and one that it ends with, and it pauses while `limit` items have not been
    taken; 0: never. quiet: it leaves no event. environment: an object that tells of the one its
    worker is to be in; alone: not on the stack of a task that waits for it. parent: serial of the
    task that submits it, 0 for the innermost. hosted: it is an actor; the results are its mailbox
    and its obituary, its last argument is its card, `unordered` and `most_calls` are of its calls.
    A function that is a mailbox makes it a call: PendingCallsLimitExceeded. Cost: the lock once,
    for up to 4 references and 4 results.
    """
    cdef _c.pm_arena *a = arena.live()
    cdef Py_ssize_t i, n = len(args)
    cdef _c.pm_task_spec spec
    cdef _c.pm_submission progress
    cdef _c.pm_need needs[_c.PM_KINDS]
    cdef _c.pm_ref few_rets[4]
    cdef _c.pm_task_argument few_args[4]
    cdef _c.pm_ref *rets = few_rets
    cdef _c.pm_task_argument *own = few_args
    cdef _Packed many
    cdef int rc
    if limit >= 0 or hosted:
        nrets = 2
    if n > 4 or nrets > 4:
        many = _Packed()
        own = many.args = <_c.pm_task_argument *>PyMem_Malloc((n + 1) * sizeof(_c.pm_task_argument))
        rets = many.rets = <_c.pm_ref *>PyMem_Malloc((nrets + 1) * sizeof(_c.pm_ref))
        if own == NULL or rets == NULL:
            raise MemoryError()
    for i in range(n):
        own[i].slot = arena._own(args[i]).slot
        own[i].waits = i < waits
    spec.function = arena._own(function).slot
    spec.name = PyBytes_AS_STRING(name)
    spec.packed = -1
    spec.payload = NULL
    spec.size = 0
    if packed is not None:
        spec.packed = <int64_t>arena._own(packed).slot
    else:
        spec.payload = PyBytes_AS_STRING(payload)
        spec.size = len(payload)
        if spec.size > _c.PM_TASK_INLINE:
            raise ValueError("packed arguments are too long to stand in the task")
    spec.args = own
    spec.nargs = n
    spec.nrets = nrets
    spec.yields = limit >= 0
    spec.limit = <uint64_t>max(limit, 0)
    spec.cpu = cpu
    spec.more = needs
    spec.nmore = len(more)
    if spec.nmore > _c.PM_KINDS:
        raise ValueError("more needs than kinds of resources")
    for i in range(<Py_ssize_t>spec.nmore):
        needs[i].kind, needs[i].amount = more[i]
    spec.group = group
    spec.bundle = bundle
    spec.env = 0 if environment is None else arena._own(environment).slot + 1
    spec.alone = alone
    spec.parent = parent
    spec.hosted = hosted
    spec.unordered = unordered
    spec.most_calls = most_calls
    spec.retries = _c.PM_RETRY_ALWAYS if retries < 0 else <uint64_t>retries
    spec.quiet = quiet
    progress.task = progress.made = 0
    rc = _c.pm_submit(a, _c.PM_TRY, &spec, &progress, rets)
    while rc == _c.PM_EFULL:  # nothing of it is there yet
        # Comes when there is room for the tables, and goes at once.
        arena.create_object(n * sizeof(_c.pm_arg_shm) + nrets * sizeof(_c.pm_j64), ())
        rc = _c.pm_submit(a, _c.PM_TRY, &spec, &progress, rets)
    if rc == _c.PM_EAGAIN:
        with nogil:  # not interruptible half-way: a signal is seen after the submit
            while rc == _c.PM_EAGAIN or (rc == _c.PM_ESTOPPED and progress.task):
                rc = _c.pm_submit(a, _c.PM_WAIT, &spec, &progress, rets)
    n = <Py_ssize_t>progress.made
    made = [_new_ref(arena, rets[i].slot, rets[i].generation) for i in range(n)]
    check(rc, f"submit {name.decode(errors='replace')}()")
    return made


@cython.final
@cython.no_gc
cdef class Running:
    """A task that this worker runs. Belongs to the thread that took it, until it has been finished
    or retried: from then on it may be read no more, block() and resume() do nothing, and finish()
    and retry() raise ValueError."""
    cdef Arena _arena
    cdef _c.pm_running _t
    cdef readonly str name
    cdef uint64_t _began, _returned

    @property
    def is_innermost(self):
        """Whether it is the task that this process took last, of those it has not finished."""
        cdef _c.pm_arena *a = self._arena.live()
        return self._t.task != 0 and a.clients[a.slot].running.v == self._t.task

    cdef uint64_t unfinished(self) except 0:
        if self._t.task == 0:
            raise ValueError(f"{self.name}() has been finished already")
        return self._t.task

    @property
    def serial(self):
        """Its number in the session, from 1: never another task's."""
        return self._t.serial

    @property
    def parent(self):
        """Serial of the task that submitted it; 0 if a program did."""
        return self._t.parent

    @property
    def group(self):
        """Serial of the placement group that it runs in, 0 for none."""
        return self._t.group

    @property
    def needs(self):
        """kind -> units of what it asked for. ValueError when it has been finished."""
        cdef uint64_t k, units, task = self.unfinished()
        found = {}
        for k in range(_c.PM_KINDS):
            units = _c.pm_task_need(self._arena.live(), task, k)
            if units:
                found[k] = units
        return found

    @property
    def devices(self):
        """The GPUs that it has, bit by bit."""
        return self._t.devices

    def environment(self):
        """A reference to the object that tells of its environment; None if it has none."""
        if self._t.env == 0:
            return None
        self.unfinished()
        return self._arena._hold(_c.pm_ref_of(self._arena._a, self._t.env - 1))

    @property
    def function_key(self):
        """(slot, generation) of the function: what a worker's cache of functions is keyed by."""
        return self._t.function, self._t.function_generation

    @property
    def nrets(self):
        return self._t.nrets

    @property
    def yields(self):
        """Whether its items are results of their own, given out by yield_item()."""
        return self._t.yields

    @property
    def hosted(self):
        """Whether it is an actor: from now on this process takes its calls, by next_call()."""
        return self._t.hosted

    @property
    def call(self):
        """Whether it is a call of the actor that this process hosts."""
        return self._t.call

    @property
    def wanted(self):
        """Of one that yields: whether anybody waited for its items, or its end, when it began."""
        return self._t.wanted

    @property
    def made(self):
        """Items that earlier attempts have yielded."""
        return self._t.made

    @property
    def attempt(self):
        """1 for the first run."""
        return self._t.attempt

    @property
    def retries(self):
        return -1 if self._t.retries == _c.PM_RETRY_ALWAYS else self._t.retries

    def function(self):
        """The stored function, as hooks.load makes it."""
        return self._read(self._t.function)

    def packed(self):
        """The packed arguments: bytes, or the value of the object that holds them."""
        if self._t.packed >= 0:
            return self._read(<uint64_t>self._t.packed)
        return PyBytes_FromStringAndSize(<const char *>self._t.payload, self._t.size)

    def argument(self, uint64_t i):
        """The value of the i-th reference argument; if it is an exception, hooks.failed raises
        it."""
        return self._read(self._at(i).slot)

    cdef object _read(self, uint64_t slot):
        """Of an entry that the task holds. Reading few bytes needs no reference of this process, a
        view does."""
        cdef _c.pm_view view
        cdef int rc = _c.pm_look(self._arena._a, slot, &view)
        if rc == _c.PM_EFREED:
            raise _freed(self._arena, slot)
        if rc != _c.PM_ESPILLED:
            check(rc, "read what a task takes")
        holder = None if view.is_inline and view.nrefs == 0 else self._arena._hold(
            _c.pm_ref_of(self._arena._a, slot)
        )
        return self._arena._read(slot, False)

    def kept_refs(self):
        """References of the arguments that it does not wait for: those inside of values, in their
        order; without the card of an actor."""
        cdef uint64_t i, n = self._t.nargs - self._t.hosted
        return [self._arena._hold(self._at(i)) for i in range(n) if not self._waits(i)]

    def mailbox(self):
        """Of an actor: a reference to its mailbox."""
        return self._arena._hold(_c.pm_mailbox_ref(self._arena.live(), self.unfinished()))

    def card(self):
        """Of an actor: the value of its last argument."""
        return self.argument(self._t.nargs - 1)

    cdef bint _waits(self, uint64_t i):
        return _c.pm_argument(self._arena._a, self._t.task, i).waits

    cdef _c.pm_ref _at(self, uint64_t i) except *:
        if i >= self._t.nargs:
            raise IndexError(f"the task has {self._t.nargs} reference arguments")
        return _c.pm_argument_ref(self._arena._a, self._t.task, i)

    def yield_item(self, item, bint failed):
        """Give out the next item: bytes (at most INLINE_BYTES, as stored) or a written Pending,
        which is sealed. failed: it is an exception. Returns whether to go on at once; False: after
        await_room(); None: nobody wants more."""
        cdef _c.pm_arena *a = self._arena.live()
        cdef _c.pm_result r
        cdef _c.c_bool room = False
        cdef uint64_t task = self.unfinished()
        r.failed = failed
        r.data = NULL
        r.len = 0
        if type(item) is bytes:
            r.data = PyBytes_AS_STRING(item)
            r.len = len(item)
        else:
            r.object = (<Pending?>item).ref.slot
        cdef int rc = _c.pm_yield(a, _c.PM_TRY, task, &r, &room)
        while again(rc):
            with nogil:
                rc = _c.pm_yield(a, _c.PM_WAIT, task, &r, &room)
        if rc == _c.PM_EDROPPED:
            return None
        check(rc, f"yield from {self.name}()")
        return bool(room)

    def await_room(self, timeout=None):
        """Sleep until fewer items than its limit wait to be taken. False: nobody wants more;
        None: not in `timeout` seconds. Without the GIL; a signal handler that raises ends it."""
        cdef _c.pm_arena *a = self._arena.live()
        cdef uint64_t task = self.unfinished(), deadline = 0
        cdef int rc = _c.PM_EAGAIN
        if timeout is not None:
            deadline = _c.pm__os_now() + <uint64_t>(timeout * 1e9)
        while again(rc):
            with nogil:
                rc = _c.pm_await_room(a, task, deadline)
        if rc == _c.PM_ETIMEOUT:
            return None
        if rc == _c.PM_EDROPPED:
            return False
        check(rc, f"pause {self.name}()")
        return True

    def result_ids(self):
        cdef uint64_t i
        cdef _c.pm_ref ref
        found = []
        for i in range(self._t.nrets):
            ref = _c.pm_result_ref(self._arena._a, self._t.task, i)
            found.append((ref.slot, ref.generation))
        return found

    def block(self):
        """Its worker is about to sleep: others may use its CPU."""
        cdef _c.pm_arena *a = self._arena.live()
        if self._t.task == 0:
            return
        cdef int rc = _c.pm_block(a, _c.PM_TRY, self._t.task)
        while again(rc):
            with nogil:
                rc = _c.pm_block(a, _c.PM_WAIT, self._t.task)
        check(rc, "give back a CPU")

    def resume(self):
        """It goes on at once, in debt if all CPUs are in use."""
        cdef _c.pm_arena *a = self._arena.live()
        if self._t.task == 0:
            return
        cdef int rc = _c.pm_resume(a, _c.PM_TRY, self._t.task)
        if rc == _c.PM_EAGAIN:
            with nogil:
                while rc == _c.PM_EAGAIN:
                    rc = _c.pm_resume(a, _c.PM_WAIT, self._t.task)
        check(rc, "take a CPU back")

    @property
    def is_awaited(self):
        """Whether anybody has a reference to a result of it. A hint, and free."""
        return self._t.task != 0 and _c.pm_is_awaited(self._arena.live(), self._t.task)

    @property
    def is_asked_to_end(self):
        """Whether it was cancelled and has not been told. A hint, and free."""
        return self._t.task != 0 and _c.pm_cancel_asked(self._arena._a, self._t.task)

    def tell(self):
        """Whether it is to be told now that it was cancelled: once for each cancel."""
        cdef _c.pm_arena *a = self._arena.live()
        cdef uint64_t task = self.unfinished()
        cdef int rc = _c.pm_cancel_tell(a, _c.PM_TRY, task)
        if rc == _c.PM_EAGAIN:
            with nogil:  # not interruptible: we may be in a signal's handler
                while rc == _c.PM_EAGAIN:
                    rc = _c.pm_cancel_tell(a, _c.PM_WAIT, task)
        if rc == _c.PM_ENOTFOUND:
            return False
        check(rc, "end a task")
        return True

    def begin(self):
        """Its function is about to be called."""
        self._began = _c.pm__os_now()

    def end(self):
        """Its function has returned, or raised."""
        self._returned = _c.pm__os_now()

    def retry(self, bytes error=b""):
        """Put it back into the queue, with one retry less. If it was cancelled it ends. error: what
        it raised, for the event. TaskCancelledError: as for finish()."""
        cdef _c.pm_arena *a = self._arena.live()
        cdef uint64_t task = self.unfinished()
        _c.pm_account_for(a, self._began, self._returned, PyBytes_AS_STRING(error))
        cdef int rc = _c.pm_retry(a, _c.PM_TRY, task)
        if rc == _c.PM_EAGAIN:
            with nogil:
                while rc == _c.PM_EAGAIN:
                    rc = _c.pm_retry(a, _c.PM_WAIT, task)
        if rc == _c.PM_OK:
            self._t.task = 0
        check(rc, "retry a task")

    def finish(self, list results, uint64_t failures, bint take, bytes error=b""):
        """End the task: results is a list of nrets items, each bytes (at most INLINE_BYTES, as
        stored) or a written Pending. The last `failures` of them are exceptions; of a task that
        yields, its stream ends as its result does. error: what it raised, for the event. With
        `take`, returns the next Running or None, taken in the same lock hold. Raises ValueError,
        with nothing ended, if a result contains a reference to itself; TaskCancelledError if the
        task was cancelled by force: this process must end."""
        cdef _c.pm_arena *a = self._arena.live()
        cdef _c.pm_result few[4]
        cdef _c.pm_result *all_ = few
        cdef _c.pm_running next_
        cdef uint64_t i, n = self._t.nrets
        cdef int rc
        cdef uint64_t task = self.unfinished()
        if <uint64_t>len(results) != n:
            raise ValueError(f"{len(results)} results for {n} references")
        if n > 4:
            all_ = <_c.pm_result *>PyMem_Malloc(n * sizeof(_c.pm_result))
            if all_ == NULL:
                raise MemoryError()
        next_.task = 0
        _c.pm_account_for(a, self._began, self._returned, PyBytes_AS_STRING(error))
        try:
            for i in range(n):
                all_[i].failed = i + failures >= n
                item = results[i]
                if type(item) is bytes:
                    if len(item) > _c.PM_INLINE:
                        raise ValueError("an inline result is too long")
                    all_[i].data = PyBytes_AS_STRING(item)
                    all_[i].len = len(item)
                else:
                    all_[i].data = NULL
                    all_[i].object = (<Pending?>item).ref.slot
            rc = _c.pm_finish(a, _c.PM_TRY, task, all_, &next_ if take else NULL)
            if rc == _c.PM_EAGAIN:
                with nogil:
                    while rc == _c.PM_EAGAIN:
                        rc = _c.pm_finish(
                            a, _c.PM_WAIT, self._t.task, all_, &next_ if take else NULL
                        )
        finally:
            if n > 4:
                PyMem_Free(all_)
        if rc == _c.PM_OK:
            self._t.task = 0
        check(rc, "finish a task")
        return _running(self._arena, &next_) if next_.task else None


def cancel(Arena arena not None, ObjectRef ref not None, bint force, bint recursive):
    """Cancel the task that is to produce the reference; with `force` kill the process that runs it,
    if one does; `recursive`: also the tasks that it has submitted. No effect if it has ended or is
    none. Cost: the lock once, and with descendants the task table once a generation."""
    cdef _c.pm_arena *a = arena.live()
    cdef uint64_t slot = arena._own(ref).slot
    cdef unsigned way = (_c.PM_CANCEL_FORCE if force else 0) | (
        _c.PM_CANCEL_TREE if recursive else 0
    )
    cdef int rc
    with nogil:
        rc = _c.pm_cancel(a, slot, way)
    if rc == _c.PM_EINVAL:
        raise ValueError(
            "force=True is not supported for actor tasks: it would end the actor, which kill() does"
        )
    check(rc, f"cancel {ref!r}")


cdef _c.pm_arena *_listening = NULL


cdef void _on_cancel(int number) noexcept nogil:
    cdef int kept = _errno.errno
    PyErr_SetInterruptEx(number)  # the handler in Python runs when the main thread comes to it
    _c.pm__call_watcher(_listening)  # which reminds it, should it go to sleep first
    _errno.errno = kept


def listen_for_cancel(Arena arena not None, handler):
    """Have `handler` run as Python's handler of CANCEL_SIGNAL, again and again until the innermost
    task has been told. In a worker's main thread, once."""
    global _listening
    cdef sigaction_t action
    import signal
    signal.signal(_c.PM_CANCEL_SIGNAL, handler)
    _listening = arena.live()
    memset(&action, 0, sizeof(sigaction_t))
    action.sa_handler = _on_cancel
    sigemptyset(&action.sa_mask)
    if sigaction(_c.PM_CANCEL_SIGNAL, &action, NULL):
        raise OSError(errno, f"sigaction: {_strerror(errno)}")


cdef Running _running(Arena arena, const _c.pm_running *t):
    cdef Running task = Running.__new__(Running)
    task._arena = arena
    task._t = t[0]
    task.name = t.name.decode(errors="replace")
    return task


def next_task(Arena arena not None, timeout=None):
    """Sleep until there is a task to run, and take it. None after `timeout` seconds, or when the
    session has ended."""
    cdef _c.pm_arena *a = arena.live()
    cdef uint64_t deadline = 0
    cdef _c.pm_running out
    cdef int rc = _c.PM_EAGAIN
    if timeout is not None:
        deadline = _c.pm__os_now() + <uint64_t>(timeout * 1e9)
    while again(rc):
        with nogil:
            rc = _c.pm_next(a, deadline, &out)
    if rc == _c.PM_ETIMEOUT or rc == _c.PM_EGONE or rc == _c.PM_ELEFT:
        return None
    check(rc, "take a task")
    return _running(arena, &out)


def next_call(Arena arena not None):
    """Sleep until there is a call of the actor that this process hosts, and take it. None when
    nobody can call it any more, and when the session has ended."""
    cdef _c.pm_arena *a = arena.live()
    cdef _c.pm_running out
    cdef int rc = _c.PM_EAGAIN
    while again(rc):
        with nogil:
            rc = _c.pm_next(a, 0, &out)
    if rc == _c.PM_EDROPPED or rc == _c.PM_EGONE or rc == _c.PM_ELEFT:
        return None
    check(rc, "take a call")
    return _running(arena, &out)


def take_awaited(Arena arena not None, list refs, bint streams=False):
    """Take a queued task that produces one of these references: its waiter has nothing better to
    do. None if none is queued. streams: also one that yields, all of it before anything is taken,
    if its taker is below it on the stack."""
    cdef _c.pm_arena *a = arena.live()
    cdef uint64_t start = 0, n = len(refs)
    cdef uint64_t *slots = arena._slots(refs)
    cdef _c.pm_running out
    cdef int rc
    try:
        rc = _c.pm_take_awaited(a, _c.PM_TRY, slots, n, streams, &start, &out)
        while again(rc):
            with nogil:
                rc = _c.pm_take_awaited(a, _c.PM_WAIT, slots, n, streams, &start, &out)
    finally:
        PyMem_Free(slots)
    if rc == _c.PM_ENOTFOUND:
        return None
    check(rc, "take a task")
    return _running(arena, &out)


def hurry(Arena arena not None, list refs):
    """Let the queued tasks that produce these references start before all others."""
    cdef _c.pm_arena *a = arena.live()
    cdef uint64_t start = 0, n = len(refs)
    cdef uint64_t *slots = arena._slots(refs)
    cdef int rc
    try:
        rc = _c.pm_hurry(a, _c.PM_TRY, slots, n, &start)
        while again(rc):
            with nogil:
                rc = _c.pm_hurry(a, _c.PM_WAIT, slots, n, &start)
    finally:
        PyMem_Free(slots)
    check(rc, "hurry tasks")
