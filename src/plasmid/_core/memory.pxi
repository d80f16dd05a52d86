# Memory of an object in a mapping of its own: leases to write it before its seal, and private
# writable views after it.

DATA_OFFSET = 4096  # of the data of an object that is made in place: a page after its header
_IN_PLACE_MINIMUM = 16385  # bytes of an object whose block is sure to begin on a page
_PRIVATE_BYTES = 65536  # below this a copy is cheaper than a mapping and its page faults


@cython.final
@cython.no_gc
cdef class Lease:
    """The data of an object that is being made in place, writable: through the buffer protocol.

    While it lives, no other process can seal the object. After seal() by this process the memory
    stays where it is, but is private: what is written to it changes nobody's object.

    Processes and threads: one per process and object. Views of it may be used by any thread; who
    writes while another thread seals may write before or after the seal.
    """
    cdef Arena _arena
    cdef readonly ObjectRef ref
    cdef readonly uint64_t nbytes
    cdef readonly bint sealed
    cdef public object layout  # the maker's note of what the whole looks like; None in others
    cdef bint _frozen  # private already, and about to be sealed
    cdef int _sealers  # threads in seal()
    cdef _c.pm_window _window
    cdef Pin _pin
    cdef object __weakref__

    def __dealloc__(self):
        if self._window.at == NULL:
            return
        if not self.sealed:
            self._arena._unsealed -= 1
            self._reopen()
        if not _c.pm_is_inherited(self._arena._a):
            _c.pm_window_close(&self._window)
        _unpin(self._arena, &self._pin)

    def __getbuffer__(self, Py_buffer *view, int flags):
        if not self.sealed and _c.pm_is_inherited(self._arena._a):
            raise BufferError("an unsealed array is not mapped in a forked child")
        _check_mapped(self._arena)
        PyBuffer_FillInfo(view, self, self._window.at, <Py_ssize_t>self.nbytes, self.sealed, flags)

    def __len__(self):
        return self.nbytes

    def write_header(self, bytes header not None):
        """What stands before the data."""
        if len(header) > DATA_OFFSET:
            raise ValueError(f"a header of {len(header)} bytes")
        check(
            _c.pm_write(
                self._arena.live(), self.ref.slot, 0, PyBytes_AS_STRING(header), len(header)
            ),
            "write a header",
        )

    def seal(self, timeout):
        """Make the object immutable and visible, without a copy; returns its reference.

        Waits until no other process has a lease: SealTimeoutError after `timeout` seconds, None:
        for ever. Cost: 10 to 100 us for 1 GB. Sealing it again does nothing.
        """
        if self.sealed:
            return self.ref
        self._sealers += 1
        try:
            self._freeze(timeout)
        finally:
            self._sealers -= 1
            if self._sealers == 0 and not self._frozen:
                self._reopen()
        self._publish()
        return self.ref

    cdef int _freeze(self, timeout) except -1:
        """Make the memory private before it is visible, so that nothing sealed can be changed; and
        before that, make sure that the seal will not be refused: what threads write from here on is
        not in the object."""
        cdef _c.pm_arena *a = self._arena.live()
        cdef uint64_t slot = self.ref.slot, deadline = 0
        cdef int rc = _c.PM_EAGAIN
        if timeout is not None:
            deadline = _c.pm__os_now() + <uint64_t>(min(max(timeout, 0), 1e9) * 1e9) + 1
        while not self._frozen and again(rc):
            with nogil:
                rc = _c.pm_close_leases(a, slot, deadline)
        if self._frozen:  # by another thread; from this look on we have the GIL
            return 0
        if rc == _c.PM_ETIMEOUT:
            raise _exceptions.SealTimeoutError(self._who_writes(timeout))
        check(rc, "seal")
        check(_c.pm_window_freeze(a, &self._window), "protect what is being sealed")
        self._frozen = True
        return 0

    cdef int _publish(self) except -1:
        """Seal what is frozen. Signals wait meanwhile: whoever has the lock lets go of it, or is
        found to be stopped (StoreLockedError; another seal() goes on from here)."""
        cdef _c.pm_arena *a = self._arena.live()
        cdef uint64_t slot = self.ref.slot
        cdef int rc = _c.pm_seal(a, _c.PM_TRY, slot, False)
        while rc == _c.PM_EAGAIN:
            with nogil:
                rc = _c.pm_seal(a, _c.PM_WAIT, slot, False)
        if rc != _c.PM_ESTATE:  # that is, by another thread
            check(rc, "seal")
        if not self.sealed:
            self.sealed = True
            self._pin.window = &self._window  # from now on it is a private view
            self._arena._unsealed -= 1
        return 0

    cdef void _reopen(self) noexcept:
        """Let others write and seal it, should we have closed it and not sealed it."""
        if not _c.pm_is_inherited(self._arena._a):
            _c.pm_reopen(self._arena._a, self.ref.slot)

    cdef str _who_writes(self, timeout):
        cdef uint64_t pid = 0
        cdef _c.pm_arena *a = self._arena.live()
        cdef int rc = _c.PM_EAGAIN
        while again(rc):
            with nogil:
                rc = _c.pm_lessee(a, _c.PM_WAIT, self.ref.slot, &pid)
        check(rc, "seal")
        return (
            f"seal: after {timeout} s process {pid} can still write the array: it has the array, "
            "or a view of it, in a variable. Let its task end, and seal then."
        )


cdef Lease _lease(Arena arena, ObjectRef ref, uint64_t nbytes):
    """This process's lease of a pending object; None if it is sealed."""
    cdef _c.pm_arena *a = arena.live()
    cdef uint64_t slot = ref.slot
    found = arena._leases.get(slot)  # it holds the object, so the slot is not another's meanwhile
    if found is not None:
        return None if (<Lease>found).sealed else <Lease>found
    cdef int rc = _c.pm_lease(a, _c.PM_TRY, slot)
    while again(rc) or rc == _c.PM_ELEASED:  # another process is about to seal it
        with nogil:
            rc = _c.pm_await_lease(a, slot, 0)
    if rc == _c.PM_ESTATE:
        return None
    check(rc, "lease the memory of an array")
    found = arena._leases.get(slot)
    if found is not None:  # of another thread: one window in all, or a seal would freeze one of two
        _c.pm_unpin(a, slot)
        return None if (<Lease>found).sealed else <Lease>found
    cdef Lease lease = Lease.__new__(Lease)
    rc = _c.pm_window_open(a, slot, DATA_OFFSET, nbytes or 1, False, &lease._window)
    if rc != _c.PM_OK:
        lease._window.at = NULL
        err = errno
        _c.pm_unpin(a, slot)
        raise _exception(rc, err, "map the memory of an array")
    lease._arena = arena
    lease.ref = ref
    lease.nbytes = nbytes
    _count_pin(arena, &lease._pin, slot, NULL)
    arena._unsealed += 1
    arena._leases[slot] = lease
    return lease


@cython.final
@cython.no_gc
cdef class PrivateBuffer:
    """The stored bytes of one object, copy-on-write: writable here, unchanged for everyone else.

    Owns a pin. Cost: a page fault for each page read, and a copy of each page written.
    """
    cdef Arena _arena
    cdef Pin _pin
    cdef uint64_t _size
    cdef _c.pm_window _window

    def __dealloc__(self):
        if self._window.at == NULL:
            return
        if not _c.pm_is_inherited(self._arena._a):
            _c.pm_window_close(&self._window)
        _unpin(self._arena, &self._pin)

    def __getbuffer__(self, Py_buffer *view, int flags):
        _check_mapped(self._arena)
        PyBuffer_FillInfo(view, self, self._window.at, <Py_ssize_t>self._size, 0, flags)

    def __len__(self):
        return self._size


cdef object _private(Arena arena, uint64_t slot, const _c.pm_view *view):
    """A writable buffer with the bytes of a sealed object that this process holds and has pinned
    meanwhile: a bytearray, or a PrivateBuffer."""
    cdef PrivateBuffer buffer
    cdef int rc
    if view.size < _PRIVATE_BYTES:
        return bytearray(PyBytes_FromStringAndSize(<const char *>view.data, view.size))
    buffer = PrivateBuffer.__new__(PrivateBuffer)
    rc = _c.pm_window_open(arena._a, slot, 0, view.size, True, &buffer._window)
    if rc != _c.PM_OK:
        buffer._window.at = NULL
    check(rc, "map an object for writing")
    try:
        _pin_block(arena, slot)
    except BaseException:
        _c.pm_window_close(&buffer._window)
        buffer._window.at = NULL
        raise
    buffer._arena = arena
    _count_pin(arena, &buffer._pin, slot, &buffer._window)
    buffer._size = view.size
    return buffer
