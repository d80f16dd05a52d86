# Error code -> exception, in one place.

import builtins as _builtins


cdef object _class_of(int rc):
    name = _c.pm_err_class(rc).decode()
    return getattr(_exceptions, name, None) or getattr(_builtins, name)


cdef object _exception(int rc, int err, str doing):
    if rc == _c.PM_ESYS:
        return OSError(err, f"{doing}: {_strerror(err)}")
    text = f"{doing}: {_c.pm_strerror(rc).decode()}"
    if rc == _c.PM_ESTOPPED:
        text += f" (pid {_c.pm__stopped_holder()}); continue it (kill -CONT) or end it"
    return _class_of(rc)(text)


cdef str _strerror(int err):
    import os
    return os.strerror(err)


cdef int check(int rc, str doing) except -1:
    """Raise what rc means; `doing` begins the message. One compare when all is well."""
    if rc == _c.PM_OK:
        return 0
    raise _exception(rc, errno, doing)


cdef inline bint again(int rc) except -1:
    """Whether to try once more: the lock is busy, or a signal came (whose handler runs here and may
    raise)."""
    if rc != _c.PM_EAGAIN and rc != _c.PM_EINTR:
        return False
    PyErr_CheckSignals()
    return True
