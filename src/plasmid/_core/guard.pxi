# Guard: the driver's C thread that keeps the session's keeper alive.


@cython.final
@cython.no_gc
cdef class Guard:
    """Runs argv as the session's keeper, in a kernel session of its own, and starts it again
    whenever it ends or is stopped; while that fails, the arena says so to those who wait. fds
    become its descriptors 3, 4, ... Raises OSError if it cannot be started at all.

    Processes and threads: works in a C thread, without Python, until stop()."""
    cdef _c.pm_guard *_g
    cdef Arena _arena  # outlives the thread

    def __init__(self, Arena arena not None, argv, env, fds):
        cdef int numbers[8]
        cdef char **args = NULL
        cdef char **variables = NULL
        cdef _c.pm_arena *a = arena.live()
        cdef int i, rc, n = len(fds)
        if n > 8:
            raise ValueError("at most 8 descriptors")
        for i in range(n):
            numbers[i] = fds[i]
        argv, env = list(argv), list(env)
        self._arena = arena
        try:
            args = _strings(argv)
            variables = _strings(env)
            with nogil:
                rc = _c.pm_guard_start(a, args, variables, numbers, n, &self._g)
        finally:
            PyMem_Free(args)
            PyMem_Free(variables)
        check(rc, "start the session's keeper")

    def __dealloc__(self):
        if self._g != NULL and not _c.pm_is_inherited(self._arena._a):
            with nogil:
                _c.pm_guard_stop(self._g)

    @property
    def pid(self):
        return _c.pm_guard_pid(self._g) if self._g != NULL else 0

    @property
    def failed(self):
        """It died at its start so often that the guard gave up."""
        return self._g != NULL and _c.pm_guard_failed(self._g)

    def stop(self):
        """Kill the keeper and return when it is gone."""
        cdef _c.pm_guard *g = self._g
        self._g = NULL
        if g != NULL:
            with nogil:
                _c.pm_guard_stop(g)


cdef char **_strings(list items) except NULL:
    """A NULL-terminated array that points into a list of bytes, which must outlive it."""
    cdef Py_ssize_t i, n = len(items)
    cdef char **out = <char **>PyMem_Malloc((n + 1) * sizeof(char *))
    if out == NULL:
        raise MemoryError()
    for i in range(n):
        out[i] = PyBytes_AS_STRING(items[i])
    out[n] = NULL
    return out
