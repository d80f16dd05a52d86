# Tiny values, stored as one tag byte and their bytes: no pickle, no header. Tags are below 0x10;
# what the serializer stores begins with "P".

from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_FromDouble
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_FromLongLong


cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    bint PyUnicode_IS_COMPACT_ASCII(object text)

cdef enum:
    TAG_NONE = 0x01
    TAG_FALSE = 0x02
    TAG_TRUE = 0x03
    TAG_INT = 0x04
    TAG_FLOAT = 0x05
    TAG_STR = 0x06
    TAG_BYTES = 0x07
    TAG_SCALAR = 0x08  # of numpy: the code of its dtype, then its bytes
    TAG_ERROR = 0x0E  # an exception as text: class name, NUL, message; always fits
    TAG_END = 0x10


cdef Py_ssize_t encode_small(object value, unsigned char *out, Py_ssize_t room) except -1:
    """Bytes written to out, 0 if the value is not a tiny one."""
    cdef type kind = type(value)
    cdef int overflow = 0
    cdef long long number
    cdef double real
    cdef Py_ssize_t size
    cdef const char *text
    if kind is int:
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow:
            return 0
        out[0] = TAG_INT
        memcpy(out + 1, &number, 8)
        return 9
    if kind is bytes:
        size = PyBytes_GET_SIZE(value)
        if size + 1 > room:
            return 0
        out[0] = TAG_BYTES
        memcpy(out + 1, PyBytes_AS_STRING(value), size)
        return size + 1
    if value is None:
        out[0] = TAG_NONE
        return 1
    if kind is bool:
        out[0] = TAG_TRUE if value else TAG_FALSE
        return 1
    if kind is float:
        real = PyFloat_AS_DOUBLE(value)
        out[0] = TAG_FLOAT
        memcpy(out + 1, &real, 8)
        return 9
    # Text beyond ASCII may hold lone surrogates: pickle knows how.
    if kind is str and PyUnicode_IS_COMPACT_ASCII(value):
        text = PyUnicode_AsUTF8AndSize(value, &size)
        if size + 1 > room:
            return 0
        out[0] = TAG_STR
        memcpy(out + 1, text, size)
        return size + 1
    if getattr(kind, "__module__", None) == "numpy":
        return encode_scalar(value, kind, out, room)
    return 0


_SCALAR_CODES = "?bBhHiIlLqQefdFD"
"""Of dtypes whose scalars are their bytes: no unit, no length, no object, no padding."""

_scalars = {}
"""Type of numpy -> its code, 0 for others; filled as they are met."""


cdef Py_ssize_t encode_scalar(
    object value, type kind, unsigned char *out, Py_ssize_t room
) except -1:
    code = _scalars.get(kind)
    if code is None:
        import numpy  # it is loaded: the value is of it

        known = {numpy.dtype(each).type: ord(each) for each in _SCALAR_CODES}
        code = _scalars[kind] = known.get(kind, 0)
    if code == 0:
        return 0
    cdef bytes data = value.tobytes()
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    if size + 2 > room:
        return 0
    out[0] = TAG_SCALAR
    out[1] = <unsigned char>code
    memcpy(out + 2, PyBytes_AS_STRING(data), size)
    return size + 2


cdef object decode_scalar(const unsigned char *at, uint64_t size):
    import numpy

    data = PyBytes_FromStringAndSize(<const char *>at + 2, size - 2)
    return numpy.frombuffer(data, chr(at[1]))[0]


def encode(value):
    """A tiny value as its stored bytes, None for any other."""
    cdef unsigned char raw[_c.PM_INLINE]
    cdef Py_ssize_t size = encode_small(value, raw, _c.PM_INLINE)
    return PyBytes_FromStringAndSize(<const char *>raw, size) if size else None


cdef object decode_small(const unsigned char *at, uint64_t size):
    cdef long long number
    cdef double real
    cdef unsigned char tag = at[0]
    if tag == TAG_INT:
        memcpy(&number, at + 1, 8)
        return PyLong_FromLongLong(number)
    if tag == TAG_BYTES:
        return PyBytes_FromStringAndSize(<const char *>at + 1, size - 1)
    if tag == TAG_NONE:
        return None
    if tag == TAG_TRUE:
        return True
    if tag == TAG_FALSE:
        return False
    if tag == TAG_FLOAT:
        memcpy(&real, at + 1, 8)
        return PyFloat_FromDouble(real)
    if tag == TAG_STR:
        return PyUnicode_DecodeUTF8(<const char *>at + 1, size - 1, NULL)
    if tag == TAG_SCALAR:
        return decode_scalar(at, size)
    if tag == TAG_ERROR:
        return decode_error(at, size)
    if tag == _c.PM_TAG_CRASH:
        return decode_crash(at, size)
    if tag == _c.PM_TAG_UNAVAILABLE:
        return decode_unavailable(at, size)
    if tag == _c.PM_TAG_CANCELLED:
        return decode_cancelled(at, size)
    raise _exceptions.ObjectCorruptedError(f"unknown tag {tag:#04x} in a stored value")


def encode_error(error, Py_ssize_t room=_c.PM_INLINE):
    """An exception of plasmid.exceptions as bytes that always fit: its class and what fits of its
    message."""
    head = b"\x0e" + type(error).__name__.encode() + b"\0"
    text = str(error).encode(errors="replace")
    if len(head) + len(text) > room:
        text = text[: room - len(head) - 3].decode(errors="ignore").encode() + b"..."
    return head + text


cdef object decode_error(const unsigned char *at, uint64_t size):
    name, _, text = PyBytes_FromStringAndSize(<const char *>at + 1, size - 1).partition(b"\0")
    kind = getattr(_exceptions, name.decode(), _exceptions.PlasmidError)
    return kind(text.decode(errors="replace"))


cdef object decode_unavailable(const unsigned char *at, uint64_t size):
    """What recovery leaves as the result of a call whose actor is started again."""
    cdef uint64_t serial
    memcpy(&serial, at + _c.PM_CRASH_BYTES, 8)
    how = decode_crash(at, size, _c.PM_UNAVAILABLE_BYTES)
    return _exceptions.ActorUnavailableError.interrupted(serial, how)


_KILLED_BY = {
    _c.PM_CAUSE_MEMORY: "kernel",
    _c.PM_CAUSE_SHORT: "session",
    _c.PM_CAUSE_EXCESS: "limit",
}


cdef object decode_crash(
    const unsigned char *at, uint64_t size, uint64_t head=_c.PM_CRASH_BYTES
):
    """What recovery leaves as the result of a task whose worker died."""
    cdef uint64_t pid
    cdef _c.pm_death how
    memcpy(&pid, at + 1, 8)
    memcpy(&how, at + 9, sizeof(how))
    name = PyBytes_FromStringAndSize(<const char *>at + head, size - head).decode(errors="replace")
    by = _KILLED_BY.get(how.cause)
    if by:
        return _exceptions.OutOfMemoryError.killed(
            by, name, pid, how.used, how.peak, how.limit, how.group_used, how.group_peak
        )
    return _exceptions.WorkerCrashedError.died(
        name, pid, None if how.cause == _c.PM_CAUSE_UNKNOWN else how.cause
    )


cdef object decode_cancelled(const unsigned char *at, uint64_t size):
    """What the core leaves as the result of a task that was cancelled."""
    cdef uint64_t serial, head = _c.PM_CANCELLED_BYTES
    memcpy(&serial, at + 1, 8)
    name = PyBytes_FromStringAndSize(<const char *>at + head, size - head).decode(errors="replace")
    return _exceptions.TaskCancelledError.of(name, serial, at[9] != 0)
