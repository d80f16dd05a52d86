# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=False
"""The C core for Python: convert, check, wrap.

Part of the file is in the .pxi files it includes, one thought each; they are one module because two
that each link the core would get two copies of its statics.

    errors.pxi   error code -> exception
    small.pxi    tiny values as tagged bytes
    fork.pxi     pins of views, which a forked child takes over
    refs.pxi     ObjectRef, Buffer
    memory.pxi   Lease, PrivateBuffer: an object's memory in a mapping of its own
    arena.pxi    Arena: objects and waiting
    tasks.pxi    Running: what a worker runs
    groups.pxi   placement groups
    load.pxi     who runs what, for the keeper
    history.pxi  what tasks do and did
    actors.pxi   actors
    guard.pxi    Guard: keeps the keeper alive
    system.pxi   system calls that Python's os module does not have

An operation is tried under the GIL (about 2 us of spinning for the arena's lock); when the lock is
busy it is called again without the GIL, in slices of 100 ms between which signals are seen. C never
calls back into Python, so no lock of the core is ever held while Python code runs.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from plasmid._core cimport c as _c
import gc as _gc

from plasmid import exceptions as _exceptions
from plasmid import ids as _ids

DRIVER = _c.PM_DRIVER
KEEPER = _c.PM_KEEPER
WORKER = _c.PM_WORKER
GUEST = _c.PM_GUEST
CAUSE_UNKNOWN = _c.PM_CAUSE_UNKNOWN
CAUSE_MEMORY = _c.PM_CAUSE_MEMORY
CAUSE_SHORT = _c.PM_CAUSE_SHORT
CAUSE_EXCESS = _c.PM_CAUSE_EXCESS
INLINE_BYTES = _c.PM_INLINE
TASK_INLINE_BYTES = _c.PM_TASK_INLINE
KEY_BYTES = _c.PM_KEY
KINDS = _c.PM_KINDS
KIND_NAME_BYTES = _c.PM_KIND_NAME - 1
UNITS = _c.PM_UNITS
DEVICES = _c.PM_DEVICES
GROUP_NAME_BYTES = _c.PM_GROUP_NAME - 1
BUNDLES = _c.PM_BUNDLES - 1
RETRY_ALWAYS = -1
CANCEL_SIGNAL = _c.PM_CANCEL_SIGNAL

include "errors.pxi"
include "small.pxi"
include "fork.pxi"
include "refs.pxi"
include "memory.pxi"
include "arena.pxi"
include "tasks.pxi"
include "groups.pxi"
include "load.pxi"
include "history.pxi"
include "actors.pxi"
include "guard.pxi"
include "system.pxi"
