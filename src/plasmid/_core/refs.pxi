# ObjectRef and Buffer: what keeps an object alive, what keeps its bytes in place.


cdef ObjectRef _new_ref(Arena arena, uint64_t slot, uint64_t generation):
    """Wrap a reference that the process has taken already."""
    cdef ObjectRef ref = ObjectRef.__new__(ObjectRef)
    ref._arena = arena
    ref.slot = slot
    ref.generation = generation
    return ref


@cython.final
@cython.freelist(512)
@cython.no_gc
cdef class ObjectRef:
    """A reference to an object of the store, or to the result of a task that has not finished.

    The object lives while any process has a reference to it, a view of it, or another object
    contains a reference. Equality and hash are those of the id. Cost of a further reference in a
    process that has one: an atomic increment.

    Processes and threads: may be used from any thread and sent to any process of the session inside
    arguments, results and stored objects. Dropping one never blocks. In a forked child it may be
    dropped, and nothing else.
    """
    cdef Arena _arena
    cdef readonly uint64_t slot
    cdef readonly uint64_t generation
    cdef object __weakref__

    def __init__(self, *args, **kwargs):
        raise TypeError(
            "an ObjectRef comes from put() or from a task, it cannot be made by hand; from an id: "
            "ObjectRef.from_binary(id)"
        )

    def __dealloc__(self):
        if (
            self._arena is not None
            and not self._arena._left  # then it counts no more
            and self._arena._a != NULL
            and not _c.pm_is_inherited(self._arena._a)
        ):
            _c.pm_drop(self._arena._a, self.slot)

    @classmethod
    def from_binary(cls, binary):
        """The reference whose id this is (`binary()`), in a process of the session while the object
        lives. An id keeps nothing: ObjectLostError if the object is gone, or another session's."""
        if not isinstance(binary, bytes):
            raise TypeError(
                f"ObjectRef.from_binary: expected bytes, not {type(binary).__name__}"
            )
        return _ref_from_id(binary)

    @classmethod
    def from_hex(cls, text):
        """The reference whose id this is, as `hex()` gave it. As `from_binary`."""
        if not isinstance(text, str):
            raise TypeError(f"ObjectRef.from_hex: expected a string, not {type(text).__name__}")
        return _ref_from_id(bytes.fromhex(text))

    @classmethod
    def __class_getitem__(cls, item):
        """`ObjectRef[int]`, for annotations."""
        import types
        return types.GenericAlias(cls, item)

    @staticmethod
    def nil():
        """A reference to nothing, as `_next_sync(timeout_s)` returns it."""
        return _new_ref(_nowhere, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)

    def is_nil(self):
        """Whether it leads to nothing."""
        return self._arena is _nowhere

    def binary(self):
        """The id: 28 bytes, unique in the session and beyond it."""
        cdef _c.pm_ref ref
        ref.slot, ref.generation = self.slot, self.generation
        if self._arena is not _nowhere and not _c.pm_is_inherited(self._arena._a):
            _c.pm_share(self._arena._a, self.slot)  # whoever has the id may ask for the object
        return _id(self._arena, ref)

    def hex(self):
        """The id as 56 hexadecimal digits."""
        return self.binary().hex()

    def size(self):
        """Length of the id in bytes."""
        return _c.PM_KEY

    @property
    def producer(self):
        """Serial of the task that it is a result of; 0 if it was put."""
        return _c.pm_producer(self._arena.live(), self.slot)

    def task_id(self):
        """TaskID of the task that it is a result of; of what was put, TaskID.nil()."""
        return _ids.of_task(self._arena.session, self.producer)

    def job_id(self):
        """JobID of the session."""
        return _ids.JOB

    def as_future(self, _internal=False):
        """An asyncio.Future of the running loop, which receives the value, or the exception."""
        import asyncio
        return asyncio.wrap_future(self.future())

    def _on_completed(self, py_callback):
        """Call `py_callback` with the value, or with the exception, in a thread of this process as
        soon as it is there; at once if it is already."""
        def tell(done):
            error = done.exception()
            py_callback(done.result() if error is None else error)

        self.future().add_done_callback(tell)

    def future(self):
        """A concurrent.futures.Future that receives the value, or the exception."""
        return self._arena.hooks.future(self)

    def __await__(self):
        """`await ref` gives the value, or raises, in any asyncio loop."""
        import asyncio
        return asyncio.wrap_future(self.future()).__await__()

    def __arrow_c_stream__(self, requested_schema=None):
        """The stored table, frame or Arrow array for any library that reads Arrow's C interface
        (polars, duckdb, pandas, pyarrow), without a copy. Blocks until it is there. TypeError for
        other values."""
        return self._arena.hooks.capsules.arrow_stream(self._get(), requested_schema)

    @property
    def __arrow_c_array__(self):
        """The same as one array or record batch: a method, called with requested_schema=None.

        There is no such attribute if the value is in several chunks, which it would have to join:
        libraries prefer this method to the stream, where they know both. Reading the attribute
        does not block: of an object that is not there yet, and of a failed task, it is a method.
        """
        hooks = self._arena.hooks
        if _c.pm_state(self._arena.live(), self.slot) in (_c.PM_SEALED, _c.PM_SPILLED) and (
            not hooks.capsules.is_in_one_chunk(self._get())
        ):
            raise AttributeError("the value is in several chunks: use __arrow_c_stream__")
        return lambda requested_schema=None: hooks.capsules.arrow_array(
            self._get(), requested_schema
        )

    def __arrow_c_schema__(self):
        """The schema of a stored table or batch, or the type of an Arrow array."""
        return self._arena.hooks.capsules.arrow_schema(self._get())

    def __dlpack__(self, **options):
        """The stored array for any library that reads DLPack, without a copy; read-only."""
        return self._arena.hooks.capsules.dlpack(self._get(), options)

    def __dlpack_device__(self):
        """Where the array is: (1, 0), the CPU."""
        return self._arena.hooks.capsules.dlpack_device(self._get())

    cdef object _get(self):
        return self._arena.hooks.get_one(self, None)

    def __hash__(self):
        return <Py_hash_t>((self.slot * 0x9E3779B97F4A7C15u + self.generation) >> 1)

    def __eq__(self, other):
        if type(other) is not ObjectRef:
            return NotImplemented
        cdef ObjectRef ref = <ObjectRef>other
        return ref.slot == self.slot and ref.generation == self.generation and (
            ref._arena is self._arena or ref._arena.session == self._arena.session
        )

    def __repr__(self):
        return f"ObjectRef({self.hex()})"

    def __reduce__(self):
        """Pickled by the user, outside of plasmid: the id. It can be read back in a process of the
        session while the object lives."""
        return _ref_from_id, (self.binary(),)


# Where nil is: every use of it raises, as of a session that has been left.
cdef Arena _nowhere = Arena.__new__(Arena)
_nowhere._left = True
_nowhere.session = b"\xff" * 16

_current = None  # the arena that ids are resolved in: the process's session


def set_current(arena):
    global _current
    _current = arena


def _ref_from_id(bytes binary):
    if binary == b"\xff" * _c.PM_KEY:
        return ObjectRef.nil()
    if _current is None:
        raise _exceptions.SessionError(
            "an id of an ObjectRef means something in processes of its session only: call "
            "init(address=...) first"
        )
    return _current.ref_from_id(binary)


@cython.final
@cython.no_gc
cdef class Buffer:
    """The stored bytes of one object, read-only and 64-byte aligned, through the buffer protocol.

    Owns a pin: while it or a view of it lives, the bytes stay where they are. They lie in a
    read-only map, so not even C code with a stray pointer can change them.
    """
    cdef Arena _arena
    cdef Pin _pin
    cdef const void *_data
    cdef uint64_t _size

    def __dealloc__(self):
        if self._arena is not None:
            _unpin(self._arena, &self._pin)

    def __getbuffer__(self, Py_buffer *view, int flags):
        _check_mapped(self._arena)
        PyBuffer_FillInfo(view, self, <void *>self._data, <Py_ssize_t>self._size, 1, flags)

    def __len__(self):
        return self._size


cdef int _pin_block(Arena arena, uint64_t slot) except -1:
    """Pin the bytes of an entry that this process holds, wherever they are. ObjectFreedError;
    ObjectLostError and ObjectStoreFullError of one that was spilled."""
    cdef int rc = _c.pm_pin(arena._a, slot)
    while rc == _c.PM_ESPILLED:
        arena._bring_back(slot)
        rc = _c.pm_pin(arena._a, slot)
    if rc == _c.PM_EFREED:
        raise _freed(arena, slot)
    return check(rc, "get")


cdef Buffer _new_buffer(Arena arena, uint64_t slot, _c.pm_view *view):
    """A buffer over the bytes of a sealed entry that this process holds, and where these are now.
    As _pin_block()."""
    _pin_block(arena, slot)
    cdef Buffer buffer = Buffer.__new__(Buffer)
    buffer._arena = arena
    _count_pin(arena, &buffer._pin, slot, NULL)
    cdef int rc = _c.pm_look(arena._a, slot, view)
    if rc == _c.PM_EFREED:
        raise _freed(arena, slot)
    if rc != _c.PM_ESPILLED:  # somebody is about to see our pin, and leave it here
        check(rc, "get")
    buffer._data = view.data
    buffer._size = view.size
    return buffer
